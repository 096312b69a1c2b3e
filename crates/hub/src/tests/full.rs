//! A disk that is full: said with what is needed and what is free, nothing half is visible, what has arrived stays, and once there is room
//! another pull of the same hub goes on. A pull does not wait for room by itself: it ends at once, and who started it decides.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use super::server::{Reply, Request, Server};
use super::*;
use crate::manifest::CONFIG_TYPE;

const LEN: usize = 1_000_000;
const DISK: u64 = 2 << 20;

/// A file system of its own, unmounted when dropped.
struct Small(TempDir);

impl Small {
    /// `None` where mounting is not allowed, which is said.
    fn mount() -> Option<Small> {
        let folder = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"]).arg(folder.path());
        if mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Some(Small(folder));
        }
        eprintln!("skipped: a small file system cannot be mounted here");
        None
    }

    fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Leaves so many bytes free, in whole pages.
    fn leave(&self, free: u64) {
        let _ = fs::remove_file(self.ballast());
        let all = fs4::available_space(self.0.path()).unwrap();
        fs::write(self.ballast(), vec![1; (all - free) as usize]).unwrap();
    }

    fn clear(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn server(answer: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |r| answer(r, &content(LEN)))
}

#[test]
fn a_file_that_does_not_fit_is_not_begun_and_comes_when_there_is_room() {
    let Some(disk) = Small::mount() else { return };
    let server = server(Reply::proper);
    let hub = hub(&disk.home(), &content(LEN), &[hugging_face()], &server.url);
    disk.leave(400_000);
    let Err(HubError::NoSpace { needed, free, .. }) = pull(&hub).0 else { panic!() };
    assert!(needed == LEN as u64 && free < 400_001 && free > 300_000, "{needed} {free}");
    assert!(server.asked().is_empty());
    disk.clear();
    let model = pull(&hub).0.unwrap();
    assert_stored(&hub, &model, &content(LEN));
    assert_eq!(server.sent(), LEN as u64);
}

#[test]
fn a_disk_that_fills_up_meanwhile_costs_nothing_that_has_arrived() {
    let Some(disk) = Small::mount() else { return };
    let (ballast, full) = (disk.ballast(), std::sync::Once::new());
    let server = server(move |r, data| {
        if r.number >= 6 {
            // Another program takes what is left.
            full.call_once(|| drop(fs::write(&ballast, vec![1; DISK as usize])));
        }
        Reply::proper(r, data)
    });
    let mut hub = hub(&disk.home(), &content(LEN), &[hugging_face()], &server.url);
    hub.settings.options.connections = 2;
    let (result, events) = pull(&hub);
    let Err(HubError::NoSpace { needed, free, .. }) = result else { panic!("{result:?}") };
    assert!(needed > 0 && needed <= LEN as u64 && free < 100_000, "{needed} {free}");
    assert!(!events.contains(&Progress::Done));
    assert_empty(&hub);
    // The ballast's room is free only once nobody is writing it any more.
    server.settle();
    // As long as nothing changes, nothing is asked for.
    let asked = server.asked().len();
    assert!(matches!(pull(&hub).0, Err(HubError::NoSpace { .. })));
    assert_eq!(server.asked().len(), asked);
    let sent = server.sent();
    disk.clear();
    let model = pull(&hub).0.unwrap();
    assert_stored(&hub, &model, &content(LEN));
    let again = server.sent() - sent;
    assert!(again < LEN as u64, "nothing was kept: {again} bytes");
}

/// A registry whose model is one layer, a configuration and the manifest.
fn registry() -> (Server, usize) {
    let config = b"{\"model_format\":\"gguf\"}";
    let layer = |kind: &str, data: &[u8]| json!({"mediaType": kind, "digest": format!("sha256:{}", sha256(data)), "size": data.len()});
    // Longer than any room that is left by chance.
    let manifest = json!({"schemaVersion": 2, "config": layer(CONFIG_TYPE, config), "layers": [layer("application/vnd.ollama.image.model",
        &content(LEN))], "annotations": {"a": "b".repeat(200_000)}})
    .to_string();
    let len = manifest.len();
    let answer = move |r: &Request, data: &[u8]| match r.path.strip_prefix("/v2/me/mine/").unwrap()
    {
        "manifests/v1" => Reply::whole(manifest.as_bytes()),
        path if path.ends_with(&sha256(config)) => Reply::proper(r, config),
        _ => Reply::proper(r, data),
    };
    (server(answer), len)
}

#[test]
fn a_manifest_that_does_not_fit_leaves_no_half_of_it() {
    let Some(disk) = Small::mount() else { return };
    let (server, len) = registry();
    let hub = hub(&disk.home(), &content(1), &[], &server.url);
    let wishes = Wishes::plain();
    let pull = || hub.pull("me/mine:v1", &wishes, &mut |_| ());
    hub.store.prepare().unwrap();
    // Room for the blobs, their checksums and folders, not for the manifest.
    disk.leave(LEN as u64 + 100_000);
    let Err(HubError::NoSpace { needed, free, .. }) = pull() else { panic!() };
    assert!(needed == len as u64 && free < needed, "{needed} {free}");
    assert_eq!(hub.list().unwrap(), crate::Listing::default());
    assert_eq!(hub.find("me/mine:v1").unwrap(), None);
    assert!(names_in(&hub.root().join("tmp")).is_empty());
    let sent = server.sent();
    disk.clear();
    let model = pull().unwrap();
    assert!(fs::read(&model.path).unwrap() == content(LEN));
    assert_eq!(server.sent() - sent, len as u64, "only the manifest is asked for again");
    assert_eq!(hub.verify(&[], &mut |_| ()).unwrap(), []);
}
