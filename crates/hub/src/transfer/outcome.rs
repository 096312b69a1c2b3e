//! What answers, completed parts and failures mean for a transfer: which offer is believed, what is kept, who is given up and why.
//! Deliberately absent: any reading and writing but of the map.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use twox_hash::XxHash3_64;

use super::map::{Identity, Map};
use super::offer::Offer;
use super::origins::Verdict;
use super::parts::{By, State as Is, run_length};
use super::shared::{Claim, End, Next, Shared, State};
use super::{Plan, lock, require_space};
use crate::digest::Digest;
use crate::error::{HubError, SourceError, Tried, io_error};

impl Shared {
    /// Judges an offer against what is known, and begins to fill from it.
    pub fn accept(
        &self,
        me: usize,
        claim: &Claim,
        offer: &Offer,
        direct: Option<&str>,
    ) -> Result<Next, End> {
        self.change(|state| {
            state.judge(me, claim, offer, self)?;
            state.take_up(me, claim, offer, direct, self)
        })
    }

    /// The lease's part is complete: notes it, and says what comes next on this connection.
    pub fn filled(&self, me: usize, claim: &Claim) -> Result<Next, End> {
        self.change(|state| state.filled(me, claim))
    }

    /// A stream of untold length has ended properly: now it is known.
    pub fn ended(&self, me: usize, claim: &Claim) -> Result<(), End> {
        self.change(|state| state.ended(me, claim, self))
    }

    /// Takes back what a connection did not fill and draws the consequences of how it ended.
    pub fn close(&self, me: usize, claim: &Claim, end: End) {
        self.change(|state| state.close(me, claim, end, self));
    }

    /// The whole is here and it is wrong.
    pub fn mistaken(&self, expected: &Digest, found: &Digest) -> Result<(), HubError> {
        self.change(|state| state.mistaken(expected, found, self))
    }
}

impl State {
    /// Whether what is offered can be the file.
    fn judge(
        &mut self,
        me: usize,
        claim: &Claim,
        offer: &Offer,
        shared: &Shared,
    ) -> Result<(), End> {
        self.held(me, claim)?;
        let only_one = self.origins.iter().enumerate().all(|(i, o)| i == claim.origin || !o.ready);
        let expected = self.table.total();
        let Some(standing) = self.origins.get_mut(claim.origin) else { return Err(End::Revoked) };
        if offer.part && offer.from != claim.range.map_or(0, |(from, _)| from) {
            standing.ranges = false;
            let reason = "the server sent another part than the one asked for";
            return Err(End::Passing(reason.into(), None));
        }
        if offer.part && offer.total.is_none() && expected.is_none() {
            standing.ranges = false;
            return Err(End::Otherwise);
        }
        if let (Some(expected), Some(found)) = (expected, offer.total)
            && expected != found
        {
            return Err(match shared.plan.bytes.is_none() && only_one {
                true => self.replaced(claim.origin, offer, shared)?,
                false => End::Lasting(SourceError::Length { expected, found }),
            });
        }
        if let Some(wanted) = self.wanted_tag.take()
            && tag_hash(offer.tag.as_deref()) != wanted
        {
            self.begin(&shared.plan, &shared.file, expected, offer.tag.as_deref())?;
            return Err(End::Otherwise);
        }
        let Some(standing) = self.origins.get_mut(claim.origin) else { return Err(End::Revoked) };
        let other = standing.tag.as_ref().zip(offer.tag.as_ref()).is_some_and(|(a, b)| a != b);
        // Some servers behind one name disagree about the tag of the same bytes: the digest will tell.
        if other && !(standing.replaced && shared.plan.digest.is_some()) {
            return Err(self.replaced(claim.origin, offer, shared)?);
        }
        Ok(())
    }

    /// An origin offers another edition than before: what it delivered is void, once.
    fn replaced(&mut self, origin: usize, offer: &Offer, shared: &Shared) -> Result<End, End> {
        let plan = &shared.plan;
        let Some(standing) = self.origins.get_mut(origin) else { return Err(End::Revoked) };
        standing.tag.clone_from(&offer.tag);
        if std::mem::replace(&mut standing.replaced, true) {
            return Ok(End::Lasting(SourceError::Changed));
        }
        if plan.digest.is_some() && offer.total.is_none_or(|t| Some(t) == self.table.total()) {
            self.disown(origin)?;
        } else {
            let total = plan.bytes.or(offer.total);
            require_space(plan, total.unwrap_or(0))?;
            self.begin(plan, &shared.file, total, offer.tag.as_deref())?;
        }
        Ok(End::Otherwise)
    }

    /// Everything that one origin delivered is missing again.
    fn disown(&mut self, origin: usize) -> Result<(), HubError> {
        let by = u16::try_from(origin).ok();
        self.revoke(|held| held.origin == origin);
        self.table.drop_begun(Some(by));
        self.discard(|part| part == by)
    }

    /// The parts that these delivered are missing again.
    fn discard(&mut self, which: impl Fn(By) -> bool) -> Result<(), HubError> {
        let mut void = false;
        for index in 0..self.table.len() {
            if self.table.get(index).is_some_and(|p| p.state == Is::Here && which(p.by)) {
                self.table.discard(index);
                self.map.as_ref().map_or(Ok(()), |map| map.forget(index))?;
                void = true;
            }
        }
        self.generation += u64::from(void);
        Ok(())
    }

    /// Accepts an offer.
    fn take_up(
        &mut self,
        me: usize,
        claim: &Claim,
        offer: &Offer,
        direct: Option<&str>,
        shared: &Shared,
    ) -> Result<Next, End> {
        let unknown = self.table.total().is_none();
        if let Some(total) = offer.total.filter(|_| unknown) {
            self.learn(me, claim, total, offer, &shared.plan, shared)?;
        }
        let total = self.table.total();
        let Some(standing) = self.origins.get_mut(claim.origin) else { return Err(End::Revoked) };
        standing.ready = true;
        standing.direct = direct.map(str::to_owned);
        if standing.tag.is_none() {
            standing.tag.clone_from(&offer.tag);
        }
        let unnamed = shared.plan.digest.is_none() && self.table.kept() == 0;
        if let Some(total) = total.filter(|_| unnamed) {
            let identity = Identity::of(&shared.plan, total, offer.tag.as_deref());
            self.map = Some(Map::create(&shared.plan.map, &identity)?);
        }
        if !offer.part {
            // Whoever sends all of a file when all of it is asked for may still know ranges.
            let Some(standing) = self.origins.get_mut(claim.origin) else {
                return Err(End::Revoked);
            };
            standing.ranges &= claim.range.is_some_and(|(from, to)| from == 0 && Some(to) == total);
            if standing.active > 1 {
                return Err(End::Otherwise);
            }
            let held = self.held(me, claim)?;
            held.whole = true;
            let spare = held.current + 1..std::mem::replace(&mut held.end, held.current + 1);
            spare.for_each(|index| self.table.release(index, None));
        }
        let (current, lease) = {
            let held = self.held(me, claim)?;
            (held.current, held.lease.clone())
        };
        let from = self.table.start(current) + lease.done.load(Ordering::Relaxed);
        Ok(Next::Fill { from, to: self.table.end(current) })
    }

    /// The length of the file, told by the first answer.
    fn learn(
        &mut self,
        me: usize,
        claim: &Claim,
        total: u64,
        offer: &Offer,
        plan: &Plan,
        shared: &Shared,
    ) -> Result<(), End> {
        require_space(plan, total)?;
        shared.file.set_len(total).map_err(io_error("write", &plan.partial))?;
        self.table.set_total(total);
        self.map = Some(Map::create(&plan.map, &Identity::of(plan, total, offer.tag.as_deref()))?);
        let offered = offer.to.unwrap_or(total).min(total);
        let most = run_length(self.table.len(), plan.connections);
        let mut end = 1;
        while end < most && self.table.end(end) <= offered && self.table.mark_claimed(end) {
            end += 1;
        }
        self.held(me, claim)?.end = end;
        Ok(())
    }

    fn filled(&mut self, me: usize, claim: &Claim) -> Result<Next, End> {
        let now = Instant::now();
        let by = u16::try_from(claim.origin).ok();
        let held = self.held(me, claim)?;
        let Some(filling) = lock(&held.lease.filling).take() else { return Err(End::Revoked) };
        let (current, whole, since) = (held.current, held.whole, held.since);
        let (limit, lease) = (held.end, held.lease.clone());
        held.since = now;
        // Never both counted as being filled and as here.
        lease.done.store(0, Ordering::Relaxed);
        let sum = filling.sum();
        self.table.fill(current, filling.by, sum, true);
        self.map.as_ref().map_or(Ok(()), |map| map.record(current, sum))?;
        self.credit(me, claim, Some(now.saturating_duration_since(since)));
        let next = match self.table.total() {
            None => Some(self.table.grow(by)),
            Some(_) if whole => self.table.claim_from(current + 1, by),
            Some(_) => (current + 1 < limit).then(|| self.table.filling(current + 1, by)),
        };
        let Some(next) = next else {
            self.held(me, claim)?.current = limit;
            return Ok(Next::Stop);
        };
        let fill = Next::Fill {
            from: self.table.start(next.index) + next.done,
            to: self.table.end(next.index),
        };
        let held = self.held(me, claim)?;
        held.current = next.index;
        held.end = held.end.max(next.index + 1);
        lease.done.store(next.done, Ordering::Relaxed);
        *lock(&lease.filling) = Some(next);
        Ok(fill)
    }

    /// Credits an origin with the bytes that a connection got since the last time, and with the time for a whole part.
    fn credit(&mut self, me: usize, claim: &Claim, time: Option<Duration>) {
        let unknown = self.table.total().is_none();
        let Ok(held) = self.held(me, claim) else { return };
        let got = held.lease.got.load(Ordering::Relaxed);
        let mut new = got - std::mem::replace(&mut held.credited, got);
        if let Some(standing) = self.origins.get_mut(claim.origin) {
            if let Some(time) = time {
                standing.measure(new, time);
            }
            if unknown {
                // Such a stream starts over when it breaks: only what goes beyond all before is new.
                new = got.saturating_sub(self.furthest).min(new);
                self.furthest = self.furthest.max(got);
            }
            standing.progress(new);
        }
    }

    fn ended(&mut self, me: usize, claim: &Claim, shared: &Shared) -> Result<(), End> {
        let held = self.held(me, claim)?;
        let current = held.current;
        let Some(filling) = lock(&held.lease.filling).take() else { return Err(End::Revoked) };
        let total = self.table.start(current) + filling.done;
        let tag = self.origins.get(claim.origin).and_then(|o| o.tag.clone());
        self.table.set_total(total);
        if filling.done > 0 {
            self.table.fill(current, filling.by, filling.sum(), true);
        }
        let map =
            Map::create(&shared.plan.map, &Identity::of(&shared.plan, total, tag.as_deref()))?;
        for (index, part) in self.table.iter().enumerate() {
            map.record(index, part.sum)?;
        }
        self.map = Some(map);
        Ok(())
    }

    fn close(&mut self, me: usize, claim: &Claim, end: End, shared: &Shared) {
        let revoked = self.held(me, claim).is_err();
        if !revoked {
            self.credit(me, claim, None);
            if let Some(held) = self.claims.get_mut(me).and_then(Option::take) {
                self.put_back(held);
            }
            if self.table.total().is_none()
                && let Err(e) = self.begin(&shared.plan, &shared.file, None, None)
            {
                self.local.get_or_insert(e);
            }
        }
        match end {
            End::Local(e) => {
                self.local.get_or_insert(e);
            }
            _ if revoked => {}
            End::Done | End::Revoked | End::Otherwise => {}
            End::Passing(reason, wait) => self.failed(claim, reason, wait, shared),
            End::Busy(code, wait) => match self.origins.get_mut(claim.origin) {
                Some(standing) if standing.active > 0 => standing.limit = standing.active,
                _ => self.failed(claim, SourceError::Status(code).to_string(), wait, shared),
            },
            End::Lasting(error) => self.give_up(claim.origin, error, shared),
        }
    }

    fn failed(&mut self, claim: &Claim, reason: String, wait: Option<Duration>, shared: &Shared) {
        let (done, total) = (self.done(), self.table.total());
        let Some(standing) = self.origins.get_mut(claim.origin) else { return };
        standing.direct = None;
        if !standing.reached {
            return self.give_up(claim.origin, SourceError::Unreachable(reason), shared);
        }
        let patience = &shared.net.patience;
        if let Verdict::Enough(failures) =
            standing.fail(claim.asked, Instant::now(), wait, patience)
        {
            let total = total.unwrap_or(done);
            let error = SourceError::Interrupted { done, total, failures, reason };
            self.give_up(claim.origin, error, shared);
        }
    }

    /// Asks an origin for nothing more. One that has another file has delivered nothing.
    fn give_up(&mut self, origin: usize, error: SourceError, shared: &Shared) {
        let Some(standing) = self.origins.get_mut(origin).filter(|o| !o.gone) else { return };
        standing.gone = true;
        if self.only == Some(origin) {
            self.only = None;
        }
        let liar = matches!(
            error,
            SourceError::Length { .. } | SourceError::Content { .. } | SourceError::Changed
        );
        if liar && let Err(e) = self.disown(origin) {
            self.local.get_or_insert(e);
        }
        let source = shared.origins.get(origin).map(|o| o.words.clone()).unwrap_or_default();
        self.tried.push(Tried { source, error });
    }

    /// Everything is here and the digest is another: finds out whose fault it is. If one origin delivered everything, its. If several
    /// did, the parts of all but the best are fetched again from the best, which settles it.
    fn mistaken(
        &mut self,
        expected: &Digest,
        found: &Digest,
        shared: &Shared,
    ) -> Result<(), HubError> {
        self.mistakes += 1;
        self.table.drop_begun(None);
        let content =
            || SourceError::Content { expected: expected.to_string(), found: found.to_string() };
        let parts = |by: By| self.table.iter().filter(|p| p.by == by).count();
        let live =
            (0..self.origins.len()).filter(|i| self.origins.get(*i).is_some_and(|o| !o.gone));
        let shares = live.filter_map(|i| Some((i, parts(Some(u16::try_from(i).ok()?)))));
        let best = shares.filter(|(_, n)| *n > 0).max_by_key(|(_, n)| *n);
        match best {
            Some((origin, n)) if n == self.table.len() => {
                self.give_up(origin, content(), shared);
                self.start_over(shared)
            }
            Some((origin, _)) if self.only.is_none() => {
                let by = u16::try_from(origin).ok();
                let others = self.table.iter().enumerate().filter(|(_, p)| p.by != by);
                let suspect = |(i, p): (usize, &super::parts::Part)| Some((i, p.by?, p.sum));
                self.suspects = others.filter_map(suspect).collect();
                self.only = Some(origin);
                self.discard(|part| part != by)
            }
            _ => {
                // What an earlier process left, or a mixture within parts. Both end with the next rounds, unless all lie.
                if self.mistakes > 2 * self.origins.len() + 1 {
                    (0..self.origins.len()).for_each(|i| self.give_up(i, content(), shared));
                }
                self.start_over(shared)
            }
        }
    }

    /// Begins anew with the origins that are left; without any, nothing wrong is kept.
    fn start_over(&mut self, shared: &Shared) -> Result<(), HubError> {
        let left = self.origins.iter().any(|o| !o.gone);
        let total = self.table.total().filter(|_| left);
        self.begin(&shared.plan, &shared.file, total, None)
    }

    /// The whole is right: which origins had delivered something else before.
    pub fn liars(&self) -> Vec<usize> {
        let lied = |(index, _, sum): &&(usize, u16, u64)| {
            self.table.get(*index).is_some_and(|p| p.sum != *sum)
        };
        let mut found: Vec<usize> =
            self.suspects.iter().filter(lied).map(|(_, by, _)| usize::from(*by)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Identity {
    /// What a map of this job is about.
    pub fn of(plan: &Plan, total: u64, tag: Option<&str>) -> Identity {
        Identity { total, part: plan.part, digest: plan.digest, tag: tag_hash(tag) }
    }
}

/// 0 for none.
fn tag_hash(tag: Option<&str>) -> u64 {
    tag.map_or(0, |t| XxHash3_64::oneshot(t.as_bytes()).max(1))
}
