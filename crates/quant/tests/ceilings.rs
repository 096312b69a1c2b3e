//! How much each encoder loses: the weighted error as a part of the weights' own weighted size, on normal, heavy-tailed and
//! real weights, with importance and without, held under a ceiling per type. The ceilings are what was measured when the
//! encoder was written, and a hundredth more; `against.py` compares with llama.cpp's encoders. Real weights are forty rows
//! of a feed-forward's up projection (Qwen2.5-Coder-1.5B, block 10, with noise over its old grid) with the mean squares
//! that `hob imatrix` found.

use hob_quant::{GgmlType, decode_row, encode_row};

const COLUMNS: usize = 1536;
const ROWS: usize = 40;

struct Data {
    weights: Vec<f32>,
    importance: Vec<f32>,
}

/// Numbers from 0 to 1: SplitMix64 (Steele, Lea and Flood, 2014).
struct Rng(u64);

impl Rng {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Box and Muller, 1958.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Student's t with four degrees of freedom.
    fn heavy(&mut self) -> f64 {
        let square: f64 = (0..4).map(|_| self.normal().powi(2)).sum();
        self.normal() / (square / 4.0).sqrt()
    }
}

fn made(seed: u64, draw: fn(&mut Rng) -> f64) -> Data {
    let mut rng = Rng(seed);
    let weights = (0..ROWS * COLUMNS).map(|_| (0.02 * draw(&mut rng)) as f32).collect();
    let importance = (0..COLUMNS).map(|_| (1.2 * rng.normal()).exp() as f32).collect();
    Data { weights, importance }
}

fn real() -> Data {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rows.bin");
    let bytes = std::fs::read(path).expect("the fixture");
    let (rows, importance) = bytes.split_at(2 * ROWS * COLUMNS);
    let mut weights = vec![0.0; ROWS * COLUMNS];
    decode_row(GgmlType::F16, rows, &mut weights).expect("whole rows");
    let importance = importance.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    Data { weights, importance }
}

/// Weighted error over weighted size.
fn loss(ty: GgmlType, data: &Data, known: bool) -> f64 {
    let ones = vec![1.0; COLUMNS];
    let by = if known { &data.importance } else { &ones };
    let mut bytes = vec![0; ty.row_bytes(COLUMNS as u64).expect("whole blocks") as usize];
    let mut decoded = vec![0.0; COLUMNS];
    let (mut error, mut size) = (0.0, 0.0);
    for row in data.weights.chunks_exact(COLUMNS) {
        encode_row(ty, row, known.then_some(&data.importance), &mut bytes).expect("encodes");
        decode_row(ty, &bytes, &mut decoded).expect("decodes");
        for ((x, y), w) in row.iter().zip(&decoded).zip(by) {
            error += f64::from(*w) * f64::from(x - y).powi(2);
            size += f64::from(*w) * f64::from(*x).powi(2);
        }
    }
    (error / size).sqrt()
}

/// Per type, in thousandths: normal, heavy-tailed, real; each without importance and with.
const CEILINGS: &[(GgmlType, [f64; 6])] = &{
    use GgmlType::*;
    [
        (Q4_0, [87.3, 76.4, 115.6, 105.7, 85.8, 79.2]),
        (Q4_1, [79.5, 61.2, 94.6, 74.2, 78.6, 66.2]),
        (Q5_0, [43.4, 37.6, 58.0, 53.0, 42.7, 38.9]),
        (Q5_1, [38.4, 29.8, 45.7, 36.1, 38.2, 32.1]),
        (Q8_0, [5.6, 5.5, 7.4, 7.4, 5.5, 5.4]),
        (Q2_K, [267.2, 219.8, 298.2, 248.8, 266.2, 251.8]),
        (Q3_K, [146.7, 131.6, 179.4, 164.1, 145.4, 140.9]),
        (Q4_K, [70.8, 61.7, 85.0, 75.0, 70.0, 66.6]),
        (Q5_K, [34.9, 30.9, 42.1, 37.7, 34.6, 33.0]),
        (Q6_K, [17.2, 15.4, 21.8, 20.0, 17.0, 16.4]),
        (IQ4_NL, [74.9, 67.5, 90.8, 84.1, 73.9, 71.1]),
        (IQ4_XS, [75.4, 67.9, 91.7, 85.0, 74.4, 71.5]),
        (MXFP4, [112.7, 111.9, 128.8, 125.4, 112.4, 112.5]),
        (IQ1_S, [457.7, 396.4, 543.8, 470.5, 454.8, 437.2]),
        (IQ1_M, [423.9, 347.8, 469.2, 386.9, 419.9, 399.4]),
        (IQ2_XXS, [337.0, 267.8, 391.7, 327.0, 335.4, 322.6]),
        (IQ2_XS, [292.8, 232.5, 326.9, 274.2, 292.2, 280.4]),
        (IQ2_S, [244.0, 206.0, 295.2, 255.4, 243.2, 236.0]),
        (IQ3_XXS, [180.9, 138.0, 198.6, 159.3, 179.3, 169.2]),
        (IQ3_S, [131.5, 105.4, 153.4, 131.0, 130.7, 124.1]),
        (F16, [0.3, 0.3, 0.3, 0.3, 0.1, 0.1]),
        (BF16, [1.8, 1.8, 1.8, 1.7, 1.8, 1.8]),
    ]
};

#[test]
fn no_encoder_loses_more_than_its_ceiling() {
    let data = [made(1, Rng::normal), made(2, Rng::heavy), real()];
    let mut table = String::new();
    let mut over = Vec::new();
    for &(ty, ceilings) in CEILINGS {
        let cases = data.iter().flat_map(|data| [(data, false), (data, true)]);
        let found = cases.map(|(data, known)| 1000.0 * loss(ty, data, known));
        let found: Vec<f64> = found.collect();
        table += &format!("({ty}, {found:.1?}),\n");
        if found.iter().zip(&ceilings).any(|(found, most)| found.is_nan() || found > most) {
            over.push(ty);
        }
    }
    assert!(over.is_empty(), "{over:?} lose more than they may. Found, in thousandths:\n{table}");
}
