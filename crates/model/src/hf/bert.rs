//! BERT, XLM-RoBERTa and Nomic's BERT, dense and with experts in some layers: encoders for embeddings and for ranking.
//! Deliberately absent: the pooler and all heads.

use serde_json::Value;

use super::config::{Config, Object};
use super::error::{HfError, bad};
use super::family::{BASE, Family};
use super::keys::Keys;
use super::names::{Names, QKV_BIASES};

/// What transformers names the classes of a model that has no names for its two.
const DUMMY: &str = "LABEL_0";
/// Kinds of tokens: of a first and of a second sentence.
const TYPES: u32 = 2;

pub(super) const BERT: Family = Family {
    arch: "bert",
    classes: &["BertModel", "BertForMaskedLM", "BertForSequenceClassification"],
    model_types: &["bert"],
    defaults: &[
        ("max_position_embeddings", 512.0),
        ("layer_norm_eps", 1e-12),
        ("hidden_size", 768.0),
        ("num_hidden_layers", 12.0),
        ("num_attention_heads", 12.0),
        ("intermediate_size", 3072.0),
    ],
    tied: true,
    acts: &["gelu"],
    keys,
    optional: |c, names| {
        let biases = &["attn_output.bias", "ffn_up.bias", "ffn_down.bias"];
        names.layers(0..c.layers()?, QKV_BIASES);
        names.layers(0..c.layers()?, biases);
        token_types(c, names)
    },
    ..BASE
};

/// BERT whose positions are counted from behind the padding's number.
pub const XLM_ROBERTA: Family = Family {
    classes: &["XLMRobertaModel", "XLMRobertaForSequenceClassification"],
    model_types: &["xlm-roberta"],
    defaults: &[
        ("max_position_embeddings", 512.0),
        ("layer_norm_eps", 1e-12),
        ("hidden_size", 768.0),
        ("num_hidden_layers", 12.0),
        ("num_attention_heads", 12.0),
        ("intermediate_size", 3072.0),
        ("pad_token_id", 1.0),
    ],
    keys: roberta_keys,
    ..BERT
};

pub(super) const NOMIC_BERT: Family = Family {
    arch: "nomic-bert",
    classes: &["NomicBertModel"],
    model_types: &["nomic_bert"],
    defaults: &[
        ("max_position_embeddings", 2048.0),
        ("layer_norm_eps", 1e-12),
        ("rope_theta", 1000.0),
        ("hidden_size", 768.0),
        ("num_hidden_layers", 12.0),
        ("num_attention_heads", 12.0),
        ("intermediate_size", 3072.0),
        ("pad_token_id", 0.0),
    ],
    acts: &["swiglu", "silu"],
    keys: nomic_keys,
    optional: |c, names| {
        names.layers(0..c.layers()?, &["attn_qkv.weight"]);
        token_types(c, names)
    },
    ..BERT
};

const NOMIC_EXPERTS: Family =
    Family { arch: "nomic-bert-moe", acts: &["gelu"], keys: nomic_expert_keys, ..NOMIC_BERT };

/// The family of a config: with experts in some layers or without.
pub(super) fn nomic_of(config: &Object) -> &'static Family {
    match config.get("moe_every_n_layers").and_then(Value::as_u64) {
        None | Some(0) => &NOMIC_BERT,
        Some(_) => &NOMIC_EXPERTS,
    }
}

fn token_types(c: &Config, names: &mut Names) -> Result<(), HfError> {
    match c.count("type_vocab_size")?.unwrap_or(TYPES) {
        0 => {}
        TYPES => names.global("token_types.weight"),
        // Their number is not the config's to state: a file has it from its tokenizer.
        other => return Err(bad("type_vocab_size", &other.to_string(), "0 or 2")),
    }
    Ok(())
}

/// Names of the classes that a ranking model tells apart, by their numbers; none if they are made up.
pub fn labels(c: &Config) -> Vec<String> {
    let names = c.value("id2label").and_then(Value::as_object);
    let name = |(id, name): (&String, &Value)| Some((id.parse().ok()?, name.as_str()?.to_owned()));
    let mut names: Vec<(u32, String)> = names.into_iter().flatten().filter_map(name).collect();
    names.sort();
    match &names[..] {
        [(_, first), _] if first == DUMMY => Vec::new(),
        _ => names.into_iter().map(|(_, name)| name).collect(),
    }
}

fn keys(k: &mut Keys) -> Result<(), HfError> {
    // There are no groups of heads to be stated.
    k.forget("num_key_value_heads");
    k.common()?;
    k.set("attention.causal", false);
    k.pooling()?;
    let labels = labels(k);
    if !labels.is_empty() {
        k.set("classifier.output_labels", labels);
    }
    Ok(())
}

fn roberta_keys(k: &mut Keys) -> Result<(), HfError> {
    if k.has("lora_adaptations") {
        return Err(bad("lora_adaptations", "set", "a model without adapters"));
    }
    cut_positions(k)?;
    keys(k)
}

/// Leaves out the positions up to the padding's number, which no text has.
fn cut_positions(k: &mut Keys) -> Result<(), HfError> {
    let positions = k.need_count("max_position_embeddings")?;
    let before = k.need_count("pad_token_id")?.saturating_add(1);
    k.overrule("max_position_embeddings", positions.saturating_sub(before));
    Ok(())
}

fn nomic_keys(k: &mut Keys) -> Result<(), HfError> {
    nomic_follows(k, "swiglu", false)?;
    state_head(k)?;
    keys(k)
}

fn nomic_expert_keys(k: &mut Keys) -> Result<(), HfError> {
    nomic_follows(k, "gelu", true)?;
    state_head(k)?;
    cut_positions(k)?;
    keys(k)?;
    k.must("moe_every_n_layers", "moe_every_n_layers")?;
    k.must("moe_top_k", "expert_used_count")
}

fn state_head(k: &mut Keys) -> Result<(), HfError> {
    let head = k.head_dim()?;
    k.assume("head_dim", head);
    Ok(())
}

/// What Nomic's own code can vary, and GGUF has no keys for.
fn nomic_follows(c: &Config, act: &str, biases: bool) -> Result<(), HfError> {
    if let Some(found) = c.text("activation_function").filter(|found| *found != act) {
        return Err(bad("activation_function", found, act));
    }
    for (key, expected) in [
        ("qkv_proj_bias", biases),
        ("mlp_fc1_bias", biases),
        ("mlp_fc2_bias", biases),
        ("causal", false),
        ("prenorm", false),
        ("rotary_emb_interleaved", false),
    ] {
        if c.flag_or(key, expected)? != expected {
            return Err(bad(key, &(!expected).to_string(), &expected.to_string()));
        }
    }
    Ok(())
}
