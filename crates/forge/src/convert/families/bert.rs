//! BERT and XLM-RoBERTa: encoders for embeddings and for ranking. The pooler and the heads of pre-training are left out.

use super::{BASE, Family, How, Kind, Rule, Tokens, maybe, rule, with};
use hob_model::hf::{self, HfError, Keys};

/// Which of the three a model is: one name in GGUF, yet what ranks texts has another place where its classes have names,
/// and XLM-RoBERTa has other positions.
pub(super) fn of(model: &hf::Family, keys: &Keys) -> Result<&'static Family, HfError> {
    Ok(match hf::labels(keys).is_empty() {
        _ if model.classes == hf::XLM_ROBERTA.classes => &XLM_ROBERTA,
        true => &UNNAMED,
        false => &BERT,
    })
}

pub(super) const BERT: Family = Family {
    arch: "bert",
    parts: &[&[EMBEDDINGS], &[POSITIONS], &[ATTENTION], &[FEED_FORWARD], &[NAMED]],
    rename,
    tokenizers: &[Kind::WordPiece],
    tokens: Tokens::Bert,
    ..BASE
};
const UNNAMED: Family = Family {
    parts: &[&[EMBEDDINGS], &[POSITIONS], &[ATTENTION], &[FEED_FORWARD], &[CLASSIFIER]],
    ..BERT
};

const XLM_ROBERTA: Family = Family {
    parts: &[&[EMBEDDINGS], &[CUT_POSITIONS], &[ATTENTION], &[FEED_FORWARD], &[HEAD]],
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
