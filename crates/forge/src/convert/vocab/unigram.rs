//! A Unigram vocabulary of XLM-RoBERTa's kind: from its SentencePiece model, whose numbers transformers shifts to make room
//! for four tokens, or from a `tokenizer.json` that has been shifted already. Deliberately absent: cutting text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hob_gguf::MetaBuilder;
use serde_json::Value;

use super::special::Special;
use super::spm::{self, Normalizer};
use super::{CONTROL, Files, MAX_TOKENS, NORMAL, SPACE, Tokens, UNKNOWN, USER_DEFINED};
use crate::convert::error::ConvertError;
use crate::convert::folder::Object;

/// The tokens that come first, in fairseq's order.
const FIRST: &[(&str, i32)] =
    &[("<s>", CONTROL), ("<pad>", CONTROL), ("</s>", CONTROL), ("<unk>", UNKNOWN)];
/// Special tokens that the tokenizer's class has without being told.
const NAMED: &[&str] = &["<s>", "</s>", "<pad>", "<unk>", "<mask>"];
/// The place of the mask in XLM-RoBERTa's own vocabulary, whose model has none.
const MASK: usize = 250_001;

impl Files<'_> {
    /// States the vocabulary and its normalizer.
    pub(super) fn unigram(&self, meta: &mut MetaBuilder) -> Result<u64, ConvertError> {
        let (tokens, normalizer) = match self.folder.tokenizer("sentencepiece.bpe.model")? {
            Some(bytes) => self.shifted(&bytes)?,
            None => self.of_json()?,
        };
        let count = tokens.texts.len();
        meta.insert("tokenizer.ggml.model", "t5");
        meta.insert("tokenizer.ggml.pre", "default");
        meta.insert("tokenizer.ggml.tokens", tokens.texts);
        meta.insert("tokenizer.ggml.scores", tokens.scores);
        meta.insert("tokenizer.ggml.token_type", tokens.kinds);
        meta.insert(SPACE, normalizer.adds_space);
        self.token_types(meta)?;
        meta.insert("tokenizer.ggml.remove_extra_whitespaces", normalizer.removes_spaces);
        if !normalizer.characters.is_empty() {
            meta.insert("tokenizer.ggml.precompiled_charsmap", normalizer.characters);
        }
        Special::read(self.folder, self.json, u32::try_from(count).ok())?.states(meta);
        Ok(count as u64)
    }

    /// Pieces from the fourth on come one later than in the model; what came before makes room.
    fn shifted(&self, bytes: &[u8]) -> Result<(Tokens, Normalizer), ConvertError> {
        let pieces = spm::pieces(bytes).filter(|pieces| pieces.len() <= MAX_TOKENS as usize);
        let (Some(pieces), Some(normalizer)) = (pieces, spm::normalizer(bytes)) else {
            return Err(wrong("sentencepiece.bpe.model is no SentencePiece model"));
        };
        let size = self.rows.unwrap_or(0) as usize;
        let mut model = Tokens::padding(size.max(pieces.len()));
        for (id, piece) in pieces.into_iter().enumerate() {
            let kind = piece.kind();
            model.put(id, piece.text, kind, piece.score);
        }
        let mut tokens = Tokens::default();
        for (text, kind) in FIRST {
            tokens.push((*text).to_owned(), *kind);
            tokens.scores.push(0.0);
        }
        let rest = 3..model.texts.len().saturating_sub(1).max(3);
        tokens.texts.extend(model.texts.drain(rest.clone()));
        tokens.kinds.extend(model.kinds.drain(rest.clone()));
        tokens.scores.extend(model.scores.drain(rest));
        if self.family.arch == "nomic-bert-moe" {
            tokens.put(MASK, "<mask>".to_owned(), CONTROL, 0.0);
        }
        Ok((tokens, normalizer))
    }

    fn of_json(&self) -> Result<(Tokens, Normalizer), ConvertError> {
        let json = self.json.ok_or_else(|| {
            ConvertError::NoFile(self.folder.path().join("sentencepiece.bpe.model"))
        })?;
        let config = self.folder.json("tokenizer_config.json")?.unwrap_or_default();
        let model = json.get("model").and_then(Value::as_object);
        let vocab = model.and_then(|model| model.get("vocab")?.as_array());
        let (Some(model), Some(vocab)) = (model, vocab) else {
            return Err(wrong("its model has no list of pieces, as Unigram has"));
        };
        if vocab.len() > MAX_TOKENS as usize {
            return Err(wrong("it has too many pieces"));
        }
        let kinds = Kinds::new(json, model, &config);
        let mut tokens = Tokens::padding(vocab.len().max(self.rows.unwrap_or(0) as usize));
        for (id, piece) in vocab.iter().enumerate() {
            let (Some(text), Some(score)) =
                (piece.get(0).and_then(Value::as_str), piece.get(1).and_then(Value::as_f64))
            else {
                return Err(wrong("a piece is no text with a score"));
            };
            tokens.put(id, text.to_owned(), kinds.of(id as u64, text), score as f32);
        }
        let flag = |key: &str, other| config.get(key).and_then(Value::as_bool).unwrap_or(other);
        let normalizer = Normalizer {
            characters: characters(json)?,
            adds_space: flag("add_prefix_space", true),
            removes_spaces: flag("clean_up_tokenization_spaces", false),
        };
        Ok((tokens, normalizer))
    }
}

/// What tells the kinds of tokens in a `tokenizer.json`.
struct Kinds {
    unknown: u64,
    added: Vec<u64>,
    named: Vec<String>,
}

impl Kinds {
    fn new(json: &Object, model: &Object, config: &Object) -> Self {
        let list = json.get("added_tokens").and_then(Value::as_array);
        let token = |token: &Value| {
            Some((token.get("id")?.as_u64()?, token.get("content")?.as_str()?.to_owned()))
        };
        let added: Vec<(u64, String)> = list.into_iter().flatten().filter_map(token).collect();
        let text = super::bpe::named(config, None);
        let unknown = config.get("unk_token").and_then(super::special::content);
        let by_text = added.iter().find(|(_, text)| Some(text.as_str()) == unknown);
        let by_model = || model.get("unk_id").and_then(Value::as_u64).unwrap_or(3);
        Kinds {
            unknown: by_text.map_or_else(by_model, |(id, _)| *id),
            added: added.into_iter().map(|(id, _)| id).collect(),
            named: text,
        }
    }

    fn of(&self, id: u64, text: &str) -> i32 {
        match id {
            _ if id == self.unknown => UNKNOWN,
            _ if NAMED.contains(&text) || self.named.iter().any(|named| named == text) => CONTROL,
            _ if self.added.contains(&id) => USER_DEFINED,
            _ => NORMAL,
        }
    }
}

/// The table of characters of a normalizer, or of one in a sequence.
fn characters(json: &Object) -> Result<Vec<u8>, ConvertError> {
    let part = json.get("normalizer").unwrap_or(&Value::Null);
    let list = part.get("normalizers").and_then(Value::as_array);
    let mut parts = list.into_iter().flatten().chain([part]);
    let table = parts.find_map(|part| part.get("precompiled_charsmap")?.as_str());
    let bytes = table.map(|table| STANDARD.decode(table)).transpose();
    bytes
        .map(Option::unwrap_or_default)
        .map_err(|e| wrong(&format!("its table of characters: {e}")))
}

fn wrong(why: &str) -> ConvertError {
    ConvertError::Tokenizer(why.to_owned())
}
