//! What goes into the engine and what comes out: a request in tokens, events with text. The only verb is "continue
//! from these tokens"; templates, conversations and wire formats belong to the callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::engine::Shared;
use crate::fault::contained;
use crate::grammar::{Constraint, GrammarError};
use crate::sample::{Logprobs, SampleError, SampleOptions};
use crate::speculate::Speculate;

/// Most stop strings of a request.
pub const MAX_STOPS: usize = 64;
/// Most bytes of one stop string.
pub const MAX_STOP_BYTES: usize = 1024;

/// Tokens to continue, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Tokens so far.
    pub prompt: Vec<u32>,
    /// How tokens are chosen.
    pub sample: SampleOptions,
    /// Most tokens to generate; `None` for as many as the context holds. 0 only computes the prompt.
    pub max_tokens: Option<usize>,
    /// Strings at which the answer ends; they are not part of it.
    pub stop: Vec<String>,
    /// Never end by the model's own end tokens: they are forbidden. An answer with a constraint still ends where nothing else can
    /// follow.
    pub ignore_eos: bool,
    /// What the answer must be. It ends with [`Finish::Stop`] where the constraint lets nothing more follow.
    pub constraint: Option<Constraint>,
    /// Show control tokens as text.
    pub show_special: bool,
    /// Whose it is: the requests of one client share what is fair for one. 0 for a client of its own.
    pub client: u64,
    /// Higher goes first. A level counts as much as [`AGE`](crate::client::AGE) steps without being served.
    pub priority: i8,
    /// Whether tokens are drafted. The answer does not depend on it.
    pub speculate: Speculate,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or its constraint.
    Stop,
    /// A stop string came: its index in the request.
    StopString(usize),
    /// `max_tokens` or the context was reached.
    Length,
    /// The caller lost interest.
    Cancelled,
}

/// Where the time went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// From submission to admission.
    pub queue: f64,
    /// From admission to the first token.
    pub prefill: f64,
    /// From the first token to the last.
    pub decode: f64,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Why.
    pub finish: Finish,
    /// Text that was held back (it might have become a stop string or a character); usually empty.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens that were found in the cache.
    pub cached_tokens: usize,
    /// Tokens chosen, a final end token included.
    pub generated_tokens: usize,
    /// Tokens that were drafted and computed.
    pub drafted: usize,
    /// Those of them that were right and so came without a step of their own.
    pub accepted: usize,
    /// Where the time went.
    pub timings: Timings,
}

/// What a request hears, in this order: `Started`, any number of `Token`, then `Done` or `Failed`. A request that never
/// started hears its end only.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The request left the queue.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// How many of them were found in the cache.
        cached_tokens: usize,
        /// Seed of the draws, for repeating them.
        seed: u64,
    },
    /// A token of the answer. End tokens have no event.
    Token {
        /// Its id.
        id: u32,
        /// Text that became certain with it; may be empty.
        text: String,
        /// Present when asked for.
        logprobs: Option<Logprobs>,
    },
    /// The end.
    Done(Done),
    /// The end, too early.
    Failed(Failure),
}

/// Why a running request failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Its logits cannot be sampled.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// Its constraint cannot be followed any further.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// A vector that cannot be.
    #[error("the embedding of text {text} is not finite: the model or its file is broken")]
    Embedding {
        /// Index of the text.
        text: usize,
    },
    /// The step that it was part of, or its own bookkeeping, failed.
    #[error("the engine failed: {0}")]
    Step(String),
    /// The engine stopped.
    #[error("the engine has stopped")]
    Stopped,
}

/// Takes a request's events on the engine's thread; it must not wait. `false` cancels the request.
pub type Sink = Box<dyn FnMut(Event) -> bool + Send>;

/// Cancels a request, within one step; one that waits does not count as waiting from then on.
#[derive(Clone, Debug)]
pub struct Cancel(Arc<Place>);

/// Where a request is: what says so is also what counts it.
#[derive(Debug)]
struct Place {
    state: AtomicU8,
    shared: Arc<Shared>,
}

const WAITING: u8 = 0;
const LEFT: u8 = 1;
const CANCELLED: u8 = 2;

impl Cancel {
    /// That of a request which is counted as waiting.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Cancel(Arc::new(Place { state: AtomicU8::new(WAITING), shared }))
    }

    /// Cancels.
    pub fn cancel(&self) {
        let Place { state, shared } = &*self.0;
        if state.swap(CANCELLED, Ordering::Relaxed) == WAITING {
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            // Whoever sees this sees the state above, too.
            shared.vanished.swap(true, Ordering::Release);
        }
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.state.load(Ordering::Relaxed) == CANCELLED
    }

    /// The request leaves the queue. False when it was cancelled before.
    pub(crate) fn leave(&self) -> bool {
        let Place { state, shared } = &*self.0;
        let order = Ordering::Relaxed;
        let left = state.compare_exchange(WAITING, LEFT, order, order).is_ok();
        if left {
            shared.waiting.fetch_sub(1, Ordering::Release);
        }
        left
    }
}

/// Where a request's events go. A sink that panics or is not interested any more cancels the request.
pub(crate) struct Listener {
    sink: Sink,
    cancel: Cancel,
}

impl Listener {
    pub(crate) fn new(sink: Sink, cancel: Cancel) -> Self {
        Listener { sink, cancel }
    }

    pub(crate) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    pub(crate) fn tell(&mut self, event: Event) {
        let sink = &mut self.sink;
        if contained(|| sink(event)) != Ok(true) {
            self.cancel.cancel();
        }
    }
}

/// The events of one request, waited for. Dropping it cancels the request. As an iterator it ends after `Done` or
/// `Failed`, one of which always comes.
#[derive(Debug)]
pub struct Stream {
    pub(crate) events: Receiver<Event>,
    pub(crate) cancel: Cancel,
    pub(crate) ended: bool,
}

impl Stream {
    /// Asks for an early end; `Done` follows.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The next event, or `None` when none came in time or the stream has ended.
    pub fn next_timeout(&mut self, time: Duration) -> Option<Event> {
        match (self.ended, self.events.recv_timeout(time)) {
            (true, _) | (_, Err(RecvTimeoutError::Timeout)) => None,
            (_, Ok(event)) => Some(self.noted(event)),
            (_, Err(RecvTimeoutError::Disconnected)) => {
                Some(self.noted(Event::Failed(Failure::Stopped)))
            }
        }
    }

    fn noted(&mut self, event: Event) -> Event {
        self.ended = matches!(event, Event::Done(_) | Event::Failed(_));
        event
    }
}

impl Iterator for Stream {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().unwrap_or(Event::Failed(Failure::Stopped));
        Some(self.noted(event))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
