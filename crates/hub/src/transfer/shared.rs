//! What all connections of one transfer share, behind one lock that is taken a few times per part: who fills which parts from which
//! origin, what becomes of failures, and when it is over. Deliberately absent: the bytes themselves (`worker`) and the digest (`mod`).

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::map::{Identity, Map};
use super::origins::{self, Pace, Standing};
use super::parts::{Filling, Table, run_length};
use super::rate::Rate;
use super::{Origin, Plan, lock, require_space};
use crate::error::{HubError, SourceError, Tried, io_error};
use crate::net::Net;

/// How long an idle connection waits before it looks again what there is to do.
const POLL: Duration = Duration::from_millis(50);
/// A claim is taken from a connection that would need this much longer than another one.
const TOO_SLOW: Duration = Duration::from_secs(1);
/// A claim is taken for an origin that is this many times as fast.
const MUCH_FASTER: f64 = 3.0;
/// While several origins are being compared, a first request asks for no more parts.
const PROBE: usize = 2;
/// What is asked for first of a file whose length is not known.
const FIRST_RUN: u64 = 64 << 20;

/// A part being filled by one connection, which may be taken away between any two writes: whoever holds the lock may write.
pub(super) struct Lease {
    pub filling: Mutex<Option<Filling>>,
    /// Bytes written under this claim.
    pub got: AtomicU64,
    /// Bytes of the part being filled that are there.
    pub done: AtomicU64,
}

/// What a connection is to do.
pub(super) struct Claim {
    pub id: u64,
    pub origin: usize,
    pub lease: Arc<Lease>,
    /// The range to ask for; `None` for the whole file.
    pub range: Option<(u64, u64)>,
    /// An address that is known to have the file behind the origin's own.
    pub direct: Option<String>,
    pub asked: Instant,
}

/// What a connection has claimed.
pub(super) struct Held {
    id: u64,
    pub origin: usize,
    pub lease: Arc<Lease>,
    /// The part being filled.
    pub current: usize,
    /// The part behind the last one claimed.
    pub end: usize,
    /// The whole file is streaming by: what comes next is what is missing then.
    pub whole: bool,
    asked: Instant,
    /// When the current part was begun.
    pub since: Instant,
    /// Bytes of `got` that the origin was credited with.
    pub credited: u64,
}

/// How a connection's work ended.
pub(super) enum End {
    /// As it should.
    Done,
    /// The claim had been taken away.
    Revoked,
    /// Nobody's fault; ask again, otherwise.
    Otherwise,
    /// Worth another try, after the server's wish for a pause.
    Passing(String, Option<Duration>),
    /// The server is busy: as `Passing`, but fewer connections may do.
    Busy(u16, Option<Duration>),
    /// It will be the same next time.
    Lasting(SourceError),
    /// This machine's own fault.
    Local(HubError),
}

impl From<HubError> for End {
    fn from(e: HubError) -> End {
        End::Local(e)
    }
}

/// What to do with the bytes that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Bytes between these positions fill the lease's part; those before are passed over.
    Fill { from: u64, to: u64 },
    /// Nothing more is needed.
    Stop,
}

/// What the digest's reader finds in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// The part is here.
    Here { start: u64, len: u64, sum: u64, proven: bool },
    /// There is none after the last one read.
    Complete,
    /// It is not here yet.
    Wait,
    /// What was read is void: begin again.
    Void,
    /// Nothing more will come.
    Ended,
}

/// The state of a transfer.
pub(super) struct State {
    pub table: Table,
    pub origins: Vec<Standing>,
    pub claims: Vec<Option<Held>>,
    next_id: u64,
    pub map: Option<Map>,
    /// Parts of an earlier transfer without a digest are good only for this edition.
    pub wanted_tag: Option<u64>,
    /// The only origin that is asked, while a mixture is being sorted out.
    pub only: Option<usize>,
    /// Parts that were fetched again because the mixture was wrong: part, origin, checksum.
    pub suspects: Vec<(usize, u16, u64)>,
    /// Counts how often what had been read was declared void.
    pub generation: u64,
    /// How often the whole was wrong.
    pub mistakes: usize,
    /// Most bytes ever seen of a file whose length is not told.
    pub furthest: u64,
    pub over: bool,
    pub local: Option<HubError>,
    pub tried: Vec<Tried>,
}

/// One transfer.
pub(super) struct Shared {
    pub net: Net,
    pub plan: Plan,
    pub origins: Vec<Origin>,
    pub file: File,
    pub rate: Rate,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// Goes on from what is there, if map and partial file fit the job; else begins anew.
    pub fn open(
        net: &Net,
        plan: Plan,
        origins: &[Origin],
        file: File,
        rate: Rate,
    ) -> Result<Shared, HubError> {
        let mut state = State::new(&plan, origins.len());
        if !state.resume(&plan, &file)? {
            require_space(&plan, plan.bytes.unwrap_or(0))?;
            state.begin(&plan, &file, plan.bytes, None)?;
        }
        let (net, origins) = (net.clone(), origins.to_vec());
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Shared { net, plan, origins, file, rate, state, changed })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes the state and lets every waiting thread look again.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    /// Waits until something changed, not for long.
    pub fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        match self.changed.wait_timeout(state, time) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    /// The next thing to do for a connection; `None` when the transfer is over.
    pub fn next(&self, me: usize) -> Option<Claim> {
        let mut state = self.state();
        loop {
            // One that met this machine's own fault speaks for all.
            if state.over || state.local.is_some() {
                return None;
            }
            if let Some(claim) = state.claim(me, &self.plan, Instant::now()) {
                return Some(claim);
            }
            state = self.wait(state, POLL);
        }
    }
}

impl State {
    fn new(plan: &Plan, origins: usize) -> State {
        State {
            table: Table::new(plan.part, None),
            origins: (0..origins).map(|_| Standing::new(plan.connections)).collect(),
            claims: (0..plan.connections).map(|_| None).collect(),
            next_id: 0,
            map: None,
            wanted_tag: None,
            only: None,
            suspects: Vec::new(),
            generation: 0,
            mistakes: 0,
            furthest: 0,
            over: false,
            local: None,
            tried: Vec::new(),
        }
    }

    /// Takes over what an earlier transfer left; `false` when there is nothing that could be trusted.
    fn resume(&mut self, plan: &Plan, file: &File) -> Result<bool, HubError> {
        let Some((map, found, sums)) = Map::load(&plan.map, plan.part)? else { return Ok(false) };
        let fits = found.digest == plan.digest
            && plan.bytes.is_none_or(|bytes| bytes == found.total)
            && (plan.digest.is_some() || found.tag != 0);
        let len = file.metadata().map_err(io_error("read", &plan.partial))?.len();
        self.table = Table::new(plan.part, Some(found.total));
        for (index, sum) in sums.iter().enumerate() {
            if let Some(sum) = sum.filter(|_| fits && self.table.end(index) <= len) {
                self.table.fill(index, None, sum, false);
            }
        }
        if self.table.kept() == 0 {
            return Ok(false);
        }
        if plan.digest.is_none() {
            self.wanted_tag = Some(found.tag);
            // Something has to be asked, or nobody would say whether this is still the file.
            if self.table.missing() == 0 {
                self.table.discard(self.table.len().saturating_sub(1));
            }
        }
        require_space(plan, found.total.saturating_sub(self.table.kept()))?;
        file.set_len(found.total).map_err(io_error("write", &plan.partial))?;
        self.map = Some(map);
        Ok(true)
    }

    /// Begins with nothing. All claims and whatever was read are void.
    pub fn begin(
        &mut self,
        plan: &Plan,
        file: &File,
        total: Option<u64>,
        tag: Option<&str>,
    ) -> Result<(), HubError> {
        self.revoke(|_| true);
        let sized = file.set_len(0).and_then(|()| file.set_len(total.unwrap_or(0)));
        sized.map_err(io_error("write", &plan.partial))?;
        self.table = Table::new(plan.part, total);
        self.generation += 1;
        self.wanted_tag = None;
        self.suspects.clear();
        self.map = match total {
            Some(total) => Some(Map::create(&plan.map, &Identity::of(plan, total, tag))?),
            None => {
                let _ = std::fs::remove_file(&plan.map);
                None
            }
        };
        Ok(())
    }

    /// Takes back what connections have claimed; their parts are given back with what there is of them.
    pub fn revoke(&mut self, which: impl Fn(&Held) -> bool) {
        for me in 0..self.claims.len() {
            let Some(place) = self.claims.get_mut(me).filter(|h| h.as_ref().is_some_and(&which))
            else {
                continue;
            };
            if let Some(held) = place.take() {
                self.put_back(held);
            }
        }
    }

    /// Ends a claim: what it did not fill is missing again, what it began is kept.
    pub fn put_back(&mut self, held: Held) {
        let mut begun = lock(&held.lease.filling).take();
        if let Some(origin) = self.origins.get_mut(held.origin) {
            origin.active = origin.active.saturating_sub(1);
        }
        for index in held.current..held.end {
            self.table.release(index, begun.take());
        }
    }

    /// What a connection has claimed, unless that was taken away from it.
    pub fn held(&mut self, me: usize, claim: &Claim) -> Result<&mut Held, End> {
        let held = self.claims.get_mut(me).and_then(Option::as_mut);
        held.filter(|h| h.id == claim.id).ok_or(End::Revoked)
    }

    /// Bytes on the disk, those of parts being filled among them.
    pub fn done(&self) -> u64 {
        let filling = self.claims.iter().flatten();
        self.table.kept() + filling.map(|h| h.lease.done.load(Ordering::Relaxed)).sum::<u64>()
    }

    pub fn is_idle(&self) -> bool {
        self.claims.iter().all(Option::is_none)
    }

    /// What there is to read after the parts before `index`, all read in this generation.
    pub fn prefix(&self, index: usize, generation: u64) -> Prefix {
        use super::parts::State as Is;
        if self.over || self.local.is_some() {
            return Prefix::Ended;
        }
        if generation != self.generation {
            return Prefix::Void;
        }
        match self.table.get(index).filter(|p| p.state == Is::Here) {
            Some(part) => {
                let (start, len) = (self.table.start(index), self.table.part_len(index));
                Prefix::Here { start, len, sum: part.sum, proven: part.proven }
            }
            None if self.table.total().is_some() && index == self.table.len() => Prefix::Complete,
            None if self.is_idle() && self.origins.iter().all(|o| o.gone) => Prefix::Ended,
            None => Prefix::Wait,
        }
    }

    fn paces(&self, now: Instant) -> Vec<Pace> {
        let pace = |h: &Held| Pace {
            origin: h.origin,
            bytes: h.lease.got.load(Ordering::Relaxed),
            time: now.saturating_duration_since(h.asked),
        };
        self.claims.iter().flatten().map(pace).collect()
    }

    fn claim(&mut self, me: usize, plan: &Plan, now: Instant) -> Option<Claim> {
        let unknown = self.table.total().is_none();
        let nothing_to_do = !unknown && self.table.missing() == 0 && self.is_idle();
        if nothing_to_do || (unknown && !self.is_idle()) {
            return None;
        }
        let paces = self.paces(now);
        let origin = origins::choose(&self.origins, self.only, &paces, now)?;
        let by = u16::try_from(origin).ok();
        let standing = self.origins.get(origin)?;
        let (filling, end) = if unknown {
            (self.table.grow(by), 1)
        } else if self.table.missing() == 0 {
            let speed = origins::speed(&self.origins, origin, &paces)?;
            self.take_over(by, speed, now)?
        } else {
            let several = self.origins.iter().filter(|o| !o.gone).count() > 1;
            let most = match run_length(self.table.missing(), plan.connections) {
                _ if !standing.ranges => 1,
                most if several && !standing.ready => most.min(PROBE),
                most => most,
            };
            self.table.run(most, by)?
        };
        Some(self.hold(me, origin, filling, end, now))
    }

    fn hold(
        &mut self,
        me: usize,
        origin: usize,
        filling: Filling,
        end: usize,
        now: Instant,
    ) -> Claim {
        self.next_id += 1;
        let (id, current) = (self.next_id, filling.index);
        let from = self.table.start(current) + filling.done;
        let to = match self.table.total() {
            Some(_) => self.table.end(end.saturating_sub(1)),
            None => FIRST_RUN,
        };
        let lease = Arc::new(Lease {
            got: AtomicU64::new(0),
            done: AtomicU64::new(filling.done),
            filling: Mutex::new(Some(filling)),
        });
        let (mut range, mut direct) = (None, None);
        if let Some(standing) = self.origins.get_mut(origin) {
            standing.active += 1;
            range = standing.ranges.then_some((from, to));
            direct = standing.direct.clone();
        }
        if let Some(place) = self.claims.get_mut(me) {
            let lease = lease.clone();
            let (asked, since, whole, credited) = (now, now, false, 0);
            *place = Some(Held { id, origin, lease, current, end, whole, asked, since, credited });
        }
        Claim { id, origin, lease, range, direct, asked: now }
    }

    /// Takes work away from the connection that would need longest for it, if an origin of this speed is much faster: the second half
    /// of what it has not begun, else the very part that it is filling.
    fn take_over(&mut self, by: Option<u16>, speed: f64, now: Instant) -> Option<(Filling, usize)> {
        let mut worst: Option<(usize, f64)> = None;
        for (me, held) in self.claims.iter().enumerate() {
            let Some(held) = held else { continue };
            let time = now.saturating_duration_since(held.asked);
            let got = held.lease.got.load(Ordering::Relaxed);
            let rest = self.table.end(held.end - 1).saturating_sub(self.table.start(held.current));
            let rest = rest.saturating_sub(held.lease.done.load(Ordering::Relaxed)) as f64;
            let needs = rest * time.as_secs_f64() / (got as f64).max(1.0);
            let slow =
                time >= TOO_SLOW && needs > TOO_SLOW.as_secs_f64() + MUCH_FASTER * rest / speed;
            if slow && worst.is_none_or(|(_, w)| needs > w) {
                worst = Some((me, needs));
            }
        }
        let place = self.claims.get_mut(worst?.0)?;
        let held = place.as_mut()?;
        if held.end - held.current > 1 {
            let (middle, end) = (held.current + (held.end - held.current).div_ceil(2), held.end);
            held.end = middle;
            return Some((self.table.filling(middle, by), end));
        }
        let (index, held) = (held.current, place.take()?);
        self.put_back(held);
        Some((self.table.claim(index, by)?, index + 1))
    }
}
