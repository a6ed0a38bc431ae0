//! A rate limit before a service of the `tower` family.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cache_core::recipe::limit::{Decision, Limits};
use cache_core::{Error, ErrorKind};
use http::header::RETRY_AFTER;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

type KeyOf = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// A layer that lets a request pass if [`Limits`] allow it. Wraps any HTTP service of the `tower` family, as axum's.
///
/// Every answer carries the fields `RateLimit-Policy` and `RateLimit`. A request that is denied is answered at once,
/// with an empty body: 429 and `Retry-After`. If the store is away and its errors are the caller's (`Away::Fail`),
/// the answer is 503; a key that can't be one is 400. One round trip a request, none for a denial that is remembered.
///
/// ```
/// use cache_strata::recipe::limit::{Away, Limit, Limits};
/// use cache_strata::{LimitLayer, Memory};
///
/// # fn main() -> cache_strata::Result<()> {
/// let limits = Limits::new(Memory::new(), Limit::per_minute(60))?.when_away(Away::Open);
/// let layer = LimitLayer::new(limits, |request| {
///     let user = request.headers.get("x-user")?.to_str().ok()?;
///     Some(format!("limit:{user}"))
/// });
/// // axum: Router::new().route("/", get(page)).layer(layer)
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LimitLayer {
    limits: Limits,
    key_of: KeyOf,
    policy: Arc<str>,
}

impl LimitLayer {
    /// `limits` for the key that `key_of` finds in a request; without one a request passes.
    ///
    /// A field that clients set, such as `X-Forwarded-For`, is no key unless a proxy of yours has set it.
    pub fn new(limits: Limits, key_of: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { limits, key_of: Arc::new(key_of), policy: "default".into() }
    }

    /// The same, with the limit's name in the fields; `default` if not set.
    #[must_use]
    pub fn named(mut self, policy: impl Into<Arc<str>>) -> Self {
        self.policy = policy.into();
        self
    }

    /// Whether a request may pass, and what its answer is told. `None`: it is not limited.
    async fn admit(&self, key: Option<String>) -> Option<Result<Decision, Error>> {
        Some(self.limits.take(&key?, 1).await)
    }
}

impl fmt::Debug for LimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitLayer").field("limits", &self.limits).field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { layer: self.clone(), inner }
    }
}

/// A service behind a [`LimitLayer`].
#[derive(Clone, Debug)]
pub struct Limited<S> {
    layer: LimitLayer,
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for Limited<S>
where
    S: Service<Request<In>, Response = Response<Out>> + Clone + Send + 'static,
    S::Future: Send,
    In: Send + 'static,
    Out: Default,
{
    type Response = Response<Out>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Out>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        // the one that was ready is called, its clone waits for the next request
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let layer = self.layer.clone();
        let (parts, body) = request.into_parts();
        let key = (layer.key_of)(&parts);
        Box::pin(async move {
            let admitted = layer.admit(key).await;
            let refused = match &admitted {
                None => None,
                Some(Ok(decision)) => (!decision.allowed).then_some(StatusCode::TOO_MANY_REQUESTS),
                Some(Err(error)) => Some(status(error)),
            };
            let mut response = match refused {
                None => inner.call(Request::from_parts(parts, body)).await?,
                Some(status) => {
                    let mut response = Response::new(Out::default());
                    *response.status_mut() = status;
                    response
                }
            };
            match &admitted {
                None => {}
                Some(Ok(decision)) => tell(response.headers_mut(), decision, &layer.policy),
                Some(Err(error)) if error.is_transient() => {
                    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                }
                Some(Err(_)) => {}
            }
            Ok(response)
        })
    }
}

fn status(error: &Error) -> StatusCode {
    match error.kind() {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        _ if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn tell(headers: &mut HeaderMap, decision: &Decision, policy: &str) {
    for (name, value) in decision.headers(policy) {
        if let Ok(value) = HeaderValue::try_from(value) {
            // a service may have limits of its own: each is told
            if name == RETRY_AFTER {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests;
