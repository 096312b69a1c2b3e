//! Conversions of tiny checkpoints of every family, held against llama.cpp's converter: its files' hashes are stored
//! (see convert.py), the checkpoints' numbers are made here from their names. And what must be refused.

#![allow(clippy::unwrap_used, reason = "a test may fail so")]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::{Line, convert, folder, lines, options, stored};
use hob_forge::convert::{Conversion, ConvertError, Fault, Options};
use hob_forge::quantize::Writing;
use hob_gguf::Gguf;
use hob_quant::GgmlType;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

const KINDS: [(&str, GgmlType); 4] = [
    ("f32", GgmlType::F32),
    ("f16", GgmlType::F16),
    ("bf16", GgmlType::BF16),
    ("q8_0", GgmlType::Q8_0),
];

fn plan(folder: &Path) -> Result<Conversion, ConvertError> {
    Conversion::plan(folder, &options(GgmlType::F32))
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file holds, in the words of the stored listings.
fn listing(path: &Path) -> Vec<String> {
    let gguf = Gguf::open(path).unwrap();
    let keys = gguf.meta().iter().map(|(key, _)| format!("key {key}"));
    let tensor = |t: &hob_gguf::TensorInfo| {
        let bytes = gguf.tensor_bytes(t);
        format!("tensor {} {} {:?} {}", t.name, t.ty, t.dims, hash(bytes))
    };
    keys.chain(gguf.tensors().iter().map(tensor)).collect()
}

#[test]
fn every_family_is_converted_byte_for_byte() {
    let mut families: Vec<String> = fs::read_dir(stored())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    families.sort();
    assert_eq!(families.len(), 45, "{families:?}");
    for family in families {
        let expected = fs::read_to_string(stored().join(&family).join("expected.txt")).unwrap();
        let (_temp, folder) = folder(&family, |_| {});
        let parts = expected.lines().partition::<Vec<&str>, _>(|line| line.starts_with("file "));
        let (files, rest) = parts;
        assert_eq!(listing(&convert(&folder, GgmlType::F32)), rest, "{family}");
        for (name, ty) in KINDS {
            let path = folder.join(format!("out-{ty}.gguf"));
            let path = if path.is_file() { path } else { convert(&folder, ty) };
            let found = format!("file {name} {}", hash(&fs::read(path).unwrap()));
            assert!(files.contains(&found.as_str()), "{family}: {found}, expected {files:?}");
        }
    }
}

#[test]
fn what_is_left_out_is_counted() {
    let (_temp, deepseek) = folder("deepseek2", |_| {});
    let skipped = plan(&deepseek).unwrap().skipped;
    assert_eq!(
        skipped.prediction,
        lines("deepseek2").iter().filter(|l| l.name.contains("layers.3.")).count()
    );
    assert_eq!(skipped.other_parts, 0);
    let (_temp, gemma) = folder("gemma3-vision", |_| {});
    assert_eq!(plan(&gemma).unwrap().skipped.other_parts, 2);
    let (_temp, qwen) = folder("qwen35moe", |_| {});
    assert_eq!(plan(&qwen).unwrap().skipped.other_parts, 2);
}

#[test]
fn layers_that_predict_further_tokens_are_written_if_they_are_there() {
    for family in ["qwen35", "glm4moe"] {
        let of_trunk = |l: &Line| !l.name.starts_with("mtp.") && !l.name.contains("layers.2.");
        let trunk = |lines: &mut Vec<Line>| match family {
            "qwen35" => lines.retain(|l| !l.name.starts_with("mtp.")),
            _ => lines.retain(of_trunk),
        };
        let keys = |folder: &Path| {
            let meta = plan(folder).unwrap().meta.build().unwrap();
            let count = |key: &str| meta.required::<u32>(&format!("{family}.{key}")).ok();
            (count("block_count").unwrap(), count("nextn_predict_layers"))
        };
        let (_temp, whole) = folder(family, |_| {});
        let (layers, predicted) = keys(&whole);
        assert_eq!(predicted, Some(1), "{family}");
        let (_temp, without) = folder(family, trunk);
        assert_eq!(keys(&without), (layers - 1, None), "{family}");
    }
    let (_temp, lacking) = folder("qwen35", |lines| lines.retain(|l| l.name != "mtp.fc.weight"));
    let error = plan(&lacking).unwrap_err().to_string();
    assert_eq!(error, "1 tensors are missing: model.layers.4.eh_proj");
}

#[test]
fn pooling_that_has_no_number_is_refused_where_it_counts() {
    let (_temp, bert) = folder("bert", |_| {});
    let config = bert.join("1_Pooling/config.json");
    let pooling = |text: &str| {
        fs::write(&config, text).unwrap();
        plan(&bert).map(|c| c.meta.build().unwrap().required::<u32>("bert.pooling_type").unwrap())
    };
    assert_eq!(pooling(r#"{"pooling_mode_cls_token": true}"#).unwrap(), 2);
    assert_eq!(pooling(r#"{"pooling_mode": "lasttoken"}"#).unwrap(), 3);
    let error = pooling(r#"{"pooling_mode_max_tokens": true}"#).unwrap_err();
    assert!(matches!(&error, ConvertError::Pooling { found } if found.contains("max")), "{error}");
    // A path leads to no other place.
    edit(&bert.join("modules.json"), |m| m[1]["path"] = json!("../bert/1_Pooling"));
    let error = pooling(r#"{"pooling_mode_cls_token": true}"#).unwrap_err();
    assert!(matches!(&error, ConvertError::Pooling { found } if found.contains("..")), "{error}");
}

#[test]
fn a_list_of_words_is_the_same_as_a_tokenizer() {
    let (_temp, folder) = folder("bert", |_| {});
    let whole = plan(&folder).unwrap().meta.build().unwrap();
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    let parts = plan(&folder).unwrap().meta.build().unwrap();
    for key in ["model", "pre", "tokens", "token_type", "token_type_count"] {
        let key = format!("tokenizer.ggml.{key}");
        assert_eq!(format!("{:?}", parts.get(&key)), format!("{:?}", whole.get(&key)), "{key}");
        assert!(whole.get(&key).is_some(), "{key}");
    }
}

#[test]
fn damaged_unigram_vocabularies_are_refused() {
    let (_temp, folder) = folder("xlm-roberta", |_| {});
    let model = folder.join("sentencepiece.bpe.model");
    let whole = fs::read(&model).unwrap();
    let refused = || matches!(plan(&folder), Err(ConvertError::Tokenizer(_)));
    fs::write(&model, &whole[..whole.len() - 1]).unwrap();
    assert!(refused());
    fs::remove_file(&model).unwrap();
    assert!(plan(&folder).is_ok());
    edit(&folder.join("tokenizer.json"), |t| t["model"]["vocab"][5] = json!("x"));
    assert!(refused());
}

#[test]
fn strange_and_missing_tensors_are_named() {
    let (_temp, strange) = folder("qwen3", |lines| {
        lines
            .iter_mut()
            .filter(|l| l.name.ends_with("1.mlp.up_proj.weight"))
            .for_each(|l| l.name += "_x");
    });
    let error = plan(&strange).unwrap_err().to_string();
    assert!(
        error.contains(
            "1 tensors are unknown in a qwen3 model: model.layers.1.mlp.up_proj.weight_x"
        ),
        "{error}"
    );

    let (_temp, lacking) =
        folder("qwen3", |lines| lines.retain(|l| !l.name.contains("1.mlp.up_proj")));
    let error = plan(&lacking).unwrap_err().to_string();
    assert_eq!(error, "1 tensors are missing: model.layers.1.mlp.up_proj");

    let (_temp, lacking) = folder("mixtral", |lines| {
        lines.retain(|l| !l.name.contains("1.block_sparse_moe.experts.3.w2"))
    });
    let error = plan(&lacking).unwrap_err().to_string();
    assert!(error.contains("expert 3 of blk.1.ffn_down_exps"), "{error}");

    let (_temp, lacking) = folder("gpt-oss-mxfp4", |lines| {
        lines.retain(|l| !l.name.contains("0.mlp.experts.down_proj_scales"))
    });
    let error = plan(&lacking).unwrap_err().to_string();
    assert_eq!(error, "1 tensors are missing: model.layers.0.mlp.experts.down_proj_scales");

    let (_temp, lacking) = folder("qwen3-fp8", |lines| {
        lines.retain(|l| !l.name.contains("0.mlp.up_proj.weight_scale_inv"))
    });
    let error = plan(&lacking).unwrap_err().to_string();
    assert_eq!(error, "1 tensors are missing: model.layers.0.mlp.up_proj.weight_scale_inv");
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let cases: [(&str, &str, &[u64]); 16] = [
        ("llama", "0.self_attn.q_proj.weight", &[62, 64]),
        ("llama", "0.self_attn.q_proj.weight", &[64, 0]),
        ("mixtral", "0.block_sparse_moe.experts.1.w1.weight", &[24, 64]),
        ("deepseek2", "0.self_attn.kv_b_proj.weight", &[124, 32]),
        ("gpt-oss-mxfp4", "0.mlp.experts.down_proj_blocks", &[4, 64, 1, 8]),
        ("gpt-oss-mxfp4", "0.mlp.experts.down_proj_scales", &[4, 32, 1]),
        ("qwen3-fp8", "0.mlp.up_proj.weight_scale_inv", &[1, 4]),
        ("qwen35", "0.linear_attn.in_proj_qkv.weight", &[112, 64]),
        ("qwen35", "0.linear_attn.A_log", &[2]),
        ("qwen35", "0.linear_attn.conv1d.weight", &[128, 2, 4]),
        ("qwen35", "0.linear_attn.out_proj.weight", &[64, 32]),
        ("qwen3next", "0.linear_attn.in_proj_qkvz.weight", &[160, 64]),
        ("granitehybrid-dense", "0.mamba.norm.weight", &[127]),
        ("granitehybrid-dense", "0.shared_mlp.input_linear.weight", &[95, 64]),
        ("xlm-roberta", "position_embeddings.weight", &[2, 64]),
        ("nomic-bert-moe", "1.mlp.experts.mlp.w2", &[190, 64]),
    ];
    for (family, name, shape) in cases {
        let (_temp, folder) = folder(family, |lines| {
            lines
                .iter_mut()
                .filter(|l| l.name.ends_with(name))
                .for_each(|l| l.shape = shape.to_vec());
        });
        let error = plan(&folder).unwrap_err();
        assert!(matches!(error, ConvertError::Shape { .. }), "{family} {name}: {error}");
    }
}

#[test]
fn types_that_are_no_weights_are_refused() {
    let (_temp, folder) = folder("qwen3", |lines| {
        lines
            .iter_mut()
            .filter(|l| l.name.ends_with("0.mlp.up_proj.weight"))
            .for_each(|l| l.dtype = "U8".to_owned());
    });
    let error = plan(&folder).unwrap_err();
    assert!(matches!(error, ConvertError::Dtype { .. }), "{error}");
}

/// Rewrites a JSON file.
fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn configs_that_cannot_be_followed_are_refused() {
    let (_temp, folder) = folder("qwen3", |_| {});
    let config = folder.join("config.json");
    let whole = fs::read(&config).unwrap();
    let told = |change: &dyn Fn(&mut Value)| {
        fs::write(&config, &whole).unwrap();
        edit(&config, change);
        plan(&folder).unwrap_err().to_string()
    };
    let error = told(&|c| c["architectures"] = json!(["RwkvForCausalLM"]));
    assert!(
        error.contains("'RwkvForCausalLM' cannot be converted")
            && error.contains("Qwen3ForCausalLM"),
        "{error}"
    );
    let error = told(&|c| c["num_hidden_layers"] = json!(4_000_000_000u32));
    assert_eq!(error, "config.json: \"num_hidden_layers\" is 4000000000, expected at most 1024");
    let error = told(&|c| c["hidden_size"] = json!(-1));
    assert!(error.contains("\"hidden_size\" is -1, expected a whole number"), "{error}");
    let error = told(&|c| c["rope_parameters"]["rope_type"] = json!("ntk"));
    assert!(error.contains("\"rope_type\" is ntk, expected default"), "{error}");
    let error = told(&|c| c["num_experts"] = json!(4_000_000_000u32));
    assert!(error.contains("\"num_experts\""), "{error}");
    let error = told(&|c| c["quantization_config"] = json!({"quant_method": "gptq"}));
    assert!(error.contains("\"quant_method\" is gptq"), "{error}");
    let error = told(&|c| c["vocab_size"] = json!(4_000_000_000u32));
    assert!(error.contains("more than 16777216 tokens"), "{error}");
    fs::remove_file(&config).unwrap();
    assert!(matches!(plan(&folder), Err(ConvertError::NoFile(path)) if path == config));
}

#[test]
fn every_layer_has_one_kind() {
    for family in ["lfm2", "qwen35", "gemma4", "granitehybrid"] {
        let (_temp, folder) = folder(family, |_| {});
        edit(&folder.join("config.json"), |c| drop(c["layer_types"].as_array_mut().unwrap().pop()));
        let error = plan(&folder).unwrap_err().to_string();
        assert!(error.contains("\"layer_types\" is a list of "), "{family}: {error}");
    }
}

#[test]
fn a_pre_tokenizer_that_is_not_known_must_be_named() {
    let (_temp, folder) = folder("qwen3", |_| {});
    edit(&folder.join("tokenizer.json"), |t| {
        t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("\\p{L}+|.");
    });
    let error = plan(&folder).unwrap_err();
    assert!(
        matches!(&error, ConvertError::Pre { found } if found.contains("\\p{L}+|.")),
        "{error}"
    );
    let named = Options { pre: Some("gpt-2".to_owned()), ..options(GgmlType::F32) };
    let meta = Conversion::plan(&folder, &named).unwrap().meta.build().unwrap();
    assert_eq!(meta.required::<&str>("tokenizer.ggml.pre").unwrap(), "gpt-2");
}

#[test]
fn a_vocabulary_in_two_files_is_the_same() {
    let (_temp, folder) = folder("qwen3", |_| {});
    let whole = plan(&folder).unwrap().meta.build().unwrap();
    let json: Value =
        serde_json::from_slice(&fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    let merges = json["model"]["merges"].as_array().unwrap().iter();
    let merges: Vec<String> =
        merges.map(|m| format!("{} {}", m[0].as_str().unwrap(), m[1].as_str().unwrap())).collect();
    fs::write(folder.join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n")))
        .unwrap();
    fs::write(folder.join("vocab.json"), json["model"]["vocab"].to_string()).unwrap();
    let added = json["added_tokens"].as_array().unwrap().iter();
    let added: Map<String, Value> = added.map(|t| (t["id"].to_string(), t.clone())).collect();
    edit(&folder.join("tokenizer_config.json"), |c| {
        c["tokenizer_class"] = json!("Qwen2Tokenizer");
        c["added_tokens_decoder"] = Value::Object(added.clone());
    });
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    let parts = plan(&folder).unwrap().meta.build().unwrap();
    for key in ["model", "pre", "tokens", "token_type", "merges", "eos_token_id"] {
        let key = format!("tokenizer.ggml.{key}");
        assert_eq!(format!("{:?}", parts.get(&key)), format!("{:?}", whole.get(&key)), "{key}");
        assert!(whole.get(&key).is_some(), "{key}");
    }
}

#[test]
fn an_index_that_lies_is_refused() {
    let (_temp, folder) = folder("qwen3moe", |_| {});
    let index = folder.join("model.safetensors.index.json");
    let whole = fs::read(&index).unwrap();
    let told = |change: &dyn Fn(&mut Map<String, Value>)| {
        fs::write(&index, &whole).unwrap();
        edit(&index, |json| change(json["weight_map"].as_object_mut().unwrap()));
        plan(&folder).unwrap_err().to_string()
    };
    let file = json!("model-00001-of-00002.safetensors");
    let error = told(&|map| drop(map.insert("more.weight".to_owned(), file.clone())));
    assert!(error.contains("missing: more.weight"), "{error}");
    let error = told(&|map| drop(map.remove("model.norm.weight")));
    assert!(error.contains("not in the index: model.norm.weight"), "{error}");
    for path in ["../model.safetensors", "/etc/passwd", "..", ""] {
        let error = told(&|map| drop(map.insert("model.norm.weight".to_owned(), json!(path))));
        assert!(error.contains("names of files beside it"), "{path}: {error}");
    }
    fs::write(&index, &whole).unwrap();
    fs::remove_file(folder.join("model-00002-of-00002.safetensors")).unwrap();
    assert!(matches!(plan(&folder), Err(ConvertError::Io { action: "open", .. })));
}

#[test]
fn nothing_is_left_when_a_source_ends_early_or_the_user_stops() {
    let (_temp, folder) = folder("qwen3", |_| {});
    let conversion = plan(&folder).unwrap();
    let path = folder.join("out.gguf");
    let writing = Writing { path: path.clone(), replace: false, threads: 1 };
    let files = || fs::read_dir(&folder).unwrap().count();
    let before = files();
    assert!(conversion.write(&writing, &mut |_| ControlFlow::Break(())).is_err());
    assert_eq!(files(), before);
    let source = folder.join("model.safetensors");
    let length = fs::metadata(&source).unwrap().len();
    fs::File::options().write(true).open(&source).unwrap().set_len(length - 1).unwrap();
    let error = conversion.write(&writing, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(matches!(error, ConvertError::Io { action: "read", .. }), "{error}");
    assert_eq!(files(), before);
    let error = plan(&folder).unwrap_err();
    assert!(
        matches!(error, ConvertError::Safetensors { fault: Fault::Range { .. }, .. }),
        "{error}"
    );
}
