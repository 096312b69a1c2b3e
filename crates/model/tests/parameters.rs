//! Numbers of published models, from nothing but their configuration files (`configs/`): parameters, those that one token
//! meets, elements cached for each position, elements kept for each sequence. The same numbers are counted by
//! transformers from the shapes of its own modules (`configs/counts.txt`, written by `configs/count.py`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use hob_model::hf::HfConfig;
use hob_model::{CacheLayout, Model, arch};

/// A model, its parameters in billions as its publisher rounds them (the comment says where; empty where the figure is of
/// something else), and the exact numbers.
type Row = (&'static str, &'static str, [u64; 4]);

#[rustfmt::skip] // a table
const MODELS: &[Row] = &[
    // Hub, with the pooler of 147,840.
    ("all-minilm-l6-v2", "0.0227", [22_565_376, 22_565_376, 4608, 0]),
    // arXiv 2405.04434; 2.4 active without the embedding.
    ("deepseek-v2-lite", "15.7", [15_706_484_224, 2_661_150_208, 15_552, 0]),
    // arXiv 2412.19437; 37 active; without its prediction layer.
    ("deepseek-v3", "671", [671_026_419_200, 37_552_297_472, 35_136, 0]),
    // arXiv 2408.00118: 918M + 8324M.
    ("gemma-2-9b", "9.242", [9_241_705_984, 9_241_705_984, 172_032, 0]),
    // arXiv 2503.19786: 302M + 698M.
    ("gemma-3-1b", "1.000", [999_885_952, 999_885_952, 13_312, 0]),
    // arXiv 2503.19786: 1416M + 25600M, without the tower.
    ("gemma-3-27b", "27.0", [27_009_346_304, 27_009_346_304, 253_952, 0]),
    // Name.
    ("gemma-4-12b", "12", [11_907_350_320, 11_907_350_320, 172_032, 0]),
    // Model card; 3.8 active.
    ("gemma-4-26b-a4b", "25.2", [25_233_141_790, 3_822_530_590, 112_640, 0]),
    // Model card.
    ("gemma-4-31b", "30.7", [30_697_345_340, 30_697_345_340, 450_560, 0]),
    // Model card: 2.3 effective; 5.1 with towers.
    ("gemma-4-e2b", "", [4_628_569_379, 4_628_569_379, 9216, 0]),
    // Model card: 4.5 effective; 8 with towers.
    ("gemma-4-e4b", "", [7_463_013_418, 7_463_013_418, 28_672, 0]),
    // Model card.
    ("glm-4-9b-0414", "9", [9_400_279_040, 9_400_279_040, 20_480, 0]),
    // arXiv 2508.06471; 12 active; without its prediction layer.
    ("glm-4.5-air", "106", [106_852_251_264, 13_424_129_664, 94_208, 0]),
    // arXiv 2508.10925; 5.13 active without the embedding.
    ("gpt-oss-120b", "116.83", [116_829_156_672, 5_711_982_912, 36_864, 0]),
    // arXiv 2508.10925; 3.61 active without the embedding.
    ("gpt-oss-20b", "20.91", [20_914_757_184, 4_187_440_704, 24_576, 0]),
    // Model card; 9 active.
    ("granite-4.0-h-small", "32", [32_207_337_984, 8_803_121_664, 8192, 38_661_120]),
    // Model card; 1 active.
    ("granite-4.0-h-tiny", "7", [6_939_037_248, 1_465_470_528, 4096, 14_515_200]),
    // Model card.
    ("granite-4.0-micro", "3", [3_402_836_480, 3_402_836_480, 40_960, 0]),
    // Model card.
    ("lfm2-1.2b", "1.170340608", [1_170_340_608, 1_170_340_608, 6144, 40_960]),
    // Model card; 1.5 active.
    ("lfm2-8b-a1b", "8.3", [8_339_930_560, 1_557_740_992, 6144, 73_728]),
    // Model card.
    ("llama-3.1-8b", "8", [8_030_261_248, 8_030_261_248, 65_536, 0]),
    // Model card.
    ("llama-3.2-1b", "1.23", [1_235_814_400, 1_235_814_400, 16_384, 0]),
    // Model card.
    ("llama-3.2-3b", "3.21", [3_212_749_824, 3_212_749_824, 57_344, 0]),
    // Model card.
    ("llama-3.3-70b", "70", [70_553_706_496, 70_553_706_496, 163_840, 0]),
    // Model card, without the tower.
    ("ministral-3-14b", "13.5", [13_506_073_600, 13_506_073_600, 81_920, 0]),
    // Model card, without the tower.
    ("ministral-3-3b", "3.4", [3_429_006_336, 3_429_006_336, 53_248, 0]),
    // Model card, without the tower.
    ("ministral-3-8b", "8.4", [8_489_553_920, 8_489_553_920, 69_632, 0]),
    // announcement; 12.9 active.
    ("mixtral-8x7b", "46.7", [46_702_792_704, 12_879_925_248, 65_536, 0]),
    // Model card.
    ("nomic-embed-text-v1.5", "0.137", [136_731_648, 136_731_648, 18_432, 0]),
    // arXiv 2501.00656.
    ("olmo-2-7b", "7", [7_298_617_344, 7_298_617_344, 262_144, 0]),
    // Model card.
    ("olmo-3-7b", "7", [7_298_011_136, 7_298_011_136, 262_144, 0]),
    // Model card.
    ("phi-3.5-mini", "3.8", [3_821_079_552, 3_821_079_552, 196_608, 0]),
    // Model card.
    ("phi-4-mini", "3.8", [3_836_021_760, 3_836_021_760, 65_536, 0]),
    // Model card; 2.7 active.
    ("qwen1.5-moe-a2.7b", "14.3", [14_315_784_192, 2_689_173_504, 98_304, 0]),
    // arXiv 2407.10671; 14 active.
    ("qwen2-57b-a14b", "57", [57_408_658_944, 14_249_270_784, 28_672, 0]),
    // Model card; 6.53 without embeddings.
    ("qwen2.5-7b", "7.61", [7_615_616_512, 7_615_616_512, 28_672, 0]),
    // Model card.
    ("qwen3-0.6b", "0.6", [596_049_920, 596_049_920, 57_344, 0]),
    // Model card.
    ("qwen3-14b", "14.8", [14_768_307_200, 14_768_307_200, 81_920, 0]),
    // Model card; 22 active.
    ("qwen3-235b-a22b", "235", [235_093_634_560, 22_190_763_520, 96_256, 0]),
    // Model card; 3.3 active.
    ("qwen3-30b-a3b", "30.5", [30_532_122_624, 3_353_032_704, 49_152, 0]),
    // Model card.
    ("qwen3-32b", "32.8", [32_762_123_264, 32_762_123_264, 131_072, 0]),
    // Model card.
    ("qwen3-4b", "4.0", [4_022_468_096, 4_022_468_096, 73_728, 0]),
    // Model card.
    ("qwen3-8b", "8.2", [8_190_735_360, 8_190_735_360, 73_728, 0]),
    // Model card; 3 active; without its prediction layer.
    ("qwen3-next-80b-a3b", "80", [79_674_391_296, 3_874_929_408, 12_288, 19_759_104]),
    // Name.
    ("qwen3.5-0.8b", "0.8", [752_393_024, 752_393_024, 6144, 5_050_368]),
    // Name.
    ("qwen3.5-27b", "27", [26_895_998_464, 26_895_998_464, 32_768, 39_223_296]),
    // Name; 3 active.
    ("qwen3.5-35b-a3b", "35", [34_660_610_688, 3_454_988_928, 10_240, 16_465_920]),
    // Name.
    ("qwen3.5-4b", "4", [4_205_751_296, 4_205_751_296, 16_384, 13_172_736]),
    // Name.
    ("qwen3.5-9b", "9", [8_953_803_264, 8_953_803_264, 16_384, 13_172_736]),
    // Model card.
    ("smollm3-3b", "3", [3_075_098_624, 3_075_098_624, 36_864, 0]),
];

/// BERT's pooler, which transformers builds and files for embeddings leave out: a matrix of 384 rows and its bias.
const POOLER: (&str, u64) = ("all-minilm-l6-v2", 384 * 384 + 384);

fn config(name: &str) -> HfConfig {
    HfConfig::parse(&text(&format!("{name}.json"))).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn text(file: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "configs", file].iter().collect();
    std::fs::read_to_string(path).unwrap()
}

fn numbers(model: &Model) -> [u64; 4] {
    let layout = CacheLayout::of(model);
    let state: usize = layout.states.iter().map(|s| s.conv + s.memory).sum();
    let (all, met) = (model.parameters(), model.active_parameters());
    [all, met, layout.elements_per_token(), state as u64]
}

#[test]
fn published_numbers() {
    for (name, billions, expected) in MODELS {
        let model = config(name).describe().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(numbers(&model), *expected, "{name}");
        let Ok(published) = billions.parse::<f64>() else { continue };
        let digits = billions.split_once('.').map_or(0, |(_, digits)| digits.len());
        let pooler = if *name == POOLER.0 { POOLER.1 } else { 0 };
        let off = ((expected[0] + pooler) as f64 / 1e9 - published).abs();
        // Some publishers round down.
        assert!(off <= 1.001 * 0.1f64.powi(digits as i32), "{name}: {off}");
    }
}

#[test]
fn transformers_counts_the_same() {
    let counts = text("counts.txt");
    let counts: BTreeMap<&str, Vec<u64>> = counts
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, rest)| (name, rest.split(' ').map(|n| n.parse().unwrap()).collect()))
        .collect();
    assert_eq!(counts.len(), MODELS.len());
    for (name, _, expected) in MODELS {
        let [trained, buffers, met, cache, state] = counts[name][..] else { panic!("{name}") };
        let pooler = if *name == POOLER.0 { POOLER.1 } else { 0 };
        // Biases that only choose experts, and scales of layers, are buffers there and tensors in a file.
        let found = [trained + buffers - pooler, met - pooler, cache, state];
        assert_eq!(found, *expected, "{name}");
    }
}

/// Every architecture has a published model here, but for Granite's experts without Mamba-2: of those transformers can
/// make models, and none is known to be published.
#[test]
fn no_architecture_is_left_out() {
    let found: HashSet<&str> =
        MODELS.iter().map(|(name, ..)| config(name).describe().unwrap().arch).collect();
    let unpublished = ["granitemoe"];
    let missing: Vec<&str> =
        arch::names().filter(|name| !found.contains(name) && !unpublished.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Numbers that a hostile file may hold: refused, not multiplied.
#[test]
fn products_that_overflow_are_refused() {
    let deepseek = config("deepseek-v3");
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
