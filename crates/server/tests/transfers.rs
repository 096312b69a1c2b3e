//! `/api/pull` and `/api/push` against a registry on this machine: what is told, that listeners share one transfer, and that it stops when
//! they have gone.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{Server, Setup, Stream};
use serde_json::{Value, json};

/// Bytes of a part of a transfer.
const PART: usize = 4 << 20;

/// A registry that keeps what is pushed. It sends no byte of a blob beyond the first part before it is told to.
struct Registry {
    address: SocketAddr,
    inside: Arc<Inside>,
}

#[derive(Default)]
struct Inside {
    shelf: Mutex<Shelf>,
    gate: Mutex<bool>,
    opened: Condvar,
}

#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<String, Vec<u8>>,
    manifest: Vec<u8>,
    upload: Vec<u8>,
    /// First byte of each request for a blob.
    asked: Vec<usize>,
    /// How often the manifest was asked for.
    begun: usize,
}

impl Registry {
    fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inside = Arc::new(Inside::default());
        let shared = inside.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inside = shared.clone();
                std::thread::spawn(move || drop(inside.serve(stream)));
            }
        });
        Registry { address, inside }
    }

    /// Has a model with these weights, which no model reads.
    fn with(weights: Vec<u8>) -> Registry {
        let registry = Registry::start();
        let layer = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
        let config = br#"{"model_format":"gguf","model_family":"llama"}"#.to_vec();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": layer("application/vnd.docker.container.image.v1+json", &config),
            "layers": [layer("application/vnd.ollama.image.model", &weights)],
        });
        let mut shelf = registry.inside.shelf.lock().unwrap();
        shelf.manifest = manifest.to_string().into_bytes();
        shelf.blobs.insert(digest(&weights), weights);
        shelf.blobs.insert(digest(&config), config);
        drop(shelf);
        registry
    }

    fn name(&self) -> String {
        format!("http://{}/me/model:v1", self.address)
    }

    fn open(&self) {
        *self.inside.gate.lock().unwrap() = true;
        self.inside.opened.notify_all();
    }

    /// First bytes of the requests for blobs so far.
    fn asked(&self) -> Vec<usize> {
        self.inside.shelf.lock().unwrap().asked.clone()
    }
}

impl Inside {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let (mut length, mut range) = (0, None);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "range" => range = value.trim().strip_prefix("bytes=").map(str::to_owned),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        self.answer(stream, method, target, range, body)
    }

    fn answer(
        &self,
        mut stream: TcpStream,
        method: &str,
        target: &str,
        range: Option<String>,
        body: Vec<u8>,
    ) -> std::io::Result<()> {
        let path = target.split('?').next().unwrap_or(target);
        let blob =
            path.strip_prefix("/v2/me/model/blobs/").filter(|rest| rest.starts_with("sha256"));
        let mut shelf = self.shelf.lock().unwrap();
        let (status, headers, bytes) = match (method, path, blob) {
            ("GET" | "HEAD", _, Some(digest)) => {
                let Some(bytes) = shelf.blobs.get(digest).cloned() else {
                    return head(&mut stream, 404, &[], 0);
                };
                if method == "HEAD" {
                    return head(&mut stream, 200, &[], bytes.len());
                }
                let from =
                    range.as_ref().map_or(0, |r| r.split('-').next().unwrap().parse().unwrap());
                shelf.asked.push(from);
                drop(shelf);
                return self.send(stream, &bytes, range);
            }
            ("GET", "/v2/me/model/manifests/v1", _) if !shelf.manifest.is_empty() => {
                shelf.begun += 1;
                (200, Vec::new(), shelf.manifest.clone())
            }
            ("POST", "/v2/me/model/blobs/uploads/", _) => {
                shelf.upload.clear();
                (202, vec![("Location", "/v2/me/model/blobs/uploads/1")], Vec::new())
            }
            ("PATCH", _, _) => {
                shelf.upload.extend(body);
                (202, vec![("Location", "/v2/me/model/blobs/uploads/1")], Vec::new())
            }
            ("PUT", "/v2/me/model/manifests/v1", _) => {
                shelf.manifest = body;
                (201, Vec::new(), Vec::new())
            }
            ("PUT", _, _) => {
                let bytes = std::mem::take(&mut shelf.upload);
                shelf.blobs.insert(digest(&bytes), bytes);
                (201, Vec::new(), Vec::new())
            }
            _ => (404, Vec::new(), Vec::new()),
        };
        drop(shelf);
        head(&mut stream, status, &headers, bytes.len())?;
        stream.write_all(&bytes)
    }

    fn send(
        &self,
        mut stream: TcpStream,
        all: &[u8],
        range: Option<String>,
    ) -> std::io::Result<()> {
        let (mut at, end) = match &range {
            Some(range) => {
                let (from, to) = range.split_once('-').unwrap();
                let end = to.parse().map_or(all.len(), |to: usize| (to + 1).min(all.len()));
                let from = from.parse().unwrap();
                let told = format!("bytes {from}-{}/{}", end - 1, all.len());
                head(&mut stream, 206, &[("Content-Range", &told)], end - from)?;
                (from, end)
            }
            None => {
                head(&mut stream, 200, &[], all.len())?;
                (0, all.len())
            }
        };
        while at < end {
            if at >= PART {
                let gate = self.gate.lock().unwrap();
                drop(self.opened.wait_while(gate, |open| !*open).unwrap());
            }
            let next = (at + (64 << 10)).min(end);
            stream.write_all(&all[at..next])?;
            at = next;
        }
        Ok(())
    }
}

fn head(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&str, &str)],
    length: usize,
) -> std::io::Result<()> {
    let mut text =
        format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all((text + "\r\n").as_bytes())
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hob_hub::sha256(bytes))
}

/// Bytes without structure, of two parts and a bit.
fn weights() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..2 * PART + 1000).map(step).collect()
}

fn pull(server: &Server, registry: &Registry) -> Stream {
    server.stream("/api/pull", &json!({"model": registry.name(), "insecure": true}))
}

fn rest(mut stream: Stream) -> Vec<Value> {
    std::iter::from_fn(|| stream.json_line()).collect()
}

/// Statuses without repetition.
fn statuses(lines: &[Value]) -> Vec<&str> {
    let mut all: Vec<&str> = lines.iter().map(|l| l["status"].as_str().unwrap_or("none")).collect();
    all.dedup();
    all
}

/// Reads until the first part has arrived.
fn first_part(stream: &mut Stream) {
    while let Some(line) = stream.json_line() {
        if line["completed"].as_u64() >= Some(PART as u64) {
            return;
        }
    }
    panic!("the transfer ended");
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_pull_tells_ollamas_statuses() {
    let weights = weights();
    let registry = Registry::with(weights.clone());
    registry.open();
    let server = Server::empty(Setup::default());
    let stream = pull(&server, &registry);
    assert_eq!(stream.header("content-type"), Some("application/x-ndjson"));
    let lines = rest(stream);
    let hex = &digest(&weights)[7..19];
    let told = statuses(&lines);
    assert_eq!(told[0], "pulling manifest");
    assert_eq!(told[1], format!("pulling {hex}"));
    assert!(told[2].starts_with("pulling "), "{told:?}");
    assert_eq!(told[3..], ["verifying sha256 digest", "writing manifest", "success"]);
    let layer: Vec<&Value> = lines.iter().filter(|l| l["digest"] == digest(&weights)).collect();
    assert!(layer.iter().all(|l| l["total"] == weights.len()));
    let completed: Vec<u64> = layer.iter().map(|l| l["completed"].as_u64().unwrap_or(0)).collect();
    assert!(completed.is_sorted(), "{completed:?}");
    let tags = server.get("/api/tags").ok();
    let name = format!("{}/me/model:v1", registry.address);
    assert_eq!(tags["models"][0]["name"], name);
    // Again: asked for, and all is here. Without a stream only the last word is told.
    let asked = registry.asked().len();
    let lines = rest(pull(&server, &registry));
    assert!(lines.iter().any(|l| l["completed"] == weights.len() && l["total"] == weights.len()));
    assert_eq!(registry.asked().len(), asked);
    let quiet = json!({"name": registry.name(), "insecure": true, "stream": false});
    assert_eq!(server.post("/api/pull", &quiet).ok(), json!({"status": "success"}));
}

#[test]
fn pulls_of_one_model_are_one_transfer() {
    let registry = Registry::with(weights());
    let server = Server::empty(Setup::default());
    let mut first = pull(&server, &registry);
    first_part(&mut first);
    let mut second = pull(&server, &registry);
    // Who comes later hears it from the beginning.
    assert_eq!(second.json_line().unwrap()["status"], "pulling manifest");
    first_part(&mut second);
    // Who leaves takes it from nobody.
    drop(first);
    registry.open();
    assert_eq!(rest(second).last().unwrap()["status"], "success");
    // (A part may be asked for twice even so, when a connection gets it slowly.)
    assert_eq!(registry.inside.shelf.lock().unwrap().begun, 1);
}

#[test]
fn a_pull_stops_when_nobody_listens_and_the_next_goes_on() {
    let registry = Registry::with(weights());
    let server = Server::empty(Setup::default());
    let mut stream = pull(&server, &registry);
    first_part(&mut stream);
    drop(stream);
    let partial = server.state.models.hub().root().join("partial");
    assert_eq!(std::fs::read_dir(&partial).unwrap().count(), 1);
    // A new one begins only when the one before has let go of the model's lock.
    let before = registry.asked().len();
    let again = pull(&server, &registry);
    eventually("asked again", || registry.asked().len() > before);
    registry.open();
    let lines = rest(again);
    assert_eq!(lines.last().unwrap()["status"], "success");
    let weights_asked: Vec<usize> =
        registry.asked()[before..].iter().copied().filter(|&from| from > 0).collect();
    assert!(weights_asked.iter().all(|&from| from >= PART), "{weights_asked:?}");
    // At most the configuration begins at zero.
    assert!(registry.asked()[before..].iter().filter(|&&from| from == 0).count() <= 1);
}

#[test]
fn a_pull_that_fails_says_why() {
    let server = Server::empty(Setup::default());
    let registry = Registry::start();
    let plain = json!({"model": registry.name()});
    let error = server.post("/api/pull", &plain).expect(400);
    assert_eq!(error["error"], "insecure protocol http");
    let lines = rest(pull(&server, &registry));
    assert_eq!(lines[0]["status"], "pulling manifest");
    let error = lines.last().unwrap()["error"].as_str().unwrap();
    assert!(error.starts_with("pull model manifest: "), "{error}");
    let quiet = json!({"model": registry.name(), "insecure": true, "stream": false});
    let reply = server.post("/api/pull", &quiet);
    assert!(reply.status >= 400, "{}", reply.body);
    for (name, status) in [("", 400), ("a b", 400), ("../../etc/passwd", 400)] {
        assert_eq!(server.post("/api/pull", &json!({"model": name})).status, status, "{name}");
    }
}

#[test]
fn what_is_pushed_can_be_pulled() {
    let registry = Registry::start();
    registry.open();
    let server = Server::start();
    let name = registry.name();
    let bare = name.strip_prefix("http://").unwrap();
    let copied = server.post("/api/copy", &json!({"source": "tiny", "destination": bare}));
    assert_eq!(copied.status, 200, "{}", copied.body);
    assert_eq!(
        server.post("/api/push", &json!({"model": name})).expect(400)["error"],
        "insecure protocol http"
    );
    let lines = rest(server.stream("/api/push", &json!({"model": name, "insecure": true})));
    let told = statuses(&lines);
    assert_eq!(told[0], "retrieving manifest");
    assert!(told[1].starts_with("pushing ") && told[1].len() == 20, "{told:?}");
    assert_eq!(told[told.len() - 2..], ["pushing manifest", "success"]);
    let other = Server::empty(Setup::default());
    assert_eq!(rest(pull(&other, &registry)).last().unwrap()["status"], "success");
    let ask = json!({"model": bare, "prompt": "x", "options": {"num_predict": 2}, "stream": false});
    assert_eq!(other.post("/api/generate", &ask).status, 200);
    assert_eq!(server.post("/api/push", &json!({"model": "nobody"})).status, 404);
}
