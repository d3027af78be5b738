//! From a definition to its [`Shape`]: every check that needs no row, all findings at once.

use super::placeholder::{Label, RawPiece, cut};
use super::{
    Button as ButtonDef, ButtonShape as Button, Component, Header, HeaderShape, MediaKind, ParamFormat, Shape, Slot,
    SlotKind, Template, TemplateError, TemplateKind, TemplateProblem, Text, limits,
};
use TemplateProblem as Problem;

impl Template {
    /// Checks the definition and derives its shape; otherwise every finding.
    pub fn compile(&self) -> Result<Shape, Vec<TemplateError>> {
        Compiler::new(self).run()
    }
}

/// One component's slots while it is read.
struct Place {
    component: Component,
    kind: SlotKind,
    /// Characters of the component after substitution.
    max: usize,
    /// Different placeholders it may have.
    slots_max: usize,
    /// Column of positional slots, without the number.
    column: &'static str,
    /// Number of the first column.
    first: u16,
}

struct Compiler<'t> {
    template: &'t Template,
    slots: Vec<Slot>,
    errors: Vec<TemplateError>,
}

impl<'t> Compiler<'t> {
    fn new(template: &'t Template) -> Self {
        Self { template, slots: Vec::new(), errors: Vec::new() }
    }

    fn run(mut self) -> Result<Shape, Vec<TemplateError>> {
        let template = self.template;
        self.check_names();
        if template.kind == TemplateKind::Text {
            let extras = [
                ("header", template.header.is_some()),
                ("footer", template.footer.is_some()),
                ("buttons", !template.buttons.is_empty()),
            ];
            for (field, present) in extras {
                if present {
                    self.fail(field, Problem::NotInText);
                }
            }
        }
        let header = template.header.as_ref().map(|header| self.header(header));
        let body = self.body();
        if let Some(footer) = &template.footer {
            self.bound("footer", footer, 1, limits::FOOTER);
        }
        let buttons = self.buttons();
        if self.slots.len() > limits::SLOTS {
            let found = self.slots.len();
            self.fail("body", Problem::TooManyPlaceholders { found, max: limits::SLOTS });
        }
        let sms = self.sms(header.as_ref(), &body);
        let content_keys = self.content_keys();
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        Ok(Shape { template: template.clone(), slots: self.slots, header, body, buttons, sms, content_keys })
    }

    fn fail(&mut self, field: impl Into<String>, problem: Problem) {
        self.errors.push(TemplateError::new(field, problem));
    }

    /// Checks the number of characters of a text that takes no placeholders.
    fn bound(&mut self, field: impl Into<String>, text: &str, min: usize, max: usize) {
        let chars = text.chars().count();
        if chars < min || text.trim().is_empty() && min > 0 {
            self.fail(field, Problem::Empty);
        } else if chars > max {
            self.fail(field, Problem::TooLong { chars, max });
        }
    }

    fn check_names(&mut self) {
        let template = self.template;
        let id = template.id.as_bytes();
        let id_ok = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let id_rest = |b: &u8| id_ok(b) || matches!(b, b'.' | b'_' | b'-');
        if id.len() > 63 || !id.first().is_some_and(id_ok) || !id.iter().all(id_rest) {
            self.fail(
                "id",
                Problem::Form("lower-case letters, digits, `.`, `_` or `-`, at most 63, not starting with a sign"),
            );
        }
        let name = template.name.as_str();
        let name_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if template.kind == TemplateKind::Approved && !name.is_empty() && !name.bytes().all(name_ok) {
            self.fail("name", Problem::Form("lower-case letters, digits and `_`"));
        }
        self.bound("name", name, 1, limits::NAME);
        if !is_language(&template.language) {
            self.fail("language", Problem::Form("a language code such as `en` or `en_US`"));
        }
        if template.content_sid.as_ref().is_some_and(|sid| !is_content_sid(sid)) {
            self.fail("content_sid", Problem::Form("`HX` and 32 hexadecimal digits"));
        }
    }

    fn header(&mut self, header: &Header) -> HeaderShape {
        match header {
            Header::Text { text } => HeaderShape::Text(self.text(
                "header.text",
                text,
                &Place {
                    component: Component::Header,
                    kind: SlotKind::Text,
                    max: limits::HEADER,
                    slots_max: 1,
                    column: "header_param_",
                    first: 1,
                },
            )),
            Header::Media { media, value, filename } => {
                if let Some(filename) = filename {
                    self.bound("header.filename", filename, 1, limits::FILENAME);
                    if *media != MediaKind::Document {
                        self.fail("header.filename", Problem::Form("left out unless the media is a document"));
                    }
                }
                let value = match value {
                    Some(fixed) => {
                        self.bound("header.value", fixed, 1, limits::MEDIA);
                        if !fixed.is_empty() && !super::row::is_media(fixed) {
                            self.fail("header.value", Problem::Form("an http(s) link or a media id of digits"));
                        }
                        Text::literal(fixed.as_str())
                    }
                    None => {
                        self.slots.push(Slot {
                            component: Component::Header,
                            number: 1,
                            name: None,
                            kind: SlotKind::Media(*media),
                            max_len_chars: limits::MEDIA,
                            column: "header_param_1".to_owned(),
                        });
                        Text { pieces: vec![super::Piece::Slot(0)] }
                    }
                };
                HeaderShape::Media { media: *media, value, filename: filename.clone() }
            }
        }
    }

    fn body(&mut self) -> Text {
        let max = match self.template.kind {
            TemplateKind::Approved => limits::BODY,
            TemplateKind::Text => limits::TEXT_BODY,
        };
        self.text(
            "body",
            &self.template.body,
            &Place {
                component: Component::Body,
                kind: SlotKind::Text,
                max,
                slots_max: limits::SLOTS,
                column: "body_param_",
                first: 1,
            },
        )
    }

    fn buttons(&mut self) -> Vec<Button> {
        let definitions = &self.template.buttons;
        if definitions.len() > limits::BUTTONS {
            self.fail("buttons", Problem::TooMany { found: definitions.len(), max: limits::BUTTONS });
            return Vec::new();
        }
        definitions.iter().enumerate().map(|(place, definition)| self.button(place as u8, definition)).collect()
    }

    fn button(&mut self, place: u8, definition: &ButtonDef) -> Button {
        let field = |name: &str| format!("buttons[{place}].{name}");
        let slot_of = |kind, max, column| Place {
            component: Component::Button(place),
            kind,
            max,
            slots_max: 1,
            column,
            first: 1,
        };
        match definition {
            ButtonDef::QuickReply { label, payload } => {
                self.bound(field("label"), label, 1, limits::BUTTON_LABEL);
                match payload {
                    None => Button::Static,
                    Some(payload) => {
                        let place = slot_of(SlotKind::Payload, limits::PAYLOAD, "button_payload_param_");
                        Button::QuickReply(self.numbered(&field("payload"), payload, place))
                    }
                }
            }
            ButtonDef::Url { label, url } => {
                self.bound(field("label"), label, 1, limits::BUTTON_LABEL);
                let place = slot_of(SlotKind::UrlSuffix, limits::BUTTON_URL, "button_url_param_");
                let text = self.numbered(&field("url"), url, place);
                if !url.starts_with("https://") && !url.starts_with("http://") {
                    self.fail(field("url"), Problem::Form("an absolute http(s) URL"));
                }
                match (text.slots().count(), text.pieces.last()) {
                    (0, _) => Button::Static,
                    (1, Some(super::Piece::Slot(slot))) => Button::Url(*slot),
                    _ => {
                        self.fail(field("url"), Problem::NotAtEnd);
                        Button::Static
                    }
                }
            }
            ButtonDef::CopyCode { code } => {
                let place = slot_of(SlotKind::CouponCode, limits::COUPON, "button_code_param_");
                Button::CopyCode(self.numbered(&field("code"), code, place))
            }
            ButtonDef::Phone { label, number } => {
                self.bound(field("label"), label, 1, limits::BUTTON_LABEL);
                self.bound(field("number"), number, 1, 20);
                Button::Static
            }
        }
    }

    /// A button's text, whose column is counted on from those of its kind before it.
    fn numbered(&mut self, field: &str, text: &str, mut place: Place) -> Text {
        let before = self.slots.iter().filter(|slot| slot.kind == place.kind && slot.component != place.component);
        place.first = before.count() as u16 + 1;
        self.text(field, text, &place)
    }

    /// Cuts a text, makes its slots, and resolves its placeholders to them.
    fn text(&mut self, field: &str, text: &str, place: &Place) -> Text {
        if text.trim().is_empty() {
            self.fail(field, Problem::Empty);
            return Text::default();
        }
        let mut cutting = cut(text, self.template.format);
        if cutting.is_err() && place.kind != SlotKind::Text {
            // Meta writes {{1}} in a button's URL whatever the format of the texts.
            cutting = cut(text, ParamFormat::Positional).or(cutting);
        }
        let pieces = match cutting {
            Ok(pieces) => pieces,
            Err(problem) => {
                self.fail(field, problem);
                return Text::default();
            }
        };
        let labels = match ordered_labels(&pieces) {
            Ok(labels) => labels,
            Err(problem) => {
                self.fail(field, problem);
                return Text::default();
            }
        };
        if labels.len() > place.slots_max {
            self.fail(field, Problem::TooManyPlaceholders { found: labels.len(), max: place.slots_max });
            return Text::default();
        }
        let base = self.slots.len();
        let mut built = Text::default();
        for piece in &pieces {
            match piece {
                RawPiece::Literal(literal) => built.push_literal(literal),
                RawPiece::Placeholder(label) => {
                    let at = labels.iter().position(|known| known == label).unwrap_or(0);
                    built.pieces.push(super::Piece::Slot((base + at) as u16));
                }
            }
        }
        let literal = built.literal_chars();
        // A placeholder filled with a single character stands in the text at least once.
        let least = literal + labels.len();
        if least > place.max {
            self.fail(field, Problem::TooLong { chars: literal, max: place.max });
        }
        let room = (place.max + 1).saturating_sub(least).max(1);
        for (at, label) in labels.iter().enumerate() {
            let (name, column) = match label {
                Label::Name(name) => (Some((*name).to_owned()), (*name).to_owned()),
                Label::Number(_) => (None, format!("{}{}", place.column, usize::from(place.first) + at)),
            };
            self.slots.push(Slot {
                component: place.component,
                number: at as u16 + 1,
                name,
                kind: place.kind,
                max_len_chars: room,
                column,
            });
        }
        built
    }

    fn sms(&mut self, header: Option<&HeaderShape>, body: &Text) -> Result<Text, &'static str> {
        if let Some(text) = &self.template.sms_body {
            return Ok(self.sms_body(text));
        }
        if !self.template.buttons.is_empty() {
            return Err("buttons have no place in an SMS; give sms_body");
        }
        let mut built = Text::default();
        match header {
            Some(HeaderShape::Media { .. }) => {
                return Err("media has no place in an SMS; give sms_body");
            }
            Some(HeaderShape::Text(text)) => {
                built.append(text);
                built.push_literal("\n");
            }
            None => {}
        }
        built.append(body);
        if let Some(footer) = &self.template.footer {
            built.push_literal("\n");
            built.push_literal(footer);
        }
        Ok(built)
    }

    fn sms_body(&mut self, text: &str) -> Text {
        let mut built = Text::default();
        if text.trim().is_empty() {
            self.fail("sms_body", Problem::Empty);
            return built;
        }
        let pieces = match cut(text, self.template.format) {
            Ok(pieces) => pieces,
            Err(problem) => {
                self.fail("sms_body", problem);
                return built;
            }
        };
        for piece in pieces {
            let label = match piece {
                RawPiece::Literal(literal) => {
                    built.push_literal(literal);
                    continue;
                }
                RawPiece::Placeholder(label) => label,
            };
            let slot = self.slots.iter().position(|slot| match label {
                Label::Number(number) => slot.component == Component::Body && slot.number == number,
                Label::Name(name) => slot.name.as_deref() == Some(name),
            });
            match slot {
                Some(slot) => built.pieces.push(super::Piece::Slot(slot as u16)),
                None => {
                    let unknown = match label {
                        Label::Number(number) => number.to_string(),
                        Label::Name(name) => name.to_owned(),
                    };
                    self.fail("sms_body", Problem::UnknownPlaceholder(unknown));
                }
            }
        }
        built
    }

    fn content_keys(&mut self) -> Vec<String> {
        let given = &self.template.content_keys;
        if !given.is_empty() {
            let repeated = (1..given.len()).any(|i| given[..i].contains(&given[i]));
            if given.len() != self.slots.len() || repeated || given.iter().any(|key| key.is_empty()) {
                let (given, expected) = (given.len(), self.slots.len());
                self.fail("content_keys", Problem::ContentKeys { given, expected });
            }
            return given.clone();
        }
        // Twilio counts one series of variables over the whole content, so numbers of several components would collide.
        let names = self.slots.iter().map(|slot| slot.name.clone()).collect::<Option<Vec<_>>>();
        match (self.template.format, names) {
            (ParamFormat::Named, Some(names)) => {
                let unique = (1..names.len()).all(|i| !names[..i].contains(&names[i]));
                if unique { names } else { self.counted_keys() }
            }
            _ => self.counted_keys(),
        }
    }

    fn counted_keys(&self) -> Vec<String> {
        (1..=self.slots.len()).map(|n| n.to_string()).collect()
    }
}

/// The different labels in slot order: by number, or by first appearance when they are names.
fn ordered_labels<'p>(pieces: &[RawPiece<'p>]) -> Result<Vec<Label<'p>>, Problem> {
    let mut labels: Vec<Label<'p>> = Vec::new();
    for piece in pieces {
        if let RawPiece::Placeholder(label) = piece
            && !labels.contains(label)
        {
            labels.push(*label);
            if labels.len() > 4 * limits::SLOTS {
                break;
            }
        }
    }
    if matches!(labels.first(), Some(Label::Number(_))) {
        let number = |label: &Label<'_>| match label {
            Label::Number(number) => *number,
            Label::Name(_) => 0,
        };
        labels.sort_by_key(number);
        for (at, label) in labels.iter().enumerate() {
            let expected = at as u16 + 1;
            if number(label) != expected {
                return Err(Problem::Gap { missing: expected });
            }
        }
    }
    Ok(labels)
}

fn is_language(code: &str) -> bool {
    let (language, region) = match code.split_once('_') {
        Some((language, region)) => (language, Some(region)),
        None => (code, None),
    };
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_lowercase())
        && region
            .is_none_or(|region| (2..=4).contains(&region.len()) && region.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn is_content_sid(sid: &str) -> bool {
    sid.len() == 34 && sid.starts_with("HX") && sid.bytes().skip(2).all(|b| b.is_ascii_hexdigit())
}
