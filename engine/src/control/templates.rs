//! Templates: put, read, preview.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::{Error, OrNotFound, Result, Violation, Violations};
use super::page::{PageOf, PageRequest};
use super::{Control, query, request_id};
use crate::domain::ids::{TemplateId, TenantId};
use crate::domain::line::ProviderKind;
use crate::domain::template::{Button, Header, ParamError, Preview, RowParams, Shape, Template, TemplateError};
use crate::store::TemplateRecord;

/// Most values in a list of parameters, and most named ones.
const PARAMETERS_MAX: usize = 64;

/// A stored template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateView {
    /// The record.
    pub record: TemplateRecord,
    /// The definition.
    pub template: Template,
    /// The import columns that fill its parameters, in the order in which they are stored.
    pub columns: Vec<String>,
}

/// Parameters of one recipient, as a caller gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParametersSpec {
    /// The header's.
    pub header: Vec<String>,
    /// The body's.
    pub body: Vec<String>,
    /// The buttons'.
    pub buttons: Vec<String>,
    /// By column.
    pub named: BTreeMap<String, String>,
}

impl Control {
    /// Stores a template, or replaces it whole. `expected`: the version to replace.
    pub async fn put_template(
        &self,
        tenant: &TenantId,
        request: &str,
        template: Template,
        expected: Option<u64>,
    ) -> Result<TemplateView> {
        let request = request_id(request)?;
        if let Err(errors) = template.compile() {
            return Err(Error::Invalid(errors.into_iter().map(template_violation).collect()));
        }
        printable(&template)?;
        let id =
            TemplateId::new(&template.id).map_err(|error| Error::invalid("template.template_id", error.to_string()))?;
        let definition = serde_json::to_string(&template).map_err(|error| Error::Bug(error.to_string()))?;
        let now = self.now();
        let record = TemplateRecord {
            tenant: tenant.clone(),
            id,
            version: 0,
            definition: Arc::from(definition),
            created_at: now,
            updated_at: now,
        };
        let record = self.store.put_template(record, expected, request).await.or_not_found("template", &template.id)?;
        view(record)
    }

    /// One template.
    pub async fn template(&self, tenant: &TenantId, id: &str) -> Result<TemplateView> {
        view(self.template_record(tenant, id).await?)
    }

    async fn template_record(&self, tenant: &TenantId, id: &str) -> Result<TemplateRecord> {
        let parsed = TemplateId::new(id).map_err(|_| Error::not_found("template", id))?;
        self.store.template(tenant, &parsed).await.or_not_found("template", id)
    }

    /// A page of templates in order of id.
    pub async fn list_templates(&self, tenant: &TenantId, page: &PageRequest) -> Result<PageOf<TemplateView>> {
        let query = query("templates", tenant, []);
        let page = self.store.list_templates(tenant, self.tokens.page(&query, page)?).await?;
        let page = self.tokens.answer(&query, page);
        let items = page.items.into_iter().map(view).collect::<Result<_>>()?;
        Ok(PageOf { items, next_token: page.next_token })
    }

    /// What a recipient with these parameters would see.
    pub async fn render(
        &self,
        tenant: &TenantId,
        id: &str,
        kind: ProviderKind,
        parameters: &ParametersSpec,
    ) -> Result<Preview> {
        let record = self.template_record(tenant, id).await?;
        let shape = shape_of(&record.definition)?;
        shape.suits(kind).map_err(|error| Error::invalid("provider", error.to_string()))?;
        let lists = [parameters.header.len(), parameters.body.len(), parameters.buttons.len(), parameters.named.len()];
        if lists.into_iter().any(|len| len > PARAMETERS_MAX) {
            return Err(Error::invalid("parameters", format!("are more than {PARAMETERS_MAX}")));
        }
        let named: Vec<(&str, &str)> = parameters.named.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let row = RowParams {
            header: &parameters.header,
            body: &parameters.body,
            buttons: &parameters.buttons,
            named: &named,
        };
        let values = shape.map_row(kind, &row).map_err(|errors| {
            let violation =
                |error: ParamError| Violation::new(format!("parameters.{}", error.column), error.problem.to_string());
            Error::Invalid(errors.into_iter().map(violation).collect())
        })?;
        Ok(shape.preview(kind, &values))
    }
}

/// Refuses control characters in a template's texts, other than ends of lines and tabs: operators read them in terminals. Here and not
/// where a template is compiled, since one that is stored already must go on to work.
fn printable(template: &Template) -> Result<()> {
    let mut texts = vec![("name".to_owned(), Some(&template.name)), ("body".to_owned(), Some(&template.body))];
    texts.push(("footer".to_owned(), template.footer.as_ref()));
    texts.push(("sms_body".to_owned(), template.sms_body.as_ref()));
    match &template.header {
        None => {}
        Some(Header::Text { text }) => texts.push(("header.text".to_owned(), Some(text))),
        Some(Header::Media { value, filename, .. }) => {
            texts.push(("header.value".to_owned(), value.as_ref()));
            texts.push(("header.filename".to_owned(), filename.as_ref()));
        }
    }
    for (place, button) in template.buttons.iter().enumerate() {
        let parts = match button {
            Button::QuickReply { label, payload } => [("label", Some(label)), ("payload", payload.as_ref())],
            Button::Url { label, url } => [("label", Some(label)), ("url", Some(url))],
            Button::CopyCode { code } => [("code", Some(code)), ("label", None)],
            Button::Phone { label, number } => [("label", Some(label)), ("number", Some(number))],
        };
        texts.extend(parts.map(|(part, text)| (format!("buttons[{place}].{part}"), text)));
    }
    let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    let mut violations = Violations::default();
    for (field, text) in texts {
        let fits = text.is_none_or(|text| text.chars().all(is_text));
        violations.require(fits, &format!("template.{field}"), || "must hold no control characters".to_owned());
    }
    violations.check()
}

/// A finding in the words of the contract.
fn template_violation(error: TemplateError) -> Violation {
    let field = match error.field.as_str() {
        "id" => "template_id",
        "format" => "parameter_format",
        field => field,
    };
    Violation::new(format!("template.{field}"), error.problem.to_string())
}

fn view(record: TemplateRecord) -> Result<TemplateView> {
    let shape = shape_of(&record.definition)?;
    let columns = shape.slots().iter().map(|slot| slot.column.clone()).collect();
    Ok(TemplateView { record, template: shape.template().clone(), columns })
}

/// A stored definition, ready for use.
pub(super) fn shape_of(definition: &str) -> Result<Shape> {
    let template: Template = serde_json::from_str(definition).map_err(|error| Error::Damaged(error.to_string()))?;
    template.compile().map_err(|_| Error::Damaged("a stored template is not valid".to_owned()))
}
