//! WordPiece (`bert`): normalize, cut at whitespace, punctuation and ideographs, then take the longest piece again and again.
//! GGUF writes a piece that starts a word with `▁` and a continuation (`##` in the original) without mark.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use super::bpe::SPACE_MARK;
use super::trie::Trie;
use super::vocab::{Kind, Vocab};
use crate::Token;

/// Longer words are unknown: the limit that BERT's tokenizers were published with.
const MAX_WORD_CHARS: usize = 100;

/// The algorithm with its tables.
#[derive(Debug)]
pub(super) struct WordPiece {
    trie: Trie,
}

impl WordPiece {
    pub(super) fn new(vocab: &Vocab) -> Self {
        Self { trie: Trie::new(vocab, |t| vocab.kind(t) == Kind::Normal) }
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<Token>) {
        let mut word = String::from(SPACE_MARK);
        for c in normalized(vocab, text) {
            let alone = stands_alone(c);
            if c.is_whitespace() || alone {
                self.finish_word(vocab, &mut word, out);
            }
            if !c.is_whitespace() {
                word.push(c);
            }
            if alone {
                self.finish_word(vocab, &mut word, out);
            }
        }
        self.finish_word(vocab, &mut word, out);
    }

    /// Appends the pieces of a word (after its mark), or the unknown token if it cannot be covered.
    fn finish_word(&self, vocab: &Vocab, word: &mut String, out: &mut Vec<Token>) {
        let mut rest = word.as_bytes();
        let start = out.len();
        if rest.len() > SPACE_MARK.len() {
            // A mark inside a word is text that looks like the vocabulary's own writing.
            let marked = word[SPACE_MARK.len()..].contains(SPACE_MARK);
            let fits = !marked && word.chars().count() <= MAX_WORD_CHARS + 1;
            while fits && let Some((token, len)) = self.trie.prefixes(rest).last() {
                out.push(token);
                rest = rest.get(len..).unwrap_or_default();
            }
            if !rest.is_empty() {
                out.truncate(start);
                out.extend(vocab.unk);
            }
        }
        word.truncate(SPACE_MARK.len());
    }
}

/// BERT's normalization: no control characters, accents stripped, lower case, as the vocabulary asks.
fn normalized<'t>(vocab: &Vocab, text: &'t str) -> Box<dyn Iterator<Item = char> + 't> {
    let clean = text.chars().filter(|&c| !is_removed(c));
    let stripped: Box<dyn Iterator<Item = char>> = if vocab.strip_accents {
        let no_mark = |c: &char| c.general_category() != GeneralCategory::NonspacingMark;
        Box::new(clean.nfd().filter(no_mark))
    } else {
        Box::new(clean)
    };
    if vocab.lowercase { Box::new(stripped.flat_map(char::to_lowercase)) } else { stripped }
}

fn is_removed(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{fffd}' => true,
        _ => matches!(
            c.general_category(),
            GeneralCategory::Control | GeneralCategory::Format | GeneralCategory::PrivateUse
        ),
    }
}

/// Whether a character is a word of its own: punctuation and ideographs.
fn stands_alone(c: char) -> bool {
    let punctuation = c.general_category_group() == GeneralCategoryGroup::Punctuation;
    c.is_ascii_punctuation() || punctuation || is_ideograph(c)
}

/// The CJK blocks that BERT's tokenizer lists. 2B920 (for 2B820) is a slip that trained tokenizers carry, so it stays.
fn is_ideograph(c: char) -> bool {
    matches!(c as u32,
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}
