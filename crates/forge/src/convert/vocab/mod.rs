//! A checkpoint's tokenizer as GGUF's `tokenizer.*` keys: which file holds it, its tokens with kinds, scores and merges,
//! and what surrounds them. Deliberately absent: encoding text (`hob_text` does that from the keys).

mod bpe;
mod pre;
mod special;
mod spm;
mod unigram;
mod words;

use hob_gguf::MetaBuilder;
use serde_json::Value;

use self::bpe::Bpe;
use self::special::Special;
use self::spm::Piece;
use super::error::ConvertError;
use super::families::{self, Family, Kind};
use super::folder::{Folder, Object};

// Kinds of tokens, as GGUF numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Most tokens of any vocabulary.
const MAX_TOKENS: u32 = 1 << 24;

/// A vocabulary.
#[derive(Default)]
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
    /// As many as texts, or none.
    scores: Vec<f32>,
}

impl Tokens {
    fn push(&mut self, text: String, kind: i32) {
        self.texts.push(text);
        self.kinds.push(kind);
    }
}

/// A folder's tokenizer.
pub(super) struct Vocab {
    /// The keys `tokenizer.*`.
    pub meta: MetaBuilder,
    /// Its tokens.
    pub tokens: u64,
}

impl Vocab {
    /// Reads it. `rows`: tokens that the model has; `pre`: a name for the pre-tokenizer, if the user gave one.
    pub fn read(
        folder: &Folder,
        family: &Family,
        rows: Option<u32>,
        pre: Option<&str>,
    ) -> Result<Self, ConvertError> {
        if rows.is_some_and(|rows| rows > MAX_TOKENS) {
            let why = format!("config.json wants more than {MAX_TOKENS} tokens");
            return Err(ConvertError::Tokenizer(why));
        }
        let json = folder.json("tokenizer.json")?;
        let files = Files { folder, family, rows, pre, json: json.as_ref() };
        let mut meta = MetaBuilder::new();
        files.before(&mut meta)?;
        let tokens = files.tokens(&mut meta)?;
        files.after(&mut meta);
        Ok(Vocab { meta, tokens })
    }
}

/// Where a tokenizer is read from.
struct Files<'f> {
    folder: &'f Folder,
    family: &'f Family,
    rows: Option<u32>,
    pre: Option<&'f str>,
    /// `tokenizer.json`.
    json: Option<&'f Object>,
}

impl Files<'_> {
    fn tokens(&self, meta: &mut MetaBuilder) -> Result<u64, ConvertError> {
        for kind in self.family.tokenizers {
            match kind {
                Kind::SentencePiece => {
                    if let Some(pieces) = self.pieces()? {
                        return self.sentence_piece(pieces, meta);
                    }
                }
                Kind::LlamaJson => {
                    if self.json.is_some_and(bpe::was_sentence_piece) {
                        let tokens = Bpe::read(self.folder, self.json)?.scored();
                        return self.state_scored(tokens, meta);
                    }
                }
                Kind::Bpe => return self.bpe(meta),
                Kind::CharacterBpe => return self.character_bpe(meta),
                Kind::WordPiece => return self.word_piece(meta),
                Kind::Unigram => return self.unigram(meta),
            }
        }
        Err(ConvertError::NoFile(self.folder.path().join("tokenizer.model")))
    }

    fn bpe(&self, meta: &mut MetaBuilder) -> Result<u64, ConvertError> {
        let config = self.folder.json("tokenizer_config.json")?.unwrap_or_default();
        let pre = match (self.pre, self.json) {
            (Some(pre), _) => pre,
            (None, Some(json)) => pre::name(json, self.family.pre)?,
            (None, None) => {
                let class = config.get("tokenizer_class").and_then(Value::as_str);
                pre::of_class(class.unwrap_or_default())?
            }
        };
        let mut bpe = Bpe::read(self.folder, self.json)?;
        let tokens = bpe.tokens(self.rows)?;
        let count = tokens.texts.len() as u64;
        meta.insert("tokenizer.ggml.model", "gpt2");
        meta.insert("tokenizer.ggml.pre", pre);
        meta.insert("tokenizer.ggml.tokens", tokens.texts);
        meta.insert("tokenizer.ggml.token_type", tokens.kinds);
        let mut special = Special::read(self.folder, self.json, None)?;
        special.merges = std::mem::take(&mut bpe.merges);
        let by_text = match self.family.tokens {
            families::Tokens::Glm => GLM,
            families::Tokens::GlmMoe => GLM_MOE,
            _ => &[],
        };
        for (kind, text) in by_text {
            if let Some(id) = bpe.added_id(text) {
                special.set(kind, id);
            }
        }
        special.states(meta);
        Ok(count)
    }

    /// The pieces of `tokenizer.model`. Llama 3 has another file of that name, beside a `tokenizer.json`.
    fn pieces(&self) -> Result<Option<Vec<Piece>>, ConvertError> {
        let Some(bytes) = self.folder.tokenizer("tokenizer.model")? else { return Ok(None) };
        let pieces = spm::pieces(&bytes).filter(|pieces| pieces.len() <= MAX_TOKENS as usize);
        if pieces.is_none() && self.json.is_none() {
            let why = "tokenizer.model is no SentencePiece model".to_owned();
            return Err(ConvertError::Tokenizer(why));
        }
        Ok(pieces)
    }

    /// A SentencePiece model, and what other files add to it.
    fn sentence_piece(
        &self,
        pieces: Vec<Piece>,
        meta: &mut MetaBuilder,
    ) -> Result<u64, ConvertError> {
        let size = self.rows.map_or(pieces.len(), |rows| rows as usize);
        let mut tokens = Tokens::padding(size);
        for (id, piece) in pieces.into_iter().enumerate() {
            let kind = piece.kind();
            tokens.put(id, piece.text, kind, piece.score);
        }
        self.add_to(&mut tokens)?;
        self.state_scored(tokens, meta)
    }

    /// Tokens that `added_tokens.json`, the tokenizer's config and, for Phi-3, `tokenizer.json` add.
    fn add_to(&self, tokens: &mut Tokens) -> Result<(), ConvertError> {
        let phi = self.family.tokens == families::Tokens::Phi;
        let id = |value: &Value| value.as_u64().and_then(|id| usize::try_from(id).ok());
        for (text, at) in self.folder.json("added_tokens.json")?.unwrap_or_default() {
            if let Some(id) = id(&at) {
                tokens.put(id, text, USER_DEFINED, -1000.0);
            }
        }
        let mut added: Vec<(usize, Value)> = Vec::new();
        let config = self.folder.json("tokenizer_config.json")?.unwrap_or_default();
        let decoder = config.get("added_tokens_decoder").and_then(Value::as_object);
        let of_key = |(key, token): (&String, &Value)| Some((key.parse().ok()?, token.clone()));
        added.extend(decoder.into_iter().flatten().filter_map(of_key));
        let list = self.json.filter(|_| phi).and_then(|json| json.get("added_tokens")?.as_array());
        let of_token = |token: &Value| Some((id(token.get("id")?)?, token.clone()));
        added.extend(list.into_iter().flatten().filter_map(of_token));
        for (id, token) in added {
            let Some(text) = token.get("content").and_then(Value::as_str) else { continue };
            let special = token.get("special").and_then(Value::as_bool).unwrap_or(false);
            if special || (!phi && looks_special(text)) {
                tokens.put(id, text.to_owned(), CONTROL, -1000.0);
            } else {
                let text = if phi { text.to_owned() } else { spaced(text) };
                tokens.put(id, text, USER_DEFINED, -1000.0);
            }
        }
        Ok(())
    }

    fn state_scored(&self, tokens: Tokens, meta: &mut MetaBuilder) -> Result<u64, ConvertError> {
        let count = tokens.texts.len();
        meta.insert("tokenizer.ggml.model", "llama");
        meta.insert("tokenizer.ggml.pre", "default");
        meta.insert("tokenizer.ggml.tokens", tokens.texts);
        meta.insert("tokenizer.ggml.scores", tokens.scores);
        meta.insert("tokenizer.ggml.token_type", tokens.kinds);
        Special::read(self.folder, self.json, u32::try_from(count).ok())?.states(meta);
        Ok(count as u64)
    }

    /// What is stated before the tokens.
    fn before(&self, meta: &mut MetaBuilder) -> Result<(), ConvertError> {
        if self.family.tokens == families::Tokens::Llama {
            let config = self.folder.json("tokenizer_config.json")?.unwrap_or_default();
            if let Some(add) = config.get("add_prefix_space").and_then(Value::as_bool) {
                meta.insert(SPACE, add);
            }
        }
        if self.family.tokens == families::Tokens::Bert {
            self.token_types(meta)?;
        }
        Ok(())
    }

    /// States how many kinds of texts a token can belong to.
    fn token_types(&self, meta: &mut MetaBuilder) -> Result<(), ConvertError> {
        let config = self.folder.json("config.json")?.unwrap_or_default();
        let types = config.get("type_vocab_size").and_then(Value::as_u64).unwrap_or(2);
        meta.insert("tokenizer.ggml.token_type_count", types as u32);
        Ok(())
    }

    /// What is stated after them.
    fn after(&self, meta: &mut MetaBuilder) {
        match self.family.tokens {
            families::Tokens::Gemma => meta.insert(SPACE, false),
            families::Tokens::Llama if self.rows == Some(CODE_LLAMA) => {
                let fill = ["prefix", "suffix", "middle", "eot"];
                for (id, kind) in (32007u32..).zip(fill) {
                    meta.insert(&format!("tokenizer.ggml.{kind}_token_id"), id);
                }
            }
            families::Tokens::Llama if self.rows == Some(GRANITE) => {
                meta.insert("tokenizer.ggml.add_bos_token", false);
            }
            _ => {}
        }
    }
}

impl Tokens {
    /// So many tokens that are never used.
    fn padding(size: usize) -> Self {
        Tokens {
            texts: (0..size).map(|i| format!("[PAD{i}]")).collect(),
            kinds: vec![UNUSED; size],
            scores: vec![-10_000.0; size],
        }
    }

    /// Replaces a token; one beyond the model's rows is left out.
    fn put(&mut self, id: usize, text: String, kind: i32, score: f32) {
        let places = (self.texts.get_mut(id), self.kinds.get_mut(id), self.scores.get_mut(id));
        if let (Some(t), Some(k), Some(s)) = places {
            (*t, *k, *s) = (text, kind, score);
        }
    }
}

impl Piece {
    /// The kind as GGUF numbers it.
    fn kind(&self) -> i32 {
        match self.kind {
            2 => UNKNOWN,
            3 => CONTROL,
            5 => UNUSED,
            6 => BYTE,
            // A user's own pieces are written as normal ones.
            _ => NORMAL,
        }
    }
}

/// Whether a space is put before a text.
const SPACE: &str = "tokenizer.ggml.add_space_prefix";
/// Rows of CodeLlama's embedding, which no other Llama has.
const CODE_LLAMA: u32 = 32016;
/// Rows of the small Granites' embedding (and of SmolLM's): no begin-of-text is added.
const GRANITE: u32 = 49152;
/// Special tokens of GLM-4 by their texts.
const GLM: &[(&str, &str)] = &[
    ("eos", "<|endoftext|>"),
    ("eot", "<|user|>"),
    ("unk", "<|endoftext|>"),
    ("bos", "<|endoftext|>"),
];

/// Those of GLM-4.5.
const GLM_MOE: &[(&str, &str)] = &[
    ("bos", "[gMASK]"),
    ("eot", "<|user|>"),
    ("unk", "<|endoftext|>"),
    ("eom", "<|observation|>"),
];

/// Whether a text looks like that of a control token, which some files do not mark.
fn looks_special(text: &str) -> bool {
    let within = |start: &str, end: &str| text.starts_with(start) && text.ends_with(end);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || within("<|", "|>")
        || within("<｜", "｜>")
        || within("<unused", ">")
}

/// A text with real spaces for SentencePiece's marks.
fn spaced(text: &str) -> String {
    text.replace('\u{2581}', " ")
}
