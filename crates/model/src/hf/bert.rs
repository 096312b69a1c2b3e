//! BERT and Nomic's BERT: encoders for embeddings and for ranking. Deliberately absent: the pooler and all heads.

use serde_json::Value;

use super::config::Config;
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
    ],
    acts: &["swiglu", "silu"],
    keys: nomic_keys,
    optional: |c, names| {
        names.layers(0..c.layers()?, &["attn_qkv.weight"]);
        token_types(c, names)
    },
    ..BERT
};

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
fn labels(names: Option<&Value>) -> Vec<String> {
    let names = names.and_then(Value::as_object);
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
    let labels = labels(k.value("id2label"));
    if !labels.is_empty() {
        k.set("classifier.output_labels", labels);
    }
    Ok(())
}

fn nomic_keys(k: &mut Keys) -> Result<(), HfError> {
    for key in ["qkv_proj_bias", "mlp_fc1_bias", "prenorm", "rotary_emb_interleaved"] {
        if k.flag(key)? {
            return Err(bad(key, "true", "false"));
        }
    }
    if k.count("moe_every_n_layers")?.unwrap_or(0) > 0 {
        return Err(bad("moe_every_n_layers", "set", "a model without experts"));
    }
    let head = k.head_dim()?;
    k.assume("head_dim", head);
    keys(k)
}
