//! The F16 file that all recipes start from: a quantized model, decoded, plus noise. Decoded weights lie on the old
//! 4-bit grid, and a quantizer could shine by finding it again; uniform noise one step of that grid wide per 32 weights
//! hides it. The noise depends on the seed, the tensor's number and the row alone, so the file is the same everywhere.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use hob_gguf::{Gguf, MetaBuilder, TensorInfo, Writer};
use hob_quant::{GgmlType, decode_row, encode_row};

const SEED: u64 = 0x686f_6233;
/// GGUF's `general.file_type` of F16.
const MOSTLY_F16: u32 = 1;
/// Steps of a 4-bit grid between the least and the largest of 32 weights.
const STEPS: f32 = 15.0;
/// Rows that are made at once.
const SLAB: usize = 4096;

/// Writes the noisy F16 file of a quantized one.
pub fn write(from: &Path, to: &Path) -> Result<()> {
    let source = Gguf::open(from)?;
    let mut meta = MetaBuilder::new();
    meta.extend(source.meta());
    meta.insert("general.file_type", MOSTLY_F16);
    meta.remove("general.quantization_version");
    let mut writer = Writer::with_meta(meta);
    for t in source.tensors() {
        writer.add_tensor(&t.name, target(t), &t.dims)?;
    }
    let part = to.with_extension("part");
    let file = File::create(&part).with_context(|| format!("cannot write {}", part.display()))?;
    let mut out = writer.write_header(BufWriter::with_capacity(1 << 20, file))?;
    for (number, t) in source.tensors().iter().enumerate() {
        out.begin(&t.name)?;
        let bytes = source.tensor_bytes(t);
        let rows = usize::try_from(t.rows())?;
        for first in (0..rows).step_by(SLAB) {
            out.chunk(&slab(t, bytes, number, first, SLAB.min(rows - first))?)?;
        }
    }
    out.finish()?.into_inner().map_err(|e| e.into_error())?.sync_all()?;
    Ok(std::fs::rename(part, to)?)
}

/// Norms and biases stay as they are.
fn target(t: &TensorInfo) -> GgmlType {
    if t.dims.len() > 1 { GgmlType::F16 } else { t.ty }
}

/// Some rows of a tensor as the new file has them, made by two threads.
fn slab(t: &TensorInfo, bytes: &[u8], number: usize, first: usize, rows: usize) -> Result<Vec<u8>> {
    let (len, old) = (usize::try_from(t.row_len())?, bytes.len() / usize::try_from(t.rows())?);
    let new = usize::try_from(target(t).row_bytes(t.row_len()).context("a row")?)?;
    let mut out = vec![0; rows * new];
    if target(t) == t.ty {
        out.copy_from_slice(&bytes[first * old..][..rows * old]);
        return Ok(out);
    }
    let half = rows.div_ceil(2);
    std::thread::scope(|scope| {
        let parts = out.chunks_mut(half * new).enumerate().map(|(part, out)| {
            let at = first + part * half;
            scope.spawn(move || -> Result<()> {
                let mut weights = vec![0.0; len];
                for (i, out) in out.chunks_mut(new).enumerate() {
                    decode_row(t.ty, &bytes[(at + i) * old..][..old], &mut weights)?;
                    add_noise(&mut weights, Noise::new(number, at + i));
                    encode_row(GgmlType::F16, &weights, None, out)?;
                }
                Ok(())
            })
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().try_for_each(|part| {
            part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    Ok(out)
}

fn add_noise(weights: &mut [f32], mut noise: Noise) {
    for group in weights.chunks_mut(32) {
        let (min, max) = group.iter().fold((f32::MAX, f32::MIN), |(a, b), &w| (a.min(w), b.max(w)));
        let step = (max - min) / STEPS;
        group.iter_mut().for_each(|w| *w += step * noise.next());
    }
}

/// Numbers from -0.5 to 0.5: SplitMix64 (Steele, Lea and Flood, 2014).
struct Noise(u64);

impl Noise {
    fn new(tensor: usize, row: usize) -> Self {
        let mut noise = Noise(SEED ^ (tensor as u64) << 40 ^ row as u64);
        noise.next();
        noise
    }

    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 40) as f32 / (1 << 24) as f32 - 0.5
    }
}

/// A text for the importance matrix that shares nothing with the one that is judged: what the mixture leaves over.
pub fn calibration(texts: &Path, to: &Path) -> Result<()> {
    const PARTS: [(&str, usize, usize); 3] = [
        ("english.txt", 400_000, 90_000),
        ("chinese.txt", 400_000, 30_000),
        ("code.txt", 50_000, 50_000),
    ];
    const ROUNDS: usize = 10;
    let mut out = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let texts = PARTS.map(|(name, at, bytes)| {
        let text = std::fs::read(texts.join(name)).with_context(|| name.to_owned())?;
        let end = text.len().min(at + bytes);
        Ok(String::from_utf8_lossy(text.get(at..end).unwrap_or_default()).replace('\u{fffd}', ""))
    });
    let texts = texts.into_iter().collect::<Result<Vec<String>>>()?;
    for round in 0..ROUNDS {
        for text in &texts {
            let share = text.chars().count().div_ceil(ROUNDS);
            let piece: String = text.chars().skip(round * share).take(share).collect();
            writeln!(out, "{piece}\n")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_one_step_wide_and_the_same_each_time() {
        let row: Vec<f32> = (0..64).map(|i| (i % 16) as f32).collect();
        let (mut a, mut b, mut other) = (row.clone(), row.clone(), row.clone());
        add_noise(&mut a, Noise::new(3, 5));
        add_noise(&mut b, Noise::new(3, 5));
        add_noise(&mut other, Noise::new(3, 6));
        assert_eq!(a, b);
        assert_ne!(a, other);
        assert!(a.iter().zip(&row).all(|(a, w)| (a - w).abs() <= 0.5));
        assert!(a.iter().zip(&row).any(|(a, w)| (a - w).abs() > 0.4));
    }
}
