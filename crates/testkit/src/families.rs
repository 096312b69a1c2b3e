//! What each family's tiny file says beside what all say: metadata, and which of the optional tensors it has. Widths
//! follow those of the shape, so that any tensor type has whole blocks. Windows are short and layers few, but every
//! kind of layer is there.

use hob_gguf::MetaBuilder;

use crate::Tiny;

/// Architectures and variants that [`Tiny`] writes.
#[allow(missing_docs)] // named after GGUF's architectures; what they exercise is said in hob_model's files
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    Mixtral,
    Qwen2,
    Qwen2Moe,
    Qwen3,
    Qwen3Moe,
    Qwen35,
    Qwen35Moe,
    Qwen3Next,
    Gemma2,
    Gemma3,
    Gemma4,
    Gemma4Moe,
    GptOss,
    Deepseek2,
    Deepseek2Lite,
    Glm4,
    Glm4Moe,
    Mistral3,
    Phi3,
    SmolLm3,
    Olmo2,
    Lfm2,
    Lfm2Moe,
    GraniteHybrid,
    GraniteHybridMoe,
    Bert,
    NomicBert,
}

impl Family {
    /// All that write text.
    pub const ALL: [Family; 26] = [
        Family::Llama,
        Family::Mixtral,
        Family::Qwen2,
        Family::Qwen2Moe,
        Family::Qwen3,
        Family::Qwen3Moe,
        Family::Qwen35,
        Family::Qwen35Moe,
        Family::Qwen3Next,
        Family::Gemma2,
        Family::Gemma3,
        Family::Gemma4,
        Family::Gemma4Moe,
        Family::GptOss,
        Family::Deepseek2,
        Family::Deepseek2Lite,
        Family::Glm4,
        Family::Glm4Moe,
        Family::Mistral3,
        Family::Phi3,
        Family::SmolLm3,
        Family::Olmo2,
        Family::Lfm2,
        Family::Lfm2Moe,
        Family::GraniteHybrid,
        Family::GraniteHybridMoe,
    ];

    /// All that give a vector for a text.
    pub const ENCODERS: [Family; 2] = [Family::Bert, Family::NomicBert];

    /// GGUF's name.
    pub fn arch(self) -> &'static str {
        use Family::*;
        match self {
            Llama | Mixtral => "llama",
            Qwen2 => "qwen2",
            Qwen2Moe => "qwen2moe",
            Qwen3 => "qwen3",
            Qwen3Moe => "qwen3moe",
            Qwen35 => "qwen35",
            Qwen35Moe => "qwen35moe",
            Qwen3Next => "qwen3next",
            Gemma2 => "gemma2",
            Gemma3 => "gemma3",
            Gemma4 | Gemma4Moe => "gemma4",
            GptOss => "gpt-oss",
            Deepseek2 | Deepseek2Lite => "deepseek2",
            Glm4 => "glm4",
            Glm4Moe => "glm4moe",
            Mistral3 => "mistral3",
            Phi3 => "phi3",
            SmolLm3 => "smollm3",
            Olmo2 => "olmo2",
            Lfm2 => "lfm2",
            Lfm2Moe => "lfm2moe",
            GraniteHybrid | GraniteHybridMoe => "granitehybrid",
            Bert => "bert",
            NomicBert => "nomic-bert",
        }
    }

    /// Layers that show every kind.
    pub(crate) fn layers(self) -> u32 {
        use Family::*;
        match self {
            Gemma3 => 7,
            Gemma4 | Gemma4Moe => 6,
            Qwen35 | Qwen35Moe | Qwen3Next | SmolLm3 | Olmo2 => 4,
            Deepseek2 | Deepseek2Lite | Glm4Moe | Lfm2 | Lfm2Moe => 3,
            _ => 2,
        }
    }

    /// Names of the optional tensors that a file of this family has; `{i}` stands for each layer.
    pub(crate) fn optional(self) -> &'static [&'static str] {
        use Family::*;
        match self {
            Llama | Mixtral | Phi3 | Mistral3 => &["output.weight"],
            Qwen2 => QKV_BIASES,
            Qwen2Moe => &[
                "blk.{i}.attn_q.bias",
                "blk.{i}.attn_k.bias",
                "blk.{i}.attn_v.bias",
                "blk.{i}.ffn_gate_inp_shexp.weight",
            ],
            Qwen35Moe => &["blk.{i}.ffn_gate_inp_shexp.weight", "blk.{i}.ffn_gate_up_exps.weight"],
            Qwen3Next => &["blk.{i}.ssm_ba.weight", "blk.{i}.ffn_gate_inp_shexp.weight"],
            // The third layer has no values of its own.
            Gemma4 => &[
                "rope_freqs.weight",
                "blk.0.attn_v.weight",
                "blk.1.attn_v.weight",
                "blk.{i}.layer_output_scale.weight",
            ],
            Gemma4Moe => &[
                "rope_freqs.weight",
                "blk.{i}.attn_v.weight",
                "blk.{i}.ffn_gate_inp.weight",
                "blk.{i}.ffn_gate_up_exps.weight",
                "blk.{i}.ffn_down_exps.scale",
                "blk.{i}.layer_output_scale.weight",
            ],
            GptOss => &[
                "output.weight",
                "blk.{i}.attn_q.bias",
                "blk.{i}.attn_k.bias",
                "blk.{i}.attn_v.bias",
                "blk.{i}.attn_output.bias",
                "blk.{i}.ffn_gate_inp.bias",
                "blk.{i}.ffn_gate_exps.bias",
                "blk.{i}.ffn_up_exps.bias",
                "blk.{i}.ffn_down_exps.bias",
            ],
            Deepseek2 | Glm4Moe | Lfm2Moe => &["output.weight", "blk.{i}.exp_probs_b.bias"],
            GraniteHybrid | GraniteHybridMoe => &["blk.{i}.ssm_conv1d.bias"],
            Bert => &[
                "token_types.weight",
                "blk.{i}.attn_q.bias",
                "blk.{i}.attn_k.bias",
                "blk.{i}.attn_v.bias",
                "blk.{i}.attn_output.bias",
                "blk.{i}.ffn_up.bias",
                "blk.{i}.ffn_down.bias",
            ],
            NomicBert => &["token_types.weight", "blk.{i}.attn_qkv.weight"],
            _ => &[],
        }
    }

    /// Whether q, k and v are one tensor.
    fn fused(self) -> bool {
        self == Family::Phi3
    }

    /// The names above for a number of layers.
    pub(crate) fn tensors(self, layers: u32) -> Vec<String> {
        let fused: &[&str] = if self.fused() {
            &["blk.{i}.attn_qkv.weight", "rope_factors_long.weight"]
        } else {
            &[]
        };
        let names = self.optional().iter().chain(fused);
        names.flat_map(|n| (0..layers).map(move |i| n.replace("{i}", &i.to_string()))).collect()
    }
}

const QKV_BIASES: &[&str] = &["blk.{i}.attn_q.bias", "blk.{i}.attn_k.bias", "blk.{i}.attn_v.bias"];

impl Tiny {
    /// The metadata of the family's own.
    pub(crate) fn family_meta(&self, mut meta: MetaBuilder) -> MetaBuilder {
        use Family::*;
        let arch = self.family.arch();
        let mut set = |key: &str, value: u32| meta.insert(&format!("{arch}.{key}"), value);
        let (head, wide) = (self.width / self.heads, self.width / self.heads * 2);
        let block = (self.matrices.block_len() as u32).max(32);
        match self.family {
            Qwen3 | Qwen3Moe | Gemma2 | Gemma3 | GptOss => key_length(&mut set, wide),
            Gemma4 | Gemma4Moe => {
                key_length(&mut set, wide);
                set("attention.key_length_swa", head);
                set("attention.value_length_swa", head);
                set("rope.dimension_count_swa", head);
            }
            Qwen35 | Qwen35Moe | Qwen3Next => {
                key_length(&mut set, wide);
                set("rope.dimension_count", head);
                set("ssm.inner_size", self.width);
                set("ssm.state_size", 16);
                set("ssm.time_step_rank", self.width / 16);
                set("ssm.group_count", self.width / 32);
                set("ssm.conv_kernel", 4);
            }
            Glm4 | Glm4Moe => set("rope.dimension_count", head / 2),
            Deepseek2 | Deepseek2Lite => {
                if self.family == Deepseek2 {
                    set("attention.q_lora_rank", block);
                    set("expert_gating_func", 2);
                    set("expert_group_count", 2);
                    set("expert_group_used_count", 1);
                }
                set("attention.kv_lora_rank", block);
                set("rope.dimension_count", 16);
                set("attention.key_length", block + 16);
                set("attention.value_length", block);
                set("attention.key_length_mla", block + 16);
                set("attention.value_length_mla", (block / self.heads).max(16));
                set("attention.head_count_kv", 1);
            }
            Lfm2 | Lfm2Moe => set("shortconv.l_cache", 3),
            GraniteHybrid | GraniteHybridMoe => {
                set("ssm.inner_size", 2 * self.width);
                set("ssm.state_size", 16);
                set("ssm.time_step_rank", self.width / 16);
                set("ssm.group_count", 2);
                set("ssm.conv_kernel", 4);
            }
            _ => {}
        }
        self.expert_meta(&mut set);
        match self.family {
            Gemma2 | Gemma3 | Gemma4 | Gemma4Moe | GptOss | Olmo2 => {
                set("attention.sliding_window", 40)
            }
            Mistral3 => set("rope.scaling.original_context_length", 64),
            Phi3 => set("rope.scaling.original_context_length", 128),
            Bert | NomicBert => set("pooling_type", 1),
            _ => {}
        }
        self.other_meta(meta)
    }

    fn expert_meta(&self, set: &mut impl FnMut(&str, u32)) {
        use Family::*;
        let experts = matches!(
            self.family,
            Mixtral
                | Qwen2Moe
                | Qwen3Moe
                | Qwen35Moe
                | Qwen3Next
                | Gemma4Moe
                | GptOss
                | Deepseek2
                | Deepseek2Lite
                | Glm4Moe
                | Lfm2Moe
                | GraniteHybridMoe
        );
        if !experts {
            return;
        }
        set("expert_count", 4);
        set("expert_used_count", 2);
        if self.family != Mixtral {
            set("expert_feed_forward_length", self.ffn);
        }
        match self.family {
            Qwen2Moe | Qwen35Moe | Qwen3Next | GraniteHybridMoe => {
                set("expert_shared_feed_forward_length", self.ffn)
            }
            Deepseek2 | Deepseek2Lite | Glm4Moe => {
                set("expert_shared_count", 1);
                set("leading_dense_block_count", 1);
            }
            Lfm2Moe => set("leading_dense_block_count", 1),
            _ => {}
        }
        if matches!(self.family, Glm4Moe | Lfm2Moe) {
            set("expert_gating_func", 2);
        }
    }

    /// What is neither a number nor the same for all layers.
    fn other_meta(&self, mut meta: MetaBuilder) -> MetaBuilder {
        use Family::*;
        let key = |key: &str| format!("{}.{key}", self.family.arch());
        let every = |n: u32| (0..self.layers).map(move |i| (i + 1) % n == 0);
        let kv = self.kv_heads;
        match self.family {
            Gemma2 => {
                meta.insert(&key("attn_logit_softcapping"), 2.0f32);
                meta.insert(&key("final_logit_softcapping"), 5.0f32);
            }
            Gemma4 | Gemma4Moe => {
                let windowed: Vec<bool> = every(3).map(|full| !full).collect();
                meta.insert(&key("attention.sliding_window_pattern"), windowed);
                meta.insert(&key("final_logit_softcapping"), 5.0f32);
                if self.family == Gemma4 {
                    let own = (self.matrices.block_len() as u32).max(32);
                    meta.insert(&key("attention.shared_kv_layers"), 2u32);
                    meta.insert(&key("embedding_length_per_layer_input"), own);
                }
            }
            Lfm2 | Lfm2Moe | GraniteHybrid | GraniteHybridMoe => {
                let attention = every(2).map(|own| if own { kv } else { 0 });
                meta.insert(&key("attention.head_count_kv"), attention.collect::<Vec<u32>>());
            }
            Mistral3 => meta.insert(&key("attention.temperature_scale"), 0.1f32),
            _ => {}
        }
        match self.family {
            GraniteHybrid | GraniteHybridMoe => meta
                .set(&key("residual_scale"), 0.5f32)
                .set(&key("embedding_scale"), 3.0f32)
                .set(&key("logit_scale"), 2.0f32)
                .set(&key("attention.scale"), 0.1f32),
            Phi3 => meta.set(&key("rope.scaling.attn_factor"), 1.1f32),
            Deepseek2 => meta.set(&key("expert_weights_scale"), 2.5f32),
            Bert | NomicBert => meta.set(&key("attention.layer_norm_epsilon"), 1e-5f32),
            _ => meta,
        }
    }
}

fn key_length(set: &mut impl FnMut(&str, u32), width: u32) {
    set("attention.key_length", width);
    set("attention.value_length", width);
}
