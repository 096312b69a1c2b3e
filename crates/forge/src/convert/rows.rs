//! Rows of a source's tensor, in the order that the GGUF file wants, as 32-bit floats or as finished MXFP4 blocks.
//! A slab is one source's share of a tensor: a whole matrix, one expert of a stack, or one head of an attention. It is
//! read in pieces of bounded size; only a transposed slab is held as a whole. Deliberately absent: names.

use half::{bf16, f16};

use super::error::ConvertError;
use super::folder::{Folder, Place};
use super::safetensors::{Dtype, Tensor};

/// A part of a source's tensor, seen as a matrix, and how its rows become the rows written.
#[derive(Clone, Debug)]
pub(super) struct Slab {
    /// The tensor with the numbers, or with the codes of MXFP4.
    pub place: Place,
    /// What scales them.
    pub scales: Scales,
    /// Length of a source row.
    pub cols: u64,
    /// Source row that is the slab's first.
    pub first: u64,
    /// Source rows of the slab.
    pub rows: u64,
    /// Order of the rows written.
    pub order: Order,
}

/// Scales that lie in a tensor of their own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scales {
    /// The numbers are what they are.
    None,
    /// One factor for blocks of so many rows and columns.
    Block { place: Place, rows: u64, cols: u64 },
    /// MXFP4: an exponent for each 32 codes.
    Mx { place: Place },
}

/// How rows written follow from a slab's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// As they are.
    Same,
    /// Both halves of each head of so many rows are interleaved: rotary pairs as neighbours, which Meta's Llama had
    /// and Hugging Face's conversion undid.
    Neighbours { head: u64 },
    /// Every second, from this one on.
    Alternate { from: u64 },
    /// Columns become rows.
    Turned,
    /// Every second column becomes a row, from this one on.
    TurnedAlternate { from: u64 },
    /// In each row, blocks of `head` columns, `per_key` for each of `keys` heads, are put in tiled order.
    TiledColumns { keys: u64, per_key: u64, head: u64 },
}

impl Slab {
    /// Rows and row length that it gives.
    pub fn shape(&self) -> (u64, u64) {
        match self.order {
            Order::Same | Order::Neighbours { .. } | Order::TiledColumns { .. } => {
                (self.rows, self.cols)
            }
            Order::Alternate { .. } => (self.rows / 2, self.cols),
            Order::Turned => (self.cols, self.rows),
            Order::TurnedAlternate { .. } => (self.cols / 2, self.rows),
        }
    }

    /// The slab's row that becomes row `r`, unless it is turned.
    fn source_row(&self, r: u64) -> u64 {
        match self.order {
            Order::Neighbours { head } => {
                let (start, within) = (r / head * head, r % head);
                start + within % 2 * (head / 2) + within / 2
            }
            Order::Alternate { from } => 2 * r + from,
            Order::Same
            | Order::Turned
            | Order::TurnedAlternate { .. }
            | Order::TiledColumns { .. } => r,
        }
    }

    /// Appends rows `from..to` as floats.
    pub fn floats(
        &self,
        folder: &Folder,
        from: u64,
        to: u64,
        out: &mut Vec<f32>,
    ) -> Result<(), ConvertError> {
        let (step, start) = match self.order {
            Order::Turned => (1, 0),
            Order::TurnedAlternate { from } => (2, from),
            Order::TiledColumns { keys, per_key, head } => {
                let start = out.len();
                self.read(folder, from, to - from, out)?;
                let lines = out[start..].chunks_mut(self.cols.max(1) as usize);
                lines.for_each(|line| tile(line, keys as usize, per_key as usize, head as usize));
                return Ok(());
            }
            _ => {
                return self
                    .runs(from, to)
                    .into_iter()
                    .try_for_each(|(row, count)| self.read(folder, row, count, out));
            }
        };
        let mut whole = Vec::new();
        self.read(folder, 0, self.rows, &mut whole)?;
        for r in from..to {
            let column = whole.iter().skip((r * step + start) as usize);
            out.extend(column.step_by(self.cols.max(1) as usize));
        }
        Ok(())
    }

    /// Rows `from..to` as source rows, neighbours together: first one and number.
    fn runs(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for row in (from..to).map(|r| self.source_row(r)) {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == row => *count += 1,
                _ => runs.push((row, 1)),
            }
        }
        runs
    }

    /// Appends `count` source rows from `row` on.
    fn read(
        &self,
        folder: &Folder,
        row: u64,
        count: u64,
        out: &mut Vec<f32>,
    ) -> Result<(), ConvertError> {
        let Some((shard, tensor)) = folder.get(self.place) else { return Ok(()) };
        let Some(size) = tensor.dtype.bytes() else { return Err(unreadable(tensor)) };
        let row = self.first + row;
        let mut bytes = vec![0; (count * self.cols * size) as usize];
        shard.read(tensor, row * self.cols * size, &mut bytes)?;
        let start = out.len();
        match tensor.dtype {
            Dtype::F32 => each(&bytes, out, f32::from_le_bytes),
            Dtype::F16 => each(&bytes, out, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => each(&bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F8E4M3 => each(&bytes, out, |[b]| e4m3(b)),
            Dtype::U8 | Dtype::Other => return Err(unreadable(tensor)),
        }
        if let Scales::Block { place, rows, cols } = self.scales {
            let rows = rows.max(1);
            for (r, line) in (row..).zip(out[start..].chunks_mut(self.cols.max(1) as usize)) {
                scale(folder, place, r / rows, cols, line)?;
            }
        }
        Ok(())
    }

    /// Appends rows `from..to` as MXFP4 blocks.
    pub fn mxfp4(
        &self,
        folder: &Folder,
        from: u64,
        to: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), ConvertError> {
        let Scales::Mx { place } = self.scales else { return Ok(()) };
        let (Some((shard, codes)), Some((scale_shard, scales))) =
            (folder.get(self.place), folder.get(place))
        else {
            return Ok(());
        };
        let blocks = self.cols / 32;
        let mut packed = vec![0; (blocks * 16) as usize];
        let mut exponents = vec![0; blocks as usize];
        for row in (from..to).map(|r| self.first + self.source_row(r)) {
            shard.read(codes, row * blocks * 16, &mut packed)?;
            scale_shard.read(scales, row * blocks, &mut exponents)?;
            for (exponent, pairs) in exponents.iter().zip(packed.as_chunks::<16>().0) {
                out.push(*exponent);
                out.extend(halves(pairs));
            }
        }
        Ok(())
    }
}

/// Puts blocks of `head` numbers in tiled order: the first one of each of `keys` heads, the second one of each, and so on.
fn tile(line: &mut [f32], keys: usize, per_key: usize, head: usize) {
    let blocks = line.to_vec();
    for (i, block) in blocks.chunks(head.max(1)).enumerate() {
        let at = (i % per_key * keys + i / per_key) * head;
        line[at..at + block.len()].copy_from_slice(block);
    }
}

/// From neighbours in one byte, the first in the low half, to the first and second sixteen of a block in the halves.
fn halves(pairs: &[u8; 16]) -> [u8; 16] {
    let code = |i: usize| pairs[i / 2] >> (4 * (i % 2)) & 15;
    std::array::from_fn(|i| code(i) | code(i + 16) << 4)
}

/// Multiplies a row by its blocks' factors, row `row` of the scales.
fn scale(
    folder: &Folder,
    place: Place,
    row: u64,
    cols: u64,
    line: &mut [f32],
) -> Result<(), ConvertError> {
    let Some((shard, tensor)) = folder.get(place) else { return Ok(()) };
    let Some(size) = tensor.dtype.bytes() else { return Err(unreadable(tensor)) };
    let count = (line.len() as u64).div_ceil(cols.max(1));
    let mut bytes = vec![0; (count * size) as usize];
    shard.read(tensor, row * count * size, &mut bytes)?;
    let mut factors = Vec::new();
    match tensor.dtype {
        Dtype::F32 => each(&bytes, &mut factors, f32::from_le_bytes),
        Dtype::BF16 => each(&bytes, &mut factors, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => each(&bytes, &mut factors, |b| f16::from_le_bytes(b).to_f32()),
        _ => return Err(unreadable(tensor)),
    }
    for (block, factor) in line.chunks_mut(cols.max(1) as usize).zip(factors) {
        block.iter_mut().for_each(|x| *x *= factor);
    }
    Ok(())
}

fn unreadable(tensor: &Tensor) -> ConvertError {
    ConvertError::Dtype {
        tensor: tensor.name.clone(),
        found: tensor.dtype_name.clone(),
        expected: "F32, F16, BF16 or F8_E4M3",
    }
}

/// Appends numbers of `N` bytes each.
fn each<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, float: impl Fn([u8; N]) -> f32) {
    out.extend(bytes.as_chunks::<N>().0.iter().map(|b| float(*b)));
}

/// An `e4m3fn` float: sign, four bits of exponent (bias 7), three of mantissa; only the largest code is no number.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 127) {
        (_, 127) => f32::NAN,
        (0, _) => mantissa / 512.0,
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte & 128 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fp8_has_the_published_corners() {
        assert_eq!(e4m3(0x7e), 448.0);
        assert_eq!(e4m3(0xfe), -448.0);
        assert_eq!(e4m3(0x01), 0.001_953_125);
        assert_eq!(e4m3(0x08), 0.015_625);
        assert_eq!(e4m3(0x38), 1.0);
        assert!(e4m3(0x7f).is_nan());
        assert_eq!(e4m3(0x80).to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn blocks_are_tiled() {
        let mut line: Vec<f32> = (0..12).map(|i| i as f32).collect();
        tile(&mut line, 2, 3, 2);
        assert_eq!(line, [0., 1., 6., 7., 2., 3., 8., 9., 4., 5., 10., 11.]);
    }

    #[test]
    fn codes_of_a_block_are_told_apart_by_halves() {
        // Code i is i modulo 16, two in a byte.
        let pairs: [u8; 16] =
            std::array::from_fn(|i| ((2 * i % 16) | (((2 * i + 1) % 16) << 4)) as u8);
        assert_eq!(halves(&pairs), std::array::from_fn(|i| (i | i << 4) as u8));
    }
}
