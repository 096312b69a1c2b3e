//! What became of each request: an identifier for it, and one line when its response has ended or broken off. The line is written by whoever
//! drops the body, so it tells of what the client got, not of what was meant for it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::answer::{Caller, End};
use crate::app::State;
use crate::error::ApiError;
use crate::guard::Ends;
use crate::http::shape::RequestId;
use crate::ids;
use crate::metrics::Metrics;

/// Who asks, in the task that handles a request; nobody known elsewhere.
pub fn caller() -> Caller {
    Record::current().map(|record| record.caller()).unwrap_or_default()
}

tokio::task_local! {
    static RECORD: Arc<Record>;
}

/// What is known of a request.
pub struct Record {
    /// Its identifier.
    pub id: String,
    method: String,
    path: String,
    peer: String,
    started: Instant,
    seen: Mutex<Seen>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Seen {
    caller: Caller,
    status: u16,
    model: Option<String>,
    first: Option<f64>,
    last: Option<Instant>,
    prompt: usize,
    answer: usize,
    decode: f64,
    fault: Option<String>,
    whole: bool,
}

impl Record {
    /// Of the request that this task handles.
    pub fn current() -> Option<Arc<Record>> {
        RECORD.try_with(Arc::clone).ok()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Who asks, once the guard knows.
    pub fn caller(&self) -> Caller {
        self.seen().caller
    }

    /// The guard knows who asks.
    pub fn asked_by(&self, caller: Caller) {
        self.seen().caller = caller;
    }

    /// A token of an answer came.
    pub fn token(&self, model: &str) {
        let now = Instant::now();
        let mut seen = self.seen();
        match seen.last.replace(now) {
            None => {
                let first = (now - self.started).as_secs_f64();
                seen.first = Some(first);
                seen.model = Some(model.to_owned());
                self.metrics.first_token(model, first);
            }
            Some(last) => self.metrics.next_token(model, (now - last).as_secs_f64()),
        }
    }

    /// An answer ended.
    pub fn ended(&self, model: &str, end: &End) {
        self.metrics.ended(model, end);
        let mut seen = self.seen();
        seen.model = Some(model.to_owned());
        seen.prompt += end.prompt_tokens;
        seen.answer += end.answer_tokens;
        seen.decode = seen.decode.max(end.timings.decode);
    }

    /// The line.
    fn line(&self) -> String {
        let seen = self.seen();
        let mut line = format!(
            "{} {} {} {:.3}s",
            self.method,
            self.path,
            seen.status,
            self.started.elapsed().as_secs_f64()
        );
        if let Some(model) = &seen.model {
            line += &format!(" {model} {}+{} tokens", seen.prompt, seen.answer);
        }
        if let Some(first) = seen.first {
            line += &format!(", first after {first:.3}s");
        }
        if seen.answer > 1 && seen.decode > 0.0 {
            line += &format!(", {:.1} tok/s", (seen.answer - 1) as f64 / seen.decode);
        }
        line += &format!(" [{}]", self.peer);
        if let Some(fault) = &seen.fault {
            line += &format!(": {}", fault.replace(char::is_control, " "));
        }
        if !seen.whole {
            line += ": broken off by the client";
        }
        line
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        tracing::info!(target: "hob::access", request = %self.id, "{}", self.line());
    }
}

/// The layer.
pub async fn access(Shared(state): Shared<State>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let given = headers.get("x-request-id").and_then(|v| v.to_str().ok()).filter(|id| sane(id));
    let id = given.map_or_else(|| ids::random("req_", 20), str::to_owned);
    let peer = request.extensions().get::<Ends>();
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none".to_owned(), |path| path.as_str().to_owned());
    let record = Arc::new(Record {
        id: id.clone(),
        method: request.method().to_string(),
        path: request.uri().path().chars().take(200).collect(),
        peer: peer.map_or("-".to_owned(), |ends| ends.peer.ip().to_string()),
        started: Instant::now(),
        seen: Mutex::default(),
        metrics: state.metrics.clone(),
    });
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = RECORD.scope(record.clone(), next.run(request)).await;
    {
        let mut seen = record.seen();
        seen.status = response.status().as_u16();
        seen.fault = response.extensions().get::<ApiError>().map(|e| e.short().message);
    }
    state.metrics.request(&route, response.status().as_u16());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id.clone());
        // Anthropic's name for it.
        response.headers_mut().insert("request-id", id);
    }
    let bodiless = response.status() == StatusCode::NO_CONTENT;
    let (parts, body) = response.into_parts();
    if bodiless || body.is_end_stream() {
        record.seen().whole = true;
    }
    Response::from_parts(parts, Body::new(Told { body, record }))
}

/// Identifiers that may go into a log and a header.
fn sane(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    (1..=100).contains(&id.len()) && id.bytes().all(plain)
}

/// A body whose end is noted.
struct Told {
    body: Body,
    record: Arc<Record>,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.record.seen().whole = true;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
