//! Embeddings: every text is computed whole, in one step, and its hidden states become one vector. Texts of all requests
//! are batched in order of arrival, between the steps of running answers. They take pages for that one step; prefixes
//! are neither found nor kept, since an encoder's rows depend on what follows them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};

use hob_model::{Batch, Output, Place, Pooling};

use crate::Runner;
use crate::engine::Shared;
use crate::fault::tried;
use crate::pages::{Pages, Table};
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
    pub(crate) texts: Vec<Vec<u32>>,
    pub(crate) pooling: Pooling,
    pub(crate) normalize: bool,
    /// Those of the first texts.
    pub(crate) vectors: Vec<Vec<f32>>,
    pub(crate) reply: Reply,
    pub(crate) cancel: Cancel,
}

impl EmbedJob {
    /// Ends it early. Nobody may be listening any more.
    pub(crate) fn fail(self, failure: &Failure) {
        let _ = self.reply.send(Err(failure.clone()));
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
    jobs: VecDeque<EmbedJob>,
    batch: Batch,
    shared: Arc<Shared>,
}

impl Embedder {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Embedder { jobs: VecDeque::new(), batch: Batch::new(), shared }
    }

    pub(crate) fn push(&mut self, job: EmbedJob) {
        self.jobs.push_back(job);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// One step of at most `rows` rows, or of one longer text. False when a text waits and there is no room for it.
    pub(crate) fn step(
        &mut self,
        runner: &mut Runner,
        pages: &mut Pages,
        rows: usize,
    ) -> Result<bool, String> {
        self.end(|job| job.cancel.is_cancelled(), |_| {});
        self.answer();
        let tables = match self.fill(pages, rows) {
            Ok(tables) => tables,
            Err(fault) => return Err(self.fail(1, fault)),
        };
        if tables.is_empty() {
            return Ok(self.is_empty());
        }
        let batch = &self.batch;
        let width = runner.model().width as usize;
        let computed = tried(|| {
            runner.step(batch)?;
            runner.hidden()
        });
        match computed {
            Ok(hidden) => self.pool(hidden, width),
            Err(fault) => return Err(self.fail(tables.len(), fault)),
        }
        tables.into_iter().for_each(|table| pages.release(table));
        self.answer();
        Ok(true)
    }

    /// Puts the next texts into the batch, as many as there are rows and pages for; gives what they hold.
    fn fill(&mut self, pages: &mut Pages, rows: usize) -> Result<Vec<Table>, String> {
        let Self { jobs, batch, .. } = self;
        batch.clear();
        let mut tables = Vec::new();
        let texts = jobs.iter().flat_map(|job| {
            job.texts.iter().skip(job.vectors.len()).map(|text| (text, job.output()))
        });
        for (text, output) in texts {
            if !tables.is_empty() && batch.rows() + text.len() > rows {
                break;
            }
            let Some(mut table) = pages.admit(&[], text.len()) else { break };
            if !pages.cover(&mut table, 0..text.len()) {
                return Err(format!("no pages for a text of {} tokens", text.len()));
            }
            let place = Place { tables: &table.tables(), state: table.state() };
            batch.push_at(text, 0, &place, output).map_err(|error| error.to_string())?;
            tables.push(table);
        }
        Ok(tables)
    }

    /// Turns the hidden states of the batch's outputs into vectors.
    fn pool(&mut self, hidden: &[f32], width: usize) {
        let (mut spans, mut rest) = (self.batch.spans().iter(), hidden);
        for job in &mut self.jobs {
            while job.vectors.len() < job.texts.len() {
                let Some(span) = spans.next() else { return };
                let rows = if span.output == Output::All { span.rows.len() } else { 1 };
                let (own, others) = rest.split_at(rows * width);
                rest = others;
                let vector = pooled(own, width, job.pooling);
                job.vectors.push(if job.normalize { normalized(&vector) } else { vector });
            }
        }
    }

    /// Sends what is complete.
    fn answer(&mut self) {
        let complete = |job: &EmbedJob| job.vectors.len() == job.texts.len();
        self.end(complete, |mut job| {
            let vectors = std::mem::take(&mut job.vectors);
            let finite = |vector: &Vec<f32>| vector.iter().all(|x| x.is_finite());
            let result = match vectors.iter().position(|vector| !finite(vector)) {
                Some(text) => Err(Failure::Embedding { text }),
                None => Ok(vectors),
            };
            let _ = job.reply.send(result);
        });
    }

    /// Ends the requests that had part in a failed step of `texts` texts.
    fn fail(&mut self, texts: usize, fault: String) -> String {
        let (failure, mut left) = (Failure::Step(fault.clone()), texts);
        let part = |job: &EmbedJob| {
            let part = left > 0;
            left = left.saturating_sub(job.texts.len() - job.vectors.len());
            part
        };
        self.end(part, |job| job.fail(&failure));
        fault
    }

    /// Takes jobs out of the queue.
    pub(crate) fn end(
        &mut self,
        which: impl FnMut(&EmbedJob) -> bool,
        mut how: impl FnMut(EmbedJob),
    ) {
        let (ended, left) = partition(self.jobs.drain(..), which);
        self.jobs = left;
        self.shared.waiting.fetch_sub(ended.len(), Ordering::Relaxed);
        ended.into_iter().for_each(&mut how);
    }
}

fn partition(
    jobs: impl Iterator<Item = EmbedJob>,
    mut which: impl FnMut(&EmbedJob) -> bool,
) -> (Vec<EmbedJob>, VecDeque<EmbedJob>) {
    let (mut ended, mut left) = (Vec::new(), VecDeque::new());
    for job in jobs {
        match which(&job) {
            true => ended.push(job),
            false => left.push_back(job),
        }
    }
    (ended, left)
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
