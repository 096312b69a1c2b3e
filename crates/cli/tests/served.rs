//! Verbs that talk to a running server: a real one, as `hob serve` starts it, and others that are none or speak through a test.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Home, text};
use hob_testkit::{Family, Tiny};
use serde_json::{Value, json};

const TEMPLATE: &str =
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>";
const GREEDY: [&str; 4] = ["--temperature", "0", "--max-tokens", "12"];

/// `hob serve` in a home with a model called `tiny`.
struct Served {
    home: Home,
    child: Child,
    address: String,
}

impl Served {
    fn start() -> Served {
        let home = Home::new();
        let tiny = Tiny { template: Some(TEMPLATE), ..Tiny::new(Family::Llama) };
        let path = home.file("tiny.gguf", &tiny.bytes());
        home.hob(&["import", text(&path), "--name", "tiny"]).ok();
        let mut child = home.command(&["serve", "--host", "127.0.0.1:0"]).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).unwrap() > 0, "no server");
            if let Some((_, address)) = line.trim().split_once("listens on http://") {
                break address.to_owned();
            }
        };
        // Nobody reads what it says later; it must not wait for that.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Served { home, child, address }
    }

    /// A run that finds the server by its variable.
    fn hob(&self, args: &[&str]) -> common::Said {
        let mut command = self.home.command(args);
        common::said(command.env("HOB_HOST", &self.address).output().unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something on a port that answers every request with these lines of a head and this body, and remembers the heads of requests.
fn someone(head: &'static str, body: &'static str) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::new(Mutex::new(String::new()));
    let log = heard.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                    break;
                }
                let lower = line.to_lowercase();
                if let Some(n) = lower.strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
                log.lock().unwrap().push_str(&line);
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\n{head}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
        }
    });
    (address, heard)
}

#[test]
fn the_same_answer_comes_from_a_server_and_from_this_process() {
    let served = Served::start();
    for more in [&["Hello"][..], &["--raw", "Hello"], &["--system", "Be brief.", "Hello"]] {
        let args = [&["run", "tiny", "--json"][..], &GREEDY, more].concat();
        let theirs = served.hob(&args);
        assert!(theirs.err.contains("answered by http://"), "{}", theirs.err);
        let theirs = theirs.json();
        let ours = served.hob(&[&args[..], &["--local"]].concat());
        assert!(!ours.err.contains("answered by"), "{}", ours.err);
        let ours = ours.json();
        for key in ["model", "text", "tokens", "token_ids", "prompt_tokens", "finish_reason"] {
            assert_eq!(theirs[key], ours[key], "{more:?} {key}");
        }
        let keys =
            |v: &Value| v["timings"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&theirs), keys(&ours));
    }
    let args = [&["run", "tiny", "Hello"][..], &GREEDY].concat();
    let theirs = served.hob(&[&args[..], &["--verbose"]].concat());
    assert!(theirs.err.contains("eval count:           12 token(s)"), "{}", theirs.err);
    assert_eq!(theirs.ok(), served.hob(&[&args[..], &["--local"]].concat()).ok());
    // What belongs to loading is for this process.
    let threads = served.hob(&[&args[..], &["--threads", "1"]].concat());
    assert!(!threads.err.contains("answered by"), "{}", threads.err);
    // The model's own numbers are told, whichever way it is asked for.
    served.hob(&["run", "tiny", "--context", "64", &"x".repeat(100)]).fails(1, &["64"]);
}

#[test]
fn what_a_server_has_loaded_is_listed_and_stopped() {
    let served = Served::start();
    assert_eq!(served.hob(&["ps"]).ok(), "NAME    ID    SIZE    PROCESSOR    CONTEXT    UNTIL\n");
    served.hob(&[&["run", "tiny", "Hello", "--keepalive", "1h"][..], &GREEDY].concat()).ok();
    let listed = served.hob(&["ps"]).ok();
    let row = listed.lines().nth(1).unwrap();
    assert!(row.starts_with("tiny:latest "), "{listed}");
    assert!(row.contains("100% CPU ") && row.contains(" 1024 "), "{listed}");
    assert!(row.ends_with("59 minutes from now") || row.ends_with("1 hour from now"), "{listed}");
    let json = served.hob(&["ps", "ti", "--json"]).json();
    assert_eq!(json["models"][0]["name"], "tiny:latest");
    assert_eq!(served.hob(&["ps", "other", "--json"]).json(), json!({"models": []}));
    assert_eq!(served.hob(&["stop", "tiny"]).ok(), "");
    let begun = Instant::now();
    while served.hob(&["ps", "--json"]).json() != json!({"models": []}) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it stays");
    }
    assert_eq!(served.hob(&["stop", "tiny", "--json"]).json(), json!({"stopped": "tiny"}));
    served.hob(&["stop", "nobody"]).fails(1, &["model 'nobody' not found"]);
}

#[test]
fn a_list_is_the_servers() {
    let served = Served::start();
    let other = Home::new();
    let list = other.hob(&["list", "--host", &served.address]).ok();
    assert!(list.contains("\ntiny:latest "), "{list}");
    assert!(other.hob(&["list"]).ok().lines().count() == 1);
    let theirs = other.hob(&["list", "--json", "--host", &served.address]).json();
    assert_eq!(theirs, served.home.hob(&["list", "--json", "--local"]).json());
}

#[test]
fn where_nobody_listens() {
    let home = Home::new();
    let tiny = home.tiny();
    for verb in [&["ps"][..], &["stop", "tiny"]] {
        home.hob(verb).fails(1, &["no hob server at http://127.0.0.1:9", "hob serve"]);
    }
    let args = ["run", text(&tiny), "Hello", "--host", common::NOBODY];
    home.hob(&args).fails(1, &["a file is loaded in this process"]);
    home.hob(&["run", "tiny", "Hello", "--host", common::NOBODY]).fails(1, &["no hob server"]);
    home.hob(&["run", "tiny", "x", "--host", "x", "--local"]).fails(2, &["--local"]);
    home.hob(&["run", "tiny", "x", "--keepalive", "soon"]).fails(2, &["--keepalive"]);
}

#[test]
fn an_ollama_is_never_taken_for_hob() {
    let home = Home::new();
    let tiny = home.tiny();
    let (ollama, heard) = someone("", r#"{"version":"0.30.0","models":[]}"#);
    let run =
        |args: &[&str]| common::said(home.command(args).env("HOB_HOST", &ollama).output().unwrap());
    run(&["ps"]).fails(1, &["that is no hob"]);
    assert_eq!(run(&["list"]).ok().lines().count(), 1);
    home.hob(&["import", text(&tiny), "--name", "mine"]).ok();
    run(&[&["run", "mine", "Hello"][..], &GREEDY].concat()).ok();
    let heard = heard.lock().unwrap();
    assert!(!heard.contains("/api/generate") && !heard.contains("/api/tags"), "{heard}");
}

#[test]
fn another_version_of_hob_and_a_key() {
    let home = Home::new();
    let models = r#"{"models":[{"name":"m:1","digest":"0123456789abcdef","size":2000000,
        "size_vram":500000,"context_length":4096,"expires_at":"2318-01-01T00:00:00Z","new":{}}]}"#;
    let (address, heard) = someone("Server: hob/99.1.0\r\n", models);
    let mut command = home.command(&["ps", "--host", &address]);
    let listed = common::said(command.env("HOB_API_KEY", "s3cret").output().unwrap()).ok();
    let row = listed.lines().nth(1).unwrap();
    assert_eq!(row, "m:1     0123456789ab    2.0 MB    75%/25% CPU/GPU    4096       Forever");
    assert!(heard.lock().unwrap().to_lowercase().contains("authorization: bearer s3cret"));
}

#[test]
fn a_model_that_the_server_lacks_is_pulled_by_it() {
    let served = Served::start();
    let said = served.hob(&["run", "hf.co/org/repo", "Hello"]);
    // There is no network here, and it is the server that says so.
    assert!(said.err.contains("pulling manifest"), "{}", said.err);
    assert!(said.err.contains("pull model manifest: "), "{}", said.err);
    assert_eq!(said.code, Some(1));
}
