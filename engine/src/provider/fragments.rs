//! A request body prepared once and then only concatenated.

use crate::domain::correlation::CorrelationId;
use crate::domain::escape;
use crate::domain::phone::Address;
use crate::domain::template::{ParamSource, Piece, Text};
use bytes::BufMut;

/// How a parameter is written into the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// Inside a JSON string.
    Json,
    /// As `"link":"…"` or `"id":"…"`, whichever the value is.
    MediaJson,
    /// Inside a form value.
    Form,
    /// Inside a JSON string inside a form value.
    JsonInForm,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    Raw(Vec<u8>),
    Digits,
    Correlation,
    Param { slot: u16, escape: Escape },
}

/// The body of a request as fixed bytes and holes.
#[derive(Clone, Debug, Default)]
pub(super) struct Fragments {
    ops: Vec<Op>,
    slots: usize,
    /// Fixed bytes and a guess per hole, to size a buffer once.
    bytes_expected: usize,
}

/// A body that cannot be rendered: the stored row does not fit the template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given} stored parameters for a template with {expected}")]
pub struct RenderError {
    /// Values stored with the recipient.
    pub given: usize,
    /// Slots of the template.
    pub expected: usize,
}

impl Fragments {
    /// An empty body for a template with this many slots.
    pub(super) fn new(slots: usize) -> Self {
        Self { ops: Vec::new(), slots, bytes_expected: 0 }
    }

    /// Fixed bytes, already escaped.
    pub(super) fn raw(&mut self, text: &str) -> &mut Self {
        self.raw_bytes(text.as_bytes())
    }

    /// Fixed text that still needs escaping.
    pub(super) fn escaped(&mut self, text: &str, escape: Escape) -> &mut Self {
        let mut bytes = Vec::new();
        write(text, escape, &mut bytes);
        self.raw_bytes(&bytes)
    }

    /// The digits of the recipient's address.
    pub(super) fn digits(&mut self) -> &mut Self {
        self.push(Op::Digits, 15)
    }

    /// The correlation id; its alphabet needs no escaping anywhere.
    pub(super) fn correlation(&mut self) -> &mut Self {
        self.push(Op::Correlation, 28)
    }

    /// A parameter.
    pub(super) fn param(&mut self, slot: u16, escape: Escape) -> &mut Self {
        self.push(Op::Param { slot, escape }, 32)
    }

    /// A text with its parameters.
    pub(super) fn text(&mut self, text: &Text, escape: Escape) -> &mut Self {
        for piece in &text.pieces {
            match piece {
                Piece::Literal(literal) => self.escaped(literal, escape),
                Piece::Slot(slot) => self.param(*slot, escape),
            };
        }
        self
    }

    fn raw_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes_expected += bytes.len();
        match self.ops.last_mut() {
            Some(Op::Raw(last)) => last.extend_from_slice(bytes),
            _ => self.ops.push(Op::Raw(bytes.to_vec())),
        }
        self
    }

    fn push(&mut self, op: Op, bytes: usize) -> &mut Self {
        self.bytes_expected += bytes;
        self.ops.push(op);
        self
    }

    /// Bytes a usual body takes.
    pub(super) fn bytes_expected(&self) -> usize {
        self.bytes_expected
    }

    /// Appends the body for one recipient.
    pub(super) fn render<P: ParamSource + ?Sized, B: BufMut>(
        &self,
        to: Address,
        params: &P,
        id: &CorrelationId,
        out: &mut B,
    ) -> Result<(), RenderError> {
        if params.count() != self.slots {
            return Err(RenderError { given: params.count(), expected: self.slots });
        }
        for op in &self.ops {
            match op {
                Op::Raw(bytes) => out.put_slice(bytes),
                Op::Digits => out.put_slice(to.text().digits().as_bytes()),
                Op::Correlation => out.put_slice(id.as_bytes()),
                Op::Param { slot, escape } => write(params.get(usize::from(*slot)).unwrap_or(""), *escape, out),
            }
        }
        Ok(())
    }
}

fn write<B: BufMut>(text: &str, escape: Escape, out: &mut B) {
    match escape {
        Escape::Json => escape::json(text, out),
        Escape::Form => escape::form(text, out),
        Escape::JsonInForm => escape::json_in_form(text, out),
        Escape::MediaJson => {
            let link = crate::domain::template::is_link(text);
            out.put_slice(if link { b"\"link\":\"" } else { b"\"id\":\"" });
            escape::json(text, out);
            out.put_slice(b"\"");
        }
    }
}
