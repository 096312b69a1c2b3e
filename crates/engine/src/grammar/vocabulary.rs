//! A vocabulary as llguidance sees it: the bytes that each token adds to the text, control tokens apart from all text, the tokens that
//! end an answer. Tokens are never forced by a tokenizer's own cutting: the model chooses among all that fit.

use std::sync::Arc;

use hob_text::Tokenizer;
use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie};

/// The longest token that fits the tables; longer ones (rows of spaces) are left out.
const MAX_TOKEN_BYTES: usize = 1000;

/// The tables of a tokenizer.
pub(super) fn environment(tokenizer: &Tokenizer) -> TokEnv {
    let size = tokenizer.vocab_size() as u32;
    let words: Vec<Vec<u8>> = (0..size).map(|token| word(tokenizer, token)).collect();
    let ends: Vec<u32> = tokenizer.eog_tokens().iter().copied().filter(|&t| t < size).collect();
    let trie = TokTrie::from(&TokRxInfo::new(size, INVALID_TOKEN), &words);
    let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
    Arc::new(ApproximateTokEnv::new(trie))
}

/// What a token is matched as; nothing if it can never be part of a text.
fn word(tokenizer: &Tokenizer, token: u32) -> Vec<u8> {
    let special = tokenizer.is_control(token);
    let bytes = tokenizer.token_bytes(token, special);
    let marker = TokTrie::SPECIAL_TOKEN_MARKER;
    if bytes.is_empty() || bytes.len() > MAX_TOKEN_BYTES || bytes[0] == marker {
        return Vec::new();
    }
    if special { [&[marker], bytes].concat() } else { bytes.to_vec() }
}
