//! One recipient's parameters: from columns to slots, and the checks that need the values.

use super::{Component, HeaderShape, ParamSource, Shape, Slot, SlotKind, TemplateKind, Text, limits};
use crate::domain::provider_kind::ProviderKind;

/// A row's parameters as they come: lists per component, and by column name.
///
/// The lists fill the slots of their component in order, whatever the template's format; `named` fills by
/// [`Slot::column`], one value every slot of that name. Empty values count as not given.
#[derive(Clone, Copy, Debug)]
pub struct RowParams<'a, S = String> {
    /// Values of the header's slots.
    pub header: &'a [S],
    /// Values of the body's slots.
    pub body: &'a [S],
    /// Values of the buttons' slots, all buttons in order.
    pub buttons: &'a [S],
    /// Values by column.
    pub named: &'a [(&'a str, &'a str)],
}

/// One thing wrong with a row's parameters. Never holds the value itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{column}: {problem}")]
pub struct ParamError {
    /// The column at fault.
    pub column: String,
    /// What is wrong with it.
    pub problem: ParamProblem,
}

/// Kinds of trouble with a parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamProblem {
    /// No value, or an empty one.
    #[error("missing")]
    Missing,
    /// The template has no such parameter.
    #[error("the template has no such parameter")]
    Extra,
    /// A list holds more values than the component has slots. Named once, at the first: a row can hold a million of them.
    #[error("the template has no such parameter, nor has it the {more} after it")]
    Surplus {
        /// Further values that are not empty.
        more: usize,
    },
    /// Given in a list and by name.
    #[error("given twice")]
    Twice,
    /// The number of stored values is not the number of slots.
    #[error("{given} values for {expected} parameters")]
    Count {
        /// Values given.
        given: usize,
        /// Slots of the template.
        expected: usize,
    },
    /// The component would be longer than the provider takes.
    #[error("too long: {component} would have {chars} characters, at most {max} are allowed")]
    TooLong {
        /// What becomes too long.
        component: &'static str,
        /// Characters after substitution.
        chars: usize,
        /// Characters allowed.
        max: usize,
    },
    /// WhatsApp refuses line breaks in parameters of approved templates.
    #[error("a parameter must not hold a line break")]
    LineBreak,
    /// WhatsApp refuses tabs in parameters of approved templates.
    #[error("a parameter must not hold a tab")]
    Tab,
    /// WhatsApp refuses more than four spaces in a row.
    #[error("a parameter must not hold more than four spaces in a row")]
    Spaces,
    /// Neither a link nor a media id.
    #[error("must be an http(s) link or a media id of digits")]
    Media,
}

/// Most findings of one row: more would tell nobody anything, and a row may hold as many columns as fit a message.
const FINDINGS_MAX: usize = 64;

impl Shape {
    /// Puts a row's parameters into slot order and checks them for this kind of line. Slots that the kind does not use
    /// may be missing and come back empty. Every finding is reported, at most one per value and [`FINDINGS_MAX`] in all.
    pub fn map_row<'a, S: AsRef<str>>(
        &self,
        kind: ProviderKind,
        row: &RowParams<'a, S>,
    ) -> Result<Vec<&'a str>, Vec<ParamError>> {
        let mut values: Vec<&'a str> = vec![""; self.slots.len()];
        let mut errors = Vec::new();
        let lists = [
            (row.header, "header_param_", Part::Header),
            (row.body, "body_param_", Part::Body),
            (row.buttons, "button_param_", Part::Buttons),
        ];
        for (list, column, part) in lists {
            let mut slots = (0..self.slots.len()).filter(|&slot| part.holds(self.slots[slot].component));
            let mut surplus = list.iter().enumerate();
            for slot in slots.by_ref() {
                match surplus.next() {
                    Some((_, value)) => values[slot] = value.as_ref(),
                    None => break,
                }
            }
            let mut surplus = surplus.filter(|(_, value)| !value.as_ref().is_empty());
            if let Some((at, _)) = surplus.next() {
                let problem = match surplus.count() {
                    0 => ParamProblem::Extra,
                    more => ParamProblem::Surplus { more },
                };
                errors.push(ParamError { column: format!("{column}{}", at + 1), problem });
            }
        }
        for &(column, value) in row.named {
            if value.is_empty() {
                continue;
            }
            if errors.len() >= FINDINGS_MAX {
                break;
            }
            let mut problem = Some(ParamProblem::Extra);
            for (slot, definition) in self.slots.iter().enumerate() {
                if definition.column == column {
                    problem = (!values[slot].is_empty()).then_some(ParamProblem::Twice);
                    values[slot] = value;
                }
            }
            if let Some(problem) = problem {
                errors.push(ParamError { column: column.chars().take(80).collect(), problem });
            }
        }
        self.check_values(kind, &values, &mut errors);
        if errors.is_empty() { Ok(values) } else { Err(errors) }
    }

    /// Checks values that are already in slot order.
    pub fn check_params<P: ParamSource + ?Sized>(&self, kind: ProviderKind, params: &P) -> Result<(), Vec<ParamError>> {
        if params.count() != self.slots.len() {
            return Err(vec![ParamError {
                column: "params".to_owned(),
                problem: ParamProblem::Count { given: params.count(), expected: self.slots.len() },
            }]);
        }
        let mut errors = Vec::new();
        self.check_values(kind, params, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    fn check_values<P: ParamSource + ?Sized>(&self, kind: ProviderKind, params: &P, errors: &mut Vec<ParamError>) {
        let approved = kind.is_whatsapp() && self.template.kind == TemplateKind::Approved;
        for (at, slot) in self.slots.iter().enumerate() {
            let value = params.get(at).unwrap_or("");
            let problem = if value.trim().is_empty() {
                self.uses(kind, at).then_some(ParamProblem::Missing)
            } else {
                value_problem(slot, value, approved)
            };
            if let Some(problem) = problem
                && !errors.iter().any(|known| known.column == slot.column && known.problem == problem)
            {
                errors.push(ParamError { column: slot.column.clone(), problem });
            }
        }
        if kind == ProviderKind::TwilioSms {
            if let Ok(text) = &self.sms {
                self.check_length("the SMS", text, limits::SMS_BODY, params, errors);
            }
            return;
        }
        if let Some(HeaderShape::Text(text)) = &self.header {
            self.check_length("the header", text, limits::HEADER, params, errors);
        }
        let body_max = match (self.template.kind, kind) {
            (TemplateKind::Approved, _) => limits::BODY,
            (TemplateKind::Text, ProviderKind::TwilioWhatsapp) => limits::SMS_BODY,
            (TemplateKind::Text, _) => limits::TEXT_BODY,
        };
        self.check_length("the body", &self.body, body_max, params, errors);
    }

    /// Refuses a text that is too long after substitution, naming the column of its longest value.
    fn check_length<P: ParamSource + ?Sized>(
        &self,
        component: &'static str,
        text: &Text,
        max: usize,
        params: &P,
        errors: &mut Vec<ParamError>,
    ) {
        let length = |slot: u16| params.get(usize::from(slot)).unwrap_or("").chars().count();
        let chars = text.literal_chars() + text.slots().map(length).sum::<usize>();
        if chars <= max {
            return;
        }
        let column = match text.slots().max_by_key(|&slot| length(slot)) {
            Some(slot) => self.slots[usize::from(slot)].column.clone(),
            None => component.to_owned(),
        };
        errors.push(ParamError { column, problem: ParamProblem::TooLong { component, chars, max } });
    }
}

/// What is wrong with one value by itself. Texts of header and body are measured as a whole later.
fn value_problem(slot: &Slot, value: &str, approved: bool) -> Option<ParamProblem> {
    let too_long = |component| {
        let chars = value.chars().count();
        (chars > slot.max_len_chars).then_some(ParamProblem::TooLong { component, chars, max: slot.max_len_chars })
    };
    match slot.kind {
        SlotKind::Text if approved => text_problem(value),
        SlotKind::Text => None,
        SlotKind::Media(_) if !is_media(value) => Some(ParamProblem::Media),
        SlotKind::Media(_) => too_long("the media link"),
        SlotKind::UrlSuffix => text_problem(value).or_else(|| too_long("the rest of the URL")),
        SlotKind::Payload => too_long("the payload"),
        SlotKind::CouponCode => text_problem(value).or_else(|| too_long("the code")),
    }
}

/// The rule for text parameters of approved templates: no line break, no tab, no five spaces in a row.
/// Sources: older Meta documentation and Twilio's page of error 63013.
fn text_problem(value: &str) -> Option<ParamProblem> {
    let mut spaces = 0;
    for byte in value.bytes() {
        spaces = if byte == b' ' { spaces + 1 } else { 0 };
        match byte {
            b'\n' | b'\r' => return Some(ParamProblem::LineBreak),
            b'\t' => return Some(ParamProblem::Tab),
            _ if spaces > 4 => return Some(ParamProblem::Spaces),
            _ => {}
        }
    }
    None
}

/// A link, or a media id as Meta's upload returns it.
pub(super) fn is_media(value: &str) -> bool {
    is_link(value) || (!value.is_empty() && value.len() <= 64 && value.bytes().all(|b| b.is_ascii_digit()))
}

/// A link by its scheme, and without white space.
pub(crate) fn is_link(value: &str) -> bool {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !value.contains(char::is_whitespace))
}

/// Component of a list, whatever button.
#[derive(Clone, Copy)]
enum Part {
    Header,
    Body,
    Buttons,
}

impl Part {
    fn holds(self, component: Component) -> bool {
        matches!(
            (self, component),
            (Self::Header, Component::Header) | (Self::Body, Component::Body) | (Self::Buttons, Component::Button(_))
        )
    }
}
