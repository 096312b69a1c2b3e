//! Special tokens inside text: found by one Aho-Corasick pass, leftmost first, then longest.
//! User-defined pieces are always tokens; control pieces only when the caller trusts the text.

use aho_corasick::{AhoCorasick, MatchKind};

use super::vocab::{Kind, Vocab};
use crate::Token;

/// A part of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t str),
    Special(Token),
}

/// One set of pieces that are found in text.
#[derive(Debug)]
struct Matcher {
    /// `None` if the set is empty.
    automaton: Option<AhoCorasick>,
    tokens: Vec<Token>,
}

impl Matcher {
    fn new(vocab: &Vocab, keep: impl Fn(Kind) -> bool) -> Self {
        let special = |t: &Token| keep(vocab.kind(*t)) && !vocab.pieces.get(*t).is_empty();
        let tokens: Vec<Token> = (0..vocab.len() as Token).filter(special).collect();
        let pieces = tokens.iter().map(|&t| vocab.pieces.get(t));
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(pieces);
        // Building fails only beyond 2^31 patterns or states.
        Self { automaton: automaton.ok().filter(|_| !tokens.is_empty()), tokens }
    }
}

/// Both sets and the tokens that swallow whitespace.
#[derive(Debug)]
pub(super) struct Special {
    all: Matcher,
    user_defined: Matcher,
}

impl Special {
    pub(super) fn new(vocab: &Vocab) -> Self {
        let all = |k| matches!(k, Kind::Control | Kind::UserDefined | Kind::Unknown);
        Self {
            all: Matcher::new(vocab, all),
            user_defined: Matcher::new(vocab, |k| k == Kind::UserDefined),
        }
    }

    /// Cuts `text` at special tokens; no part is empty.
    pub(super) fn parts<'t>(&self, vocab: &Vocab, text: &'t str, control: bool) -> Vec<Part<'t>> {
        let matcher = if control { &self.all } else { &self.user_defined };
        let mut parts = Vec::new();
        let mut at = 0;
        let mut strip_left = false;
        let push_text = |parts: &mut Vec<Part<'t>>, mut text: &'t str, left, right| {
            if left {
                text = text.trim_ascii_start();
            }
            if right {
                text = text.trim_ascii_end();
            }
            if !text.is_empty() {
                parts.push(Part::Text(text));
            }
        };
        for found in matcher.automaton.iter().flat_map(|a| a.find_iter(text)) {
            let Some(&token) = matcher.tokens.get(found.pattern().as_usize()) else { continue };
            // A piece that is not UTF-8 could end inside a character.
            let Some(before) = text.get(at..found.start()) else { continue };
            if !text.is_char_boundary(found.end()) {
                continue;
            }
            push_text(&mut parts, before, strip_left, vocab.strip.left.contains(&token));
            parts.push(Part::Special(token));
            strip_left = vocab.strip.right.contains(&token);
            at = found.end();
        }
        push_text(&mut parts, text.get(at..).unwrap_or_default(), strip_left, false);
        parts
    }
}
