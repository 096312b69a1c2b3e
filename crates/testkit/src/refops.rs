//! The oracle: `Ops` in the plainest loops there are, weights decoded to f32, every sum sequential in f64, the
//! cache in f32. Unwritten cache positions hold NaN, so that reading one shows. No fused operation is overridden.

use hob_gguf::Gguf;
use hob_model::{
    Activation, Batch, Bound, Buf, Gqa, Limits, Linear, Mixer, Model, Norm, Ops, OpsError, PAGE,
    Rope, RopePairs, WeightId,
};
use hob_quant::decode_row;

struct Rows {
    width: usize,
    rows: usize,
    data: Vec<f32>,
}

impl Rows {
    fn row(&self, r: usize) -> &[f32] {
        &self.data[r * self.width..][..self.width]
    }
}

#[derive(Clone, Default)]
struct Cache {
    width: usize,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// A device for tests: naive, exact to f32 rounding of each operation's result, the same for every row
/// whatever runs beside it.
pub struct RefOps {
    weights: Vec<Rows>,
    ropes: Vec<Rope>,
    buffers: Vec<Rows>,
    cache: Vec<Cache>,
    batch: Batch,
    probe: Option<Probe>,
}

type Probe = Box<dyn FnMut(&Batch) + Send>;

impl RefOps {
    /// Decodes all weights of `model`, and makes a cache of `limits.pages` pages.
    ///
    /// # Panics
    /// When the file does not hold what `bound` says.
    pub fn load(model: &Model, gguf: &Gguf, bound: &Bound, limits: &Limits) -> Self {
        let weights = bound.tensors.iter().map(|&index| {
            let info = &gguf.tensors()[index];
            let mut data = vec![0.0; info.elements() as usize];
            decode_row(info.ty, gguf.tensor_bytes(info), &mut data).expect("decodable tensor");
            Rows { width: info.row_len() as usize, rows: info.rows() as usize, data }
        });
        let cache = model.blocks.iter().map(|block| match &block.mixer {
            Mixer::Gqa(g) => {
                let width = (g.kv_heads * g.head_dim) as usize;
                let empty = vec![f32::NAN; limits.pages * PAGE * width];
                Cache { width, k: empty.clone(), v: empty }
            }
            Mixer::Mla(_) => Cache::default(),
        });
        RefOps {
            weights: weights.collect(),
            cache: cache.collect(),
            ropes: model.ropes.clone(),
            buffers: Vec::new(),
            batch: Batch::new(),
            probe: None,
        }
    }

    /// Calls `probe` at the start of every step: it may look at the batch, wait, or panic.
    pub fn with_probe(mut self, probe: impl FnMut(&Batch) + Send + 'static) -> Self {
        self.probe = Some(Box::new(probe));
        self
    }

    fn weight(&self, id: WeightId) -> &Rows {
        &self.weights[id.index()]
    }

    fn buf(&self, b: Buf) -> &Rows {
        &self.buffers[b.0 as usize]
    }

    /// Replaces the first rows of `dst` by what `f` makes of its old contents' handle.
    fn write(&mut self, dst: Buf, data: Vec<f32>) {
        let buffer = &mut self.buffers[dst.0 as usize];
        assert!(data.len() <= buffer.data.len(), "more rows than the limits allow");
        assert_eq!(data.len() % buffer.width, 0, "rows of another width");
        buffer.rows = data.len() / buffer.width;
        buffer.data[..data.len()].copy_from_slice(&data);
    }

    fn project<'a>(&self, rows: impl Iterator<Item = &'a [f32]>, linear: &Linear) -> Vec<f32> {
        let (w, bias) = (self.weight(linear.weight), linear.bias.map(|b| self.weight(b)));
        let mut out = Vec::new();
        for x in rows {
            out.extend(
                (0..w.rows).map(|r| {
                    (dot(w.row(r), x) + bias.map_or(0.0, |b| f64::from(b.data[r]))) as f32
                }),
            );
        }
        out
    }

    /// Index of a position's first element in a layer's cache.
    fn slot(pages: &[u32], position: usize, width: usize) -> usize {
        (pages[position / PAGE] as usize * PAGE + position % PAGE) * width
    }

    fn attend_row(
        &self,
        q: &[f32],
        pages: &[u32],
        position: usize,
        layer: usize,
        g: &Gqa,
    ) -> Vec<f32> {
        let (cache, dim) = (&self.cache[layer], g.head_dim as usize);
        let mut out = Vec::new();
        for head in 0..g.heads as usize {
            let kv_head = head / (g.heads / g.kv_heads) as usize;
            let at = |p: usize| Self::slot(pages, p, cache.width) + kv_head * dim;
            let q = &q[head * dim..][..dim];
            let first = g.window.map_or(0, |window| (position + 1).saturating_sub(window as usize));
            let scores: Vec<f64> = (first..=position)
                .map(|p| dot(q, &cache.k[at(p)..][..dim]) * f64::from(g.scale))
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (mut sum, mut mixed) = (0.0, vec![0.0; dim]);
            for (p, score) in (first..).zip(&scores) {
                let weight = (score - max).exp();
                sum += weight;
                for (m, &v) in mixed.iter_mut().zip(&cache.v[at(p)..][..dim]) {
                    *m += weight * f64::from(v);
                }
            }
            out.extend(mixed.iter().map(|m| (m / sum) as f32));
        }
        out
    }
}

impl Ops for RefOps {
    fn alloc(&mut self, rows: usize, width: usize) -> Buf {
        self.buffers.push(Rows { width, rows: 0, data: vec![f32::NAN; rows * width] });
        Buf(self.buffers.len() as u32 - 1)
    }

    fn begin(&mut self, batch: &Batch) {
        self.batch = batch.clone();
        if let Some(probe) = &mut self.probe {
            probe(batch);
        }
    }

    fn embed(&mut self, dst: Buf, table: WeightId, scale: f32) {
        let table = self.weight(table);
        let rows = self.batch.tokens().iter().flat_map(|&t| table.row(t as usize));
        let data = rows.map(|x| x * scale).collect();
        self.write(dst, data);
    }

    fn rms_norm(&mut self, dst: Buf, src: Buf, norm: &Norm) {
        let (source, gain) = (self.buf(src), &self.weight(norm.weight).data);
        let mut data = source.data[..source.rows * source.width].to_vec();
        for group in data.chunks_mut(norm.width as usize) {
            let mean = dot(group, group) / group.len() as f64;
            let scale = 1.0 / (mean + f64::from(norm.eps)).sqrt();
            group.iter_mut().zip(gain).for_each(|(x, &g)| *x = (f64::from(*x) * scale) as f32 * g);
        }
        self.write(dst, data);
    }

    fn linear(&mut self, dst: Buf, src: Buf, linear: &Linear) {
        let source = self.buf(src);
        let data = self.project((0..source.rows).map(|r| source.row(r)), linear);
        self.write(dst, data);
    }

    fn rope(&mut self, x: Buf, head_dim: u32, rope: usize) {
        let rope = &self.ropes[rope];
        let factors = rope.factors.map_or(Vec::new(), |id| self.weight(id).data.clone());
        let pairs = rope.dims as usize / 2;
        let (mut cos, mut sin) = (vec![0.0; pairs], vec![0.0; pairs]);
        let buffer = &mut self.buffers[x.0 as usize];
        for (row, &position) in self.batch.positions().iter().enumerate() {
            rope.angles(position, &factors, &mut cos, &mut sin);
            let row = &mut buffer.data[row * buffer.width..][..buffer.width];
            for head in row.chunks_mut(head_dim as usize) {
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
        let (k, v) = (&self.buffers[k.0 as usize], &self.buffers[v.0 as usize]);
        let cache = &mut self.cache[layer];
        for span in self.batch.spans() {
            let pages = self.batch.pages(span);
            for row in span.rows.clone() {
                let at = Self::slot(pages, self.batch.positions()[row] as usize, cache.width);
                cache.k[at..][..cache.width].copy_from_slice(k.row(row));
                cache.v[at..][..cache.width].copy_from_slice(v.row(row));
            }
        }
    }

    fn attend(&mut self, dst: Buf, q: Buf, layer: usize, gqa: &Gqa) {
        let q = self.buf(q);
        let mut data = Vec::new();
        for span in self.batch.spans() {
            let pages = self.batch.pages(span);
            for row in span.rows.clone() {
                let position = self.batch.positions()[row] as usize;
                data.extend(self.attend_row(q.row(row), pages, position, layer, gqa));
            }
        }
        self.write(dst, data);
    }

    fn act_mul(&mut self, gate: Buf, up: Buf, act: Activation) {
        let (g, u) = (self.buf(gate), self.buf(up));
        let pairs = g.data[..g.rows * g.width].iter().zip(&u.data);
        let data =
            pairs.map(|(&g, &u)| (activate(f64::from(g), act) * f64::from(u)) as f32).collect();
        self.write(gate, data);
    }

    fn add(&mut self, dst: Buf, src: Buf) {
        let (d, s) = (self.buf(dst), self.buf(src));
        let data = d.data[..s.rows * s.width].iter().zip(&s.data).map(|(a, b)| a + b).collect();
        self.write(dst, data);
    }

    fn gather(&mut self, dst: Buf, src: Buf) {
        let source = self.buf(src);
        let data =
            self.batch.outputs().iter().flat_map(|&r| source.row(r as usize)).copied().collect();
        self.write(dst, data);
    }

    fn logits(&mut self, dst: Buf, src: Buf, first: usize, count: usize, head: &Linear) {
        let source = self.buf(src);
        assert!(first + count <= source.rows, "rows that the batch did not want");
        let data = self.project((first..first + count).map(|r| source.row(r)), head);
        self.write(dst, data);
    }

    fn softcap(&mut self, x: Buf, count: usize, cap: f32) {
        let buffer = &mut self.buffers[x.0 as usize];
        let values = buffer.data[..count * buffer.width].iter_mut();
        values.for_each(|x| *x = (f64::from(*x) / f64::from(cap)).tanh() as f32 * cap);
    }

    fn read(&mut self, x: Buf, rows: usize) -> Result<&[f32], OpsError> {
        let buffer = self.buf(x);
        assert!(rows <= buffer.rows, "rows that were not computed");
        Ok(&buffer.data[..rows * buffer.width])
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn activate(x: f64, act: Activation) -> f64 {
    match act {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}
