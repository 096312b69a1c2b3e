//! Answers drawn at random from compiled rules, and what an independent judge says of them.

mod bombs;
mod calls;
mod rules;
mod suite;
mod times;

use std::sync::Arc;

use hob_gguf::MetaBuilder;
use hob_testkit::{Family, Rng, Tiny};
use hob_text::Tokenizer;

use super::*;

/// One token per byte.
fn bytes() -> Arc<Tokenizer> {
    let gguf = Tiny::new(Family::Llama).gguf();
    Arc::new(Tokenizer::from_gguf(gguf.meta()).unwrap())
}

/// Bytes, some longer tokens, and these markers as control tokens. 0 is the end token.
fn marked(control: &[&str]) -> Arc<Tokenizer> {
    let mut tokens = vec!["</s>".to_owned()];
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["{\"", "\": ", "\"}", "tool", "null", "▁the", "</"].map(str::to_owned));
    let mut types = vec![3];
    types.extend([6; 256]);
    types.resize(tokens.len(), 1);
    tokens.extend(control.iter().map(|name| (*name).to_owned()));
    types.resize(tokens.len(), 3);
    let meta = MetaBuilder::new()
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.scores", vec![0.0f32; tokens.len()])
        .set("tokenizer.ggml.tokens", tokens)
        .set("tokenizer.ggml.token_type", types)
        .set("tokenizer.ggml.bos_token_id", 0u32)
        .set("tokenizer.ggml.eos_token_id", 0u32);
    Arc::new(Tokenizer::from_gguf(&meta.build().unwrap()).unwrap())
}

fn grammars(tokenizer: &Arc<Tokenizer>) -> Grammars {
    Grammars::new(tokenizer).unwrap()
}

/// What closes things, for answers that are to come to an end.
const CLOSERS: [&str; 6] = ["</parameter>", "</arg_value>", "\"", "}", "]", "</think>"];

/// An answer drawn at random: its tokens with the names of control tokens, without the end. After some steps it tends to close what is
/// open. `None` if it never ended.
fn draw(tokenizer: &Tokenizer, constraint: &Constraint, rng: &mut Rng) -> Option<String> {
    let mut follower = constraint.follow().unwrap();
    let (mut answer, mut script): (Vec<u32>, Vec<u8>) = (Vec::new(), Vec::new());
    for step in 0..3000 {
        let Some(mask) = follower.allowed().unwrap() else { break };
        let may = |t: u32| mask.get(t as usize / 32).is_some_and(|word| word >> (t % 32) & 1 == 1);
        let allowed: Vec<u32> = (0..tokenizer.vocab_size() as u32).filter(|&t| may(t)).collect();
        if step > 40 && script.is_empty() && rng.below(3) > 0 {
            script = CLOSERS[rng.below(CLOSERS.len())].bytes().rev().collect();
        }
        let next = script.pop().and_then(|byte| {
            allowed.iter().copied().find(|&t| tokenizer.token_bytes(t, false) == [byte])
        });
        if next.is_none() {
            script.clear();
        }
        let end = allowed.iter().copied().find(|&t| tokenizer.is_eog(t));
        let any = allowed[rng.below(allowed.len())];
        let ends = rng.below(if step > 40 { 2 } else { 4 }) == 0;
        let token = end.filter(|_| ends).or(next).unwrap_or(any);
        if tokenizer.is_eog(token) {
            return Some(tokenizer.decode_with(&answer, true));
        }
        answer.push(token);
        follower.take(token).unwrap();
        if follower.is_complete() {
            return Some(tokenizer.decode_with(&answer, true));
        }
    }
    follower.is_complete().then(|| tokenizer.decode_with(&answer, true))
}

/// Whether a text is an answer of a rule, written byte by byte.
fn accepts(tokenizer: &Tokenizer, constraint: &Constraint, text: &str) -> bool {
    let mut follower = constraint.follow().unwrap();
    for byte in text.bytes() {
        let Some(mask) = follower.allowed().unwrap() else { return false };
        let fits = |t: &u32| {
            tokenizer.token_bytes(*t, false) == [byte]
                && mask.get(*t as usize / 32).is_some_and(|word| word >> (t % 32) & 1 == 1)
        };
        let Some(token) = (0..tokenizer.vocab_size() as u32).find(fits) else { return false };
        follower.take(token).unwrap();
    }
    let end = tokenizer.eog_tokens()[0];
    match follower.allowed().unwrap() {
        None => true,
        Some(mask) => mask[end as usize / 32] >> (end % 32) & 1 == 1,
    }
}
