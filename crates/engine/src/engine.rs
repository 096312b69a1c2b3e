//! The handle to a running engine: checks requests and queues them; one thread does the rest. It knows nothing of
//! HTTP, terminals or files. Limits come from the caller: nothing here asks the machine.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use hob_model::PAGE;
use hob_text::Tokenizer;

use crate::request::{Cancel, Listener, MAX_STOP_BYTES, MAX_STOPS, Request, Sink, Stream};
use crate::schedule::Budget;
use crate::sequence::Job;
use crate::worker::Worker;
use crate::{EngineError, Runner};

/// What an engine may use; its rows and pages are those of its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Tokens of the longest sequence, prompt and answer.
    pub context: usize,
    /// Sequences running at once.
    pub sequences: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Rows of a step while somebody decodes: bounds how long a prefill holds up an answer.
    pub mixed_rows: usize,
}

/// What an engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Sequences running.
    pub running: usize,
    /// Requests waiting.
    pub waiting: usize,
    /// KV pages that a new sequence could have.
    pub available_pages: usize,
    /// KV pages that hold prefixes for reuse.
    pub cached_pages: usize,
    /// False once the device was lost: nothing will be answered any more.
    pub alive: bool,
}

/// What handle and worker both see.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) closing: AtomicBool,
    pub(crate) waiting: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) available: AtomicUsize,
    pub(crate) cached: AtomicUsize,
    lost: AtomicBool,
}

impl Shared {
    pub(crate) fn declare_lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }
}

/// A running engine. Clones are handles to the same one; dropping the last ends what runs and waits for the step in
/// progress, so that afterwards its memory is free.
#[derive(Clone)]
pub struct Engine(Arc<Handle>);

struct Handle {
    jobs: Option<Sender<Job>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
    config: EngineConfig,
    vocab: usize,
    eog: Vec<u32>,
    ids: AtomicU64,
    entropy: RandomState,
}

impl Engine {
    /// Starts an engine on a loaded model.
    ///
    /// # Errors
    /// When the numbers make no sense together, or there is no thread.
    pub fn start(
        runner: Runner,
        tokenizer: Arc<Tokenizer>,
        config: EngineConfig,
    ) -> Result<Self, EngineError> {
        check(&runner, &config)?;
        let (jobs, inbox) = channel();
        let shared = Arc::new(Shared::default());
        shared.available.store(runner.limits().pages, Ordering::Relaxed);
        let budget = Budget {
            rows: runner.limits().rows,
            mixed_rows: config.mixed_rows.min(runner.limits().rows),
            sequences: config.sequences,
        };
        let (vocab, eog) = (runner.model().vocab as usize, tokenizer.eog_tokens().to_vec());
        let seen = shared.clone();
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || Worker::new(runner, &tokenizer, budget, inbox, seen).run())?;
        Ok(Engine(Arc::new(Handle {
            jobs: Some(jobs),
            thread: Mutex::new(Some(thread)),
            shared,
            config,
            vocab,
            eog,
            ids: AtomicU64::new(0),
            entropy: RandomState::new(),
        })))
    }

    /// Queues a request and gives its events to be waited for.
    ///
    /// # Errors
    /// When the request cannot run, too many wait, or the engine has stopped.
    pub fn submit(&self, request: Request) -> Result<Stream, EngineError> {
        let (sender, events) = channel();
        let cancel = self.submit_to(request, Box::new(move |event| sender.send(event).is_ok()))?;
        Ok(Stream { events, cancel, ended: false })
    }

    /// Queues a request whose events are handed to `sink`, on the engine's thread. Should that thread die, the sink is
    /// dropped without a last event.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub fn submit_to(&self, request: Request, sink: Sink) -> Result<Cancel, EngineError> {
        let handle = &self.0;
        let job = handle.job(request, sink)?;
        let cancel = job.listener.cancel();
        let stopped = || EngineError::Stopped("its device was lost".to_owned());
        let jobs = handle.jobs.as_ref().filter(|_| self.status().alive).ok_or_else(stopped)?;
        if handle.shared.waiting.fetch_add(1, Ordering::Relaxed) >= handle.config.queue {
            handle.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(EngineError::Busy { limit: handle.config.queue });
        }
        jobs.send(job).map_err(|_| stopped())?;
        Ok(cancel)
    }

    /// What it is doing now.
    pub fn status(&self) -> Status {
        let shared = &self.0.shared;
        let load = |from: &AtomicUsize| from.load(Ordering::Relaxed);
        Status {
            running: load(&shared.running),
            waiting: load(&shared.waiting),
            available_pages: load(&shared.available),
            cached_pages: load(&shared.cached),
            alive: !shared.lost.load(Ordering::Relaxed),
        }
    }

    /// The limits it was started with.
    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }
}

fn check(runner: &Runner, config: &EngineConfig) -> Result<(), EngineError> {
    let room = runner.limits().pages * PAGE;
    for (what, found, least, most) in [
        ("context", config.context, 2, room),
        ("sequences", config.sequences, 1, usize::MAX),
        ("queue", config.queue, 1, usize::MAX),
        ("mixed_rows", config.mixed_rows, 1, usize::MAX),
    ] {
        if !(least..=most).contains(&found) {
            let expected = match most {
                usize::MAX => format!("at least {least}"),
                most => format!("from {least} to {most}, the tokens that the KV pages hold"),
            };
            return Err(EngineError::Range { what, found, expected });
        }
    }
    Ok(())
}

impl Handle {
    /// Checks a request and settles what it left open.
    fn job(&self, mut request: Request, sink: Sink) -> Result<Job, EngineError> {
        let (tokens, context) = (request.prompt.len(), self.config.context);
        if tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        if tokens >= context {
            return Err(EngineError::PromptTooLong { tokens, context });
        }
        if let Some(&token) = request.prompt.iter().find(|&&t| t as usize >= self.vocab) {
            let expected = format!("below {}, the size of the vocabulary", self.vocab);
            return Err(EngineError::Range {
                what: "a prompt token",
                found: token as usize,
                expected,
            });
        }
        request.sample.validate(self.vocab)?;
        check_stops(&request.stop)?;
        if request.ignore_eos {
            let known: HashSet<u32> =
                self.eog.iter().copied().filter(|&t| (t as usize) < self.vocab).collect();
            request.sample.logit_bias.extend(known.into_iter().map(|t| (t, f32::NEG_INFINITY)));
        }
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let room = context - tokens;
        Ok(Job {
            id,
            seed: request.sample.seed.unwrap_or_else(|| self.entropy.hash_one(id)),
            limit: tokens + request.max_tokens.unwrap_or(room).min(room),
            request,
            listener: Listener::new(sink),
            submitted: Instant::now(),
        })
    }
}

fn check_stops(stops: &[String]) -> Result<(), EngineError> {
    if stops.len() > MAX_STOPS {
        let expected = format!("at most {MAX_STOPS}");
        return Err(EngineError::Range {
            what: "the number of stop strings",
            found: stops.len(),
            expected,
        });
    }
    match stops.iter().map(String::len).find(|n| !(1..=MAX_STOP_BYTES).contains(n)) {
        None => Ok(()),
        Some(found) => {
            let expected = format!("from 1 to {MAX_STOP_BYTES} bytes");
            Err(EngineError::Range { what: "the length of a stop string", found, expected })
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.jobs = None;
        let thread = self.thread.get_mut().ok().and_then(Option::take);
        // A sink may hold the last handle: the engine's own thread cannot wait for itself.
        if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}
