//! Numbers of published models, from nothing but their configuration files, which the catalogue carries: parameters, those that one
//! token meets, elements cached for each position, elements kept for each sequence. The same numbers are counted by
//! transformers from the shapes of its own modules (`counts.txt`, written by `count.py`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests

mod catalogue;

use std::collections::{BTreeMap, HashSet};

use hob_model::hf::HfConfig;
use hob_model::{CacheLayout, Model, arch};
use serde_json::Value;

/// A model, and its parameters in billions as its publisher rounds them (the comment says where; empty where the figure is
/// of something else).
type Row = (&'static str, &'static str);

#[rustfmt::skip] // a table
const MODELS: &[Row] = &[
    // Hub, with the pooler of 147,840.
    ("all-minilm:l6-v2", "0.0227"),
    // arXiv 2405.04434; 2.4 active without the embedding.
    ("deepseek-v2:16b", "15.7"),
    // arXiv 2412.19437; 37 active; without its prediction layer.
    ("deepseek-v3:671b", "671"),
    // arXiv 2408.00118: 1180M + 26047M.
    ("gemma2:27b", "27.227"),
    // arXiv 2408.00118: 590M + 2024M.
    ("gemma2:2b", "2.614"),
    // arXiv 2408.00118: 918M + 8324M.
    ("gemma2:9b", "9.242"),
    // arXiv 2503.19786: 302M + 698M.
    ("gemma3:1b", "1.000"),
    // arXiv 2503.19786: 1416M + 25600M, without the tower.
    ("gemma3:27b", "27.0"),
    // Name.
    ("gemma4:12b", "12"),
    // Model card; 3.8 active.
    ("gemma4:26b-a4b", "25.2"),
    // Model card.
    ("gemma4:31b", "30.7"),
    // Model card: 2.3 effective; 5.1 with towers.
    ("gemma4:e2b", ""),
    // Model card: 4.5 effective; 8 with towers.
    ("gemma4:e4b", ""),
    // arXiv 2508.06471; 12 active; without its prediction layer.
    ("glm-4.5-air:106b-a12b", "106"),
    // Model card.
    ("glm4:9b", "9"),
    // arXiv 2508.10925; 5.13 active without the embedding.
    ("gpt-oss:120b", "116.83"),
    // arXiv 2508.10925; 3.61 active without the embedding.
    ("gpt-oss:20b", "20.91"),
    // Model card.
    ("granite4:micro", "3"),
    // Model card; 9 active.
    ("granite4:small-h", "32"),
    // Model card; 1 active.
    ("granite4:tiny-h", "7"),
    // Model card.
    ("lfm2:1.2b", "1.170340608"),
    // Model card.
    ("lfm2:350m", "0.354483968"),
    // Model card.
    ("lfm2:700m", "0.742489344"),
    // Model card; 1.5 active.
    ("lfm2:8b-a1b", "8.3"),
    // Model card.
    ("llama3.1:405b", "405"),
    // Model card.
    ("llama3.1:8b", "8"),
    // Model card.
    ("llama3.2:1b", "1.23"),
    // Model card.
    ("llama3.2:3b", "3.21"),
    // Model card.
    ("llama3.3:70b", "70"),
    // Model card, without the tower.
    ("ministral-3:14b", "13.5"),
    // Model card, without the tower.
    ("ministral-3:3b", "3.4"),
    // Model card, without the tower.
    ("ministral-3:8b", "8.4"),
    // Model card.
    ("mistral:7b", "7.25"),
    // Announcement; 39 active.
    ("mixtral:8x22b", "141"),
    // announcement; 12.9 active.
    ("mixtral:8x7b", "46.7"),
    // Model card.
    ("nomic-embed-text:v1.5", "0.137"),
    // Model card.
    ("olmo-3:7b-instruct", "7"),
    // arXiv 2501.00656.
    ("olmo2:7b", "7"),
    // Model card.
    ("phi3.5:3.8b", "3.8"),
    // Model card.
    ("phi4-mini:3.8b", "3.8"),
    // Model card; 2.7 active.
    ("qwen1.5-moe:a2.7b", "14.3"),
    // Model card.
    ("qwen2.5:0.5b", "0.49"),
    // Model card.
    ("qwen2.5:1.5b", "1.54"),
    // Model card.
    ("qwen2.5:14b", "14.7"),
    // Model card.
    ("qwen2.5:3b", "3.09"),
    // Model card.
    ("qwen2.5:72b", "72.7"),
    // Model card; 6.53 without embeddings.
    ("qwen2.5:7b", "7.61"),
    // arXiv 2407.10671; 14 active.
    ("qwen2:57b-a14b", "57"),
    // Model card; 35 active.
    ("qwen3-coder:480b-a35b", "480"),
    // Model card; 3 active; without its prediction layer.
    ("qwen3-next:80b-a3b", "80"),
    // Name.
    ("qwen3.5:0.8b", "0.8"),
    // Name; 10 active.
    ("qwen3.5:122b-a10b", "122"),
    // Name.
    ("qwen3.5:27b", "27"),
    // Name; 3 active.
    ("qwen3.5:35b-a3b", "35"),
    // Name; 17 active.
    ("qwen3.5:397b-a17b", "397"),
    // Name.
    ("qwen3.5:4b", "4"),
    // Name.
    ("qwen3.5:9b", "9"),
    // Model card.
    ("qwen3:0.6b", "0.6"),
    // Model card.
    ("qwen3:1.7b", "1.7"),
    // Model card.
    ("qwen3:14b", "14.8"),
    // Model card; 22 active.
    ("qwen3:235b-a22b", "235"),
    // Model card; 3.3 active.
    ("qwen3:30b-a3b", "30.5"),
    // Model card.
    ("qwen3:32b", "32.8"),
    // Model card.
    ("qwen3:4b", "4.0"),
    // Model card.
    ("qwen3:8b", "8.2"),
    // Model card.
    ("smollm3:3b", "3"),
    // Name.
    ("tinyllama:1.1b", "1.1"),
];

/// BERT's pooler, which transformers builds and files for embeddings leave out: a matrix of as many rows as the model is wide, and
/// its bias.
fn pooler(model: &Model) -> u64 {
    if model.arch == "bert" { u64::from(model.width) * (u64::from(model.width) + 1) } else { 0 }
}

/// The models whose configuration the catalogue has, with their entries.
fn described() -> BTreeMap<String, (Value, Model)> {
    let described = |(name, entry): (String, Value)| {
        let config = catalogue::config(&entry)?;
        let model = config.describe().unwrap_or_else(|e| panic!("{name}: {e}"));
        Some((name, (entry, model)))
    };
    catalogue::entries().into_iter().filter_map(described).collect()
}

fn numbers(model: &Model) -> [u64; 4] {
    let layout = CacheLayout::of(model);
    let state: usize = layout.states.iter().map(|s| s.conv + s.memory).sum();
    let (all, met) = (model.parameters(), model.active_parameters());
    [all, met, layout.elements_per_token(), state as u64]
}

#[test]
fn the_catalogue_says_what_the_configs_come_to() {
    let described = described();
    assert!(described.len() >= 60);
    for (name, (entry, model)) in described {
        let all = entry["parameters"].as_u64().unwrap();
        let active = entry.get("active_parameters").map_or(all, |n| n.as_u64().unwrap());
        assert_eq!((model.parameters(), model.active_parameters()), (all, active), "{name}");
        assert_eq!(model.arch, entry["architecture"], "{name}");
        // Some publishers promise less than the configuration allows.
        assert!(entry["context"].as_u64().unwrap() <= u64::from(model.context), "{name}");
    }
}

#[test]
fn the_catalogue_has_what_can_run() {
    for (name, entry) in catalogue::entries() {
        assert!(arch::names().any(|arch| entry["architecture"] == arch), "{name}");
    }
}

#[test]
fn published_numbers() {
    let described = described();
    for (name, billions) in MODELS {
        let (_, model) = &described[*name];
        let Ok(published) = billions.parse::<f64>() else { continue };
        let digits = billions.split_once('.').map_or(0, |(_, digits)| digits.len());
        let off = ((model.parameters() + pooler(model)) as f64 / 1e9 - published).abs();
        // Some publishers round down.
        assert!(off <= 1.001 * 0.1f64.powi(digits as i32), "{name}: {off}");
    }
}

#[test]
fn transformers_counts_the_same() {
    let counts: BTreeMap<&str, Vec<u64>> = include_str!("counts.txt")
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, rest)| (name, rest.split(' ').map(|n| n.parse().unwrap()).collect()))
        .collect();
    let described = described();
    assert_eq!(counts.len(), described.len());
    for (name, (_, model)) in &described {
        let counted = counts.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not counted"));
        let [trained, buffers, met, cache, state] = counted[..] else { panic!("{name}") };
        let pooler = pooler(model);
        // Biases that only choose experts, and scales of layers, are buffers there and tensors in a file.
        let found = [trained + buffers - pooler, met - pooler, cache, state];
        assert_eq!(found, numbers(model), "{name}");
    }
}

/// Every architecture has a published model here, but for Granite's experts without Mamba-2: of those transformers can
/// make models, and none is known to be published.
#[test]
fn no_architecture_is_left_out() {
    let described = described();
    let found: HashSet<&str> = described.values().map(|(_, model)| model.arch).collect();
    let unpublished = ["granitemoe"];
    let missing: Vec<&str> =
        arch::names().filter(|name| !found.contains(name) && !unpublished.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Numbers that a hostile file may hold: refused, not multiplied.
#[test]
fn products_that_overflow_are_refused() {
    let deepseek: HfConfig = catalogue::config(&catalogue::entries()["deepseek-v3:671b"]).unwrap();
    for (key, value) in [
        ("attention.key_length_mla", 1 << 26),
        ("attention.value_length_mla", 1 << 26),
        ("attention.kv_lora_rank", u32::MAX - 1),
        ("expert_shared_count", 1 << 22),
    ] {
        let mut hostile = deepseek.clone();
        hostile.meta.insert(&format!("deepseek2.{key}"), value);
        let error = hostile.describe().unwrap_err();
        let part = key.trim_end_matches("_mla");
        assert!(error.to_string().contains(part), "{error}");
    }
}
