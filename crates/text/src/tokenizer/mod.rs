//! The tokenizer of a model, chosen and filled by GGUF metadata: one type, five algorithms behind an enum.
//! Encoding follows the model's own tokenizer; where llama.cpp's differs from it, the model's is right. Deliberately absent:
//! training, offsets, and Hugging Face's clean-up of spaces in decoded text, since decoding must give back what was encoded.

mod bpe;
mod merge;
mod pieces;
mod pre;
mod special;
mod spm;
mod trie;
mod unigram;
mod vocab;
mod wordpiece;

use std::borrow::Cow;

use hob_gguf::Metadata;

use crate::{Detokenizer, TextError, Token};
use bpe::{Bpe, SPACE_MARK};
use pieces::Pieces;
use special::{Part, Special};
use spm::Spm;
use unigram::Unigram;
use vocab::{Family, Kind, Vocab};
use wordpiece::WordPiece;

/// How text becomes tokens. The default adds nothing and trusts nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Add begin, end and separator tokens as the model expects them.
    pub add_special: bool,
    /// Read control tokens (`<|im_start|>`) in the text as such. Only for text that the program wrote, as chat templates do.
    pub parse_special: bool,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one value per model, boxed")]
enum Algorithm {
    Bpe(Bpe),
    Spm(Spm),
    WordPiece(WordPiece),
    Unigram(Unigram),
}

/// A model's tokenizer: immutable, shared by all threads.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Box<Algorithm>,
    special: Special,
    /// What each token adds to a text.
    texts: Pieces,
}

impl Tokenizer {
    /// Reads the `tokenizer.ggml.*` keys.
    ///
    /// # Errors
    /// A tokenizer model or pre-tokenizer that is not known ([`TextError::UnknownModel`], [`TextError::UnknownPreTokenizer`]),
    /// and keys that are missing or make no sense.
    pub fn from_gguf(meta: &Metadata) -> Result<Self, TextError> {
        let mut vocab = Vocab::from_gguf(meta)?;
        let algorithm = match vocab.family {
            Family::ByteBpe => Algorithm::Bpe(Bpe::new(meta, &vocab, false)?),
            Family::RawBpe => Algorithm::Bpe(Bpe::new(meta, &vocab, true)?),
            Family::ScoreBpe => Algorithm::Spm(Spm::new(&vocab)),
            Family::WordPiece => Algorithm::WordPiece(WordPiece::new(&vocab)),
            Family::Unigram => Algorithm::Unigram(Unigram::new(meta, &vocab)?),
        };
        if let Algorithm::Bpe(bpe) = &algorithm
            && !meta.contains("tokenizer.ggml.add_bos_token")
        {
            vocab.add_bos |= bpe.add_bos();
        }
        let special = Special::new(&vocab);
        let texts = texts(&vocab);
        Ok(Self { vocab, algorithm: Box::new(algorithm), special, texts })
    }

    /// The tokens of a text.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<Token> {
        let mut out = Vec::with_capacity(text.len() / 4 + 2);
        if options.add_special && self.vocab.add_bos {
            out.extend(self.vocab.bos);
        }
        let mut after_special = true;
        for part in self.special.parts(&self.vocab, text, options.parse_special) {
            match part {
                Part::Special(token) => out.push(token),
                Part::Text(text) => self.encode_text(text, after_special, &mut out),
            }
            after_special = matches!(part, Part::Special(_));
        }
        if options.add_special {
            match self.vocab.family {
                Family::WordPiece => out.extend(self.vocab.sep),
                _ if self.vocab.add_eos => out.extend(self.vocab.eos),
                _ => {}
            }
        }
        out
    }

    fn encode_text(&self, text: &str, after_special: bool, out: &mut Vec<Token>) {
        match &*self.algorithm {
            Algorithm::Bpe(bpe) => bpe.encode(&self.vocab, text, out),
            Algorithm::Spm(spm) => {
                let prefix = self.vocab.add_space_prefix && after_special;
                spm.encode(&self.vocab, text, prefix, out);
            }
            Algorithm::WordPiece(wordpiece) => wordpiece.encode(&self.vocab, text, out),
            Algorithm::Unigram(unigram) => unigram.encode(&self.vocab, text, out),
        }
    }

    /// The text of tokens, control tokens left out. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[Token]) -> String {
        self.decode_with(tokens, false)
    }

    /// As [`Tokenizer::decode`]; `special` writes control tokens as their names.
    pub fn decode_with(&self, tokens: &[Token], special: bool) -> String {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        let mut strip = self.strips_first_space();
        for &token in tokens {
            let mut text = self.token_bytes(token, special);
            if strip && !text.is_empty() {
                text = text.strip_prefix(b" ").unwrap_or(text);
                strip = false;
            }
            bytes.extend_from_slice(text);
        }
        match String::from_utf8_lossy(&bytes) {
            Cow::Owned(text) => text,
            // Valid as it is.
            Cow::Borrowed(_) => String::from_utf8(bytes).unwrap_or_default(),
        }
    }

    /// A decoder for tokens that come one by one and continue a text.
    pub fn detokenizer(&self) -> Detokenizer<'_> {
        Detokenizer::new(self)
    }

    /// Whether encoding puts a space before a text, which decoding takes away again.
    pub(crate) fn strips_first_space(&self) -> bool {
        self.vocab.add_space_prefix || self.vocab.family == Family::WordPiece
    }

    /// The bytes that a token adds to a text (perhaps a part of a character). Control tokens add none, or their name if `special`.
    pub fn token_bytes(&self, token: Token, special: bool) -> &[u8] {
        match self.vocab.kind(token) {
            Kind::Control | Kind::Unknown if !special => &[],
            _ => self.texts.get(token),
        }
    }

    /// The vocabulary entry as the file writes it, empty beyond the vocabulary.
    pub fn piece(&self, token: Token) -> Cow<'_, str> {
        String::from_utf8_lossy(self.vocab.pieces.get(token))
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<Token> {
        self.vocab.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<Token> {
        self.vocab.eos
    }

    /// The token that fills the place of none.
    pub fn pad(&self) -> Option<Token> {
        self.vocab.pad
    }

    /// The token that separates two texts.
    pub fn sep(&self) -> Option<Token> {
        self.vocab.sep
    }

    /// Whether `add_special` puts [`Tokenizer::bos`] first.
    pub fn add_bos(&self) -> bool {
        self.vocab.add_bos && self.vocab.bos.is_some()
    }

    /// Whether `add_special` puts [`Tokenizer::eos`] last.
    pub fn add_eos(&self) -> bool {
        self.vocab.add_eos && self.vocab.eos.is_some() && self.vocab.family != Family::WordPiece
    }

    /// Whether an answer ends at this token: end of text, of turn or of message.
    pub fn is_eog(&self, token: Token) -> bool {
        self.vocab.end_of_generation.binary_search(&token).is_ok()
    }

    /// All tokens at which an answer ends.
    pub fn eog_tokens(&self) -> &[Token] {
        &self.vocab.end_of_generation
    }

    /// Whether a token steers the model instead of being text.
    pub fn is_control(&self, token: Token) -> bool {
        matches!(self.vocab.kind(token), Kind::Control | Kind::Unknown)
    }

    /// The token whose vocabulary entry is `piece`.
    pub fn token_id(&self, piece: &str) -> Option<Token> {
        self.vocab.find(piece)
    }
}

/// What each token adds to a text, by the writing of its family.
fn texts(vocab: &Vocab) -> Pieces {
    let chars = bpe::byte_chars();
    let mut texts = Pieces::with_capacity(vocab.len());
    let mut text = Vec::new();
    for token in 0..vocab.len() as Token {
        let piece = vocab.pieces.get(token);
        text.clear();
        match (vocab.kind(token), vocab.family) {
            (Kind::Control | Kind::Unknown | Kind::UserDefined, _) => text.extend_from_slice(piece),
            (Kind::Byte, _) => text.extend(byte_of(piece)),
            (_, Family::ByteBpe) => unmap_bytes(piece, &chars, &mut text),
            _ => unmark_spaces(piece, &mut text),
        }
        texts.push(&text);
    }
    texts
}

/// The byte that `<0x0A>` stands for.
fn byte_of(piece: &[u8]) -> Option<u8> {
    let digits = piece.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Undoes the byte alphabet; a character that is not of it stands for itself.
fn unmap_bytes(piece: &[u8], chars: &[char; 256], text: &mut Vec<u8>) {
    for chunk in piece.utf8_chunks() {
        for c in chunk.valid().chars() {
            match bpe::char_byte(c, chars) {
                Some(byte) => text.push(byte),
                None => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        text.extend_from_slice(chunk.invalid());
    }
}

/// Writes `▁` as a space.
fn unmark_spaces(piece: &[u8], text: &mut Vec<u8>) {
    let mut rest = piece;
    while let Some((&first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(SPACE_MARK.as_bytes()) {
            text.push(b' ');
            rest = after;
        } else {
            text.push(first);
            rest = tail;
        }
    }
}
