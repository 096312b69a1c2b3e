//! Which tensor of a Hugging Face checkpoint becomes which of GGUF, family by family, as data: patterns of names, a few
//! ways to rearrange rows, and kinds of tokenizers. A family is a file beside this one and a line in [`FAMILIES`], or in
//! [`BY_CONFIG`] where its name in GGUF does not tell. Deliberately absent: metadata and classes, which are those of
//! `hob_model::hf`, and reading, writing and tokenizers.
//!
//! The meaning of names and orders is that of llama.cpp's `convert_hf_to_gguf.py`.

mod bert;
mod deepseek2;
mod gemma;
mod gemma4;
mod glm4;
mod glm4_moe;
mod gpt_oss;
mod granite_hybrid;
mod lfm2;
mod llama;
mod mistral3;
mod nomic_bert;
mod olmo2;
mod phi3;
mod qwen;
mod qwen35;
mod qwen_moe;
mod smollm3;

use hob_model::hf::{self, HfError, Keys};

use super::error::ConvertError;
use super::folder::Folder;

/// All families that have one table.
const FAMILIES: &[&Family] = &[
    &llama::LLAMA,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen_moe::QWEN2MOE,
    &qwen_moe::QWEN3MOE,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &phi3::PHI3,
    &olmo2::OLMO2,
    &glm4::GLM4,
    &smollm3::SMOLLM3,
    &mistral3::MISTRAL3,
    &deepseek2::DEEPSEEK2,
    &gpt_oss::GPT_OSS,
    &qwen35::QWEN3NEXT,
    &qwen35::QWEN35,
    &qwen35::QWEN35MOE,
    &lfm2::LFM2,
    &lfm2::LFM2MOE,
    &glm4_moe::GLM4MOE,
    &gemma4::GEMMA4,
    &gemma4::GEMMA4_ASSISTANT,
    &nomic_bert::DENSE,
    &nomic_bert::EXPERTS,
];

/// What tells which table a model has, beside its name in GGUF.
type Choice = fn(&hf::Family, &Keys) -> Result<&'static Family, HfError>;

/// Names in GGUF that stand for several tables.
const BY_CONFIG: &[(&[&str], Choice)] =
    &[(&["granitehybrid", "granitemoe", "granite"], granite_hybrid::of), (&["bert"], bert::of)];

/// What most families have. A family states what it has otherwise.
const BASE: Family = Family {
    arch: "",
    parts: &[],
    joint: &[],
    rename: as_is,
    predicted: no_layers,
    tokenizers: &[Kind::Bpe],
    tokens: Tokens::Plain,
    pre: &[],
    drops_tied_output: false,
};

/// A family of models.
pub(super) struct Family {
    /// Its name in GGUF, by which `hob_model::hf` knows its metadata.
    pub arch: &'static str,
    /// Parts of a model; each is one of several lists of tensors, of which a layer (or the model) has one whole.
    pub parts: &'static [&'static [&'static [Rule]]],
    /// What joins the first layer that predicts further tokens to the trunk.
    pub joint: &'static [Rule],
    /// The name by which the table knows a tensor: from that in the checkpoint and the number of layers of the trunk.
    pub rename: fn(String, u64) -> String,
    /// Layers beyond the trunk that predict further tokens and are written.
    pub predicted: fn(&Keys, &Folder) -> Result<u32, ConvertError>,
    /// Kinds of tokenizer, in the order in which they are looked for.
    pub tokenizers: &'static [Kind],
    /// Particulars of the tokenizer.
    pub tokens: Tokens,
    /// Name of the pre-tokenizer where several mean the same: what the family's published files say.
    pub pre: &'static [&'static str],
    /// The unembedding of a model that shares its embedding is left out even if it is there.
    pub drops_tied_output: bool,
}

/// Where a vocabulary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `tokenizer.model`, SentencePiece.
    SentencePiece,
    /// `tokenizer.json` made from such a file.
    LlamaJson,
    /// `tokenizer.json` of byte-level BPE, or `vocab.json` and `merges.txt`.
    Bpe,
    /// `tokenizer.json` of BPE over characters, with bytes to fall back on.
    CharacterBpe,
    /// `tokenizer.json` of WordPiece, or `vocab.txt`.
    WordPiece,
    /// `sentencepiece.bpe.model`, or `tokenizer.json` of Unigram.
    Unigram,
}

/// What a family's tokenizer has beside its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tokens {
    /// Nothing.
    Plain,
    /// Llama: the space before a text and the fill-in tokens of CodeLlama.
    Llama,
    /// Gemma: no space before a text if there is a SentencePiece file.
    Gemma,
    /// GLM-4: special tokens by their texts.
    Glm,
    /// GLM-4.5: likewise, others.
    GlmMoe,
    /// BERT: the number of token types.
    Bert,
    /// Phi-3: the added tokens of all files are taken as they are.
    Phi,
}

/// One tensor's way.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its name in the checkpoint: `{b}` is the layer, `{x}` the expert. Without an ending such as `.weight` at the end
    /// of `to`, it stands for weight and bias.
    pub from: &'static str,
    /// Its name in GGUF, for tensors of a layer without `blk.N.`.
    pub to: &'static str,
    /// What happens to its numbers.
    pub how: How,
    /// Whether a model may lack it.
    pub optional: bool,
}

/// What happens to a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing.
    Same,
    /// One is added: norms that are stored as the distance from it.
    PlusOne,
    /// Rows of query heads become rotary neighbours.
    QueryRows,
    /// Likewise those of key heads.
    KeyRows,
    /// Experts are stacked.
    Stack,
    /// The first or second half of the rows of each matrix.
    Half(u64),
    /// The first or second half of the rows of a matrix.
    HalfRows(u64),
    /// Columns become rows in each matrix.
    Turned,
    /// Likewise, and the even or odd ones are taken.
    TurnedAlternate(u64),
    /// The even or odd numbers of each row.
    AlternateColumns(u64),
    /// Rows of compressed keys in each head, turned.
    LatentKeys,
    /// Rows of compressed values in each head.
    LatentValues,
    /// MXFP4 blocks, whose scales are in the tensor of the same name with `_scales`.
    Mx,
    /// Even or odd rows of them.
    MxAlternate(u64),
    /// Rows beyond the tokenizer's vocabulary are cut off.
    Vocabulary,
    /// The first rows, for positions that no text has, are cut off.
    Positions,
    /// A matrix with all experts, one below the other.
    Below,
    /// Likewise, and columns become rows in each.
    BelowTurned,
    /// Dimensions of one are left out.
    Squeezed,
    /// Numbers become rows of one.
    Column,
    /// Numbers become as many rows as a Mamba-2 has groups.
    Groups,
    /// Decay of a state: minus the exponential of each number.
    Decay,
    /// Likewise, and numbers become rows of one.
    ColumnDecay,
    /// Likewise, value heads in tiled order.
    TiledDecay,
    /// Value heads of a delta-net, which stand by key heads, are put in tiled order: the first one of each key head, the
    /// second one of each, and so on.
    Tiled(Tile),
    /// Rows of queries, keys and values of a delta-net, which stand by key heads, in three blocks.
    DeltaInput,
    /// Rows of its gate from the same tensor.
    DeltaGate,
    /// Left out; used by another tensor, or not at all.
    Drop,
}

/// Where a tensor has a delta-net's value heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tile {
    /// A row or number for each head.
    Each,
    /// The rows of each head.
    Rows,
    /// Likewise, after those of queries and keys.
    Tail,
    /// The columns of each head.
    Columns,
}

/// A tensor that every model of the family has.
pub(super) const fn rule(from: &'static str, to: &'static str) -> Rule {
    Rule { from, to, how: How::Same, optional: false }
}

/// The same, with something done to it.
pub(super) const fn with(from: &'static str, to: &'static str, how: How) -> Rule {
    Rule { from, to, how, optional: false }
}

/// A tensor that a model may lack.
pub(super) const fn maybe(from: &'static str, to: &'static str) -> Rule {
    Rule { from, to, how: How::Same, optional: true }
}

/// Embedding, last norm and unembedding.
const ENDS: &[Rule] = &[
    rule("model.embed_tokens", "token_embd"),
    rule("model.norm", "output_norm"),
    maybe("lm_head", "output"),
];

/// Norms before attention and feed-forward.
const NORMS: &[Rule] = &[
    rule("model.layers.{b}.input_layernorm", "attn_norm"),
    rule("model.layers.{b}.post_attention_layernorm", "ffn_norm"),
];

/// Projections of the attention.
const ATTENTION: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_proj", "attn_q"),
    rule("model.layers.{b}.self_attn.k_proj", "attn_k"),
    rule("model.layers.{b}.self_attn.v_proj", "attn_v"),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
];

/// The same with the rows of Meta's Llama.
const LLAMA_ATTENTION: &[Rule] = &[
    with("model.layers.{b}.self_attn.q_proj", "attn_q", How::QueryRows),
    with("model.layers.{b}.self_attn.k_proj", "attn_k", How::KeyRows),
    rule("model.layers.{b}.self_attn.v_proj", "attn_v"),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
];

/// Norms of queries and keys.
const HEAD_NORMS: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_norm", "attn_q_norm"),
    rule("model.layers.{b}.self_attn.k_norm", "attn_k_norm"),
];

/// The gated feed-forward.
const DENSE: &[Rule] = &[
    rule("model.layers.{b}.mlp.gate_proj", "ffn_gate"),
    rule("model.layers.{b}.mlp.up_proj", "ffn_up"),
    rule("model.layers.{b}.mlp.down_proj", "ffn_down"),
];

/// Experts one by one. They are written in this order when the last of a layer has come.
const EXPERTS: &[Rule] = &[
    with("model.layers.{b}.mlp.experts.{x}.down_proj", "ffn_down_exps", How::Stack),
    with("model.layers.{b}.mlp.experts.{x}.gate_proj", "ffn_gate_exps", How::Stack),
    with("model.layers.{b}.mlp.experts.{x}.up_proj", "ffn_up_exps", How::Stack),
];

/// Names that carry weights of another part than the language model, as the ecosystem's converter tells them.
const OTHER_PARTS: &[&str] = &[
    "visual.",
    "vision.",
    "vision_",
    "audio.",
    "audio_",
    "talker.",
    "token2wav.",
    "code2wav.",
    "projector.",
    "pre_mm_projector_norm",
    "image_newline",
    "view_seperator",
    "patch_embed",
    "patch_merger.",
    "patch_merge_mlp.",
    "model.connector.",
];
/// Likewise at the beginning.
const OTHER_PARTS_FIRST: &[&str] = &[
    "mlp",
    "vit.",
    "vpm.",
    "siglip2.",
    "conformer.",
    "merger.",
    "resampler.",
    "sound_encoder.",
    "sound_projection.",
    "speech_embeddings.",
];
/// Buffers that some checkpoints carry and nobody reads.
const BUFFERS: &[&str] = &[".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"];

/// The table of a model whose metadata is stated so.
pub(super) fn of(model: &hf::Family, keys: &Keys) -> Result<&'static Family, ConvertError> {
    if let Some((_, choose)) = BY_CONFIG.iter().find(|(archs, _)| archs.contains(&model.arch)) {
        return Ok(choose(model, keys)?);
    }
    FAMILIES.iter().copied().find(|f| f.arch == model.arch).ok_or_else(|| {
        let lists = FAMILIES
            .iter()
            .map(|f| f.arch)
            .chain(BY_CONFIG.iter().flat_map(|(of, _)| *of).copied());
        let known: Vec<&str> = lists.collect();
        ConvertError::Architecture { found: model.arch.to_owned(), known: known.join(", ") }
    })
}

/// For families whose table has the checkpoint's names.
fn as_is(name: String, _: u64) -> String {
    name
}

/// For families without layers that predict further tokens, or that leave them out.
fn no_layers(_: &Keys, _: &Folder) -> Result<u32, ConvertError> {
    Ok(0)
}

/// Whether a tensor belongs to an image or sound tower.
pub(super) fn of_other_part(name: &str) -> bool {
    OTHER_PARTS.iter().any(|part| name.contains(part))
        || OTHER_PARTS_FIRST.iter().any(|part| name.starts_with(part))
}

/// Whether a tensor is a buffer.
pub(super) fn is_buffer(name: &str) -> bool {
    BUFFERS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model that can be planned from its config can be converted.
    #[test]
    fn every_family_has_a_table() {
        for model in hf::families() {
            let one = FAMILIES.iter().filter(|f| f.arch == model.arch).count();
            let several = BY_CONFIG.iter().filter(|(of, _)| of.contains(&model.arch)).count();
            assert_eq!(one + several, 1, "{}", model.arch);
        }
    }
}
