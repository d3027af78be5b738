//! A request prepared once per (line, template).

use super::fragments::{Fragments, RenderError};
use super::line::{Base, Credentials, Endpoint, LineError, LineIdentity};
use super::{ProviderKind, meta, twilio};
use crate::domain::correlation::CorrelationId;
use crate::domain::phone::Address;
use crate::domain::sms_parts::PartCounter;
use crate::domain::template::{ParamSource, Piece, Shape, Template, TemplateError, Text};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::{Method, Request, Uri};

/// Names us to the provider.
const AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));

/// Everything of a line's requests with one template that does not change from message to message.
///
/// Rendering concatenates prepared bytes with escaped parameters; it allocates nothing beyond the buffer it is given.
#[derive(Clone, Debug)]
pub struct RequestPlan {
    endpoint: Endpoint,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Fragments,
    cost: Cost,
}

/// What a message takes from the line's ceiling.
#[derive(Clone, Debug)]
enum Cost {
    One,
    SmsParts(Text),
}

/// Why a template cannot be sent over a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The line's identity is not usable.
    #[error("line: {}", listed(.0))]
    Line(Vec<LineError>),
    /// The template is faulty, or not made for this kind of line.
    #[error("template: {}", listed(.0))]
    Template(Vec<TemplateError>),
}

fn listed<E: ToString>(errors: &[E]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl RequestPlan {
    /// Prepares the requests of a template over a line. Costs some microseconds; keep the result.
    pub fn new(line: &LineIdentity, template: &Template) -> Result<Self, PlanError> {
        let shape = template.compile().map_err(PlanError::Template)?;
        Self::with_shape(line, &shape)
    }

    /// The same with a template that is already compiled.
    pub fn with_shape(line: &LineIdentity, shape: &Shape) -> Result<Self, PlanError> {
        line.validate().map_err(PlanError::Line)?;
        shape.suits(line.kind).map_err(|error| PlanError::Template(vec![error]))?;
        let unusable = |field, expected| PlanError::Line(vec![LineError { field, expected }]);
        let base = Base::parse(&line.base_url).ok_or_else(|| unusable("base_url", "an http(s) URL"))?;
        let sms = shape.sms().cloned().unwrap_or_default();
        let (path, authorization, content_type, body) = match &line.credentials {
            Credentials::Meta { access_token } => (
                format!("{}/{}/{}/messages", base.prefix, line.api_version, line.sender.text()),
                format!("Bearer {}", access_token.expose()),
                "application/json",
                meta::render::body(shape),
            ),
            Credentials::Twilio { account_sid, api_key_sid, secret } => {
                let user = api_key_sid.as_deref().unwrap_or(account_sid);
                let basic = STANDARD.encode(format!("{user}:{}", secret.expose()));
                let public = line.public_base_url.as_deref().unwrap_or_default().trim_end_matches('/');
                let callback = format!("{public}/webhooks/twilio/{}?c=", line.account);
                (
                    format!("{}/{}/Accounts/{account_sid}/Messages.json", base.prefix, line.api_version),
                    format!("Basic {basic}"),
                    "application/x-www-form-urlencoded",
                    twilio::render::body(line.kind, &line.sender, &callback, shape, &sms),
                )
            }
        };
        let uri = path.parse().map_err(|_| unusable("base_url", "an http(s) URL with a plain path"))?;
        let mut authorization =
            HeaderValue::try_from(authorization).map_err(|_| unusable("credentials", "visible ASCII characters"))?;
        authorization.set_sensitive(true);
        let host = HeaderValue::try_from(&base.authority).map_err(|_| unusable("base_url", "an http(s) URL"))?;
        Ok(Self {
            endpoint: base.endpoint,
            uri,
            headers: vec![
                (HOST, host),
                (AUTHORIZATION, authorization),
                (CONTENT_TYPE, HeaderValue::from_static(content_type)),
                (USER_AGENT, HeaderValue::from_static(AGENT)),
            ],
            body,
            cost: match line.kind {
                ProviderKind::TwilioSms => Cost::SmsParts(sms),
                ProviderKind::Meta | ProviderKind::TwilioWhatsapp => Cost::One,
            },
        })
    }

    /// Where the requests go.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Path of the request.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Headers of the request but for `Content-Length`; the authorization is marked sensitive.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }

    /// A `POST` in origin form with this body. Cloning path and headers costs reference counts and one header map.
    pub fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.reserve(self.headers.len());
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        request
    }

    /// Bytes that a usual body takes, to size a buffer.
    pub fn body_bytes_expected(&self) -> usize {
        self.body.bytes_expected()
    }

    /// Appends the body for one recipient. Fails only when the number of stored parameters is not the template's; their
    /// contents were checked at import.
    pub fn render<P: ParamSource + ?Sized, B: BufMut>(
        &self,
        to: Address,
        params: &P,
        id: &CorrelationId,
        out: &mut B,
    ) -> Result<(), RenderError> {
        self.body.render(to, params, id, out)
    }

    /// Permits the message takes from the line's ceiling: its SMS parts at Twilio, 1 for WhatsApp.
    pub fn permit_cost<P: ParamSource + ?Sized>(&self, params: &P) -> u32 {
        let text = match &self.cost {
            Cost::One => return 1,
            Cost::SmsParts(text) => text,
        };
        let mut counter = PartCounter::default();
        for piece in &text.pieces {
            match piece {
                Piece::Literal(literal) => counter.push(literal),
                Piece::Slot(slot) => counter.push(params.get(usize::from(*slot)).unwrap_or("")),
            }
        }
        counter.size().parts
    }
}

#[cfg(test)]
mod tests;
