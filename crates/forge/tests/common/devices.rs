//! A converted file on either device, with a cache in single precision; and how far numbers are from others.

use std::sync::Arc;

use hob_cpu::CpuOps;
use hob_engine::Runner;
use hob_gguf::Gguf;
use hob_model::{KvType, Limits, PAGE, bind, describe};
use hob_testkit::RefOps;

#[derive(Clone, Copy, Debug)]
pub enum Device {
    Naive,
    Processor,
}

impl Device {
    pub const ALL: [Device; 2] = [Device::Naive, Device::Processor];
}

/// A model for one sequence of `context` tokens in steps of `rows`.
pub fn runner(gguf: &Arc<Gguf>, device: Device, rows: usize, context: usize) -> Runner {
    let cache = Limits::new(rows, context.div_ceil(PAGE));
    let limits = Limits { logits: rows, context, kv: KvType::F32, ..cache };
    let model = describe(gguf).unwrap();
    let bound = bind(&model, gguf).unwrap();
    match device {
        Device::Naive => {
            let ops = RefOps::load(&model, gguf, &bound, &limits);
            Runner::with_ops(model, limits, ops).unwrap()
        }
        Device::Processor => {
            let ops = CpuOps::load(&model, gguf.clone(), &bound, &limits, 1).unwrap();
            Runner::with_ops(model, limits, ops).unwrap()
        }
    }
}

/// The difference's norm as a part of what was expected.
pub fn error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let difference = norm(pairs.map(|(f, e)| f64::from(*f) - f64::from(*e)));
    difference / norm(expected.iter().map(|&e| f64::from(e)))
}

fn norm(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| x * x).sum::<f64>().sqrt()
}
