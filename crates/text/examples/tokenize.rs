//! Tokens of a file, one line, or the speed of encoding and decoding it: `tokenize MODEL.gguf FILE [special|bench]`.

use std::error::Error;
use std::time::Instant;

use hob_gguf::Gguf;
use hob_text::{EncodeOptions, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, file, rest @ ..] = arguments.as_slice() else {
        return Err("usage: tokenize MODEL.gguf FILE [special|bench]".into());
    };
    let gguf = Gguf::open(model.as_ref())?;
    let start = Instant::now();
    let tokenizer = Tokenizer::from_gguf(gguf.meta())?;
    let loaded = start.elapsed();
    let text = std::fs::read_to_string(file)?;
    let mode = rest.first().map(String::as_str);
    let options = EncodeOptions { parse_special: mode == Some("special"), ..Default::default() };
    let start = Instant::now();
    let tokens = tokenizer.encode(&text, options);
    let encoded = start.elapsed();
    if mode != Some("bench") {
        let tokens: Vec<String> = tokens.iter().map(u32::to_string).collect();
        println!("{}", tokens.join(" "));
        return Ok(());
    }
    let start = Instant::now();
    let same = tokenizer.decode(&tokens) == text;
    let decoded = start.elapsed();
    let speed = |time: std::time::Duration| text.len() as f64 / time.as_secs_f64() / 1e6;
    println!(
        "loaded in {loaded:.1?}; {} tokens; encoded {:.1} MB/s, decoded {:.0} MB/s; round trip {}",
        tokens.len(),
        speed(encoded),
        speed(decoded),
        if same { "exact" } else { "differs" }
    );
    Ok(())
}
