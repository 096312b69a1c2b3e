//! Logits of converted checkpoints are those of transformers, and so are the greedy tokens: tiny models of every family,
//! whose references logits.py stored. On the naive device and on the processor's, with the prompt whole and in pieces.
//! An architecture that does not run yet is not in the table.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod common;

use std::fs;
use std::sync::Arc;

use common::devices::{self, Device, error};
use common::{Line, convert, folder, stored};
use hob_engine::Runner;
use hob_gguf::Gguf;
use hob_model::{Batch, Output};
use hob_quant::GgmlType;

/// What two correct programs may differ by, as a part of the logits' norm.
const TOLERANCE: f64 = 1e-4;

macro_rules! families {
    ($($test:ident: $family:literal;)*) => {
        $(#[test]
        fn $test() {
            check($family);
        })*
    };
}

families! {
    deepseek_v2_lite: "deepseek2-lite";
    deepseek_v3: "deepseek2";
    gemma2: "gemma2";
    gemma3: "gemma3";
    gemma3_with_a_vision_tower: "gemma3-vision";
    gemma4: "gemma4";
    gemma4_with_experts: "gemma4-moe";
    glm4: "glm4";
    glm4moe: "glm4moe";
    gpt_oss: "gpt-oss";
    gpt_oss_in_mxfp4: "gpt-oss-mxfp4";
    granite: "granite";
    granite_hybrid: "granitehybrid";
    granite_hybrid_without_experts: "granitehybrid-dense";
    lfm2: "lfm2";
    lfm2moe: "lfm2moe";
    llama: "llama";
    llama_with_biases: "llama-spm";
    mistral3: "mistral3";
    mixtral: "mixtral";
    olmo2: "olmo2";
    olmo3: "olmo3";
    phi3: "phi3";
    phi3_within_its_first_context: "phi3-short";
    qwen2: "qwen2";
    qwen2moe: "qwen2moe";
    qwen3: "qwen3";
    qwen35: "qwen35";
    qwen35_with_a_vision_tower: "qwen35-vision";
    qwen35moe: "qwen35moe";
    qwen3_in_fp8: "qwen3-fp8";
    qwen3moe: "qwen3moe";
    qwen3moe_stacked: "qwen3moe-stacked";
    qwen3next: "qwen3next";
    smollm3: "smollm3";
}

/// What transformers computed.
struct Reference {
    prompt: Vec<u32>,
    /// Greedy tokens: after the prompt, and after each of them but the last.
    chosen: Vec<u32>,
    vocab: usize,
    /// Logits kept of each row of the prompt but the last, evenly spaced.
    sampled: usize,
    /// Those, and then all of the rows that chose.
    logits: Vec<f32>,
}

impl Reference {
    fn of(family: &str) -> Self {
        let bytes = fs::read(stored().join(family).join("logits.bin")).unwrap();
        let mut words = bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word));
        let mut next = || words.next().unwrap() as usize;
        let (prompt, steps, vocab, sampled) = (next(), next(), next(), next());
        let reference = Reference {
            prompt: words.by_ref().take(prompt).collect(),
            chosen: words.by_ref().take(steps + 1).collect(),
            vocab,
            sampled,
            logits: words.map(f32::from_bits).collect(),
        };
        let (samples, rows) = ((prompt - 1) * sampled, (steps + 1) * vocab);
        assert_eq!((prompt, steps, reference.logits.len()), (200, 50, samples + rows), "{family}");
        reference
    }

    /// The samples of a row.
    fn samples<'a>(&self, row: &'a [f32]) -> impl Iterator<Item = f32> + use<'a> {
        let (sampled, vocab) = (self.sampled, self.vocab);
        (0..sampled).map(move |i| row[i * vocab / sampled])
    }

    /// How far found logits are, as parts of the norms: those of the prompt, and those that chose.
    fn errors(&self, found: &[f32]) -> [f64; 2] {
        assert_eq!(found.len(), self.logits.len());
        let split = (self.prompt.len() - 1) * self.sampled;
        let (prompt, rest) = (&self.logits[..split], &self.logits[split..]);
        [error(&found[..split], prompt), error(&found[split..], rest)]
    }
}

fn runner(gguf: &Arc<Gguf>, device: Device, reference: &Reference, rows: usize) -> Runner {
    devices::runner(gguf, device, rows, reference.prompt.len() + reference.chosen.len())
}

/// Logits of a step's rows.
fn step<'a>(runner: &'a mut Runner, tokens: &[u32], start: usize) -> &'a [f32] {
    let pages: Vec<u32> = (0..runner.limits().pages as u32).collect();
    let mut batch = Batch::new();
    batch.push(tokens, start as u32, &pages, Output::All).unwrap();
    runner.step(&batch).unwrap();
    runner.logits(0..tokens.len()).unwrap()
}

fn top(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map(|(token, _)| token as u32).unwrap()
}

/// The logits that the reference kept, and the tokens chosen, when the prompt is computed `piece` tokens at a time.
fn run(runner: &mut Runner, reference: &Reference, piece: usize) -> (Vec<f32>, Vec<u32>) {
    let Reference { prompt, chosen, vocab, .. } = reference;
    assert_eq!(runner.model().vocab as usize, *vocab);
    let (mut found, mut tokens) = (Vec::new(), Vec::new());
    for (i, piece_of) in prompt.chunks(piece).enumerate() {
        for (row, logits) in step(runner, piece_of, i * piece).chunks(*vocab).enumerate() {
            if i * piece + row + 1 < prompt.len() {
                found.extend(reference.samples(logits));
            } else {
                found.extend(logits);
                tokens.push(top(logits));
            }
        }
    }
    for (i, token) in chosen[..chosen.len() - 1].iter().enumerate() {
        let logits = step(runner, &[*token], prompt.len() + i);
        found.extend(logits);
        tokens.push(top(logits));
    }
    (found, tokens)
}

fn file(family: &str, change: impl Fn(&mut Vec<Line>)) -> Arc<Gguf> {
    let (_temp, folder) = folder(family, change);
    Arc::new(Gguf::open(&convert(&folder, GgmlType::F32)).unwrap())
}

fn check(family: &str) {
    let (reference, gguf) = (Reference::of(family), file(family, |_| {}));
    // What the processor multiplies quantized weights with, it rounds.
    let exact = gguf.tensors().iter().all(|tensor| tensor.ty == GgmlType::F32);
    for &device in Device::ALL.iter().take(if exact { 2 } else { 1 }) {
        for piece in [reference.prompt.len(), 7] {
            let mut runner = runner(&gguf, device, &reference, piece);
            let (found, tokens) = run(&mut runner, &reference, piece);
            let [prompt, rest] = reference.errors(&found);
            let case = format!(
                "{family} on {device:?}, {piece} at a time: {prompt:.1e} in the prompt, {rest:.1e} after it"
            );
            println!("{case}");
            assert!(prompt.max(rest) <= TOLERANCE, "{case}");
            assert_eq!(tokens, reference.chosen, "{case}");
        }
    }
}

#[test]
fn another_gain_of_one_norm_is_seen() {
    let reference = Reference::of("llama");
    let gguf = file("llama", |lines| {
        let norm = |line: &&mut Line| line.name == "model.layers.1.input_layernorm.weight";
        lines.iter_mut().find(norm).unwrap().middle += 0.01;
    });
    let mut runner = runner(&gguf, Device::Processor, &reference, reference.prompt.len());
    let (found, _) = run(&mut runner, &reference, reference.prompt.len());
    assert!(reference.errors(&found).iter().all(|error| *error > 10.0 * TOLERANCE));
}
