//! What recurrent layers remember, slot by slot, and the three operations that move along a sequence with it. Rows of a
//! sequence are taken one after another, channels or heads side by side: so a row's bits do not depend on how its
//! sequence was cut into steps. Deliberately absent: forms that take many rows at once.
#![allow(unsafe_op_in_unsafe_fn)]

use hob_model::{CacheLayout, Conv, DeltaGates, DeltaNet, Limits, Mamba2, Mixer, Model, Span};

use crate::device::{CpuOps, Held, SERIAL, View, vector};
use crate::isa::{Floats, IsaKind};
use crate::pool::Pool;
use crate::rows::{self, dispatch};
use crate::{CpuError, zeroed};

/// Channels of a unit of work of the convolution.
const CHANNELS: usize = 256;
/// transformers' epsilon on the squared length of queries and keys.
const UNIT_EPS: f32 = 1e-6;

/// Memory of one layer, all slots.
#[derive(Default)]
struct Memory {
    /// `[slot][kernel - 1][channels]`, oldest first.
    conv: Vec<f32>,
    conv_len: usize,
    /// Taps `[kernel][channels]`.
    taps: Vec<f32>,
    memory: Vec<f32>,
    memory_len: usize,
}

/// Memories of all layers.
#[derive(Default)]
pub(crate) struct States {
    layers: Vec<Memory>,
    slots: usize,
}

impl States {
    pub(crate) fn new(
        model: &Model,
        layout: &CacheLayout,
        held: &[Held],
        limits: &Limits,
    ) -> Result<Self, CpuError> {
        let mut layers: Vec<Memory> = Vec::new();
        layers.resize_with(model.blocks.len(), Memory::default);
        for s in &layout.states {
            let too_large = CpuError::TooLarge;
            let [conv, memory] = [s.conv, s.memory].map(|len| len.checked_mul(limits.states));
            layers[s.layer] = Memory {
                conv: zeroed(conv.ok_or(too_large)?)?,
                conv_len: s.conv,
                taps: conv_of(&model.blocks[s.layer].mixer).map_or(Vec::new(), |c| taps(held, c)),
                memory: zeroed(memory.ok_or(CpuError::TooLarge)?)?,
                memory_len: s.memory,
            };
        }
        Ok(States { layers, slots: limits.states })
    }

    /// Forgets a sequence.
    pub(crate) fn clear(&mut self, slot: usize) {
        for m in self.layers.iter_mut().filter(|m| !m.conv.is_empty()) {
            m.conv[slot * m.conv_len..(slot + 1) * m.conv_len].fill(0.0);
            m.memory[slot * m.memory_len..(slot + 1) * m.memory_len].fill(0.0);
        }
    }

    /// Copies what one slot remembers to another.
    pub(crate) fn copy(&mut self, from: usize, to: usize) {
        assert!(from < self.slots && to < self.slots, "a state slot that is not there");
        for m in self.layers.iter_mut().filter(|m| !m.conv.is_empty()) {
            m.conv.copy_within(from * m.conv_len..(from + 1) * m.conv_len, to * m.conv_len);
            m.memory.copy_within(from * m.memory_len..(from + 1) * m.memory_len, to * m.memory_len);
        }
    }
}

fn conv_of(mixer: &Mixer) -> Option<&Conv> {
    match mixer {
        Mixer::DeltaNet(net) => Some(&net.conv),
        Mixer::Mamba2(mamba) => Some(&mamba.conv),
        Mixer::ShortConv(short) => Some(&short.conv),
        Mixer::Gqa(_) | Mixer::Gated(_) | Mixer::Mla(_) => None,
    }
}

/// Weights of a convolution, tap by tap.
fn taps(held: &[Held], conv: &Conv) -> Vec<f32> {
    let (w, kernel) = (vector(held, conv.weight), conv.kernel as usize);
    let tap = |k: usize| w.iter().skip(k).step_by(kernel).copied();
    (0..kernel).flat_map(tap).collect()
}

/// A raw pointer that units of a region share; each touches its own part.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: units touch disjoint parts.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(self, index: usize) -> *mut f32 {
        self.0.wrapping_add(index)
    }
}

/// Runs `f(span, part)` for every span and every of `parts` parts of its state; `work` is that of a row.
fn along(
    pool: &mut Pool,
    spans: &[Span],
    parts: usize,
    work: usize,
    f: &(dyn Fn(&Span, usize) + Sync),
) {
    let (total, rows) = (spans.len() * parts, spans.last().map_or(0, |span| span.rows.end));
    if work * rows < SERIAL {
        return (0..total).for_each(|i| f(&spans[i / parts], i % parts));
    }
    pool.run(total, &|_, i| f(&spans[i / parts], i % parts));
}

impl CpuOps {
    pub(crate) fn convolve(&mut self, dst: View, src: View, layer: usize, conv: &Conv) {
        let (channels, kernel) = (conv.channels as usize, conv.kernel as usize);
        let memory = &mut self.states.layers[layer];
        let (state, len) = (Shared(memory.conv.as_mut_ptr()), memory.conv_len);
        let taps = &memory.taps[..];
        let bias = conv.bias.map_or(&[][..], |id| vector(&self.held, id));
        let isa = self.isa;
        let run = |span: &Span, part: usize| {
            let first = part * CHANNELS;
            let count = CHANNELS.min(channels - first);
            let past = state.at(span.state as usize * len + first);
            for row in span.rows.clone() {
                // SAFETY: these channels of this sequence belong to this unit.
                unsafe {
                    let (x, y) = (src.row(row).add(first), dst.row(row).add(first));
                    let taps = taps.as_ptr().add(first);
                    let bias = bias.get(first..).unwrap_or(&[]);
                    convolve_row(isa, y, x, past, taps, (kernel, channels, count), bias);
                    rows::act(isa, y, count, conv.act);
                }
            }
        };
        let parts = channels.div_ceil(CHANNELS);
        along(&mut self.pool, self.batch.spans(), parts, channels * kernel, &run);
    }

    pub(crate) fn delta_rule(
        &mut self,
        dst: View,
        qkv: View,
        alpha: View,
        beta: View,
        layer: usize,
        net: &DeltaNet,
    ) {
        let memory = &mut self.states.layers[layer];
        let (state, len) = (Shared(memory.memory.as_mut_ptr()), memory.memory_len);
        let (kd, vd) = (net.key_dim as usize, net.value_dim as usize);
        let (k_heads, v_heads) = (net.k_heads as usize, net.v_heads as usize);
        let [dt, a] = [net.dt, net.a].map(|id| vector(&self.held, id));
        let isa = self.isa;
        let run = |span: &Span, h: usize| {
            let head = match net.gates {
                DeltaGates::Apart { .. } => h % k_heads,
                DeltaGates::Mixed(_) => h / (v_heads / k_heads),
            };
            let s = state.at(span.state as usize * len + h * kd * vd);
            for row in span.rows.clone() {
                // SAFETY: this head of this sequence belongs to this unit.
                unsafe {
                    let x = qkv.row(row);
                    let q = x.add(head * kd);
                    let k = x.add((k_heads + head) * kd);
                    let v = x.add(2 * k_heads * kd + h * vd);
                    let decay = a[h] * rows::softplus(alpha.slice(row)[h] + dt[h]);
                    let step = rows::sigmoid(beta.slice(row)[h]);
                    let y = dst.row(row).add(h * vd);
                    delta_row(isa, y, s, [q, k, v], (kd, vd), decay.exp(), step);
                }
            }
        };
        along(&mut self.pool, self.batch.spans(), v_heads, 2 * kd * vd * v_heads, &run);
    }

    pub(crate) fn scan(&mut self, dst: View, xbc: View, dt: View, layer: usize, m: &Mamba2) {
        let memory = &mut self.states.layers[layer];
        let (state, len) = (Shared(memory.memory.as_mut_ptr()), memory.memory_len);
        let (dim, n, heads) = (m.head_dim as usize, m.state as usize, m.heads as usize);
        let (inner, groups) = (heads * dim, m.groups as usize);
        let [bias, a, d] = [m.dt_bias, m.a, m.d].map(|id| vector(&self.held, id));
        let isa = self.isa;
        let run = |span: &Span, h: usize| {
            let group = h / (heads / groups);
            let s = state.at(span.state as usize * len + h * dim * n);
            for row in span.rows.clone() {
                // SAFETY: this head of this sequence belongs to this unit.
                unsafe {
                    let x = xbc.row(row);
                    let b = x.add(inner + group * n);
                    let c = b.add(groups * n);
                    let dt = rows::softplus(dt.slice(row)[h] + bias[h]);
                    let decay = (dt * a[h]).exp();
                    let y = dst.row(row).add(h * dim);
                    let x = x.add(h * dim);
                    scan_row(isa, y, s, [x, b, c], (dim, n), decay, dt, d[h]);
                }
            }
        };
        along(&mut self.pool, self.batch.spans(), heads, 2 * dim * n * heads, &run);
    }
}

/// One row of a convolution over `count` channels of `channels`, and the state moves on by it.
unsafe fn convolve_row(
    isa: IsaKind,
    y: *mut f32,
    x: *const f32,
    past: *mut f32,
    taps: *const f32,
    (kernel, channels, count): (usize, usize, usize),
    bias: &[f32],
) {
    let y = std::slice::from_raw_parts_mut(y, count);
    let x = std::slice::from_raw_parts(x, count);
    match bias.get(..count) {
        Some(bias) => y.copy_from_slice(bias),
        None => y.fill(0.0),
    }
    for k in 0..kernel {
        let input = match k + 1 < kernel {
            true => past.add(k * channels).cast_const(),
            false => x.as_ptr(),
        };
        rows::add_scaled(isa, y.as_mut_ptr(), input, taps.add(k * channels), count);
    }
    for k in 1..kernel - 1 {
        std::ptr::copy_nonoverlapping(past.add(k * channels), past.add((k - 1) * channels), count);
    }
    std::ptr::copy_nonoverlapping(x.as_ptr(), past.add((kernel - 2) * channels), count);
}

/// One row of one head of a delta net. Lanes are elements of the value; sums run over the key in order.
unsafe fn delta_row(
    isa: IsaKind,
    y: *mut f32,
    s: *mut f32,
    [q, k, v]: [*const f32; 3],
    (kd, vd): (usize, usize),
    decay: f32,
    step: f32,
) {
    let isa = if vd.is_multiple_of(16) { isa } else { IsaKind::Scalar };
    let [q, k] = [q, k].map(|p| std::slice::from_raw_parts(p, kd));
    let [q_scale, k_scale] = [q, k].map(|x| {
        let square = x.iter().fold(0.0f32, |sum, x| x.mul_add(*x, sum));
        1.0 / (square + UNIT_EPS).sqrt()
    });
    let q_scale = q_scale / (kd as f32).sqrt();
    dispatch!(isa, |isa| delta_columns(isa, y, s, (q, k, v), vd, [q_scale, k_scale, decay, step]))
}

#[inline(always)]
unsafe fn delta_columns<I: Floats>(
    isa: I,
    y: *mut f32,
    s: *mut f32,
    (q, k, v): (&[f32], &[f32], *const f32),
    vd: usize,
    [q_scale, k_scale, decay, step]: [f32; 4],
) {
    for col in (0..vd).step_by(I::LANES) {
        let mut known = isa.fsplat(0.0);
        for (i, k) in k.iter().enumerate() {
            let p = s.add(i * vd + col);
            let faded = isa.fmul(isa.fload(p), isa.fsplat(decay));
            isa.fstore(p, faded);
            known = isa.fma(isa.fsplat(k * k_scale), faded, known);
        }
        let wanted = isa.fload(v.add(col));
        let change = isa.fmul(isa.fnma(known, isa.fsplat(1.0), wanted), isa.fsplat(step));
        let mut sum = isa.fsplat(0.0);
        for (i, (q, k)) in q.iter().zip(k).enumerate() {
            let p = s.add(i * vd + col);
            let new = isa.fma(isa.fsplat(k * k_scale), change, isa.fload(p));
            isa.fstore(p, new);
            sum = isa.fma(isa.fsplat(q * q_scale), new, sum);
        }
        isa.fstore(y.add(col), sum);
    }
}

/// One row of one head of a state space. Lanes are elements of the state; they are summed once per element of the head.
#[allow(clippy::too_many_arguments, reason = "one row's numbers; a struct would only rename them")]
unsafe fn scan_row(
    isa: IsaKind,
    y: *mut f32,
    s: *mut f32,
    [x, b, c]: [*const f32; 3],
    (dim, n): (usize, usize),
    decay: f32,
    dt: f32,
    d: f32,
) {
    let isa = if n.is_multiple_of(16) { isa } else { IsaKind::Scalar };
    dispatch!(isa, |isa| scan_elements(isa, y, s, [x, b, c], (dim, n), [decay, dt, d]))
}

#[inline(always)]
unsafe fn scan_elements<I: Floats>(
    isa: I,
    y: *mut f32,
    s: *mut f32,
    [x, b, c]: [*const f32; 3],
    (dim, n): (usize, usize),
    [decay, dt, d]: [f32; 3],
) {
    for p in 0..dim {
        let x = *x.add(p);
        let (decays, input) = (isa.fsplat(decay), isa.fsplat(dt * x));
        let mut sum = isa.fsplat(0.0);
        for i in (0..n).step_by(I::LANES) {
            let at = s.add(p * n + i);
            let new = isa.fma(input, isa.fload(b.add(i)), isa.fmul(isa.fload(at), decays));
            isa.fstore(at, new);
            sum = isa.fma(new, isa.fload(c.add(i)), sum);
        }
        *y.add(p) = isa.fsum(sum) + x * d;
    }
}
