//! Sends a model to a registry: blobs it does not have in parts, then the manifest. What a broken connection left there is asked for and
//! continued from; after a restart only whole blobs are remembered, by the registry. Parts go to the registry itself: upload addresses
//! on other hosts are refused.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;

use md5::{Digest as _, Md5};
use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};

use super::{Registry, encoded};
use crate::digest::Digest;
use crate::error::SourceError;
use crate::manifest::{Layer, Manifest};
use crate::net::{Answer, Ask, absolute};

/// Bytes of one part, which is held in memory. Storage behind registries wants 5 MB at least.
const PART: u64 = 32 << 20;

/// What a push is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Bytes of a blob that are there.
    Blob { digest: Digest, done: u64, total: u64 },
    /// All blobs are there; the manifest follows.
    Manifest,
}

/// Sends the blobs of a manifest, which lie where `blob` says, and then the manifest, byte for byte.
///
/// # Errors
/// `Local` when a blob is not here, `Denied`, `Interrupted`, `Refused`; what has been sent by then stays there.
pub(crate) fn push(
    registry: &Registry,
    tag: &str,
    manifest: &[u8],
    blob: &dyn Fn(&Digest) -> PathBuf,
    progress: &mut dyn FnMut(Pushed),
) -> Result<(), SourceError> {
    push_in_parts(registry, tag, manifest, PART, blob, progress)
}

/// `push` with parts of this many bytes.
pub(crate) fn push_in_parts(
    registry: &Registry,
    tag: &str,
    manifest: &[u8],
    part: u64,
    blob: &dyn Fn(&Digest) -> PathBuf,
    progress: &mut dyn FnMut(Pushed),
) -> Result<(), SourceError> {
    let parsed = Manifest::parse(manifest).map_err(SourceError::Refused)?;
    for layer in parsed.blobs() {
        let (digest, total) = (layer.digest, layer.size);
        let path = blob(&digest);
        let mut told = |done| progress(Pushed::Blob { digest, done, total });
        Upload { registry, layer, part }.run(&path, &mut told)?;
    }
    progress(Pushed::Manifest);
    registry.put_manifest(tag, manifest)
}

/// One blob on its way.
struct Upload<'a> {
    registry: &'a Registry<'a>,
    layer: &'a Layer,
    part: u64,
}

/// Where an upload stands.
struct State {
    /// Where the next request goes.
    location: String,
    /// Bytes there.
    done: u64,
    /// MD5 of each part, of which some storages make their tag.
    sums: Vec<[u8; 16]>,
}

impl Upload<'_> {
    fn run(&self, path: &Path, progress: &mut dyn FnMut(u64)) -> Result<(), SourceError> {
        let local = |reason: String| SourceError::Local { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(|e| local(e.to_string()))?;
        let length = file.metadata().map_err(|e| local(e.to_string()))?.len();
        if length != self.layer.size {
            return Err(local(format!("it has {length} bytes, not {}", self.layer.size)));
        }
        if !self.is_there()? {
            let Some(mut state) = self.start()? else {
                progress(length);
                return Ok(());
            };
            self.send_parts(&mut state, &mut file, &local, progress)?;
            self.commit(&state)?;
        }
        progress(length);
        Ok(())
    }

    fn is_there(&self) -> Result<bool, SourceError> {
        let url = self.registry.url(&format!("blobs/sha256:{}", self.layer.digest));
        let answer = self.registry.ask(&Ask::new(Method::HEAD, &url).without_redirects())?;
        match answer.status() {
            200 | 301..=303 | 307 | 308 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refusal(answer)),
        }
    }

    /// Begins an upload; `None` when the registry took the blob from another of its models.
    fn start(&self) -> Result<Option<State>, SourceError> {
        let mut url = self.registry.url("blobs/uploads/");
        if let Some(from) = &self.layer.from {
            let (digest, from) = (self.layer.digest, encoded(from));
            url = format!("{url}?mount=sha256%3A{digest}&from={from}");
        }
        let answer = self.registry.send(&Ask::new(Method::POST, &url))?;
        match answer.status() {
            201 => Ok(None),
            202 => {
                let location = self.location(&answer)?;
                Ok(Some(State { location, done: 0, sums: Vec::new() }))
            }
            _ => Err(self.refusal(answer)),
        }
    }

    /// The next address of an upload.
    fn location(&self, answer: &Answer) -> Result<String, SourceError> {
        let target = answer.header("docker-upload-location").or_else(|| answer.header(LOCATION));
        let url = target.and_then(|target| absolute(&answer.url, target));
        url.filter(|url| self.registry.is_own(url)).ok_or_else(|| {
            let words = self.registry.words();
            SourceError::Refused(format!("{words} wants the upload sent to another server"))
        })
    }

    fn send_parts(
        &self,
        state: &mut State,
        file: &mut File,
        local: &dyn Fn(String) -> SourceError,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), SourceError> {
        let total = self.layer.size;
        let patience = &self.registry.net.patience;
        let (mut failures, mut best) = (0, 0);
        while state.done < total {
            progress(state.done);
            if self.registry.net.stop.asked() {
                return Err(SourceError::Stopped);
            }
            let bytes = read_at(file, state.done, self.part.min(total - state.done))
                .map_err(|e| local(e.to_string()))?;
            let Err(reason) = self.send_part(state, &bytes)? else { continue };
            if state.done > best {
                (best, failures) = (state.done, 0);
            }
            failures += 1;
            if failures >= patience.failures {
                let done = state.done;
                return Err(SourceError::Interrupted { done, total, failures, reason });
            }
            thread::sleep(patience.backoff.saturating_mul(1 << (failures - 1).min(6)));
            self.catch_up(state, &bytes)?;
        }
        Ok(())
    }

    /// Sends one part. The inner error is worth another try.
    fn send_part(
        &self,
        state: &mut State,
        bytes: &[u8],
    ) -> Result<Result<(), String>, SourceError> {
        let end = state.done + bytes.len() as u64;
        let request = Ask::new(Method::PATCH, &state.location)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, format!("{}-{}", state.done, end - 1))
            .body(bytes);
        let answer = match self.registry.send(&request) {
            Ok(answer) => answer,
            Err(SourceError::Unreachable(reason)) => return Ok(Err(reason)),
            Err(e) => return Err(e),
        };
        match answer.status() {
            200..=204 => {
                state.location = self.location(&answer)?;
                state.sums.push(Md5::digest(bytes).into());
                state.done = end;
                Ok(Ok(()))
            }
            status @ (404 | 408 | 416 | 429 | 500 | 502..=504) => {
                Ok(Err(SourceError::Status(status).to_string()))
            }
            _ => Err(self.refusal(answer)),
        }
    }

    /// Asks how much arrived of an upload whose last part, `bytes`, failed; begins anew when the registry has forgotten it.
    fn catch_up(&self, state: &mut State, bytes: &[u8]) -> Result<(), SourceError> {
        let location = state.location.clone();
        let answer = match self.registry.send(&Ask::get(&location).without_redirects()) {
            Ok(answer) => answer,
            // The next part will fail too, and that is counted.
            Err(SourceError::Unreachable(_)) => return Ok(()),
            Err(e) => return Err(e),
        };
        let range = answer.header(RANGE).and_then(|r| r.trim().rsplit_once('-')?.1.parse().ok());
        let there = match (answer.status(), range) {
            // An empty upload has the range 0-0 too.
            (204, Some(0)) => 0,
            (204, Some(last)) => u64::saturating_add(last, 1),
            (404, _) => {
                if let Some(new) = self.start()? {
                    *state = new;
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        if answer.header(LOCATION).is_some() {
            state.location = self.location(&answer)?;
        }
        let arrived = there.checked_sub(state.done).and_then(|n| usize::try_from(n).ok());
        match arrived.and_then(|n| bytes.get(..n)) {
            Some([]) => {}
            Some(arrived) => {
                state.sums.push(Md5::digest(arrived).into());
                state.done = there;
            }
            // It has less than it confirmed, or more than was sent.
            None => match self.start()? {
                Some(new) => *state = new,
                None => state.done = self.layer.size,
            },
        }
        Ok(())
    }

    fn commit(&self, state: &State) -> Result<(), SourceError> {
        let tag = hex(&Md5::digest(state.sums.concat()));
        let joint = if state.location.contains('?') { '&' } else { '?' };
        let (digest, parts) = (self.layer.digest, state.sums.len());
        let url = format!("{}{joint}digest=sha256%3A{digest}&etag={tag}-{parts}", state.location);
        match self.registry.send(&Ask::new(Method::PUT, &url)) {
            Ok(answer) if matches!(answer.status(), 200..=204) => Ok(()),
            // The answer may be what was lost.
            Ok(answer) if answer.status() < 500 => Err(self.refusal(answer)),
            Ok(answer) => {
                self.is_there()?.then_some(()).ok_or(SourceError::Status(answer.status()))
            }
            Err(e) => self.is_there()?.then_some(()).ok_or(e),
        }
    }

    fn refusal(&self, answer: Answer) -> SourceError {
        self.registry.refusal(answer, &self.registry.words())
    }
}

fn read_at(file: &mut File, at: u64, bytes: u64) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(0)];
    file.read_exact(&mut buffer)?;
    Ok(buffer)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
