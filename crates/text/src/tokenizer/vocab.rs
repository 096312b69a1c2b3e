//! The vocabulary as plain data: pieces, kinds, scores, special tokens and the rules about adding them, read from GGUF metadata.
//! Defaults per model family are those that files without the keys rely on. Knows no algorithm.

use hob_gguf::Metadata;

use super::pieces::Pieces;
use crate::{TextError, Token};

/// The longest text of all pieces together: above it offsets would not fit.
const MAX_PIECES_BYTES: usize = u32::MAX as usize;

/// Tokens whose text ends an answer, whatever the file's metadata says.
const END_OF_GENERATION: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // Fill-in-the-middle padding and repository marks: nothing of the answer follows them.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Channel marks of gpt-oss: part of the text, so that a parser can see them.
const VISIBLE_MARKS: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// `tokenizer.ggml.model`: the algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Byte-level BPE (`gpt2`).
    ByteBpe,
    /// BPE with merges on raw UTF-8 (`gemma4`).
    RawBpe,
    /// SentencePiece BPE by scores (`llama`).
    ScoreBpe,
    /// WordPiece (`bert`).
    WordPiece,
    /// Unigram (`t5`).
    Unigram,
}

/// `tokenizer.ggml.token_type`: what a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn from_id(id: i32) -> Self {
        match id {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            6 => Kind::Byte,
            // 5, and 0 "undefined": never produced from text, no text of its own.
            _ => Kind::Unused,
        }
    }
}

/// Which tokens swallow whitespace beside them; no metadata key says so, only the model's identity.
#[derive(Debug, Clone, Default)]
pub(super) struct Strip {
    pub(super) left: Vec<Token>,
    pub(super) right: Vec<Token>,
}

/// A vocabulary and its rules.
#[derive(Debug)]
pub(super) struct Vocab {
    pub(super) family: Family,
    /// Name of the pre-tokenizer; only BPE by merges has one.
    pub(super) pre: String,
    /// The entries as the file writes them.
    pub(super) pieces: Pieces,
    pub(super) kinds: Vec<Kind>,
    pub(super) scores: Vec<f32>,
    pub(super) bos: Option<Token>,
    pub(super) eos: Option<Token>,
    pub(super) unk: Option<Token>,
    pub(super) sep: Option<Token>,
    pub(super) pad: Option<Token>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    pub(super) add_space_prefix: bool,
    pub(super) remove_extra_whitespace: bool,
    pub(super) lowercase: bool,
    pub(super) strip_accents: bool,
    pub(super) strip: Strip,
    /// Tokens that end an answer, sorted.
    pub(super) end_of_generation: Vec<Token>,
}

impl Vocab {
    /// Reads everything but merges and normalization maps.
    pub(super) fn from_gguf(meta: &Metadata) -> Result<Self, TextError> {
        let family = family(meta)?;
        let pieces = read_pieces(meta)?;
        let count = pieces.len();
        let kinds = read_kinds(meta, count)?;
        let scores = read_scores(meta, count)?;
        let mut vocab = Self {
            pre: pre_tokenizer(meta, family)?,
            family,
            pieces,
            kinds,
            scores,
            bos: None,
            eos: None,
            unk: None,
            sep: None,
            pad: None,
            add_bos: matches!(family, Family::ScoreBpe | Family::WordPiece),
            add_eos: matches!(family, Family::Unigram | Family::WordPiece),
            add_space_prefix: family == Family::ScoreBpe,
            remove_extra_whitespace: false,
            lowercase: true,
            strip_accents: true,
            strip: Strip::default(),
            end_of_generation: Vec::new(),
        };
        vocab.read_special_ids(meta)?;
        vocab.read_rules(meta)?;
        vocab.mark_special(meta)?;
        vocab.strip = strip_rules(meta, &vocab)?;
        Ok(vocab)
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    pub(super) fn kind(&self, token: Token) -> Kind {
        self.kinds.get(token as usize).copied().unwrap_or(Kind::Unused)
    }

    pub(super) fn find(&self, piece: &str) -> Option<Token> {
        self.pieces.find(piece.as_bytes())
    }

    /// As [`Vocab::find`], for pieces that text itself may become: a prompt cannot spell a control token.
    pub(super) fn find_text(&self, piece: &[u8]) -> Option<Token> {
        self.pieces.find(piece).filter(|&t| self.is_text(t))
    }

    /// Whether a token stands for its own text.
    pub(super) fn is_text(&self, token: Token) -> bool {
        matches!(self.kind(token), Kind::Normal | Kind::UserDefined | Kind::Unused)
    }

    /// The byte tokens `<0x00>` to `<0xFF>`, if the vocabulary has them.
    pub(super) fn byte_tokens(&self) -> [Option<Token>; 256] {
        std::array::from_fn(|byte| self.find(&format!("<0x{byte:02X}>")))
    }

    fn read_special_ids(&mut self, meta: &Metadata) -> Result<(), TextError> {
        let defaults = match self.family {
            Family::ScoreBpe => [Some(1), Some(2), Some(0), None, None],
            Family::WordPiece => [Some(101), None, Some(100), Some(102), Some(0)],
            Family::Unigram => [None, Some(1), Some(2), None, Some(0)],
            Family::ByteBpe | Family::RawBpe => [None; 5],
        };
        let count = self.len();
        let read = |name: &str, default: Option<Token>| -> Result<Option<Token>, TextError> {
            let id = meta.opt_i64(&format!("tokenizer.ggml.{name}_token_id"))?;
            // Files carry ids out of range (-1 for "none"); such an id means nothing.
            let id = id.and_then(|id| Token::try_from(id).ok()).filter(|&t| (t as usize) < count);
            Ok(id.or(default).filter(|&t| (t as usize) < count))
        };
        let [bos, eos, unk, sep, pad] = defaults;
        // BERT files name their first token either way.
        self.bos = match self.family {
            Family::WordPiece => read("bos", read("cls", bos)?)?,
            _ => read("bos", bos)?,
        };
        self.eos = read("eos", eos)?;
        self.unk = read("unknown", unk)?;
        self.sep = read("separator", read("seperator", sep)?)?;
        self.pad = read("padding", pad)?;
        Ok(())
    }

    fn read_rules(&mut self, meta: &Metadata) -> Result<(), TextError> {
        let flag = |name: &str| meta.opt_bool(&format!("tokenizer.ggml.{name}"));
        if let Some(on) = flag("add_bos_token")? {
            self.add_bos = on;
        }
        if let Some(on) = flag("add_eos_token")? {
            self.add_eos = on;
        }
        // Gemma 4 was published in files that say no and mean yes.
        self.add_bos |= self.family == Family::RawBpe && self.pre != "sarvam-moe";
        self.add_space_prefix = flag("add_space_prefix")?.unwrap_or(self.add_space_prefix);
        self.remove_extra_whitespace = flag("remove_extra_whitespaces")?.unwrap_or(false);
        self.lowercase = flag("normalizer.lowercase")?.unwrap_or(true);
        self.strip_accents = flag("normalizer.strip_accents")?.unwrap_or(self.lowercase);
        Ok(())
    }

    /// Collects the tokens that end an answer and corrects kinds that files are known to get wrong.
    fn mark_special(&mut self, meta: &Metadata) -> Result<(), TextError> {
        let mut ends: Vec<Token> = END_OF_GENERATION.iter().filter_map(|p| self.find(p)).collect();
        for &token in &ends {
            self.set_kind(token, Kind::Control);
        }
        for mark in VISIBLE_MARKS {
            self.find(mark).into_iter().for_each(|t| self.set_kind(t, Kind::UserDefined));
        }
        let has = |p: &str| self.find(p).is_some();
        // In harmony-like formats a message ends with <|end|> but the answer goes on.
        let calls = has("<|call|>") || has("<|calls|>");
        if calls && (has("<|return|>") || has("<|flush|>")) {
            self.demote("<|end|>", Kind::UserDefined, &mut ends);
        }
        // Gemma 4 and PLaMo have the HTML tag </s> as ordinary text.
        if self.find("<|tool_response>").is_some() || self.find("<|plamo:eos|>").is_some() {
            self.demote("</s>", Kind::Normal, &mut ends);
        }
        ends.extend(self.eos);
        for name in ["eot", "eom"] {
            let id = meta.opt_i64(&format!("tokenizer.ggml.{name}_token_id"))?;
            ends.extend(id.and_then(|id| Token::try_from(id).ok()));
        }
        ends.retain(|&t| (t as usize) < self.len());
        ends.sort_unstable();
        ends.dedup();
        self.end_of_generation = ends;
        Ok(())
    }

    fn demote(&mut self, piece: &str, kind: Kind, ends: &mut Vec<Token>) {
        if let Some(token) = self.find(piece) {
            self.set_kind(token, kind);
            ends.retain(|&t| t != token);
        }
    }

    fn set_kind(&mut self, token: Token, kind: Kind) {
        if let Some(slot) = self.kinds.get_mut(token as usize) {
            *slot = kind;
        }
    }
}

fn family(meta: &Metadata) -> Result<Family, TextError> {
    let model = meta.str("tokenizer.ggml.model")?;
    let pre = meta.opt_str("tokenizer.ggml.pre")?.unwrap_or_default();
    Ok(match model {
        "gpt2" if super::pre::is_raw_utf8(pre) => Family::RawBpe,
        "gpt2" => Family::ByteBpe,
        "gemma4" => Family::RawBpe,
        "llama" => Family::ScoreBpe,
        "bert" => Family::WordPiece,
        "t5" => Family::Unigram,
        other => return Err(TextError::UnknownModel(other.to_owned())),
    })
}

fn pre_tokenizer(meta: &Metadata, family: Family) -> Result<String, TextError> {
    let named = meta.opt_str("tokenizer.ggml.pre")?.filter(|name| !name.is_empty());
    Ok(match (family, named) {
        (Family::RawBpe, Some(name)) if super::pre::is_raw_utf8(name) => name,
        (Family::RawBpe, _) => "gemma4",
        // Files from before the key existed were all made with one pattern.
        (_, named) => named.unwrap_or("default"),
    }
    .to_owned())
}

fn read_pieces(meta: &Metadata) -> Result<Pieces, TextError> {
    const KEY: &str = "tokenizer.ggml.tokens";
    let array = meta.array(KEY)?;
    let bad = |reason: String| TextError::BadValue { key: KEY, reason };
    let strings = array
        .byte_strings()
        .ok_or_else(|| bad(format!("an array of {}, expected strings", array.element_type())))?;
    if strings.len() == 0 {
        return Err(bad("no tokens".to_owned()));
    }
    if array.raw().len() > MAX_PIECES_BYTES {
        return Err(bad(format!("{} bytes, at most {MAX_PIECES_BYTES}", array.raw().len())));
    }
    let mut pieces = Pieces::with_capacity(strings.len());
    for piece in strings {
        pieces.push(piece);
    }
    Ok(pieces)
}

fn read_kinds(meta: &Metadata, count: usize) -> Result<Vec<Kind>, TextError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    let Some(ids) = meta.opt_values::<i32>(KEY)? else { return Ok(vec![Kind::Normal; count]) };
    let kinds: Vec<Kind> = ids.take(count).map(Kind::from_id).collect();
    same_count(KEY, kinds.len(), count)?;
    Ok(kinds)
}

fn read_scores(meta: &Metadata, count: usize) -> Result<Vec<f32>, TextError> {
    const KEY: &str = "tokenizer.ggml.scores";
    let Some(scores) = meta.opt_values::<f32>(KEY)? else { return Ok(vec![0.0; count]) };
    let scores: Vec<f32> = scores.take(count).collect();
    same_count(KEY, scores.len(), count)?;
    Ok(scores)
}

fn same_count(key: &'static str, found: usize, expected: usize) -> Result<(), TextError> {
    if found == expected {
        return Ok(());
    }
    let reason = format!("{found} entries for {expected} tokens");
    Err(TextError::BadValue { key, reason })
}

/// Phi-3 was trained with its special tokens swallowing the whitespace after them, mask tokens that before them.
fn strip_rules(meta: &Metadata, vocab: &Vocab) -> Result<Strip, TextError> {
    let name = meta.opt_str("general.name")?.unwrap_or_default().to_lowercase();
    let architecture = meta.opt_str("general.architecture")?.unwrap_or_default();
    let mut strip = Strip::default();
    let jina = ["jina-v2-de", "jina-v2-es", "jina-v2-code"].contains(&vocab.pre.as_str());
    if jina || ["nomic-bert-moe", "jina-bert-v3"].contains(&architecture) {
        strip.left.extend(vocab.find("<mask>"));
    } else if name.contains("phi-3") || name.contains("phi3") {
        let is_special = |t: &Token| {
            matches!(vocab.kind(*t), Kind::Control | Kind::UserDefined | Kind::Unknown)
                && !matches!(vocab.pieces.get(*t), b"<unk>" | b"<s>" | b"<|endoftext|>")
        };
        strip.right.extend((0..vocab.len() as Token).filter(is_special));
    } else if vocab.pre == "modern-bert" {
        strip.left.extend(vocab.find("[MASK]"));
    }
    Ok(strip)
}
