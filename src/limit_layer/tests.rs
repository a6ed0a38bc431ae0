use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::time::Duration;

use async_trait::async_trait;
use cache_core::recipe::limit::{Away, Limit, LimitStore, Outcome};
use cache_core::{CacheService, Memory, Result as Outcomes};

use super::*;

/// Answers 200, and only after it was asked whether it is ready.
#[derive(Debug, Default)]
struct Page {
    ready: bool,
}

impl Clone for Page {
    fn clone(&self) -> Self {
        Self { ready: false }
    }
}

impl Service<Request<String>> for Page {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<String>) -> Self::Future {
        assert!(self.ready, "called before it was ready");
        ready(Ok(Response::new(request.into_body())))
    }
}

/// A store that is away.
#[derive(Debug)]
struct Gone;

#[async_trait]
impl LimitStore for Gone {
    async fn take(&self, _: &str, _: &Limit, _: u32) -> Outcomes<Outcome> {
        Err(Error::new(ErrorKind::Unavailable, "away"))
    }
    async fn reset(&self, _: &str) -> Outcomes<()> {
        Err(Error::new(ErrorKind::Unavailable, "away"))
    }
}

fn layer(limits: Limits) -> LimitLayer {
    LimitLayer::new(limits, |parts| Some(parts.headers.get("user")?.to_str().ok()?.to_owned())).named("api")
}

async fn ask(service: &mut Limited<Page>, user: Option<&str>) -> Response<String> {
    let mut request = Request::new("body".to_owned());
    if let Some(user) = user {
        request.headers_mut().insert("user", HeaderValue::try_from(user).unwrap());
    }
    poll_fn(|context| service.poll_ready(context)).await.unwrap();
    service.call(request).await.unwrap()
}

fn field<'r>(response: &'r Response<String>, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_request_over_the_limit_is_answered_429_and_told_when_to_come_back() {
    let limits = Limits::new(Memory::new(), Limit::new(2, Duration::from_secs(60))).unwrap();
    let mut service = layer(limits).layer(Page::default());
    for left in ["1", "0"] {
        let response = ask(&mut service, Some("ada")).await;
        assert_eq!((response.status(), response.body().as_str()), (StatusCode::OK, "body"));
        assert_eq!(field(&response, "RateLimit-Policy"), "\"api\";q=2;w=60");
        assert!(field(&response, "RateLimit").starts_with(&format!("\"api\";r={left};t=")));
        assert_eq!(field(&response, "Retry-After"), "");
    }
    let denied = ask(&mut service.clone(), Some("ada")).await;
    assert_eq!((denied.status(), denied.body().as_str()), (StatusCode::TOO_MANY_REQUESTS, ""));
    let after: u64 = field(&denied, "Retry-After").parse().unwrap();
    assert!((1..=30).contains(&after), "{after}");
    assert_eq!(ask(&mut service, Some("bob")).await.status(), StatusCode::OK);
    for _ in 0..3 {
        let free = ask(&mut service, None).await;
        assert_eq!((free.status(), field(&free, "RateLimit")), (StatusCode::OK, ""));
    }
}

#[tokio::test]
async fn a_store_that_is_away_and_a_key_that_is_none_have_answers_of_their_own() {
    let limit = Limit::per_second(1);
    let mut failing = layer(Limits::new(Gone, limit).unwrap()).layer(Page::default());
    let away = ask(&mut failing, Some("ada")).await;
    assert_eq!((away.status(), field(&away, "Retry-After")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    assert_eq!(ask(&mut failing, Some(&"x".repeat(2000))).await.status(), StatusCode::BAD_REQUEST);
    let mut open = layer(Limits::new(Gone, limit).unwrap().when_away(Away::Open)).layer(Page::default());
    assert_eq!(ask(&mut open, Some("ada")).await.status(), StatusCode::OK);
    let memory = Memory::new();
    memory.set("ada", "foreign".into(), Duration::from_secs(60)).await.unwrap();
    let mut foreign = layer(Limits::new(memory, limit).unwrap()).layer(Page::default());
    assert_eq!(ask(&mut foreign, Some("ada")).await.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let shown = format!("{foreign:?}");
    assert!(shown.contains("api") && !shown.contains("ada"), "{shown}");
}
