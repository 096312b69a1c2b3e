//! How much memory a model needs besides its file: one function that backends allocate by and the planner reads,
//! so that prediction and fact cannot part. No memory is touched here; page bookkeeping lives in `engine`.

use crate::forward::widths;
use crate::{Mixer, Model};

/// Positions per KV page.
pub const PAGE: usize = 64;

/// Element type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum KvType {
    /// Single precision: exact, for comparisons.
    F32,
    /// Half precision.
    #[default]
    F16,
    /// Signed bytes, one half-precision scale per 32 elements of a head.
    Q8_0,
}

impl KvType {
    /// Bytes of `elements` cached values of one head row (a multiple of 32 for Q8_0).
    pub fn bytes(self, elements: u64) -> u64 {
        match self {
            KvType::F32 => elements * 4,
            KvType::F16 => elements * 2,
            KvType::Q8_0 => elements.div_ceil(32) * 34,
        }
    }
}

/// What a layer keeps per position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheKind {
    /// Keys and values of every position.
    Full,
    /// Keys and values of the last positions only.
    Window(u32),
    /// One latent vector per position.
    Latent,
}

/// Layers that cache alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheGroup {
    /// What is kept.
    pub kind: CacheKind,
    /// Layers of the group.
    pub layers: Vec<usize>,
    /// Per layer of the group: rows (heads) kept per position and their width; keys and values apart.
    pub rows: Vec<(u32, u32)>,
}

/// The cache of a model, one group per kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Groups in order of first use.
    pub groups: Vec<CacheGroup>,
}

impl CacheLayout {
    /// Reads the layout off a model.
    pub fn of(model: &Model) -> Self {
        let mut groups: Vec<CacheGroup> = Vec::new();
        for (layer, block) in model.blocks.iter().enumerate() {
            let (kind, rows) = match &block.mixer {
                Mixer::Gqa(g) => {
                    let kind = g.window.map_or(CacheKind::Full, CacheKind::Window);
                    (kind, (2 * g.kv_heads, g.head_dim))
                }
                Mixer::Mla(m) => (CacheKind::Latent, (1, m.kv_rank + m.rope_dim)),
            };
            match groups.iter_mut().find(|g| g.kind == kind) {
                Some(group) => {
                    group.layers.push(layer);
                    group.rows.push(rows);
                }
                None => groups.push(CacheGroup { kind, layers: vec![layer], rows: vec![rows] }),
            }
        }
        CacheLayout { groups }
    }

    /// Cached elements per position, windows counted as if they kept everything.
    pub fn elements_per_token(&self) -> u64 {
        let rows = self.groups.iter().flat_map(|g| &g.rows);
        rows.map(|&(heads, width)| u64::from(heads) * u64::from(width)).sum()
    }

    /// Bytes of one page over all layers.
    pub fn page_bytes(&self, kv: KvType) -> u64 {
        let rows = self.groups.iter().flat_map(|g| &g.rows);
        let token: u64 =
            rows.map(|&(heads, width)| u64::from(heads) * kv.bytes(width.into())).sum();
        token * PAGE as u64
    }
}

/// What a backend is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of the largest step.
    pub rows: usize,
    /// Rows of logits computed at once.
    pub logits: usize,
    /// KV pages, shared by all sequences.
    pub pages: usize,
    /// Cache element type.
    pub kv: KvType,
}

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Tensor data as it lies in the file.
    pub weights: u64,
    /// KV pages.
    pub kv: u64,
    /// Scratch buffers of [`crate::Scratch`] and [`staging`].
    pub buffers: u64,
}

impl Footprint {
    /// Everything.
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.buffers
    }
}

/// The memory of a model under `limits`, when its tensors take `weights` bytes.
pub fn footprint(model: &Model, limits: &Limits, weights: u64) -> Footprint {
    let w = widths(model);
    let body = 4 * u64::from(model.width)
        + 2 * u64::from(w.q)
        + 2 * u64::from(w.kv)
        + 2 * u64::from(w.ffn);
    let logits = limits.logits as u64 * u64::from(model.vocab);
    Footprint {
        weights,
        kv: CacheLayout::of(model).page_bytes(limits.kv) * limits.pages as u64,
        buffers: 4 * (body * limits.rows as u64 + logits)
            + staging(widest_input(model), limits.rows),
    }
}

/// Row length of the widest matrix.
pub fn widest_input(model: &Model) -> u64 {
    let matrices = model.weights.iter().filter(|w| w.shape.len() > 1);
    matrices.map(|w| w.shape[0]).max().unwrap_or(0)
}

/// Bytes that a backend may stage the activations of `rows` rows of `width` elements in, before a product: signed
/// bytes, a scale per 32, sums per 16 and per 32; rows padded to 256.
pub fn staging(width: u64, rows: usize) -> u64 {
    width.next_multiple_of(256) * rows as u64 / 32 * (32 + 4 + 4 + 2)
}
