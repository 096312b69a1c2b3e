//! What moves along sequences, for the reference device: attention over cached positions, convolution, and the two
//! recurrences, token by token. The formulas are those of `hob_model`'s description, in f64.

use hob_model::{Attend, Batch, Buf, Conv, DeltaGates, DeltaNet, Mamba2, PAGE, Sight};

use crate::refops::{RefOps, activate, dot};

/// Index of a position's first element in a layer's cache.
fn slot(pages: &[u32], position: usize, width: usize) -> usize {
    (pages[position / PAGE] as usize * PAGE + position % PAGE) * width
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

impl RefOps {
    /// The rows of the batch with the slot of their sequence's state.
    fn placed(batch: &Batch) -> Vec<(usize, usize)> {
        let spans = batch.spans().iter();
        spans.flat_map(|s| s.rows.clone().map(|row| (row, s.state as usize))).collect()
    }

    pub(crate) fn store(&mut self, layer: usize, k: Buf, v: Buf) {
        let (k, v) = (&self.buffers[k.0 as usize], &self.buffers[v.0 as usize]);
        let cache = &mut self.cache[layer];
        for span in self.batch.spans() {
            let pages = self.batch.pages(span, cache.group);
            for row in span.rows.clone() {
                let at = slot(pages, self.batch.positions()[row] as usize, cache.width);
                cache.k[at..][..cache.width].copy_from_slice(k.row(row));
                cache.v[at..][..cache.width].copy_from_slice(v.row(row));
            }
        }
    }

    pub(crate) fn attended(&self, q: Buf, layer: usize, a: &Attend) -> Vec<f32> {
        let q = self.buf(q);
        let mut data = Vec::new();
        for span in self.batch.spans() {
            let pages = self.batch.pages(span, self.cache[layer].group);
            let last = span.start as usize + span.rows.len() - 1;
            for row in span.rows.clone() {
                let position = self.batch.positions()[row] as usize;
                let seen = match a.sight {
                    Sight::Past => 0..position + 1,
                    Sight::Window(w) => (position + 1).saturating_sub(w as usize)..position + 1,
                    Sight::All => 0..last + 1,
                };
                data.extend(self.attend_row(q.row(row), pages, position, seen, layer, a));
            }
        }
        data
    }

    fn attend_row(
        &self,
        q: &[f32],
        pages: &[u32],
        position: usize,
        seen: std::ops::Range<usize>,
        layer: usize,
        a: &Attend,
    ) -> Vec<f32> {
        let (cache, dim) = (&self.cache[layer], a.key_dim as usize);
        let temper = a.temper.map_or(1.0, |t| {
            1.0 + f64::from(t.beta) * (1.0 + f64::from(position as u32 / t.original)).ln()
        });
        let mut out = Vec::new();
        for head in 0..a.heads as usize {
            let kv_head = head / (a.heads / a.kv_heads) as usize;
            let at = |p: usize| slot(pages, p, cache.width) + kv_head * dim;
            let q = &q[head * dim..][..dim];
            let score = |p: usize| {
                let score = dot(q, &cache.k[at(p)..][..dim]) * f64::from(a.scale) * temper;
                a.softcap.map_or(score, |c| (score / f64::from(c)).tanh() * f64::from(c))
            };
            let scores: Vec<f64> = seen.clone().map(score).collect();
            let sink = a.sinks.map(|s| f64::from(self.weight(s).data[head]));
            let most = scores.iter().copied().chain(sink).fold(f64::NEG_INFINITY, f64::max);
            let mut sum = sink.map_or(0.0, |s| (s - most).exp());
            let mut mixed = vec![0.0; a.value_dim as usize];
            for (p, score) in seen.clone().zip(&scores) {
                let weight = (score - most).exp();
                sum += weight;
                for (m, &v) in mixed.iter_mut().zip(&cache.v[at(p)..][..a.value_dim as usize]) {
                    *m += weight * f64::from(v);
                }
            }
            out.extend(mixed.iter().map(|m| (m / sum) as f32));
        }
        out
    }

    pub(crate) fn convolved(&mut self, src: Buf, layer: usize, conv: &Conv) -> Vec<f32> {
        let (kernel, channels) = (conv.kernel as usize, conv.channels as usize);
        let mut data = Vec::new();
        for (row, slot) in Self::placed(&self.batch) {
            let x = self.buf(src).row(row).to_vec();
            let w = &self.weights[conv.weight.index()].data;
            let bias = conv.bias.map(|b| &self.weights[b.index()].data);
            // The state holds the last inputs, oldest first.
            let state = &mut self.states[layer][slot].conv;
            state.extend(&x);
            data.extend((0..channels).map(|c| {
                let taps = (0..kernel)
                    .map(|k| f64::from(w[c * kernel + k]) * f64::from(state[k * channels + c]));
                let sum = taps.sum::<f64>() + bias.map_or(0.0, |b| f64::from(b[c]));
                activate(sum, conv.act) as f32
            }));
            state.drain(..channels);
        }
        data
    }

    pub(crate) fn delta_ruled(
        &mut self,
        qkv: Buf,
        alpha: Buf,
        beta: Buf,
        layer: usize,
        net: &DeltaNet,
    ) -> Vec<f32> {
        let (kd, vd) = (net.key_dim as usize, net.value_dim as usize);
        let keys = net.k_heads as usize * kd;
        let [dt, a] = [net.dt, net.a].map(|id| self.weights[id.index()].data.clone());
        let mut data = Vec::new();
        for (row, slot) in Self::placed(&self.batch) {
            let x = self.buf(qkv).row(row).to_vec();
            let (alpha, beta) =
                (self.buf(alpha).row(row).to_vec(), self.buf(beta).row(row).to_vec());
            let memory = &mut self.states[layer][slot].memory;
            for h in 0..net.v_heads as usize {
                let head = match net.gates {
                    DeltaGates::Apart { .. } => h % net.k_heads as usize,
                    DeltaGates::Mixed(_) => h / (net.v_heads / net.k_heads) as usize,
                };
                let q = unit(&x[head * kd..][..kd]);
                let k = unit(&x[keys + head * kd..][..kd]);
                let v = &x[2 * keys + h * vd..][..vd];
                let g = f64::from(a[h]) * softplus(f64::from(alpha[h]) + f64::from(dt[h]));
                let step = 1.0 / (1.0 + f64::from(-beta[h]).exp());
                let s = &mut memory[h * kd * vd..][..kd * vd];
                s.iter_mut().for_each(|s| *s *= g.exp());
                for j in 0..vd {
                    let known: f64 = (0..kd).map(|i| k[i] * s[i * vd + j]).sum();
                    let change = step * (f64::from(v[j]) - known);
                    (0..kd).for_each(|i| s[i * vd + j] += k[i] * change);
                    let y: f64 = (0..kd).map(|i| q[i] * s[i * vd + j]).sum();
                    data.push((y / (kd as f64).sqrt()) as f32);
                }
            }
        }
        data
    }

    pub(crate) fn scanned(&mut self, xbc: Buf, dt: Buf, layer: usize, m: &Mamba2) -> Vec<f32> {
        let (dim, n) = (m.head_dim as usize, m.state as usize);
        let (inner, group) = (m.heads as usize * dim, (m.heads / m.groups) as usize);
        let [bias, a, d] = [m.dt_bias, m.a, m.d].map(|id| self.weights[id.index()].data.clone());
        let mut data = Vec::new();
        for (row, slot) in Self::placed(&self.batch) {
            let x = self.buf(xbc).row(row).to_vec();
            let dts = self.buf(dt).row(row).to_vec();
            let memory = &mut self.states[layer][slot].memory;
            for h in 0..m.heads as usize {
                let dt = softplus(f64::from(dts[h]) + f64::from(bias[h]));
                let decay = (dt * f64::from(a[h])).exp();
                let b = &x[inner + h / group * n..][..n];
                let c = &x[inner + m.groups as usize * n + h / group * n..][..n];
                for p in 0..dim {
                    let x = f64::from(x[h * dim + p]);
                    let s = &mut memory[(h * dim + p) * n..][..n];
                    let mut y = x * f64::from(d[h]);
                    for i in 0..n {
                        s[i] = s[i] * decay + dt * x * f64::from(b[i]);
                        y += s[i] * f64::from(c[i]);
                    }
                    data.push(y as f32);
                }
            }
        }
        data
    }
}

/// A vector of length 1; the epsilon is transformers'.
fn unit(x: &[f32]) -> Vec<f64> {
    let scale = 1.0 / (dot(x, x) + 1e-6).sqrt();
    x.iter().map(|&x| f64::from(x) * scale).collect()
}
