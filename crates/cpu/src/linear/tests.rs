//! Every kernel that this host can run, against the scalar oracle: bit for bit where the contract says so.

use super::*;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Where a block has half-precision factors.
fn halves(ty: GgmlType) -> &'static [usize] {
    use GgmlType::*;
    match ty {
        F32 | MXFP4 | NVFP4 | IQ1_M => &[],
        Q4_K | Q5_K | Q4_1 | Q5_1 => &[0, 2],
        Q2_K => &[80, 82],
        Q3_K => &[108],
        Q6_K => &[208],
        TQ1_0 => &[52],
        TQ2_0 => &[64],
        _ => &[0],
    }
}

/// Random blocks with finite factors.
fn blocks(rng: &mut Rng, ty: GgmlType, rows: usize, cols: usize) -> Vec<u8> {
    let len = ty.row_bytes(cols as u64).unwrap() as usize * rows;
    let mut bytes: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        let d = half::f16::from_f32(rng.unit() / 16.0);
        match ty {
            GgmlType::F32 => block.copy_from_slice(&rng.unit().to_le_bytes()),
            GgmlType::BF16 => {
                block.copy_from_slice(&half::bf16::from_f32(rng.unit()).to_le_bytes())
            }
            GgmlType::MXFP4 => block[0] = 120 + (block[0] & 7),
            GgmlType::NVFP4 => block[..4].iter_mut().for_each(|d| *d &= 0xbf),
            // The factor's nibbles are the top ones of four words.
            GgmlType::IQ1_M => {
                for (i, byte) in block[48..].iter_mut().skip(1).step_by(2).enumerate() {
                    *byte = *byte & 15 | (d.to_bits() >> (4 * i) << 4) as u8;
                }
            }
            _ => {}
        }
        for &at in halves(ty) {
            let d = half::f16::from_f32(rng.unit() / 16.0);
            block[at..at + 2].copy_from_slice(&d.to_le_bytes());
        }
    }
    bytes
}

fn multiply(isa: IsaKind, w: &Matrix, x: &[f32], count: usize, rows: Range<usize>) -> Vec<f32> {
    let mut acts = Acts::new(count, w.cols);
    let view = acts.view();
    let mut out = vec![f32::NAN; count * w.rows()];
    let product = Product {
        w,
        acts: view,
        src: Src::new(x.as_ptr(), w.cols),
        count,
        dst: Dst::new(out.as_mut_ptr(), w.rows()),
    };
    // SAFETY: all views cover `count` rows; one thread.
    unsafe {
        for n in 0..count {
            view.quantize(isa, w.acts(), n, &x[n * w.cols..][..w.cols]);
        }
        product.run(isa, rows, &mut Workspace::default());
    }
    out
}

const TYPES: &[GgmlType] = &{
    use GgmlType::*;
    [
        Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q1_0, Q2_0, TQ1_0, TQ2_0,
        IQ4_NL, IQ4_XS, MXFP4, NVFP4, IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, F16,
        BF16, F32,
    ]
};

fn inputs(rng: &mut Rng, count: usize, cols: usize) -> Vec<f32> {
    (0..count * cols).map(|i| rng.unit() * (1.0 + (i % 97) as f32)).collect()
}

#[test]
fn every_kernel_equals_the_scalar_one() {
    let mut rng = Rng(7);
    for &ty in TYPES {
        for (rows, cols, count) in [(16, 256, 1), (40, 512, 3), (21, 768, 5), (32, 1024, 13)] {
            let data = blocks(&mut rng, ty, rows, cols);
            // SAFETY: `data` outlives the matrix.
            let w = unsafe { Matrix::new(ty, rows, cols, &data) }.unwrap();
            let x = inputs(&mut rng, count, cols);
            let expected = multiply(IsaKind::Scalar, &w, &x, count, 0..rows);
            for isa in IsaKind::available() {
                let y = multiply(isa, &w, &x, count, 0..rows);
                if w.acts() == ActKind::Float {
                    let size = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
                    let error =
                        y.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                    assert!(error <= 2e-6 * size, "{ty:?} {isa:?}: {error} of {size}");
                } else {
                    assert_eq!(y, expected, "{ty:?} {isa:?} {rows}x{cols} by {count}");
                }
            }
        }
    }
}

/// The oracle itself against decoded weights: only the rounding of activations may differ.
#[test]
fn scalar_is_close_to_decoded_weights() {
    let mut rng = Rng(11);
    for &ty in TYPES {
        let (rows, cols) = (24, 512);
        let data = blocks(&mut rng, ty, rows, cols);
        // SAFETY: `data` outlives the matrix.
        let w = unsafe { Matrix::new(ty, rows, cols, &data) }.unwrap();
        let x: Vec<f32> = (0..cols).map(|_| rng.unit()).collect();
        let y = multiply(IsaKind::Scalar, &w, &x, 1, 0..rows);
        let mut floats = vec![0.0; cols];
        for row in 0..rows {
            // SAFETY: `data` is alive.
            hob_quant::decode_row(ty, unsafe { w.row(row) }, &mut floats).unwrap();
            let exact: f64 =
                floats.iter().zip(&x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            let size = floats.iter().map(|w| f64::from(w * w)).sum::<f64>().sqrt();
            let error = (f64::from(y[row]) - exact).abs();
            assert!(
                error < 0.02 * size,
                "{ty:?} row {row}: {} for {exact}, weights of norm {size}",
                y[row]
            );
        }
    }
}

/// One row's result does not depend on the batch nor on how rows are divided.
#[test]
fn batch_equals_single() {
    let mut rng = Rng(13);
    for &ty in TYPES {
        let (rows, cols, count) = (48, 512, 9);
        let data = blocks(&mut rng, ty, rows, cols);
        // SAFETY: `data` outlives the matrix.
        let w = unsafe { Matrix::new(ty, rows, cols, &data) }.unwrap();
        let x = inputs(&mut rng, count, cols);
        for isa in IsaKind::available() {
            let all = multiply(isa, &w, &x, count, 0..rows);
            for n in 0..count {
                let one = multiply(isa, &w, &x[n * cols..][..cols], 1, 0..rows);
                assert_eq!(one, all[n * rows..][..rows], "{ty:?} {isa:?} row {n}");
            }
            let part = multiply(isa, &w, &x, count, 16..32);
            for n in 0..count {
                assert_eq!(
                    part[n * rows + 16..][..16],
                    all[n * rows + 16..][..16],
                    "{ty:?} {isa:?}"
                );
            }
        }
    }
}

/// What is staged is what the footprint says.
#[test]
fn staging_is_predicted() {
    for (rows, width) in [(1, 32), (7, 576), (512, 3072)] {
        assert_eq!(Acts::new(rows, width).bytes() as u64, hob_model::staging(width as u64, rows));
    }
}

fn thread_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e9
}

/// Not a test: `cargo test -p hob-cpu --release -- --ignored --nocapture kernel_speed` prints what one thread does.
#[test]
#[ignore = "prints speeds, asserts nothing"]
fn kernel_speed() {
    let mut rng = Rng(17);
    let isas: Vec<_> = IsaKind::available().into_iter().skip(1).collect();
    // Only the types that HOB_TYPES names, where it is set.
    let only = std::env::var("HOB_TYPES").unwrap_or_default();
    let wanted = |ty: &&GgmlType| only.is_empty() || only.split(',').any(|name| name == ty.name());
    for (&ty, isa) in
        TYPES.iter().filter(wanted).flat_map(|ty| isas.iter().map(move |&isa| (ty, isa)))
    {
        for (rows, cols, count) in [(16384, 1024, 1), (3072, 1024, 4), (1024, 3072, 512)] {
            let data = blocks(&mut rng, ty, rows, cols);
            // SAFETY: `data` outlives the matrix.
            let w = unsafe { Matrix::new(ty, rows, cols, &data) }.unwrap();
            let x = inputs(&mut rng, count, cols);
            let mut acts = Acts::new(count, cols);
            let view = acts.view();
            let mut out = vec![0f32; count * rows];
            let dst = Dst::new(out.as_mut_ptr(), rows);
            let product =
                Product { w: &w, acts: view, src: Src::new(x.as_ptr(), cols), count, dst };
            let mut ws = Workspace::default();
            // Time on the processor, so that other programs do not count; over many runs, as it ticks in ms.
            let (start, mut runs) = (thread_seconds(), 0);
            while thread_seconds() - start < 0.2 || runs < 2 {
                // SAFETY: all views cover `count` rows; one thread.
                unsafe {
                    for n in 0..count {
                        view.quantize(isa, w.acts(), n, &x[n * cols..][..cols]);
                    }
                    product.run(isa, 0..rows, &mut ws);
                }
                runs += 1;
            }
            let best = (thread_seconds() - start) / f64::from(runs);
            let macs = (rows * cols * count) as f64 / best / 1e9;
            let bytes = data.len() as f64 / best / 1e9;
            println!(
                "{:8} {:11} {rows:6}x{cols:5} by {count:4}: {macs:7.1} G mul-add/s, {bytes:6.2} GB/s",
                ty.name(),
                isa.name()
            );
        }
    }
}
