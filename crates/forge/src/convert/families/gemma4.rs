//! Gemma 4: two lengths of heads, keys and values that later layers share, embeddings for each layer, and experts beside
//! the dense feed-forward; a model has some of them. An assistant drafts for one: it has no keys of its own, and joins its
//! vectors. Deliberately absent: towers for images and sound, and an assistant's shortcut to its embeddings.

use super::{ATTENTION, BASE, DENSE, Family, How, Kind, Rule, as_is, maybe, rule, with};

pub(super) const GEMMA4: Family = Family {
    arch: "gemma4",
    parts: &[&[ENDS], &[NORMS], &[ATTENTION, SHARED_KEYS], &[DENSE], &[MORE]],
    tokenizers: &[Kind::CharacterBpe],
    ..BASE
};

pub(super) const GEMMA4_ASSISTANT: Family = Family {
    arch: "gemma4-assistant",
    parts: &[&[ENDS], &[PROJECTIONS], &[NORMS], &[SHARED_KEYS], &[DENSE], &[MORE]],
    rename: without_shortcut,
    ..GEMMA4
};

const ENDS: &[Rule] = &[
    with("model.embed_tokens", "token_embd", How::Vocabulary),
    rule("model.norm", "output_norm"),
    maybe("lm_head", "output"),
    maybe("model.embed_tokens_per_layer", "per_layer_token_embd"),
    maybe("model.per_layer_model_projection", "per_layer_model_proj"),
    maybe("model.per_layer_projection_norm", "per_layer_proj_norm"),
];

/// From an assistant's vectors to those of its model and back.
const PROJECTIONS: &[Rule] = &[
    rule("pre_projection", "nextn.pre_projection"),
    rule("post_projection", "nextn.post_projection"),
    Rule { from: SHORTCUT, to: "", how: How::Drop, optional: true },
];
const SHORTCUT: &str = "masked_embedding";

const NORMS: &[Rule] = &[
    rule("model.layers.{b}.input_layernorm", "attn_norm"),
    rule("model.layers.{b}.post_attention_layernorm", "post_attention_norm"),
    rule("model.layers.{b}.pre_feedforward_layernorm", "ffn_norm"),
    rule("model.layers.{b}.post_feedforward_layernorm", "post_ffw_norm"),
    rule("model.layers.{b}.self_attn.q_norm", "attn_q_norm"),
    maybe("model.layers.{b}.self_attn.k_norm", "attn_k_norm"),
];

/// Attention without values of its own (they are the keys), or without keys either (they are an earlier layer's).
const SHARED_KEYS: &[Rule] = &[
    rule("model.layers.{b}.self_attn.q_proj", "attn_q"),
    maybe("model.layers.{b}.self_attn.k_proj", "attn_k"),
    rule("model.layers.{b}.self_attn.o_proj", "attn_output"),
];

/// What only some models have.
const MORE: &[Rule] = &[
    maybe("model.layers.{b}.layer_scalar", "layer_output_scale.weight"),
    maybe("model.layers.{b}.per_layer_input_gate", "inp_gate"),
    maybe("model.layers.{b}.per_layer_projection", "proj"),
    maybe("model.layers.{b}.post_per_layer_input_norm", "post_norm"),
    maybe("model.layers.{b}.router.proj", "ffn_gate_inp"),
    maybe("model.layers.{b}.router.scale", "ffn_gate_inp.scale"),
    maybe("model.layers.{b}.router.per_expert_scale", "ffn_down_exps.scale"),
    maybe("model.layers.{b}.experts.gate_up_proj", "ffn_gate_up_exps.weight"),
    maybe("model.layers.{b}.experts.down_proj", "ffn_down_exps.weight"),
    maybe("model.layers.{b}.pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
    maybe("model.layers.{b}.post_feedforward_layernorm_1", "post_ffw_norm_1"),
    maybe("model.layers.{b}.post_feedforward_layernorm_2", "post_ffw_norm_2"),
];

/// One name for all tensors of an assistant's shortcut.
fn without_shortcut(name: String, layers: u64) -> String {
    match name.contains(SHORTCUT) {
        true => SHORTCUT.to_owned(),
        false => as_is(name, layers),
    }
}
