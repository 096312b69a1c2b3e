//! What an earlier transfer left: used as far as it is right, never trusted.

use std::fs;

use super::*;

/// A scene where a transfer ended after so many requests, and the bytes that it got.
fn interrupted(requests: usize) -> (Scene, u64) {
    let server = server(move |r, data| match r.number {
        n if n < requests => Reply::proper(r, data),
        _ => Reply::status("404 Not Found"),
    });
    let mut scene = Scene::new(&content(LEN));
    let reason = scene.reason(&server.url);
    assert!(matches!(reason, SourceError::Status(404)), "{reason:?}");
    (scene, server.sent())
}

/// Fetches the rest; how many bytes were sent for it.
fn rest(scene: &mut Scene) -> u64 {
    let server = decent();
    scene.right(&[&server.url], &content(LEN));
    server.sent()
}

#[test]
fn only_what_is_missing_is_fetched() {
    for requests in [1, 3, 9] {
        let (mut scene, before) = interrupted(requests);
        assert!(before > 0);
        assert_eq!(rest(&mut scene), LEN as u64 - before);
    }
}

#[test]
fn a_map_that_is_missing_garbled_or_of_another_file_means_starting_over() {
    type Change = fn(&mut Scene);
    let changes: [Change; 5] = [
        |s| fs::remove_file(s.map()).unwrap(),
        |s| fs::write(s.map(), b"garbage").unwrap(),
        |s| fs::write(s.map(), []).unwrap(),
        |s| s.options.part = 2 * PART,
        |s| {
            let mut bytes = fs::read(s.map()).unwrap();
            bytes[30] ^= 1;
            fs::write(s.map(), bytes).unwrap();
        },
    ];
    for change in changes {
        let (mut scene, _) = interrupted(5);
        change(&mut scene);
        assert_eq!(rest(&mut scene), LEN as u64);
    }
    let (mut scene, _) = interrupted(5);
    let mut other = content(LEN);
    other[0] ^= 1;
    scene.digest = Some(digest(&other));
    let server = Server::start(move |r| {
        let mut other = content(LEN);
        other[0] ^= 1;
        Reply::proper(r, &other)
    });
    scene.right(&[&server.url], &{
        let mut other = content(LEN);
        other[0] ^= 1;
        other
    });
    assert_eq!(server.sent(), LEN as u64);
}

#[test]
fn a_partial_file_that_is_gone_or_short_is_fetched_as_far_as_needed() {
    let (mut scene, _) = interrupted(9);
    fs::remove_file(scene.partial()).unwrap();
    assert_eq!(rest(&mut scene), LEN as u64);
    rest(&mut scene);
    let file = fs::OpenOptions::new().write(true).open(scene.partial()).unwrap();
    file.set_len(10 * PART + 7).unwrap();
    assert_eq!(rest(&mut scene), LEN as u64 - 10 * PART);
    file.set_len(LEN as u64 + 100).unwrap();
    assert_eq!(rest(&mut scene), 0);
}

#[test]
fn a_complete_file_needs_no_server() {
    let mut scene = Scene::new(&content(LEN));
    rest(&mut scene);
    let fetched = scene.right(&["http://127.0.0.1:1"], &content(LEN));
    assert_eq!(fetched.origin, "already here");
    let total = LEN as u64;
    // It is told every now and then, and at the end.
    assert!(scene.events.iter().all(|e| matches!(e, Progress::Verifying { .. })));
    assert_eq!(scene.events.last(), Some(&Progress::Verifying { done: total, total }));
    scene.right(&[], &content(LEN));
}

#[test]
fn damaged_parts_are_mended_and_no_others_fetched() {
    let mut scene = Scene::new(&content(LEN));
    rest(&mut scene);
    for damaged in [vec![0], vec![15], vec![3, 4, 11]] {
        let mut bytes = content(LEN);
        for part in &damaged {
            bytes[part * PART as usize + 99] ^= 0x80;
        }
        fs::write(scene.partial(), bytes).unwrap();
        let server = decent();
        scene.right(&[&server.url], &content(LEN));
        let mut asked = server.asked();
        asked.sort_unstable();
        let starts: Vec<_> = damaged.iter().map(|part| Some(part * PART as usize)).collect();
        assert_eq!(asked, starts);
        assert!(server.sent() <= damaged.len() as u64 * PART);
    }
}

#[test]
fn a_map_that_agrees_with_wrong_bytes_costs_one_transfer() {
    // All checksums fit, the whole does not: an earlier process was lied to.
    let mut wrong = content(LEN);
    wrong[500_000] ^= 1;
    let mut scene = Scene::new(&wrong);
    let copy = wrong.clone();
    let liar = Server::start(move |r| Reply::proper(r, &copy));
    scene.right(&[&liar.url], &wrong);
    let mut map = fs::read(scene.map()).unwrap();
    scene.digest = Some(digest(&content(LEN)));
    let header = map::Identity { total: LEN as u64, part: PART, digest: scene.digest, tag: 0 };
    let fresh = scene.folder.path().join("fresh");
    map::Map::create(&fresh, &header).unwrap();
    let start = fs::read(&fresh).unwrap();
    map[..start.len()].copy_from_slice(&start);
    fs::write(scene.map(), map).unwrap();
    assert_eq!(rest(&mut scene), LEN as u64);
}

#[test]
fn without_a_digest_only_the_same_edition_goes_on() {
    let tagged = |tag: &'static str| {
        server(move |r, data| Reply::proper(r, data).header(format!("ETag: \"{tag}\"")))
    };
    for (tag, saved) in [("a", true), ("b", false)] {
        let first = server(|r, data| match r.number {
            0..6 => Reply::proper(r, data).header("ETag: \"a\"".into()),
            _ => Reply::status("404 Not Found"),
        });
        let mut scene = Scene::new(&content(LEN));
        scene.digest = None;
        scene.reason(&first.url);
        let second = tagged(tag);
        scene.right(&[&second.url], &content(LEN));
        assert_eq!(first.sent() + second.sent() == LEN as u64, saved);
        // Complete, it still has to be asked whether it is the same.
        let third = tagged(tag);
        scene.right(&[&third.url], &content(LEN));
        assert_eq!(third.asked().len(), 1);
        let fourth = tagged("c");
        scene.right(&[&fourth.url], &content(LEN));
        assert!(fourth.sent() >= LEN as u64);
    }
}
