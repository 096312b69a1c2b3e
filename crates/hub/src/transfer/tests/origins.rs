//! Several origins of one file: slow ones, dying ones and lying ones.

use super::*;

fn lying(r: &Request, data: &[u8]) -> Reply {
    let other: Vec<u8> = data.iter().map(|b| b ^ 0x55).collect();
    Reply::proper(r, &other)
}

#[test]
fn origins_of_equal_speed_share_the_work() {
    let pace =
        |r: &Request, data: &[u8]| Reply::proper(r, data).paced(16 << 10, Duration::from_millis(4));
    let (a, b) = (server(pace), server(pace));
    Scene::new(&content(LEN)).right(&[&a.url, &b.url], &content(LEN));
    assert_eq!(a.sent() + b.sent(), LEN as u64);
    assert!(a.sent() > PART && b.sent() > PART, "{} and {}", a.sent(), b.sent());
}

#[test]
fn a_slow_origin_does_not_hold_up_a_fast_one() {
    // The slow one would need minutes for its first run alone.
    let slow = server(|r, data| Reply::proper(r, data).paced(1 << 10, Duration::from_secs(1)));
    let fast = decent();
    let mut scene = Scene::new(&content(LEN));
    scene.patience.stall = Duration::from_secs(60);
    let fetched = scene.right(&[&slow.url, &fast.url], &content(LEN));
    assert_eq!(fetched.origin, "1");
    assert!(slow.asked().len() <= 2 && slow.sent() < PART, "{} bytes", slow.sent());
    assert!(fast.sent() <= LEN as u64 + 2 * PART);
}

#[test]
fn a_silent_origin_does_not_hold_up_another() {
    let silent = server(|r, data| Reply::proper(r, data).cut(1000).stall(Duration::from_secs(600)));
    let fast = decent();
    let mut scene = Scene::new(&content(LEN));
    scene.patience.stall = Duration::from_secs(300);
    scene.right(&[&silent.url, &fast.url], &content(LEN));
    assert!(fast.sent() <= LEN as u64 + 2 * PART && silent.asked().len() <= 2);
}

#[test]
fn another_origin_takes_over_and_keeps_the_bytes() {
    let dying = server(|r, data| match r.number {
        0..4 => Reply::proper(r, data).paced(16 << 10, Duration::from_millis(2)),
        _ => Reply::status("404 Not Found"),
    });
    let other = server(|r, data| Reply::proper(r, data).paced(16 << 10, Duration::from_millis(2)));
    let mut scene = Scene::new(&content(LEN));
    scene.right(&[&dying.url, &other.url], &content(LEN));
    assert_eq!(dying.sent() + other.sent(), LEN as u64);
    assert!(dying.asked().len() <= 4 + 4);
}

#[test]
fn all_origins_fail_with_a_reason_each() {
    let gone = server(|_, _| Reply::status("404 Not Found"));
    let broken = server(|_, _| Reply::status("500 Internal Server Error"));
    let short = server(|r, _| Reply::proper(r, &content(7)));
    let mut scene = Scene::new(&content(LEN));
    let reasons = scene.reasons(&[&gone.url, &broken.url, &short.url]);
    assert!(
        matches!(
            reasons.as_slice(),
            [SourceError::Status(404), SourceError::Interrupted { .. }, SourceError::Length { .. }]
        ),
        "{reasons:?}"
    );
    assert_eq!((gone.asked().len(), broken.asked().len(), short.asked().len()), (1, 3, 1));
    assert!(matches!(scene.reasons(&[]).as_slice(), []));
}

#[test]
fn an_origin_with_another_length_is_dropped() {
    let other = server(|r, _| Reply::proper(r, &content(LEN + 5)));
    let good = decent();
    let mut scene = Scene::new(&content(LEN));
    scene.right(&[&other.url, &good.url], &content(LEN));
    assert_eq!((scene.failed(), good.sent()), (vec!["0"], LEN as u64));
}

#[test]
fn an_origin_with_another_content_is_found_out() {
    let pace = |reply: Reply| reply.paced(16 << 10, Duration::from_millis(3));
    let good = server(move |r, data| pace(Reply::proper(r, data)));
    for bad_first in [true, false] {
        let bad = server(move |r, data| pace(lying(r, data)));
        let before = good.sent();
        let mut urls = vec![good.url.as_str(), bad.url.as_str()];
        if bad_first {
            urls.reverse();
        }
        let mut scene = Scene::new(&content(LEN));
        scene.right(&urls, &content(LEN));
        let liar = if bad_first { "0" } else { "1" };
        assert_eq!(scene.failed(), [liar]);
        assert!(bad.sent() + good.sent() - before <= 3 * LEN as u64);
    }
}

#[test]
fn when_all_lie_it_ends() {
    let (a, b) = (
        server(lying),
        server(|r, data| {
            let other: Vec<u8> = data.iter().map(|b| b ^ 0x0f).collect();
            Reply::proper(r, &other)
        }),
    );
    let mut scene = Scene::new(&content(LEN));
    let reasons = scene.reasons(&[&a.url, &b.url]);
    assert!(reasons.iter().all(|r| matches!(r, SourceError::Content { .. })), "{reasons:?}");
    assert!(a.sent() + b.sent() <= 4 * LEN as u64);
    assert!(!scene.map().exists());
}
