//! The oracle: `Ops` in the plainest loops there are, weights decoded to f32, every sum sequential in f64, the
//! cache in f32. Unwritten cache positions hold NaN, so that reading one shows. No fused operation is overridden.
//! What moves along sequences (attention, convolution, recurrence) is in `refmix`.

use std::ops::Range;

use hob_gguf::Gguf;
use hob_model::{
    Activation, Attend, Batch, Bound, Buf, CacheLayout, Columns, Conv, DeltaNet, Index, Limits,
    Linear, Mamba2, Model, Moe, Norm, NormKind, Ops, OpsError, PAGE, Rope, RopePairs, Score,
    WeightId,
};
use hob_quant::decode_row;

/// Rows of floats.
pub(crate) struct Rows {
    pub(crate) width: usize,
    pub(crate) rows: usize,
    /// Of a stack of matrices: rows of each.
    pub(crate) each: usize,
    pub(crate) data: Vec<f32>,
}

impl Rows {
    pub(crate) fn row(&self, r: usize) -> &[f32] {
        &self.data[r * self.width..][..self.width]
    }
}

/// Keys and values of one layer.
#[derive(Clone, Default)]
pub(crate) struct Cache {
    /// Its group of layers.
    pub(crate) group: usize,
    pub(crate) width: usize,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
}

/// Recurrent state of one layer and slot.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) conv: Vec<f32>,
    pub(crate) memory: Vec<f64>,
}

/// Experts of each row with their weights, and the dispatched rows: row and expert, by expert.
#[derive(Default)]
struct Routes {
    chosen: Vec<Vec<(usize, f64)>>,
    slots: Vec<(usize, usize)>,
}

/// A device for tests: naive, exact to f32 rounding of each operation's result, the same for every row
/// whatever runs beside it.
pub struct RefOps {
    pub(crate) weights: Vec<Rows>,
    ropes: Vec<(Rope, Option<WeightId>)>,
    pub(crate) buffers: Vec<Rows>,
    pub(crate) cache: Vec<Cache>,
    pub(crate) states: Vec<Vec<State>>,
    pub(crate) batch: Batch,
    routes: Routes,
    probe: Option<Probe>,
}

type Probe = Box<dyn FnMut(&Batch) + Send>;

impl RefOps {
    /// Decodes all weights of `model`, and makes a cache as `limits` say.
    ///
    /// # Panics
    /// When the file does not hold what `bound` says.
    pub fn load(model: &Model, gguf: &Gguf, bound: &Bound, limits: &Limits) -> Self {
        let weights = model.weights.iter().zip(&bound.tensors).map(|(weight, &index)| {
            let info = &gguf.tensors()[index];
            let mut data = vec![0.0; info.elements() as usize];
            decode_row(info.ty, gguf.tensor_bytes(info), &mut data).expect("decodable tensor");
            let [width, each] = [0, 1].map(|i| weight.shape.get(i).map_or(1, |&n| n as usize));
            Rows { width, rows: data.len() / width, each, data }
        });
        let layout = CacheLayout::of(model);
        let mut cache = vec![Cache::default(); model.blocks.len()];
        for (number, group) in layout.groups.iter().enumerate() {
            for (&layer, &(heads, width)) in group.layers.iter().zip(&group.rows) {
                let width = (heads.div_ceil(2) * width) as usize;
                let empty = vec![f32::NAN; group.pages(limits) * PAGE * width];
                cache[layer] = Cache { group: number, width, k: empty.clone(), v: empty };
            }
        }
        let mut states = vec![Vec::new(); model.blocks.len()];
        for s in &layout.states {
            let empty = State { conv: vec![f32::NAN; s.conv], memory: vec![f64::NAN; s.memory] };
            states[s.layer] = vec![empty; limits.states];
        }
        let ropes = model.ropes.iter().map(|r| (r.clone(), r.factors.choose(limits.context)));
        RefOps {
            weights: weights.collect(),
            cache,
            states,
            ropes: ropes.collect(),
            buffers: Vec::new(),
            batch: Batch::new(),
            routes: Routes::default(),
            probe: None,
        }
    }

    /// Calls `probe` at the start of every step: it may look at the batch, wait, or panic.
    pub fn with_probe(mut self, probe: impl FnMut(&Batch) + Send + 'static) -> Self {
        self.probe = Some(Box::new(probe));
        self
    }

    pub(crate) fn weight(&self, id: WeightId) -> &Rows {
        &self.weights[id.index()]
    }

    pub(crate) fn buf(&self, b: Buf) -> &Rows {
        &self.buffers[b.0 as usize]
    }

    /// Gives `dst` new contents: rows of `width`.
    pub(crate) fn write(&mut self, dst: Buf, width: usize, data: Vec<f32>) {
        let buffer = &mut self.buffers[dst.0 as usize];
        assert!(data.len() <= buffer.data.len(), "more rows or wider ones than were allocated");
        assert_eq!(data.len() % width, 0, "rows of another width");
        (buffer.width, buffer.rows) = (width, data.len() / width);
        buffer.data[..data.len()].copy_from_slice(&data);
    }

    /// What a buffer holds.
    pub(crate) fn held(&self, b: Buf) -> &[f32] {
        let buffer = self.buf(b);
        &buffer.data[..buffer.rows * buffer.width]
    }

    fn map(&mut self, x: Buf, f: impl Fn(usize, f32) -> f32) {
        let width = self.buf(x).width;
        let data = self.held(x).iter().enumerate().map(|(i, &x)| f(i % width, x)).collect();
        self.write(x, width, data);
    }

    /// `W_n x (+ b_n)`, n being a matrix of the stack.
    fn project(&self, x: &[f32], linear: &Linear, n: usize) -> Vec<f32> {
        let (w, bias) = (self.weight(linear.weight), linear.bias.map(|b| self.weight(b)));
        assert_eq!((w.width, x.len()), (linear.input as usize, linear.input as usize));
        let first = n * w.each + linear.first as usize;
        let rows = first..first + linear.output as usize;
        rows.map(|r| (dot(w.row(r), x) + bias.map_or(0.0, |b| f64::from(b.data[r]))) as f32)
            .collect()
    }

    /// Scores of one row, and which experts with which weights follow from them.
    fn choose(&self, scores: &[f32], moe: &Moe) -> Vec<(usize, f64)> {
        let r = &moe.routing;
        let logits: Vec<f64> = scores.iter().map(|&x| f64::from(x) * f64::from(r.temper)).collect();
        let scores: Vec<f64> = match r.score {
            Score::Softmax => softmax(&logits),
            Score::Sigmoid => logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
            Score::SoftmaxOfChosen => logits,
        };
        let bias = moe.choice_bias.map(|b| &self.weight(b).data);
        let wish = |e: usize| scores[e] + bias.map_or(0.0, |b| f64::from(b[e]));
        let each = scores.len() / r.groups as usize;
        let group_score = |g: usize| {
            let mut wishes: Vec<f64> = (g * each..(g + 1) * each).map(wish).collect();
            wishes.sort_by(|a, b| b.total_cmp(a));
            wishes.iter().take(if r.pair { 2 } else { 1 }).sum::<f64>()
        };
        let groups = best(r.groups as usize, r.used_groups as usize, group_score);
        let open = |e: usize| groups.contains(&(e / each));
        let wish = |e: usize| if open(e) { wish(e) } else { f64::NEG_INFINITY };
        let chosen = best(scores.len(), moe.used as usize, wish);
        let mut weights: Vec<f64> = chosen.iter().map(|&e| scores[e]).collect();
        if r.score == Score::SoftmaxOfChosen {
            weights = softmax(&weights);
        }
        let sum: f64 = if r.normalize { weights.iter().sum() } else { 1.0 };
        let own = moe.expert_scale.map(|s| &self.weight(s).data);
        let factor = |e: usize| f64::from(r.scale) * own.map_or(1.0, |s| f64::from(s[e])) / sum;
        chosen.iter().zip(weights).map(|(&e, w)| (e, w * factor(e))).collect()
    }
}

/// The `count` of `n` with the highest scores; among equals the first.
fn best(n: usize, count: usize, score: impl Fn(usize) -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
    order.truncate(count);
    order
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = x.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

impl Ops for RefOps {
    fn alloc(&mut self, rows: usize, width: usize) -> Buf {
        let data = vec![f32::NAN; rows * width];
        self.buffers.push(Rows { width: width.max(1), rows: 0, each: 0, data });
        Buf(self.buffers.len() as u32 - 1)
    }

    fn begin(&mut self, batch: &Batch) {
        self.batch = batch.clone();
        for span in batch.spans().iter().filter(|span| span.start == 0) {
            for slots in self.states.iter_mut().filter(|slots| !slots.is_empty()) {
                let state = &mut slots[span.state as usize];
                state.conv.fill(0.0);
                state.memory.fill(0.0);
            }
        }
        if let Some(probe) = &mut self.probe {
            probe(batch);
        }
    }

    fn copy_state(&mut self, from: u32, to: u32) {
        for slots in self.states.iter_mut().filter(|slots| !slots.is_empty()) {
            slots[to as usize] = slots[from as usize].clone();
        }
    }

    fn embed(&mut self, dst: Buf, table: WeightId, scale: f32) {
        let table = self.weight(table);
        let rows = self.batch.tokens().iter().flat_map(|&t| table.row(t as usize));
        let (width, data) = (table.width, rows.map(|x| x * scale).collect());
        self.write(dst, width, data);
    }

    fn embed_add(&mut self, dst: Buf, table: WeightId, index: Index) {
        let table = self.weight(table);
        let row = |r: usize| match index {
            Index::Position => self.batch.positions()[r] as usize,
            Index::First => 0,
        };
        let held = self.held(dst).iter().enumerate();
        let data = held.map(|(i, x)| x + table.row(row(i / table.width))[i % table.width]);
        let (width, data) = (table.width, data.collect());
        self.write(dst, width, data);
    }

    fn norm(&mut self, dst: Buf, src: Buf, norm: &Norm) {
        let gain = norm.weight.map(|w| &self.weight(w).data);
        let bias = norm.bias.map(|b| &self.weight(b).data);
        let mut data = self.held(src).to_vec();
        for (g, group) in data.chunks_mut(norm.width as usize).enumerate() {
            let n = group.len() as f64;
            let mean = match norm.kind {
                NormKind::Rms => 0.0,
                NormKind::Layer => group.iter().map(|&x| f64::from(x)).sum::<f64>() / n,
            };
            let square: f64 = group.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
            let scale = 1.0 / (square / n + f64::from(norm.eps)).sqrt();
            let at = |list: &Vec<f32>, i: usize| list[(g * norm.width as usize + i) % list.len()];
            for (i, x) in group.iter_mut().enumerate() {
                let y = ((f64::from(*x) - mean) * scale) as f32;
                *x = y * gain.map_or(1.0, |w| at(w, i)) + bias.map_or(0.0, |b| at(b, i));
            }
        }
        let width = self.buf(src).width;
        self.write(dst, width, data);
    }

    fn linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        let source = self.buf(src);
        let data = (0..source.rows).flat_map(|r| self.project(source.row(r), linear, 0)).collect();
        self.write(dst, linear.output as usize, data);
    }

    fn head_linear(&mut self, dst: Buf, src: Buf, linear: &Linear, heads: u32) {
        let parts = self.held(src).chunks(linear.input as usize).enumerate();
        let data = parts.flat_map(|(i, x)| self.project(x, linear, i % heads as usize)).collect();
        self.write(dst, (heads * linear.output) as usize, data);
    }

    fn rope(&mut self, x: Buf, head_dim: u32, first: u32, rope: usize) {
        let (rope, factors) = &self.ropes[rope];
        let factors = factors.map_or(Vec::new(), |id| self.weight(id).data.clone());
        let pairs = rope.dims as usize / 2;
        let (mut cos, mut sin) = (vec![0.0; pairs], vec![0.0; pairs]);
        let buffer = &mut self.buffers[x.0 as usize];
        for (row, &position) in self.batch.positions().iter().enumerate() {
            rope.angles(position, &factors, &mut cos, &mut sin);
            let row = &mut buffer.data[row * buffer.width..][..buffer.width];
            for head in row.chunks_mut(head_dim as usize) {
                let head = &mut head[first as usize..];
                for i in 0..pairs {
                    let (a, b) = match rope.pairs {
                        RopePairs::Adjacent => (2 * i, 2 * i + 1),
                        RopePairs::Halves => (i, i + pairs),
                    };
                    let (x, y) = (head[a], head[b]);
                    head[a] = x * cos[i] - y * sin[i];
                    head[b] = x * sin[i] + y * cos[i];
                }
            }
        }
    }

    fn store_kv(&mut self, layer: usize, k: Buf, v: Buf) {
        self.store(layer, k, v);
    }

    fn store_latent(&mut self, layer: usize, k: Buf) {
        self.store(layer, k, k);
    }

    fn attend(&mut self, dst: Buf, q: Buf, layer: usize, attend: &Attend) {
        let data = self.attended(q, layer, attend);
        self.write(dst, (attend.heads * attend.value_dim) as usize, data);
    }

    fn take(&mut self, dst: Buf, src: Buf, columns: Columns) {
        let Columns { group, first, len } = columns;
        let groups = self.held(src).chunks(group as usize);
        let data = groups.flat_map(|g| &g[first as usize..][..len as usize]).copied().collect();
        let width = self.buf(src).width / group as usize * len as usize;
        self.write(dst, width, data);
    }

    fn put(&mut self, dst: Buf, width: u32, src: Buf, columns: Columns) {
        let Columns { group, first, len } = columns;
        let parts: Vec<Vec<f32>> =
            self.held(src).chunks(len as usize).map(<[f32]>::to_vec).collect();
        let rows = self.buf(src).rows;
        let buffer = &mut self.buffers[dst.0 as usize];
        (buffer.width, buffer.rows) = (width as usize, rows);
        for (part, group) in parts.iter().zip(buffer.data.chunks_mut(group as usize)) {
            group[first as usize..][..len as usize].copy_from_slice(part);
        }
    }

    fn conv(&mut self, dst: Buf, src: Buf, layer: usize, conv: &Conv) {
        let data = self.convolved(src, layer, conv);
        self.write(dst, conv.channels as usize, data);
    }

    fn delta_net(
        &mut self,
        dst: Buf,
        qkv: Buf,
        alpha: Buf,
        beta: Buf,
        layer: usize,
        net: &DeltaNet,
    ) {
        let data = self.delta_ruled(qkv, alpha, beta, layer, net);
        self.write(dst, (net.v_heads * net.value_dim) as usize, data);
    }

    fn mamba2(&mut self, dst: Buf, xbc: Buf, dt: Buf, layer: usize, mamba: &Mamba2) {
        let data = self.scanned(xbc, dt, layer, mamba);
        self.write(dst, (mamba.heads * mamba.head_dim) as usize, data);
    }

    fn act(&mut self, x: Buf, act: Activation) {
        self.map(x, |_, x| activate(f64::from(x), act) as f32);
    }

    fn act_mul(&mut self, gate: Buf, up: Buf, act: Activation) {
        let pairs = self.held(gate).iter().zip(self.held(up));
        let data = pairs.map(|(&g, &u)| gated(f64::from(g), f64::from(u), act) as f32).collect();
        let width = self.buf(gate).width;
        self.write(gate, width, data);
    }

    fn add(&mut self, dst: Buf, src: Buf) {
        let data = self.held(dst).iter().zip(self.held(src)).map(|(a, b)| a + b).collect();
        let width = self.buf(dst).width;
        self.write(dst, width, data);
    }

    fn scale(&mut self, x: Buf, factor: f32) {
        self.map(x, |_, x| x * factor);
    }

    fn gain(&mut self, x: Buf, w: WeightId) {
        let w = self.weight(w).data.clone();
        self.map(x, |i, x| x * w[i % w.len()]);
    }

    fn gate_rows(&mut self, x: Buf, gate: Buf) {
        let gates: Vec<f64> =
            self.held(gate).iter().map(|&g| 1.0 / (1.0 + f64::from(-g).exp())).collect();
        let width = self.buf(x).width;
        let held = self.held(x).iter().enumerate();
        let data = held.map(|(i, &x)| (f64::from(x) * gates[i / width]) as f32).collect();
        self.write(x, width, data);
    }

    fn route(&mut self, scores: Buf, moe: &Moe) {
        let source = self.buf(scores);
        let chosen: Vec<_> = (0..source.rows).map(|r| self.choose(source.row(r), moe)).collect();
        let rows = chosen.iter().enumerate();
        let mut slots: Vec<(usize, usize)> =
            rows.flat_map(|(r, list)| list.iter().map(move |&(e, _)| (r, e))).collect();
        slots.sort_by_key(|&(r, e)| (e, r));
        self.routes = Routes { chosen, slots };
    }

    fn routed(&self) -> Vec<(usize, Range<usize>)> {
        let slots = &self.routes.slots;
        let runs = slots.chunk_by(|a, b| a.1 == b.1).scan(0, |at, run| {
            *at += run.len();
            Some((run[0].1, *at - run.len()..*at))
        });
        runs.collect()
    }

    fn dispatch(&mut self, dst: Buf, src: Buf) {
        let source = self.buf(src);
        let data = self.routes.slots.iter().flat_map(|&(r, _)| source.row(r)).copied().collect();
        let width = source.width;
        self.write(dst, width, data);
    }

    fn expert_linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        let source = self.buf(src);
        let slots = self.routes.slots.iter().enumerate();
        let data = slots.flat_map(|(i, &(_, e))| self.project(source.row(i), linear, e)).collect();
        self.write(dst, linear.output as usize, data);
    }

    fn combine(&mut self, dst: Buf, src: Buf) {
        let source = self.buf(src);
        let mut data = Vec::new();
        for (r, chosen) in self.routes.chosen.iter().enumerate() {
            let mut sums = vec![0.0; source.width];
            for &(e, weight) in chosen {
                let slot = self.routes.slots.iter().position(|&s| s == (r, e)).expect("its slot");
                let given = source.row(slot).iter();
                sums.iter_mut().zip(given).for_each(|(s, &x)| *s += weight * f64::from(x));
            }
            data.extend(sums.iter().map(|&s| s as f32));
        }
        let width = source.width;
        self.write(dst, width, data);
    }

    fn gather(&mut self, dst: Buf, src: Buf) {
        let source = self.buf(src);
        let outputs = self.batch.outputs().iter();
        let data = outputs.flat_map(|&r| source.row(r as usize)).copied().collect();
        let width = source.width;
        self.write(dst, width, data);
    }

    fn logits(&mut self, dst: Buf, src: Buf, first: usize, count: usize, head: &Linear) {
        let source = self.buf(src);
        assert!(first + count <= source.rows, "rows that the batch did not want");
        let rows = first..first + count;
        let data = rows.flat_map(|r| self.project(source.row(r), head, 0)).collect();
        self.write(dst, head.output as usize, data);
    }

    fn softcap(&mut self, x: Buf, cap: f32) {
        self.map(x, |_, x| (f64::from(x) / f64::from(cap)).tanh() as f32 * cap);
    }

    fn read(&mut self, x: Buf, rows: usize) -> Result<&[f32], OpsError> {
        let buffer = self.buf(x);
        assert!(rows <= buffer.rows, "rows that were not computed");
        Ok(&buffer.data[..rows * buffer.width])
    }
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

pub(crate) fn activate(x: f64, act: Activation) -> f64 {
    match act {
        Activation::Identity => x,
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
        Activation::SwigluOai => {
            let x = x.min(7.0);
            x / (1.0 + (-1.702 * x).exp())
        }
    }
}

fn gated(g: f64, u: f64, act: Activation) -> f64 {
    let u = if act == Activation::SwigluOai { u.clamp(-7.0, 7.0) + 1.0 } else { u };
    activate(g, act) * u
}

/// The error function by its Maclaurin series, or by the continued fraction of its complement for large arguments.
fn erf(x: f64) -> f64 {
    if x.abs() > 3.0 {
        let z = x * x;
        let fraction = (1..60).rev().fold(0.0, |f, k| f64::from(k) / 2.0 / (x.abs() + f));
        let rest = (-z).exp() / ((x.abs() + fraction) * std::f64::consts::PI.sqrt());
        return x.signum() * (1.0 - rest);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..80 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[cfg(test)]
mod tests {
    use super::erf;

    /// Abramowitz and Stegun, table 7.1.
    #[test]
    fn erf_is_the_error_function() {
        let known = [(0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)];
        for (x, y) in known {
            assert!((erf(x) - y).abs() < 1e-9 && (erf(-x) + y).abs() < 1e-9);
        }
        assert!((erf(2.9999) - erf(3.0001)).abs() < 1e-7);
    }
}
