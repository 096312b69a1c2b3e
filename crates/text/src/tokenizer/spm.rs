//! SentencePiece BPE by scores (`llama`): the adjacent pair whose concatenation has the best score is merged first.
//! Text is cut before `▁` where no piece of the vocabulary could cross: an exact shortcut that lets repeated words be copied.

use super::bpe::{MAX_WORD_BYTES, SPACE_MARK, WordCache, cut};
use super::merge::{Merger, Pairs, Symbol};
use super::vocab::Vocab;
use crate::Token;

/// The algorithm with its tables.
#[derive(Debug)]
pub(super) struct Spm {
    byte_tokens: [Option<Token>; 256],
    longest: usize,
    /// No piece has a `▁` after another character.
    cuts_at_spaces: bool,
}

/// A view of the vocabulary as merge table.
struct ScorePairs<'v> {
    vocab: &'v Vocab,
    longest: usize,
}

impl Pairs for ScorePairs<'_> {
    fn find(&self, word: &[u8], left: &Symbol, right: &Symbol) -> Option<(u32, u32)> {
        let len = (left.len + right.len) as usize;
        if len > self.longest {
            return None;
        }
        let start = left.start as usize;
        let token = self.vocab.find_text(word.get(start..start + len)?)?;
        let score = self.vocab.scores.get(token as usize).copied().unwrap_or_default();
        Some((descending(score), token))
    }
}

/// Maps a score to a rank: the higher the score, the lower the rank.
fn descending(score: f32) -> u32 {
    // Adding zero turns -0.0 into 0.0, which must not differ.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}

impl Spm {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let tokens = 0..vocab.len() as Token;
        let longest = tokens.clone().map(|t| vocab.pieces.get(t).len()).max().unwrap_or(0);
        let crosses = |t: Token| {
            let piece = String::from_utf8_lossy(vocab.pieces.get(t));
            vocab.is_text(t) && piece.trim_start_matches(SPACE_MARK).contains(SPACE_MARK)
        };
        let cuts_at_spaces = !tokens.into_iter().any(crosses);
        Self { byte_tokens: vocab.byte_tokens(), longest, cuts_at_spaces }
    }

    /// Appends the tokens of `text`, with a space put before it if `prefix`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, prefix: bool, out: &mut Vec<Token>) {
        let mut marked = String::with_capacity(text.len() + text.len() / 4 + SPACE_MARK.len());
        if prefix {
            marked.push_str(SPACE_MARK);
        }
        text.split(' ').enumerate().for_each(|(i, part)| {
            if i > 0 {
                marked.push_str(SPACE_MARK);
            }
            marked.push_str(part);
        });
        let mut merger = Merger::default();
        let mut seen = WordCache::default();
        for word in self.words(&marked) {
            seen.get_or(word, out, |out| self.encode_word(vocab, word, &mut merger, out));
        }
    }

    /// Cuts between a character and a following `▁`, or not at all.
    fn words<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        let mut rest = text;
        let cuts = self.cuts_at_spaces;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let marks = rest.len() - rest.trim_start_matches(SPACE_MARK).len();
            let end = if cuts { rest[marks..].find(SPACE_MARK) } else { None };
            let (word, tail) = rest.split_at(end.map_or(rest.len(), |end| marks + end));
            rest = tail;
            Some(word)
        })
    }

    fn encode_word(&self, vocab: &Vocab, word: &str, merger: &mut Merger, out: &mut Vec<Token>) {
        let pairs = ScorePairs { vocab, longest: self.longest };
        for part in cut(word, MAX_WORD_BYTES) {
            merger.clear();
            for (at, c) in part.char_indices() {
                let piece = &part.as_bytes()[at..at + c.len_utf8()];
                merger.push(vocab.find_text(piece).unwrap_or(u32::MAX), piece.len());
            }
            merger.run(part.as_bytes(), &pairs, |s| self.emit(vocab, part.as_bytes(), s, out));
        }
    }

    fn emit(&self, vocab: &Vocab, word: &[u8], symbol: &Symbol, out: &mut Vec<Token>) {
        if symbol.id != u32::MAX {
            return out.push(symbol.id);
        }
        let (start, end) = (symbol.start as usize, (symbol.start + symbol.len) as usize);
        let bytes = word.get(start..end).unwrap_or_default();
        let tokens = bytes.iter().map(|&b| self.byte_tokens[usize::from(b)]);
        if tokens.clone().all(|t| t.is_some()) {
            out.extend(tokens.flatten());
        } else {
            out.extend(vocab.unk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::descending;

    #[test]
    fn ranks_descend_with_scores() {
        let scores = [f32::INFINITY, 3.5, 0.0, -0.5, -1.0, -1000.0, f32::NEG_INFINITY];
        assert!(scores.windows(2).all(|w| descending(w[0]) < descending(w[1])));
        assert_eq!(descending(0.0), descending(-0.0));
    }
}
