//! A bit that flips in the store: found by a full verification always, by a load when the file's time of change shows it, and mended by the
//! next pull, which fetches the broken part and nothing else.

use std::fs::{self, File, FileTimes};
use std::path::Path;

use tempfile::TempDir;

use super::server::{Reply, Server};
use super::*;

const LEN: usize = 1_000_000;
/// As `settings` has it.
const PART: u64 = 64 << 10;

fn filled() -> (TempDir, Hub, Server, LocalModel) {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    let model = pull(&hub).0.unwrap();
    (root, hub, server, model)
}

/// Flips one bit, as a disk does (the time of change stays) or as a program does.
fn flip(path: &Path, at: usize, by_a_program: bool) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(path, bytes).unwrap();
    if !by_a_program {
        let file = File::options().write(true).open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    }
}

/// The model is known as damaged and not handed out; the next pull mends it with so many bytes.
fn mends(hub: &Hub, server: &Server, at_most: u64) {
    assert!(matches!(hub.find("tiny"), Err(HubError::Damaged { .. })));
    let listing = hub.list().unwrap();
    assert!(listing.models.is_empty() && listing.damaged[0].reason.contains("pulling it repairs"));
    let sent = server.sent();
    let model = pull(hub).0.unwrap();
    assert_stored(hub, &model, &content(LEN));
    let again = server.sent() - sent;
    assert!((1..=at_most).contains(&again), "{again} bytes");
    assert_eq!(hub.verify(&[], &mut |_| ()).unwrap(), []);
    hub.check(&model, &mut |_| ()).unwrap();
}

#[test]
fn a_flipped_bit_is_found_and_its_part_alone_fetched() {
    let (_root, hub, server, model) = filled();
    for (at, by_a_program) in [(0, true), (500_000, true), (LEN - 1, false), (PART as usize, false)]
    {
        flip(&model.path, at, by_a_program);
        let findings = hub.verify(&[], &mut |_| ()).unwrap();
        assert_eq!(findings.len(), 1, "bit {at}");
        assert_eq!((findings[0].path.clone(), findings[0].set_aside), (model.path.clone(), true));
        mends(&hub, &server, PART);
    }
}

#[test]
fn a_load_notices_what_a_program_wrote() {
    let (_root, hub, server, model) = filled();
    flip(&model.path, 77_777, true);
    // The names say nothing of it yet, and a load does not get past its check.
    assert_eq!(hub.find("tiny").unwrap().as_ref(), Some(&model));
    assert!(matches!(hub.check(&model, &mut |_| ()), Err(HubError::Damaged { .. })));
    mends(&hub, &server, PART);
    // A program that wrote what was there before is forgiven, once and for all.
    let same = fs::read(&model.path).unwrap();
    fs::write(&model.path, same).unwrap();
    let mut read = 0;
    hub.check(&model, &mut |_| read += 1).unwrap();
    assert!(read > 0);
    hub.check(&model, &mut |_| panic!("it is read again")).unwrap();
}

#[test]
fn a_load_reads_nothing_while_nothing_was_written() {
    let (_root, hub, _server, model) = filled();
    flip(&model.path, 77_777, false);
    hub.check(&model, &mut |_| panic!("it is read")).unwrap();
    assert_eq!(hub.verify(&["tiny".to_owned()], &mut |_| ()).unwrap().len(), 1);
}

#[test]
fn several_bits_cost_a_part_each() {
    let (_root, hub, server, model) = filled();
    for at in [10, 200_000, 200_001, 999_999] {
        flip(&model.path, at, false);
    }
    assert_eq!(hub.verify(&[], &mut |_| ()).unwrap().len(), 1);
    mends(&hub, &server, 3 * PART);
}

#[test]
fn without_its_checksums_a_damaged_file_is_fetched_whole() {
    let (root, hub, server, model) = filled();
    flip(&model.path, 10, false);
    fs::remove_dir_all(root.path().join("parts")).unwrap();
    assert_eq!(hub.verify(&[], &mut |_| ()).unwrap().len(), 1);
    mends(&hub, &server, LEN as u64);
}

#[test]
fn a_damaged_configuration_is_made_again() {
    let (root, hub, server, model) = filled();
    let blobs = root.path().join("blobs");
    let weights = format!("sha256-{}", sha256(&content(LEN)));
    let config = names_in(&blobs).into_iter().find(|name| *name != weights).unwrap();
    flip(&blobs.join(&config), 5, true);
    assert!(matches!(hub.check(&model, &mut |_| ()), Err(HubError::Damaged { .. })));
    let sent = server.sent();
    let again = pull(&hub).0.unwrap();
    assert_eq!(again.path, model.path);
    assert_eq!((server.sent(), hub.verify(&[], &mut |_| ()).unwrap().len()), (sent, 0));
}
