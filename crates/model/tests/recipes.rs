//! Every recipe against llama.cpp's quantizer, on the shapes of real models. The fixtures are written by `oracle.py`,
//! which also says how they read.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // helpers of tests

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use hob_gguf::{MetaBuilder, Metadata};
use hob_model::{
    Activation, Ffn, Header, Linear, Model, Moe, Recipe, RecipeOptions, Role, Routing, Weight,
    WeightId, arch,
};
use hob_quant::GgmlType;

/// A fixture: the model, the types it expects by recipe and circumstance, and the recipes that need importance.
struct Fixture {
    model: Model,
    expected: Vec<[String; 3]>,
    needing: String,
}

fn fixture(name: &str) -> Fixture {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "recipes", name].iter().collect();
    let text = std::fs::read_to_string(path).unwrap();
    let (mut meta, mut patterns, mut experts) = (MetaBuilder::new(), Vec::new(), None);
    let (mut expected, mut needing) = (Vec::new(), String::new());
    for line in text.lines() {
        let mut parts = line.splitn(3, ' ').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        match (part(), part()) {
            (word, key) if word == "meta" => match part() {
                // Mixtral has Llama's architecture name; its description is made below.
                value if key == "llama.expert_count" => experts = value.parse().ok(),
                value => set(&mut meta, &key, &value),
            },
            (word, pattern) if word == "has" => patterns.push(pattern),
            (word, _) if word == "needs" => needing = part(),
            (recipe, when) => expected.push([recipe, when, part()]),
        }
    }
    let mut model = describe(&meta.build().unwrap(), &patterns);
    if let Some(experts) = experts {
        stack_experts(&mut model, experts);
    }
    Fixture { model, expected, needing }
}

fn set(meta: &mut MetaBuilder, key: &str, value: &str) {
    match (value.parse::<u32>(), value.parse::<f32>()) {
        (Ok(n), _) => meta.insert(key, n),
        (_, Ok(x)) => meta.insert(key, x),
        _ => meta.insert(key, value),
    }
}

fn describe(meta: &Metadata, patterns: &[String]) -> Model {
    let layers = (0..128).map(|i| i.to_string());
    let tensors: HashSet<String> =
        layers.flat_map(|i| patterns.iter().map(move |p| p.replace('*', &i))).collect();
    arch::describe(&Header::new(meta, tensors.iter().map(String::as_str)).unwrap()).unwrap()
}

/// Turns every dense feed-forward into `experts` of its size.
fn stack_experts(model: &mut Model, experts: u32) {
    for weight in &mut model.weights {
        weight.role = match weight.role {
            Role::FfnGate => Role::FfnGateExps,
            Role::FfnUp => Role::FfnUpExps,
            Role::FfnDown => Role::FfnDownExps,
            _ => continue,
        };
        weight.name = weight.name.replace(".weight", "_exps.weight");
        weight.shape.push(experts.into());
    }
    let width = model.width;
    for (layer, block) in (0..).zip(&mut model.blocks) {
        let Ffn::Dense(dense) = &block.ffn else { continue };
        model.weights.push(Weight {
            name: format!("blk.{layer}.ffn_gate_inp.weight"),
            shape: vec![width.into(), experts.into()],
            role: Role::FfnGateInp,
            layer: Some(layer),
        });
        let weight = WeightId(model.weights.len() as u32 - 1);
        block.ffn = Ffn::Moe(Moe {
            router: Linear { weight, bias: None, input: width, output: experts },
            choice_bias: None,
            gate: dense.gate.weight,
            up: dense.up.weight,
            down: dense.down.weight,
            shared: None,
            experts,
            used: 2,
            ffn: dense.gate.output,
            act: Activation::Silu,
            routing: Routing { sigmoid: false, groups: (1, 1), normalize: true, scale: 1.0 },
        });
    }
}

/// Types in the fixtures' short form.
fn runs(model: &Model, types: &[GgmlType]) -> String {
    let mut by_kind: BTreeMap<String, Vec<GgmlType>> = BTreeMap::new();
    for (weight, &ty) in model.weights.iter().zip(types) {
        if weight.shape.len() < 2 || weight.role == Role::FfnGateInp {
            assert_eq!(ty, GgmlType::F32, "{}", weight.name);
            continue;
        }
        let block = weight.layer.map(|i| format!("blk.{i}.")).unwrap_or_default();
        let kind = weight.name.strip_prefix(&block).unwrap().strip_suffix(".weight").unwrap();
        by_kind.entry(kind.to_owned()).or_default().push(ty);
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
    let Fixture { model, expected, .. } = fixture(name);
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
    llama_with_rows_of_576: "smollm2-135m.txt";
    qwen2_with_six_queries_per_key: "qwen2.5-coder-1.5b.txt";
    qwen3_tied: "qwen3-0.6b.txt";
    qwen3_untied: "qwen3-14b.txt";
    llama_70b: "llama-3-70b.txt";
    llama_65b_has_no_groups: "llama-1-65b.txt";
    qwen_72b_counts_as_70b: "qwen1.5-72b.txt";
    eight_experts: "mixtral-8x7b.txt";
    latent_attention_and_shared_experts: "deepseek-v2-lite.txt";
    latent_attention_with_low_rank_queries: "deepseek-v3.txt";
    gemma: "gemma-3-1b.txt";
    rows_that_no_block_fits: "odd-rows.txt";
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
    let Fixture { needing, .. } = fixture("qwen3-14b.txt");
    let found = Recipe::all().iter().filter(|r| r.needs_importance()).map(|r| r.name);
    assert_eq!(found.collect::<Vec<_>>().join(" "), needing);
}

#[test]
fn an_override_changes_what_it_names_and_nothing_else() {
    let Fixture { model, .. } = fixture("smollm2-135m.txt");
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
