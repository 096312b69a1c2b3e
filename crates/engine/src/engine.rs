//! The handle to a running engine: checks requests and queues them; one thread does the rest. It knows nothing of
//! HTTP, terminals or files. Limits come from the caller: nothing here asks the machine.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use hob_model::{Head, PAGE, Pooling};
use hob_text::Tokenizer;

use crate::embed::{Embed, EmbedJob, Embedding, Reply};
use crate::grammar::Follower;
use crate::pages::{Pages, Room};
use crate::request::{Cancel, Listener, MAX_STOP_BYTES, MAX_STOPS, Request, Sink, Stream};
use crate::schedule::Budget;
use crate::sequence::{Job, Work};
use crate::speculate::{Draft, Drafter, Speculator};
use crate::worker::Worker;
use crate::{EngineError, Runner};

/// Most requests that can arrive within one step.
const MOST_ARRIVING: usize = 1 << 16;

/// What an engine may use; its rows and pages are those of its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Tokens of the longest sequence, prompt and answer.
    pub context: usize,
    /// Sequences running at once. An eighth, and at least one of several, is kept for clients that run nothing.
    pub sequences: usize,
    /// Requests that may wait; of those that are cancelled at once, as many more within a step.
    pub queue: usize,
    /// Rows of a step while somebody decodes: bounds how long a prefill holds up an answer. What decoding leaves of
    /// them is for prefills, so it should be well above `sequences`.
    pub mixed_rows: usize,
}

/// What an engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Sequences running.
    pub running: usize,
    /// Requests waiting, those for embeddings until they are answered.
    pub waiting: usize,
    /// KV pages that there are, over all groups of layers.
    pub total_pages: usize,
    /// KV pages that new sequences could have, likewise.
    pub available_pages: usize,
    /// KV pages that hold prefixes for reuse, likewise.
    pub cached_pages: usize,
    /// Recurrent states that are kept after prefixes.
    pub checkpoints: usize,
    /// Steps since the start, as are all that follow.
    pub steps: u64,
    /// Tokens of prompts, and of texts to be embedded, that were computed.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were found in the cache instead.
    pub cached_tokens: u64,
    /// Tokens chosen.
    pub generated_tokens: u64,
    /// Requests that came to their end.
    pub finished: u64,
    /// Requests that were cancelled, running or waiting.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Tokens that were drafted and computed.
    pub drafted: usize,
    /// Those of them that were right.
    pub accepted: usize,
    /// False once the device was lost: nothing will be answered any more.
    pub alive: bool,
}

/// What handle and worker both see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) closing: AtomicBool,
    pub(crate) waiting: AtomicUsize,
    /// Whether something that waits was cancelled since the worker looked last.
    pub(crate) vanished: AtomicBool,
    pub(crate) running: AtomicUsize,
    pub(crate) available: AtomicUsize,
    pub(crate) cached: AtomicUsize,
    pub(crate) checkpoints: AtomicUsize,
    pub(crate) counts: Counts,
    pub(crate) drafted: AtomicUsize,
    pub(crate) accepted: AtomicUsize,
    lost: AtomicBool,
}

/// What only grows; [`Status`] says what each is.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) steps: AtomicU64,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// Counts further.
pub(crate) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
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
    jobs: Option<SyncSender<Work>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
    config: EngineConfig,
    total_pages: usize,
    vocab: usize,
    /// Tokens of the tokenizer; the model may have more.
    known: usize,
    eog: Vec<u32>,
    /// How an encoder makes its vectors.
    pooling: Option<Pooling>,
    /// Tokens of the longest text to be embedded.
    longest: usize,
    /// Why nothing is drafted, if so.
    plain: Option<&'static str>,
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
        Self::launch(runner, tokenizer, config, None)
    }

    /// Starts an engine with a second model that drafts for the first, for requests that speculate.
    ///
    /// # Errors
    /// As [`Engine::start`], and when the second cannot draft for the first.
    pub fn start_with_draft(
        runner: Runner,
        tokenizer: Arc<Tokenizer>,
        config: EngineConfig,
        draft: Draft,
    ) -> Result<Self, EngineError> {
        let common = draft.check(&runner, &tokenizer)?;
        let drafter = Drafter::new(draft.runner, config.sequences, common);
        Self::launch(runner, tokenizer, config, Some(drafter))
    }

    fn launch(
        runner: Runner,
        tokenizer: Arc<Tokenizer>,
        config: EngineConfig,
        drafter: Option<Drafter>,
    ) -> Result<Self, EngineError> {
        check(&runner, &config)?;
        // Requests that are cancelled at once do not count as waiting, but lie here until the step in progress ends.
        let (jobs, inbox) = sync_channel(config.queue.saturating_mul(2).min(MOST_ARRIVING));
        let shared = Arc::new(Shared::default());
        let room = Room::of(runner.layout(), runner.limits(), config.sequences, true);
        let total_pages = Pages::new(&room).available().iter().sum();
        shared.available.store(total_pages, Ordering::Relaxed);
        let budget = Budget {
            rows: runner.limits().rows,
            mixed_rows: config.mixed_rows.min(runner.limits().rows),
            sequences: config.sequences,
        };
        let (vocab, eog) = (runner.model().vocab as usize, tokenizer.eog_tokens().to_vec());
        let known = tokenizer.vocab_size();
        let pooling = match runner.model().head {
            Head::Pool(pooling) => Some(pooling),
            Head::Logits(_) => None,
        };
        let longest = config.context.min(runner.model().context as usize).min(budget.rows);
        let plain = plain(&runner);
        let seen = shared.clone();
        let speculator = Speculator::new(plain.is_none(), drafter);
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            Worker::new(runner, &tokenizer, budget, speculator, inbox, seen).run()
        })?;
        Ok(Engine(Arc::new(Handle {
            jobs: Some(jobs),
            thread: Mutex::new(Some(thread)),
            shared,
            config,
            total_pages,
            vocab,
            known,
            eog,
            pooling,
            longest,
            plain,
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
        let job = self.0.job(request, sink)?;
        let cancel = job.listener.cancel().clone();
        self.queue(Work::Answer(Box::new(job)), &cancel)?;
        Ok(cancel)
    }

    /// Queues texts to be turned into vectors.
    ///
    /// # Errors
    /// When a text is empty or too long to be computed whole in one step, too many requests wait, or the engine has
    /// stopped.
    pub fn embed(&self, request: Embed) -> Result<Embedding, EngineError> {
        let (reply, vectors) = channel();
        let job = self.0.embed_job(request, reply)?;
        let cancel = job.cancel.clone();
        self.queue(Work::Embed(Box::new(job)), &cancel)?;
        Ok(Embedding { vectors, cancel })
    }

    fn queue(&self, work: Work, place: &Cancel) -> Result<(), EngineError> {
        let handle = &self.0;
        let stopped = || EngineError::Stopped("its device was lost".to_owned());
        let jobs = handle.jobs.as_ref().filter(|_| self.status().alive).ok_or_else(stopped)?;
        let full = handle.shared.waiting.fetch_add(1, Ordering::Relaxed) >= handle.config.queue;
        let sent = if full { Err(TrySendError::Full(work)) } else { jobs.try_send(work) };
        sent.map_err(|error| {
            place.leave();
            match error {
                TrySendError::Full(_) => EngineError::Busy { limit: handle.config.queue },
                TrySendError::Disconnected(_) => stopped(),
            }
        })
    }

    /// What it is doing now.
    pub fn status(&self) -> Status {
        let shared = &self.0.shared;
        let load = |from: &AtomicUsize| from.load(Ordering::Relaxed);
        let sum = |of: &AtomicU64| of.load(Ordering::Relaxed);
        // In this order, what starts meanwhile is seen as one of them.
        let waiting = shared.waiting.load(Ordering::Acquire);
        Status {
            running: load(&shared.running),
            waiting,
            total_pages: self.0.total_pages,
            available_pages: load(&shared.available),
            cached_pages: load(&shared.cached),
            checkpoints: load(&shared.checkpoints),
            steps: sum(&shared.counts.steps),
            prompt_tokens: sum(&shared.counts.prompt_tokens),
            cached_tokens: sum(&shared.counts.cached_tokens),
            generated_tokens: sum(&shared.counts.generated_tokens),
            finished: sum(&shared.counts.finished),
            cancelled: sum(&shared.counts.cancelled),
            failed: sum(&shared.counts.failed),
            drafted: load(&shared.drafted),
            accepted: load(&shared.accepted),
            alive: !shared.lost.load(Ordering::Relaxed),
        }
    }

    /// Whether requests can have tokens drafted.
    ///
    /// # Errors
    /// Why not. Requests that ask for it are answered all the same.
    pub fn speculates(&self) -> Result<(), &'static str> {
        self.0.plain.map_or(Ok(()), Err)
    }

    /// Tokens of the longest text that can be embedded.
    pub fn longest_text(&self) -> usize {
        self.0.longest
    }

    /// The limits it was started with.
    pub fn config(&self) -> &EngineConfig {
        &self.0.config
    }
}

/// Why tokens cannot be drafted for this model, if so.
fn plain(runner: &Runner) -> Option<&'static str> {
    if matches!(runner.model().head, Head::Pool(_)) {
        return Some("an encoder writes no tokens");
    }
    if !runner.layout().states.is_empty() {
        return Some("its recurrent state cannot be taken back after a wrong draft");
    }
    (runner.limits().rows < 2).then_some("its steps have one row, which leaves none for drafts")
}

fn check(runner: &Runner, config: &EngineConfig) -> Result<(), EngineError> {
    let room = runner.limits().pages * PAGE;
    let recurrent = !runner.layout().states.is_empty();
    let states = if recurrent { runner.limits().states } else { usize::MAX };
    for (what, found, least, most) in [
        ("context", config.context, 2, room),
        ("sequences", config.sequences, 1, states),
        ("queue", config.queue, 1, usize::MAX),
        ("mixed_rows", config.mixed_rows, 1, usize::MAX),
    ] {
        if !(least..=most).contains(&found) {
            let expected = match most {
                usize::MAX => format!("at least {least}"),
                most => format!("from {least} to {most}, for which there is memory"),
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
        if self.pooling.is_some() {
            return Err(EngineError::Encoder);
        }
        if tokens == 0 {
            return Err(EngineError::EmptyPrompt);
        }
        if tokens >= context {
            return Err(EngineError::PromptTooLong { tokens, context });
        }
        self.check_tokens(&request.prompt)?;
        request.sample.validate(self.vocab)?;
        check_stops(&request.stop)?;
        let follower = self.follower(&request)?;
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
            follower,
            listener: Listener::new(sink, Cancel::new(self.shared.clone())),
            submitted: Instant::now(),
        })
    }

    /// What keeps the answer to its constraint.
    fn follower(&self, request: &Request) -> Result<Option<Follower>, EngineError> {
        let Some(constraint) = &request.constraint else { return Ok(None) };
        if constraint.vocab() != self.known {
            return Err(EngineError::Range {
                what: "the vocabulary of the constraint",
                found: constraint.vocab(),
                expected: format!("that of the model, which has {} tokens", self.known),
            });
        }
        let mut follower = constraint.follow()?;
        if request.ignore_eos {
            follower.forbid_ends();
        }
        Ok(Some(follower))
    }

    /// Checks texts and settles how they become vectors.
    fn embed_job(&self, request: Embed, reply: Reply) -> Result<EmbedJob, EngineError> {
        for (text, tokens) in request.texts.iter().enumerate() {
            match tokens.len() {
                0 => return Err(EngineError::EmptyText { text }),
                tokens if tokens > self.longest => {
                    return Err(EngineError::TextTooLong { text, tokens, most: self.longest });
                }
                _ => self.check_tokens(tokens)?,
            }
        }
        Ok(EmbedJob {
            id: self.ids.fetch_add(1, Ordering::Relaxed),
            client: request.client,
            priority: request.priority,
            texts: request.texts,
            pooling: request.pooling.or(self.pooling).unwrap_or(Pooling::Last),
            normalize: request.normalize,
            placed: 0,
            vectors: Vec::new(),
            reply,
            cancel: Cancel::new(self.shared.clone()),
        })
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), EngineError> {
        match tokens.iter().find(|&&t| t as usize >= self.vocab) {
            None => Ok(()),
            Some(&token) => {
                let expected = format!("below {}, the size of the vocabulary", self.vocab);
                Err(EngineError::Range { what: "a token", found: token as usize, expected })
            }
        }
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
