//! One request through a loaded model: [`Ask`] goes in, [`Heard`] comes out piece by piece. The neutral middle between the dialects and the
//! engine: everything that a dialect can ask for is here, nothing of how it says so. Dropping an [`Answer`] cancels the work.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{Stream, stream};
use hob_engine::{Done, Event, Finish, Logprobs, Request, Speculate, Timings};
use hob_text::{ChatAnswer, ChatEvent, ChatParser, Token, Tokenizer};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::access::Record;
use crate::constrain::read_call;
use crate::error::{ApiError, Kind};
use crate::guard::MOST_PRIORITY;
use crate::ids;
use crate::loaded::Loaded;
use crate::models::Lease;
use crate::prompt::{Input, Prompt, Room};
use crate::sampling::Sampling;

/// Tokens that an answer without a limit is to have when a prompt is cut for it.
const USUAL_ANSWER: usize = 1024;

/// Who asks: for fairness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The same for all requests of one client.
    pub client: u64,
    /// Higher is served first.
    pub priority: i8,
    /// The highest that it may have.
    pub most: i8,
}

impl Caller {
    /// With the priority that the request's body asks for, as far as it may have it.
    #[must_use]
    pub fn asking(self, priority: Option<i8>) -> Self {
        let priority = priority.map_or(self.priority, |p| p.max(-MOST_PRIORITY).min(self.most));
        Caller { priority, ..self }
    }
}

/// What is asked of a model.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is to be continued.
    pub input: Input,
    /// Tokens in front of it.
    pub before: Vec<Token>,
    /// How.
    pub sampling: Sampling,
    /// Tokens of prompt and answer together; `None` for all that the loaded model has.
    pub context: Option<usize>,
    /// Leave out the oldest of a prompt that is too long.
    pub truncate: bool,
    /// What the answer must be.
    pub form: Form,
    /// Never end by the model's own end tokens.
    pub ignore_eos: bool,
    /// Whether tokens are drafted, which changes nothing but the speed; `None` for the server's setting.
    pub speculate: Option<Speculate>,
    /// Who asks.
    pub caller: Caller,
}

/// What an answer must be; thinking is free.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Form {
    /// Anything.
    #[default]
    Free,
    /// A JSON object.
    Json,
    /// JSON for which this JSON Schema holds.
    Schema(serde_json::Value),
    /// A text that this regular expression matches.
    Regex(String),
    /// A text of this grammar, in llguidance's variant of Lark.
    Grammar(String),
}

impl Ask {
    /// An ask that leaves everything to the model.
    pub fn new(input: Input, sampling: Sampling) -> Self {
        Ask {
            input,
            before: Vec::new(),
            sampling,
            context: None,
            truncate: false,
            form: Form::Free,
            ignore_eos: false,
            speculate: None,
            caller: Caller::default(),
        }
    }
}

/// An ask with its prompt made: it can be started, several times for several answers.
pub struct Prepared {
    /// The prompt.
    pub prompt: Prompt,
    lease: Arc<Lease>,
    request: Request,
    /// The content is a call, as a JSON object.
    call: bool,
}

/// A token with its logarithm of probability.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// Its text; parts of a character become U+FFFD.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens in its place, without lists of their own.
    pub top: Vec<TokenLogprob>,
}

/// What became certain with a token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Content, thinking, calls. A call that cannot be read is content here.
    pub events: Vec<ChatEvent>,
    /// The token.
    pub id: Option<Token>,
    /// Its probability, when that was asked for.
    pub logprob: Option<TokenLogprob>,
}

/// An answer as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Content, thinking, calls.
    pub said: ChatAnswer,
    /// Its tokens.
    pub ids: Vec<Token>,
    /// Their probabilities, when they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Its end.
    pub end: End,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The model ended it.
    Stop,
    /// This stop text came.
    StopText(String),
    /// There was no room or no permission for more.
    Length,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// Whether it has calls.
    pub called: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of them the cache had.
    pub cached_tokens: usize,
    /// Tokens of the prompt that were left out.
    pub dropped_tokens: usize,
    /// Tokens of the answer.
    pub answer_tokens: usize,
    /// Tokens of it that came while the model thought.
    pub thinking_tokens: usize,
    /// Tokens that were drafted and computed.
    pub drafted_tokens: usize,
    /// Those of them that were right.
    pub accepted_tokens: usize,
    /// Where the time went.
    pub timings: Timings,
    /// Seconds from the arrival of the request to its submission: loading, making the prompt.
    pub before: f64,
    /// Seconds that loading the model took, if this request waited for it.
    pub load: f64,
}

#[cfg(test)]
impl End {
    /// For the tests of those who write it.
    pub fn of(reason: Reason, called: bool) -> Self {
        End {
            reason,
            called,
            prompt_tokens: 0,
            cached_tokens: 0,
            dropped_tokens: 0,
            answer_tokens: 0,
            thinking_tokens: 0,
            drafted_tokens: 0,
            accepted_tokens: 0,
            timings: Timings::default(),
            before: 0.0,
            load: 0.0,
        }
    }
}

/// What comes of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It left the queue: tokens of the prompt, and how many the cache had.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// How many of them the cache had.
        cached_tokens: usize,
    },
    /// More of it.
    Piece(Piece),
    /// Its end.
    End(Box<End>),
}

impl Lease {
    /// Makes the prompt, where threads may wait.
    ///
    /// # Errors
    /// As [`Loaded::prompt`].
    pub async fn prepare(self: Arc<Self>, ask: Ask) -> Result<Prepared, ApiError> {
        let made = tokio::task::spawn_blocking(move || {
            let loaded = self.loaded();
            let all = loaded.context.tokens;
            let context = ask.context.map_or(all, |n| n.min(all));
            let answer = ask.sampling.max_tokens.unwrap_or(USUAL_ANSWER);
            let room = Room { context, answer, truncate: ask.truncate };
            let mut prompt = loaded.prompt(&ask.input, room)?;
            prompt.tokens.splice(..0, ask.before);
            let left = context.saturating_sub(prompt.tokens.len());
            let bound = loaded.bound(&ask.form, &ask.input, &prompt)?;
            let call = bound.as_ref().is_some_and(|bound| bound.call);
            let request = Request {
                prompt: prompt.tokens.clone(),
                max_tokens: Some(ask.sampling.max_tokens.unwrap_or(left).min(left)),
                sample: ask.sampling.options,
                stop: ask.sampling.stop,
                ignore_eos: ask.ignore_eos,
                show_special: prompt.parser.is_some(),
                constraint: bound.map(|bound| bound.constraint),
                client: ask.caller.client,
                priority: ask.caller.priority,
                speculate: ask.speculate.unwrap_or(loaded.speculate),
            };
            Ok(Prepared { prompt, lease: self, request, call })
        });
        made.await.unwrap_or_else(|e| Err(ApiError::internal(format!("making the prompt: {e}"))))
    }
}

impl Prepared {
    /// The model.
    pub fn loaded(&self) -> &Loaded {
        self.lease.loaded()
    }

    /// Starts an answer. `number` tells the answers to one prompt apart: each has a seed of its own.
    ///
    /// # Errors
    /// When too many wait, or the engine has stopped.
    pub fn start(&self, number: u64) -> Result<Answer, ApiError> {
        let mut request = self.request.clone();
        request.sample.seed = request.sample.seed.map(|seed| seed.wrapping_add(number));
        let stops = request.stop.clone();
        let (sender, events) = unbounded_channel();
        let sink = Box::new(move |event| sender.send(event).is_ok());
        // At most one event per token of the context may wait for a slow reader: that is the bound of its memory.
        let cancel = self.loaded().engine.submit_to(request, sink)?;
        Ok(Answer {
            events,
            cancel,
            parser: self.prompt.parser.clone(),
            call: self.call.then(String::new),
            stops,
            lease: self.lease.clone(),
            dropped: self.prompt.dropped,
            calls: 0,
            thinking: 0,
            ended: false,
            started: Instant::now(),
            record: Record::current(),
        })
    }
}

/// An answer on its way.
pub struct Answer {
    events: UnboundedReceiver<Event>,
    cancel: hob_engine::Cancel,
    parser: Option<ChatParser>,
    /// Content that will be read as a call.
    call: Option<String>,
    stops: Vec<String>,
    lease: Arc<Lease>,
    dropped: usize,
    calls: usize,
    thinking: usize,
    ended: bool,
    started: Instant,
    record: Option<Arc<Record>>,
}

impl Answer {
    /// What comes next; `None` after the end. May be dropped and called again.
    ///
    /// # Errors
    /// When the engine failed; nothing follows.
    pub async fn next(&mut self) -> Option<Result<Heard, ApiError>> {
        if self.ended {
            return None;
        }
        let unavailable = |message: &str| Some(Err(ApiError::new(Kind::Unavailable, message)));
        let event = tokio::select! {
            // What has come for a reader who is slow does not keep the end back.
            biased;
            () = self.lease.shutdown().ending() => {
                self.ended = true;
                return unavailable("the server is shutting down");
            }
            event = self.events.recv() => event,
        };
        let Some(event) = event else {
            self.ended = true;
            return unavailable("the engine has stopped");
        };
        Some(match event {
            Event::Started { prompt_tokens, cached_tokens, .. } => {
                Ok(Heard::Started { prompt_tokens, cached_tokens })
            }
            Event::Token { id, text, logprobs } => {
                if let Some(record) = &self.record {
                    record.token(self.lease.loaded().name());
                }
                let logprob = logprobs.map(|l| token_logprob(&self.loaded().tokenizer, id, &l));
                let events = self.read(&text);
                Ok(Heard::Piece(Piece { events, id: Some(id), logprob }))
            }
            Event::Done(done) => self.end(done),
            Event::Failed(failure) => {
                self.ended = true;
                Err(failure.into())
            }
        })
    }

    /// The model.
    pub fn loaded(&self) -> &Loaded {
        self.lease.loaded()
    }

    /// What comes, as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Heard, ApiError>> + Send + 'static {
        stream::unfold(self, |mut answer| async move {
            let heard = answer.next().await?;
            Some((heard, answer))
        })
    }

    /// All of it, waited for.
    ///
    /// # Errors
    /// When the engine failed.
    pub async fn whole(mut self) -> Result<Whole, ApiError> {
        let (mut said, mut ids, mut logprobs) = (ChatAnswer::default(), Vec::new(), Vec::new());
        while let Some(heard) = self.next().await {
            match heard? {
                Heard::Started { .. } => {}
                Heard::Piece(piece) => {
                    said.extend(piece.events);
                    ids.extend(piece.id);
                    logprobs.extend(piece.logprob);
                }
                Heard::End(end) => return Ok(Whole { said, ids, logprobs, end: *end }),
            }
        }
        Err(ApiError::internal("an answer without an end"))
    }

    /// Takes more of the answer's text.
    fn read(&mut self, text: &str) -> Vec<ChatEvent> {
        let events = match &mut self.parser {
            Some(parser) => parser.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![ChatEvent::Content(text.to_owned())],
        };
        let thinks = |e: &ChatEvent| matches!(e, ChatEvent::Thinking(_));
        self.thinking += usize::from(events.iter().any(thinks));
        self.settled(events)
    }

    /// Calls get identifiers where the model writes none; what cannot be read is content.
    fn settled(&mut self, events: Vec<ChatEvent>) -> Vec<ChatEvent> {
        let settle = |event| match event {
            ChatEvent::ToolCallStart { index, id, name } => {
                self.calls += 1;
                let id = id.filter(|id| !id.is_empty()).unwrap_or_else(ids::call);
                ChatEvent::ToolCallStart { index, id: Some(id), name }
            }
            ChatEvent::BrokenCall(text) => ChatEvent::Content(text),
            other => other,
        };
        let settled = events.into_iter().map(settle);
        let Some(call) = &mut self.call else { return settled.collect() };
        let (content, others): (Vec<_>, Vec<_>) =
            settled.partition(|event| matches!(event, ChatEvent::Content(_)));
        for event in content {
            if let ChatEvent::Content(text) = event {
                call.push_str(&text);
            }
        }
        others
    }

    /// The last pieces come in front of the end: they are put back for the next call.
    fn end(&mut self, done: Done) -> Result<Heard, ApiError> {
        let mut events = Vec::new();
        if !done.text.is_empty() {
            events.extend(self.read(&done.text));
        }
        if let Some(parser) = self.parser.take() {
            let rest = parser.finish();
            events.extend(self.settled(rest));
        }
        if let Some(call) = self.call.take() {
            let call = read_call(call.trim());
            events.extend(self.settled(call));
        }
        if !events.is_empty() {
            let (sender, receiver) = unbounded_channel();
            // The receiver is here, so this cannot fail.
            let _ = sender.send(Event::Done(Done { text: String::new(), ..done }));
            self.events = receiver;
            return Ok(Heard::Piece(Piece { events, id: None, logprob: None }));
        }
        self.ended = true;
        let reason = match done.finish {
            Finish::Stop => Reason::Stop,
            Finish::StopString(i) => {
                Reason::StopText(self.stops.get(i).cloned().unwrap_or_default())
            }
            Finish::Length => Reason::Length,
            Finish::Cancelled => {
                return Err(ApiError::new(Kind::Unavailable, "the request was cancelled"));
            }
        };
        let before = self.lease.asked().map_or(0.0, |at| (self.started - at).as_secs_f64());
        let end = End {
            reason,
            called: self.calls > 0,
            prompt_tokens: done.prompt_tokens,
            cached_tokens: done.cached_tokens,
            dropped_tokens: self.dropped,
            answer_tokens: done.generated_tokens,
            thinking_tokens: self.thinking,
            drafted_tokens: done.drafted,
            accepted_tokens: done.accepted,
            timings: done.timings,
            before,
            load: self.lease.load_seconds(),
        };
        if let Some(record) = &self.record {
            record.ended(self.loaded().name(), &end);
        }
        Ok(Heard::End(Box::new(end)))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn token_logprob(tokenizer: &Tokenizer, id: Token, logprobs: &Logprobs) -> TokenLogprob {
    let of = |id: Token, logprob: f32| {
        let bytes = tokenizer.token_bytes(id, true).to_vec();
        let token = String::from_utf8_lossy(&bytes).into_owned();
        TokenLogprob { token, bytes, logprob, top: Vec::new() }
    };
    let top = logprobs.top.iter().map(|&(id, logprob)| of(id, logprob)).collect();
    TokenLogprob { top, ..of(id, logprobs.chosen) }
}
