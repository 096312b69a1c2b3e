//! The engine's thread: takes requests, plans a step, computes it, turns logits into events. All state is here and
//! nothing is locked. A panic or a failing device ends the requests that ran and empties the cache; the queue survives.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use hob_model::{Batch, Output, Place, Span};
use hob_text::Tokenizer;

use crate::Runner;
use crate::embed::Embedder;
use crate::engine::Shared;
use crate::fault::{contained, tried};
use crate::pages::{Pages, Room};
use crate::request::{Event, Failure, Finish};
use crate::sample::Scratch;
use crate::schedule::{Budget, Chunk, State, Step, Waiting, schedule};
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
    embedder: Embedder,
    speculator: Speculator,
    waiting: VecDeque<Job>,
    running: Vec<Sequence<'t>>,
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
        Worker {
            pages: Pages::new(&room),
            room,
            embedder: Embedder::new(shared.clone()),
            speculator,
            runner,
            tokenizer,
            budget,
            inbox,
            shared,
            waiting: VecDeque::new(),
            running: Vec::new(),
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
        self.waiting.drain(..).for_each(|job| job.end(|_| Event::Failed(Failure::Stopped)));
        self.embedder.end(|_| true, |job| job.fail(&Failure::Stopped));
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
            Work::Answer(job) => self.waiting.push_back(*job),
            Work::Embed(job) => self.embedder.push(job),
        }
    }

    /// One step of texts to be embedded, then one of answers.
    fn turn(&mut self) {
        self.now += 1;
        self.drop_cancelled();
        match self.embed().and_then(|open| self.answer(open)) {
            Ok(()) => self.faults = 0,
            Err(fault) => self.recover(fault),
        }
        self.close_ended();
        self.report();
    }

    /// Embeds what is waiting for it. False when it needs room that running answers hold: then no other may start.
    fn embed(&mut self) -> Result<bool, String> {
        let decoding = self.running.iter().any(Sequence::decodes);
        let rows = if decoding { self.budget.mixed_rows } else { self.budget.rows };
        self.embedder.step(&mut self.runner, &mut self.pages, rows)
    }

    /// Plans, computes, chooses. `open` admits what is waiting.
    fn answer(&mut self, open: bool) -> Result<(), String> {
        self.speculator.propose(&mut self.running, self.budget.mixed_rows);
        let step = schedule(&self.state(open), &self.budget);
        self.admit(&step)?;
        self.speculator.draft(&mut self.running, &step.chunks);
        let start = Instant::now();
        self.compute(&step.chunks)?;
        self.choose(&step.chunks)?;
        self.speculator.learn(self.batch.rows(), start.elapsed().as_secs_f64());
        self.settle(&step.chunks)
    }

    fn drop_cancelled(&mut self) {
        for sequence in self.running.iter_mut().filter(|s| s.is_cancelled()) {
            sequence.end = Some(End::Finished(Finish::Cancelled));
        }
        self.close_ended();
        let cancelled: VecDeque<Job>;
        (cancelled, self.waiting) =
            self.waiting.drain(..).partition(|job| job.listener.is_cancelled());
        self.shared.waiting.fetch_sub(cancelled.len(), Ordering::Relaxed);
        cancelled.into_iter().for_each(|job| job.end(Event::Done));
    }

    /// The scheduler's view. Requests that cannot be admitted in this step whatever happens are left out.
    fn state(&self, open: bool) -> State {
        let slots = self.budget.sequences.saturating_sub(self.running.len());
        let waiting = self.waiting.iter().take(if open { slots } else { 0 }).map(|job| {
            let prompt = job.request.prompt.len();
            let quote = self.pages.quote(&job.request.prompt, job.positions());
            Waiting {
                id: job.id,
                cached: quote.cached,
                prompt,
                stop_at: self.pages.stop_at(prompt, quote.cached),
                pages: quote.pages,
            }
        });
        State {
            running: self.running.iter().map(|s| s.running(&self.pages)).collect(),
            waiting: waiting.collect(),
            available: self.pages.available(),
            now: self.now,
        }
    }

    fn admit(&mut self, step: &Step) -> Result<(), String> {
        for _ in 0..step.admitted {
            let Some(job) = self.waiting.pop_front() else { break };
            let Some(table) = self.pages.admit(&job.request.prompt, job.positions()) else {
                self.waiting.push_front(job);
                break;
            };
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            let (from, to) = (table.resumes(), table.state());
            self.running.push(Sequence::start(job, table, self.tokenizer, self.now));
            if let Some(from) = from {
                tried(|| self.runner.copy_state(from, to))?;
            }
        }
        Ok(())
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
                    c.id, c.start, sequence.computed
                ));
            }
            if !pages.cover(&mut sequence.table, c.start..end) {
                return Err(format!("no page for position {end} of request {}", c.id));
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

    /// Notes the progress: what was computed for tokens that are the sequence's own.
    fn settle(&mut self, chunks: &[Chunk]) -> Result<(), String> {
        let Self { runner, pages, running, batch, now, shared, .. } = self;
        for (c, span) in chunks.iter().zip(batch.spans()) {
            let sequence = find(running, c.id)?;
            let (drafted, right) = sequence.settle(&batch.tokens()[span.rows.clone()], *now);
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
        let Self { runner, running, batch, scratch, tokenizer, .. } = self;
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
                let eog = tokenizer.eog_tokens();
                if let Err(fault) = contained(|| sequence.advance(logits, eog, scratch)) {
                    sequence.end = Some(End::Failed(Failure::Step(fault)));
                }
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
                    self.pages.release(sequence.close(end));
                }
            }
        }
    }

    /// After a failed step nothing that the device holds can be trusted.
    fn recover(&mut self, fault: String) {
        self.faults += 1;
        self.fail_running(&Failure::Step(fault));
        self.pages = Pages::new(&self.room);
    }

    fn fail_running(&mut self, failure: &Failure) {
        for sequence in self.running.drain(..) {
            sequence.close(End::Failed(failure.clone()));
        }
    }

    fn report(&self) {
        let store = |to: &std::sync::atomic::AtomicUsize, n| to.store(n, Ordering::Relaxed);
        store(&self.shared.running, self.running.len());
        store(&self.shared.available, self.pages.available().iter().sum());
        store(&self.shared.cached, self.pages.cached());
        store(&self.shared.checkpoints, self.pages.checkpoints());
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
    running
        .iter_mut()
        .find(|s| s.id == id)
        .ok_or_else(|| format!("request {id} is planned but does not run"))
}
