//! Every recipe against llama.cpp's quantizer, on the shapes of real models. The fixtures are written by `oracle.py`,
//! which also says how they read.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests

mod catalogue;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use hob_model::hf::HfConfig;
use hob_model::{Model, Recipe, RecipeOptions, Role, Weight};
use hob_quant::GgmlType;

/// A fixture: the model, the types it expects by recipe and circumstance, matrices that keep their type, and the recipes
/// that need importance.
struct Fixture {
    model: Model,
    expected: Vec<[String; 3]>,
    kept: String,
    needing: String,
}

/// The file of a model: of the catalogue's, by its full name with a dash for the colon; or of a config that lies beside.
fn fixture(name: &str) -> Fixture {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "recipes"].iter().collect();
    let read = |ending: &str| std::fs::read_to_string(folder.join(format!("{name}.{ending}")));
    let entries = catalogue::entries();
    let entry = entries.iter().find(|(full, _)| full.replace(':', "-") == name);
    let config = match entry {
        Some((_, entry)) => catalogue::config(entry).unwrap(),
        None => HfConfig::parse(&read("json").unwrap()).unwrap(),
    };
    let text = read("txt").unwrap();
    let (mut expected, mut kept, mut needing) = (Vec::new(), String::new(), String::new());
    for line in text.lines() {
        let mut parts = line.splitn(3, ' ').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        match (part(), part()) {
            (word, kinds) if word == "kept" => kept = kinds,
            (word, _) if word == "needs" => needing = part(),
            (recipe, when) => expected.push([recipe, when, part()]),
        }
    }
    Fixture { model: config.describe().unwrap(), expected, kept, needing }
}

/// A tensor's name within its layer.
fn kind(weight: &Weight) -> String {
    let block = weight.layer.map(|i| format!("blk.{i}.")).unwrap_or_default();
    let name = weight.name.strip_prefix(&block).unwrap();
    name.strip_suffix(".weight").unwrap_or(name).to_owned()
}

/// Whether it has one dimension only, as ggml counts them.
fn is_flat(weight: &Weight) -> bool {
    weight.shape.iter().skip(1).all(|&n| n == 1)
}

fn is_plain(ty: GgmlType) -> bool {
    [GgmlType::F32, GgmlType::BF16].contains(&ty)
}

/// Types in the fixtures' short form.
fn runs(model: &Model, types: &[GgmlType]) -> String {
    let mut by_kind: BTreeMap<String, Vec<GgmlType>> = BTreeMap::new();
    for (weight, &ty) in model.weights.iter().zip(types) {
        match weight.is_quantizable() && !is_flat(weight) {
            true => by_kind.entry(kind(weight)).or_default().push(ty),
            false if weight.role == Role::PerLayerModelProj => assert!(is_plain(ty)),
            false => assert_eq!(ty, GgmlType::F32, "{}", weight.name),
        }
    }
    let mut kinds_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (kind, types) in by_kind {
        let chunks = types.chunk_by(|a, b| a == b);
        let text: Vec<String> = chunks.map(|run| format!("{}*{}", run[0], run.len())).collect();
        kinds_of.entry(text.join(",")).or_default().push(kind);
    }
    let mut groups: Vec<String> =
        kinds_of.iter().map(|(text, kinds)| format!("{}={text}", kinds.join(","))).collect();
    groups.sort();
    groups.join(" ")
}

/// Compares all recipes of a model; each must be in its fixture.
fn compare(name: &str) {
    let Fixture { model, expected, kept, .. } = fixture(name);
    let matrices = model.weights.iter().filter(|w| !is_flat(w) && !w.is_quantizable());
    let found: BTreeSet<String> = matrices.map(kind).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>().join(","), kept, "{name}");
    let options = |importance, pure| RecipeOptions { importance, pure, overrides: Vec::new() };
    let mut seen = HashSet::new();
    for [recipe, when, types] in &expected {
        seen.insert(recipe.as_str());
        let circumstances = match when.as_str() {
            "any" => vec![options(false, false), options(true, false)],
            "plain" => vec![options(false, false)],
            "importance" => vec![options(true, false)],
            "pure" => vec![options(false, true)],
            other => panic!("{other}"),
        };
        for options in circumstances {
            let found = Recipe::find(recipe).unwrap().tensor_types(&model, &options);
            assert_eq!(runs(&model, &found), *types, "{name} {recipe} {options:?}");
        }
    }
    let all: HashSet<&str> = Recipe::all().iter().map(|r| r.name).collect();
    assert_eq!(seen, all, "{name}");
}

macro_rules! models {
    ($($test:ident: $file:literal;)*) => {$(
        #[test]
        fn $test() {
            compare($file);
        }
    )*};
}

models! {
    llama_with_rows_of_576: "smollm2-135m";
    qwen2_with_six_queries_per_key: "qwen2.5-coder-1.5b";
    qwen3_tied: "qwen3-0.6b";
    qwen3_untied: "qwen3-14b";
    llama_70b: "llama3.3-70b";
    llama_65b_has_no_groups: "llama-1-65b";
    qwen_72b_counts_as_70b: "qwen1.5-72b";
    eight_experts: "mixtral-8x7b";
    latent_attention_and_shared_experts: "deepseek-v2-16b";
    latent_attention_with_low_rank_queries: "deepseek-v3-671b";
    gemma: "gemma3-1b";
    rows_that_no_block_fits: "odd-rows";
    shared_expert_with_a_gate: "qwen1.5-moe-a2.7b";
    biases_of_experts_and_rows_of_2880: "gpt-oss-20b";
    fused_projections: "phi3.5-3.8b";
    fused_gate_and_up: "glm4-9b";
    dense_layer_before_experts: "glm-4.5-air-106b-a12b";
    embeddings_for_each_layer: "gemma4-e2b";
    keys_that_serve_as_values: "gemma4-31b";
    experts_beside_a_dense_feed_forward: "gemma4-26b-a4b";
    delta_nets: "qwen3.5-4b";
    delta_nets_and_experts: "qwen3.5-35b-a3b";
    delta_nets_with_mixed_gates: "qwen3-next-80b-a3b";
    convolutions: "lfm2-1.2b";
    convolutions_and_experts: "lfm2-8b-a1b";
    mamba: "granite4-small-h";
    norms_after: "olmo2-7b";
    norms_on_both_sides: "gemma2-9b";
    layers_without_positions: "smollm3-3b";
    experts_everywhere: "qwen3-30b-a3b";
    yarn: "ministral-3-8b";
    encoder: "all-minilm-l6-v2";
    rotary_encoder: "nomic-embed-text-v1.5";
}

#[test]
fn names() {
    let name = |text| Recipe::find(text).map(|r| r.name);
    assert_eq!(name("q4_k_m"), Some("Q4_K_M"));
    assert_eq!(name("Q4_K"), Some("Q4_K_M"));
    assert_eq!(name("bf16"), Some("BF16"));
    assert_eq!(name("mxfp4"), Some("MXFP4_MOE"));
    assert_eq!(name("Q4_K_XS"), None);
    for recipe in Recipe::all() {
        assert_eq!(name(recipe.name), Some(recipe.name));
    }
}

/// Rows of 5120 fit every type, so that no need is hidden by a substitute.
#[test]
fn importance_is_needed_by() {
    let Fixture { needing, .. } = fixture("qwen3-14b");
    let found = Recipe::all().iter().filter(|r| r.needs_importance()).map(|r| r.name);
    assert_eq!(found.collect::<Vec<_>>().join(" "), needing);
}

#[test]
fn an_override_changes_what_it_names_and_nothing_else() {
    let Fixture { model, .. } = fixture("smollm2-135m");
    let recipe = Recipe::find("Q4_K_M").unwrap();
    let plain = recipe.tensor_types(&model, &RecipeOptions::default());
    let overrides = [r"blk\.0\.attn_v=F16", "ffn_down=Q3_K", "attn_q=Q3_K", "norm=Q8_0"];
    let overrides = overrides.map(|text| text.parse().unwrap()).to_vec();
    let options = RecipeOptions { overrides, ..RecipeOptions::default() };
    let changed = recipe.tensor_types(&model, &options);
    for (weight, (before, after)) in model.weights.iter().zip(plain.iter().zip(&changed)) {
        let expected = match (weight.role, weight.layer) {
            (Role::AttnV, Some(0)) => GgmlType::F16,
            (Role::FfnDown, _) => GgmlType::Q3_K,
            // 576 is no multiple of 256.
            (Role::AttnQ, _) => GgmlType::Q4_0,
            _ => *before,
        };
        assert_eq!(*after, expected, "{}", weight.name);
    }
}
