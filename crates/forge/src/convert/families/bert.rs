//! BERT and XLM-RoBERTa: encoders for embeddings and for ranking. The pooler and the heads of pre-training are left out.

use serde_json::Value;

use super::{BASE, Family, How, Kind, Rule, Tokens, maybe, rule, with};
use crate::convert::error::ConvertError;
use crate::convert::folder::Object;
use crate::convert::keys::Keys;

pub(super) const CLASSES: &[&str] =
    &["BertModel", "BertForMaskedLM", "BertForSequenceClassification"];
/// What transformers names the classes of a model that has no names for its two.
const DUMMY: &str = "LABEL_0";

/// The family of a config: classes with names have another place.
pub(super) fn of(config: &Object) -> &'static Family {
    match labels(config.get("id2label")).is_empty() {
        true => &UNNAMED,
        false => &BERT,
    }
}

pub(super) const BERT: Family = Family {
    arch: "bert",
    classes: CLASSES,
    defaults: &[
        ("max_position_embeddings", 512.0),
        ("layer_norm_eps", 1e-12),
        ("hidden_size", 768.0),
        ("num_hidden_layers", 12.0),
        ("num_attention_heads", 12.0),
        ("intermediate_size", 3072.0),
    ],
    parts: &[&[EMBEDDINGS], &[POSITIONS], &[ATTENTION], &[FEED_FORWARD], &[NAMED]],
    keys,
    rename,
    tokenizers: &[Kind::WordPiece],
    tokens: Tokens::Bert,
    ..BASE
};
const UNNAMED: Family = Family {
    parts: &[&[EMBEDDINGS], &[POSITIONS], &[ATTENTION], &[FEED_FORWARD], &[CLASSIFIER]],
    ..BERT
};

pub(super) const XLM_ROBERTA: Family = Family {
    classes: &["XLMRobertaModel", "XLMRobertaForSequenceClassification"],
    defaults: &[
        ("max_position_embeddings", 512.0),
        ("layer_norm_eps", 1e-12),
        ("hidden_size", 768.0),
        ("num_hidden_layers", 12.0),
        ("num_attention_heads", 12.0),
        ("intermediate_size", 3072.0),
        ("pad_token_id", 1.0),
    ],
    parts: &[&[EMBEDDINGS], &[CUT_POSITIONS], &[ATTENTION], &[FEED_FORWARD], &[HEAD]],
    keys: roberta_keys,
    tokenizers: &[Kind::Unigram],
    tokens: Tokens::Plain,
    ..BERT
};

pub(super) const EMBEDDINGS: &[Rule] = &[
    rule("embeddings.word_embeddings", "token_embd"),
    rule("embeddings.token_type_embeddings", "token_types"),
    rule("embeddings.LayerNorm", "token_embd_norm"),
    Rule { from: "embeddings.position_ids", to: "", how: How::Drop, optional: true },
    Rule { from: "pooler", to: "", how: How::Drop, optional: true },
    Rule { from: "cls", to: "", how: How::Drop, optional: true },
];

const POSITIONS: &[Rule] = &[rule("embeddings.position_embeddings", "position_embd")];

const ATTENTION: &[Rule] = &[
    rule("encoder.layer.{b}.attention.self.query", "attn_q"),
    rule("encoder.layer.{b}.attention.self.key", "attn_k"),
    rule("encoder.layer.{b}.attention.self.value", "attn_v"),
    rule("encoder.layer.{b}.attention.output.dense", "attn_output"),
    rule("encoder.layer.{b}.attention.output.LayerNorm", "attn_output_norm"),
];

const FEED_FORWARD: &[Rule] = &[
    rule("encoder.layer.{b}.intermediate.dense", "ffn_up"),
    rule("encoder.layer.{b}.output.dense", "ffn_down"),
    rule("encoder.layer.{b}.output.LayerNorm", "layer_output_norm"),
];

const CUT_POSITIONS: &[Rule] =
    &[with("embeddings.position_embeddings", "position_embd", How::Positions)];

/// What ranks texts, in two steps.
const HEAD: &[Rule] =
    &[maybe("classifier.dense", "cls"), maybe("classifier.out_proj", "cls.output")];

const NAMED: &[Rule] = &[maybe("classifier", "cls.output")];
const CLASSIFIER: &[Rule] = &[maybe("classifier", "cls")];

/// Names of norms as the oldest checkpoints have them, of embeddings as Nomic has them, and one for each part left out.
fn rename(name: String, _: u64) -> String {
    let bare = name.strip_prefix("bert.").or_else(|| name.strip_prefix("roberta."));
    let name = bare.map_or_else(|| name.clone(), str::to_owned);
    for (part, known) in
        [("cls.predictions", "cls"), ("cls.seq_relationship", "cls"), ("pooler.dense", "pooler")]
    {
        if name.starts_with(part) {
            return known.to_owned();
        }
    }
    let name = name.replace("emb_ln.", "embeddings.LayerNorm.");
    match (name.strip_suffix(".gamma"), name.strip_suffix(".beta")) {
        (Some(norm), _) => format!("{norm}.weight"),
        (_, Some(norm)) => format!("{norm}.bias"),
        _ => name,
    }
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

pub(super) fn keys(k: &mut Keys) -> Result<(), ConvertError> {
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

fn roberta_keys(k: &mut Keys) -> Result<(), ConvertError> {
    if k.value("lora_adaptations").is_some() {
        return Err(k.bad("lora_adaptations", "set", "a model without adapters"));
    }
    cut_positions(k)?;
    keys(k)
}

/// Positions are counted from behind the padding's number.
pub(super) fn cut_positions(k: &mut Keys) -> Result<(), ConvertError> {
    let positions = k.need_count("max_position_embeddings")?;
    let before = k.need_count("pad_token_id")?.saturating_add(1);
    k.overrule("max_position_embeddings", positions.saturating_sub(before));
    Ok(())
}
