//! Processes that die while they pull, and processes that pull the same file: this test binary starts itself as the other process.

use std::process::{Child, Command, Stdio};
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
fn killed_pulls_leave_a_sound_store_and_lose_little() {
    kill_pulls(25);
}

#[test]
#[ignore = "takes a minute"]
fn two_hundred_killed_pulls() {
    kill_pulls(200);
}

/// Kills so many pulls, each after another time. A model that got stored meanwhile is removed, so that the next pull begins anew.
fn kill_pulls(kills: u64) {
    let root = TempDir::new().unwrap();
    let data = content(LEN);
    let sent = data.clone();
    let server =
        Server::start(move |r| Reply::proper(r, &sent).paced(16 << 10, Duration::from_millis(10)));
    let hub = hub(root.path(), &data, &[hugging_face()], &server.url);
    hub.store.prepare().unwrap();
    let (mut stored, mut resumed) = (0, 0);
    let mut random = content(2 * kills as usize).into_iter().map(u64::from);
    for _ in 0..kills {
        let partial = !names_in(&root.path().join("parts")).is_empty();
        let before = server.asked().len();
        let mut child = start(root.path(), &server.url);
        let time = random.next().unwrap() | random.next().unwrap() << 8;
        std::thread::sleep(Duration::from_micros(5_000 + time * 2));
        child.kill().unwrap();
        child.wait().unwrap();
        let first = server.asked().get(before).copied();
        resumed += u64::from(partial && first.is_some_and(|from| from.is_some_and(|n| n > 0)));
        let listing = hub.list().unwrap();
        assert_eq!(listing.damaged, []);
        if let Some(model) = listing.models.first() {
            assert!(std::fs::read(&model.path).unwrap() == data, "stored bytes differ");
            hub.remove("tiny").unwrap();
            stored += 1;
        }
    }
    assert!(resumed > 0, "no pull was ever resumed");
    let model = pull(&hub).0.unwrap();
    assert_stored(&hub, &model, &data);
    // A part per connection, and what was on its way when the process died, may be sent again; nothing more.
    let (connections, part, on_its_way) = (4, 64 << 10, 32 << 10);
    let twice = server.sent().saturating_sub((stored + 1) * LEN as u64);
    println!("{kills} kills, {resumed} resumed, {stored} stored, {twice} bytes sent twice");
    assert!(twice <= kills * connections * (part + on_its_way), "{twice} bytes were sent twice");
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
    while server.sent() < 100_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let waiting = AtomicBool::new(false);
    let model = std::thread::scope(|s| {
        let puller = s.spawn(|| {
            hub.pull("tiny", &Wishes::plain(), &mut |p| {
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
    let twice = server.sent() - LEN as u64;
    assert!(twice <= 4 * (96 << 10), "{twice} bytes were sent twice");
}
