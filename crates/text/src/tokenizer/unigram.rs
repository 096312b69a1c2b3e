//! Unigram (`t5`): of all ways to cut the text into pieces, the one with the best sum of scores (Viterbi, as in SentencePiece).
//! Normalization is SentencePiece's compiled character map, found in the file. Absent: sampling of segmentations.

use hob_gguf::{Metadata, Value};

use super::bpe::SPACE_MARK;
use super::trie::Trie;
use super::vocab::{Kind, Vocab};
use crate::{TextError, Token};

/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The longest replacement that is honoured (Unicode's own go to 33): a file must not make a text thousands of times longer.
const MAX_REPLACEMENT_BYTES: usize = 64;

/// The algorithm with its tables.
#[derive(Debug)]
pub(super) struct Unigram {
    pieces: Trie,
    user_defined: Trie,
    charsmap: Option<CharsMap>,
    unknown_score: f64,
    /// All 256, if unknown characters are written as bytes.
    byte_tokens: Option<[Token; 256]>,
}

/// The best way to reach a position of the text.
#[derive(Clone, Copy)]
struct Step {
    score: f64,
    start: u32,
    token: Option<Token>,
}

impl Unigram {
    pub(super) fn new(meta: &Metadata, vocab: &Vocab) -> Result<Self, TextError> {
        let normal = (0..vocab.len() as Token).filter(|&t| vocab.kind(t) == Kind::Normal);
        let worst = normal.map(|t| score(vocab, t)).fold(f64::INFINITY, f64::min);
        let byte_tokens = vocab.byte_tokens();
        let is_byte = |t: &Option<Token>| t.is_some_and(|t| vocab.kind(t) == Kind::Byte);
        Ok(Self {
            pieces: Trie::new(vocab, |t| vocab.is_text(t)),
            user_defined: Trie::new(vocab, |t| vocab.kind(t) == Kind::UserDefined),
            charsmap: CharsMap::from_gguf(meta)?,
            unknown_score: if worst.is_finite() { worst - UNKNOWN_PENALTY } else { 0.0 },
            byte_tokens: byte_tokens
                .iter()
                .all(is_byte)
                .then(|| byte_tokens.map(Option::unwrap_or_default)),
        })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<Token>) {
        for part in super::bpe::cut(text, super::bpe::MAX_WORD_BYTES) {
            let text = self.normalize(vocab, part);
            let steps = self.best_steps(vocab, &text);
            self.collect(vocab, text.as_bytes(), &steps, out);
        }
    }

    /// For each position the best way to get there.
    fn best_steps(&self, vocab: &Vocab, text: &str) -> Vec<Step> {
        let unreached = Step { score: f64::NEG_INFINITY, start: 0, token: None };
        let mut steps = vec![unreached; text.len() + 1];
        steps[0].score = 0.0;
        for (at, c) in text.char_indices() {
            let so_far = steps[at].score;
            let mut reach = |len: usize, gain: f64, token| {
                let step = &mut steps[at + len];
                if so_far + gain > step.score {
                    *step = Step { score: so_far + gain, start: at as u32, token };
                }
            };
            let mut covered = false;
            for (token, len) in self.pieces.prefixes(&text.as_bytes()[at..]) {
                reach(len, score(vocab, token), Some(token));
                covered |= len == c.len_utf8();
            }
            if !covered {
                reach(c.len_utf8(), self.unknown_score, None);
            }
        }
        steps
    }

    /// Walks back from the end; neighbouring unknown characters become one unknown token, or their bytes.
    fn collect(&self, vocab: &Vocab, text: &[u8], steps: &[Step], out: &mut Vec<Token>) {
        let start = out.len();
        let mut after_unknown = false;
        let mut at = text.len();
        while at > 0 {
            let step = steps[at];
            let from = step.start as usize;
            match (step.token, &self.byte_tokens) {
                (Some(token), _) => out.push(token),
                (None, Some(bytes)) => {
                    out.extend(text[from..at].iter().rev().map(|&b| bytes[usize::from(b)]));
                }
                (None, None) if !after_unknown => out.extend(vocab.unk),
                (None, None) => {}
            }
            after_unknown = step.token.is_none();
            at = from;
        }
        out[start..].reverse();
    }

    /// The character map, then spaces as the vocabulary wants them.
    fn normalize(&self, vocab: &Vocab, text: &str) -> String {
        let mut mapped = String::with_capacity(text.len() + SPACE_MARK.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let user = self.user_defined.prefixes(rest.as_bytes()).last().map(|(_, len)| len);
            let map = || self.charsmap.as_ref().and_then(|map| map.longest(rest.as_bytes()));
            let (taken, written) = match user {
                Some(len) => (len, None),
                None => map().map_or((c.len_utf8(), None), |(len, to)| (len, Some(to))),
            };
            // The map is bytes from the file: never cut inside a character of the input.
            let (head, tail) = rest.split_at(rest.ceil_char_boundary(taken));
            mapped.push_str(written.unwrap_or(head));
            rest = tail;
        }
        mark_spaces(vocab, &mapped)
    }
}

fn score(vocab: &Vocab, token: Token) -> f64 {
    // User-defined pieces win against any split: real scores are logarithms of probabilities.
    let score = vocab.scores.get(token as usize).copied().unwrap_or_default();
    if vocab.kind(token) == Kind::UserDefined { 0.0 } else { f64::from(score) }
}

/// Replaces spaces by `▁`, one before the text if the vocabulary wants it, and merges runs if it says so.
fn mark_spaces(vocab: &Vocab, text: &str) -> String {
    let mut marked = String::with_capacity(text.len() + text.len() / 4 + SPACE_MARK.len());
    let merge = vocab.remove_extra_whitespace;
    let mut prefix = vocab.add_space_prefix;
    let mut in_word = false;
    for c in text.chars() {
        if c == ' ' {
            marked.push_str(if merge { "" } else { SPACE_MARK });
        } else {
            if !in_word && (prefix || merge && !marked.is_empty()) {
                marked.push_str(SPACE_MARK);
                prefix = false;
            }
            marked.push(c);
        }
        in_word = c != ' ';
    }
    marked
}

/// SentencePiece's compiled normalization: a double-array trie of byte sequences, and the NUL-terminated strings they become.
struct CharsMap {
    trie: yada::DoubleArray<Vec<u8>>,
    strings: Vec<u8>,
}

impl std::fmt::Debug for CharsMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CharsMap({} bytes of replacements)", self.strings.len())
    }
}

impl CharsMap {
    /// Reads `tokenizer.ggml.precompiled_charsmap`: length of the trie (u32), the trie, the strings.
    fn from_gguf(meta: &Metadata) -> Result<Option<Self>, TextError> {
        const KEY: &str = "tokenizer.ggml.precompiled_charsmap";
        let bad = |reason: &str| TextError::BadValue { key: KEY, reason: reason.to_owned() };
        let Some(Value::Array(array)) = meta.get(KEY) else { return Ok(None) };
        if array.element_type().size() != Some(1) {
            return Err(bad("not an array of bytes"));
        }
        let raw = array.raw();
        if raw.is_empty() {
            return Ok(None);
        }
        let (length, rest) = raw.split_first_chunk().ok_or_else(|| bad("shorter than 4 bytes"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (trie, strings) =
            rest.split_at_checked(length).ok_or_else(|| bad("the trie is longer than the map"))?;
        let trie = yada::DoubleArray::new(trie.to_vec()).map_err(|e| bad(&e.to_string()))?;
        Ok(Some(Self { trie, strings: strings.to_vec() }))
    }

    /// The longest sequence that `text` starts with: its length and what replaces it.
    fn longest(&self, text: &[u8]) -> Option<(usize, &str)> {
        let (at, len) = self.trie.common_prefix_search(text).last()?;
        let tail = self.strings.get(at as usize..)?;
        let end = tail.iter().take(MAX_REPLACEMENT_BYTES).position(|&b| b == 0)?;
        std::str::from_utf8(&tail[..end]).ok().map(|to| (len, to))
    }
}
