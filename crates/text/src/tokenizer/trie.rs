//! Pieces by prefix: a double-array trie (crate `yada`, the structure that SentencePiece itself uses).
//! Shared by WordPiece (longest prefix) and Unigram (all prefixes).

use std::fmt;

use super::vocab::Vocab;
use crate::Token;

/// A set of pieces with their tokens.
pub(super) struct Trie(Option<yada::DoubleArray<Vec<u8>>>);

impl fmt::Debug for Trie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trie")
    }
}

impl Trie {
    /// The pieces of the tokens that `keep` accepts; those with a NUL byte, which the structure cannot hold, are left out.
    pub(super) fn new(vocab: &Vocab, keep: impl Fn(Token) -> bool) -> Self {
        let tokens = (0..vocab.len() as Token).filter(|&t| keep(t));
        let mut keys: Vec<(&[u8], Token)> = tokens.map(|t| (vocab.pieces.get(t), t)).collect();
        keys.retain(|(piece, _)| !piece.is_empty() && !piece.contains(&0));
        keys.sort_unstable();
        keys.dedup_by_key(|(piece, _)| *piece);
        // The builder refuses an empty set; nothing else above can make it fail.
        let bytes = yada::builder::DoubleArrayBuilder::build(&keys).ok();
        Self(bytes.and_then(|bytes| yada::DoubleArray::new(bytes).ok()))
    }

    /// All pieces that `text` starts with, shortest first: token and length.
    pub(super) fn prefixes<'a>(
        &'a self,
        text: &'a [u8],
    ) -> impl Iterator<Item = (Token, usize)> + 'a {
        self.0.iter().flat_map(move |trie| trie.common_prefix_search(text))
    }
}
