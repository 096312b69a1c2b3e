//! Collecting: a model reads a text in chunks, each from an empty cache and to its last token, and every matrix's input
//! is summed. Perplexity falls out on the way, by the protocol of `eval`. The caller says when to save.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use hob_cpu::CpuOps;
use hob_engine::{EngineError, LoadOptions, Runner};
use hob_gguf::Gguf;
use hob_model::{Batch, Limits, Model, Ops, Output, PAGE, Role, WeightId, bind, describe};

use super::Imatrix;
use super::sums::Sums;
use super::watch::{Watched, lock};
use crate::eval::{Base, Estimate, EvalError, EvalText, Scorer, Totals};

/// What a collection looks at besides the matrices of the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `output.weight` too. Where the embedding serves as unembedding there is none.
    pub output: bool,
    /// Perplexity too: costs the logits of half of the text.
    pub perplexity: bool,
}

/// A model that is watched while it reads.
pub struct Collector {
    runner: Runner,
    scope: Scope,
    sums: Arc<Mutex<Sums>>,
    scorer: Scorer,
    totals: Totals,
    /// Tokens of a chunk, once one was read.
    chunk_size: usize,
    chunks: usize,
}

impl Collector {
    /// Loads a model for the processor; limits as [`crate::eval::limits`] makes them.
    ///
    /// # Errors
    /// As [`Runner::load`].
    pub fn load(gguf: Arc<Gguf>, options: &LoadOptions, scope: Scope) -> Result<Self, EngineError> {
        let model = describe(&gguf)?;
        let bound = bind(&model, &gguf)?;
        let ops = CpuOps::load(&model, gguf, &bound, &options.limits, options.threads)?;
        let threads = ops.threads();
        Self::with_ops(model, options.limits, ops, threads, scope)
    }

    /// A model on a device of the caller's; `threads` are those of the sums.
    ///
    /// # Errors
    /// As [`Runner::with_ops`].
    pub fn with_ops<O: Ops + Send + 'static>(
        model: Model,
        limits: Limits,
        ops: O,
        threads: usize,
        scope: Scope,
    ) -> Result<Self, EngineError> {
        let sums = Arc::new(Mutex::new(Sums::new(&model, threads)));
        let own = |head: &WeightId| model.weight(*head).role == Role::Output;
        let output = model.output().filter(own).filter(|_| scope.output);
        let scorer = Scorer::new(model.vocab as usize, threads);
        let runner = Runner::with_ops(model, limits, Watched::new(ops, sums.clone(), output))?;
        let scope = Scope { output: output.is_some(), ..scope };
        Ok(Collector {
            runner,
            scope,
            sums,
            scorer,
            totals: Totals::default(),
            chunk_size: 0,
            chunks: 0,
        })
    }

    /// Reads one chunk of a text. After every step and every few rows of logits `progress` is told the tokens of the
    /// chunk that were read; it may stop with [`ControlFlow::Break`], and then the chunk counts in part.
    ///
    /// # Errors
    /// When chunks are longer than the model's context, the device fails, numbers are not finite, or `progress`
    /// breaks ([`EvalError::Stopped`]).
    pub fn chunk(
        &mut self,
        text: &EvalText,
        index: usize,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<(), EvalError> {
        let (context, trained) = (text.context(), self.runner.model().context as usize);
        if context > trained {
            return Err(EvalError::Context { asked: context, trained });
        }
        let mut tell = |done| match progress(done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(EvalError::Stopped),
        };
        let tokens = text.chunk(index);
        let pages: Vec<u32> = (0..context.div_ceil(PAGE) as u32).collect();
        let limits = *self.runner.limits();
        for start in (0..context).step_by(limits.rows) {
            let span = start..(start + limits.rows).min(context);
            let wanted = self.wanted(text, &span);
            let output = if wanted.is_empty() { Output::None } else { Output::All };
            let mut batch = Batch::new();
            batch.push(&tokens[span.clone()], start as u32, &pages, output)?;
            self.runner.step(&batch)?;
            tell(span.end)?;
            for first in wanted.clone().step_by(limits.logits) {
                let rows = first..(first + limits.logits).min(wanted.end);
                self.logits(text, &tokens, rows, start)?;
                tell(span.end)?;
            }
        }
        self.chunk_size = context;
        self.chunks += 1;
        self.check()
    }

    /// Positions of a step whose logits are computed.
    fn wanted(&self, text: &EvalText, span: &Range<usize>) -> Range<usize> {
        match self.scope {
            Scope { output: true, .. } => span.clone(),
            Scope { perplexity: true, .. } => {
                span.start.max(text.first())..span.end.min(text.rows_per_chunk())
            }
            _ => span.end..span.end,
        }
    }

    /// Computes the logits of some positions, and scores those that count.
    fn logits(
        &mut self,
        text: &EvalText,
        tokens: &[u32],
        positions: Range<usize>,
        start: usize,
    ) -> Result<(), EvalError> {
        let logits = self.runner.logits(positions.start - start..positions.end - start)?;
        let scored = positions.start.max(text.first())..positions.end.min(text.rows_per_chunk());
        if self.scope.perplexity && !scored.is_empty() {
            let vocab = logits.len() / positions.len();
            let logits = &logits[(scored.start - positions.start) * vocab..];
            let targets = &tokens[scored.start + 1..=scored.end];
            self.totals.add(self.scorer.score(logits, targets, Base::Nothing)?);
        }
        Ok(())
    }

    /// Whether all could be looked at and summed.
    fn check(&self) -> Result<(), EvalError> {
        let mut sums = lock(&self.sums);
        if let Some(failed) = sums.failed.take() {
            return Err(EngineError::from(failed).into());
        }
        let finite =
            |id| sums.entry(WeightId(id)).is_none_or(|e| e.sums.iter().all(|x| x.is_finite()));
        match (0..self.runner.model().weights.len() as u32).all(finite) {
            true => Ok(()),
            false => Err(EvalError::NotFinite("sums of squares")),
        }
    }

    /// What was summed so far, of the text named `dataset`.
    pub fn imatrix(&self, dataset: &str) -> Imatrix {
        let sums = lock(&self.sums);
        let weights = self.runner.model().weights.iter().zip(0..);
        let entries =
            weights.filter_map(|(w, id)| Some((w.name.clone(), sums.entry(WeightId(id))?)));
        Imatrix {
            entries: entries.collect(),
            chunk_count: self.chunks as u32,
            chunk_size: self.chunk_size as u32,
            datasets: vec![dataset.to_owned()],
        }
    }

    /// Perplexity of what was read so far.
    pub fn perplexity(&self) -> Option<Estimate> {
        let scored = self.totals.perplexity().is_some();
        scored.then(|| self.totals.report(self.chunk_size, self.chunks).perplexity)
    }
}
