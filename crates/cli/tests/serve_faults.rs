//! `hob serve` when clients behave badly, black-box. No assertion has a clock: what must come first is told by the order of events, most often
//! by a witness, a long answer that is still being written. The figures in seconds are `cargo xtask load --faults`.

#![allow(clippy::unwrap_used)]
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Home, slow, text};
use serde_json::{Value, json};

/// Only a hang takes so long.
const HANG: Duration = Duration::from_secs(300);
/// Tokens of an answer that outlasts what a test does meanwhile.
const LONG: usize = 800;

/// A server on a port of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

/// A request on a connection of its own. HTTP/1.0, so that the body is what comes until the connection ends.
struct Call {
    reader: BufReader<TcpStream>,
    lines: Vec<Value>,
}

impl Server {
    /// Serves this home's store, which gets the model under the name `m`.
    fn start(home: &Home, model: &Path, args: &[&str]) -> Server {
        home.hob(&["import", "--reference", "--name", "m", text(model)]).ok();
        let args = [&["serve", "--host", "127.0.0.1:0", "--threads", "1"][..], args].concat();
        let mut child = home.command(&args).stdout(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "it ended before it listened");
            if let Some((_, address)) = line.trim().split_once("http://") {
                break address.parse().unwrap();
            }
        };
        // Whoever logs into a full pipe waits.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Server { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream
    }

    /// Asks for an answer of so many tokens, and does not wait for it.
    fn ask(&self, model: &str, tokens: usize) -> Call {
        self.ask_with(&json!({"model": model}), tokens)
    }

    /// The same with further fields.
    fn ask_with(&self, fields: &Value, tokens: usize) -> Call {
        let mut body = fields.clone();
        body["prompt"] = "Hello".into();
        body["raw"] = true.into();
        body["options"] = json!({"num_predict": tokens, "temperature": 0});
        let body = body.to_string();
        let mut stream = self.connect();
        write!(
            stream,
            "POST /api/generate HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
            Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        Call { reader: BufReader::new(stream), lines: Vec::new() }
    }

    /// Answers that are being written.
    fn streams(&self, count: usize) -> Vec<Call> {
        let mut calls: Vec<Call> = (0..count).map(|_| self.ask("m", LONG)).collect();
        for call in &mut calls {
            assert_eq!(call.status(), 200);
            call.line();
        }
        calls
    }

    /// An answer that is being written, and began before all that follow.
    fn witness(&self) -> Call {
        self.streams(1).remove(0)
    }

    fn signal(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits until new requests are refused; the first that is.
    fn refuses(&self) -> Call {
        loop {
            let mut call = self.ask("m", 1);
            if call.status() == 503 {
                return call;
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Call {
    /// Reads the head.
    fn status(&mut self) -> u16 {
        self.head().0
    }

    /// Status, and when to come back.
    fn head(&mut self) -> (u16, Option<String>) {
        let (mut status, mut after) = (None, None);
        loop {
            let mut line = String::new();
            assert!(self.reader.read_line(&mut line).unwrap() > 0, "no whole head");
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                return (status.unwrap(), after);
            }
            status = status.or_else(|| line.split(' ').nth(1)?.parse().ok());
            after = after.or_else(|| Some(line.strip_prefix("retry-after: ")?.to_owned()));
        }
    }

    /// The next line of the body; false at its end.
    fn line(&mut self) -> bool {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => false,
            // Who ends at once may break what is not read.
            Err(e) if e.kind() == ErrorKind::ConnectionReset => false,
            Ok(_) => {
                self.lines.push(serde_json::from_str(&line).unwrap());
                true
            }
            Err(e) => panic!("{e}"),
        }
    }

    /// Reads to the end; the last line.
    fn last(&mut self) -> Value {
        while self.line() {}
        self.lines.last().unwrap().clone()
    }

    /// Reads what has come so far, and whether the answer's end is in it.
    fn has_ended(&mut self) -> bool {
        self.reader.get_ref().set_nonblocking(true).unwrap();
        let mut text = Vec::new();
        let ended = match self.reader.read_to_end(&mut text) {
            Ok(_) => true,
            Err(e) if e.kind() == ErrorKind::WouldBlock => false,
            Err(e) => panic!("{e}"),
        };
        self.reader.get_ref().set_nonblocking(false).unwrap();
        ended
    }
}

/// An answer with all its words.
fn whole(last: &Value, tokens: usize) {
    assert_eq!((&last["done"], &last["eval_count"]), (&json!(true), &json!(tokens)), "{last}");
}

#[test]
fn slots_of_clients_that_vanish_serve_others() {
    let home = Home::new();
    // Two of the sixteen are kept for clients that run nothing.
    let server = Server::start(&home, &slow(&home), &["--parallel", "16"]);
    // All that this client may have are taken, and none would be free before the witness ends, which began first.
    let mut witness = server.witness();
    drop(server.streams(13));
    let mut next = server.ask("m", 4);
    assert_eq!(next.status(), 200);
    whole(&next.last(), 4);
    assert!(!witness.has_ended(), "the slot came free by itself");
}

#[test]
fn queued_clients_that_vanish_leave_the_queue() {
    let home = Home::new();
    let server = Server::start(&home, &slow(&home), &["--parallel", "1", "--queue", "4"]);
    let mut witness = server.witness();
    let mut queued: Vec<Call> = (0..4).map(|_| server.ask("m", LONG)).collect();
    assert!(queued.iter_mut().all(|call| call.status() == 200));
    let (status, retry_after) = server.ask("m", 4).head();
    assert_eq!((status, retry_after.is_some()), (503, true));
    drop(queued);
    let mut next = loop {
        let mut call = server.ask("m", 4);
        if call.status() == 200 {
            break call;
        }
    };
    assert!(!witness.has_ended(), "the queue moved by itself");
    // None of those that left is written first.
    whole(&next.last(), 4);
}

#[test]
fn a_slow_reader_stops_nobody_and_loses_nothing() {
    let home = Home::new();
    let server = Server::start(&home, &slow(&home), &["--parallel", "2"]);
    // Some megabytes, more than the system holds for a connection that nobody reads from.
    let fields = json!({"model": "m", "logprobs": true, "top_logprobs": 20});
    let mut lazy = server.ask_with(&fields, LONG);
    for _ in 0..3 {
        let mut call = server.ask("m", 20);
        assert_eq!(call.status(), 200);
        whole(&call.last(), 20);
    }
    assert_eq!(lazy.status(), 200);
    whole(&lazy.last(), LONG);
    let tokens = lazy.lines.iter().filter_map(|l| l["logprobs"].as_array()).map(Vec::len);
    assert_eq!(tokens.sum::<usize>(), LONG);
}

#[test]
fn half_open_connections_stop_nobody() {
    let home = Home::new();
    let server = Server::start(&home, &home.tiny(), &[]);
    let half = |_| {
        let mut stream = server.connect();
        stream.write_all(b"POST /api/generate HTTP/1.1\r\nHost: loc").unwrap();
        stream
    };
    let open: Vec<TcpStream> = (0..200).map(half).collect();
    let mut call = server.ask("m", 4);
    assert_eq!(call.status(), 200);
    whole(&call.last(), 4);
    assert_eq!(open.len(), 200);
}

#[test]
fn a_signal_lets_streams_end_and_refuses_new_ones() {
    let home = Home::new();
    let mut server = Server::start(&home, &slow(&home), &["--grace", "3600"]);
    let mut streams = server.streams(8);
    server.signal();
    let refusal = server.refuses().last();
    assert!(refusal["error"].as_str().unwrap().contains("shutting down"), "{refusal}");
    for stream in &mut streams {
        whole(&stream.last(), LONG);
    }
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn after_the_deadline_streams_are_told() {
    let home = Home::new();
    let mut server = Server::start(&home, &slow(&home), &["--grace", "0"]);
    let mut streams = server.streams(8);
    server.signal();
    for stream in &mut streams {
        let last = stream.last();
        assert!(last["error"].is_string(), "cut without a word: {last}");
    }
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn a_second_signal_is_obeyed_at_once() {
    let home = Home::new();
    let mut server = Server::start(&home, &slow(&home), &["--grace", "3600"]);
    let mut witness = server.witness();
    server.signal();
    server.refuses();
    server.signal();
    server.child.wait().unwrap();
    let last = witness.last();
    assert_ne!(last["done"], true, "it waited for the answer: {last}");
}

#[test]
fn a_model_that_does_not_fit_is_an_error_with_numbers_and_no_more() {
    let home = Home::new();
    let server = Server::start(&home, &slow(&home), &["--memory", "32"]);
    let mut call = server.ask("m", 4);
    assert_eq!(call.status(), 500);
    let error = call.last()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("not enough memory") && error.matches("MiB").count() == 2, "{error}");
    home.hob(&["import", "--reference", "--name", "small", text(&home.tiny())]).ok();
    let mut call = server.ask("small", 4);
    assert_eq!(call.status(), 200);
    whole(&call.last(), 4);
}
