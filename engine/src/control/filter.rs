//! Filters as text: `field=value` terms separated by spaces, all of which must hold.
//!
//! Text, because a field that this server does not know is then refused by name. A structured filter of a newer client would
//! lose such a field on the way, and "cancel what matches" would match more than was meant.

use super::error::{Error, Result};
use crate::domain::campaign::CampaignState;
use crate::domain::ids::{PoolId, TenantId};
use crate::domain::phone::Address;
use crate::domain::stage::{Shown, Stage};
use crate::domain::time::UnixMillis;
use crate::store::{CampaignFilter, MessageFilter};

/// Longest filter, in bytes.
const FILTER_BYTES_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    From,
    Below,
}

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::From => ">=",
            Self::Below => "<",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Term {
    field: String,
    operator: Operator,
    values: Vec<String>,
}

impl Term {
    fn wrong(&self, problem: impl AsRef<str>) -> Error {
        wrong(format!("{}{}…: {}", self.field, self.operator.sign(), problem.as_ref()))
    }

    /// The one value of a field that takes no alternatives.
    fn one(&self) -> Result<&str> {
        match self.values.as_slice() {
            [one] => Ok(one),
            _ => Err(self.wrong("takes one value")),
        }
    }

    /// The values of a field that is only compared by `=`.
    fn equal(&self) -> Result<&[String]> {
        if self.operator == Operator::Equal { Ok(&self.values) } else { Err(self.wrong("takes only `=`")) }
    }

    fn parsed<T>(&self, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
        self.equal()?
            .iter()
            .map(|value| parse(value).ok_or_else(|| self.wrong(format!("{value:?} is not {what}"))))
            .collect()
    }

    fn flag(&self) -> Result<bool> {
        self.equal()?;
        match self.one()? {
            "true" => Ok(true),
            _ => Err(self.wrong("takes only `true`")),
        }
    }
}

fn wrong(problem: String) -> Error {
    Error::invalid("filter", problem)
}

/// Which campaigns of the tenant. Fields: `state`, `pool`, `label.<key>`, `created`.
pub(super) fn campaigns(tenant: &TenantId, text: &str) -> Result<CampaignFilter> {
    let mut filter = CampaignFilter { tenant: Some(tenant.clone()), ..CampaignFilter::default() };
    for term in terms(text)? {
        match term.field.as_str() {
            "state" => {
                let state = |name: &str| CampaignState::ALL.into_iter().find(|state| state.name() == name);
                filter.states = term.parsed("a campaign state", state)?;
            }
            "pool" => {
                term.equal()?;
                filter.pool = Some(PoolId::new(term.one()?).map_err(|error| term.wrong(error.to_string()))?);
            }
            "created" => {
                let at = time(term.one()?).ok_or_else(|| term.wrong("is not an RFC 3339 time"))?;
                match term.operator {
                    Operator::From => filter.created_from = Some(at),
                    Operator::Below => filter.created_before = Some(at),
                    Operator::Equal => return Err(term.wrong("takes `>=` and `<`")),
                }
            }
            field => match field.strip_prefix("label.") {
                Some(key) if !key.is_empty() => {
                    term.equal()?;
                    filter.labels.insert(key.to_owned(), term.one()?.to_owned());
                }
                _ => return Err(unknown(field, "state, pool, label.<key>, created")),
            },
        }
    }
    Ok(filter)
}

/// Which messages of a campaign. Fields: `status`, `stage`, `failure_code`, `external_id`, `address`, `conflict`, `double`.
pub(super) fn messages(text: &str) -> Result<MessageFilter> {
    let mut filter = MessageFilter::default();
    for term in terms(text)? {
        match term.field.as_str() {
            "status" => {
                let shown = |name: &str| Shown::ALL.into_iter().find(|shown| shown.name() == name);
                filter.shown = term.parsed("a status", shown)?;
            }
            "stage" => {
                if term.operator != Operator::From {
                    return Err(term.wrong("takes `>=`: stages are cumulative"));
                }
                filter.reached = Some(stage(term.one()?).ok_or_else(|| term.wrong("is sent, delivered or read"))?);
            }
            "failure_code" => {
                term.equal()?;
                filter.failure_code = Some(term.one()?.parse().map_err(|_| term.wrong("is a number"))?);
            }
            "external_id" => {
                term.equal()?;
                filter.external_id = Some(term.one()?.to_owned());
            }
            "address" => {
                term.equal()?;
                let address = Address::parse_e164(term.one()?).map_err(|error| term.wrong(error.to_string()))?;
                filter.address = Some(address.to_string());
            }
            "conflict" => filter.conflict = term.flag()?,
            "double" => filter.doubled = term.flag()?,
            field => {
                return Err(unknown(field, "status, stage, failure_code, external_id, address, conflict, double"));
            }
        }
    }
    Ok(filter)
}

fn unknown(field: &str, known: &str) -> Error {
    wrong(format!("{field:?} is not a field of this filter; known: {known}"))
}

fn stage(name: &str) -> Option<Stage> {
    match name {
        "sent" => Some(Stage::Sent),
        "delivered" => Some(Stage::Delivered),
        "read" => Some(Stage::Read),
        _ => None,
    }
}

fn time(text: &str) -> Option<UnixMillis> {
    text.parse::<jiff::Timestamp>().ok().map(|at| UnixMillis(at.as_millisecond()))
}

/// Reads all terms; no field may stand twice with the same operator.
fn terms(text: &str) -> Result<Vec<Term>> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(wrong(format!("is longer than {FILTER_BYTES_MAX} bytes")));
    }
    let mut rest = text.trim_start();
    let mut terms: Vec<Term> = Vec::new();
    while !rest.is_empty() {
        let (term, after) = read_term(rest)?;
        if terms.iter().any(|known| known.field == term.field && known.operator == term.operator) {
            return Err(term.wrong("stands twice; separate alternatives by commas"));
        }
        terms.push(term);
        rest = after.trim_start();
    }
    Ok(terms)
}

fn read_term(text: &str) -> Result<(Term, &str)> {
    let end = text.find(['=', '<', '>', ' ', '"', ',']).unwrap_or(text.len());
    let (field, rest) = text.split_at(end);
    let operators = [Operator::From, Operator::Equal, Operator::Below];
    let operator = operators.into_iter().find(|operator| rest.starts_with(operator.sign()));
    let operator = operator.filter(|_| !field.is_empty()).ok_or_else(|| {
        let near: String = text.chars().take(20).collect();
        wrong(format!("at {near:?}: expected field=value, field>=value or field<value"))
    })?;
    let mut rest = &rest[operator.sign().len()..];
    let mut values = Vec::new();
    loop {
        let (value, after) = read_value(rest)?;
        values.push(value);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() || after.starts_with(' ') => {
                return Ok((Term { field: field.to_owned(), operator, values }, after));
            }
            None => return Err(wrong(format!("{field}: a space must follow the closing quote"))),
        }
    }
}

fn read_value(text: &str) -> Result<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([' ', ',']).unwrap_or(text.len()));
        return if value.is_empty() || value.contains('"') {
            Err(wrong("a value is missing, or a quote stands inside one: write \"\" for the empty value".to_owned()))
        } else {
            Ok((value.to_owned(), rest))
        };
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                _ => return Err(wrong("after a backslash only a quote or a backslash may stand".to_owned())),
            },
            c => value.push(c),
        }
    }
    Err(wrong("a closing quote is missing".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant() -> TenantId {
        TenantId::new("acme").unwrap()
    }

    fn problem<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn campaigns_by_state_pool_label_and_time() {
        let text = r#"state=running,paused  pool=retail label.team="growth, \"eu\"" created>=2026-01-01T00:00:00Z created<2026-02-01T00:00:00+01:00"#;
        let filter = campaigns(&tenant(), text).unwrap();
        assert_eq!(filter.states, [CampaignState::Running, CampaignState::Paused]);
        assert_eq!(filter.pool.unwrap().as_str(), "retail");
        assert_eq!(filter.labels["team"], "growth, \"eu\"");
        assert_eq!(filter.created_from, Some(UnixMillis(1_767_225_600_000)));
        assert_eq!(filter.created_before, Some(UnixMillis(1_769_900_400_000)));
        assert_eq!(
            campaigns(&tenant(), "  ").unwrap(),
            CampaignFilter { tenant: Some(tenant()), ..Default::default() }
        );
    }

    #[test]
    fn messages_by_everything() {
        let filter =
            messages("status=failed,in_doubt stage>=delivered failure_code=131026 address=+15550100123 conflict=true")
                .unwrap();
        assert_eq!(filter.shown, [Shown::Failed, Shown::InDoubt]);
        assert_eq!(filter.reached, Some(Stage::Delivered));
        assert_eq!(filter.failure_code, Some(131_026));
        assert_eq!(filter.address.as_deref(), Some("+15550100123"));
        assert!(filter.conflict && !filter.doubled);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (text, word) in [
            ("colour=red", "colour"),
            ("state=runnning", "runnning"),
            ("state>=running", "only `=`"),
            ("state", "expected field=value"),
            ("state=", "value is missing"),
            ("=running", "expected field=value"),
            ("state=running,", "value is missing"),
            ("state=running state=paused", "twice"),
            ("pool=a,b", "one value"),
            ("pool=A", "not a valid id"),
            ("created>=yesterday", "RFC 3339"),
            ("created=2026-01-01T00:00:00Z", "`>=` and `<`"),
            ("label.=x", "known"),
            ("label.a=\"x", "closing quote"),
            ("label.a=\"x\"y", "space must follow"),
            ("label.a=\"\\n\"", "backslash"),
            ("state!=running", "state!"),
        ] {
            let problem = problem(campaigns(&tenant(), text));
            assert!(problem.contains(word), "{text}: {problem}");
        }
        for (text, word) in [
            ("state=running", "known: status"),
            ("stage=sent", "cumulative"),
            ("stage>=pending", "sent, delivered or read"),
            ("failure_code=x", "number"),
            ("address=123", "+"),
            ("double=false", "true"),
        ] {
            let problem = problem(messages(text));
            assert!(problem.contains(word), "{text}: {problem}");
        }
        assert!(problem(messages(&"x".repeat(5_000))).contains("longer"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,60}|[a-z.=<>,\" \\\\]{0,40}") {
            let _ = campaigns(&tenant(), &text);
            let _ = messages(&text);
        }

        #[test]
        fn any_label_can_be_asked_for(value in "\\PC{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let filter = campaigns(&tenant(), &format!("label.a=\"{quoted}\"")).unwrap();
            prop_assert_eq!(&filter.labels["a"], &value);
        }
    }
}
