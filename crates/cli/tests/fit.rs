//! `hob fit` against sizes that others measured: the files of a model on a hub, and what llama.cpp's quantizer wrote.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::path::PathBuf;

use common::{Home, text};
use hob_gguf::{Gguf, Writer};
use hob_model::Recipe;
use hob_testkit::{Family, Tiny};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

fn recipe<'a>(fit: &'a Value, name: &str) -> &'a Value {
    let recipes = fit["recipes"].as_array().unwrap();
    recipes.iter().find(|r| r["recipe"].as_str().unwrap().eq_ignore_ascii_case(name)).unwrap()
}

fn bytes(fit: &Value, name: &str) -> u64 {
    recipe(fit, name)["file_bytes"].as_u64().unwrap()
}

/// The sizes of 26 files of Qwen3-14B in GB, as a hub lists them; they were made with an importance matrix.
#[test]
fn the_files_of_qwen3_14b() {
    let fit = Home::new().hob(&["fit", "qwen3:14b", "--json"]).json();
    assert_eq!(fit["schema"], 1);
    assert_eq!(fit["model"], "qwen3:14b");
    assert_eq!(fit["parameters"], 14_768_307_200u64);
    assert_eq!(fit["active_parameters"], 14_768_307_200u64);
    let table = include_str!("data/qwen3-14b-quants.csv");
    let mut count = 0;
    for line in table.lines().skip(1) {
        let [name, gb, embed] = line.split(',').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(format!("{:.2}", bytes(&fit, name) as f64 / 1e9), gb, "{name}");
        let eights = recipe(&fit, name)["tensor_types"]["Q8_0"].as_u64().unwrap_or(0);
        assert_eq!(embed == "Q8_0", eights == 2, "{name}");
        count += 1;
    }
    assert_eq!(count, 26);
}

/// Lengths of the files that llama-quantize wrote from this one, without an importance matrix.
#[test]
fn the_files_of_smollm2_to_the_byte() {
    let cache = std::env::var_os("HOB_ASSETS").map(PathBuf::from);
    let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache/hob-assets"))).unwrap();
    let path = cache.join("smollm2.gguf");
    assert!(path.exists(), "{} is missing: cargo xtask assets", path.display());
    let fit = Home::new().hob(&["fit", text(&path), "--no-imatrix", "--json"]).json();
    assert_eq!(fit["header_exact"], true);
    for (name, expected) in [
        ("F16", 270_885_952u64),
        ("Q4_K_M", 105_454_144),
        ("Q4_0", 91_726_912),
        ("IQ4_XS", 91_312_192),
        ("Q2_K", 88_201_792),
    ] {
        assert_eq!(bytes(&fit, name), expected, "{name}");
    }
    // The catalogue's description leaves out the metadata that tell of the model's origin.
    let described = Home::new().hob(&["fit", "smollm2:135m", "--no-imatrix", "--json"]).json();
    assert_eq!(described["header_exact"], false);
    let off = bytes(&fit, "Q4_K_M").abs_diff(bytes(&described, "Q4_K_M"));
    assert!(off < 2000, "{off}");
}

/// The same file, as the writer lays it out.
#[test]
fn predicted_is_what_the_writer_writes() {
    let home = Home::new();
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let path = home.file("source.gguf", &Tiny::new(family).bytes());
        let fit = home.hob(&["fit", text(&path), "--json"]).json();
        let source = Gguf::open(&path).unwrap();
        let model = hob_model::describe(&source).unwrap();
        for recipe in Recipe::all() {
            let options = hob_model::RecipeOptions {
                importance: true,
                ..hob_model::RecipeOptions::default()
            };
            let mut writer = Writer::new();
            writer.meta_mut().extend(source.meta());
            recipe.stamp(writer.meta_mut());
            for (weight, ty) in model.weights.iter().zip(recipe.tensor_types(&model, &options)) {
                writer.add_tensor(&weight.name, ty, &weight.shape).unwrap();
            }
            let file = writer.to_bytes(|t| vec![0; t.bytes() as usize]).unwrap();
            assert_eq!(bytes(&fit, recipe.name), file.len() as u64, "{}", recipe.name);
        }
    }
}

#[test]
fn a_config_is_enough() {
    let home = Home::new();
    let config = json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192,
        "max_position_embeddings": 131072, "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": true, "vocab_size": 128256,
        "rope_scaling": {"rope_type": "llama3", "factor": 32.0}});
    let path = home.file("config.json", config.to_string().as_bytes());
    let folder = path.parent().unwrap();
    // What is free on this machine changes from run to run.
    let on = ["--json", "--device", "RTX 4090"];
    let by_file = home.hob(&[&["fit", text(&path)], &on[..]].concat()).json();
    let by_folder = home.hob(&[&["fit", text(folder)], &on[..]].concat()).json();
    assert_eq!(by_file["parameters"], 1_235_814_400u64);
    assert_eq!(by_file["recipes"], by_folder["recipes"]);
    let table = home.hob(&["fit", text(&path)]).ok();
    assert!(table.contains("\nQ4_K_M ") && table.contains("1.2B parameters"), "{table}");
}

/// The fields that scripts rely on, and what they say of a card that everybody knows.
#[test]
fn a_model_on_a_card() {
    let home = Home::new();
    let ask = |more: &[&str]| {
        let fit = ["fit", "qwen3:14b", "--device", "RTX 4070"];
        home.hob(&[&fit, more].concat())
    };
    let fit = ask(&["--json"]).json();
    assert_eq!(
        (&fit["context"], &fit["users"], &fit["depth"]),
        (&json!(8192), &json!(1), &json!(0))
    );
    assert_eq!(fit["device"], "GeForce RTX 4070");
    let four = recipe(&fit, "Q4_K_M");
    assert_eq!((&four["fits"], &four["quality"]), (&json!("full"), &Value::Null));
    let memory = &four["memory_bytes"];
    let number = |value: &Value| value.as_u64().unwrap();
    let parts = ["weights", "kv", "buffers"].map(|part| number(&memory[part]));
    assert_eq!(parts.iter().sum::<u64>(), number(&memory["total"]));
    assert_eq!(parts[0], bytes(&fit, "Q4_K_M") - number(&fit["header_bytes"]));
    assert!((8192..40960).contains(&number(&four["max_context"])), "{four}");
    for speed in ["prefill_tok_s", "decode_tok_s", "decode_full_tok_s", "decode_all_tok_s"] {
        let at = |key: &str| four[speed][key].as_f64().unwrap();
        assert!(0.0 < at("low") && at("low") <= at("mid") && at("mid") <= at("high"), "{four}");
    }
    let best = recipe(&fit, fit["best"].as_str().unwrap());
    assert_eq!(best["fits"], "full");
    assert!(fit["best_reason"].as_str().unwrap().contains("10 tok/s"), "{fit}");
    let huge = recipe(&fit, "F32");
    assert_eq!(huge["max_context"], 0);

    let long = ask(&["--json", "--context", "32768"]).json();
    assert_eq!(recipe(&long, "Q4_K_M")["fits"], "partial");
    assert!(recipe(&long, "Q4_K_M")["placement"].as_str().unwrap().contains("on the CPU"));
    let halved = ask(&["--json", "--context", "32768", "--kv", "q8_0"]).json();
    let kv = |fit: &Value| number(&recipe(fit, "Q4_K_M")["memory_bytes"]["kv"]);
    assert!(kv(&halved) < kv(&long));
    let users = ask(&["--json", "--users", "2"]).json();
    assert_eq!(kv(&users), 2 * kv(&fit));

    ask(&["--context", "65536"]).fails(2, &["65536", "40960"]);
    ask(&["--depth", "8192"]).fails(2, &["--context"]);
    home.hob(&["fit", "qwen3:14b", "--device", "RTX 9999"]).fails(1, &["RTX 9999", "nearest"]);
}

/// Lines keep to the terminal's width in both languages, and a wider one shows more.
#[test]
fn tables_fit_the_terminal() {
    let home = Home::new();
    let at = |columns: &str, args: &[&str]| {
        let output = home.command(args).env("COLUMNS", columns).output().unwrap();
        common::said(output).ok()
    };
    let devices = ["RTX 4070", "M3 Ultra 512GB", "Radeon 780M 16GB", "2x A100 80GB"];
    for (device, lang) in devices.iter().flat_map(|device| [(device, "en"), (device, "zh")]) {
        let args = ["fit", "qwen3:30b-a3b", "--device", device, "--lang", lang];
        let widest = |text: &str| text.lines().map(UnicodeWidthStr::width).max().unwrap();
        let (narrow, wide) = (at("80", &args), at("120", &args));
        assert!(widest(&narrow) <= 80 && widest(&wide) <= 120, "{narrow}{wide}");
        assert!(widest(&wide) > 80 && narrow.contains("\n* "), "{narrow}{wide}");
        assert_eq!(narrow.contains("上下文"), lang == "zh", "{narrow}");
    }
    let mut command = home.command(&["fit", "qwen3:14b", "--device", "RTX 4070"]);
    let chinese = common::said(command.env("HOB_LANG", "zh").output().unwrap()).ok();
    assert!(chinese.contains("假设装在一台台式机中"), "{chinese}");
    let tensors = at("80", &["fit", "qwen3:14b", "--tensors"]);
    assert!(tensors.contains("IMATRIX") && tensors.contains(" Q4_K,"), "{tensors}");
}

#[test]
fn what_cannot_be_sized_is_named() {
    let home = Home::new();
    let file = |name: &str, json: &Value| home.file(name, json.to_string().as_bytes());
    let fails = |model: &str, parts: &[&str]| home.hob(&["fit", model]).fails(1, parts);
    fails("no-such.json", &["no-such.json"]);
    let other = file("package.json", &json!({"name": "x"}));
    fails(text(&other), &["package.json", "not a model configuration", "\"architectures\""]);
    let mamba = file("mamba.json", &json!({"architectures": ["MambaForCausalLM"]}));
    fails(text(&mamba), &["'MambaForCausalLM' is not known", "Qwen3ForCausalLM"]);
    let bare = file("bare.json", &json!({"model_type": "llama"}));
    fails(text(&bare), &["bare.json", "\"num_hidden_layers\" is missing"]);
    let long = home.file("long.json", &vec![b' '; 2 << 20]);
    fails(text(&long), &["long.json", "longer than 1048576"]);
    let binary = home.file("binary.json", &[0xff; 100]);
    fails(text(&binary), &["binary.json", "UTF-8"]);
    let gguf = Writer::new().set("general.architecture", "nonesuch").to_bytes(|_| Vec::new());
    let gguf = home.file("nonesuch.gguf", &gguf.unwrap());
    fails(text(&gguf), &["nonesuch", "known: bert, deepseek2, gemma2"]);
    fails("qwen3:15b", &["no model is called 'qwen3:15b'", "qwen3:14b"]);
    let said = home.hob(&["pull", "qwen3:14b"]);
    assert!(
        said.code == Some(1) && said.err.contains("could not fetch 'qwen3:14b'"),
        "{}",
        said.err
    );
}
