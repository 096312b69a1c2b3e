//! What is known about each origin of a file, and which of them the next connection goes to: each is tried once, the fastest get the
//! connections, others take part if they are at least half as fast. Pure, time is given. Deliberately absent: memory beyond one transfer.

use std::time::{Duration, Instant};

use crate::net::Patience;

/// Failures are forgotten after this many new bytes.
const PROGRESS: u64 = 512 << 10;
/// An origin's speed counts as known after so many bytes, or so much time.
pub(super) const KNOWN_BYTES: u64 = 512 << 10;
const KNOWN_TIME: Duration = Duration::from_secs(1);

/// Bytes per second at which further connections to one origin are of no use: they wait for each other at the file and for a processor.
const ENOUGH: f64 = 300e6;

/// What is known about one origin.
#[derive(Debug)]
pub(super) struct Standing {
    /// Given up for good.
    pub gone: bool,
    /// It answered once, whatever it was.
    pub reached: bool,
    /// It offered the file.
    pub ready: bool,
    /// It is asked for ranges. Otherwise one connection brings the whole file.
    pub ranges: bool,
    /// The edition it offered first.
    pub tag: Option<String>,
    /// It has changed its file once already.
    pub replaced: bool,
    /// Where it redirects to, asked directly while that works.
    pub direct: Option<String>,
    /// Connections at work.
    pub active: usize,
    /// Most connections that it puts up with.
    pub limit: usize,
    /// Bytes that were delivered and kept.
    pub delivered: u64,
    failures: u32,
    failed_at: Option<Instant>,
    not_before: Option<Instant>,
    /// New bytes since the last failure.
    credit: u64,
    /// Bytes per second of one connection.
    speed: Option<f64>,
}

/// What a failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Again,
    /// After so many failures in a row.
    Enough(u32),
}

impl Standing {
    pub fn new(connections: usize) -> Standing {
        Standing {
            gone: false,
            reached: false,
            ready: false,
            ranges: true,
            tag: None,
            replaced: false,
            direct: None,
            active: 0,
            limit: connections,
            delivered: 0,
            failures: 0,
            failed_at: None,
            not_before: None,
            credit: 0,
            speed: None,
        }
    }

    /// Bytes arrived that were not there before.
    pub fn progress(&mut self, bytes: u64) {
        self.delivered += bytes;
        self.credit += bytes;
        if self.credit >= PROGRESS {
            self.failures = 0;
        }
    }

    /// One part took so long.
    pub fn measure(&mut self, bytes: u64, time: Duration) {
        let now = bytes as f64 / time.as_secs_f64().max(1e-6);
        self.speed = Some(self.speed.map_or(now, |before| (before + now) / 2.0));
    }

    /// A request that began at `asked` failed. Connections that break together count once.
    pub fn fail(
        &mut self,
        asked: Instant,
        now: Instant,
        wait: Option<Duration>,
        patience: &Patience,
    ) -> Verdict {
        if self.failed_at.is_some_and(|at| asked <= at) {
            return Verdict::Again;
        }
        self.failures += 1;
        self.credit = 0;
        self.failed_at = Some(now);
        let backoff = patience.backoff.saturating_mul(1 << (self.failures - 1).min(6));
        self.not_before = Some(now + wait.unwrap_or(backoff).min(patience.stall));
        if self.failures >= patience.failures {
            return Verdict::Enough(self.failures);
        }
        Verdict::Again
    }

    /// Whether another connection may be opened. Where few bring what this machine can take in, more only get in each other's way.
    fn has_room(&self, now: Instant) -> bool {
        let most = if !self.ready || !self.ranges || self.failures > 0 { 1 } else { self.limit };
        let fast = self.speed.is_some_and(|s| s * self.active as f64 >= ENOUGH);
        !self.gone && !fast && self.active < most && self.not_before.is_none_or(|t| t <= now)
    }
}

/// Bytes and time of a connection at work, for origins that have not completed a part yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub origin: usize,
    pub bytes: u64,
    pub time: Duration,
}

impl Pace {
    pub fn is_known(&self) -> bool {
        self.bytes >= KNOWN_BYTES || self.time >= KNOWN_TIME
    }

    pub fn speed(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-6)
    }
}

/// Bytes per second of one connection to an origin; `None` while that is not known.
pub(super) fn speed(origins: &[Standing], index: usize, paces: &[Pace]) -> Option<f64> {
    let known = paces.iter().filter(|p| p.origin == index && p.is_known());
    origins.get(index)?.speed.or_else(|| known.map(Pace::speed).reduce(f64::max))
}

/// The origin that an idle connection goes to, `only` this one if there is one; `None` when it is better to wait.
pub(super) fn choose(
    origins: &[Standing],
    only: Option<usize>,
    paces: &[Pace],
    now: Instant,
) -> Option<usize> {
    let at = |i: usize| origins.get(i);
    let allowed = |i: &usize| only.is_none_or(|o| o == *i);
    let room = |i: &usize| at(*i).is_some_and(|o| o.has_room(now));
    let open = || (0..origins.len()).filter(allowed).filter(room);
    if let Some(new) = open().find(|i| at(*i).is_some_and(|o| !o.ready)) {
        return Some(new);
    }
    let known: Vec<(usize, f64)> =
        open().filter_map(|i| Some((i, speed(origins, i, paces)?))).collect();
    let Some(best) = known.iter().map(|(_, s)| *s).reduce(f64::max) else {
        let alone = only.is_some() || origins.iter().filter(|o| !o.gone).count() == 1;
        let idle = origins.iter().all(|o| o.active == 0);
        return open().next().filter(|_| alone || idle);
    };
    let share = |(i, s): &(usize, f64)| s / at(*i).map_or(1.0, |o| o.active as f64 + 1.0);
    let worth = known.iter().filter(|(_, s)| *s * 2.0 >= best);
    worth.max_by(|a, b| share(a).total_cmp(&share(b))).map(|(i, _)| *i)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(speed: Option<f64>) -> Standing {
        Standing { ready: true, speed, ..Standing::new(8) }
    }

    #[test]
    fn every_origin_is_tried_then_the_fastest_get_the_connections() {
        let now = Instant::now();
        let mut origins = vec![Standing::new(8), Standing::new(8)];
        assert_eq!(choose(&origins, None, &[], now), Some(0));
        origins[0].active = 1;
        assert_eq!(choose(&origins, None, &[], now), Some(1));
        origins[1].active = 1;
        assert_eq!(choose(&origins, None, &[], now), None);
        (origins[0].ready, origins[1].ready) = (true, true);
        assert_eq!(choose(&origins, None, &[], now), None, "nothing is known yet");
        let pace = |origin, bytes| Pace { origin, bytes, time: Duration::from_millis(100) };
        let paces = [pace(0, 10), pace(1, KNOWN_BYTES)];
        assert_eq!(choose(&origins, None, &paces, now), Some(1));
        origins[0].measure(1_000_000, Duration::from_secs(1));
        origins[1].measure(10_000_000, Duration::from_secs(1));
        for active in 1..8 {
            origins[1].active = active;
            assert_eq!(choose(&origins, None, &[], now), Some(1));
        }
        // Full: the slow one is better than nothing.
        origins[1].active = 8;
        assert_eq!(choose(&origins, None, &[], now), Some(0));
    }

    #[test]
    fn connections_are_shared_by_speed_from_half_the_best_on() {
        let now = Instant::now();
        let mut origins = vec![ready(Some(6.0)), ready(Some(10.0)), ready(Some(4.9))];
        let mut given = [0; 3];
        for _ in 0..8 {
            let chosen = choose(&origins, None, &[], now).unwrap();
            given[chosen] += 1;
            origins[chosen].active += 1;
        }
        assert_eq!(given, [3, 5, 0]);
        assert_eq!(choose(&origins, Some(2), &[], now), Some(2));
        origins[0].gone = true;
        origins[1].gone = true;
        assert_eq!(choose(&origins, None, &[], now), Some(2));
    }

    #[test]
    fn failures_that_come_together_count_once_and_new_bytes_forgive_them() {
        let patience = Patience { failures: 3, ..Patience::default() };
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut origin = ready(None);
        for _ in 0..8 {
            assert_eq!(origin.fail(at(0), at(5), None, &patience), Verdict::Again);
        }
        assert_eq!(origin.failures, 1);
        assert!(!origin.has_room(at(100)) && origin.has_room(at(505)));
        origin.active = 1;
        assert!(!origin.has_room(at(505)), "one at a time after a failure");
        origin.progress(PROGRESS);
        assert!(origin.has_room(at(505)));
        for (n, ms) in [(1, 600), (2, 700)] {
            assert_eq!(origin.fail(at(ms), at(ms), None, &patience), Verdict::Again);
            assert_eq!(origin.failures, n);
        }
        assert_eq!(origin.fail(at(800), at(801), None, &patience), Verdict::Enough(3));
        // A wish to wait for ever is not granted.
        let wish = Some(Duration::from_secs(1 << 40));
        origin.fail(at(900), at(900), wish, &patience);
        assert_eq!(origin.not_before, Some(at(900) + patience.stall));
    }

    #[test]
    fn a_very_fast_one_gets_few_connections() {
        let now = Instant::now();
        let mut origins = vec![ready(Some(200e6))];
        for active in 0..8 {
            origins[0].active = active;
            assert_eq!(choose(&origins, None, &[], now).is_some(), active < 2);
        }
    }

    #[test]
    fn one_without_ranges_gets_one_connection() {
        let now = Instant::now();
        let mut origins = vec![Standing { ranges: false, ..ready(None) }];
        assert_eq!(choose(&origins, None, &[], now), Some(0));
        origins[0].active = 1;
        assert_eq!(choose(&origins, None, &[], now), None);
    }
}
