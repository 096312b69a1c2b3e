//! A list of byte strings that is also a map from string to index: one arena, one hash table of indices.
//! A vocabulary of 262,144 pieces costs its bytes and 12 bytes each, and three allocations instead of half a million.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use hashbrown::HashTable;

use crate::Token;

/// Byte strings by index and index by byte string.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    arena: Vec<u8>,
    ends: Vec<u32>,
    index: HashTable<Token>,
    hasher: DefaultHashBuilder,
}

impl Pieces {
    /// With room for `count` strings.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self {
            arena: Vec::with_capacity(count * 8),
            ends: Vec::with_capacity(count),
            index: HashTable::with_capacity(count),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Appends a string and returns its index. Of equal strings the first one is found by [`Pieces::find`]; the empty one never is.
    pub(super) fn push(&mut self, piece: &[u8]) -> Token {
        let token = self.ends.len() as Token;
        if !piece.is_empty() && self.find(piece).is_none() {
            let (hasher, arena, ends) = (&self.hasher, &self.arena, &self.ends);
            let hash = hasher.hash_one(piece);
            self.index.insert_unique(hash, token, |&t| hasher.hash_one(slice(arena, ends, t)));
        }
        self.arena.extend_from_slice(piece);
        self.ends.push(self.arena.len() as u32);
        token
    }

    /// Number of strings.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The string at an index, empty beyond the end.
    pub(super) fn get(&self, token: Token) -> &[u8] {
        slice(&self.arena, &self.ends, token)
    }

    /// The index of a string.
    pub(super) fn find(&self, piece: &[u8]) -> Option<Token> {
        let hash = self.hasher.hash_one(piece);
        self.index.find(hash, |&t| self.get(t) == piece).copied()
    }
}

fn slice<'a>(arena: &'a [u8], ends: &[u32], token: Token) -> &'a [u8] {
    let at = token as usize;
    let end = ends.get(at).copied().unwrap_or_default() as usize;
    let start = if at == 0 { 0 } else { ends.get(at - 1).copied().unwrap_or_default() as usize };
    arena.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_of_equal_strings_and_never_the_empty_one() {
        let mut pieces = Pieces::with_capacity(0);
        for piece in ["a", "", "bc", "a"] {
            pieces.push(piece.as_bytes());
        }
        assert_eq!(pieces.find(b"a"), Some(0));
        assert_eq!(pieces.find(b"bc"), Some(2));
        assert_eq!(pieces.find(b""), None);
        assert_eq!((pieces.get(3), pieces.get(1), pieces.get(9)), (&b"a"[..], &b""[..], &b""[..]));
    }
}
