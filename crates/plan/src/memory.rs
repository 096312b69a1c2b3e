//! A model's bytes under one recipe, taken apart by where they can lie: what every block holds, its experts apart, what is only looked up, and the
//! head; and what one token reads and computes of them. Totals are those of `hob_model::footprint` and of the file, to the byte. Deliberately
//! absent: devices.

use std::collections::BTreeMap;

use hob_machine::{Kind, Vendor};
use hob_model::{
    CacheLayout, Head, KvType, Limits, Mixer, Model, Moe, PAGE, Sight, Weight, WeightId, footprint,
};
use hob_quant::GgmlType;

/// Alignment of tensor data in a file.
const ALIGNMENT: u64 = 32;
/// Rows of a step on a card: the usual micro-batch of llama.cpp-class engines.
const CARD_ROWS: u64 = 512;

/// Weights that lie together, and what one token takes of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Bytes that reside.
    pub bytes: u64,
    /// Bytes that one token of decode reads, by type.
    pub read: BTreeMap<GgmlType, u64>,
    /// Products of one token.
    pub products: u64,
    /// Numbers that go into its matrices and come out of them.
    pub activations: u64,
}

impl Stored {
    fn take(&mut self, weight: &Weight, ty: GgmlType, part: (u64, u64)) {
        let bytes = tensor_bytes(weight, ty);
        self.bytes = self.bytes.saturating_add(bytes);
        *self.read.entry(ty).or_default() += share(bytes, part);
        if weight.is_matrix() {
            self.products += share(weight.elements(), part);
            self.activations += share(activations(weight), part);
        }
    }

    /// Adds what another holds.
    pub fn add(&mut self, other: &Stored) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.products += other.products;
        self.activations += other.activations;
        for (&ty, bytes) in &other.read {
            *self.read.entry(ty).or_default() += bytes;
        }
    }
}

/// A block's weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockWeights {
    /// All but routed experts.
    pub dense: Stored,
    /// Routed experts; empty where there are none.
    pub experts: Stored,
}

/// The weights of a model whose tensors have given types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Block by block.
    pub blocks: Vec<BlockWeights>,
    /// Tables of which a token reads one row. Engines leave them in main memory, where the file is mapped.
    pub tables: Stored,
    /// Final norm and unembedding, which is the embedding too where they are one.
    pub head: Stored,
}

impl Weights {
    /// Sorts the tensors of `model`, whose types are indexed by [`WeightId`].
    pub fn of(model: &Model, types: &[GgmlType]) -> Weights {
        let tables = tables(model);
        let experts: Vec<Vec<WeightId>> =
            model.blocks.iter().map(|b| b.ffn.moe().map(stacks).unwrap_or_default()).collect();
        let mut weights = Weights {
            blocks: vec![BlockWeights::default(); model.blocks.len()],
            tables: Stored::default(),
            head: Stored::default(),
        };
        for (index, (weight, &ty)) in model.weights.iter().zip(types).enumerate() {
            let id = WeightId(index as u32);
            let layer = weight.layer.map(|layer| layer as usize);
            let block = layer.and_then(|layer| weights.blocks.get_mut(layer));
            match block {
                _ if tables.contains(&id) => weights.tables.take(weight, ty, (0, 1)),
                None => weights.head.take(weight, ty, (1, 1)),
                Some(block) => {
                    let layer = layer.unwrap_or(0);
                    let routed = experts.get(layer).is_some_and(|ids| ids.contains(&id));
                    let moe = model.blocks.get(layer).and_then(|b| b.ffn.moe());
                    match moe.filter(|_| routed) {
                        Some(moe) => block.experts.take(weight, ty, active(moe)),
                        None => block.dense.take(weight, ty, (1, 1)),
                    }
                }
            }
        }
        weights
    }

    /// The same mix in so many bytes: files that others made differ a little from what the recipe of their name makes here.
    #[must_use]
    pub fn scaled(&self, total: u64) -> Weights {
        let part = (total, self.total().max(1));
        let stored = |of: &Stored| Stored {
            bytes: share(of.bytes, part),
            read: of.read.iter().map(|(&ty, &bytes)| (ty, share(bytes, part))).collect(),
            products: of.products,
            activations: of.activations,
        };
        let block = |of: &BlockWeights| BlockWeights {
            dense: stored(&of.dense),
            experts: stored(&of.experts),
        };
        Weights {
            blocks: self.blocks.iter().map(block).collect(),
            tables: stored(&self.tables),
            head: stored(&self.head),
        }
    }

    /// Everything.
    pub fn total(&self) -> u64 {
        let blocks = self.blocks.iter().map(|b| b.dense.bytes.saturating_add(b.experts.bytes));
        blocks.fold(self.tables.bytes.saturating_add(self.head.bytes), u64::saturating_add)
    }
}

/// Tensors that are looked up by row and multiplied with nothing.
fn tables(model: &Model) -> Vec<WeightId> {
    let tied = match &model.head {
        Head::Logits(head) => head.linear.weight == model.embed.weight,
        Head::Pool(_) => false,
    };
    let embed = &model.embed;
    let tokens = (!tied).then_some(embed.weight);
    let others = [embed.positions, embed.types, embed.per_layer.as_ref().map(|p| p.table)];
    tokens.into_iter().chain(others.into_iter().flatten()).collect()
}

fn stacks(moe: &Moe) -> Vec<WeightId> {
    let linears = [&moe.gate, &moe.up, &moe.down].into_iter();
    linears.flat_map(|l| [Some(l.weight), l.bias]).flatten().collect()
}

/// The part of the experts that a token meets.
fn active(moe: &Moe) -> (u64, u64) {
    (u64::from(moe.used.min(moe.experts)), u64::from(moe.experts.max(1)))
}

/// Numbers that go into a matrix and come out, of all experts where it is one of several.
fn activations(weight: &Weight) -> u64 {
    let sides: u64 = weight.shape.iter().take(2).sum();
    weight.shape.iter().skip(2).fold(sides, |all, &matrices| all.saturating_mul(matrices))
}

fn share(whole: u64, (part, of): (u64, u64)) -> u64 {
    (u128::from(whole) * u128::from(part) / u128::from(of)) as u64
}

/// Bytes of a tensor as it lies in a file, padded; as good as infinite beyond 64 bits.
fn tensor_bytes(weight: &Weight, ty: GgmlType) -> u64 {
    let row = weight.shape.first().and_then(|&n| ty.row_bytes(n));
    let rows = weight.shape.iter().skip(1).try_fold(1u64, |n, &d| n.checked_mul(d));
    let bytes = row.zip(rows).and_then(|(row, rows)| row.checked_mul(rows));
    bytes.and_then(|b| b.checked_next_multiple_of(ALIGNMENT)).unwrap_or(u64::MAX / 2)
}

/// Bytes of the cache of every block under `limits`; their sum is `CacheLayout::bytes`.
pub fn cache_by_block(model: &Model, limits: &Limits) -> Vec<u64> {
    let layout = CacheLayout::of(model);
    let mut blocks = vec![0; model.blocks.len()];
    let mut add = |layer: usize, bytes: u64| {
        if let Some(block) = blocks.get_mut(layer) {
            *block += bytes;
        }
    };
    for group in &layout.groups {
        let positions = (PAGE * group.pages(limits)) as u64;
        for (&layer, &(heads, width)) in group.layers.iter().zip(&group.rows) {
            add(layer, u64::from(heads) * limits.kv.bytes(width.into()) * positions);
        }
    }
    for state in &layout.states {
        add(state.layer, 4 * (state.conv + state.memory) as u64 * limits.states as u64);
    }
    blocks
}

/// What mixing takes of a token that stands at some depth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mixing {
    /// Bytes of keys, values and state that are read.
    pub bytes: u64,
    /// Operations on them, beside the products with weights.
    pub operations: f64,
    /// Heads that CPUs share one token's operations out by.
    pub heads: usize,
}

/// What a block's mixer reads and computes for one token with `depth` tokens before it.
pub fn mixing(mixer: &Mixer, kv: KvType, depth: usize) -> Mixing {
    let state = |conv: usize, memory: u64, heads: u32| Mixing {
        bytes: 4 * (conv as u64 + memory),
        operations: 6.0 * memory as f64,
        heads: heads as usize,
    };
    match mixer {
        Mixer::Gqa(g) | Mixer::Gated(g) => {
            let a = &g.attend;
            let seen = match a.sight {
                Sight::Window(window) => depth.min(window as usize),
                Sight::Past | Sight::All => depth,
            } as u64;
            Mixing {
                bytes: 2 * u64::from(a.kv_heads) * kv.bytes(a.key_dim.into()) * seen,
                operations: attention(a.heads, a.key_dim + a.value_dim, seen),
                heads: a.kv_heads as usize,
            }
        }
        Mixer::Mla(m) => {
            let (a, seen) = (&m.attend, depth as u64);
            Mixing {
                bytes: kv.bytes(a.key_dim.into()) * seen,
                operations: attention(a.heads, a.key_dim + a.value_dim, seen),
                // All query heads look at one latent.
                heads: 1,
            }
        }
        Mixer::DeltaNet(d) => {
            let memory = u64::from(d.v_heads) * u64::from(d.key_dim) * u64::from(d.value_dim);
            state(d.conv.state(), memory, d.v_heads)
        }
        Mixer::Mamba2(m) => {
            let memory = u64::from(m.heads) * u64::from(m.head_dim) * u64::from(m.state);
            state(m.conv.state(), memory, m.heads)
        }
        Mixer::ShortConv(s) => state(s.conv.state(), 0, 1),
    }
}

fn attention(heads: u32, widths: u32, seen: u64) -> f64 {
    2.0 * f64::from(heads) * f64::from(widths) * seen as f64
}

/// Memory that an engine takes on a device beside everything that depends on the model: the driver's context, compiled kernels, workspaces of
/// its libraries. As seen of llama.cpp: CUDA 0.3 to 0.5 GiB, others less.
pub fn overhead(kind: Kind, vendor: Vendor) -> u64 {
    const MIB: u64 = 1 << 20;
    match (kind, vendor) {
        (Kind::Discrete, Vendor::Nvidia) => 450 * MIB,
        (Kind::Discrete, _) => 350 * MIB,
        (Kind::Integrated | Kind::Unified, _) => 200 * MIB,
        (Kind::Cpu, _) => 0,
    }
}

/// Compute buffers on a card: logits of a whole step, or what a step passes through between them, whichever is more; and the mask of attention.
pub fn card_buffers(model: &Model, limits: &Limits) -> u64 {
    let step = Limits { rows: CARD_ROWS as usize, ..*limits };
    let logits = match model.head {
        Head::Logits(_) => 4 * CARD_ROWS * u64::from(model.vocab.saturating_add(model.width)),
        Head::Pool(_) => 0,
    };
    let mask = 2 * CARD_ROWS * (limits.pages * PAGE) as u64;
    footprint(model, &step, 0).buffers.max(logits) + mask
}

/// Bits per weight of the tensor data.
pub fn bits_per_weight(model: &Model, data_bytes: u64) -> f64 {
    8.0 * data_bytes as f64 / model.parameters().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use hob_model::{FileSize, Recipe, RecipeOptions};
    use hob_testkit::{Family, Tiny};

    fn models() -> Vec<Model> {
        Family::ALL.iter().map(|&f| hob_model::describe(&Tiny::new(f).gguf()).unwrap()).collect()
    }

    #[test]
    fn parts_are_the_file() {
        let options = RecipeOptions::default();
        for model in models() {
            let meta = hob_gguf::MetaBuilder::new();
            let size = FileSize::of(&model, &meta, 0).unwrap();
            for recipe in Recipe::all() {
                let types = recipe.tensor_types(&model, &options);
                let file = size.file_bytes(&model, &types).unwrap() - size.header();
                let weights = Weights::of(&model, &types);
                assert_eq!(weights.total(), file, "{} {}", model.arch, recipe.name);
            }
        }
    }

    #[test]
    fn a_mix_in_other_bytes_has_these() {
        for model in models() {
            let types = vec![GgmlType::F16; model.weights.len()];
            let weights = Weights::of(&model, &types);
            assert_eq!(weights.scaled(weights.total()), weights);
            let parts = 3 + 2 * model.blocks.len() as u64;
            for total in [0, 1000, weights.total() / 3, 2 * weights.total()] {
                let lost = total - weights.scaled(total).total();
                assert!(lost <= parts, "{} {lost}", model.arch);
            }
        }
    }

    #[test]
    fn a_token_computes_what_it_meets() {
        for model in models() {
            let types = vec![GgmlType::F32; model.weights.len()];
            let weights = Weights::of(&model, &types);
            let mut all = weights.head.clone();
            for block in &weights.blocks {
                all.add(&block.dense);
                all.add(&block.experts);
            }
            // Beside the matrices there are norms, biases and tables.
            let active = model.active_parameters();
            assert!(all.products <= active, "{}", model.arch);
            let read: u64 = all.read.values().sum();
            let most = 4 * active + ALIGNMENT * model.weights.len() as u64;
            assert!(read <= most && read >= 4 * all.products, "{} {read} {active}", model.arch);
        }
    }

    #[test]
    fn a_token_passes_through_the_experts_that_it_uses() {
        let model = &models()[0];
        let any = model.weights.iter().find(|weight| weight.is_matrix()).unwrap();
        let matrix = |shape: &[u64]| Weight { shape: shape.to_vec(), ..any.clone() };
        let mut stored = Stored::default();
        stored.take(&matrix(&[64, 256]), GgmlType::F32, (1, 1));
        assert_eq!(stored.activations, 64 + 256);
        stored.take(&matrix(&[64, 32, 8]), GgmlType::F32, (2, 8));
        assert_eq!(stored.activations, 64 + 256 + 2 * (64 + 32));
    }

    #[test]
    fn caches_of_blocks_are_the_cache() {
        for model in models() {
            for kv in [KvType::F16, KvType::Q8_0] {
                let limits = Limits { sequences: 3, states: 5, kv, ..Limits::new(64, 40) };
                let sum: u64 = cache_by_block(&model, &limits).iter().sum();
                assert_eq!(sum, footprint(&model, &limits, 0).kv, "{}", model.arch);
            }
        }
    }

    #[test]
    fn mixing_reads_what_a_page_holds() {
        for model in models() {
            let depth = PAGE;
            let read: u64 =
                model.blocks.iter().map(|b| mixing(&b.mixer, KvType::F16, depth).bytes).sum();
            let layout = CacheLayout::of(&model);
            let held = layout.page_bytes(KvType::F16) + layout.state_bytes();
            // Layers that read another's keys have none of their own; windows see less than a page.
            assert!(read > 0 || held == 0, "{}", model.arch);
            let at = |depth| -> f64 {
                let of = |m: &Mixer| mixing(m, KvType::F16, depth).operations;
                model.blocks.iter().map(|b| of(&b.mixer)).sum()
            };
            assert!(at(200) >= at(100), "{}", model.arch);
        }
        let llama = hob_model::describe(&Tiny::new(Family::Llama).gguf()).unwrap();
        let one = mixing(&llama.blocks[0].mixer, KvType::F16, PAGE).bytes;
        let layout = CacheLayout::of(&llama);
        assert_eq!(one * llama.blocks.len() as u64, layout.page_bytes(KvType::F16));
    }
}
