//! The paged KV cache. Keys lie transposed within a page (`[kv head][dim][position]`), values as they come
//! (`[kv head][position][dim]`): scores and mixing are then the same product, lanes over positions or dims.
//! Which page belongs to whom is the engine's business; here a page is a number.
#![allow(unsafe_op_in_unsafe_fn)]

use half::f16;
use hob_model::{CacheKind, CacheLayout, KvType, PAGE};

use crate::CpuError;

/// Elements per scale in Q8_0.
pub(crate) const GROUP: usize = 32;

/// Where a layer's pages are.
#[derive(Clone, Copy)]
struct Layer {
    kv_heads: usize,
    head_dim: usize,
    start: usize,
    page_bytes: usize,
}

/// All pages of all layers.
pub struct KvCache {
    kind: KvType,
    layers: Vec<Layer>,
    data: Vec<u64>,
}

/// Keys and values of one head in one page.
#[derive(Clone, Copy)]
pub struct HeadPage {
    /// F16: `[dim][PAGE]`; Q8_0: signed bytes in that order.
    pub k: *mut u8,
    /// Q8_0 only: half-precision scales `[dim / 32][PAGE]`.
    pub k_scales: *mut u16,
    /// `[PAGE][dim]`, likewise.
    pub v: *mut u8,
    /// Q8_0 only: `[PAGE][dim / 32]`.
    pub v_scales: *mut u16,
}

impl KvCache {
    /// Allocates `pages` pages for every layer; untouched pages cost no memory on systems that commit lazily.
    pub fn new(layout: &CacheLayout, kind: KvType, pages: usize) -> Result<Self, CpuError> {
        let count = layout.groups.iter().flat_map(|g| &g.layers).max().map_or(0, |&l| l + 1);
        let mut layers = vec![Layer { kv_heads: 0, head_dim: 0, start: 0, page_bytes: 0 }; count];
        let mut total = 0usize;
        for group in &layout.groups {
            // A window's past is not given back yet: its pages are kept like any others.
            if group.kind == CacheKind::Latent {
                return Err(CpuError::Unsupported("a cache of latents"));
            }
            for (&layer, &(rows, width)) in group.layers.iter().zip(&group.rows) {
                if kind == KvType::Q8_0 && !(width as usize).is_multiple_of(GROUP) {
                    return Err(CpuError::Unsupported(
                        "a Q8_0 cache for heads that are no multiple of 32 wide",
                    ));
                }
                let page_bytes = rows as usize * kind.bytes(width.into()) as usize * PAGE;
                let (kv_heads, head_dim) = (rows as usize / 2, width as usize);
                layers[layer] = Layer { kv_heads, head_dim, start: total, page_bytes };
                total = page_bytes
                    .checked_mul(pages)
                    .and_then(|n| n.checked_add(total))
                    .ok_or(CpuError::TooLarge)?;
            }
        }
        Ok(KvCache { kind, layers, data: crate::zeroed(total.div_ceil(8))? })
    }

    /// A view that threads share.
    pub fn view(&mut self) -> KvView<'_> {
        KvView {
            kind: self.kind,
            layers: &self.layers,
            data: self.data.as_mut_ptr().cast(),
            len: self.data.len() * 8,
        }
    }
}

/// Raw access; positions are written and read disjointly by contract of the step.
#[derive(Clone, Copy)]
pub struct KvView<'a> {
    kind: KvType,
    layers: &'a [Layer],
    data: *mut u8,
    len: usize,
}

// SAFETY: dereferenced only through `HeadPage` by kernels that keep positions disjoint.
unsafe impl Send for KvView<'_> {}
// SAFETY: as above.
unsafe impl Sync for KvView<'_> {}

impl KvView<'_> {
    /// Element type.
    pub fn kind(&self) -> KvType {
        self.kind
    }
    /// Key and value heads of a layer.
    pub fn kv_heads(&self, layer: usize) -> usize {
        self.layers[layer].kv_heads
    }
    /// Width of a head.
    pub fn head_dim(&self, layer: usize) -> usize {
        self.layers[layer].head_dim
    }

    /// One head of one page. Panics when the page is not of this cache.
    #[inline(always)]
    pub fn head(&self, layer: usize, page: u32, head: usize) -> HeadPage {
        let l = &self.layers[layer];
        let at = l.start + page as usize * l.page_bytes;
        assert!(
            at + l.page_bytes <= self.len && head < l.kv_heads,
            "page {page} is outside the cache"
        );
        let elements = l.head_dim * PAGE;
        let (codes, scales) = match self.kind {
            KvType::F32 => (4 * elements, 0),
            KvType::F16 => (2 * elements, 0),
            KvType::Q8_0 => (elements, 2 * elements / GROUP),
        };
        let one = codes + scales;
        let at = at + 2 * head * one;
        let p = |offset: usize| self.data.wrapping_add(at + offset);
        HeadPage { k: p(0), k_scales: p(codes).cast(), v: p(one), v_scales: p(one + codes).cast() }
    }

    /// Writes key and value of one position of one head.
    ///
    /// # Safety
    /// No one else touches this position of this head.
    pub unsafe fn store(
        &self,
        layer: usize,
        page: u32,
        head: usize,
        slot: usize,
        k: &[f32],
        v: &[f32],
    ) {
        let p = self.head(layer, page, head);
        let dim = k.len();
        match self.kind {
            KvType::F32 => {
                let (keys, values) = (p.k.cast::<f32>(), p.v.cast::<f32>().add(slot * dim));
                for i in 0..dim {
                    *keys.add(i * PAGE + slot) = k[i];
                    *values.add(i) = v[i];
                }
            }
            KvType::F16 => {
                let (keys, values) = (p.k.cast::<u16>(), p.v.cast::<u16>().add(slot * dim));
                for i in 0..dim {
                    *keys.add(i * PAGE + slot) = f16::from_f32(k[i]).to_bits();
                    *values.add(i) = f16::from_f32(v[i]).to_bits();
                }
            }
            KvType::Q8_0 => {
                for group in 0..dim / GROUP {
                    let at = group * GROUP;
                    let (scale, codes) = quantize(&k[at..at + GROUP]);
                    *p.k_scales.add(group * PAGE + slot) = scale;
                    for (i, code) in codes.into_iter().enumerate() {
                        *p.k.add((at + i) * PAGE + slot) = code as u8;
                    }
                    let (scale, codes) = quantize(&v[at..at + GROUP]);
                    *p.v_scales.add(slot * (dim / GROUP) + group) = scale;
                    for (i, code) in codes.into_iter().enumerate() {
                        *p.v.add(slot * dim + at + i) = code as u8;
                    }
                }
            }
        }
    }
}

/// Q8_0 of 32 values: half-precision scale bits and codes.
fn quantize(x: &[f32]) -> (u16, [i8; GROUP]) {
    let amax = x.iter().fold(0f32, |most, x| most.max(x.abs()));
    let inverse = if amax > 0.0 { 127.0 / amax } else { 0.0 };
    let codes = std::array::from_fn(|i| (x[i] * inverse).round_ties_even() as i8);
    (f16::from_f32(amax / 127.0).to_bits(), codes)
}
