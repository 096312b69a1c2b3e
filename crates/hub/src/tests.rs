//! Tests of the whole crate: a real hub on a temporary folder against a loopback server and a stand-in for pip.

mod crash;
mod crashes;
mod damage;
mod full;
#[cfg(unix)]
mod hf_cache;
mod hubs;
mod import;
mod kills;
mod mirror;
mod package;
mod peers;
mod pulls;
mod registry;
mod search;
pub(crate) mod server;
#[cfg(unix)]
mod shared;
mod stored;
mod traced;
mod transfer;
mod upload;
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::digest::Hasher;
use crate::net::{Net, Patience};
use crate::python::Pip;
use crate::settings::{First, Settings};
use crate::shared::Shared;
use crate::source::Hubs;
use crate::store::Store;
use crate::transfer::Options;
use crate::{Hub, HubError, LocalModel, Progress, Wishes};

/// Bytes without structure, the same each time.
pub(crate) fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(step).collect()
}

pub(crate) fn sha256(data: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(data);
    hasher.finish().to_string()
}

fn hugging_face() -> Value {
    json!({"kind": "hugging-face", "repo": "org/repo", "revision": "main", "path": "f.gguf"})
}

/// A hub that knows one model, `tiny:1b`, with this content and these sources.
fn hub(root: &Path, data: &[u8], sources: &[Value], url: &str) -> Hub {
    let file =
        json!({"recipe": "Q8_0", "bytes": data.len(), "sha256": sha256(data), "sources": sources});
    let entry = json!({"name": "tiny", "tag": "1b", "default": true, "architecture": "llama", "parameters": 7,
        "licence": "MIT", "files": [file]});
    Hub {
        store: Store::at(root.to_owned()),
        shared: Shared::default(),
        catalogue: Catalogue::parse(&json!([entry]).to_string()).unwrap(),
        settings: settings(root, url),
    }
}

/// Everything is at one address.
fn settings(root: &Path, url: &str) -> Settings {
    let patience = Patience {
        connect: Duration::from_secs(2),
        stall: Duration::from_secs(30),
        failures: 3,
        backoff: Duration::from_millis(5),
    };
    Settings {
        net: Net::new(patience),
        hubs: Hubs {
            hugging_face: url.to_owned(),
            hugging_face_token: None,
            model_scope: format!("{url}/ms"),
            model_scope_token: None,
        },
        registry: url.to_owned(),
        first: First::HuggingFace,
        options: Options { connections: 4, rate: None, part: 64 << 10 },
        pip: Pip { commands: Vec::new(), stall: Duration::from_secs(5) },
        hugging_face_cache: None,
        keys: vec![root.join("id_ed25519")],
    }
}

/// Waits for something that another thread or process does, and goes on after half a minute in any case: what follows
/// then says what is missing.
fn eventually(done: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !done() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn pull(hub: &Hub) -> (Result<LocalModel, HubError>, Vec<Progress>) {
    let mut events = Vec::new();
    let result = hub.pull("tiny", &Wishes::plain(), &mut |p| events.push(p));
    (result, events)
}

/// The model is stored, whole, and listed; nothing else lies about.
fn assert_stored(hub: &Hub, model: &LocalModel, data: &[u8]) {
    assert_eq!(model.name, "tiny:1b");
    assert!(std::fs::read(&model.path).unwrap() == data, "stored bytes differ");
    let listing = hub.list().unwrap();
    assert_eq!((listing.models, listing.damaged), (vec![model.clone()], vec![]));
    assert_eq!(hub.find("tiny:1b").unwrap().as_ref(), Some(model));
    let blobs = names_in(&hub.root().join("blobs"));
    assert!(blobs.len() == 2 && blobs.contains(&format!("sha256-{}", sha256(data))), "{blobs:?}");
    for folder in ["tmp", "partial"] {
        assert!(names_in(&hub.root().join(folder)).is_empty());
    }
}

/// Nothing is listed and no blob has its final name.
fn assert_empty(hub: &Hub) {
    assert_eq!(hub.list().unwrap(), crate::Listing::default());
    assert!(names_in(&hub.root().join("blobs")).is_empty());
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}
