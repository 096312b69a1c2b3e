//! HTTP against servers that keep the protocol, break it, and break down.

use std::fs;
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
    assert_eq!(server.asked(), [None]);
    // Once it is here, nobody is asked again.
    let (again, events) = pull(&hub);
    assert_eq!(again.unwrap().path, model.path);
    assert_eq!((server.asked().len(), events), (1, vec![Progress::Done]));
}

#[test]
fn progress_rises_to_the_total() {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    let (result, events) = pull(&hub(root.path(), &content(LEN), &[hugging_face()], &server.url));
    result.unwrap();
    assert_eq!(
        events.first(),
        Some(&Progress::Resolving { source: "Hugging Face org/repo".into() })
    );
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
fn a_cut_connection_is_resumed() {
    let cuts = [1_500_000, 1_000_000];
    let (_root, hub, server, result) = pull_from(move |r| {
        let reply = Reply::proper(r, &content(LEN));
        cuts.get(r.number).map_or_else(|| Reply::proper(r, &content(LEN)), |n| reply.cut(*n))
    });
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    assert_eq!(server.asked(), [None, Some(1_500_000), Some(2_500_000)]);
    assert_eq!(server.sent(), LEN as u64);
}

#[test]
fn a_second_pull_goes_on_where_the_first_ended() {
    let root = TempDir::new().unwrap();
    let gone = Server::start(|r| {
        if r.number == 0 {
            Reply::whole(&content(LEN)).cut(2_000_000)
        } else {
            Reply::status("404 Not Found")
        }
    });
    let first = hub(root.path(), &content(LEN), &[hugging_face()], &gone.url);
    assert!(matches!(reason(&first, pull(&first).0), SourceError::Status(404)));
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    let second = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let (result, events) = pull(&second);
    assert_stored(&second, &result.unwrap(), &content(LEN));
    assert_eq!(server.asked(), [Some(2_000_000)]);
    assert!(events.contains(&Progress::Verifying { done: 2_000_000, total: 2_000_000 }));
}

#[test]
fn a_server_without_ranges_starts_again() {
    let (_root, hub, server, result) = pull_from(|r| {
        let whole = Reply::whole(&content(LEN));
        if r.number == 0 { whole.cut(1_200_000) } else { whole }
    });
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    assert_eq!(server.asked(), [None, Some(1_200_000)]);
}

#[test]
fn a_wrong_part_is_not_joined() {
    let (_root, hub, server, result) = pull_from(|r| match r.number {
        0 => Reply::whole(&content(LEN)).cut(1_200_000),
        1 => Reply::rest(&content(LEN), 1_100_000),
        _ => Reply::proper(r, &content(LEN)),
    });
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    assert_eq!(server.asked(), [None, Some(1_200_000), None]);
}

#[test]
fn a_damaged_partial_file_costs_one_clean_restart() {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    for (left, asked) in [
        (vec![0; 1_000_000], vec![Some(1_000_000), None]),
        (vec![0; LEN], vec![None]),
        (vec![0; LEN + 1], vec![None]),
    ] {
        let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
        hub.store.prepare().unwrap();
        fs::write(root.path().join(format!("partial/sha256-{}", sha256(&content(LEN)))), left)
            .unwrap();
        let before = server.asked().len();
        assert_stored(&hub, &pull(&hub).0.unwrap(), &content(LEN));
        assert_eq!(server.asked()[before..], asked);
        hub.remove("tiny").unwrap();
    }
}

#[test]
fn a_complete_partial_file_needs_no_server() {
    let root = TempDir::new().unwrap();
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], "http://127.0.0.1:1");
    hub.store.prepare().unwrap();
    fs::write(root.path().join(format!("partial/sha256-{}", sha256(&content(LEN)))), content(LEN))
        .unwrap();
    assert_stored(&hub, &pull(&hub).0.unwrap(), &content(LEN));
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
    assert_eq!(server.asked().len(), 1);
    // Nothing wrong is kept for a resume.
    let partial = root.path().join(format!("partial/sha256-{}", sha256(&content(LEN))));
    assert_eq!(fs::metadata(partial).unwrap().len(), 0);
}

#[test]
fn another_length_is_refused() {
    for len in [LEN - 1, LEN + 1, LEN * 2] {
        let (_root, hub, server, result) = pull_from(move |r| Reply::proper(r, &content(len)));
        let SourceError::Length { expected, found } = reason(&hub, result) else { panic!() };
        assert_eq!((expected, found, server.asked().len()), (LEN as u64, len as u64, 1));
    }
}

#[test]
fn untold_lengths_are_counted() {
    let (_root, hub, _server, result) =
        pull_from(|_| Reply::whole(&content(LEN)).without_headers());
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    let (root, hub, _server, result) =
        pull_from(|_| Reply::whole(&content(LEN * 2)).without_headers());
    assert!(matches!(reason(&hub, result), SourceError::Length { .. }));
    let partial = root.path().join(format!("partial/sha256-{}", sha256(&content(LEN))));
    assert_eq!(fs::metadata(partial).unwrap().len(), 0);
    let (_root, hub, _server, result) =
        pull_from(|_| Reply::whole(&content(LEN - 9)).without_headers());
    assert!(matches!(reason(&hub, result), SourceError::Interrupted { .. }));
}

#[test]
fn passing_trouble_is_waited_out() {
    let (_root, hub, server, result) = pull_from(|r| match r.number {
        0 => Reply::status("503 Service Unavailable"),
        1 => Reply::status("429 Too Many Requests").header("Retry-After: 0".into()),
        _ => Reply::proper(r, &content(LEN)),
    });
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    assert_eq!(server.asked().len(), 3);
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
fn a_server_that_never_lets_the_file_end_is_given_up() {
    // Whole answers break off, resumes get the wrong part: going back and forth is no progress.
    let (_root, hub, server, result) = pull_from(|r| match r.from {
        None => Reply::whole(&content(LEN)).cut(2_000_000),
        Some(_) => Reply::rest(&content(LEN), 5),
    });
    assert!(matches!(reason(&hub, result), SourceError::Interrupted { failures: 3, .. }));
    assert!(server.asked().len() <= 4, "{:?}", server.asked());
}

#[test]
fn silence_is_noticed() {
    let start = Instant::now();
    let (_root, hub, _server, result) = pull_from(|r| match r.number {
        0 => Reply::whole(&content(LEN)).cut(1_000_000).stall(Duration::from_secs(60)),
        _ => Reply::proper(r, &content(LEN)),
    });
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    let (_root, hub, _server, result) = pull_from(|r| match r.path.as_str() {
        "/elsewhere" => Reply::proper(r, &content(LEN)),
        _ => Reply::status("302 Found").header("Location: /elsewhere".into()),
    });
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    let (_root, hub, server, result) =
        pull_from(|_| Reply::status("302 Found").header("Location: /again".into()));
    assert!(matches!(reason(&hub, result), SourceError::Unreachable(_)));
    assert!(server.asked().len() <= 7);
}

#[test]
fn the_next_source_takes_over_and_keeps_the_bytes() {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| match (r.path.as_str(), r.number) {
        ("/ms/models/o/r/resolve/master/g.gguf", _) => Reply::proper(r, &content(LEN)),
        (_, 0) => Reply::whole(&content(LEN)).cut(1_000_000),
        _ => Reply::status("404 Not Found"),
    });
    let model_scope =
        json!({"kind": "model-scope", "repo": "o/r", "revision": "master", "path": "g.gguf"});
    let hub = hub(root.path(), &content(LEN), &[hugging_face(), model_scope], &server.url);
    let (result, events) = pull(&hub);
    let model = result.unwrap();
    assert_stored(&hub, &model, &content(LEN));
    assert_eq!(model.facts.unwrap().source, "ModelScope o/r");
    assert_eq!(server.asked(), [None, Some(1_000_000), Some(1_000_000)]);
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
