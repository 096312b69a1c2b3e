//! How a server goes down: nothing new at once, what runs to its end or to the deadline, everything at the second word.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, Setup, Stream, slow};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(600);
/// Of a test that fails only when something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request for a stream of so many tokens, in each dialect.
fn requests(tokens: usize) -> [(&'static str, Value); 4] {
    let said = json!([{"role": "user", "content": "go on"}]);
    [
        (
            "/api/chat",
            json!({"model": "slow", "messages": said, "options": {"num_predict": tokens, "temperature": 0}}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "slow", "messages": said, "stream": true, "max_tokens": tokens, "ignore_eos": true}),
        ),
        (
            "/v1/messages",
            json!({"model": "slow", "messages": said, "stream": true, "max_tokens": tokens, "temperature": 0}),
        ),
        (
            "/v1/responses",
            json!({"model": "slow", "input": "go on", "stream": true, "max_output_tokens": tokens, "temperature": 0}),
        ),
    ]
}

fn server() -> Server {
    let server = Server::empty(Setup::default());
    server.add("slow", &slow());
    server
}

/// Streams of which each has said something, and may say more.
fn begun(server: &Server, tokens: usize) -> Vec<(&'static str, Stream)> {
    let mut streams = Vec::new();
    for (path, request) in requests(tokens) {
        let mut stream = server.stream(path, &request);
        assert_eq!(stream.status, 200, "{path}");
        assert!(stream.line().is_some(), "{path}");
        streams.push((path, stream));
    }
    streams
}

/// Waits until nobody listens any more.
fn gone(server: &Server) {
    let began = Instant::now();
    while TcpStream::connect(server.address).is_ok() {
        assert!(began.elapsed() < PATIENCE, "still there");
        thread::sleep(Duration::from_millis(20));
    }
}

fn down_soon(server: &Server) {
    let began = Instant::now();
    while !server.state.shutdown.is_closing() {
        assert!(began.elapsed() < PATIENCE);
        thread::yield_now();
    }
}

#[test]
fn streams_finish_while_nothing_new_begins() {
    let server = server();
    server.get("/ready").ok();
    // It stays open, as long as the server has not begun to end.
    let mut idle = TcpStream::connect(server.address).unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 15];
    idle.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    let streams = begun(&server, 600);
    server.down(LONG);
    down_soon(&server);

    assert_eq!(server.get("/ready").expect(503)["error"], "the server is shutting down");
    server.get("/health").ok();
    for (path, request) in requests(3) {
        let reply = server.post(path, &request);
        let said = reply.json();
        match path {
            "/api/chat" => assert_eq!(
                (reply.status, &said["error"]),
                (503, &json!("the server is shutting down"))
            ),
            "/v1/messages" => {
                assert_eq!((reply.status, &said["type"]), (529, &json!("error")));
                assert_eq!(said["error"]["type"], "overloaded_error");
            }
            _ => {
                assert_eq!((reply.status, &said["error"]["param"]), (503, &Value::Null));
                assert!(said["error"]["message"].is_string(), "{said}");
            }
        }
    }
    idle.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();

    let ends: Vec<_> = streams
        .into_iter()
        .map(|(path, stream)| thread::spawn(move || (path, stream.whole().body)))
        .collect();
    for end in ends {
        let (path, body) = end.join().unwrap();
        let last = match path {
            "/api/chat" => "\"done\":true",
            "/v1/chat/completions" => "data: [DONE]",
            "/v1/messages" => "event: message_stop",
            _ if body.contains("event: response.completed") => "event: response.completed",
            _ => "event: response.incomplete",
        };
        assert!(body.contains(last) && !body.contains("shutting down"), "{path}: {}", body);
    }
    gone(&server);
}

#[test]
fn streams_that_do_not_finish_end_with_an_error() {
    let server = server();
    let streams = begun(&server, 4000);
    let waiting = {
        let (_, mut request) = requests(4000)[0].clone();
        request["stream"] = false.into();
        let (address, body) = (server.address, request.to_string());
        thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let head = format!(
                "POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut reply = String::new();
            stream.read_to_string(&mut reply).unwrap();
            reply
        })
    };
    // It counts as running once the server knows it.
    let began = Instant::now();
    while server.state.models.seen().iter().map(|seen| seen.users).sum::<usize>() < 5 {
        assert!(began.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    server.down(Duration::ZERO);
    for (path, stream) in streams {
        // A body that breaks off would fail here.
        let body = stream.whole().body;
        let last = body.trim_end().rsplit("\n\n").next().unwrap();
        let (name, data) = match last.split_once('\n') {
            Some((name, data)) if name.starts_with("event: ") => (name, data),
            _ => ("", last.lines().last().unwrap()),
        };
        let said: Value = serde_json::from_str(data.trim_start_matches("data: ")).unwrap();
        match path {
            "/api/chat" => assert_eq!(said, json!({"error": "the server is shutting down"})),
            "/v1/chat/completions" => {
                assert_eq!(said["error"]["message"], "the server is shutting down");
            }
            "/v1/messages" => {
                assert_eq!((name, &said["type"]), ("event: error", &json!("error")));
                assert_eq!(said["error"]["type"], "overloaded_error");
            }
            _ => {
                assert_eq!(
                    (name, &said["type"]),
                    ("event: response.failed", &json!("response.failed"))
                );
                assert_eq!(said["response"]["error"]["message"], "the server is shutting down");
            }
        }
    }
    let reply = waiting.join().unwrap();
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert!(reply.ends_with("{\"error\":\"the server is shutting down\"}"), "{reply}");
    gone(&server);
}

#[test]
fn the_second_word_is_obeyed_at_once() {
    let server = server();
    let streams = begun(&server, 4000);
    server.down(LONG);
    down_soon(&server);
    server.state.shutdown.now();
    gone(&server);
    drop(streams);
}

#[test]
fn an_idle_server_ends_at_once() {
    let server = server();
    let _open = TcpStream::connect(server.address).unwrap();
    server.get("/health").ok();
    server.down(LONG);
    gone(&server);
}
