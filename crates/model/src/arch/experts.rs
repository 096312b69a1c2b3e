//! Mixtures of experts as headers describe them: the numbers once for the model, the tensors once per layer.
//! Deliberately absent: which layers have them, which a family's own file decides.

use super::common::Common;
use crate::{
    Activation, Dense, Ffn, Header, ModelError, Moe, Role, Routing, Score, Shared, Tensors,
};

/// What all expert layers of a model share.
pub(super) struct Experts {
    pub width: u32,
    /// Width inside an expert.
    pub ffn: u32,
    pub experts: u32,
    pub used: u32,
    /// Width inside the shared expert; 0 for none.
    pub shared: u32,
    pub routing: Routing,
    pub act: Activation,
    /// First layers, which have a dense feed-forward instead.
    pub dense_layers: u32,
}

impl Experts {
    /// Reads the numbers; None for a model without experts. Weights are normalized if the header does not say, as
    /// `normalize` does.
    pub fn read(h: &Header, c: &Common, normalize: bool) -> Result<Option<Self>, ModelError> {
        let Some(experts @ 1..) = h.opt_u32("expert_count")? else { return Ok(None) };
        let used = h.size("expert_used_count")?;
        if experts > MOST_EXPERTS || used > experts {
            let expected = "at most expert_count, which is at most 65536";
            return Err(h.bad("expert_used_count", used, expected));
        }
        let first = |list: &[u32]| list.iter().copied().find(|&n| n > 0).unwrap_or(0);
        let own = h.counts("expert_feed_forward_length", c.layers)?;
        let ffn = first(own.as_deref().unwrap_or(&c.ffn));
        if ffn == 0 || ffn > MOST_FFN {
            return Err(h.bad("expert_feed_forward_length", ffn, "1 to 1048576"));
        }
        let count = h.opt_u32("expert_shared_count")?.unwrap_or(0);
        let counted = count.checked_mul(ffn).filter(|&n| n <= 1 << 24);
        let counted = counted.ok_or_else(|| {
            h.bad("expert_shared_count", count, "so many that their widths' sum is at most 2^24")
        })?;
        let shared = h.opt_u32("expert_shared_feed_forward_length")?.unwrap_or(counted);
        if shared > 1 << 24 {
            return Err(h.bad("expert_shared_feed_forward_length", shared, "at most 16777216"));
        }
        Ok(Some(Experts {
            width: c.width,
            ffn,
            experts,
            used,
            shared,
            routing: routing(h, experts, normalize)?,
            act: Activation::Silu,
            dense_layers: h.opt_u32("leading_dense_block_count")?.unwrap_or(0),
        }))
    }

    /// The experts of a layer, with the biases, shared expert and its gate that the file has.
    pub fn layer(&self, h: &Header, t: &mut Tensors, i: u32) -> Moe {
        let has = |name: &str| h.has(&format!("blk.{i}.{name}"));
        let (up, down) =
            ([self.width, self.ffn, self.experts], [self.ffn, self.width, self.experts]);
        let stack = |t: &mut Tensors, name: &str, shape: [u32; 3], role: Role| {
            t.stack(i, name, shape, role, has(&format!("{name}.bias")))
        };
        let [gate, up] = if has("ffn_gate_up_exps.weight") {
            let both = [self.width, 2 * self.ffn, self.experts];
            let both = stack(t, "ffn_gate_up_exps", both, Role::FfnGateUpExps);
            both.split([self.ffn, self.ffn])
        } else {
            let gate = stack(t, "ffn_gate_exps", up, Role::FfnGateExps);
            [gate, stack(t, "ffn_up_exps", up, Role::FfnUpExps)]
        };
        let router = [self.width, self.experts];
        let biased = has("ffn_gate_inp.bias");
        let choice = has("exp_probs_b.bias");
        Moe {
            router: t.biased(i, "ffn_gate_inp", router, Role::FfnGateInp, biased),
            routing: self.routing,
            choice_bias: choice
                .then(|| t.block(i, "exp_probs_b.bias", &[self.experts], Role::ExpProbsB)),
            expert_scale: None,
            gate,
            up,
            down: stack(t, "ffn_down_exps", down, Role::FfnDownExps),
            act: self.act,
            experts: self.experts,
            used: self.used,
            shared: (self.shared > 0).then(|| self.shared_layer(h, t, i)),
        }
    }

    fn shared_layer(&self, h: &Header, t: &mut Tensors, i: u32) -> Shared {
        let (up, down) = ([self.width, self.shared], [self.shared, self.width]);
        let gated = h.has(&format!("blk.{i}.ffn_gate_inp_shexp.weight"));
        Shared {
            dense: Dense {
                gate: t.linear(i, "ffn_gate_shexp", up, Role::FfnGateShexp),
                up: t.linear(i, "ffn_up_shexp", up, Role::FfnUpShexp),
                down: t.linear(i, "ffn_down_shexp", down, Role::FfnDownShexp),
                act: self.act,
            },
            gate: gated
                .then(|| t.linear(i, "ffn_gate_inp_shexp", [self.width, 1], Role::FfnGateInpShexp)),
        }
    }
}

/// The experts of a layer; the dense feed-forward in the first layers, and in models without experts.
pub(super) fn ffn(
    experts: &Option<Experts>,
    h: &Header,
    c: &Common,
    t: &mut Tensors,
    i: u32,
) -> Ffn {
    match experts.as_ref().filter(|experts| i >= experts.dense_layers) {
        Some(experts) => Ffn::Moe(experts.layer(h, t, i)),
        None => c.dense(t, i),
    }
}

/// Most experts of a layer, and widest expert.
const MOST_EXPERTS: u32 = 1 << 16;
const MOST_FFN: u32 = 1 << 20;

fn routing(h: &Header, experts: u32, normalize: bool) -> Result<Routing, ModelError> {
    let score = match h.opt_u32("expert_gating_func")?.unwrap_or(1) {
        1 => Score::Softmax,
        2 => Score::Sigmoid,
        3 => Score::SoftmaxOfChosen,
        other => {
            let expected = "1 (softmax), 2 (sigmoid) or 3 (softmax of the chosen)";
            return Err(h.bad("expert_gating_func", other, expected));
        }
    };
    let groups = h.size_or("expert_group_count", 1)?;
    let used_groups = h.size_or("expert_group_used_count", 1)?;
    if used_groups > groups
        || !experts.is_multiple_of(groups)
        || (groups > 1 && experts < 2 * groups)
    {
        let expected = "a divisor of expert_count, and at least expert_group_used_count";
        return Err(h.bad("expert_group_count", groups, expected));
    }
    Ok(Routing {
        score,
        temper: 1.0,
        groups,
        used_groups,
        pair: score == Score::Sigmoid,
        normalize: h.bool_or("expert_weights_norm", normalize)?,
        // Files that say 0 mean none.
        scale: Some(h.f32_or("expert_weights_scale", 1.0)?).filter(|&s| s != 0.0).unwrap_or(1.0),
    })
}
