//! The paged KV cache. Keys lie transposed within a page (`[kv head][dim][position]`), values as they come
//! (`[kv head][position][dim]`): scores and mixing are then the same product, lanes over positions or dims.
//! Which page belongs to whom is the engine's business; here a page is a number.
#![allow(unsafe_op_in_unsafe_fn)]

use half::f16;
use hob_model::{CacheKind, CacheLayout, KvType, Limits, PAGE};

use crate::CpuError;

/// Elements per scale in Q8_0.
pub(crate) const GROUP: usize = 32;

/// Where a layer's pages are.
#[derive(Clone, Copy, Default)]
struct Layer {
    kv_heads: usize,
    head_dim: usize,
    /// One vector per position is both key and value.
    latent: bool,
    /// Group of layers with page tables of their own.
    group: usize,
    start: usize,
    page_bytes: usize,
    pages: usize,
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
    /// Allocates the pages of every layer; untouched ones cost no memory on systems that commit lazily.
    pub fn new(layout: &CacheLayout, limits: &Limits) -> Result<Self, CpuError> {
        let (kind, count) = (limits.kv, layout.groups.iter().flat_map(|g| &g.layers).max());
        let mut layers = vec![Layer::default(); count.map_or(0, |&last| last + 1)];
        let mut total = 0usize;
        for (number, group) in layout.groups.iter().enumerate() {
            let (latent, pages) = (group.kind == CacheKind::Latent, group.pages(limits));
            for (&layer, &(rows, width)) in group.layers.iter().zip(&group.rows) {
                if kind == KvType::Q8_0 && !(width as usize).is_multiple_of(GROUP) {
                    return Err(CpuError::Unsupported(
                        "a Q8_0 cache for heads that are no multiple of 32 wide",
                    ));
                }
                let page_bytes = rows as usize * kind.bytes(width.into()) as usize * PAGE;
                let kv_heads = if latent { 1 } else { rows as usize / 2 };
                let (head_dim, start) = (width as usize, total);
                let group = number;
                layers[layer] =
                    Layer { kv_heads, head_dim, latent, group, start, page_bytes, pages };
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

    /// Whether a layer's values are its keys.
    pub fn latent(&self, layer: usize) -> bool {
        self.layers[layer].latent
    }
    /// Which page tables a layer goes by.
    pub fn group(&self, layer: usize) -> usize {
        self.layers[layer].group
    }

    /// One head of one page. Panics when the page is not of this cache.
    #[inline(always)]
    pub fn head(&self, layer: usize, page: u32, head: usize) -> HeadPage {
        let l = &self.layers[layer];
        let at = l.start + page as usize * l.page_bytes;
        assert!(
            (page as usize) < l.pages && at + l.page_bytes <= self.len && head < l.kv_heads,
            "page {page} is outside the cache"
        );
        let elements = l.head_dim * PAGE;
        let (codes, scales) = match self.kind {
            KvType::F32 => (4 * elements, 0),
            KvType::F16 => (2 * elements, 0),
            KvType::Q8_0 => (elements, 2 * elements / GROUP),
        };
        let one = codes + scales;
        // A latent is kept once, as a value.
        let (at, v) = if l.latent { (at, 0) } else { (at + 2 * head * one, one) };
        let p = |offset: usize| self.data.wrapping_add(at + offset);
        HeadPage { k: p(0), k_scales: p(codes).cast(), v: p(v), v_scales: p(v + codes).cast() }
    }

    /// Writes the key of one position of one head.
    ///
    /// # Safety
    /// No one else touches this position of this head.
    pub unsafe fn store_key(&self, p: HeadPage, slot: usize, k: &[f32]) {
        match self.kind {
            KvType::F32 => {
                for (i, &k) in k.iter().enumerate() {
                    *p.k.cast::<f32>().add(i * PAGE + slot) = k;
                }
            }
            KvType::F16 => {
                for (i, &k) in k.iter().enumerate() {
                    *p.k.cast::<u16>().add(i * PAGE + slot) = f16::from_f32(k).to_bits();
                }
            }
            KvType::Q8_0 => {
                for (group, k) in k.chunks_exact(GROUP).enumerate() {
                    let (scale, codes) = quantize(k);
                    *p.k_scales.add(group * PAGE + slot) = scale;
                    for (i, code) in codes.into_iter().enumerate() {
                        *p.k.add((group * GROUP + i) * PAGE + slot) = code as u8;
                    }
                }
            }
        }
    }

    /// Writes the value of one position of one head.
    ///
    /// # Safety
    /// No one else touches this position of this head.
    pub unsafe fn store_value(&self, p: HeadPage, slot: usize, v: &[f32]) {
        let at = slot * v.len();
        match self.kind {
            KvType::F32 => {
                for (i, &v) in v.iter().enumerate() {
                    *p.v.cast::<f32>().add(at + i) = v;
                }
            }
            KvType::F16 => {
                for (i, &v) in v.iter().enumerate() {
                    *p.v.cast::<u16>().add(at + i) = f16::from_f32(v).to_bits();
                }
            }
            KvType::Q8_0 => {
                for (group, x) in v.chunks_exact(GROUP).enumerate() {
                    let (scale, codes) = quantize(x);
                    *p.v_scales.add(slot * (v.len() / GROUP) + group) = scale;
                    for (i, code) in codes.into_iter().enumerate() {
                        *p.v.add(at + group * GROUP + i) = code as u8;
                    }
                }
            }
        }
    }

    /// The values of the first `count` positions of a page, transposed to `[dim][PAGE]`: what keys are where the cache
    /// keeps latents. Other positions of `out` are left as they are.
    ///
    /// # Safety
    /// No one writes these positions meanwhile.
    pub unsafe fn transposed(&self, p: HeadPage, dim: usize, count: usize, out: &mut [f32]) {
        for slot in 0..count {
            let at = slot * dim;
            for i in 0..dim {
                out[i * PAGE + slot] = match self.kind {
                    KvType::F32 => *p.v.cast::<f32>().add(at + i),
                    KvType::F16 => f16::from_bits(*p.v.cast::<u16>().add(at + i)).to_f32(),
                    KvType::Q8_0 => {
                        let scale = *p.v_scales.add(slot * (dim / GROUP) + i / GROUP);
                        f32::from(*p.v.cast::<i8>().add(at + i)) * f16::from_bits(scale).to_f32()
                    }
                };
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
