//! Processes that pull the same file, and one that takes over from another that died: this test binary starts itself as the other
//! process. `kills` has those that die alone.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::server::{Reply, Server};
use super::*;

const LEN: usize = 4_000_000;

/// Not a test of its own: what the other process does.
#[test]
#[ignore = "run by the tests beside it, as another process"]
fn other_process() {
    let (Ok(root), Ok(url)) = (std::env::var("HOB_TEST_ROOT"), std::env::var("HOB_TEST_URL"))
    else {
        return;
    };
    let mut hub = hub(Path::new(&root), &content(LEN), &[hugging_face()], &url);
    let patience = Patience { stall: Duration::from_secs(60), ..hub.settings.net.patience.clone() };
    hub.settings.net = Net::new(patience);
    pull(&hub).0.unwrap();
}

fn start(root: &Path, url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::crash::other_process", "--ignored"])
        .env("HOB_TEST_ROOT", root)
        .env("HOB_TEST_URL", url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn two_processes_share_one_download() {
    let root = TempDir::new().unwrap();
    let waiting = Arc::new(AtomicBool::new(false));
    let told = waiting.clone();
    let server = Server::start(move |r| {
        eventually(|| told.load(Ordering::SeqCst));
        Reply::proper(r, &content(LEN)).paced(64 << 10, Duration::from_millis(10))
    });
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let mut other = start(root.path(), &server.url);
    eventually(|| !server.asked().is_empty());
    let mut events = Vec::new();
    let result = hub.pull("tiny", &Wishes::plain(), &mut |p| {
        waiting.fetch_or(p == Progress::Waiting, Ordering::SeqCst);
        events.push(p);
    });
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    assert!(other.wait().unwrap().success());
    assert_eq!(server.sent(), LEN as u64);
    assert_eq!((events.first(), events.last()), (Some(&Progress::Waiting), Some(&Progress::Done)));
}

#[test]
fn the_waiting_one_takes_over_from_a_killed_one() {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| match r.number {
        0..8 => Reply::proper(r, &content(LEN)).paced(16 << 10, Duration::from_millis(20)),
        _ => Reply::proper(r, &content(LEN)),
    });
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let mut other = start(root.path(), &server.url);
    eventually(|| server.sent() >= 1_500_000);
    let waiting = AtomicBool::new(false);
    let model = std::thread::scope(|s| {
        let puller = s.spawn(|| {
            hub.pull("tiny", &Wishes::plain(), &mut |p| {
                if p == Progress::Waiting {
                    waiting.store(true, Ordering::SeqCst);
                }
            })
        });
        eventually(|| waiting.load(Ordering::SeqCst));
        other.kill().unwrap();
        other.wait().unwrap();
        puller.join().unwrap().unwrap()
    });
    assert_stored(&hub, &model, &content(LEN));
    let twice = server.sent() - LEN as u64;
    assert!(twice <= 4 * (160 << 10), "{twice} bytes were sent twice");
}
