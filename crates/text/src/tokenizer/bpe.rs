//! BPE by a list of merges, on bytes (GPT-2 and its descendants) or on UTF-8 characters with `▁` for spaces (Gemma 4).
//! Merges are looked up by pairs of token ids, words repeated in one text are merged once.
//! Own code instead of Hugging Face's `tokenizers`: that reads tokenizer.json rather than GGUF, splits by a backtracking engine with
//! quadratic cases, and brings a C library; what is needed here are these 200 lines and the `regex` crate.

use std::borrow::Cow;
use std::ops::Range;

use hashbrown::HashMap;
use hob_gguf::Metadata;

use super::merge::{Merger, Pairs, Symbol};
use super::pre::PreTokenizer;
use super::vocab::{Kind, Vocab};
use crate::{TextError, Token};

/// The longest word that is merged as one: beyond it (never in honest text) it is cut, so that memory stays bounded.
pub(super) const MAX_WORD_BYTES: usize = 16 << 20;

/// `▁`, which stands for a space in SentencePiece-like vocabularies.
pub(super) const SPACE_MARK: &str = "\u{2581}";

/// The character that stands for each byte in byte-level vocabularies (from GPT-2: printable Latin-1 stays, the rest moves up).
pub(super) fn byte_chars() -> [char; 256] {
    let mut moved = 0x100..;
    std::array::from_fn(|byte| {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        let code = if printable { byte as u32 } else { moved.next().unwrap_or_default() };
        char::from_u32(code).unwrap_or_default()
    })
}

/// The byte that a character of a byte-level piece stands for.
pub(super) fn char_byte(c: char, table: &[char; 256]) -> Option<u8> {
    let code = c as u32;
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => Some(code as u8),
        // The moved ones are 0x100..0x144 in order of their bytes: few enough to search.
        0x100..=0x143 => table.iter().position(|&t| t == c).map(|byte| byte as u8),
        _ => None,
    }
}

/// Merges by pair of ids.
#[derive(Debug)]
struct MergeTable(HashMap<(u32, u32), (u32, u32)>);

impl Pairs for MergeTable {
    fn find(&self, _: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        self.0.get(&(left.id, right.id)).copied()
    }
}

/// What the first symbols of a word are.
#[derive(Debug)]
enum Alphabet {
    /// Bytes, each with its symbol.
    Bytes(Box<[u32; 256]>),
    /// Characters, found in the vocabulary.
    Chars,
}

/// The algorithm with its tables.
#[derive(Debug)]
pub(super) struct Bpe {
    pre: PreTokenizer,
    merges: MergeTable,
    alphabet: Alphabet,
    chars: [char; 256],
    /// Symbols that occur in merges but not in the vocabulary.
    strangers: HashMap<Vec<u8>, u32>,
    /// What a byte becomes when its symbol is no token.
    byte_tokens: [Option<Token>; 256],
}

impl Bpe {
    /// Reads `tokenizer.ggml.merges` for a vocabulary; `raw` is the variant on characters.
    pub(super) fn new(meta: &Metadata, vocab: &Vocab, raw: bool) -> Result<Self, TextError> {
        let pre = PreTokenizer::new(&vocab.pre)?;
        let mut strangers = HashMap::new();
        let mut symbol = |piece: &[u8]| match vocab.pieces.find(piece) {
            Some(token) => token,
            None => {
                let next = (vocab.len() + strangers.len()) as u32;
                *strangers.entry(piece.to_vec()).or_insert(next)
            }
        };
        let chars = byte_chars();
        let alphabet = if raw {
            Alphabet::Chars
        } else {
            let mut buffer = [0; 4];
            let symbols = chars.map(|c| symbol(c.encode_utf8(&mut buffer).as_bytes()));
            Alphabet::Bytes(Box::new(symbols))
        };
        let merges = read_merges(meta, &mut symbol)?;
        let byte_tokens = if raw {
            vocab.byte_tokens()
        } else {
            chars.map(|c| vocab.find(c.encode_utf8(&mut [0; 4])))
        };
        Ok(Self { pre, merges, alphabet, chars, strangers, byte_tokens })
    }

    /// Whether begin-of-text is added where the file doesn't say.
    pub(super) fn add_bos(&self) -> bool {
        self.pre.add_bos
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<Token>) {
        let text = match self.alphabet {
            Alphabet::Chars => Cow::Owned(text.replace(' ', SPACE_MARK)),
            Alphabet::Bytes(_) => Cow::Borrowed(text),
        };
        let mut merger = Merger::default();
        let mut seen = WordCache::default();
        self.pre.split(&text, &mut |word| {
            seen.get_or(word, out, |out| self.encode_word(vocab, word, &mut merger, out));
        });
    }

    fn encode_word(&self, vocab: &Vocab, word: &str, merger: &mut Merger, out: &mut Vec<Token>) {
        if let Some(token) = self.whole(vocab, word) {
            return out.push(token);
        }
        for part in cut(word, MAX_WORD_BYTES) {
            merger.clear();
            match &self.alphabet {
                Alphabet::Bytes(symbols) => {
                    part.bytes().for_each(|b| merger.push(symbols[usize::from(b)], 1));
                }
                Alphabet::Chars => {
                    for (at, c) in part.char_indices() {
                        let piece = &part.as_bytes()[at..at + c.len_utf8()];
                        merger.push(self.char_symbol(vocab, piece), piece.len());
                    }
                }
            }
            merger.run(part.as_bytes(), &self.merges, |symbol| {
                self.emit(vocab, part.as_bytes(), symbol, out);
            });
        }
    }

    /// The word as one token, where the model looks there before merging.
    fn whole(&self, vocab: &Vocab, word: &str) -> Option<Token> {
        match self.alphabet {
            Alphabet::Bytes(_) if self.pre.ignore_merges => {
                let piece: String = word.bytes().map(|b| self.chars[usize::from(b)]).collect();
                vocab.find_text(piece.as_bytes())
            }
            // Runs of line ends are entries that no merge makes.
            Alphabet::Chars if word.starts_with('\n') => vocab.find_text(word.as_bytes()),
            _ => None,
        }
    }

    fn char_symbol(&self, vocab: &Vocab, piece: &[u8]) -> u32 {
        let stranger = || self.strangers.get(piece).copied().unwrap_or(u32::MAX);
        vocab.find_text(piece).unwrap_or_else(stranger)
    }

    fn emit(&self, vocab: &Vocab, word: &[u8], symbol: &Symbol, out: &mut Vec<Token>) {
        if (symbol.id as usize) < vocab.len() {
            return out.push(symbol.id);
        }
        // Some files name their end of text as unknown token: a byte without token must not end the text.
        let unknown = vocab.unk.filter(|&t| vocab.kind(t) == Kind::Unknown);
        let (start, end) = (symbol.start as usize, (symbol.start + symbol.len) as usize);
        for &byte in word.get(start..end).unwrap_or_default() {
            out.extend(self.byte_tokens[usize::from(byte)].or(unknown));
        }
    }
}

fn read_merges(
    meta: &Metadata,
    symbol: &mut impl FnMut(&[u8]) -> u32,
) -> Result<MergeTable, TextError> {
    const KEY: &str = "tokenizer.ggml.merges";
    let array = meta.array(KEY)?;
    let bad = |reason: String| TextError::BadValue { key: KEY, reason };
    let wrong = || bad(format!("an array of {}, expected strings", array.element_type()));
    let strings = array.byte_strings().ok_or_else(wrong)?;
    let mut table = HashMap::with_capacity(strings.len());
    let mut merged = Vec::new();
    for (rank, merge) in strings.enumerate() {
        // The first byte may itself be a space.
        let space = merge.iter().skip(1).position(|&b| b == b' ').map(|at| at + 1);
        let Some((left, right)) = space.map(|at| (&merge[..at], &merge[at + 1..])) else {
            return Err(bad(format!("entry {rank} is no pair")));
        };
        merged.clear();
        merged.extend_from_slice(left);
        merged.extend_from_slice(right);
        let pair = (symbol(left), symbol(right));
        table.entry(pair).or_insert((rank as u32, symbol(&merged)));
    }
    Ok(MergeTable(table))
}

/// Cuts text into parts of at most `limit` bytes, between characters.
pub(super) fn cut(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (head, tail) = rest.split_at(rest.floor_char_boundary(limit));
        rest = tail;
        Some(head)
    })
}

/// Remembers where the tokens of a word were written, so that they are copied when it comes again.
#[derive(Default)]
pub(super) struct WordCache<'t>(HashMap<&'t str, Range<usize>>);

impl<'t> WordCache<'t> {
    /// Words longer than this seldom come again.
    const MAX_WORD: usize = 64;
    /// Entries kept: some megabytes.
    const MAX_WORDS: usize = 1 << 16;

    /// Appends the tokens of `word` to `out`: a copy, or what `encode` appends.
    pub(super) fn get_or(
        &mut self,
        word: &'t str,
        out: &mut Vec<Token>,
        encode: impl FnOnce(&mut Vec<Token>),
    ) {
        if word.len() > Self::MAX_WORD {
            return encode(out);
        }
        if let Some(tokens) = self.0.get(word) {
            return out.extend_from_within(tokens.clone());
        }
        let start = out.len();
        encode(out);
        if self.0.len() < Self::MAX_WORDS {
            self.0.insert(word, start..out.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_characters_are_a_bijection() {
        let table = byte_chars();
        for (byte, &c) in table.iter().enumerate() {
            assert_eq!(char_byte(c, &table), Some(byte as u8));
        }
        assert_eq!((table[b' ' as usize], table[b'\n' as usize]), ('Ġ', 'Ċ'));
        assert_eq!(char_byte('世', &table), None);
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("aé世b", 3).collect::<Vec<_>>(), ["aé", "世", "b"]);
        assert_eq!(cut("", 3).count(), 0);
    }
}
