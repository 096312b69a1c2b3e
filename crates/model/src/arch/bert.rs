//! BERT and nomic-bert encoders for embeddings: every token sees every other, layer norms after each half, no
//! unembedding. BERT adds positions to its embeddings and has a plain GELU feed-forward; nomic-bert rotates by halves
//! and has a gated SiLU one. Classification heads are not described.

use super::common::Common;
use crate::{
    Activation, Block, Embed, Ffn, Head, Header, Mixer, Model, ModelError, Norm, NormKind, Plain,
    Pooling, Role, RopePairs, Sight, Tensors,
};

pub(super) fn bert(h: &Header) -> Result<Model, ModelError> {
    describe(h, "bert")
}

pub(super) fn nomic_bert(h: &Header) -> Result<Model, ModelError> {
    describe(h, "nomic-bert")
}

fn describe(h: &Header, arch: &'static str) -> Result<Model, ModelError> {
    let c = Common::with_eps(h, "attention.layer_norm_epsilon")?;
    if c.head_dim > 1024 || c.head_dim % 2 != 0 {
        return Err(h.bad("attention.head_count", c.heads, "heads of an even width up to 1024"));
    }
    let rotary = arch == "nomic-bert";
    let mut t = Tensors::new();
    let rope = c.rope(h, &mut t, RopePairs::Halves)?;
    let blocks = (0..c.layers).map(|i| {
        let mut gqa = c.gqa(h, &mut t, i);
        gqa.attend.sight = Sight::All;
        gqa.rope = rotary.then_some(0);
        let ffn = c.ffn[i as usize];
        let ffn = match rotary {
            true => Ffn::Dense(t.gated_ffn(i, c.width, ffn, Activation::Silu)),
            false => {
                let bias = |name: &str| h.has(&format!("blk.{i}.{name}.bias"));
                let up = t.biased(i, "ffn_up", [c.width, ffn], Role::FfnUp, bias("ffn_up"));
                let down = [ffn, c.width];
                let down = t.biased(i, "ffn_down", down, Role::FfnDown, bias("ffn_down"));
                Ffn::Plain(Plain { up, down, act: Activation::Gelu })
            }
        };
        Block {
            attn_out_norm: Some(t.layer_norm(i, "attn_output_norm", c.width, c.eps)),
            ffn_out_norm: Some(t.layer_norm(i, "layer_output_norm", c.width, c.eps)),
            ..Block::bare(Mixer::Gqa(gqa), ffn)
        }
    });
    let blocks = blocks.collect();
    let embed = embedding(h, &c, &mut t, arch == "bert")?;
    Ok(Model {
        arch,
        name: h.name(),
        vocab: c.vocab,
        width: c.width,
        context: c.context,
        embed,
        blocks,
        norm: None,
        head: Head::Pool(pooling(h)?),
        ropes: vec![rope],
        predictors: 0,
        weights: t.into_list(),
    })
}

fn embedding(
    h: &Header,
    c: &Common,
    t: &mut Tensors,
    positions: bool,
) -> Result<Embed, ModelError> {
    let kinds = h.token_types()?;
    let weight = t.global("token_embd.weight", &[c.width, c.vocab], Role::TokenEmbd);
    let types = h
        .has("token_types.weight")
        .then(|| t.global("token_types.weight", &[c.width, kinds], Role::TokenTypes));
    let table = [c.width, c.context];
    let positions = positions.then(|| t.global("position_embd.weight", &table, Role::PositionEmbd));
    let gain = t.global("token_embd_norm.weight", &[c.width], Role::Norm);
    let bias = t.global("token_embd_norm.bias", &[c.width], Role::Bias);
    let norm = Norm {
        kind: NormKind::Layer,
        weight: Some(gain),
        bias: Some(bias),
        width: c.width,
        eps: c.eps,
    };
    Ok(Embed { positions, types, norm: Some(norm), ..Embed::plain(weight) })
}

/// `pooling_type`, of which 0 leaves the choice to the user: the mean.
fn pooling(h: &Header) -> Result<Pooling, ModelError> {
    match h.opt_u32("pooling_type")?.unwrap_or(0) {
        0 | 1 => Ok(Pooling::Mean),
        2 => Ok(Pooling::First),
        3 => Ok(Pooling::Last),
        other => Err(h.bad("pooling_type", other, "1 (mean), 2 (first) or 3 (last)")),
    }
}
