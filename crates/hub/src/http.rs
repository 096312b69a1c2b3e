//! One file over HTTP, resumed where it broke off (RFC 9110, ranges). All state is the partial file itself: every file is pinned by its
//! SHA-256, so no entity tag is needed to know whether two halves fit; a wrong mix fails the digest and is fetched again from the start,
//! once. Deliberately absent for now: parallel ranges, credentials, mirrors of one file side by side.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderName};

use crate::Progress;
use crate::digest::{Digest, Hasher};
use crate::error::{FetchError, HubError, SourceError, io_error};
use crate::net::Patience;

const BUFFER: usize = 256 << 10;
/// A try that moved at least this much was no failure: the count of failures starts again.
const PROGRESS: u64 = 1 << 20;
/// No server's wish to wait longer than this is honoured within one pull.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The file wanted and where to gather it.
pub(crate) struct Target {
    pub partial: PathBuf,
    pub bytes: u64,
    pub digest: Digest,
}

/// How one request ended when it did not bring the rest of the file.
enum Broken {
    /// Worth another try, after the server's wish for a pause.
    Passing(String, Option<Duration>),
    /// It will be the same next time.
    Lasting(SourceError),
    /// This machine's own fault.
    Local(HubError),
}

/// Fetches `url` into the target's partial file, until that has the right length and digest.
pub(crate) fn download(
    url: &str,
    target: &Target,
    patience: &Patience,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    let agent = agent(patience);
    let mut partial = Partial::open(target, progress)?;
    let (mut failures, mut reached, mut again) = (0, false, false);
    // The most that was ever here: only going beyond it is progress, or a server could keep the loop busy for ever.
    let mut best = partial.done;
    loop {
        if partial.done == target.bytes {
            let found = partial.hasher.clone().finish();
            if found == target.digest {
                return Ok(());
            }
            let joined = partial.joined;
            partial.restart()?;
            if !joined || std::mem::replace(&mut again, true) {
                return Err(SourceError::Content {
                    expected: target.digest.to_string(),
                    found: found.to_string(),
                }
                .into());
            }
            best = 0;
        }
        let (reason, wait) = match attempt(&agent, url, &mut partial, &mut reached, progress) {
            Ok(()) => continue,
            Err(Broken::Local(e)) => return Err(e.into()),
            Err(Broken::Lasting(e)) => return Err(e.into()),
            Err(Broken::Passing(reason, _)) if !reached => {
                return Err(SourceError::Unreachable(reason).into());
            }
            Err(Broken::Passing(reason, wait)) => (reason, wait),
        };
        if partial.done >= best.saturating_add(PROGRESS) {
            (best, failures) = (partial.done, 0);
        }
        failures += 1;
        if failures >= patience.failures {
            let (done, total) = (partial.done, target.bytes);
            return Err(SourceError::Interrupted { done, total, failures, reason }.into());
        }
        let backoff = patience.backoff.saturating_mul(1 << (failures - 1).min(6));
        std::thread::sleep(wait.unwrap_or(backoff).min(MAX_WAIT));
    }
}

fn agent(patience: &Patience) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(5)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.stall))
        .timeout_per_read(Some(patience.stall))
        .user_agent(concat!("hob/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// One request for what is missing; `Ok` when the partial file has its full length.
fn attempt(
    agent: &Agent,
    url: &str,
    partial: &mut Partial,
    reached: &mut bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Broken> {
    let mut request = agent.get(url).header(ACCEPT_ENCODING, "identity");
    if partial.done > 0 {
        request = request.header(RANGE, format!("bytes={}-", partial.done));
    }
    let mut response = request.call().map_err(passing_or_lasting)?;
    *reached = true;
    let headers = response.headers();
    match response.status().as_u16() {
        200 => {
            partial.restart().map_err(Broken::Local)?;
            partial.expect_length(number(headers, CONTENT_LENGTH))?;
        }
        206 => partial.expect_range(headers)?,
        416 => {
            partial.restart().map_err(Broken::Local)?;
            return Err(Broken::Passing("the server refused to resume".into(), None));
        }
        code @ (408 | 429 | 500 | 502..=504) => {
            let wait = number(headers, RETRY_AFTER).map(Duration::from_secs);
            return Err(Broken::Passing(SourceError::Status(code).to_string(), wait));
        }
        code => return Err(Broken::Lasting(SourceError::Status(code))),
    }
    partial.fill(&mut response.body_mut().as_reader(), progress)
}

fn passing_or_lasting(e: ureq::Error) -> Broken {
    use ureq::Error as E;
    match e {
        E::BadUri(_)
        | E::Http(_)
        | E::TooManyRedirects
        | E::Tls(_)
        | E::Rustls(_)
        | E::TlsRequired
        | E::InvalidProxyUrl => Broken::Lasting(SourceError::Unreachable(e.to_string())),
        e => Broken::Passing(e.to_string(), None),
    }
}

fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Start and total of `bytes START-END/TOTAL`; an unknown total is `*`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((start, total))
}

/// The file being gathered, its length, and the running digest of exactly those bytes.
struct Partial<'a> {
    target: &'a Target,
    file: File,
    hasher: Hasher,
    done: u64,
    /// Whether the bytes came in more than one piece, so that a wrong digest may be the joint's fault.
    joined: bool,
}

impl<'a> Partial<'a> {
    /// Opens or creates the partial file and digests what is there. One that is too long is emptied.
    fn open(
        target: &'a Target,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Partial<'a>, HubError> {
        let path = &target.partial;
        let options =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).clone();
        let file = options.open(path).map_err(io_error("open", path))?;
        let mut partial =
            Partial { target, file, hasher: Hasher::default(), done: 0, joined: false };
        let total = partial.file.metadata().map_err(io_error("read", path))?.len();
        if total > target.bytes {
            partial.restart()?;
            return Ok(partial);
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = partial.file.read(&mut buffer).map_err(io_error("read", path))?;
            let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { return Ok(partial) };
            partial.hasher.update(bytes);
            partial.done += n as u64;
            partial.joined = true;
            progress(Progress::Verifying { done: partial.done, total });
        }
    }

    /// Empties the file.
    fn restart(&mut self) -> Result<(), HubError> {
        let path = &self.target.partial;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(io_error("write", path))?;
        self.hasher = Hasher::default();
        (self.done, self.joined) = (0, false);
        Ok(())
    }

    /// Refuses a whole file of another length; a server need not tell.
    fn expect_length(&self, offered: Option<u64>) -> Result<(), Broken> {
        match offered.filter(|n| *n != self.target.bytes) {
            Some(found) => {
                Err(Broken::Lasting(SourceError::Length { expected: self.target.bytes, found }))
            }
            None => Ok(()),
        }
    }

    /// Refuses a part that does not start where this file ends.
    fn expect_range(&mut self, headers: &HeaderMap) -> Result<(), Broken> {
        let value = headers.get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
        match value.and_then(content_range) {
            Some((start, total)) if start == self.done => {
                self.joined = true;
                self.expect_length(total)
            }
            _ => {
                self.restart().map_err(Broken::Local)?;
                Err(Broken::Passing(
                    "the server sent another part than the one asked for".into(),
                    None,
                ))
            }
        }
    }

    /// Appends the body. What is longer than expected is never written beyond the expected length.
    fn fill(
        &mut self,
        body: &mut dyn Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Broken> {
        let total = self.target.bytes;
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = body.read(&mut buffer).map_err(|e| Broken::Passing(e.to_string(), None))?;
            let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
            let found = self.done.saturating_add(n as u64);
            if found > total {
                self.restart().map_err(Broken::Local)?;
                return Err(Broken::Lasting(SourceError::Length { expected: total, found }));
            }
            self.append(bytes).map_err(Broken::Local)?;
            progress(Progress::Bytes { done: self.done, total });
        }
        if self.done == total {
            return Ok(());
        }
        Err(Broken::Passing(
            format!("the connection ended {} bytes early", total - self.done),
            None,
        ))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        let path: &Path = &self.target.partial;
        self.file.write_all(bytes).map_err(io_error("write", path))?;
        self.hasher.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes */10",
            "bytes 5-9",
            "items 5-9/10",
            "bytes -5/10",
            "bytes 99999999999999999999-1/2",
            "bytes 1-2/x",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
