//! How well a model predicts a text, and how far it is from a reference: the protocol of llama.cpp's
//! `llama-perplexity` (its `--kl-divergence` too). A text is cut into chunks of one context each, every chunk starts
//! afresh, and only its second half counts, so that each prediction has some context before it. Logits are taken a
//! few rows at a time. Absent: stride windows and multiple-choice scores.

mod error;
mod reference;
mod rows;
mod stats;
mod text;

use std::ops::{ControlFlow, Range};

use hob_engine::Runner;
use hob_model::{Batch, Limits, Output, PAGE};

pub use error::EvalError;
pub use reference::{Reference, ReferenceWriter};
pub use stats::{Distribution, Divergence, Estimate, Report};
pub use text::EvalText;

pub(crate) use rows::{Base, Scorer};
pub(crate) use stats::Totals;

/// Rows of logits computed at once: enough to share one reading of the output matrix, few enough for memory.
pub const LOGIT_ROWS: usize = 32;

/// What a [`Runner`] must be built for to evaluate chunks of `context` tokens with steps of at most `step_rows`.
pub fn limits(context: usize, step_rows: usize) -> Limits {
    let rows = step_rows.clamp(1, context.max(1));
    let cache = Limits::new(rows, context.div_ceil(PAGE)).keeping_windows();
    Limits { logits: LOGIT_ROWS.min(rows), ..cache }
}

/// What the model is compared with.
#[derive(Default)]
pub enum Against<'a> {
    /// Nothing: perplexity only.
    #[default]
    Nothing,
    /// Log-probabilities stored earlier; the text must begin with the reference's tokens.
    File(&'a mut Reference),
    /// Another model with the same vocabulary, evaluated beside the first.
    Model(&'a mut Runner),
}

/// How far an evaluation is; passed to the caller after every step and every few rows of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Tokens computed.
    pub done: usize,
    /// Tokens to compute.
    pub total: usize,
    /// Chunks finished.
    pub chunks: usize,
    /// Perplexity of what has been scored, once something has.
    pub perplexity: Option<f64>,
}

/// One evaluation: what it needs, and [`Evaluation::run`].
pub struct Evaluation<'a> {
    /// The model, built for [`limits`].
    pub runner: &'a mut Runner,
    /// What it is to predict.
    pub text: &'a EvalText,
    /// What it is compared with.
    pub against: Against<'a>,
    /// Where its own log-probabilities are kept.
    pub save: Option<ReferenceWriter>,
    /// Threads of the arithmetic on logits; the runner has its own.
    pub threads: usize,
}

impl Evaluation<'_> {
    /// Evaluates the model. `progress` may stop it with [`ControlFlow::Break`].
    ///
    /// # Errors
    /// When text, reference and model do not belong together, a file cannot be read or written, logits are no
    /// numbers, the device fails, or `progress` breaks ([`EvalError::Stopped`]).
    pub fn run(
        self,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Report, EvalError> {
        let Evaluation { runner, text, against, save, threads } = self;
        check(runner, text, &against)?;
        let scorer = Scorer::new(runner.model().vocab as usize, threads);
        let pages = (0..text.context().div_ceil(PAGE) as u32).collect();
        let totals = Totals::default();
        let mut pass = Pass { runner, against, save, scorer, pages, totals, done: 0 };
        for chunk in 0..text.chunks() {
            pass.chunk(text, chunk, progress)?;
        }
        let Pass { save, totals, .. } = pass;
        if let Some(writer) = save {
            writer.finish()?;
        }
        Ok(totals.report(text.context(), text.chunks()))
    }
}

fn check(runner: &Runner, text: &EvalText, against: &Against<'_>) -> Result<(), EvalError> {
    let model = runner.model();
    let differ = |what, found: usize, expected: usize| match found == expected {
        true => Ok(()),
        false => Err(EvalError::Mismatch { what, found, expected }),
    };
    if text.context() > model.context as usize {
        return Err(EvalError::Context { asked: text.context(), trained: model.context as usize });
    }
    match against {
        Against::Nothing => Ok(()),
        Against::Model(other) => differ(
            "vocabulary of the reference",
            other.model().vocab as usize,
            model.vocab as usize,
        ),
        Against::File(file) => {
            differ("vocabulary of the reference", file.vocab(), model.vocab as usize)?;
            differ("context of the reference", file.context(), text.context())?;
            if text.chunks() > file.chunks() {
                return Err(EvalError::Chunks { asked: text.chunks(), found: file.chunks() });
            }
            match text.tokens().iter().zip(file.tokens()).position(|(a, b)| a != b) {
                Some(at) => Err(EvalError::OtherText { at }),
                None => Ok(()),
            }
        }
    }
}

/// The state of one evaluation.
struct Pass<'a> {
    runner: &'a mut Runner,
    against: Against<'a>,
    save: Option<ReferenceWriter>,
    scorer: Scorer,
    /// The pages of the only sequence.
    pages: Vec<u32>,
    totals: Totals,
    /// Tokens computed.
    done: usize,
}

impl Pass<'_> {
    fn chunk(
        &mut self,
        text: &EvalText,
        chunk: usize,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), EvalError> {
        let tokens = text.chunk(chunk);
        let mut tell = |pass: &Pass<'_>| {
            let total = text.chunks() * text.rows_per_chunk();
            let perplexity = pass.totals.perplexity();
            match progress(Progress { done: pass.done, total, chunks: chunk, perplexity }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(EvalError::Stopped),
            }
        };
        for span in self.spans(text) {
            let scored = span.start >= text.first();
            self.step(&tokens, span.clone(), scored)?;
            self.done += span.len();
            tell(self)?;
            if !scored {
                continue;
            }
            let group = self.group();
            for first in span.clone().step_by(group) {
                let positions = first..(first + group).min(span.end);
                let rows = positions.start - span.start..positions.end - span.start;
                self.score(rows, &tokens[positions.start + 1..=positions.end])?;
                tell(self)?;
            }
        }
        Ok(())
    }

    /// The steps of a chunk: at most as long as both devices take, cut where scoring begins. The last token is only
    /// predicted, never read.
    fn spans(&self, text: &EvalText) -> Vec<Range<usize>> {
        let rows = match &self.against {
            Against::Model(other) => self.runner.limits().rows.min(other.limits().rows),
            _ => self.runner.limits().rows,
        };
        let cut = |part: Range<usize>| {
            part.clone().step_by(rows).map(move |at| at..(at + rows).min(part.end))
        };
        cut(0..text.first()).chain(cut(text.first()..text.rows_per_chunk())).collect()
    }

    /// Rows of logits at a time.
    fn group(&self) -> usize {
        match &self.against {
            Against::Model(other) => self.runner.limits().logits.min(other.limits().logits),
            _ => self.runner.limits().logits,
        }
    }

    fn step(&mut self, tokens: &[u32], span: Range<usize>, scored: bool) -> Result<(), EvalError> {
        let output = if scored { Output::All } else { Output::None };
        let mut batch = Batch::new();
        batch.push(&tokens[span.clone()], span.start as u32, &self.pages, output)?;
        self.runner.step(&batch)?;
        if let Against::Model(other) = &mut self.against {
            other.step(&batch)?;
        }
        Ok(())
    }

    /// Scores outputs `rows` of the last step; row i is to predict `targets[i]`.
    fn score(&mut self, rows: Range<usize>, targets: &[u32]) -> Result<(), EvalError> {
        let base = match &mut self.against {
            Against::Nothing => Base::Nothing,
            Against::File(file) => Base::Coded(file.rows(rows.len())?),
            Against::Model(other) => Base::Exact(other.logits(rows.clone())?),
        };
        let logits = self.runner.logits(rows)?;
        self.totals.add(self.scorer.score(logits, targets, base)?);
        if let Some(writer) = &mut self.save {
            writer.rows(self.scorer.encode(logits))?;
        }
        Ok(())
    }
}
