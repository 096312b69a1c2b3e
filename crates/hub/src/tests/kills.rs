//! Processes killed at random instants while they pull or rename models: whatever the instant, the store lists nothing half, what has
//! arrived is used, and at most one part per connection is sent again. This test binary starts itself as the process that dies.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::server::{Reply, Request, Server};
use super::*;
use crate::manifest::CONFIG_TYPE;

const LEN: usize = 4_000_000;
/// As `settings` has them.
const CONNECTIONS: u64 = 4;
const PART: u64 = 64 << 10;
/// What the server sends at a time.
const PIECE: usize = 16 << 10;
/// What it hands to the network that a process which dies never reads: until it notices, some pieces.
const ON_ITS_WAY: u64 = 4 * PIECE as u64;
/// Of a map of parts: its header, and a record for each part.
const HEADER: usize = 72;
const RECORD: usize = 16;

/// A model and where it comes from.
struct Scene {
    reference: &'static str,
    /// Its files as they are fetched.
    blobs: Vec<Vec<u8>>,
    /// Of a model of a registry.
    manifest: Option<Vec<u8>>,
}

/// One file of many parts, of the catalogue.
fn one_file() -> Scene {
    Scene { reference: "tiny", blobs: vec![content(LEN)], manifest: None }
}

/// As registries have them: two files of weights, small texts, and a manifest over them.
fn layers() -> Scene {
    let mut projector = content(500_001);
    projector[0] ^= 1;
    let blobs: [(&str, Vec<u8>); 6] = [
        ("application/vnd.ollama.image.model", content(LEN)),
        ("application/vnd.ollama.image.projector", projector),
        ("application/vnd.ollama.image.template", b"{{ .Prompt }}".to_vec()),
        ("application/vnd.ollama.image.license", vec![b'l'; 90_000]),
        ("application/vnd.ollama.image.params", b"{\"temperature\":0.6}".to_vec()),
        (CONFIG_TYPE, b"{\"model_format\":\"gguf\"}".to_vec()),
    ];
    let layer = |(kind, data): &(&str, Vec<u8>)| {
        let digest = format!("sha256:{}", sha256(data));
        json!({"mediaType": kind, "digest": digest, "size": data.len()})
    };
    let all: Vec<Value> = blobs.iter().map(layer).collect();
    let manifest = json!({"schemaVersion": 2, "config": all[5], "layers": all[..5]}).to_string();
    let blobs = blobs.into_iter().map(|(_, data)| data).collect();
    Scene { reference: "me/mine:v1", blobs, manifest: Some(manifest.into_bytes()) }
}

impl Scene {
    fn hub(&self, root: &Path, url: &str) -> Hub {
        hub(root, &content(LEN), &[hugging_face()], url)
    }

    /// Slow enough to be killed at work.
    fn serve(&self) -> Server {
        let blobs: BTreeMap<String, Vec<u8>> =
            self.blobs.iter().map(|data| (sha256(data), data.clone())).collect();
        let (first, manifest) = (self.blobs[0].clone(), self.manifest.clone());
        Server::start(move |r: &Request| {
            let slow = |data| Reply::proper(r, data).paced(PIECE, Duration::from_millis(10));
            match (r.path.rsplit_once("sha256:"), &manifest) {
                (Some((_, digest)), _) => slow(&blobs[digest]),
                (None, Some(manifest)) => Reply::whole(manifest),
                (None, None) => slow(&first),
            }
        })
    }

    /// Bytes of the model that a store has for sure, by its maps of parts.
    fn kept(&self, root: &Path) -> u64 {
        let of_blob = |data: &Vec<u8>| {
            let map = fs::read(root.join(format!("parts/sha256-{}", sha256(data))));
            let map = map.unwrap_or_default();
            let records = map.get(HEADER..).unwrap_or_default().chunks_exact(RECORD);
            let here = records.enumerate().filter(|(_, record)| record.iter().any(|b| *b != 0));
            let len = |at: usize| PART.min(data.len() as u64 - at as u64 * PART);
            here.map(|(at, _)| len(at)).sum::<u64>()
        };
        self.blobs.iter().map(of_blob).sum()
    }

    /// Whether these are the model's files, whole.
    fn is_whole(&self, hub: &Hub) -> bool {
        let blob = |data: &Vec<u8>| hub.root().join(format!("blobs/sha256-{}", sha256(data)));
        self.blobs.iter().all(|data| fs::read(blob(data)).is_ok_and(|bytes| bytes == *data))
    }

    /// Kills so many pulls, each at another time. A model that got stored meanwhile is removed, so that the next pull begins anew.
    fn kill_pulls(&self, kills: u64) {
        let root = TempDir::new().unwrap();
        let server = self.serve();
        let hub = self.hub(root.path(), &server.url);
        hub.store.prepare().unwrap();
        let (mut stored, mut resumed, mut most, mut costly) = (0, 0, 0, 0);
        let mut random = content(2 * kills as usize).into_iter().map(u64::from);
        let manifests = self.manifest.as_ref().map_or(0, |m| m.len() as u64);
        for kill in 0..kills {
            let (kept, sent, asked) = (self.kept(root.path()), server.sent(), server.asked().len());
            let time = random.next().unwrap() | random.next().unwrap() << 8;
            let mut child = start(self.reference, root.path(), &server.url);
            // Some begin with something to resume, and some get to ask for the rest of it, however slow the machine.
            match kill % 3 {
                0 => until(&mut child, || self.kept(root.path()) > 0),
                1 => until(&mut child, || server.sent() > sent + manifests),
                _ => {}
            }
            kill_after(child, 5_000 + time * 6);
            server.settle();
            let asked = (server.asked().len() - asked) as u64;
            let lost = (kept + server.sent() - sent).saturating_sub(self.kept(root.path()));
            let bound = CONNECTIONS * (PART + ON_ITS_WAY) + manifests;
            // A process that was not let run before its end has left more unread on its way.
            costly += u64::from(lost > bound);
            most = most.max(lost.saturating_sub(manifests));
            resumed += u64::from(kept > 0 && asked > 0);
            let listing = hub.list().unwrap();
            assert_eq!(listing.damaged, []);
            if !listing.models.is_empty() {
                assert!(self.is_whole(&hub), "stored bytes differ");
                hub.remove(self.reference).unwrap();
                stored += 1;
            }
        }
        assert!(resumed > 0, "no pull was ever resumed");
        assert!(
            costly <= kills / 6,
            "{costly} of {kills} kills lost much, one of them {most} bytes"
        );
        let (kept, sent) = (self.kept(root.path()), server.sent());
        hub.pull(self.reference, &Wishes::plain(), &mut |_| ()).unwrap();
        let all: u64 = self.blobs.iter().map(|data| data.len() as u64).sum();
        assert_eq!(server.sent() - sent, all - kept + manifests, "what was kept is not fetched");
        assert!(self.is_whole(&hub));
        assert_eq!(hub.verify(&[], &mut |_| ()).unwrap(), []);
        assert_eq!(names_in(&root.path().join("partial")), [""; 0]);
        println!(
            "{}: {kills} kills, {resumed} resumed, {stored} stored, at most {most} bytes lost at once",
            self.reference
        );
    }
}

/// Not a test of its own: what the process that dies does.
#[test]
#[ignore = "run by the tests beside it, as another process"]
fn other_process() {
    let var = |name| std::env::var(name).ok();
    let (Some(root), Some(url), Some(work)) =
        (var("HOB_TEST_ROOT"), var("HOB_TEST_URL"), var("HOB_TEST_WORK"))
    else {
        return;
    };
    let mut hub = one_file().hub(Path::new(&root), &url);
    if work == "copies" {
        for n in 0.. {
            let name = format!("copy:{}", n % 5);
            hub.copy("tiny", &name).unwrap();
            if n % 3 == 0 {
                hub.remove(&name).unwrap();
            }
        }
    }
    let patience = Patience { stall: Duration::from_secs(60), ..hub.settings.net.patience.clone() };
    hub.settings.net = Net::new(patience);
    hub.pull(&work, &Wishes::plain(), &mut |_| ()).unwrap();
}

fn start(work: &str, root: &Path, url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kills::other_process", "--ignored"])
        .env("HOB_TEST_ROOT", root)
        .env("HOB_TEST_URL", url)
        .env("HOB_TEST_WORK", work)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for something that the process does, or for its end.
fn until(child: &mut Child, done: impl Fn() -> bool) {
    while !done() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill_after(mut child: Child, microseconds: u64) {
    std::thread::sleep(Duration::from_micros(microseconds));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn killed_pulls_of_a_file_leave_a_sound_store_and_lose_little() {
    one_file().kill_pulls(12);
}

#[test]
fn killed_pulls_of_layers_leave_a_sound_store_and_lose_little() {
    layers().kill_pulls(12);
}

#[test]
#[ignore = "takes a minute: cargo xtask pulls"]
fn two_hundred_killed_pulls_of_a_file() {
    one_file().kill_pulls(200);
}

#[test]
#[ignore = "takes a minute: cargo xtask pulls"]
fn two_hundred_killed_pulls_of_layers() {
    layers().kill_pulls(200);
}

#[test]
fn killed_copies_and_removals_leave_whole_models() {
    kill_copies(15);
}

#[test]
#[ignore = "takes a minute: cargo xtask pulls"]
fn two_hundred_killed_copies() {
    kill_copies(200);
}

/// Kills processes that give a model other names and take them away: what is listed is whole, and the model itself stays.
fn kill_copies(kills: u64) {
    let root = TempDir::new().unwrap();
    let scene = one_file();
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    let hub = scene.hub(root.path(), &server.url);
    pull(&hub).0.unwrap();
    let (mut random, mut seen) = (content(2 * kills as usize).into_iter().map(u64::from), 0);
    for _ in 0..kills {
        let time = random.next().unwrap() | random.next().unwrap() << 8;
        let mut child = start("copies", root.path(), &server.url);
        if seen < 2 {
            until(&mut child, || hub.list().unwrap().models.len() > 1);
        }
        kill_after(child, 5_000 + time);
        let listing = hub.list().unwrap();
        assert_eq!(listing.damaged, []);
        assert!(listing.models.iter().any(|model| model.name == "tiny:1b") && scene.is_whole(&hub));
        seen = seen.max(listing.models.len());
    }
    assert!(seen > 1, "no copy was ever made");
    assert_eq!(server.sent(), LEN as u64);
    println!("{kills} kills while copying and removing");
}
