//! Hyperparameters and tree parts that most decoders share. A family with its own data flow builds its own parts.

use crate::{
    Activation, Block, Embed, Ffn, Gqa, Head, Header, Linear, Mixer, Model, ModelError, Norm, Role,
    Rope, RopePairs, Tensors,
};

/// The numbers every decoder header has.
pub(super) struct Common {
    pub layers: u32,
    pub width: u32,
    pub ffn: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub vocab: u32,
    pub context: u32,
    pub eps: f32,
    pub rope_base: f64,
}

impl Common {
    /// Reads a decoder whose heads have one width for keys and values.
    pub fn read(h: &Header) -> Result<Self, ModelError> {
        let common = Self::latent(h)?;
        if common.head_dim == 0 || common.head_dim % 2 != 0 || common.head_dim > 1024 {
            return Err(h.bad(
                "attention.key_length",
                common.head_dim,
                "an even number up to 1024",
            ));
        }
        let value_dim = h.size_or("attention.value_length", common.head_dim)?;
        if value_dim != common.head_dim {
            return Err(h.bad("attention.value_length", value_dim, "the key length"));
        }
        Ok(common)
    }

    /// Reads the numbers without the rules on head widths, which latent attention does not follow.
    pub fn latent(h: &Header) -> Result<Self, ModelError> {
        let (width, heads) = (h.size("embedding_length")?, h.size("attention.head_count")?);
        let common = Common {
            layers: h.size("block_count")?,
            width,
            ffn: h.size("feed_forward_length")?,
            heads,
            kv_heads: h.size_or("attention.head_count_kv", heads)?,
            head_dim: h.size_or("attention.key_length", width / heads)?,
            vocab: h.vocab()?,
            context: h.size("context_length")?,
            eps: h.f32("attention.layer_norm_rms_epsilon")?,
            rope_base: h.f32_or("rope.freq_base", 10_000.0)?.into(),
        };
        if common.layers > 1024 {
            return Err(h.bad("block_count", common.layers, "at most 1024"));
        }
        // Times a head's width, still far below 2^32.
        if common.heads > 0x1_0000 {
            return Err(h.bad("attention.head_count", common.heads, "at most 65536"));
        }
        if !common.heads.is_multiple_of(common.kv_heads) {
            return Err(h.bad(
                "attention.head_count_kv",
                common.kv_heads,
                "a divisor of head_count",
            ));
        }
        if common.rope_base < 1.0 {
            return Err(h.bad("rope.freq_base", common.rope_base, "at least 1"));
        }
        Ok(common)
    }

    /// Rotary encoding over the head, by the header's scaling keys.
    pub fn rope(&self, h: &Header, pairs: RopePairs) -> Result<Rope, ModelError> {
        let dims = h.size_or("rope.dimension_count", self.head_dim)?;
        if dims > self.head_dim || dims % 2 != 0 {
            return Err(h.bad(
                "rope.dimension_count",
                dims,
                "an even number up to the head's width",
            ));
        }
        Ok(Rope::new(pairs, dims, self.rope_base, h.rope_scaling()?))
    }

    /// `attn_q`, `attn_k`, `attn_v`, `attn_output`, biased where the file has the tensor; no head norms.
    pub fn gqa(&self, h: &Header, t: &mut Tensors, layer: u32) -> Gqa {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut linear = |name: &str, shape: [u32; 2], role: Role| {
            t.biased(layer, name, shape, role, h.has(&format!("blk.{layer}.{name}.bias")))
        };
        Gqa {
            q: linear("attn_q", [self.width, q], Role::AttnQ),
            k: linear("attn_k", [self.width, kv], Role::AttnK),
            v: linear("attn_v", [self.width, kv], Role::AttnV),
            o: linear("attn_output", [q, self.width], Role::AttnOutput),
            q_norm: None,
            k_norm: None,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            rope: 0,
            window: None,
        }
    }

    /// A pre-norm block with the mixer that `mixer` builds and a SiLU-gated feed-forward.
    pub fn block(
        &self,
        t: &mut Tensors,
        layer: u32,
        mixer: impl FnOnce(&mut Tensors) -> Gqa,
    ) -> Block {
        Block {
            attn_norm: t.norm(layer, "attn_norm", self.width, self.eps),
            mixer: Mixer::Gqa(mixer(t)),
            attn_post_norm: None,
            ffn_norm: t.norm(layer, "ffn_norm", self.width, self.eps),
            ffn: Ffn::Dense(t.gated_ffn(layer, self.width, self.ffn, Activation::Silu)),
            ffn_post_norm: None,
        }
    }

    /// Embedding, final norm and unembedding (tied when the file has no `output.weight`) around the blocks.
    pub fn model(
        &self,
        h: &Header,
        arch: &'static str,
        mut t: Tensors,
        blocks: Vec<Block>,
        ropes: Vec<Rope>,
    ) -> Model {
        let embed = t.global("token_embd.weight", &[self.width, self.vocab], Role::TokenEmbd);
        let weight = t.global("output_norm.weight", &[self.width], Role::Norm);
        let tied = !h.has("output.weight");
        let output = match tied {
            true => embed,
            false => t.global("output.weight", &[self.width, self.vocab], Role::Output),
        };
        Model {
            arch,
            name: h.name(),
            vocab: self.vocab,
            width: self.width,
            context: self.context,
            embed: Embed { weight: embed, scale: 1.0 },
            blocks,
            norm: Norm { weight, width: self.width, eps: self.eps },
            head: Head {
                linear: Linear {
                    weight: output,
                    bias: None,
                    input: self.width,
                    output: self.vocab,
                },
                softcap: None,
            },
            ropes,
            weights: t.into_list(),
        }
    }
}
