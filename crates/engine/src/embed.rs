//! Embeddings: every text is computed whole, in one step, and its hidden states become one vector. Texts of all requests
//! are batched, clients taking turns by the rows that they had, between the steps of running answers. They take pages for
//! that one step; prefixes are neither found nor kept, since an encoder's rows depend on what follows them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use hob_model::{Batch, Output, Place, Pooling};

use crate::Runner;
use crate::client::{Client, Shares};
use crate::engine::{Counts, Shared, count};
use crate::fault::tried;
use crate::pages::{Pages, Table};
use crate::queue::{Pick, Queue, Round, Standing, Ticket};
use crate::request::{Cancel, Failure};

/// Texts to be embedded.
#[derive(Clone, Debug, Default)]
pub struct Embed {
    /// Tokens of each.
    pub texts: Vec<Vec<u32>>,
    /// How a text becomes one vector; `None` for the model's own way, and that of the last token where it has none.
    pub pooling: Option<Pooling>,
    /// Whether vectors get length 1.
    pub normalize: bool,
    /// Whose they are, as in [`Request`](crate::Request).
    pub client: u64,
    /// Higher goes first, likewise.
    pub priority: i8,
}

pub(crate) type Reply = Sender<Result<Vec<Vec<f32>>, Failure>>;

/// Vectors to come. Dropping it cancels the request within one step.
#[derive(Debug)]
pub struct Embedding {
    pub(crate) vectors: Receiver<Result<Vec<Vec<f32>>, Failure>>,
    pub(crate) cancel: Cancel,
}

impl Embedding {
    /// What cancels it from elsewhere, while somebody waits.
    pub fn canceller(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Waits for one vector per text.
    ///
    /// # Errors
    /// When the engine failed or stopped meanwhile, or a vector is not finite.
    pub fn wait(self) -> Result<Vec<Vec<f32>>, Failure> {
        self.vectors.recv().unwrap_or(Err(Failure::Stopped))
    }
}

impl Drop for Embedding {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// A request in the queue: checked.
pub(crate) struct EmbedJob {
    pub(crate) id: u64,
    pub(crate) client: u64,
    pub(crate) priority: i8,
    pub(crate) texts: Vec<Vec<u32>>,
    pub(crate) pooling: Pooling,
    pub(crate) normalize: bool,
    /// Texts that were put into a batch.
    pub(crate) placed: usize,
    /// Those of the first texts.
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) reply: Reply,
    pub(crate) cancel: Cancel,
}

impl EmbedJob {
    /// Ends it early.
    pub(crate) fn fail(self, failure: &Failure, counts: &Counts) {
        self.end(Err(failure.clone()), counts);
    }

    /// Ends it with its vectors.
    fn answer(mut self, counts: &Counts) {
        let vectors = std::mem::take(&mut self.vectors);
        let finite = |vector: &Vec<f32>| vector.iter().all(|x| x.is_finite());
        let result = match vectors.iter().position(|vector| !finite(vector)) {
            Some(text) => Err(Failure::Embedding { text }),
            None => Ok(vectors),
        };
        self.end(result, counts);
    }

    /// Nobody may be listening any more.
    fn end(self, result: Result<Vec<Vec<f32>>, Failure>, counts: &Counts) {
        let counter = match (self.cancel.leave(), &result) {
            (false, _) => &counts.cancelled,
            (true, Ok(_)) => &counts.finished,
            (true, Err(_)) => &counts.failed,
        };
        count(counter, 1);
        let _ = self.reply.send(result);
    }

    fn ticket(&self, now: u64) -> Ticket {
        Ticket { id: self.id, client: self.client, priority: self.priority, since: now }
    }

    fn output(&self) -> Output {
        match self.pooling {
            Pooling::Last => Output::Last,
            Pooling::Mean | Pooling::First => Output::All,
        }
    }
}

/// All embedding requests.
pub(crate) struct Embedder {
    jobs: Queue<EmbedJob>,
    batch: Batch,
    /// Of every text in the batch, its request.
    owners: Vec<Pick>,
    shared: Arc<Shared>,
}

impl Embedder {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Embedder { jobs: Queue::default(), batch: Batch::new(), owners: Vec::new(), shared }
    }

    pub(crate) fn push(&mut self, job: EmbedJob, now: u64) {
        match job.texts.is_empty() {
            true => job.answer(&self.shared.counts),
            false => self.jobs.push(job.ticket(now), job),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether a client has something waiting.
    pub(crate) fn has(&self, client: Client) -> bool {
        self.jobs.has(client)
    }

    pub(crate) fn drop_cancelled(&mut self) {
        let cancelled = self.jobs.extract(|job| job.cancel.is_cancelled());
        count(&self.shared.counts.cancelled, cancelled.len());
    }

    /// Ends all that waits.
    pub(crate) fn fail_all(&mut self, failure: &Failure) {
        let jobs = self.jobs.extract(|_| true);
        jobs.into_iter().for_each(|job| job.fail(failure, &self.shared.counts));
    }

    /// One step of at most `rows` rows, or of one longer text. False when a text has waited long for room: then no
    /// answer may start that would take it.
    pub(crate) fn step(
        &mut self,
        runner: &mut Runner,
        pages: &mut Pages,
        shares: &mut Shares,
        (rows, now): (usize, u64),
    ) -> Result<bool, String> {
        let mut round = Round::new(now);
        let filled = self.fill(&mut round, pages, shares, (rows, now));
        let (tables, open) = filled.map_err(|fault| self.fail(fault))?;
        if tables.is_empty() {
            return Ok(open);
        }
        let batch = &self.batch;
        let width = runner.model().width as usize;
        let computed = tried(|| {
            runner.step(batch)?;
            runner.hidden()
        });
        match computed {
            Ok(hidden) => self.pool(hidden, width),
            Err(fault) => return Err(self.fail(fault)),
        }
        count(&self.shared.counts.prompt_tokens, self.batch.rows());
        tables.into_iter().for_each(|table| pages.release(table));
        self.answer();
        Ok(true)
    }

    /// Puts the next texts into the batch, as many as there are rows and pages for; gives what they hold, and whether
    /// answers may start.
    fn fill(
        &mut self,
        round: &mut Round,
        pages: &mut Pages,
        shares: &mut Shares,
        (rows, now): (usize, u64),
    ) -> Result<(Vec<Table>, bool), String> {
        let Self { jobs, batch, owners, .. } = self;
        batch.clear();
        owners.clear();
        let mut tables = Vec::new();
        loop {
            let standing = |client| Standing { held: 0, had: shares.had(client).rows };
            let Some(pick) = round.next(jobs, false, standing) else { break };
            let Some(job) = jobs.get_mut(&pick) else { break };
            let Some(text) = job.texts.get(job.placed) else {
                round.pass(&pick);
                continue;
            };
            if !tables.is_empty() && batch.rows() + text.len() > rows {
                break;
            }
            let Some(mut table) = pages.admit(&[], text.len()) else {
                return Ok((tables, !pick.overdue));
            };
            owners.push(pick);
            if !pages.cover(&mut table, 0..text.len()) {
                return Err(format!("no pages for a text of {} tokens", text.len()));
            }
            let place = Place { tables: &table.tables(), state: table.state() };
            batch.push_at(text, 0, &place, job.output()).map_err(|error| error.to_string())?;
            shares.charge(pick.client(), text.len(), false, now);
            job.placed += 1;
            jobs.note(pick.client(), now);
            tables.push(table);
        }
        Ok((tables, true))
    }

    /// Turns the hidden states of the batch's outputs into vectors.
    fn pool(&mut self, hidden: &[f32], width: usize) {
        let mut rest = hidden;
        for (span, owner) in self.batch.spans().iter().zip(&self.owners) {
            let rows = if span.output == Output::All { span.rows.len() } else { 1 };
            let (own, others) = rest.split_at(rows * width);
            rest = others;
            let Some(job) = self.jobs.get_mut(owner) else { continue };
            let vector = pooled(own, width, job.pooling);
            job.vectors.push(if job.normalize { normalized(&vector) } else { vector });
        }
    }

    /// Sends what the batch completed.
    fn answer(&mut self) {
        let Self { jobs, owners, shared, .. } = self;
        for owner in owners.drain(..) {
            if jobs.get(&owner).is_some_and(|job| job.vectors.len() == job.texts.len())
                && let Some(job) = jobs.take(&owner)
            {
                job.answer(&shared.counts);
            }
        }
    }

    /// Ends the requests that had part in a failed step.
    fn fail(&mut self, fault: String) -> String {
        let Self { jobs, owners, shared, .. } = self;
        let failure = Failure::Step(fault.clone());
        let ended = owners.drain(..).filter_map(|owner| jobs.take(&owner));
        ended.for_each(|job| job.fail(&failure, &shared.counts));
        fault
    }
}

/// One vector of `rows` of `width` elements.
fn pooled(rows: &[f32], width: usize, pooling: Pooling) -> Vec<f32> {
    match pooling {
        Pooling::First => rows[..width].to_vec(),
        Pooling::Last => rows[rows.len() - width..].to_vec(),
        Pooling::Mean => {
            let mut sums = vec![0.0; width];
            for row in rows.chunks_exact(width) {
                sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            let count = (rows.len() / width) as f64;
            sums.iter().map(|sum| (sum / count) as f32).collect()
        }
    }
}

/// The vector of length 1 in the same direction; nothing has none and stays.
fn normalized(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    match length > 0.0 {
        true => vector.iter().map(|&x| (f64::from(x) / length) as f32).collect(),
        false => vector.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_one_vector() {
        let rows = [1.0, 2.0, 3.0, 6.0, 5.0, 1.0];
        assert_eq!(pooled(&rows, 2, Pooling::First), [1.0, 2.0]);
        assert_eq!(pooled(&rows, 2, Pooling::Last), [5.0, 1.0]);
        assert_eq!(pooled(&rows, 2, Pooling::Mean), [3.0, 3.0]);
        assert_eq!(normalized(&[3.0, -4.0]), [0.6, -0.8]);
        assert_eq!(normalized(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
