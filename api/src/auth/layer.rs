//! Stands before every gRPC service: verifies the token, checks the scope, and puts the [`super::Principal`] into the request.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::Either;
use sluice_engine::domain::time::Clock;
use tonic::Status;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{Layer, Service};

use super::principal::Principal;
use super::scopes::{Access, access};
use super::verifier::{AuthError, UnixSeconds, Verifier};

/// Wraps all services of a server.
#[derive(Debug, Clone)]
pub struct AuthLayer {
    verifier: Arc<Verifier>,
    clock: Clock,
}

impl AuthLayer {
    /// A layer that decides by `verifier` and the wall clock of `clock`.
    pub fn new(verifier: Arc<Verifier>, clock: Clock) -> Self {
        Self { verifier, clock }
    }

    /// The caller, if the call is known and the caller may make it; `None` for calls that need nobody.
    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Option<Principal>, Status> {
        let scope = match access(path) {
            None => return Err(Status::unimplemented("there is no such call")),
            Some(Access::Public) => return Ok(None),
            Some(Access::Needs(scope)) => scope,
        };
        let now = UnixSeconds(self.clock.wall().seconds());
        let principal = bearer(headers).and_then(|token| self.verifier.verify(token, now)).map_err(|error| {
            metrics::counter!(crate::metrics::GRPC_AUTH_FAILURES, "reason" => error.label()).increment(1);
            tracing::debug!(reason = error.reason(), call = path, "token refused");
            refuse(tonic::Code::Unauthenticated, &error.to_string(), error.reason())
        })?;
        if !principal.scopes.contains(scope) {
            let text = format!("this call needs the scope `{scope}`");
            return Err(refuse(tonic::Code::PermissionDenied, &text, "SCOPE_MISSING"));
        }
        Ok(Some(principal))
    }
}

fn refuse(code: tonic::Code, text: &str, reason: &str) -> Status {
    Status::with_error_details(
        code,
        text,
        ErrorDetails::with_error_info(reason, "sluice", std::collections::HashMap::new()),
    )
}

/// The token of the one `authorization` header.
fn bearer(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(AuthError::Malformed);
    }
    let text = value.to_str().map_err(|_| AuthError::Malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(AuthError::Malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(AuthError::Missing) }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { inner, layer: self.clone() }
    }
}

/// What [`AuthLayer`] makes of a service.
#[derive(Debug, Clone)]
pub struct AuthService<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<R>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // Whatever claims to be a principal before this point is not one.
        request.extensions_mut().remove::<Principal>();
        match self.layer.admit(request.uri().path(), request.headers()) {
            Ok(principal) => {
                if let Some(principal) = principal {
                    request.extensions_mut().insert(principal);
                }
                Either::Left(self.inner.call(request))
            }
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Issuer, claims};
    use super::*;
    use sluice_engine::domain::time::UnixMillis;
    use std::convert::Infallible;
    use tower::service_fn;

    const NOW: i64 = 1_800_000_000;

    async fn call(path: &str, authorization: &[&str]) -> (tonic::Code, Option<Principal>) {
        let verifier = Arc::new(Issuer::ed25519(7).verifier());
        let layer = AuthLayer::new(verifier, Clock::with_wall(|| UnixMillis(NOW * 1_000)));
        let seen = Arc::new(parking_lot::Mutex::new(None));
        let inner = service_fn({
            let seen = seen.clone();
            move |request: Request<()>| {
                *seen.lock() = request.extensions().get::<Principal>().cloned();
                ready(Ok::<_, Infallible>(Response::new(String::new())))
            }
        });
        let mut request = Request::builder().uri(format!("http://sluice{path}"));
        for value in authorization {
            request = request.header(AUTHORIZATION, *value);
        }
        let response = layer.layer(inner).call(request.body(()).unwrap()).await.unwrap();
        let code = Status::from_header_map(response.headers()).map_or(tonic::Code::Ok, |status| status.code());
        let principal = seen.lock().take();
        (code, principal)
    }

    fn token(scope: &str) -> String {
        let mut claims = claims(NOW);
        claims["scope"] = scope.into();
        format!("Bearer {}", Issuer::ed25519(7).sign(&claims))
    }

    #[tokio::test]
    async fn a_good_token_brings_its_principal() {
        let (code, principal) = call("/sluice.v1.CampaignService/GetCampaign", &[&token("read")]).await;
        assert_eq!(code, tonic::Code::Ok);
        assert_eq!(principal.unwrap().tenant.as_str(), "acme");
    }

    #[tokio::test]
    async fn without_the_scope_the_call_is_denied_and_never_reaches_the_service() {
        let (code, principal) = call("/sluice.v1.CampaignService/StartCampaign", &[&token("read admin")]).await;
        assert_eq!((code, principal), (tonic::Code::PermissionDenied, None));
    }

    #[tokio::test]
    async fn without_a_good_token_nothing_is_reached() {
        let path = "/sluice.v1.CampaignService/GetCampaign";
        let good = token("read");
        for bad in
            [vec![], vec!["Basic abc"], vec!["Bearer"], vec!["Bearer "], vec!["Bearer x.y.z"], vec![&*good, &*good]]
        {
            let (code, principal) = call(path, &bad).await;
            assert_eq!((code, principal), (tonic::Code::Unauthenticated, None), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn unknown_calls_are_refused_and_health_needs_no_token() {
        assert_eq!(call("/sluice.v1.Nope/Nope", &[&token("read send admin")]).await.0, tonic::Code::Unimplemented);
        assert_eq!(call("/grpc.health.v1.Health/Check", &[]).await, (tonic::Code::Ok, None));
    }
}
