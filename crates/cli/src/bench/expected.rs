//! What the planner expects of a file on this machine's cores, by what was measured of them (`hob doctor`): printed beside what is measured now,
//! so that everybody can see how far the predictions of `hob fit` are to be trusted.

use anyhow::Result;
use hob_machine::Machine;
use hob_model::{KvType, Model};
use hob_plan::Rig;
use hob_plan::memory::Weights;
use hob_plan::placement::{Job, Placement, Wishes};
use hob_plan::speed::Interval;
use hob_server::{ModelFile, here};

/// A file on the cores of this machine.
pub struct Expected {
    model: Model,
    weights: Weights,
    rig: Rig,
    kv: KvType,
}

impl Expected {
    /// Nothing where this machine was not measured. The model is the file's.
    ///
    /// # Errors
    /// When the file is no model that runs.
    pub fn of(
        file: &ModelFile,
        model: Model,
        store: &std::path::Path,
        machine: &Machine,
        kv: KvType,
    ) -> Result<Option<Expected>> {
        let rig = here::cores(store, machine);
        if rig.host.probe.is_none() {
            return Ok(None);
        }
        let weights = file.weights(&model)?;
        Ok(Some(Expected { model, weights, rig, kv }))
    }

    /// Tokens per second of reading `tokens` behind `depth`.
    pub fn prefill(&self, tokens: usize, depth: usize) -> Option<Interval> {
        // A row has on average half of them before it, and all of the depth.
        self.asked(1, |job, rig, placement| {
            let segments = job.segments(rig, placement, 2 * depth + tokens);
            hob_plan::speed::prefill(&segments, tokens)
        })
    }

    /// Tokens per second of `sequences` together that write `tokens` behind `depth`.
    pub fn decode(&self, tokens: usize, depth: usize, sequences: usize) -> Option<Interval> {
        self.asked(sequences, |job, rig, placement| {
            job.decode_all(rig, placement, depth + tokens / 2)
        })
    }

    fn asked(
        &self,
        users: usize,
        speed: impl FnOnce(&Job, &Rig, &Placement) -> Interval,
    ) -> Option<Interval> {
        let wishes = Wishes { users, kv: self.kv, ..Wishes::new(0) };
        let job = Job { model: &self.model, weights: &self.weights, wishes };
        Some(speed(&job, &self.rig, &job.place(&self.rig)?))
    }
}
