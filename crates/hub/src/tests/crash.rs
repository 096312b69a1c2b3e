//! Processes that die while they pull, and processes that pull the same file: this test binary starts itself as the other process.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::server::{Reply, Server};
use super::*;

const LEN: usize = 4_000_000;
const KILLS: u64 = 25;

/// Not a test of its own: what the other process does.
#[test]
#[ignore = "run by the tests beside it, as another process"]
fn other_process() {
    let (Ok(root), Ok(url)) = (std::env::var("HOB_TEST_ROOT"), std::env::var("HOB_TEST_URL"))
    else {
        return;
    };
    let mut hub = hub(Path::new(&root), &content(LEN), &[hugging_face()], &url);
    hub.settings.patience.stall = Duration::from_secs(60);
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
fn killed_pulls_leave_a_sound_store_and_lose_little() {
    let root = TempDir::new().unwrap();
    let slow = |r: &super::server::Request| {
        Reply::proper(r, &content(LEN)).paced(16 << 10, Duration::from_millis(4))
    };
    let server = Server::start(slow);
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    hub.store.prepare().unwrap();
    for round in 0..KILLS {
        let mut child = start(root.path(), &server.url);
        std::thread::sleep(Duration::from_millis(20 + round * 37 % 90));
        child.kill().unwrap();
        child.wait().unwrap();
        let listing = hub.list().unwrap();
        assert_eq!(listing.damaged, []);
        assert!(
            listing.models.is_empty()
                || std::fs::read(&listing.models[0].path).unwrap() == content(LEN)
        );
    }
    let before = server.asked();
    assert!(
        before.iter().any(|from| from.is_some_and(|n| n > 0)),
        "no pull was ever resumed: {before:?}"
    );
    assert!(before.windows(2).all(|w| w[0] <= w[1]), "bytes were lost: {before:?}");
    let model = pull(&hub).0.unwrap();
    assert_stored(&hub, &model, &content(LEN));
    // What was on its way when a process died may be sent again, nothing more.
    let in_flight = KILLS * (64 << 10);
    assert!(server.sent() <= LEN as u64 + in_flight, "{} bytes were sent", server.sent());
}

#[test]
fn two_processes_share_one_download() {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| {
        Reply::proper(r, &content(LEN)).paced(64 << 10, Duration::from_millis(10))
    });
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let mut other = start(root.path(), &server.url);
    while server.asked().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (result, events) = pull(&hub);
    assert_stored(&hub, &result.unwrap(), &content(LEN));
    assert!(other.wait().unwrap().success());
    assert_eq!(server.asked(), [None]);
    assert_eq!((events.first(), events.last()), (Some(&Progress::Waiting), Some(&Progress::Done)));
}

#[test]
fn the_waiting_one_takes_over_from_a_killed_one() {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| match r.number {
        0 => Reply::whole(&content(LEN)).cut(1_000_000).stall(Duration::from_secs(60)),
        _ => Reply::proper(r, &content(LEN)),
    });
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let mut other = start(root.path(), &server.url);
    while server.sent() < 1_000_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let waiting = AtomicBool::new(false);
    let model = std::thread::scope(|s| {
        let puller = s.spawn(|| {
            hub.pull("tiny", &mut |p| {
                if p == Progress::Waiting {
                    waiting.store(true, Ordering::SeqCst);
                }
            })
        });
        while !waiting.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        other.kill().unwrap();
        other.wait().unwrap();
        puller.join().unwrap().unwrap()
    });
    assert_stored(&hub, &model, &content(LEN));
    let asked = server.asked();
    assert!(asked.len() == 2 && asked[1].is_some_and(|n| n > 0), "{asked:?}");
}
