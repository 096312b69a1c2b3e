//! How much memory a model needs besides its file: one function that backends allocate by and the planner reads,
//! so that prediction and fact cannot part. No memory is touched here; page bookkeeping lives in `engine`.

use crate::scratch::Plan;
use crate::{Mixer, Model, Sight};

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
    /// The type's name in small letters, as options and measurements have it.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }

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

/// Layers that cache alike and share page tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheGroup {
    /// What is kept.
    pub kind: CacheKind,
    /// Layers of the group.
    pub layers: Vec<usize>,
    /// Per layer of the group: rows (heads) kept per position and their width; keys and values apart.
    pub rows: Vec<(u32, u32)>,
}

impl CacheGroup {
    /// Bytes of one page over the layers of the group.
    pub fn page_bytes(&self, kv: KvType) -> u64 {
        let token: u64 =
            self.rows.iter().map(|&(heads, width)| u64::from(heads) * kv.bytes(width.into())).sum();
        token * PAGE as u64
    }

    /// Pages of the group under `limits`. A window needs what its sequences see and write at once, and as much again for
    /// the ends of sequences that may be continued; never more than if it kept everything.
    pub fn pages(&self, limits: &Limits) -> usize {
        match self.kind {
            CacheKind::Full | CacheKind::Latent => limits.pages,
            CacheKind::Window(window) => {
                let each = (window as usize + limits.rows).div_ceil(PAGE) + 1;
                (2 * each * limits.sequences).min(limits.pages)
            }
        }
    }
}

/// Recurrent state of one layer, in elements of f32 for each sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSize {
    /// The layer.
    pub layer: usize,
    /// Last inputs of its convolution.
    pub conv: usize,
    /// What it remembers beside them.
    pub memory: usize,
}

/// The cache of a model: groups of layers with pages, and layers with recurrent state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// Groups in order of first use.
    pub groups: Vec<CacheGroup>,
    /// Recurrent layers.
    pub states: Vec<StateSize>,
}

impl CacheLayout {
    /// Reads the layout off a model. Layers that read the cache of another have none.
    pub fn of(model: &Model) -> Self {
        let mut layout = CacheLayout { groups: Vec::new(), states: Vec::new() };
        for (layer, block) in model.blocks.iter().enumerate() {
            match &block.mixer {
                Mixer::Gqa(g) | Mixer::Gated(g) if g.kv.is_some() => {
                    let kind = match g.attend.sight {
                        Sight::Window(window) => CacheKind::Window(window),
                        Sight::Past | Sight::All => CacheKind::Full,
                    };
                    layout.add(layer, kind, (2 * g.attend.kv_heads, g.attend.key_dim));
                }
                Mixer::Gqa(_) | Mixer::Gated(_) => {}
                Mixer::Mla(m) => layout.add(layer, CacheKind::Latent, (1, m.attend.key_dim)),
                Mixer::DeltaNet(d) => {
                    let memory = d.v_heads as usize * d.key_dim as usize * d.value_dim as usize;
                    layout.states.push(StateSize { layer, conv: d.conv.state(), memory });
                }
                Mixer::Mamba2(m) => {
                    let memory = m.heads as usize * m.head_dim as usize * m.state as usize;
                    layout.states.push(StateSize { layer, conv: m.conv.state(), memory });
                }
                Mixer::ShortConv(s) => {
                    layout.states.push(StateSize { layer, conv: s.conv.state(), memory: 0 });
                }
            }
        }
        layout
    }

    fn add(&mut self, layer: usize, kind: CacheKind, rows: (u32, u32)) {
        match self.groups.iter_mut().find(|g| g.kind == kind) {
            Some(group) => {
                group.layers.push(layer);
                group.rows.push(rows);
            }
            None => self.groups.push(CacheGroup { kind, layers: vec![layer], rows: vec![rows] }),
        }
    }

    /// Cached elements per position, windows counted as if they kept everything.
    pub fn elements_per_token(&self) -> u64 {
        let rows = self.groups.iter().flat_map(|g| &g.rows);
        rows.map(|&(heads, width)| u64::from(heads) * u64::from(width)).sum()
    }

    /// Bytes of one page over all layers, windows counted as if they kept everything.
    pub fn page_bytes(&self, kv: KvType) -> u64 {
        self.groups.iter().map(|g| g.page_bytes(kv)).sum()
    }

    /// Bytes of one sequence's recurrent state.
    pub fn state_bytes(&self) -> u64 {
        self.states.iter().map(|s| 4 * (s.conv + s.memory) as u64).sum()
    }

    /// Bytes of all pages and state slots.
    pub fn bytes(&self, limits: &Limits) -> u64 {
        let pages = self.groups.iter().map(|g| g.page_bytes(limits.kv) * g.pages(limits) as u64);
        pages.sum::<u64>() + self.state_bytes() * limits.states as u64
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
    /// Sequences in a step.
    pub sequences: usize,
    /// Slots of recurrent state: one for each sequence, and those that keep prefixes.
    pub states: usize,
    /// Tokens of the longest sequence, by which LongRoPE chooses its factors.
    pub context: usize,
    /// Cache element type.
    pub kv: KvType,
}

impl Limits {
    /// Steps of `rows` rows and a cache of `pages` pages for one sequence, whose logits are wanted row by row.
    pub fn new(rows: usize, pages: usize) -> Self {
        let context = pages * PAGE;
        Limits { rows, logits: 1, pages, sequences: 1, states: 1, context, kv: KvType::F16 }
    }

    /// The same with windows that keep every position: for callers that hand one page table to all groups of layers.
    pub fn keeping_windows(self) -> Self {
        Limits { sequences: self.sequences.max(self.pages), ..self }
    }
}

/// Bytes by purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Tensor data as it lies in the file.
    pub weights: u64,
    /// KV pages and recurrent states.
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
    Footprint {
        weights,
        kv: CacheLayout::of(model).bytes(limits),
        buffers: 4 * Plan::of(model, limits).elements()
            + staging(widest_input(model), staging_rows(model, limits)),
    }
}

/// Elements of the widest row that a backend stages before a product: that of the widest matrix, or all heads' parts.
pub fn widest_input(model: &Model) -> u64 {
    let matrices = model.weights.iter().filter(|w| w.is_matrix());
    let widest = matrices.map(|w| w.shape[0]).max().unwrap_or(0);
    let by_head = model.blocks.iter().map(|block| match &block.mixer {
        Mixer::Mla(m) => {
            let input = m.k_b.input.max(m.v_b.input);
            u64::from(m.attend.heads) * u64::from(input).next_multiple_of(256)
        }
        _ => 0,
    });
    by_head.max().unwrap_or(0).max(widest)
}

/// Rows that a backend stages at once: one for each expert of a row.
pub fn staging_rows(model: &Model, limits: &Limits) -> usize {
    Plan::of(model, limits).fan_out * limits.rows
}

/// Bytes that a backend may stage the activations of `rows` rows of `width` elements in, before a product: signed
/// bytes, a scale per 32, sums per 16 and per 32; rows padded to 256.
pub fn staging(width: u64, rows: usize) -> u64 {
    width.next_multiple_of(256) * rows as u64 / 32 * (32 + 4 + 4 + 2)
}
