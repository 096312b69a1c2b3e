//! The engine's thread: takes requests, plans a step, computes it, turns logits into events. All state is here and
//! nothing is locked; who is next is decided in `queue` and `schedule`. A panic or a failing device ends the requests
//! that ran and empties the cache; the queue survives.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use hob_model::{Batch, Output, Place, Span};
use hob_text::Tokenizer;

use crate::Runner;
use crate::client::{Client, Shares};
use crate::embed::Embedder;
use crate::engine::{Shared, count};
use crate::fault::{contained, tried};
use crate::pages::{Pages, Room};
use crate::queue::{Pick, Queue, Reserve, Round, Standing};
use crate::request::{Event, Failure, Finish};
use crate::sample::Scratch;
use crate::schedule::{Budget, Chunk, Running, schedule};
use crate::sequence::{End, Job, Sequence, Work};
use crate::speculate::Speculator;

/// Failed steps in a row after which the device counts as lost.
const MAX_FAULTS: u32 = 3;

pub(crate) struct Worker<'t> {
    runner: Runner,
    tokenizer: &'t Tokenizer,
    budget: Budget,
    inbox: Receiver<Work>,
    shared: Arc<Shared>,
    room: Room,
    pages: Pages,
    reserve: Reserve,
    embedder: Embedder,
    speculator: Speculator,
    waiting: Queue<Box<Job>>,
    running: Vec<Sequence<'t>>,
    /// Sequences of every client that has any.
    held: HashMap<Client, usize>,
    shares: Shares,
    batch: Batch,
    /// Tokens of the rows of one sequence.
    rows: Vec<u32>,
    scratch: Scratch,
    now: u64,
    faults: u32,
}

impl<'t> Worker<'t> {
    pub(crate) fn new(
        runner: Runner,
        tokenizer: &'t Tokenizer,
        budget: Budget,
        speculator: Speculator,
        inbox: Receiver<Work>,
        shared: Arc<Shared>,
    ) -> Self {
        let reuse = !runner.reads_whole();
        let room = Room::of(runner.layout(), runner.limits(), budget.sequences, reuse);
        let pages = Pages::new(&room);
        Worker {
            reserve: Reserve::of(budget.sequences, &pages.available()),
            pages,
            room,
            embedder: Embedder::new(shared.clone()),
            speculator,
            runner,
            tokenizer,
            budget,
            inbox,
            shared,
            waiting: Queue::default(),
            running: Vec::new(),
            held: HashMap::new(),
            shares: Shares::default(),
            batch: Batch::new(),
            rows: Vec::new(),
            scratch: Scratch::default(),
            now: 0,
            faults: 0,
        }
    }

    /// Works until the engine is dropped or its device is lost, then ends what is left.
    pub(crate) fn run(mut self) {
        while self.faults < MAX_FAULTS && self.receive() {
            self.turn();
        }
        if self.faults == MAX_FAULTS {
            self.shared.declare_lost();
        }
        self.fail_running(&Failure::Stopped);
        while let Ok(work) = self.inbox.try_recv() {
            self.take(work);
        }
        for job in self.waiting.extract(|_| true) {
            if job.listener.cancel().leave() {
                count(&self.shared.counts.failed, 1);
            }
            job.end(|_| Event::Failed(Failure::Stopped));
        }
        self.embedder.fail_all(&Failure::Stopped);
        self.report();
    }

    /// Takes what is in the inbox; waits there when there is nothing else to do. False when the engine was dropped.
    fn receive(&mut self) -> bool {
        if self.running.is_empty() && self.waiting.is_empty() && self.embedder.is_empty() {
            match self.inbox.recv() {
                Ok(work) => self.take(work),
                Err(_) => return false,
            }
        }
        loop {
            match self.inbox.try_recv() {
                Ok(work) => self.take(work),
                Err(TryRecvError::Empty) => return !self.shared.closing.load(Ordering::Relaxed),
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            // Cancelled on its way here, perhaps after `vanished` was looked at.
            Work::Answer(job) if job.listener.is_cancelled() => self.drop_job(job),
            Work::Embed(job) if job.cancel.is_cancelled() => {
                count(&self.shared.counts.cancelled, 1);
            }
            Work::Answer(job) => self.waiting.push(job.ticket(self.now), job),
            Work::Embed(job) => self.embedder.push(*job, self.now),
        }
    }

    /// One step of texts to be embedded, then one of answers.
    fn turn(&mut self) {
        self.now += 1;
        self.drop_cancelled();
        self.settle();
        match self.embed().and_then(|open| self.answer(open)) {
            Ok(()) => self.faults = 0,
            Err(fault) => self.recover(fault),
        }
        self.close_ended();
        self.report();
    }

    fn drop_cancelled(&mut self) {
        for sequence in self.running.iter_mut().filter(|s| s.is_cancelled()) {
            sequence.end = Some(End::Finished(Finish::Cancelled));
        }
        self.close_ended();
        if self.shared.vanished.swap(false, Ordering::Acquire) {
            let cancelled = self.waiting.extract(|job| job.listener.is_cancelled());
            cancelled.into_iter().for_each(|job| self.drop_job(job));
            self.embedder.drop_cancelled();
        }
    }

    /// A request was cancelled before it ran.
    fn drop_job(&self, job: Box<Job>) {
        count(&self.shared.counts.cancelled, 1);
        job.end(Event::Done);
    }

    /// Notes who has what.
    fn settle(&mut self) {
        let Self { held, shares, waiting, embedder, .. } = self;
        held.clear();
        for sequence in &self.running {
            *held.entry(sequence.client).or_default() += 1;
        }
        held.keys().for_each(|&client| waiting.note(client, self.now));
        shares.settle(|c| held.contains_key(&c) || waiting.has(c) || embedder.has(c));
    }

    /// Embeds what is waiting for it. False when it needs room that running answers hold: then no other may start.
    fn embed(&mut self) -> Result<bool, String> {
        let decoding = self.running.iter().any(|s| s.tokens.len() - s.computed == 1);
        let rows = if decoding { self.budget.mixed_rows } else { self.budget.rows };
        let Self { embedder, runner, pages, shares, now, .. } = self;
        embedder.step(runner, pages, shares, (rows, *now))
    }

    /// Admits, plans, computes, chooses. `open` admits what is waiting.
    fn answer(&mut self, open: bool) -> Result<(), String> {
        if open {
            self.admit()?;
        }
        self.speculator.propose(&mut self.running, self.budget.mixed_rows);
        let chunks = schedule(&self.state(), &self.budget, self.now);
        self.speculator.draft(&mut self.running, &chunks);
        let start = Instant::now();
        self.compute(&chunks)?;
        self.charge(&chunks)?;
        self.choose(&chunks)?;
        self.speculator.learn(self.batch.rows(), start.elapsed().as_secs_f64());
        self.progress(&chunks)
    }

    /// The scheduler's view, which knows sequences by their index.
    fn state(&self) -> Vec<Running> {
        let running = self.running.iter().enumerate();
        running.map(|(i, s)| s.running(i, &self.pages, &self.shares)).collect()
    }

    /// Starts those whose turn it is, as long as there is room.
    fn admit(&mut self) -> Result<(), String> {
        let mut round = Round::new(self.now);
        while self.running.len() < self.budget.sequences {
            let free = self.budget.sequences - self.running.len();
            let standing = |client| Standing {
                held: self.held.get(&client).copied().unwrap_or(0),
                had: self.shares.had(client).rows,
            };
            let reserved = free <= self.reserve.sequences;
            let Some(pick) = round.next(&self.waiting, reserved, standing) else { break };
            if self.fits(&pick) {
                self.start(&pick)?;
            } else {
                round.refuse(&pick);
            }
        }
        Ok(())
    }

    fn fits(&self, pick: &Pick) -> bool {
        self.waiting.get(pick).is_some_and(|job| {
            let quote = self.pages.quote(&job.request.prompt, job.positions());
            self.reserve.allows(&quote.pages, &self.pages.available(), pick.newcomer)
        })
    }

    /// Takes a request that fits out of the queue.
    fn start(&mut self, pick: &Pick) -> Result<(), String> {
        let Some(job) = self.waiting.take(pick) else { return Ok(()) };
        // Counted as running before it stops to count as waiting, so that it is never neither.
        self.shared.running.store(self.running.len() + 1, Ordering::Relaxed);
        if !job.listener.cancel().leave() {
            self.drop_job(job);
            return Ok(());
        }
        let Some(table) = self.pages.admit(&job.request.prompt, job.positions()) else {
            count(&self.shared.counts.failed, 1);
            let fault = format!("no room for request {}, which was to fit", job.id);
            job.end(|_| Event::Failed(Failure::Step(fault)));
            return Ok(());
        };
        *self.held.entry(pick.client()).or_default() += 1;
        self.waiting.note(pick.client(), self.now);
        count(&self.shared.counts.cached_tokens, table.cached());
        let (from, to) = (table.resumes(), table.state());
        self.running.push(Sequence::start(*job, table, self.tokenizer, self.now));
        match from {
            Some(from) => tried(|| self.runner.copy_state(from, to)),
            None => Ok(()),
        }
    }

    /// Runs the planned rows.
    fn compute(&mut self, chunks: &[Chunk]) -> Result<(), String> {
        let Self { runner, pages, running, batch, rows, .. } = self;
        batch.clear();
        for c in chunks {
            let sequence = find(running, c.id)?;
            rows.clear();
            rows.extend(sequence.rows(c));
            let end = c.start + rows.len();
            if c.start != sequence.computed {
                return Err(format!(
                    "request {} is planned from {} but stands at {}",
                    sequence.id, c.start, sequence.computed
                ));
            }
            if !pages.cover(&mut sequence.table, c.start..end) {
                return Err(format!("no page for position {end} of request {}", sequence.id));
            }
            // Only a sequence that decodes has drafts: all of its rows are to be judged.
            let output = match c.last {
                true if sequence.decodes() => Output::All,
                true => Output::Last,
                false => Output::None,
            };
            let tables = sequence.table.tables();
            let place = Place { tables: &tables, state: sequence.table.state() };
            let pushed = batch.push_at(rows, c.start as u32, &place, output);
            pushed.map_err(|error| error.to_string())?;
        }
        tried(|| runner.step(batch))
    }

    /// Notes which client had which rows.
    fn charge(&mut self, chunks: &[Chunk]) -> Result<(), String> {
        let Self { running, shares, shared, now, .. } = self;
        for c in chunks {
            let sequence = find(running, c.id)?;
            let prefill = !sequence.decodes();
            shares.charge(sequence.client, c.rows, prefill, *now);
            let prompt = sequence.prompt.saturating_sub(c.start).min(c.rows);
            count(&shared.counts.prompt_tokens, prompt);
        }
        Ok(())
    }

    /// Notes the progress: what was computed for tokens that are the sequence's own.
    fn progress(&mut self, chunks: &[Chunk]) -> Result<(), String> {
        let Self { runner, pages, running, batch, now, shared, .. } = self;
        for (c, span) in chunks.iter().zip(batch.spans()) {
            let sequence = find(running, c.id)?;
            let (drafted, right) = sequence.progress(&batch.tokens()[span.rows.clone()], *now);
            shared.drafted.fetch_add(drafted, Ordering::Relaxed);
            shared.accepted.fetch_add(right, Ordering::Relaxed);
            pages.publish(&mut sequence.table, &sequence.tokens[..sequence.computed]);
            if let Some(to) = pages.keep(&sequence.table, sequence.computed) {
                tried(|| runner.copy_state(sequence.table.state(), to))?;
            }
        }
        Ok(())
    }

    /// Chooses the next tokens of every sequence whose last known token was computed: one, and one more for each draft
    /// that it is equal to.
    fn choose(&mut self, chunks: &[Chunk]) -> Result<(), String> {
        let Self { runner, running, batch, shared, scratch, tokenizer, .. } = self;
        let (vocab, most) = (runner.model().vocab as usize, runner.limits().logits);
        let spans = chunks.iter().zip(batch.spans());
        let outputs = spans.flat_map(|(c, span)| outputs(span).map(|row| (c.id, row)));
        let outputs: Vec<(u64, usize)> = outputs.collect();
        for (group, outputs) in outputs.chunks(most).enumerate() {
            let first = group * most;
            let logits = tried(|| runner.logits(first..first + outputs.len()))?;
            for (&(id, row), logits) in outputs.iter().zip(logits.chunks_exact(vocab)) {
                let sequence = find(running, id)?;
                if !sequence.stands_at(batch.positions()[row], batch.tokens()[row]) {
                    continue;
                }
                let (eog, known) = (tokenizer.eog_tokens(), sequence.tokens.len());
                if let Err(fault) = contained(|| sequence.advance(logits, eog, scratch)) {
                    sequence.end = Some(End::Failed(Failure::Step(fault)));
                }
                count(&shared.counts.generated_tokens, sequence.tokens.len() - known);
            }
        }
        Ok(())
    }

    fn close_ended(&mut self) {
        let mut i = 0;
        while i < self.running.len() {
            match self.running[i].end.take() {
                None => i += 1,
                Some(end) => {
                    let sequence = self.running.remove(i);
                    self.count_end(&end);
                    self.pages.release(sequence.close(end));
                }
            }
        }
    }

    fn count_end(&self, end: &End) {
        let counts = &self.shared.counts;
        let counter = match end {
            End::Finished(Finish::Cancelled) => &counts.cancelled,
            End::Finished(_) => &counts.finished,
            End::Failed(_) => &counts.failed,
        };
        count(counter, 1);
    }

    /// After a failed step nothing that the device holds can be trusted.
    fn recover(&mut self, fault: String) {
        self.faults += 1;
        self.fail_running(&Failure::Step(fault));
        self.pages = Pages::new(&self.room);
    }

    fn fail_running(&mut self, failure: &Failure) {
        for sequence in self.running.drain(..) {
            count(&self.shared.counts.failed, 1);
            sequence.close(End::Failed(failure.clone()));
        }
    }

    fn report(&self) {
        let store = |to: &std::sync::atomic::AtomicUsize, n| to.store(n, Ordering::Relaxed);
        store(&self.shared.running, self.running.len());
        store(&self.shared.available, self.pages.available().iter().sum());
        store(&self.shared.cached, self.pages.cached());
        store(&self.shared.checkpoints, self.pages.checkpoints());
        self.shared.counts.steps.store(self.now, Ordering::Relaxed);
    }
}

/// Rows of a span that have logits.
fn outputs(span: &Span) -> Range<usize> {
    let Range { start, end } = span.rows;
    match span.output {
        Output::All => start..end,
        Output::Last => end - 1..end,
        Output::None => end..end,
    }
}

fn find<'a, 't>(running: &'a mut [Sequence<'t>], id: u64) -> Result<&'a mut Sequence<'t>, String> {
    running.get_mut(id as usize).ok_or_else(|| format!("sequence {id} is planned but does not run"))
}

#[cfg(test)]
mod tests;
