//! One client: sends a streaming request, notes when each token came and how the answer ended. Deliberately absent: repeating what was
//! refused, and keeping connections, so that every request is counted once and is on its own.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::http::{Head, Response};
use super::prompts::Prompt;

/// Which of OpenAI's calls is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`, for models without a template.
    Text,
}

/// Whom to ask, and for what.
#[derive(Clone, Debug)]
pub struct Target {
    pub address: SocketAddr,
    /// The model's name there.
    pub model: String,
    pub form: Form,
    /// The client's address; the system's choice without one.
    pub from: Option<Ipv4Addr>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All of the answer came, with its last words.
    Complete,
    /// The server had no room: its status, and whether it said when to come back.
    Refused { status: u16, retry_after: bool },
    /// Another status than 200 or an error in the stream: the first bytes of it.
    Failed(String),
    /// The connection ended in order before the answer did.
    Incomplete,
    /// The connection was refused or broken.
    Reset,
}

/// What came of a request.
#[derive(Clone, Debug)]
pub struct Reply {
    pub end: End,
    /// From the call to its end.
    pub took: Duration,
    /// From the call to the first token.
    pub first: Option<Duration>,
    /// Between tokens that came after one another.
    pub gaps: Vec<Duration>,
    /// Tokens of the answer, by the server's count, else by that of events.
    pub tokens: usize,
    pub prompt_tokens: usize,
}

impl Target {
    /// The bytes of a streaming request for at most `tokens` tokens.
    pub fn request(&self, prompt: &Prompt, tokens: usize) -> Vec<u8> {
        let mut body = serde_json::json!({
            "model": self.model,
            "stream": true,
            "stream_options": { "include_usage": true },
            "max_tokens": tokens,
            "temperature": 0,
        });
        let (path, key, value) = match self.form {
            Form::Chat => ("/v1/chat/completions", "messages", prompt.messages()),
            Form::Text => ("/v1/completions", "prompt", prompt.text().into()),
        };
        body[key] = value;
        post(path, &body.to_string())
    }

    /// Asks and listens to the end.
    pub async fn ask(&self, prompt: &Prompt, tokens: usize) -> Reply {
        self.ask_noting(prompt, tokens, |_| ()).await
    }

    /// Asks and listens, telling `note` how many tokens have come whenever something has.
    pub async fn ask_noting(
        &self,
        prompt: &Prompt,
        tokens: usize,
        mut note: impl FnMut(usize),
    ) -> Reply {
        let request = self.request(prompt, tokens);
        let mut listener = Listener::new(self.form);
        let ended = self.exchange(&request, &mut listener, &mut note).await;
        listener.reply(ended)
    }

    /// A connection, from this client's own address where it has one.
    pub async fn connect(&self) -> std::io::Result<TcpStream> {
        self.connect_on(TcpSocket::new_v4()?).await
    }

    /// A connection for which the system holds little that was not read.
    pub async fn connect_with_buffer(&self, bytes: u32) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(bytes)?;
        self.connect_on(socket).await
    }

    async fn connect_on(&self, socket: TcpSocket) -> std::io::Result<TcpStream> {
        if let Some(from) = self.from {
            socket.bind(SocketAddr::from((from, 0)))?;
        }
        socket.connect(self.address).await
    }

    async fn exchange(
        &self,
        request: &[u8],
        listener: &mut Listener,
        note: &mut impl FnMut(usize),
    ) -> std::io::Result<()> {
        let mut stream = self.connect().await?;
        stream.set_nodelay(true)?;
        stream.write_all(request).await?;
        let mut buffer = [0; 16 << 10];
        while !listener.response.complete {
            match stream.read(&mut buffer).await? {
                0 => break,
                n => listener.hear(&buffer[..n]),
            }
            note(listener.events());
        }
        Ok(())
    }
}

/// A POST of JSON on a connection of its own.
pub fn post(path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The part of an event that is read.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
}

/// What has been heard of an answer.
struct Listener {
    form: Form,
    asked: Instant,
    response: Response,
    /// When a token came last.
    last: Option<Instant>,
    first: Option<Duration>,
    gaps: Vec<Duration>,
    usage: Option<Usage>,
    finished: bool,
    done: bool,
    error: Option<String>,
}

impl Listener {
    fn new(form: Form) -> Self {
        Listener {
            form,
            asked: Instant::now(),
            response: Response::default(),
            last: None,
            first: None,
            gaps: Vec::new(),
            usage: None,
            finished: false,
            done: false,
            error: None,
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let now = Instant::now();
        let mut response = std::mem::take(&mut self.response);
        let pushed = response.push(bytes, |line| {
            if let Some(data) = line.strip_prefix(b"data:") {
                self.event(data.trim_ascii(), now);
            }
        });
        self.response = response;
        if let Err(e) = pushed {
            self.error = Some(e.to_string());
            self.response.complete = true;
        }
    }

    fn event(&mut self, data: &[u8], now: Instant) {
        if data == b"[DONE]" {
            self.done = true;
            return;
        }
        let event = match serde_json::from_slice::<Event>(data) {
            Ok(Event { error: Some(error), .. }) => return self.error = Some(error.to_string()),
            Err(e) => return self.error = Some(format!("{e}: {}", show(data))),
            Ok(event) => event,
        };
        self.usage = event.usage.or(self.usage.take());
        let form = self.form;
        for choice in event.choices {
            self.finished |= choice.finish_reason.is_some();
            let text = match form {
                Form::Text => choice.text,
                Form::Chat => choice.delta.and_then(|d| d.content.or(d.reasoning_content)),
            };
            if text.is_some_and(|text| !text.is_empty()) {
                self.token(now);
            }
        }
    }

    fn token(&mut self, now: Instant) {
        match self.last.replace(now) {
            None => self.first = Some(now - self.asked),
            Some(last) => self.gaps.push(now - last),
        }
    }

    /// Tokens that have come, where one comes per event.
    fn events(&self) -> usize {
        self.gaps.len() + usize::from(self.first.is_some())
    }

    fn reply(self, ended: std::io::Result<()>) -> Reply {
        let events = self.events();
        let end = match (&self.response.head, ended) {
            (Some(Head { status: status @ (429 | 503), retry_after, .. }), _) => {
                End::Refused { status: *status, retry_after: retry_after.is_some() }
            }
            (_, Err(e)) if e.kind() != ErrorKind::UnexpectedEof => End::Reset,
            (Some(head), _) if head.status != 200 => {
                End::Failed(format!("{}: {}", head.status, show(self.response.rest())))
            }
            _ => match self.error {
                Some(error) => End::Failed(error),
                None if self.finished && self.done && self.response.complete => End::Complete,
                None => End::Incomplete,
            },
        };
        Reply {
            end,
            took: self.asked.elapsed(),
            first: self.first,
            gaps: self.gaps,
            tokens: self.usage.as_ref().map_or(events, |u| u.completion_tokens),
            prompt_tokens: self.usage.as_ref().map_or(0, |u| u.prompt_tokens),
        }
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    fn heard(text: &str) -> Reply {
        let mut listener = Listener::new(Form::Chat);
        listener.hear(text.as_bytes());
        listener.reply(Ok(()))
    }

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    fn stream(events: &[&str]) -> String {
        let events = events.iter().map(|e| chunk(&format!("data: {e}\n\n")));
        format!("{OK}{}0\r\n\r\n", events.collect::<String>())
    }

    const ROLE: &str = r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#;
    const TOKEN: &str = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

    #[test]
    fn a_whole_answer_is_complete() {
        let reply = heard(&stream(&[ROLE, TOKEN, TOKEN, STOP, USAGE, "[DONE]"]));
        assert_eq!(reply.end, End::Complete);
        assert_eq!((reply.tokens, reply.prompt_tokens, reply.gaps.len()), (3, 7, 1));
        // Without the server's count events are counted.
        assert_eq!(heard(&stream(&[ROLE, TOKEN, TOKEN, STOP, "[DONE]"])).tokens, 2);
    }

    #[test]
    fn whatever_lacks_an_end_is_incomplete() {
        let whole = stream(&[ROLE, TOKEN, STOP, "[DONE]"]);
        assert_eq!(heard(&whole).end, End::Complete);
        assert_eq!(heard(whole.trim_end_matches("0\r\n\r\n")).end, End::Incomplete);
        assert_eq!(heard(&stream(&[ROLE, TOKEN, STOP])).end, End::Incomplete);
        assert_eq!(heard(&stream(&[ROLE, TOKEN, "[DONE]"])).end, End::Incomplete);
        assert_eq!(heard("").end, End::Incomplete);
    }

    #[test]
    fn errors_refusals_and_resets_are_told_apart() {
        let error = heard(&stream(&[TOKEN, r#"{"error":{"message":"down"}}"#]));
        assert_eq!(error.end, End::Failed(r#"{"message":"down"}"#.to_owned()));
        let busy = heard("HTTP/1.1 429 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(busy.end, End::Refused { status: 429, retry_after: true });
        let wrong = heard("HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno");
        assert_eq!(wrong.end, End::Failed("404: no".to_owned()));
        let broken = Listener::new(Form::Chat).reply(Err(ErrorKind::ConnectionReset.into()));
        assert_eq!(broken.end, End::Reset);
    }
}
