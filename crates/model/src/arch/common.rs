//! Hyperparameters and tree parts that most decoders share. A family with its own data flow builds its own parts.

use crate::{
    Activation, Attend, Block, Embed, Factors, Ffn, Gqa, Head, Header, KeyValue, Linear, Mixer,
    Model, ModelError, Norm, NormKind, Role, Rope, RopePairs, Sight, Tensors, Unembed,
};

/// The numbers every decoder header has. Those that may differ from layer to layer have one element for each.
pub(super) struct Common {
    pub layers: u32,
    /// Layers after them that predict further tokens.
    pub predictors: u32,
    pub width: u32,
    pub ffn: Vec<u32>,
    pub heads: u32,
    /// 0 in layers without attention.
    pub kv_heads: Vec<u32>,
    pub head_dim: u32,
    pub vocab: u32,
    pub context: u32,
    pub eps: f32,
    pub rope_base: f64,
    /// Name of the norm before the feed-forward.
    pub ffn_norm: &'static str,
    /// Norms of q and k.
    pub head_norms: HeadNorms,
}

/// How queries and keys are normed.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum HeadNorms {
    /// Each head, if the file has the tensors.
    IfThere,
    /// Each head.
    Each,
    /// All heads at once (OLMo).
    AtOnce,
}

impl Common {
    /// Reads a decoder whose heads have one width for keys and values.
    pub fn read(h: &Header) -> Result<Self, ModelError> {
        let common = Self::latent(h)?;
        common.check_heads(h)?;
        Ok(common)
    }

    fn check_heads(&self, h: &Header) -> Result<(), ModelError> {
        if self.head_dim == 0 || !self.head_dim.is_multiple_of(2) || self.head_dim > 1024 {
            let expected = "an even number up to 1024";
            return Err(h.bad("attention.key_length", self.head_dim, expected));
        }
        let value_dim = h.size_or("attention.value_length", self.head_dim)?;
        if value_dim != self.head_dim {
            return Err(h.bad("attention.value_length", value_dim, "the key length"));
        }
        for &kv in &self.kv_heads {
            if kv > 0 && !self.heads.is_multiple_of(kv) {
                return Err(h.bad("attention.head_count_kv", kv, "a divisor of head_count"));
            }
        }
        Ok(())
    }

    /// Reads the numbers without the rules on head widths, which latent attention does not follow.
    pub fn latent(h: &Header) -> Result<Self, ModelError> {
        Self::with_eps(h, "attention.layer_norm_rms_epsilon")
    }

    /// Likewise for models whose norms are layer norms.
    pub fn with_eps(h: &Header, eps: &str) -> Result<Self, ModelError> {
        let (all, predictors) =
            (h.size("block_count")?, h.opt_u32("nextn_predict_layers")?.unwrap_or(0));
        if all > 1024 || predictors >= all {
            let expected = "at most 1024, and more than nextn_predict_layers";
            return Err(h.bad("block_count", all, expected));
        }
        let layers = all - predictors;
        let (width, heads) = (h.size("embedding_length")?, h.size("attention.head_count")?);
        // Times a head's width, still far below 2^32.
        if heads > 0x1_0000 {
            return Err(h.bad("attention.head_count", heads, "at most 65536"));
        }
        let same = |value: u32| vec![value; layers as usize];
        let common = Common {
            layers,
            predictors,
            width,
            ffn: h.counts("feed_forward_length", layers)?.unwrap_or_else(|| same(0)),
            heads,
            kv_heads: h.counts("attention.head_count_kv", layers)?.unwrap_or_else(|| same(heads)),
            head_dim: h.size_or("attention.key_length", width / heads)?,
            vocab: h.vocab()?,
            context: h.size("context_length")?,
            eps: h.f32(eps)?,
            rope_base: h.f32_or("rope.freq_base", 10_000.0)?.into(),
            ffn_norm: "ffn_norm",
            head_norms: HeadNorms::IfThere,
        };
        if let Some(&ffn) = common.ffn.iter().find(|&&ffn| ffn > MOST_FFN) {
            return Err(h.bad("feed_forward_length", ffn, "at most 16777216"));
        }
        if common.rope_base < 1.0 {
            return Err(h.bad("rope.freq_base", common.rope_base, "at least 1"));
        }
        Ok(common)
    }

    /// Rotary encoding over the head, by the header's scaling keys; with Llama 3's divisors where the file has them.
    pub fn rope(&self, h: &Header, t: &mut Tensors, pairs: RopePairs) -> Result<Rope, ModelError> {
        let dims = h.size_or("rope.dimension_count", self.head_dim)?;
        if dims > self.head_dim || dims % 2 != 0 {
            let expected = "an even number up to the head's width";
            return Err(h.bad("rope.dimension_count", dims, expected));
        }
        let mut rope = Rope::new(pairs, dims, self.rope_base, h.rope_scaling()?);
        if h.has("rope_freqs.weight") {
            let table = t.global("rope_freqs.weight", &[dims / 2], Role::RopeFreqs);
            rope.factors = Factors::Always(table);
        }
        Ok(rope)
    }

    /// Attention over everything before, scores divided by the root of the head's width.
    pub fn attend(&self, layer: u32) -> Attend {
        Attend {
            heads: self.heads,
            kv_heads: self.kv_heads[layer as usize],
            key_dim: self.head_dim,
            value_dim: self.head_dim,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            sight: Sight::Past,
            softcap: None,
            sinks: None,
            temper: None,
        }
    }

    /// `attn_q`, `attn_k`, `attn_v` (or all three in `attn_qkv`) and `attn_output`, biased and with norms of the heads where
    /// the file has these tensors; rotated by rope 0.
    pub fn gqa(&self, h: &Header, t: &mut Tensors, layer: u32) -> Gqa {
        self.gqa_as(h, t, layer, self.attend(layer), 1)
    }

    /// The same with heads of the caller's; the query projection is `queries` times as wide.
    pub fn gqa_as(
        &self,
        h: &Header,
        t: &mut Tensors,
        layer: u32,
        attend: Attend,
        queries: u32,
    ) -> Gqa {
        let mut norm = |name: &str, heads: u32| {
            let there = h.has(&format!("blk.{layer}.{name}.weight"));
            let width = match self.head_norms {
                HeadNorms::IfThere => there.then_some(attend.key_dim)?,
                HeadNorms::Each => attend.key_dim,
                HeadNorms::AtOnce => attend.key_dim * heads,
            };
            Some(t.norm(layer, name, width, self.eps))
        };
        let q_norm = norm("attn_q_norm", attend.heads);
        let k_norm = norm("attn_k_norm", attend.kv_heads);
        let (q, kv) = (attend.heads * attend.key_dim, attend.kv_heads * attend.key_dim);
        let linear = |t: &mut Tensors, name: &str, shape: [u32; 2], role: Role| {
            t.biased(layer, name, shape, role, h.has(&format!("blk.{layer}.{name}.bias")))
        };
        let wide = q * queries;
        let [q_proj, k, v] = if h.has(&format!("blk.{layer}.attn_qkv.weight")) {
            linear(t, "attn_qkv", [self.width, wide + 2 * kv], Role::AttnQkv).split([wide, kv, kv])
        } else {
            [
                linear(t, "attn_q", [self.width, wide], Role::AttnQ),
                linear(t, "attn_k", [self.width, kv], Role::AttnK),
                linear(t, "attn_v", [self.width, kv], Role::AttnV),
            ]
        };
        let o = linear(t, "attn_output", [q, self.width], Role::AttnOutput);
        let kv = Some(KeyValue { k, v: Some(v), k_norm, v_norm: None });
        Gqa { q: q_proj, kv, o, q_norm, attend, rope: Some(0), cache: layer as usize }
    }

    /// A pre-norm block of any mixer and feed-forward.
    pub fn block(
        &self,
        t: &mut Tensors,
        layer: u32,
        mixer: impl FnOnce(&mut Tensors) -> Mixer,
        ffn: impl FnOnce(&mut Tensors) -> Ffn,
    ) -> Block {
        let attn_norm = Some(t.norm(layer, "attn_norm", self.width, self.eps));
        let mixer = mixer(t);
        let ffn_norm = Some(t.norm(layer, self.ffn_norm, self.width, self.eps));
        Block { attn_norm, ffn_norm, ..Block::bare(mixer, ffn(t)) }
    }

    /// A SiLU-gated feed-forward.
    pub fn dense(&self, t: &mut Tensors, layer: u32) -> Ffn {
        let ffn = self.ffn[layer as usize];
        Ffn::Dense(t.gated_ffn(layer, self.width, ffn, Activation::Silu))
    }

    /// Embedding, final norm and unembedding (tied when the file has no `output.weight`) around the blocks.
    pub fn model(
        &self,
        h: &Header,
        arch: &'static str,
        t: Tensors,
        blocks: Vec<Block>,
        ropes: Vec<Rope>,
    ) -> Model {
        self.model_with(h, arch, t, blocks, ropes, "output_norm.weight")
    }

    /// The same with another name of the final norm.
    pub fn model_with(
        &self,
        h: &Header,
        arch: &'static str,
        mut t: Tensors,
        blocks: Vec<Block>,
        ropes: Vec<Rope>,
        norm: &str,
    ) -> Model {
        let embed = t.global("token_embd.weight", &[self.width, self.vocab], Role::TokenEmbd);
        let norm = t.global(norm, &[self.width], Role::Norm);
        let output = match h.has("output.weight") {
            false => embed,
            true => t.global("output.weight", &[self.width, self.vocab], Role::Output),
        };
        let linear =
            Linear { weight: output, bias: None, first: 0, input: self.width, output: self.vocab };
        Model {
            arch,
            name: h.name(),
            vocab: self.vocab,
            width: self.width,
            context: self.context,
            embed: Embed::plain(embed),
            blocks,
            norm: Some(Norm::rms(norm, self.width, self.eps)),
            head: Head::Logits(Unembed { linear, scale: 1.0, softcap: None }),
            ropes,
            predictors: self.predictors,
            weights: t.into_list(),
        }
    }
}

/// Widest feed-forward.
const MOST_FFN: u32 = 1 << 24;

impl Block {
    /// A block without norms.
    pub(super) fn bare(mixer: Mixer, ffn: Ffn) -> Self {
        Block {
            attn_norm: None,
            mixer,
            attn_post_norm: None,
            attn_out_norm: None,
            ffn_norm: None,
            ffn,
            ffn_post_norm: None,
            ffn_out_norm: None,
            residual_scale: 1.0,
            per_layer: None,
            out_scale: None,
        }
    }
}

impl Norm {
    /// RMS norm over groups of `width`, with a gain.
    pub(super) fn rms(weight: crate::WeightId, width: u32, eps: f32) -> Self {
        Norm { kind: NormKind::Rms, weight: Some(weight), bias: None, width, eps }
    }
}

impl Embed {
    /// Rows of a table, as they are.
    pub(super) fn plain(weight: crate::WeightId) -> Self {
        Embed { weight, scale: 1.0, positions: None, types: None, norm: None, per_layer: None }
    }
}

impl Model {
    /// Sets what is done to the logits.
    pub(super) fn with_logits(mut self, scale: f32, softcap: Option<f32>) -> Self {
        if let Head::Logits(head) = &mut self.head {
            (head.scale, head.softcap) = (scale, softcap);
        }
        self
    }
}
