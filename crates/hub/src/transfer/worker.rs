//! One connection of a transfer: asks for what it claimed and writes the body where it belongs, part by part. Its memory is one buffer.
//! Deliberately absent: decisions about other connections, which are `shared`'s and `outcome`'s.

use std::io::Read;
use std::sync::atomic::Ordering;

use ureq::http::header::{CONTENT_RANGE, RANGE};

use super::disk;
use super::lock;
use super::offer::{Offer, refused_total};
use super::origins::KNOWN_BYTES;
use super::shared::{Claim, End, Next, Shared};
use crate::error::{HubError, SourceError, io_error};
use crate::net::{Answer, Ask, NetError};

const BUFFER: usize = 256 << 10;

/// Works until the transfer is over.
pub(super) fn work(shared: &Shared, me: usize) {
    let mut buffer = vec![0; shared.rate.piece(BUFFER)];
    while let Some(claim) = shared.next(me) {
        let end = fetch(shared, me, &claim, &mut buffer).err().unwrap_or(End::Done);
        shared.close(me, &claim, end);
    }
}

/// One request and its body.
fn fetch(shared: &Shared, me: usize, claim: &Claim, buffer: &mut [u8]) -> Result<(), End> {
    let answer = ask(shared, claim)?;
    let broken = |reason: &str| End::Passing(reason.to_owned(), None);
    let offer = Offer::read(&answer).map_err(broken)?;
    let direct = answer.redirected.then_some(answer.url.as_str());
    let mut next = shared.accept(me, claim, &offer, direct)?;
    let end = offer.to;
    let mut body =
        Body { shared, claim, at: offer.from, end, reader: answer.into_reader(), buffer };
    while let Next::Fill { from, to } = next {
        let arrived = body.skip(from)? && body.fill(to)?;
        if !arrived {
            return body.ended(me);
        }
        if offer.to.is_none() {
            body.expect_end()?;
        }
        next = shared.filled(me, claim)?;
    }
    body.finish();
    Ok(())
}

/// Sends the request; an answer is one that brings bytes.
fn ask(shared: &Shared, claim: &Claim) -> Result<Answer, End> {
    let Some(origin) = shared.origins.get(claim.origin) else { return Err(End::Revoked) };
    let mut ask = Ask::get(&origin.url).credential(origin.credential.as_ref());
    if let Some(direct) = &claim.direct {
        ask = ask.known_redirect(direct);
    }
    if let Some((from, to)) = claim.range {
        ask = ask.header(RANGE, format!("bytes={from}-{}", to.saturating_sub(1)));
    }
    let answer = shared.net.send(&ask).map_err(|e| match e {
        NetError::Broken(reason) => End::Passing(reason, None),
        NetError::Refused(reason) => End::Lasting(SourceError::Unreachable(reason)),
    })?;
    let (total, ready) = shared.change(|state| {
        let mut ready = false;
        if let Some(standing) = state.origins.get_mut(claim.origin) {
            (standing.reached, ready) = (true, standing.ready);
            match answer.status() {
                416 => standing.ranges = false,
                401 | 403 | 404 | 410 => standing.direct = None,
                _ => {}
            }
        }
        (state.table.total(), ready)
    });
    match answer.status() {
        200 | 206 => Ok(answer),
        416 if claim.range.is_some() => {
            let offered = answer.header(CONTENT_RANGE).and_then(refused_total);
            Err(match total.zip(offered).filter(|(expected, found)| expected != found) {
                Some((expected, found)) => End::Lasting(SourceError::Length { expected, found }),
                None => End::Otherwise,
            })
        }
        401 | 403 | 404 | 410 if claim.direct.is_some() => Err(End::Otherwise),
        // Where it redirects to has expired already, though it was good before.
        code @ (401 | 403 | 404 | 410) if ready && answer.redirected => {
            Err(End::Passing(SourceError::Status(code).to_string(), None))
        }
        code @ (429 | 503) => Err(End::Busy(code, answer.retry_after())),
        code @ (408 | 425 | 500 | 502 | 504) => {
            let reason = SourceError::Status(code).to_string();
            Err(End::Passing(reason, answer.retry_after()))
        }
        code => Err(End::Lasting(SourceError::Status(code))),
    }
}

/// The bytes of an answer, and where in the file they belong.
struct Body<'a, R> {
    shared: &'a Shared,
    claim: &'a Claim,
    reader: R,
    buffer: &'a mut [u8],
    /// Position in the file of the next byte.
    at: u64,
    /// Position behind the last byte, if that was told.
    end: Option<u64>,
}

impl<R: Read> Body<'_, R> {
    /// Passes over what comes before `to`; `false` when the body ends sooner.
    fn skip(&mut self, to: u64) -> Result<bool, End> {
        while self.at < to {
            if self.read(to)? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes what comes before `to` into the lease's part; `false` when the body ends sooner.
    fn fill(&mut self, to: u64) -> Result<bool, End> {
        while self.at < to {
            let at = self.at;
            let n = self.read(to)?;
            let Some(bytes) = self.buffer.get(..n).filter(|b| !b.is_empty()) else {
                return Ok(false);
            };
            self.keep(bytes, at)?;
            self.shared.rate.pay(n);
        }
        Ok(true)
    }

    /// Reads up to `to`, as much as there is, and moves on; 0 at the end of the body.
    fn read(&mut self, to: u64) -> Result<usize, End> {
        let to = to.min(self.end.unwrap_or(u64::MAX));
        let most = usize::try_from(to.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = most.min(self.buffer.len());
        let room = self.buffer.get_mut(..most).unwrap_or_default();
        if room.is_empty() {
            return Ok(0);
        }
        let n = self.reader.read(room).map_err(|e| End::Passing(e.to_string(), None))?;
        self.at += n as u64;
        Ok(n)
    }

    /// Writes bytes of the lease's part, unless that has been taken away.
    fn keep(&self, bytes: &[u8], at: u64) -> Result<(), End> {
        let lease = &self.claim.lease;
        let mut filling = lock(&lease.filling);
        let Some(part) = filling.as_mut() else { return Err(End::Revoked) };
        if let Err(e) = disk::write_at(&self.shared.file, bytes, at) {
            drop(filling);
            return Err(self.local(e).into());
        }
        part.add(bytes);
        lease.done.store(part.done, Ordering::Relaxed);
        let before = lease.got.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        drop(filling);
        if before < KNOWN_BYTES && before + bytes.len() as u64 >= KNOWN_BYTES {
            // Idle connections may be waiting to know how fast this origin is.
            self.shared.change(|_| ());
        }
        Ok(())
    }

    fn local(&self, e: std::io::Error) -> HubError {
        let plan = &self.shared.plan;
        if e.kind() == std::io::ErrorKind::StorageFull {
            let free = fs4::available_space(plan.folder()).unwrap_or(0);
            let state = self.shared.state();
            let needed = state.table.total().unwrap_or(self.at).saturating_sub(state.done());
            return HubError::NoSpace { path: plan.folder().to_owned(), needed, free };
        }
        io_error("write", &plan.partial)(e)
    }

    /// What it means that the body ended while bytes were wanted.
    fn ended(&self, me: usize) -> Result<(), End> {
        let total = self.shared.state().table.total();
        match self.end.or(total) {
            None => self.shared.ended(me, self.claim),
            Some(end) if self.at >= end => Ok(()),
            Some(end) => {
                let missing = end - self.at;
                Err(End::Passing(format!("the connection ended {missing} bytes early"), None))
            }
        }
    }

    /// A whole file whose length the server did not tell has to end where it should.
    fn expect_end(&mut self) -> Result<(), End> {
        let total = self.shared.state().table.total();
        let Some(expected) = total.filter(|total| *total == self.at) else { return Ok(()) };
        match self.reader.read(self.buffer).map_err(|e| End::Passing(e.to_string(), None))? {
            0 => Ok(()),
            n => Err(End::Lasting(SourceError::Length { expected, found: self.at + n as u64 })),
        }
    }

    /// Reads the end of the body, so that the connection can be used again.
    fn finish(&mut self) {
        if self.end == Some(self.at) {
            let _ = self.reader.read(self.buffer);
        }
    }
}
