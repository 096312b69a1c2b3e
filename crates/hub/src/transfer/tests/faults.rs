//! One origin that breaks the protocol, breaks down, or is in trouble: the right bytes or a typed error, after a bounded number of
//! requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use super::*;

/// The file comes out right from this server, after at most so many requests.
fn survives(
    most: usize,
    answer: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> Server {
    survives_with(Scene::new(&content(LEN)), most, answer)
}

fn survives_with(
    mut scene: Scene,
    most: usize,
    answer: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> Server {
    let server = server(answer);
    scene.right(&[&server.url], &content(LEN));
    assert!(server.asked().len() <= most, "{} requests", server.asked().len());
    server
}

/// This server is given up, after at most so many requests.
fn fails(
    most: usize,
    answer: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static,
) -> SourceError {
    let server = server(answer);
    let reason = Scene::new(&content(LEN)).reason(&server.url);
    assert!(server.asked().len() <= most, "{} requests", server.asked().len());
    reason
}

/// Bears little silence, and more failures than usual: on a busy machine some are silences of its own.
fn impatient() -> Scene {
    let mut scene = Scene::new(&content(LEN));
    (scene.patience.stall, scene.patience.failures) = (Duration::from_millis(400), 20);
    scene
}

fn without_ranges(data: &[u8]) -> Reply {
    Reply::whole(data)
}

#[test]
fn nothing_is_sent_twice_when_every_connection_breaks() {
    let data = content(9_000_000);
    let copy = data.clone();
    let server = Server::start(move |r| Reply::proper(r, &copy).cut(1_000_000));
    let mut scene = Scene::new(&data);
    scene.options.part = 4 << 20;
    scene.right(&[&server.url], &data);
    assert_eq!(server.sent(), data.len() as u64);
    assert!(server.asked().len() <= 12, "{:?}", server.asked());
}

#[test]
fn a_server_that_ignores_ranges_sends_the_whole_once() {
    let server = survives(2, |_, data| without_ranges(data));
    assert!(server.sent() <= LEN as u64 + (6 << 20));
    // Broken off, it has to start again, and what is there is passed over.
    let server = survives(4, |r, data| match r.number {
        0..2 => without_ranges(data).cut(900_000),
        _ => without_ranges(data),
    });
    assert_eq!(server.asked().last(), Some(&None));
}

#[test]
fn a_wrong_part_is_not_joined() {
    survives(4, |r, data| match r.from {
        Some(from) => Reply::rest(data, from + 1),
        None => without_ranges(data),
    });
    let reason = fails(8, |_, data| Reply::rest(data, 5));
    assert!(matches!(reason, SourceError::Interrupted { done: 0, failures: 3, .. }), "{reason:?}");
}

#[test]
fn a_part_that_does_not_say_which_it_is_is_refused() {
    let reason = fails(8, |r, data| match r.from {
        Some(from) => Reply::rest(data, from).without_headers(),
        None => Reply::status("206 Partial Content"),
    });
    assert!(matches!(reason, SourceError::Interrupted { done: 0, .. }), "{reason:?}");
}

#[test]
fn shorter_parts_than_asked_for_will_do() {
    let server = survives(60, |r, data| match (r.from, r.to) {
        (Some(from), Some(to)) => Reply::part(data, from, to.min(from + 40_000)),
        _ => panic!(),
    });
    assert_eq!(server.sent(), LEN as u64);
}

#[test]
fn longer_parts_than_asked_for_will_do() {
    survives(40, |r, data| Reply::rest(data, r.from.unwrap()));
}

#[test]
fn another_length_is_refused() {
    for len in [LEN - 1, LEN + 1, LEN * 2, 10] {
        let reason = fails(1, move |r, _| Reply::proper(r, &content(len)));
        let SourceError::Length { expected, found } = reason else { panic!("{reason:?}") };
        assert_eq!((expected, found), (LEN as u64, len as u64));
    }
}

#[test]
fn untold_lengths_are_counted() {
    survives(2, |_, data| without_ranges(data).without_headers());
    let reason = fails(2, |_, _| without_ranges(&content(LEN * 2)).without_headers());
    assert!(matches!(reason, SourceError::Length { .. }), "{reason:?}");
    let reason = fails(5, |_, data| without_ranges(data).cut(LEN - 9).without_headers());
    assert!(matches!(reason, SourceError::Interrupted { .. }), "{reason:?}");
}

#[test]
fn silence_is_noticed() {
    let server = survives_with(impatient(), 40, |r, data| match r.number {
        0..2 => Reply::proper(r, data).cut(10_000).stall(Duration::from_secs(60)),
        _ => Reply::proper(r, data),
    });
    // What came before the silence is kept.
    let asked = server.asked();
    let goes_on = |first: &Option<usize>| asked[2..].contains(&first.map(|at| at + 10_000));
    assert!(asked[..2].iter().any(goes_on), "{asked:?}");
}

#[test]
fn a_server_that_never_lets_the_file_end_is_given_up() {
    // Whole answers break off, and ranges are wrong: going back and forth is no progress.
    let reason = fails(8, |r, data| match r.from {
        None => without_ranges(data).cut(700_000),
        Some(_) => Reply::rest(data, 5),
    });
    assert!(matches!(reason, SourceError::Interrupted { failures: 3, done: 700_000, .. }));
    let reason = fails(8, |r, data| Reply::proper(r, data).cut(0));
    assert!(matches!(reason, SourceError::Interrupted { failures: 3, done: 0, .. }));
}

#[test]
fn redirects_are_followed_but_not_for_ever() {
    survives(60, |r, data| match r.path.as_str() {
        "/elsewhere" => Reply::proper(r, data),
        _ => Reply::status("302 Found").header("Location: /elsewhere".into()),
    });
    let reason = fails(9, |_, _| Reply::status("302 Found").header("Location: /again".into()));
    assert!(matches!(reason, SourceError::Unreachable(_)));
    let reason = fails(1, |_, _| Reply::status("302 Found").header("Location: file:///etc".into()));
    assert!(matches!(reason, SourceError::Unreachable(_)));
}

#[test]
fn lasting_trouble_ends_at_once_and_passing_trouble_after_bounded_tries() {
    for status in ["404 Not Found", "401 Unauthorized", "403 Forbidden", "410 Gone"] {
        assert!(matches!(fails(1, move |_, _| Reply::status(status)), SourceError::Status(_)));
    }
    for status in ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"]
    {
        let reason = fails(3, move |_, _| Reply::status(status));
        assert!(matches!(reason, SourceError::Interrupted { failures: 3, done: 0, .. }));
    }
    survives(40, |r, data| match r.number {
        0 => Reply::status("503 Service Unavailable"),
        1 => Reply::status("504 Gateway Timeout"),
        13 => Reply::status("500 Internal Server Error"),
        _ => Reply::proper(r, data),
    });
}

#[test]
fn a_server_may_ask_for_a_pause() {
    let in_two_seconds = || {
        let then = SystemTime::now() + Duration::from_secs(2);
        httpdate::fmt_http_date(then)
    };
    for header in [|| "1".to_owned(), in_two_seconds] {
        let server = server(move |r, data| match r.number {
            0 => {
                let reply = Reply::status("429 Too Many Requests");
                reply.header(format!("Retry-After: {}", header()))
            }
            _ => Reply::proper(r, data),
        });
        let mut scene = Scene::new(&content(LEN));
        scene.patience.stall = Duration::from_secs(5);
        let start = Instant::now();
        scene.right(&[&server.url], &content(LEN));
        assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
    }
    // An hour is not granted: no longer than a silence is borne.
    survives_with(impatient(), 40, |r, data| match r.number {
        0 => Reply::status("503 Service Unavailable").header("Retry-After: 3600".into()),
        _ => Reply::proper(r, data),
    });
}

#[test]
fn a_server_that_bears_few_connections_gets_few() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let server = server(move |r, data| {
        if r.busy > 2 {
            count.fetch_add(1, Ordering::SeqCst);
            return Reply::status("429 Too Many Requests");
        }
        Reply::proper(r, data).paced(16 << 10, Duration::from_millis(5))
    });
    Scene::new(&content(LEN)).right(&[&server.url], &content(LEN));
    assert!(refused.load(Ordering::SeqCst) <= 4, "refused {refused:?} times");
    assert_eq!(server.sent(), LEN as u64);
}

#[test]
fn an_expired_address_is_asked_for_again() {
    // How often each ticket was used; each is good for four requests.
    let tickets = Arc::new(Mutex::new(Vec::new()));
    let issued = tickets.clone();
    let server = server(move |r, data| {
        let mut issued = issued.lock().unwrap();
        let Some(ticket) = r.path.strip_prefix("/signed/") else {
            issued.push(0);
            return Reply::status("302 Found")
                .header(format!("Location: /signed/{}", issued.len() - 1));
        };
        let used: &mut usize = &mut issued[ticket.parse::<usize>().unwrap()];
        *used += 1;
        if *used <= 4 { Reply::proper(r, data) } else { Reply::status("403 Forbidden") }
    });
    Scene::new(&content(LEN)).right(&[&format!("{}/f", server.url)], &content(LEN));
    assert_eq!(server.sent(), LEN as u64);
    let tickets = tickets.lock().unwrap().len();
    assert!((4..16).contains(&tickets), "{tickets} tickets for 16 parts");
}

#[test]
fn a_refused_range_is_asked_for_as_a_whole() {
    let server = survives(3, |r, data| match r.from {
        Some(_) => Reply::status("416 Range Not Satisfiable"),
        None => without_ranges(data),
    });
    assert_eq!(server.asked().last(), Some(&None));
    let reason = fails(2, |_, _| Reply::status("416 Range Not Satisfiable"));
    assert!(matches!(reason, SourceError::Status(416)));
    let reason = fails(1, |_, _| {
        Reply::status("416 Range Not Satisfiable").header("Content-Range: bytes */7".into())
    });
    assert!(matches!(reason, SourceError::Length { found: 7, .. }));
}

#[test]
fn a_replaced_file_is_fetched_anew_once() {
    let old = |r: &Request, data: &[u8]| {
        let other: Vec<u8> = data.iter().map(|b| b ^ 1).collect();
        Reply::proper(r, &other).header("ETag: \"old\"".into())
    };
    let new = |r: &Request, data: &[u8]| Reply::proper(r, data).header("ETag: \"new\"".into());
    for digest in [true, false] {
        let server = server(move |r, data| if r.number < 5 { old(r, data) } else { new(r, data) });
        let mut scene = Scene::new(&content(LEN));
        scene.digest = scene.digest.filter(|_| digest);
        scene.right(&[&server.url], &content(LEN));
        assert!(server.sent() < 2 * LEN as u64);
    }
    // One that keeps changing is given up if nothing else tells whether the bytes are right.
    let changing =
        || server(|r, data| Reply::proper(r, data).header(format!("ETag: \"{}\"", r.number / 3)));
    let mut scene = Scene::new(&content(LEN));
    scene.digest = None;
    let server = changing();
    assert!(matches!(scene.reason(&server.url), SourceError::Changed));
    assert!(server.asked().len() <= 16, "{} requests", server.asked().len());
    // With a digest, servers that disagree about the tag of the same bytes will do.
    let server = changing();
    Scene::new(&content(LEN)).right(&[&server.url], &content(LEN));
    assert!(server.sent() < 2 * LEN as u64);
}

#[test]
fn a_compressed_answer_is_no_file() {
    let reason = fails(4, |r, data| Reply::proper(r, data).header("Content-Encoding: gzip".into()));
    assert!(matches!(reason, SourceError::Interrupted { done: 0, .. }), "{reason:?}");
}

#[test]
fn another_content_is_refused_after_one_transfer() {
    let server = server(|r, data| {
        let mut other = data.to_vec();
        other[LEN / 2] ^= 1;
        Reply::proper(r, &other)
    });
    let mut scene = Scene::new(&content(LEN));
    assert!(matches!(scene.reason(&server.url), SourceError::Content { .. }));
    assert_eq!(server.sent(), LEN as u64);
    assert_eq!(std::fs::metadata(scene.partial()).unwrap().len(), 0);
    assert!(!scene.map().exists());
}

#[test]
fn nobody_there_is_said_at_once() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = Instant::now();
    let reason = Scene::new(&content(LEN)).reason(&format!("http://{unused}"));
    assert!(matches!(reason, SourceError::Unreachable(_)));
    assert!(start.elapsed() < Duration::from_secs(5));
}
