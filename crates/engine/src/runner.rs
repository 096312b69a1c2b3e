//! One loaded model, stepped by hand: evaluation, measurement and the engine's worker all use this. The backend is
//! chosen once, at load, and hidden behind one dynamic call per step. No sequences, no pages: callers bring both.

use std::ops::Range;
use std::sync::Arc;

use hob_cpu::CpuOps;
use hob_gguf::Gguf;
use hob_model::{
    Batch, CacheLayout, Head, Limits, Mixer, Model, NO_PAGE, Ops, Scratch, Sight, bind, describe,
    forward, head, hidden,
};

use crate::EngineError;

/// How a model is loaded.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Threads of the processor; 0 for one per core.
    pub threads: usize,
    /// What the backend allocates for.
    pub limits: Limits,
}

/// A loaded model.
pub struct Runner {
    model: Model,
    layout: CacheLayout,
    limits: Limits,
    whole: bool,
    backend: Box<dyn Backend>,
    /// Rows whose logits the last step can give.
    outputs: usize,
}

impl Runner {
    /// Loads a model for the processor.
    ///
    /// # Errors
    /// When the file describes no model that can run, or memory or threads are not there.
    pub fn load(gguf: Arc<Gguf>, options: &LoadOptions) -> Result<Self, EngineError> {
        let model = describe(&gguf)?;
        let bound = bind(&model, &gguf)?;
        let ops = CpuOps::load(&model, gguf, &bound, &options.limits, options.threads)?;
        Self::with_ops(model, options.limits, ops)
    }

    /// A model on a device of the caller's, already loaded for the same limits.
    ///
    /// # Errors
    /// When a limit is zero.
    pub fn with_ops<O: Ops + Send + 'static>(
        model: Model,
        limits: Limits,
        mut ops: O,
    ) -> Result<Self, EngineError> {
        for (what, found) in [
            ("rows", limits.rows),
            ("logits", limits.logits),
            ("pages", limits.pages),
            ("sequences", limits.sequences),
            ("states", limits.states),
        ] {
            if found == 0 {
                return Err(EngineError::Range { what, found, expected: "at least 1".to_owned() });
            }
        }
        let scratch = Scratch::new(&model, &limits, &mut ops);
        let (layout, backend) = (CacheLayout::of(&model), Box::new(Device { scratch, ops }));
        let whole = model.blocks.iter().any(|block| match &block.mixer {
            Mixer::Gqa(gqa) | Mixer::Gated(gqa) => gqa.attend.sight == Sight::All,
            _ => false,
        });
        Ok(Runner { model, layout, limits, whole, backend, outputs: 0 })
    }

    /// The model's description.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What its cache consists of.
    pub fn layout(&self) -> &CacheLayout {
        &self.layout
    }

    /// Whether rows see what comes after them, so that texts must come whole, each in one step.
    pub fn reads_whole(&self) -> bool {
        self.whole
    }

    /// What the backend was built for.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Computes a batch: keys and values go to its pages, and [`Runner::logits`] can be asked for its outputs.
    ///
    /// # Errors
    /// When the batch exceeds the limits or the vocabulary, or the device fails.
    pub fn step(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.outputs = 0;
        self.check(batch)?;
        self.backend.step(&self.model, batch)?;
        self.outputs = batch.outputs().len();
        Ok(())
    }

    /// Logits of a range of the last batch's outputs, `vocab` per row; at most `limits().logits` rows.
    ///
    /// # Errors
    /// When the range exceeds the outputs or the limit, the model is an encoder, or the device fails.
    pub fn logits(&mut self, rows: Range<usize>) -> Result<&[f32], EngineError> {
        if matches!(self.model.head, Head::Pool(_)) {
            return Err(EngineError::Encoder);
        }
        let count = rows.len();
        within("the last output", rows.end, self.outputs)?;
        within("rows of logits", count, self.limits.logits)?;
        match count {
            0 => Ok(&[]),
            _ => self.backend.logits(&self.model, rows),
        }
    }

    /// The hidden states of the last batch's outputs, after the final norm, `width` per row: what embeddings are made of.
    ///
    /// # Errors
    /// When the device fails.
    pub fn hidden(&mut self) -> Result<&[f32], EngineError> {
        match self.outputs {
            0 => Ok(&[]),
            rows => self.backend.hidden(rows),
        }
    }

    /// Copies the recurrent state of one slot over that of another.
    ///
    /// # Errors
    /// When there is no such slot.
    pub fn copy_state(&mut self, from: u32, to: u32) -> Result<(), EngineError> {
        within("a state slot, plus one,", from.max(to) as usize + 1, self.limits.states)?;
        self.backend.copy_state(from, to);
        Ok(())
    }

    fn check(&self, batch: &Batch) -> Result<(), EngineError> {
        let largest = |ids: &[u32]| {
            let held = ids.iter().filter(|&&id| id != NO_PAGE);
            held.max().map_or(0, |&id| id as usize + 1)
        };
        within("rows of a step", batch.rows(), self.limits.rows)?;
        within("a token, plus one,", largest(batch.tokens()), self.model.vocab as usize)?;
        let groups = self.layout.groups.len();
        for span in batch.spans() {
            if span.start > 0 && self.whole {
                return Err(EngineError::Part { start: span.start as usize });
            }
            if span.tables != 1 && span.tables != groups.max(1) {
                let expected = format!("1, or one for each of {groups} groups of layers");
                let what = "the number of page tables";
                return Err(EngineError::Range { what, found: span.tables, expected });
            }
            within("a state slot, plus one,", span.state as usize + 1, self.limits.states)?;
            for (number, group) in self.layout.groups.iter().enumerate() {
                let pages = largest(batch.pages(span, number));
                within("a page, plus one,", pages, group.pages(&self.limits))?;
            }
        }
        Ok(())
    }
}

fn within(what: &'static str, found: usize, limit: usize) -> Result<(), EngineError> {
    match found <= limit {
        true => Ok(()),
        false => Err(EngineError::Range { what, found, expected: format!("at most {limit}") }),
    }
}

/// A device with its buffers; one implementation, for any `Ops`.
trait Backend: Send {
    fn step(&mut self, model: &Model, batch: &Batch) -> Result<(), EngineError>;
    fn logits(&mut self, model: &Model, rows: Range<usize>) -> Result<&[f32], EngineError>;
    fn hidden(&mut self, rows: usize) -> Result<&[f32], EngineError>;
    fn copy_state(&mut self, from: u32, to: u32);
}

struct Device<O> {
    scratch: Scratch,
    ops: O,
}

impl<O: Ops + Send> Backend for Device<O> {
    fn step(&mut self, model: &Model, batch: &Batch) -> Result<(), EngineError> {
        if batch.rows() > 0 {
            forward(model, &self.scratch, batch, &mut self.ops);
        }
        Ok(())
    }

    fn logits(&mut self, model: &Model, rows: Range<usize>) -> Result<&[f32], EngineError> {
        Ok(head(model, &self.scratch, rows, &mut self.ops)?)
    }

    fn hidden(&mut self, rows: usize) -> Result<&[f32], EngineError> {
        Ok(hidden(&self.scratch, rows, &mut self.ops)?)
    }

    fn copy_state(&mut self, from: u32, to: u32) {
        self.ops.copy_state(from, to);
    }
}
