//! Encodes rows of f32 weights from a file into a file, and prints the seconds it took on one thread: for comparing the
//! encoders with others'. `encode TYPE COLUMNS WEIGHTS OUT [IMPORTANCE]`.

use std::time::Instant;

use hob_quant::{GgmlType, encode_row};

fn floats(path: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).expect(path);
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let ty = GgmlType::from_name(&args[1]).expect("a type");
    let columns: usize = args[2].parse().expect("columns");
    let weights = floats(&args[3]);
    let importance = args.get(5).map(|path| floats(path));
    let row_bytes = ty.row_bytes(columns as u64).expect("whole blocks") as usize;
    let mut out = vec![0; weights.len() / columns * row_bytes];
    let begun = Instant::now();
    for (weights, out) in weights.chunks_exact(columns).zip(out.chunks_exact_mut(row_bytes)) {
        encode_row(ty, weights, importance.as_deref(), out).expect("encodes");
    }
    println!("{}", begun.elapsed().as_secs_f64());
    std::fs::write(&args[4], out).expect("writes");
}
