//! Bodies that come piece by piece: lines of JSON, and server-sent events with a sign of life while a prompt is read. A client that does not
//! read stops nobody: what waits for it is bounded by its answer, and the connection gives up after a time (`listen`).

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde_json::Value;

/// How long a stream of events is silent at most.
pub const PING: Duration = Duration::from_secs(10);

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub struct Sse {
    /// Its name, in dialects that have such.
    pub event: Option<&'static str>,
    /// Its data: JSON, or a word.
    pub data: String,
}

impl Sse {
    /// An event without a name.
    pub fn data(value: &Value) -> Self {
        Sse { event: None, data: value.to_string() }
    }

    /// An event with a name.
    pub fn named(event: &'static str, value: &Value) -> Self {
        Sse { event: Some(event), data: value.to_string() }
    }

    /// OpenAI's last word.
    pub fn done() -> Self {
        Sse { event: None, data: "[DONE]".to_owned() }
    }

    /// As it is sent. JSON has no line breaks outside of strings, and escapes them inside.
    fn bytes(&self) -> Bytes {
        match self.event {
            Some(event) => format!("event: {event}\ndata: {}\n\n", self.data).into(),
            None => format!("data: {}\n\n", self.data).into(),
        }
    }
}

/// A response of server-sent events; `ping` is sent whenever nothing else was for [`PING`].
pub fn events(events: impl Stream<Item = Sse> + Send + 'static, ping: &'static str) -> Response {
    let events = Box::pin(events.map(|event| event.bytes()));
    let alive = stream::unfold(events, move |mut events| async move {
        match tokio::time::timeout(PING, events.next()).await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok::<_, Infallible>(bytes), events)),
            Err(_) => Some((Ok(Bytes::from_static(ping.as_bytes())), events)),
        }
    });
    let mut response = Response::new(Body::from_stream(alive));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies that would collect a stream are asked not to.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// A comment, which all readers of events pass over.
pub const COMMENT: &str = ": still working\n\n";

/// A response of lines of JSON. There is no sign of life in it: readers parse every line.
pub fn lines(values: impl Stream<Item = Value> + Send + 'static) -> Response {
    let lines = values.map(|value| Ok::<_, Infallible>(Bytes::from(value.to_string() + "\n")));
    let mut response = Response::new(Body::from_stream(lines));
    let json_lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, json_lines);
    response
}

/// A response of one JSON value.
pub fn json(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
