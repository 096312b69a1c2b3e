//! A text as chunks of tokens: what is read, what is predicted. The first token of each chunk gives way to the
//! model's begin token when it has one, as the reference tool does; the rest at the end that fills no chunk is unused.

use hob_text::{EncodeOptions, Tokenizer};

use super::{EvalError, Reference};

/// Least tokens of a chunk: one to read, one to predict, in its second half.
const LEAST: usize = 4;

/// The tokens of an evaluation.
#[derive(Clone, Debug)]
pub struct EvalText {
    tokens: Vec<u32>,
    context: usize,
    bos: Option<u32>,
}

impl EvalText {
    /// Tokenises a text and cuts it into at most `chunks` chunks of `context` tokens.
    ///
    /// # Errors
    /// When there is not one chunk, or `context` leaves nothing to predict.
    pub fn new(
        text: &str,
        tokenizer: &Tokenizer,
        context: usize,
        chunks: Option<usize>,
    ) -> Result<Self, EvalError> {
        let mut tokens =
            tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false });
        if tokenizer.add_eos() {
            tokens.pop();
        }
        Self::of_tokens(tokens, context, chunks, begin(tokenizer))
    }

    /// The chunks that a reference was made of, for a model with this tokenizer.
    ///
    /// # Errors
    /// As [`EvalText::new`].
    pub fn of_reference(
        reference: &Reference,
        tokenizer: &Tokenizer,
        chunks: Option<usize>,
    ) -> Result<Self, EvalError> {
        let tokens = reference.tokens().to_vec();
        Self::of_tokens(tokens, reference.context(), chunks, begin(tokenizer))
    }

    /// Chunks of given tokens; `bos` takes the first place of each.
    ///
    /// # Errors
    /// As [`EvalText::new`].
    pub fn of_tokens(
        mut tokens: Vec<u32>,
        context: usize,
        chunks: Option<usize>,
        bos: Option<u32>,
    ) -> Result<Self, EvalError> {
        if context < LEAST {
            return Err(EvalError::ShortContext { context, least: LEAST });
        }
        let chunks = (tokens.len() / context).min(chunks.unwrap_or(usize::MAX));
        if chunks == 0 {
            return Err(EvalError::ShortText { tokens: tokens.len(), context });
        }
        tokens.truncate(chunks * context);
        Ok(EvalText { tokens, context, bos })
    }

    /// Tokens of a chunk.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Number of chunks, at least one.
    pub fn chunks(&self) -> usize {
        self.tokens.len() / self.context
    }

    /// All tokens, chunk after chunk, as the text has them.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// First position of a chunk whose prediction counts.
    pub fn first(&self) -> usize {
        self.context / 2
    }

    /// Positions of a chunk that the model reads: all but the last.
    pub fn rows_per_chunk(&self) -> usize {
        self.context - 1
    }

    /// A chunk as the model reads it.
    pub(crate) fn chunk(&self, index: usize) -> Vec<u32> {
        let mut chunk = self.tokens[index * self.context..][..self.context].to_vec();
        if let Some(bos) = self.bos {
            chunk[0] = bos;
        }
        chunk
    }
}

fn begin(tokenizer: &Tokenizer) -> Option<u32> {
    tokenizer.bos().filter(|_| tokenizer.add_bos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(count: u32, context: usize, chunks: Option<usize>) -> Result<EvalText, EvalError> {
        EvalText::of_tokens((0..count).collect(), context, chunks, Some(99))
    }

    #[test]
    fn whole_chunks_begin_with_bos_and_the_rest_is_unused() {
        let text = text(19, 8, None).unwrap();
        assert_eq!((text.chunks(), text.first(), text.rows_per_chunk()), (2, 4, 7));
        assert_eq!(text.chunk(1), [99, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(text.tokens()[8], 8);
        assert_eq!(text.tokens().len(), 16);
    }

    #[test]
    fn chunks_are_limited_and_never_none() {
        assert_eq!(text(64, 8, Some(3)).unwrap().chunks(), 3);
        assert!(matches!(text(7, 8, None), Err(EvalError::ShortText { tokens: 7, context: 8 })));
        assert!(matches!(text(64, 3, None), Err(EvalError::ShortContext { .. })));
        assert!(matches!(text(64, 8, Some(0)), Err(EvalError::ShortText { .. })));
    }
}
