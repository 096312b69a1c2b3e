//! An HTTP/1.1 response taken apart as its bytes arrive: status, headers, and the `data:` lines of an event stream. As little as
//! measuring needs, because the client shares two cores with the server. Deliberately absent: whatever the servers measured do not send.

use anyhow::{Context, Result, bail};

/// Most bytes of a head, and of one line of a body.
const MOST: usize = 1 << 20;

/// Status and the headers that matter.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    /// `Retry-After`, as it came.
    pub retry_after: Option<String>,
    chunked: bool,
    length: Option<usize>,
}

/// A response of which some bytes have come.
#[derive(Default)]
pub struct Response {
    pub head: Option<Head>,
    /// Whether the body has come to its proper end.
    pub complete: bool,
    /// Bytes not yet looked at.
    raw: Vec<u8>,
    /// Of the body: bytes left in this chunk, or in all.
    left: usize,
    /// The body's line in progress.
    line: Vec<u8>,
}

impl Response {
    /// Takes bytes; tells `line` every line of the body that they end.
    pub fn push(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) -> Result<()> {
        self.raw.extend_from_slice(bytes);
        if self.head.is_none() {
            let Some(end) = find(&self.raw, b"\r\n\r\n") else {
                return bounded(&self.raw);
            };
            let head = Head::parse(&self.raw[..end])?;
            self.raw.drain(..end + 4);
            self.left = head.length.unwrap_or(0);
            self.complete = head.length == Some(0);
            self.head = Some(head);
        }
        let chunked = self.head.as_ref().is_some_and(|head| head.chunked);
        let mut at = 0;
        while at < self.raw.len() && !self.complete {
            if self.left == 0 && chunked {
                let Some(end) = find(&self.raw[at..], b"\r\n") else { break };
                // The end of a chunk is an empty line before the size of the next.
                if end > 0 {
                    self.left = size(&self.raw[at..at + end])?;
                    self.complete = self.left == 0;
                }
                at += end + 2;
                continue;
            }
            let lengthless = !chunked && self.head.as_ref().is_some_and(|h| h.length.is_none());
            let take = self.raw.len() - at;
            let take = if lengthless { take } else { take.min(self.left) };
            lines(&mut self.line, &self.raw[at..at + take], &mut line);
            bounded(&self.line)?;
            at += take;
            self.left -= take.min(self.left);
            self.complete = !chunked && !lengthless && self.left == 0;
        }
        self.raw.drain(..at);
        bounded(&self.raw)
    }

    /// What a body without line ends holds.
    pub fn rest(&self) -> &[u8] {
        &self.line
    }
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Head> {
        let text = std::str::from_utf8(bytes).context("a response's head is no text")?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok());
        let status = status.with_context(|| format!("no status line: {text:?}"))?;
        let mut head = Head { status, retry_after: None, chunked: false, length: None };
        for (name, value) in lines.filter_map(|l| l.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "transfer-encoding" => head.chunked = value.eq_ignore_ascii_case("chunked"),
                "content-length" => head.length = Some(value.parse()?),
                "retry-after" => head.retry_after = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(head)
    }
}

/// Completes lines with bytes of the body.
fn lines(held: &mut Vec<u8>, bytes: &[u8], line: &mut impl FnMut(&[u8])) {
    let mut parts = bytes.split(|&b| b == b'\n').peekable();
    while let Some(part) = parts.next() {
        held.extend_from_slice(part);
        if parts.peek().is_some() {
            line(held.trim_ascii_end());
            held.clear();
        }
    }
}

fn size(line: &[u8]) -> Result<usize> {
    let digits = line.split(|&b| b == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits)?.trim();
    usize::from_str_radix(digits, 16).with_context(|| format!("{digits:?} is no chunk's size"))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

fn bounded(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MOST {
        bail!("more than {MOST} bytes without an end");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a response that comes in pieces of `step` bytes.
    fn read(text: &str, step: usize) -> (Response, Vec<String>) {
        let (mut response, mut lines) = (Response::default(), Vec::new());
        for piece in text.as_bytes().chunks(step) {
            let note = |line: &[u8]| lines.push(String::from_utf8(line.to_vec()).unwrap());
            response.push(piece, note).unwrap();
        }
        (response, lines)
    }

    #[test]
    fn chunks_and_lines_need_not_agree() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
            6\r\ndata: \r\n8;x=y\r\n1\n\ndata:\r\nA\r\n 2\n\n: ping\r\n1\r\n\n\r\n0\r\n\r\n";
        for step in [1, 2, 7, text.len()] {
            let (response, lines) = read(text, step);
            assert_eq!(lines, ["data: 1", "", "data: 2", "", ": ping"], "{step}");
            assert!(response.complete);
            assert_eq!(response.head.unwrap().status, 200);
        }
        let (cut, _) = read(&text[..text.len() - 6], 9);
        assert!(!cut.complete);
    }

    #[test]
    fn a_refusal_has_a_length_and_says_when_to_come_back() {
        let text =
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\ncontent-length: 4\r\n\r\nbusy";
        let (response, lines) = read(text, 5);
        assert!(response.complete && lines.is_empty());
        assert_eq!(response.rest(), b"busy");
        let head = response.head.unwrap();
        assert_eq!((head.status, head.retry_after.as_deref()), (503, Some("2")));
    }

    #[test]
    fn without_a_length_the_body_ends_with_the_connection() {
        let (response, lines) = read("HTTP/1.0 200 OK\r\n\r\na\nb\nc", 3);
        assert_eq!(lines, ["a", "b"]);
        assert!(!response.complete && response.rest() == b"c");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"]
        {
            assert!(Response::default().push(text.as_bytes(), |_| ()).is_err());
        }
    }
}
