//! Texts with placeholders, cut into pieces.

use super::{ParamFormat, TemplateProblem, params::ParamSource};

/// A text cut at its placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Literals and slots in order; no two literals are neighbours and none is empty.
    pub pieces: Vec<Piece>,
}

/// A piece of a [`Text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Fixed text.
    Literal(String),
    /// The parameter in this flat slot.
    Slot(u16),
}

impl Text {
    /// A text without placeholders.
    pub fn literal(text: impl Into<String>) -> Self {
        let mut built = Self::default();
        built.push_literal(&text.into());
        built
    }

    /// Appends another text.
    pub fn append(&mut self, other: &Self) {
        for piece in &other.pieces {
            match piece {
                Piece::Literal(text) => self.push_literal(text),
                Piece::Slot(slot) => self.pieces.push(Piece::Slot(*slot)),
            }
        }
    }

    pub(super) fn push_literal(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Literal(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Literal(text.to_owned())),
        }
    }

    /// Characters of the fixed part.
    pub fn literal_chars(&self) -> usize {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => text.chars().count(),
                Piece::Slot(_) => 0,
            })
            .sum()
    }

    /// The slots in order of appearance, with repeats.
    pub fn slots(&self) -> impl Iterator<Item = u16> + '_ {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) => Some(*slot),
            Piece::Literal(_) => None,
        })
    }

    /// The text with parameters put in; slots that `params` does not have stay empty.
    pub fn fill<P: ParamSource + ?Sized>(&self, params: &P) -> String {
        let mut filled = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => filled.push_str(text),
                Piece::Slot(slot) => filled.push_str(params.get(usize::from(*slot)).unwrap_or("")),
            }
        }
        filled
    }
}

/// A placeholder's label as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label<'t> {
    Number(u16),
    Name(&'t str),
}

/// A piece before its label is resolved to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RawPiece<'t> {
    Literal(&'t str),
    Placeholder(Label<'t>),
}

/// Cuts a text at `{{…}}`. Spaces inside the braces are allowed; a single brace is ordinary text.
pub(super) fn cut(text: &str, format: ParamFormat) -> Result<Vec<RawPiece<'_>>, TemplateProblem> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        if open > 0 {
            pieces.push(RawPiece::Literal(&rest[..open]));
        }
        let inside = &rest[open + 2..];
        let Some(close) = inside.find("}}") else {
            let before = text.len() - rest.len() + open;
            return Err(TemplateProblem::Unclosed { position: text[..before].chars().count() + 1 });
        };
        let label = inside[..close].trim_matches(' ');
        let parsed = parse_label(label, format)
            .ok_or_else(|| TemplateProblem::Placeholder { found: label.chars().take(40).collect(), format })?;
        pieces.push(RawPiece::Placeholder(parsed));
        rest = &inside[close + 2..];
    }
    if !rest.is_empty() {
        pieces.push(RawPiece::Literal(rest));
    }
    Ok(pieces)
}

fn parse_label(label: &str, format: ParamFormat) -> Option<Label<'_>> {
    match format {
        ParamFormat::Positional => {
            let plain = !label.starts_with('0') && label.bytes().all(|b| b.is_ascii_digit());
            let number = if plain { label.parse().ok() } else { None };
            number.map(Label::Number)
        }
        ParamFormat::Named => {
            let mut bytes = label.bytes();
            let head = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
            let tail = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            (head && tail && label.len() <= 60).then_some(Label::Name(label))
        }
    }
}
