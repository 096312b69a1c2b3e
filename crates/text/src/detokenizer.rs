//! Decoding of tokens as they come: text leaves only when its last character is complete.
//! Bytes that can never become a character are shown as U+FFFD, so that what was pushed is what `decode` gives.

use crate::{Token, Tokenizer};

/// Turns a stream of tokens into a stream of text.
#[derive(Debug, Clone)]
pub struct Detokenizer<'t> {
    tokenizer: &'t Tokenizer,
    special: bool,
    strip: bool,
    /// The start of a character that is not complete: at most three bytes.
    pending: Vec<u8>,
    text: String,
}

impl<'t> Detokenizer<'t> {
    /// For tokens that continue a text, as a model's answer continues its prompt: a first space is kept.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, special: false, strip: false, pending: Vec::new(), text: String::new() }
    }

    /// For tokens that start a text: the space that some vocabularies put before it is dropped, as in [`Tokenizer::decode`].
    #[must_use]
    pub fn from_start(mut self) -> Self {
        self.strip = self.tokenizer.strips_first_space();
        self
    }

    /// Writes control tokens as their names instead of leaving them out.
    #[must_use]
    pub fn with_special(mut self, special: bool) -> Self {
        self.special = special;
        self
    }

    /// Takes a token and returns the text that became complete, perhaps none.
    pub fn push(&mut self, token: Token) -> &str {
        let mut bytes = self.tokenizer.token_bytes(token, self.special);
        if self.strip && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            self.strip = false;
        }
        self.pending.extend_from_slice(bytes);
        self.text.clear();
        let mut taken = 0;
        for chunk in self.pending.utf8_chunks() {
            self.text.push_str(chunk.valid());
            taken += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = taken + invalid.len() == self.pending.len();
            if invalid.is_empty() || at_end && may_continue(invalid) {
                break;
            }
            self.text.push(char::REPLACEMENT_CHARACTER);
            taken += invalid.len();
        }
        self.pending.drain(..taken);
        &self.text
    }

    /// Whether bytes of an unfinished character are held back.
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The end of the stream: what was held back, as U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Whether more bytes could make a character of these.
fn may_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
}
