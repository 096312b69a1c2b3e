//! Pulls over HTTP, from the catalogue's sources to the store. What servers do wrong is the transfer engine's own tests' subject.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use super::server::{Reply, Request, Server};
use super::*;
use crate::SourceError;

const LEN: usize = 3_000_001;

/// A server with this behaviour, and the outcome of one pull from it.
fn pull_from(
    answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (TempDir, Hub, Server, Result<LocalModel, HubError>) {
    let root = TempDir::new().unwrap();
    let server = Server::start(answer);
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let result = pull(&hub).0;
    (root, hub, server, result)
}

/// The pull failed at its only source, for this reason, and left the store usable.
fn reason(hub: &Hub, result: Result<LocalModel, HubError>) -> SourceError {
    assert_empty(hub);
    match result {
        Err(HubError::AllSourcesFailed { mut tried, .. }) if tried.len() == 1 => {
            tried.remove(0).error
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_whole_file() {
    let (_root, hub, server, result) = pull_from(|r| {
        assert_eq!(r.path, "/org/repo/resolve/main/f.gguf");
        Reply::proper(r, &content(LEN))
    });
    let model = result.unwrap();
    assert_stored(&hub, &model, &content(LEN));
    let facts = model.facts.unwrap();
    assert_eq!(
        (facts.recipe.as_str(), facts.parameters, facts.source.as_str()),
        ("Q8_0", Some(7), "Hugging Face org/repo")
    );
    assert_eq!(server.sent(), LEN as u64);
    // Once it is here, nobody is asked again.
    let asked = server.asked();
    let (again, events) = pull(&hub);
    assert_eq!(again.unwrap().path, model.path);
    assert_eq!((server.asked(), events), (asked, vec![Progress::Done]));
}

#[test]
fn progress_rises_to_the_total() {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    let (result, events) = pull(&hub(root.path(), &content(LEN), &[hugging_face()], &server.url));
    result.unwrap();
    let resolving = Progress::Resolving { source: "Hugging Face org/repo".into() };
    assert!(events.contains(&resolving), "{events:?}");
    assert_eq!(events.last(), Some(&Progress::Done));
    let bytes: Vec<u64> = events
        .iter()
        .filter_map(|e| match e {
            Progress::Bytes { done, total } => {
                assert_eq!(*total, LEN as u64);
                Some(*done)
            }
            _ => None,
        })
        .collect();
    assert!(bytes.windows(2).all(|w| w[0] < w[1]));
    assert_eq!(bytes.last(), Some(&(LEN as u64)));
}

#[test]
fn a_second_pull_goes_on_where_the_first_ended() {
    let root = TempDir::new().unwrap();
    let gone = Server::start(|r| match r.number {
        0..10 => Reply::proper(r, &content(LEN)),
        _ => Reply::status("404 Not Found"),
    });
    let first = hub(root.path(), &content(LEN), &[hugging_face()], &gone.url);
    assert!(matches!(reason(&first, pull(&first).0), SourceError::Status(404)));
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    let second = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let (result, events) = pull(&second);
    assert_stored(&second, &result.unwrap(), &content(LEN));
    assert_eq!(gone.sent() + server.sent(), LEN as u64);
    let first = events.iter().find_map(|e| match e {
        Progress::Bytes { done, .. } => Some(*done),
        _ => None,
    });
    assert!(first.is_some_and(|done| done >= gone.sent()), "{events:?}");
}

#[test]
fn other_content_is_refused() {
    let wrong = |r: &Request| {
        let mut data = content(LEN);
        data[LEN / 2] ^= 1;
        Reply::proper(r, &data)
    };
    let (root, hub, server, result) = pull_from(wrong);
    let SourceError::Content { expected, found } = reason(&hub, result) else { panic!() };
    assert_eq!(expected, sha256(&content(LEN)));
    assert_ne!(expected, found);
    assert_eq!(server.sent(), LEN as u64);
    // Nothing wrong is kept for a resume.
    let partial = root.path().join(format!("partial/sha256-{}", sha256(&content(LEN))));
    assert_eq!(fs::metadata(partial).unwrap().len(), 0);
}

#[test]
fn lasting_trouble_ends_after_bounded_tries() {
    let (_root, hub, server, result) = pull_from(|_| Reply::status("500 Internal Server Error"));
    assert!(matches!(reason(&hub, result), SourceError::Interrupted { failures: 3, done: 0, .. }));
    assert_eq!(server.asked().len(), 3);
    for status in ["404 Not Found", "401 Unauthorized", "410 Gone"] {
        let (_root, hub, server, result) = pull_from(move |_| Reply::status(status));
        assert!(matches!(reason(&hub, result), SourceError::Status(_)));
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn the_next_source_takes_over_and_keeps_the_bytes() {
    let root = TempDir::new().unwrap();
    let gone = AtomicBool::new(false);
    let server = Server::start(move |r| match (r.path.as_str(), r.number) {
        ("/ms/models/o/r/resolve/master/g.gguf", _) => {
            // It may not bring the end before the other is asked again.
            eventually(|| r.to != Some(LEN) || gone.load(Ordering::SeqCst));
            Reply::proper(r, &content(LEN))
        }
        (_, 0) => Reply::proper(r, &content(LEN)).cut(100_000),
        _ => {
            gone.store(true, Ordering::SeqCst);
            Reply::status("404 Not Found")
        }
    });
    let model_scope =
        json!({"kind": "model-scope", "repo": "o/r", "revision": "master", "path": "g.gguf"});
    let hub = hub(root.path(), &content(LEN), &[hugging_face(), model_scope], &server.url);
    let (result, events) = pull(&hub);
    let model = result.unwrap();
    assert_stored(&hub, &model, &content(LEN));
    assert_eq!(model.facts.unwrap().source, "ModelScope o/r");
    // Nothing but what the broken connection carried may come twice.
    assert!(server.sent() <= LEN as u64 + 100_000, "{}", server.sent());
    assert!(events.iter().any(|e| matches!(e, Progress::Failed { source, reason } if source.starts_with("Hugging") && reason.contains("404"))));
}

#[test]
fn nobody_there_is_said_at_once() {
    let root = TempDir::new().unwrap();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &format!("http://{unused}"));
    let start = Instant::now();
    assert!(matches!(reason(&hub, pull(&hub).0), SourceError::Unreachable(_)));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_file_larger_than_the_disk_is_not_begun() {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    let mut hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let json = json!([{"name": "tiny", "tag": "1b", "default": true, "architecture": "llama", "parameters": 7, "licence": "MIT",
        "files": [{"recipe": "F32", "bytes": 1u64 << 60, "sha256": sha256(b""), "sources": [hugging_face()]}]}]);
    hub.catalogue = Catalogue::parse(&json.to_string()).unwrap();
    let Err(HubError::NoSpace { needed, free, .. }) = pull(&hub).0 else { panic!() };
    assert!(needed == 1 << 60 && free < needed);
    assert!(server.asked().is_empty());
}
