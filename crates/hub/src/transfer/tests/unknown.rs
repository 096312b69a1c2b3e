//! Files of which neither length nor digest is known beforehand.

use super::*;

fn nothing_known() -> Scene {
    let mut scene = Scene::new(&content(LEN));
    (scene.bytes, scene.digest) = (None, None);
    scene
}

#[test]
fn the_first_answer_tells_the_length() {
    let server = decent();
    nothing_known().right(&[&server.url], &content(LEN));
    assert!(server.asked().len() > 1);
    let small = Server::start(|r| Reply::proper(r, &content(10)));
    nothing_known().right(&[&small.url], &content(10));
    let empty = Server::start(|r| Reply::proper(r, b""));
    nothing_known().right(&[&empty.url], b"");
    assert!(empty.asked().len() <= 2);
}

#[test]
fn a_stream_ends_where_it_ends() {
    for (data, requests) in [(content(LEN), 1), (content(PART as usize * 2), 1), (vec![], 1)] {
        let copy = data.clone();
        let server = Server::start(move |_| Reply::whole(&copy).without_headers());
        nothing_known().right(&[&server.url], &data);
        assert_eq!(server.asked().len(), requests);
    }
    let server = server(|_, data| Reply::whole(data));
    nothing_known().right(&[&server.url], &content(LEN));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_part_without_a_total_is_asked_for_as_a_whole() {
    let server = server(|r, data| match r.from {
        Some(_) => {
            let reply = Reply::part(data, 0, 5).without_headers();
            reply.header("Content-Range: bytes 0-4/*".into())
        }
        None => Reply::whole(data),
    });
    nothing_known().right(&[&server.url], &content(LEN));
    assert_eq!(server.asked(), [Some(0), None]);
}

#[test]
fn a_broken_stream_starts_over_a_bounded_number_of_times() {
    let chunked = |data: &[u8], whole: bool| {
        let mut body = format!("{:x}\r\n", data.len()).into_bytes();
        body.extend_from_slice(data);
        body.extend_from_slice(if whole { b"\r\n0\r\n\r\n" } else { b"\r\n" });
        Reply::whole(&body).without_headers().header("Transfer-Encoding: chunked".into())
    };
    let server = super::server(move |r, data| chunked(data, r.number == 2));
    nothing_known().right(&[&server.url], &content(LEN));
    assert_eq!(server.asked().len(), 3);
    let server = super::server(move |_, data| chunked(data, false));
    let mut scene = nothing_known();
    assert!(matches!(scene.reason(&server.url), SourceError::Interrupted { .. }));
    assert!(server.asked().len() <= 4, "{} requests", server.asked().len());
}

#[test]
fn a_file_that_got_another_length_is_fetched_anew() {
    let server = Server::start(|r| match r.number {
        0..4 => Reply::proper(r, &content(LEN - 1000)),
        _ => Reply::proper(r, &content(LEN)),
    });
    let mut scene = nothing_known();
    scene.right(&[&server.url], &content(LEN));
}
