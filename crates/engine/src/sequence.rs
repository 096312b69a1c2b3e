//! One running request: its tokens, pages, sampler and text. It turns logits into events and knows when to end; what
//! is computed when is the worker's business.

use std::time::Instant;

use hob_text::{Detokenizer, Tokenizer};

use crate::client::{Client, Shares};
use crate::embed::EmbedJob;
use crate::grammar::Follower;
use crate::pages::{Pages, Table};
use crate::queue::Ticket;
use crate::request::{Done, Event, Failure, Finish, Listener, Request, Timings};
use crate::sample::{Sampler, Scratch};
use crate::schedule::{Chunk, Running};
use crate::speculate::Drafting;
use crate::stop::Stops;

/// What the engine's thread is asked for.
pub(crate) enum Work {
    /// To continue from tokens.
    Answer(Box<Job>),
    /// Vectors.
    Embed(Box<EmbedJob>),
}

/// A request in the queue: checked, and with its greatest length known.
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) request: Request,
    /// Keeps the answer to the request's constraint.
    pub(crate) follower: Option<Follower>,
    pub(crate) seed: u64,
    /// Tokens, prompt included, at which it ends.
    pub(crate) limit: usize,
    pub(crate) listener: Listener,
    pub(crate) submitted: Instant,
}

impl Job {
    /// Positions whose keys and values it needs at most: the last token's are never computed.
    pub(crate) fn positions(&self) -> usize {
        self.request.prompt.len().max(self.limit - 1)
    }

    /// Its place in the queue, which it enters in step `now`.
    pub(crate) fn ticket(&self, now: u64) -> Ticket {
        let Request { client, priority, .. } = self.request;
        Ticket { id: self.id, client, priority, since: now }
    }

    /// Ends a request that never ran.
    pub(crate) fn end(mut self, event: impl FnOnce(Done) -> Event) {
        let done = Done {
            finish: Finish::Cancelled,
            text: String::new(),
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: 0,
            generated_tokens: 0,
            drafted: 0,
            accepted: 0,
            timings: Timings {
                queue: self.submitted.elapsed().as_secs_f64(),
                ..Timings::default()
            },
        };
        self.listener.tell(event(done));
    }
}

/// How a sequence ends.
pub(crate) enum End {
    Finished(Finish),
    Failed(Failure),
}

/// A running request.
pub(crate) struct Sequence<'t> {
    pub(crate) id: u64,
    pub(crate) client: Client,
    pub(crate) prompt: usize,
    pub(crate) cached: usize,
    pub(crate) tokens: Vec<u32>,
    pub(crate) computed: usize,
    pub(crate) served: u64,
    pub(crate) table: Table,
    pub(crate) end: Option<End>,
    priority: i8,
    began: u64,
    pub(crate) drafting: Drafting,
    limit: usize,
    sampler: Sampler,
    follower: Option<Follower>,
    detokenizer: Detokenizer<'t>,
    stops: Stops,
    listener: Listener,
    submitted: Instant,
    admitted: Instant,
    first: Option<Instant>,
}

impl<'t> Sequence<'t> {
    /// Starts a job on its pages and says so.
    pub(crate) fn start(job: Job, table: Table, tokenizer: &'t Tokenizer, now: u64) -> Self {
        let Request { prompt, sample, stop, show_special, client, priority, speculate, .. } =
            job.request;
        let cached = table.cached();
        let mut sequence = Sequence {
            id: job.id,
            client: Client::of(client, job.id),
            prompt: prompt.len(),
            cached,
            tokens: prompt,
            computed: cached,
            served: now,
            priority,
            began: now,
            table,
            end: None,
            drafting: Drafting::new(speculate),
            limit: job.limit,
            sampler: Sampler::new(sample, job.seed),
            follower: job.follower,
            detokenizer: tokenizer.detokenizer().with_special(show_special),
            stops: Stops::new(stop),
            listener: job.listener,
            submitted: job.submitted,
            admitted: Instant::now(),
            first: None,
        };
        sequence.listener.tell(Event::Started {
            prompt_tokens: sequence.prompt,
            cached_tokens: cached,
            seed: job.seed,
        });
        sequence
    }

    /// The scheduler's view of what stands at `index`.
    pub(crate) fn running(&self, index: usize, pages: &Pages, shares: &Shares) -> Running {
        Running {
            id: index as u64,
            client: self.client,
            share: shares.had(self.client),
            priority: self.priority,
            computed: self.computed,
            known: self.tokens.len(),
            stop_at: pages.stop_at(self.prompt, self.computed),
            began: self.began,
            draft: self.drafting.wanted,
            served: self.served,
        }
    }

    /// Whether one known token is left to be computed.
    pub(crate) fn decodes(&self) -> bool {
        self.tokens.len() - self.computed == 1
    }

    /// Tokens that it can draft: those after which another could still be chosen.
    pub(crate) fn room(&self) -> usize {
        (self.limit - 1).saturating_sub(self.tokens.len())
    }

    /// Positions whose keys and values it needs at most.
    pub(crate) fn positions(&self) -> usize {
        self.prompt.max(self.limit - 1)
    }

    /// The tokens of its rows in a step: known ones, then drafted ones.
    pub(crate) fn rows(&self, chunk: &Chunk) -> impl Iterator<Item = u32> {
        let known = self.tokens.iter().skip(chunk.start);
        known.chain(&self.drafting.tokens).copied().take(chunk.rows)
    }

    /// Notes that `rows` were computed from its first position to come. Those count whose tokens are its own; drafts
    /// that are not will be computed over. Gives how many were drafted, and how many of these were right.
    pub(crate) fn progress(&mut self, rows: &[u32], now: u64) -> (usize, usize) {
        let own = self.tokens.iter().skip(self.computed);
        let right = rows.iter().zip(own).take_while(|(row, own)| row == own).count();
        self.computed += right;
        self.served = now;
        self.drafting.settle(rows.len() - 1, right - 1)
    }

    /// Whether a row is that of its last token, so that its logits choose the next.
    pub(crate) fn stands_at(&self, position: u32, token: u32) -> bool {
        let last = self.tokens.len() - 1;
        self.end.is_none() && position as usize == last && self.tokens[last] == token
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.listener.is_cancelled()
    }

    /// Chooses the next token from the logits of the last, and tells.
    pub(crate) fn advance(&mut self, logits: &[f32], eog: &[u32], scratch: &mut Scratch) {
        self.first.get_or_insert_with(Instant::now);
        self.end = match self.tokens.len() < self.limit {
            true => self.choose(logits, eog, scratch).unwrap_or_else(|e| Some(End::Failed(e))),
            false => Some(End::Finished(Finish::Length)),
        };
        if self.is_cancelled() {
            self.end.get_or_insert(End::Finished(Finish::Cancelled));
        }
    }

    fn choose(
        &mut self,
        logits: &[f32],
        eog: &[u32],
        scratch: &mut Scratch,
    ) -> Result<Option<End>, Failure> {
        let allowed = match &mut self.follower {
            None => None,
            Some(follower) => match follower.allowed()? {
                None => return Ok(Some(End::Finished(Finish::Stop))),
                some => some,
            },
        };
        let choice = self.sampler.sample(logits, allowed, &self.tokens, scratch)?;
        self.tokens.push(choice.token);
        if eog.contains(&choice.token) {
            return Ok(Some(End::Finished(Finish::Stop)));
        }
        if let Some(follower) = &mut self.follower {
            follower.take(choice.token)?;
        }
        let (text, stop) = self.stops.push(self.detokenizer.push(choice.token));
        self.listener.tell(Event::Token { id: choice.token, text, logprobs: choice.logprobs });
        let finish = match stop {
            Some(stop) => Some(Finish::StopString(stop)),
            None if self.follower.as_ref().is_some_and(Follower::is_complete) => Some(Finish::Stop),
            None => (self.tokens.len() >= self.limit).then_some(Finish::Length),
        };
        Ok(finish.map(End::Finished))
    }

    /// Says how it ended and gives its pages back.
    pub(crate) fn close(mut self, end: End) -> Table {
        let event = match end {
            End::Failed(failure) => Event::Failed(failure),
            End::Finished(finish) => Event::Done(Done {
                finish,
                text: self.rest(finish),
                prompt_tokens: self.prompt,
                cached_tokens: self.cached,
                generated_tokens: self.tokens.len() - self.prompt,
                drafted: self.drafting.drafted,
                accepted: self.drafting.accepted,
                timings: self.timings(),
            }),
        };
        self.listener.tell(event);
        self.table
    }

    /// Text that was held back and belongs to the answer after all.
    fn rest(&mut self, finish: Finish) -> String {
        if !matches!(finish, Finish::Stop | Finish::Length) {
            return String::new();
        }
        let (mut text, stop) = self.stops.push(&self.detokenizer.clone().finish());
        if stop.is_none() {
            text += self.stops.held();
        }
        text
    }

    fn timings(&self) -> Timings {
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        Timings {
            queue: (self.admitted - self.submitted).as_secs_f64(),
            prefill: (first - self.admitted).as_secs_f64(),
            decode: (now - first).as_secs_f64(),
        }
    }
}
