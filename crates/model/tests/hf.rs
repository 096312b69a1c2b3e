//! Configurations as published, to the parameter counts that their publishers give; and what strangers may send.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests

use hob_model::hf::{HfConfig, HfError, MAX_CONFIG_BYTES};
use hob_model::{FileSize, Rope, RopePairs, RopeScaling, SizeError};
use serde_json::{Value, json};

fn qwen3() -> Value {
    json!({"architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 5120, "initializer_range": 0.02,
        "intermediate_size": 17408, "max_position_embeddings": 40960, "max_window_layers": 40, "model_type": "qwen3",
        "num_attention_heads": 40, "num_hidden_layers": 40, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
        "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": false,
        "torch_dtype": "bfloat16", "use_cache": true, "use_sliding_window": false, "vocab_size": 151936})
}

fn qwen2() -> Value {
    json!({"architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 8960,
        "max_position_embeddings": 32768, "model_type": "qwen2", "num_attention_heads": 12, "num_hidden_layers": 28,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936})
}

fn llama() -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": true, "vocab_size": 128256,
        "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"}})
}

/// `config` with one key changed, or gone where the value is null.
fn with(mut config: Value, key: &str, value: Value) -> String {
    config.as_object_mut().unwrap().insert(key.to_owned(), value);
    config.to_string()
}

fn parse(config: &str) -> Result<HfConfig, HfError> {
    HfConfig::parse(config)
}

#[test]
fn published_counts() {
    let parameters =
        |config: Value| parse(&config.to_string()).unwrap().describe().unwrap().parameters();
    assert_eq!(parameters(qwen3()), 14_768_307_200);
    assert_eq!(parameters(qwen2()), 1_543_714_304);
    assert_eq!(parameters(llama()), 1_235_814_400);
}

#[test]
fn keys_mean_what_they_mean_in_gguf() {
    let config = parse(&qwen3().to_string()).unwrap();
    let meta = config.meta.build().unwrap();
    for (key, value) in [
        ("block_count", 40),
        ("context_length", 40960),
        ("embedding_length", 5120),
        ("feed_forward_length", 17408),
        ("attention.head_count", 40),
        ("attention.head_count_kv", 8),
        ("attention.key_length", 128),
        ("attention.value_length", 128),
        ("vocab_size", 151_936),
    ] {
        assert_eq!(meta.u32(&format!("qwen3.{key}")).unwrap(), value, "{key}");
    }
    assert_eq!(meta.f32("qwen3.rope.freq_base").unwrap(), 1e6);
    assert_eq!(meta.f32("qwen3.attention.layer_norm_rms_epsilon").unwrap(), 1e-6);
    assert_eq!(meta.str("general.architecture").unwrap(), "qwen3");
    assert_eq!(config.tensors.len(), 1 + 2 * 40);
    assert_eq!(config.tensors[..2], ["output.weight", "blk.0.attn_q_norm.weight"]);
}

#[test]
fn tensors_that_depend_on_settings() {
    let names = |config: String| parse(&config).unwrap().tensors;
    assert_eq!(names(llama().to_string()), ["rope_freqs.weight"]);
    assert_eq!(names(qwen2().to_string()).len(), 28 * 3);
    let biased = names(with(llama(), "attention_bias", json!(true)));
    assert_eq!(biased.len(), 1 + 16 * 4);
    assert!(biased.contains(&"blk.15.attn_output.bias".to_owned()));
}

#[test]
fn positions_are_scaled_as_said() {
    let found = |value: Value| {
        let config = parse(&with(qwen3(), "rope_scaling", value)).unwrap();
        let rope = config.describe().unwrap().ropes.remove(0);
        (rope.inv_freq, rope.magnitude)
    };
    let expected = |scaling: RopeScaling| {
        let rope = Rope::new(RopePairs::Halves, 128, 1e6, scaling);
        (rope.inv_freq, rope.magnitude)
    };
    assert_eq!(found(json!({"rope_type": "default"})), expected(RopeScaling::None));
    let linear = json!({"type": "linear", "factor": 2.0});
    assert_eq!(found(linear), expected(RopeScaling::Linear(2.0)));
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "beta_fast": 16, "original_max_position_embeddings": 32768});
    let (factor, original, beta_fast, beta_slow, attn_factor) = (4.0, 32768, 16.0, 1.0, 1.0);
    let scaling =
        RopeScaling::Yarn { factor, original, beta_fast, beta_slow, attn_factor, truncate: true };
    assert_eq!(found(yarn), expected(scaling));
    // Newer configs keep the base with the scaling.
    let mut newer = qwen3();
    newer.as_object_mut().unwrap().remove("rope_theta");
    let newer =
        with(newer, "rope_parameters", json!({"rope_type": "default", "rope_theta": 5000000}));
    let meta = parse(&newer).unwrap().meta.build().unwrap();
    assert_eq!(meta.f32("qwen3.rope.freq_base").unwrap(), 5e6);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let error = |key: &str, value: Value| {
        let parsed = parse(&with(qwen3(), key, value)).and_then(|config| config.describe());
        parsed.unwrap_err().to_string()
    };
    for (key, value, says) in [
        ("hidden_size", Value::Null, "\"hidden_size\" is missing, expected a whole number"),
        ("rms_norm_eps", json!("small"), "\"rms_norm_eps\" is \"small\", expected a number"),
        ("hidden_size", json!("big"), "\"hidden_size\" is \"big\", expected a whole number"),
        ("hidden_size", json!(5120.5), "\"hidden_size\" is 5120.5, expected a whole number"),
        ("hidden_size", json!(-1), "\"hidden_size\" is -1, expected a whole number"),
        ("vocab_size", json!(1u64 << 40), "\"vocab_size\" is 1099511627776, expected"),
        ("num_hidden_layers", json!(u32::MAX), "4294967295"),
        ("num_attention_heads", json!(1 << 24), "'qwen3.attention.head_count' is 16777216"),
        ("num_key_value_heads", json!(7), "attention.head_count_kv"),
        ("hidden_act", json!("gelu"), "\"hidden_act\" is \"gelu\", expected \"silu\""),
        ("use_sliding_window", json!(true), "\"use_sliding_window\" is true, expected false"),
        ("tie_word_embeddings", json!(1), "expected true or false"),
        ("rope_theta", json!(1e300), "rope.freq_base"),
        ("rope_scaling", json!([]), "\"rope_scaling\" is [], expected an object or null"),
        ("rope_scaling", json!({"type": "longrope"}), "\"rope_type\" is \"longrope\""),
        ("rope_scaling", json!({"type": "yarn", "factor": 2}), "original_max_position_embeddings"),
        ("rope_scaling", json!({"type": "linear"}), "\"factor\" is missing"),
        ("architectures", json!(["MambaForCausalLM"]), "'MambaForCausalLM' is not known"),
    ] {
        let said = error(key, value);
        assert!(said.contains(says), "{key}: {said}");
    }
    // A table of so many numbers is not made.
    let said = parse(&with(llama(), "head_dim", json!(u32::MAX))).unwrap_err().to_string();
    assert_eq!(said, "\"head_dim\" is 4294967295, expected at most 16384");
    let biased = with(qwen2(), "num_hidden_layers", json!(u32::MAX));
    assert!(matches!(parse(&biased), Err(HfError::BadValue { .. })));
}

/// The largest numbers that are let through do not overflow anywhere on the way to a size.
#[test]
fn enormous_models_have_sizes_or_errors() {
    let big = 1 << 24;
    let mut config = qwen3();
    for (key, n) in [
        ("hidden_size", big),
        ("intermediate_size", big),
        ("vocab_size", big),
        ("num_hidden_layers", 1024),
        ("num_attention_heads", 1 << 16),
        ("num_key_value_heads", 1 << 16),
        ("head_dim", 1024),
    ] {
        config.as_object_mut().unwrap().insert(key.to_owned(), json!(n));
    }
    let config = parse(&config.to_string()).unwrap();
    let model = config.describe().unwrap();
    assert!(model.active_parameters() > 1 << 60);
    assert!(matches!(FileSize::of(&model, &config.meta, 0), Err(SizeError::Overflow)));
}

/// Settings that change the data flow in ways that a family's description does not have.
#[test]
fn what_cannot_be_followed_is_refused() {
    let moe = json!({"architectures": ["Qwen3MoeForCausalLM"], "hidden_size": 64, "num_attention_heads": 4,
        "num_hidden_layers": 2, "vocab_size": 32, "intermediate_size": 64, "moe_intermediate_size": 32,
        "num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2, "head_dim": 16});
    assert!(parse(&moe.to_string()).unwrap().describe().is_ok());
    for (config, key, value) in [
        (&moe, "mlp_only_layers", json!([0])),
        (&moe, "decoder_sparse_step", json!(2)),
        (&moe, "mlp_bias", json!(true)),
        (&moe, "rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
        (&qwen2(), "hidden_act", json!("relu")),
        (&llama(), "rope_scaling", json!({"rope_type": "longrope"})),
    ] {
        let error = parse(&with(config.clone(), key, value)).unwrap_err();
        assert!(matches!(error, HfError::BadValue { .. }), "{key}: {error}");
    }
}

#[test]
fn other_texts_are_refused() {
    assert!(matches!(parse("nonsense"), Err(HfError::Json(_))));
    assert!(matches!(parse(""), Err(HfError::Json(_))));
    for json in ["[]", "{}", "null", "3", "{\"vocab\": {}}"] {
        assert!(matches!(parse(json), Err(HfError::NotAConfig { .. })), "{json}");
    }
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    assert!(matches!(parse(&deep), Err(HfError::Json(_))));
    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_CONFIG_BYTES));
    assert!(matches!(parse(&long), Err(HfError::TooLong { .. })));
    let name = "x".repeat(1000);
    let said = parse(&json!({"architectures": [name]}).to_string()).unwrap_err().to_string();
    assert!(!said.contains(&"x".repeat(100)), "{said}");
}
