//! Published parameter counts, from the architecture description alone. Numbers: the models' configuration files,
//! and the counts their publishers give; DeepSeek-V3 without its multi-token prediction layer.

#![allow(clippy::unwrap_used)] // helpers of tests

use hob_gguf::{MetaBuilder, Metadata};
use hob_model::{CacheLayout, Header, Model, arch};

struct Shape {
    layers: u32,
    width: u32,
    ffn: u32,
    heads: u32,
    kv_heads: u32,
    vocab: u32,
}

fn meta(arch: &str, s: &Shape) -> MetaBuilder {
    let key = |k: &str| format!("{arch}.{k}");
    MetaBuilder::new()
        .set("general.architecture", arch)
        .set(&key("block_count"), s.layers)
        .set(&key("embedding_length"), s.width)
        .set(&key("feed_forward_length"), s.ffn)
        .set(&key("attention.head_count"), s.heads)
        .set(&key("attention.head_count_kv"), s.kv_heads)
        .set(&key("attention.layer_norm_rms_epsilon"), 1e-6f32)
        .set(&key("context_length"), 32768u32)
        .set(&key("vocab_size"), s.vocab)
}

fn model(meta: &Metadata, tensors: &[&str]) -> Model {
    arch::describe(&Header::new(meta, tensors.iter().copied()).unwrap()).unwrap()
}

#[test]
fn qwen3_0_6b() {
    let shape =
        Shape { layers: 28, width: 1024, ffn: 3072, heads: 16, kv_heads: 8, vocab: 151_936 };
    let meta = meta("qwen3", &shape).set("qwen3.attention.key_length", 128u32).build().unwrap();
    let model = model(&meta, &[]);
    assert_eq!(model.parameters(), 596_049_920);
    assert_eq!(CacheLayout::of(&model).elements_per_token(), 57_344);
}

#[test]
fn qwen3_14b() {
    let shape =
        Shape { layers: 40, width: 5120, ffn: 17408, heads: 40, kv_heads: 8, vocab: 151_936 };
    let meta = meta("qwen3", &shape).set("qwen3.attention.key_length", 128u32).build().unwrap();
    assert_eq!(model(&meta, &["output.weight"]).parameters(), 14_768_307_200);
}

#[test]
fn llama_3_2_1b() {
    let shape =
        Shape { layers: 16, width: 2048, ffn: 8192, heads: 32, kv_heads: 8, vocab: 128_256 };
    let meta = meta("llama", &shape).build().unwrap();
    let model = model(&meta, &["rope_freqs.weight"]);
    assert_eq!(model.parameters(), 1_235_814_400);
    assert_eq!(CacheLayout::of(&model).elements_per_token(), 16_384);
}

#[test]
fn gemma_3_1b() {
    let shape = Shape { layers: 26, width: 1152, ffn: 6912, heads: 4, kv_heads: 1, vocab: 262_144 };
    let meta = meta("gemma3", &shape)
        .set("gemma3.attention.key_length", 256u32)
        .set("gemma3.attention.sliding_window", 512u32)
        .build()
        .unwrap();
    let model = model(&meta, &[]);
    assert_eq!(model.parameters(), 999_885_952);
    assert_eq!(CacheLayout::of(&model).elements_per_token(), 13_312);
}

/// DeepSeek-V3's header.
fn deepseek() -> MetaBuilder {
    let shape =
        Shape { layers: 61, width: 7168, ffn: 18432, heads: 128, kv_heads: 1, vocab: 129_280 };
    let key = |k: &str| format!("deepseek2.{k}");
    meta("deepseek2", &shape)
        .set(&key("rope.dimension_count"), 64u32)
        .set(&key("attention.q_lora_rank"), 1536u32)
        .set(&key("attention.kv_lora_rank"), 512u32)
        .set(&key("attention.key_length"), 576u32)
        .set(&key("attention.value_length"), 512u32)
        .set(&key("attention.key_length_mla"), 192u32)
        .set(&key("attention.value_length_mla"), 128u32)
        .set(&key("leading_dense_block_count"), 3u32)
        .set(&key("expert_count"), 256u32)
        .set(&key("expert_used_count"), 8u32)
        .set(&key("expert_shared_count"), 1u32)
        .set(&key("expert_feed_forward_length"), 2048u32)
        .set(&key("expert_gating_func"), 2u32)
        .set(&key("rope.scaling.type"), "yarn")
        .set(&key("rope.scaling.factor"), 40f32)
        .set(&key("rope.scaling.original_context_length"), 4096u32)
}

#[test]
fn deepseek_v3() {
    let meta = deepseek().build().unwrap();
    let biases: Vec<String> = (3..61).map(|i| format!("blk.{i}.exp_probs_b.bias")).collect();
    let mut tensors: Vec<&str> = biases.iter().map(String::as_str).collect();
    tensors.push("output.weight");
    let model = model(&meta, &tensors);
    assert_eq!(model.parameters(), 671_026_419_200);
    // The publisher's 37 G, with 0.9 G of it in the embedding.
    assert_eq!(model.active_parameters(), 671_026_419_200 - 58 * 248 * 3 * 7168 * 2048);
    assert_eq!(CacheLayout::of(&model).elements_per_token(), 35_136);
}

/// Numbers that a hostile file may hold: refused, not multiplied.
#[test]
fn products_that_overflow_are_refused() {
    for (key, value) in [
        ("attention.key_length_mla", 1 << 26),
        ("attention.value_length_mla", 1 << 26),
        ("attention.kv_lora_rank", u32::MAX - 1),
        ("expert_shared_count", 1 << 22),
    ] {
        let meta = deepseek().set(&format!("deepseek2.{key}"), value).build().unwrap();
        let error = arch::describe(&Header::new(&meta, []).unwrap()).unwrap_err();
        let part = key.trim_end_matches("_mla");
        assert!(error.to_string().contains(part), "{error}");
    }
}
