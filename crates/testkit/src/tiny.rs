//! Small random models as whole GGUF files: a few layers of a real architecture with a byte-level tokenizer,
//! any matrix type, equal seeds giving equal bytes. The text they write is noise; what they compute is not.

use std::collections::HashMap;

use hob_gguf::{Gguf, MetaBuilder, Metadata, TensorInfo, Writer};
use hob_model::{Header, Model, Role};
use hob_quant::{GgmlType, decode_row, encode_row};

use crate::{Family, Rng};

/// The shape of a small model.
#[derive(Clone, Debug)]
pub struct Tiny {
    /// Architecture.
    pub family: Family,
    /// Blocks.
    pub layers: u32,
    /// Width of the residual stream; a multiple of 256 for the K types.
    pub width: u32,
    /// Width inside the feed-forward.
    pub ffn: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Vocabulary, at least [`Tiny::SPECIAL`] + 3; ids beyond are unused tokens.
    pub vocab: u32,
    /// Context length.
    pub context: u32,
    /// Type of the matrices; norms and biases are F32.
    pub matrices: GgmlType,
    /// Seed of the weights.
    pub seed: u64,
    /// Chat template in Jinja, for a model that can be talked to.
    pub template: Option<&'static str>,
}

impl Tiny {
    /// Ids below are the 256 bytes, by value; then `<bos>`, `<eos>` and `<eot>` (control tokens).
    pub const SPECIAL: u32 = 256;
    /// Id of `<bos>`. The tokenizer does not add it by itself.
    pub const BOS: u32 = 256;
    /// Id of `<eos>`.
    pub const EOS: u32 = 257;

    /// As many layers as show every kind, width 64, four heads, two key heads, F32, context 1024.
    pub fn new(family: Family) -> Self {
        Tiny {
            family,
            layers: family.layers(),
            width: 64,
            ffn: 96,
            heads: 4,
            kv_heads: 2,
            vocab: 272,
            context: 1024,
            matrices: GgmlType::F32,
            seed: 1,
            template: None,
        }
    }

    /// The same model with matrices of another type, widened to whole blocks.
    pub fn quantized(mut self, matrices: GgmlType) -> Self {
        let block = matrices.block_len() as u32;
        self.width = self.width.next_multiple_of(block);
        self.ffn = self.ffn.next_multiple_of(block);
        self.matrices = matrices;
        self
    }

    /// The file.
    ///
    /// # Panics
    /// On shapes that make no model.
    pub fn bytes(&self) -> Vec<u8> {
        let builder = self.meta();
        let model = self.describe(&builder.build().expect("valid metadata"));
        let roles: HashMap<&str, Role> =
            model.weights.iter().map(|w| (w.name.as_str(), w.role)).collect();
        let mut writer = Writer::with_meta(builder);
        for w in &model.weights {
            let ty = if w.is_matrix() { self.matrices } else { GgmlType::F32 };
            writer.add_tensor(&w.name, ty, &w.shape).expect("valid tensor");
        }
        let mut rng = Rng::new(self.seed);
        writer.to_bytes(|info| data(info, roles[info.name.as_str()], &mut rng)).expect("valid file")
    }

    /// The file, opened.
    ///
    /// # Panics
    /// As [`Tiny::bytes`].
    pub fn gguf(&self) -> Gguf {
        Gguf::from_bytes(self.bytes()).expect("valid file")
    }

    /// The description that the file will have, by the same code that reads it.
    fn describe(&self, meta: &Metadata) -> Model {
        let optional = self.family.tensors(self.layers);
        let header = Header::new(meta, optional.iter().map(String::as_str)).expect("a header");
        hob_model::arch::describe(&header).expect("a known architecture")
    }

    fn meta(&self) -> MetaBuilder {
        let key = |name: &str| format!("{}.{name}", self.family.arch());
        let meta = MetaBuilder::new()
            .set("general.architecture", self.family.arch())
            .set("general.name", "tiny")
            .set(&key("block_count"), self.layers)
            .set(&key("embedding_length"), self.width)
            .set(&key("feed_forward_length"), self.ffn)
            .set(&key("context_length"), self.context)
            .set(&key("attention.head_count"), self.heads)
            .set(&key("attention.head_count_kv"), self.kv_heads)
            .set(&key("attention.layer_norm_rms_epsilon"), 1e-5f32);
        let mut meta = self.family_meta(meta);
        if let Some(template) = self.template {
            meta.insert("tokenizer.chat_template", template);
        }
        let tokens: Vec<String> = (0..self.vocab).map(token).collect();
        let types: Vec<i32> = (0..self.vocab).map(token_type).collect();
        meta.set("tokenizer.ggml.model", "gpt2")
            .set("tokenizer.ggml.pre", "gpt-2")
            .set("tokenizer.ggml.tokens", tokens)
            .set("tokenizer.ggml.token_type", types)
            .set("tokenizer.ggml.merges", Vec::<String>::new())
            .set("tokenizer.ggml.bos_token_id", Self::BOS)
            .set("tokenizer.ggml.eos_token_id", Self::EOS)
            .set("tokenizer.ggml.add_bos_token", false)
    }
}

/// Byte tokens in GPT-2's printable alphabet, then control tokens, then unused ones.
fn token(id: u32) -> String {
    match id {
        0..256 => printable(id as u8).to_string(),
        Tiny::BOS => "<bos>".to_owned(),
        Tiny::EOS => "<eos>".to_owned(),
        258 => "<eot>".to_owned(),
        _ => format!("<unused{id}>"),
    }
}

/// GGUF token types: 1 normal, 3 control, 5 unused.
fn token_type(id: u32) -> i32 {
    match id {
        0..256 => 1,
        256..=258 => 3,
        _ => 5,
    }
}

/// GPT-2's alphabet for bytes: printable Latin-1 stays, the others follow from U+0100 in byte order.
fn printable(byte: u8) -> char {
    let stays = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match stays(byte) {
        true => char::from(byte),
        false => {
            let before = (0..byte).filter(|&b| !stays(b)).count() as u32;
            char::from_u32(0x100 + before).expect("a valid character")
        }
    }
}

/// Random contents: gains near 1, biases near 0, matrices that keep the size of what they multiply.
fn data(info: &TensorInfo, role: Role, rng: &mut Rng) -> Vec<u8> {
    let n = info.elements() as usize;
    let floats = match role {
        Role::Norm | Role::Scale | Role::RopeFreqs => {
            rng.floats(n, 0.2).iter().map(|x| 1.0 + x).collect()
        }
        Role::Bias | Role::AttnSinks | Role::ExpProbsB | Role::SsmD => rng.floats(n, 0.2),
        Role::SsmA => rng.floats(n, 0.2).iter().map(|x| x - 0.5).collect(),
        // Small against what the blocks add, so that the answer is not the last token again.
        Role::TokenEmbd | Role::Output => rng.floats(n, 0.3),
        _ => rng.floats(n, (3.0 / info.row_len() as f32).sqrt()),
    };
    let mut bytes = vec![0; info.bytes() as usize];
    match encode_row(info.ty, &floats, None, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => random_blocks(info.ty, n, rng),
    }
}

/// Random blocks of a type without an encoder: random bytes, drawn again until the weights are of a useful size.
fn random_blocks(ty: GgmlType, weights: usize, rng: &mut Rng) -> Vec<u8> {
    let mut decoded = vec![0.0; ty.block_len()];
    let mut block = || loop {
        let bytes: Vec<u8> = (0..ty.block_bytes()).map(|_| rng.bits() as u8).collect();
        decode_row(ty, &bytes, &mut decoded).expect("a whole block");
        let largest = decoded
            .iter()
            .fold(0.0f32, |m, x| if x.is_nan() { f32::INFINITY } else { m.max(x.abs()) });
        if (0.02..0.5).contains(&largest) {
            return bytes;
        }
    };
    (0..weights / ty.block_len()).flat_map(|_| block()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_bytes() {
        let tiny = Tiny::new(Family::Llama);
        assert_eq!(tiny.bytes(), tiny.bytes());
        assert_ne!(tiny.bytes(), Tiny { seed: 2, ..tiny.clone() }.bytes());
    }

    #[test]
    fn every_family_and_kind_of_type_is_a_whole_model() {
        for family in Family::ALL.into_iter().chain(Family::ENCODERS) {
            for ty in [GgmlType::F32, GgmlType::Q8_0, GgmlType::Q4_K, GgmlType::MXFP4] {
                let gguf = Tiny::new(family).quantized(ty).gguf();
                let model = hob_model::describe(&gguf).unwrap();
                hob_model::bind(&model, &gguf).unwrap();
            }
        }
    }
}
