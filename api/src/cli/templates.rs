//! `templates …`: what is sent.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sluice_proto::v1::{
    CopyCodeButton, GetTemplateRequest, ListTemplatesRequest, ListTemplatesResponse, MediaHeader, MediaKind,
    ParameterFormat, PhoneButton, Provider, PutTemplateRequest, QuickReplyButton, RenderTemplateRequest, Template,
    TemplateButton, TemplateHeader, TemplateKind, TemplateParameters, UrlButton, template_button::Kind as Button,
    template_header::Content,
};

use super::connect::Server;
use super::failure::{Exit, Failure, Outcome};
use super::json;
use super::lines::provider;
use super::output::{Console, Table, collect, or_dash};
use super::values;

/// What to do with templates.
#[derive(Debug, Clone, Subcommand)]
pub enum TemplatesCommand {
    /// Make a template, or replace it whole
    #[command(visible_alias = "create", visible_alias = "update")]
    Put(Box<PutArgs>),
    /// List templates
    List {
        /// The most to list; 0 for all
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: usize,
    },
    /// Show one template
    Show {
        /// The template
        template: String,
    },
    /// Show what a recipient would get, and what the provider would be sent; sends nothing
    Render(RenderArgs),
}

/// What kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// An approved WhatsApp template
    Whatsapp,
    /// Free text: SMS, or WhatsApp inside the customer-service window
    Text,
}

/// A template from a file, or from options.
#[derive(Debug, Clone, Args)]
pub struct PutArgs {
    /// Its id; with --file it may stand in the file
    #[arg(default_value = "", hide_default_value = true)]
    pub template: String,
    /// File with the template as JSON, as `templates show --output json` prints it; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "body"])]
    pub file: Option<PathBuf>,
    /// What kind
    #[arg(long, value_enum, required_unless_present = "file")]
    pub kind: Option<Kind>,
    /// The text with placeholders: {{1}}, {{2}}, … or {{first_name}}
    #[arg(long, required_unless_present = "file")]
    pub body: Option<String>,
    /// WhatsApp: the name under which Meta approved it
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// WhatsApp: the language code, e.g. en_US
    #[arg(long, default_value = "", hide_default_value = true)]
    pub language: String,
    /// A text header, with at most one placeholder
    #[arg(long, value_name = "TEXT")]
    pub header_text: Option<String>,
    /// A media header: image, video or document; with a link or media id for all, or each recipient brings its own
    #[arg(long, value_name = "KIND[=LINK]", value_parser = media, conflicts_with = "header_text")]
    pub header_media: Option<MediaHeader>,
    /// The foot
    #[arg(long, default_value = "", hide_default_value = true)]
    pub footer: String,
    /// A button, in the order at the provider; may be repeated. E.g. 'url:Shop=https://example.com/{{1}}', 'quick-reply:Stop=stop-{{1}}',
    /// 'copy-code={{1}}', 'phone:Call us=+15550100'
    #[arg(long = "button", value_name = "KIND[:LABEL][=VALUE]", value_parser = button)]
    pub buttons: Vec<TemplateButton>,
    /// WhatsApp through Twilio: the approved content
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SID")]
    pub content_sid: String,
    /// WhatsApp through Twilio: the keys of the content's variables, in the order of the parameters [default: names, or 1,2,3…]
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub content_keys: Vec<String>,
    /// SMS: a text of its own with the same placeholders
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub sms_body: String,
    /// Free text on WhatsApp: show a preview of the first link
    #[arg(long)]
    pub preview_url: bool,
    /// Only if this is still its version
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etag: String,
    /// Makes the call safe to repeat
    #[arg(long, default_value = "", hide_default_value = true)]
    pub request_id: String,
}

/// What to preview.
#[derive(Debug, Clone, Args)]
pub struct RenderArgs {
    /// The template
    pub template: String,
    /// For which provider: meta, twilio_sms or twilio_whatsapp
    #[arg(long, value_parser = provider)]
    pub provider: Provider,
    /// The header parameter
    #[arg(long, value_name = "TEXT")]
    pub header: Vec<String>,
    /// A body parameter, in order; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub body: Vec<String>,
    /// A button parameter, in order; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub button: Vec<String>,
    /// A parameter by name; may be repeated
    #[arg(long = "param", value_name = "NAME=TEXT", value_parser = values::key_value)]
    pub named: Vec<(String, String)>,
}

fn button(text: &str) -> Result<TemplateButton, String> {
    let (head, value) = text.split_once('=').map_or((text, None), |(head, value)| (head, Some(value.to_owned())));
    let (kind, label) = head.split_once(':').map_or((head, String::new()), |(kind, label)| (kind, label.to_owned()));
    let needed = |what: &str| value.clone().ok_or_else(|| format!("write {kind}:LABEL={what}"));
    let kind = match kind {
        "url" => Button::Url(UrlButton { label, url: needed("URL")? }),
        "quick-reply" => Button::QuickReply(QuickReplyButton { label, payload: value.unwrap_or_default() }),
        "copy-code" => Button::CopyCode(CopyCodeButton { code: needed("CODE")? }),
        "phone" => Button::Phone(PhoneButton { label, number: needed("NUMBER")? }),
        _ => return Err("the kind must be url, quick-reply, copy-code or phone".to_owned()),
    };
    Ok(TemplateButton { kind: Some(kind) })
}

fn media(text: &str) -> Result<MediaHeader, String> {
    let (kind, value) = text.split_once('=').unwrap_or((text, ""));
    let all = [MediaKind::Image, MediaKind::Video, MediaKind::Document];
    let kind = values::parse_word(kind, &all, values::media_kind)?;
    Ok(MediaHeader { kind: kind as i32, value: value.to_owned(), filename: String::new() })
}

impl PutArgs {
    fn template(&self, console: &mut Console) -> Outcome<Template> {
        let mut template = match &self.file {
            Some(path) => from_file(path, console)?,
            None => self.built(),
        };
        if !self.template.is_empty() {
            template.template_id.clone_from(&self.template);
        }
        if !self.etag.is_empty() {
            template.etag.clone_from(&self.etag);
        } else if self.file.is_some() {
            // What `show` printed carries the version of that time, which would refuse the very edit it was printed for.
            template.etag.clear();
        }
        if template.template_id.is_empty() {
            return Err(Failure::usage("the template needs an id"));
        }
        Ok(template)
    }

    fn built(&self) -> Template {
        let body = self.body.clone().unwrap_or_default();
        let text = self.header_text.clone().map(Content::Text);
        let header = text.or_else(|| self.header_media.clone().map(Content::Media));
        let named = is_named(&body) || self.header_text.as_deref().is_some_and(is_named);
        Template {
            template_id: self.template.clone(),
            kind: match self.kind {
                Some(Kind::Text) => TemplateKind::Text,
                Some(Kind::Whatsapp) | None => TemplateKind::Whatsapp,
            } as i32,
            name: self.name.clone(),
            language: self.language.clone(),
            parameter_format: if named { ParameterFormat::Named } else { ParameterFormat::Positional } as i32,
            header: header.map(|content| TemplateHeader { content: Some(content) }),
            body,
            footer: self.footer.clone(),
            buttons: self.buttons.clone(),
            content_sid: self.content_sid.clone(),
            content_keys: self.content_keys.clone(),
            sms_body: self.sms_body.clone(),
            preview_url: self.preview_url,
            ..Template::default()
        }
    }
}

/// Whether placeholders go by name: the first one begins with a letter.
fn is_named(text: &str) -> bool {
    let first = text.split_once("{{").map(|(_, rest)| rest.trim_start());
    first.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

fn from_file(path: &std::path::Path, console: &mut Console) -> Outcome<Template> {
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut console.input, &mut text).map_err(|error| wrong(&error))?;
        text
    } else {
        std::fs::read_to_string(path).map_err(|error| wrong(&error))?
    };
    // `templates show` wraps the template in its answer; both forms are taken.
    let wrapped: serde_json::Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let text = match wrapped.get("template") {
        Some(inner) => inner.to_string(),
        None => text,
    };
    json::read(&text).map_err(|error| wrong(&format_args!("{error:#}")))
}

/// Runs `templates …`.
pub async fn run(command: &TemplatesCommand, server: &Server, console: &mut Console) -> Outcome {
    let mut client = server.templates();
    match command {
        TemplatesCommand::Put(args) => {
            let template = Some(args.template(console)?);
            let request = PutTemplateRequest { request_id: args.request_id.clone(), template };
            let answer = client.put_template(server.request(request)).await?.into_inner();
            console.answer(&answer, |answer, width| details(answer.template.as_ref(), width))?;
        }
        TemplatesCommand::List { limit } => {
            let page = |page_size, page_token| async move {
                let request = server.request(ListTemplatesRequest { page_size, page_token });
                let answer = server.templates().list_templates(request).await?.into_inner();
                Ok((answer.templates, answer.next_page_token))
            };
            let (templates, next_page_token) = collect(*limit, page).await?;
            let answer = ListTemplatesResponse { templates, next_page_token };
            console.list(&answer, &answer.templates, table)?;
        }
        TemplatesCommand::Show { template } => {
            let request = server.request(GetTemplateRequest { template_id: template.clone() });
            let answer = client.get_template(request).await?.into_inner();
            console.answer(&answer, |answer, width| details(answer.template.as_ref(), width))?;
        }
        TemplatesCommand::Render(args) => {
            let request = RenderTemplateRequest {
                template_id: args.template.clone(),
                provider: args.provider as i32,
                parameters: Some(TemplateParameters {
                    header: args.header.clone(),
                    body: args.body.clone(),
                    buttons: args.button.clone(),
                    named: args.named.iter().cloned().collect(),
                }),
            };
            let answer = client.render_template(server.request(request)).await?.into_inner();
            console.answer(&answer, |answer, _| {
                let parts =
                    if answer.sms_parts == 0 { String::new() } else { format!("\n({} SMS parts)\n", answer.sms_parts) };
                format!("{}\n{parts}", answer.text)
            })?;
        }
    }
    Ok(Exit::Ok)
}

fn table(templates: &[Template], width: Option<u16>) -> String {
    let mut table = Table::new(width, &["TEMPLATE", "KIND", "NAME", "LANGUAGE", "BODY"]);
    for template in templates {
        const SHOWN: usize = 40;
        let mut body: String =
            template.body.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if template.body.chars().count() > SHOWN {
            body.push('…');
        }
        table.row([
            template.template_id.clone(),
            values::template_kind(template.kind()),
            or_dash(&template.name),
            or_dash(&template.language),
            body,
        ]);
    }
    table.text()
}

fn details(template: Option<&Template>, width: Option<u16>) -> String {
    let Some(template) = template else { return String::new() };
    let mut pairs = vec![("template", template.template_id.clone()), ("kind", values::template_kind(template.kind()))];
    for (name, text) in [("name", &template.name), ("language", &template.language), ("content", &template.content_sid)]
    {
        if !text.is_empty() {
            pairs.push((name, text.clone()));
        }
    }
    match template.header.as_ref().and_then(|header| header.content.as_ref()) {
        Some(Content::Text(text)) => pairs.push(("header", text.clone())),
        Some(Content::Media(media)) => {
            let from = if media.value.is_empty() { "each recipient's own" } else { media.value.as_str() };
            pairs.push(("header", format!("{}, {from}", values::media_kind(media.kind()))));
        }
        None => {}
    }
    pairs.push(("body", template.body.clone()));
    for (name, text) in [("footer", &template.footer), ("SMS body", &template.sms_body)] {
        if !text.is_empty() {
            pairs.push((name, text.clone()));
        }
    }
    for (index, button) in template.buttons.iter().enumerate() {
        let text = match &button.kind {
            Some(Button::QuickReply(button)) => format!("quick reply `{}` {}", button.label, button.payload),
            Some(Button::Url(button)) => format!("url `{}` {}", button.label, button.url),
            Some(Button::CopyCode(button)) => format!("copy code {}", button.code),
            Some(Button::Phone(button)) => format!("phone `{}` {}", button.label, button.number),
            None => "of a kind that this version does not know".to_owned(),
        };
        pairs.push(("button", format!("{index}: {}", text.trim_end())));
    }
    pairs.push(("columns", or_dash(&template.columns.join(", "))));
    pairs.push(("updated", values::time(template.update_time.as_ref())));
    pairs.push(("etag", or_dash(&template.etag)));
    Table::pairs(width, pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buttons_media_and_formats_are_read() {
        let read = |text| button(text).map(|button| button.kind);
        assert_eq!(
            read("url:Shop now=https://example.com/?a=b&c={{1}}"),
            Ok(Some(Button::Url(UrlButton {
                label: "Shop now".into(),
                url: "https://example.com/?a=b&c={{1}}".into()
            })))
        );
        assert_eq!(
            read("quick-reply:Stop"),
            Ok(Some(Button::QuickReply(QuickReplyButton { label: "Stop".into(), payload: String::new() })))
        );
        assert_eq!(read("copy-code={{1}}"), Ok(Some(Button::CopyCode(CopyCodeButton { code: "{{1}}".into() }))));
        assert!(button("url:Shop").is_err() && button("fax:1=2").is_err());
        assert_eq!(media("image=https://example.com/a.png").expect("reads").value, "https://example.com/a.png");
        assert!(media("sound").is_err());
        assert!(is_named("Dear {{first_name}}") && is_named("{{ a }}"));
        assert!(!is_named("Dear {{1}}") && !is_named("Dear all"));
    }
}
