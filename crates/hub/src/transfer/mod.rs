//! One file from one or several origins, over many connections, into a sparse partial file with a map of what is there. The digest is
//! computed while the bytes arrive, by the calling thread, which follows the part of the file that has no holes.
//! Deliberately absent: what a repository or a store is, and any trust in what an earlier transfer left: it is read and compared.

mod disk;
mod map;
mod offer;
mod origins;
mod outcome;
mod parts;
mod rate;
mod shared;
#[cfg(test)]
mod tests;
mod worker;

use std::fs::OpenOptions;
use std::hash::Hasher as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use twox_hash::XxHash3_64;

use crate::Progress;
use crate::digest::{Digest, Hasher};
use crate::error::{FetchError, HubError, io_error};
use crate::net::{Credential, Net};

use disk::Flusher;
use parts::MAX_BYTES;
use rate::Rate;
use shared::{Prefix, Shared};

/// How often progress is told at most.
const TELL: Duration = Duration::from_millis(50);
/// Bytes after which the disk is asked to keep up.
const FLUSH: u64 = 128 << 20;
/// What the digest reads at a time.
const READ: usize = 128 << 10;

/// A place that has the file.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// For messages.
    pub words: String,
    pub url: String,
    pub credential: Option<Credential>,
}

/// The file wanted.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// Where bytes gather, sparse, in a file of the final size.
    pub partial: PathBuf,
    /// Where it is noted which parts are there, with a checksum of each. Stays when the file is complete, so that a damaged one can be
    /// mended: put back as `partial`, only the parts that differ from their checksums are fetched again.
    pub map: PathBuf,
    /// Length of the file; `None`: the first answer tells.
    pub bytes: Option<u64>,
    /// SHA-256 of the file; `None`: whatever comes is right, as long as it comes in one edition.
    pub digest: Option<Digest>,
    /// All of them claim to have this very file.
    pub origins: &'a [Origin],
}

/// How to go about it.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Most connections at a time, over all origins.
    pub connections: usize,
    /// Most bytes per second, over all connections.
    pub rate: Option<u64>,
    /// Bytes of a part: what one connection may lose when the process dies.
    pub part: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { connections: 8, rate: None, part: 4 << 20 }
    }
}

/// A file that is complete and right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub digest: Digest,
    pub bytes: u64,
    /// Words of the origin that delivered most.
    pub origin: String,
}

/// The job without its origins, as all threads see it.
#[derive(Clone, Debug)]
struct Plan {
    partial: PathBuf,
    map: PathBuf,
    bytes: Option<u64>,
    digest: Option<Digest>,
    part: u64,
    connections: usize,
}

impl Plan {
    fn folder(&self) -> &Path {
        self.partial.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

/// Fetches a file, going on from what an earlier transfer left, until it is complete and has the digest wanted. Origins that are given up
/// are announced as `Progress::Failed`.
///
/// # Errors
/// `Origins` when all were given up, with the reason of each; `Local` when the disk is full or fails. What there is stays for the next try.
pub(crate) fn fetch(
    net: &Net,
    job: &Job,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Fetched, FetchError> {
    let rate = Rate::new(options.rate);
    let plan = Plan {
        partial: job.partial.clone(),
        map: job.map.clone(),
        bytes: job.bytes,
        digest: job.digest,
        part: options.part.clamp(64 << 10, 1 << 30),
        connections: rate.connections(options.connections),
    };
    if let Some(bytes) = job.bytes.filter(|bytes| *bytes > MAX_BYTES) {
        require_space(&plan, bytes)?;
    }
    for path in [&job.partial, &job.map] {
        disk::unlink(path).map_err(io_error("remove", path))?;
    }
    let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).clone();
    let file = open.open(&job.partial).map_err(io_error("open", &job.partial))?;
    let shared = Arc::new(Shared::open(net, plan, job.origins, file, rate)?);
    let team = Team::start(&shared);
    let digest = Follower::new(&shared).run(&team, progress)?;
    let state = shared.state();
    let most = state.origins.iter().zip(job.origins).max_by_key(|(s, _)| s.delivered);
    let most = most.filter(|(s, _)| s.delivered > 0).map(|(_, o)| o.words.clone());
    let origin = most.unwrap_or_else(|| "already here".into());
    Ok(Fetched { digest, bytes: state.table.total().unwrap_or(0), origin })
}

/// Fails when the file system has less than `needed` bytes left. One that does not tell is taken to have room for any file there is.
fn require_space(plan: &Plan, needed: u64) -> Result<(), HubError> {
    let path = plan.folder();
    let free = fs4::available_space(path).unwrap_or(MAX_BYTES).min(MAX_BYTES);
    if needed > free {
        return Err(HubError::NoSpace { path: path.to_owned(), needed, free });
    }
    Ok(())
}

/// What a thread that panicked left is no worse than before: every change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connections. They are not waited for at the end: one may sit in a read that only the server ends. Without a claim it writes
/// nothing any more.
struct Team<'a> {
    shared: &'a Shared,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<'a> Team<'a> {
    fn start(shared: &'a Arc<Shared>) -> Team<'a> {
        let wanted = {
            let table = &shared.state().table;
            table.total().map_or(shared.plan.connections, |_| table.missing())
        };
        let start = |me| {
            let shared = shared.clone();
            let name = format!("hob transfer {me}");
            thread::Builder::new().name(name).spawn(move || worker::work(&shared, me)).ok()
        };
        let threads = (0..wanted.clamp(1, shared.plan.connections)).filter_map(start).collect();
        Team { shared, threads: Mutex::new(threads) }
    }

    /// A connection that panicked is this thread's panic.
    fn check(&self) {
        let mut threads = lock(&self.threads);
        let ended = threads.iter().position(JoinHandle::is_finished);
        if let Some(Err(panic)) = ended.map(|at| threads.swap_remove(at).join()) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Team<'_> {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.over = true;
            state.revoke(|_| true);
        });
    }
}

/// Computes the digest of the file as far as it has no holes, and tells how things go.
struct Follower<'a> {
    shared: &'a Shared,
    hasher: Hasher,
    /// The first part that is not in the digest.
    index: usize,
    generation: u64,
    read: u64,
    buffer: Vec<u8>,
    told: (u64, u64),
    told_read: u64,
    told_at: Instant,
    announced: usize,
    /// Parts before this one need not be looked at ahead of time.
    ahead: usize,
    flusher: Flusher,
    /// Bytes of the digest when the disk was last asked to keep up.
    flushed: u64,
}

impl<'a> Follower<'a> {
    fn new(shared: &'a Shared) -> Follower<'a> {
        Follower {
            shared,
            hasher: Hasher::default(),
            index: 0,
            generation: shared.state().generation,
            read: 0,
            buffer: vec![0; READ],
            told: (0, 0),
            told_read: 0,
            told_at: Instant::now(),
            announced: 0,
            ahead: 0,
            flusher: Flusher::new(&shared.file),
            flushed: 0,
        }
    }

    fn run(
        mut self,
        team: &Team,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digest, FetchError> {
        loop {
            team.check();
            self.shared.net.stop.check()?;
            let prefix = self.look();
            self.tell(prefix == Prefix::Complete, progress);
            match prefix {
                Prefix::Here { start, len, sum, proven } => self.add(start, len, sum, proven)?,
                Prefix::Wait => self.look_ahead()?,
                Prefix::Void => self.restart(),
                Prefix::Ended => return Err(self.failure()),
                Prefix::Complete => {
                    let found = self.hasher.clone().finish();
                    match self.shared.plan.digest.filter(|wanted| *wanted != found) {
                        Some(wanted) => self.shared.mistaken(&wanted, &found)?,
                        None => {
                            self.name_liars(found, progress);
                            return Ok(found);
                        }
                    }
                }
            }
        }
    }

    /// What comes next, after a short wait if that is nothing and there is nothing else to do.
    fn look(&self) -> Prefix {
        let state = self.shared.state();
        match state.prefix(self.index, self.generation) {
            Prefix::Wait if state.table.unproven(self.ahead.max(self.index)).is_some() => {
                Prefix::Wait
            }
            Prefix::Wait => {
                let state = self.shared.wait(state, TELL);
                state.prefix(self.index, self.generation)
            }
            prefix => prefix,
        }
    }

    fn restart(&mut self) {
        self.hasher = Hasher::default();
        (self.index, self.read, self.ahead, self.flushed) = (0, 0, 0, 0);
        self.generation = self.shared.state().generation;
    }

    /// Takes one part into the digest. One that an earlier transfer left and that is not what its checksum says is missing after all.
    fn add(&mut self, start: u64, len: u64, sum: u64, proven: bool) -> Result<(), HubError> {
        let mut hasher = self.hasher.clone();
        let sound =
            self.read(start, len, |bytes| hasher.update(bytes), (!proven).then_some(sum))?;
        if !sound {
            return self.refute(self.index);
        }
        self.hasher = hasher;
        self.index += 1;
        self.read += len;
        if self.read >= self.flushed + FLUSH {
            self.flushed = self.read;
            self.flusher.flush();
        }
        Ok(())
    }

    /// Compares a part that an earlier transfer left with its checksum while the digest waits for another one, so that what is wrong is
    /// fetched all at once.
    fn look_ahead(&mut self) -> Result<(), HubError> {
        let (found, start, len) = {
            let table = &self.shared.state().table;
            let Some(found) = table.unproven(self.ahead.max(self.index)) else { return Ok(()) };
            (found, table.start(found.0), table.part_len(found.0))
        };
        let (index, sum) = found;
        self.ahead = index + 1;
        if self.read(start, len, |_| (), Some(sum))? {
            self.prove(index)
        } else {
            self.refute(index)
        }
    }

    /// Reads a part; `false` if it is not what its checksum says, should there be one to go by.
    fn read(
        &mut self,
        start: u64,
        len: u64,
        mut each: impl FnMut(&[u8]),
        sum: Option<u64>,
    ) -> Result<bool, HubError> {
        let mut check = XxHash3_64::new();
        let mut at = start;
        while at < start + len {
            let n = usize::try_from(start + len - at).unwrap_or(READ).min(READ);
            let bytes = self.buffer.get_mut(..n).unwrap_or_default();
            match disk::read_at(&self.shared.file, bytes, at) {
                Ok(()) => {}
                Err(_) if sum.is_some() => return Ok(false),
                Err(e) => return Err(io_error("read", &self.shared.plan.partial)(e)),
            }
            each(bytes);
            if sum.is_some() {
                check.write(bytes);
            }
            at += n as u64;
        }
        Ok(sum.is_none_or(|sum| check.finish() == sum))
    }

    fn prove(&self, index: usize) -> Result<(), HubError> {
        let mut state = self.shared.state();
        if state.generation == self.generation {
            state.table.prove(index);
        }
        Ok(())
    }

    fn refute(&self, index: usize) -> Result<(), HubError> {
        self.shared.change(|state| {
            if state.generation != self.generation {
                return Ok(());
            }
            state.table.discard(index);
            state.map.as_ref().map_or(Ok(()), |map| map.forget(index))
        })
    }

    /// Why nothing more will come. Of a file of which nothing is kept nothing stays.
    fn failure(&self) -> FetchError {
        self.shared.change(|state| {
            state.over = true;
            state.revoke(|_| true);
            if state.table.kept() == 0 {
                let _ = self.shared.file.set_len(0);
                let _ = std::fs::remove_file(&self.shared.plan.map);
            }
            match state.local.take() {
                Some(local) => FetchError::Local(local),
                None => FetchError::Origins(std::mem::take(&mut state.tried)),
            }
        })
    }

    /// Tells news at once, and how many bytes there are every now and then.
    fn tell(&mut self, last: bool, progress: &mut dyn FnMut(Progress)) {
        let state = self.shared.state();
        let news: Vec<(String, String)> = state
            .tried
            .iter()
            .skip(self.announced)
            .map(|t| (t.source.clone(), t.error.to_string()))
            .collect();
        let (done, total) = (state.done(), state.table.total());
        let fetched = state.origins.iter().any(|o| o.delivered > 0);
        let all_here = total.is_some() && state.table.missing() == 0 && state.is_idle();
        drop(state);
        self.announced += news.len();
        for (source, reason) in news {
            progress(Progress::Failed { source, reason });
        }
        let total = total.unwrap_or(done);
        let done = done.min(total);
        let due = last || self.told_at.elapsed() >= TELL;
        if (fetched || !all_here) && (due || all_here) && self.told != (done, total) {
            progress(Progress::Bytes { done, total });
            (self.told, self.told_at) = ((done, total), Instant::now());
        }
        if all_here && due && self.told_read != self.read && !(last && fetched) {
            progress(Progress::Verifying { done: self.read, total });
            (self.told_read, self.told_at) = (self.read, Instant::now());
        }
    }

    /// Says which origins had delivered other bytes before it came out right.
    fn name_liars(&self, digest: Digest, progress: &mut dyn FnMut(Progress)) {
        for liar in self.shared.state().liars() {
            if let Some(origin) = self.shared.origins.get(liar) {
                let reason = format!("it delivered bytes of another file than sha256 {digest}");
                progress(Progress::Failed { source: origin.words.clone(), reason });
            }
        }
    }
}
