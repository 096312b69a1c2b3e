//! A GGUF file without its data: what a model of a `config.json` would be, every matrix in BF16 and a hole where numbers
//! would lie. For `tests/oracle.py`, which asks llama.cpp's quantizer about it.
//!
//!     cargo run -p hob-model --example header -- CONFIG OUT

use std::fs::File;

use hob_gguf::Writer;
use hob_model::hf::HfConfig;
use hob_quant::GgmlType;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(config), Some(out)) = (args.next(), args.next()) else {
        return Err("usage: header CONFIG OUT".into());
    };
    let config = HfConfig::parse(&std::fs::read_to_string(config)?)?;
    let mut writer = Writer::with_meta(config.meta.clone());
    for weight in &config.describe()?.weights {
        let ty = if weight.shape.len() > 1 { GgmlType::BF16 } else { GgmlType::F32 };
        writer.add_tensor(&weight.name, ty, &weight.shape)?;
    }
    let bytes = writer.file_bytes()?;
    let file = File::create(out)?;
    writer.write_header(&file)?;
    file.set_len(bytes)?;
    Ok(())
}
