//! Embeddings through a leased model, for dialects: texts or tokens in, vectors out. Waiting is done by a thread for that; who stops waiting
//! cancels the work.

use std::sync::Arc;

use hob_engine::{Cancel, Embed};
use hob_text::{EncodeOptions, Token};

use crate::answer::Caller;
use crate::error::ApiError;
use crate::models::{Lease, blocking};

/// A text to be embedded.
#[derive(Clone, Debug, PartialEq)]
pub enum Texts {
    /// As such; the model's special tokens are put around it.
    Text(String),
    /// As the model's tokens, as they are.
    Tokens(Vec<Token>),
}

/// Cancels what nobody waits for any more.
struct Waiting(Cancel);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Lease {
    /// A vector for each text, and the number of their tokens.
    ///
    /// # Errors
    /// When a text is empty or longer than the context, too many wait, or the engine fails.
    pub async fn embed(
        self: Arc<Self>,
        texts: Vec<Texts>,
        normalize: bool,
        caller: Caller,
    ) -> Result<(Vec<Vec<f32>>, usize), ApiError> {
        let lease = self.clone();
        let submit = move || -> Result<_, ApiError> {
            let special = EncodeOptions { add_special: true, parse_special: false };
            let tokens = |text| match text {
                Texts::Text(text) => lease.loaded().tokenizer.encode(&text, special),
                Texts::Tokens(tokens) => tokens,
            };
            let texts: Vec<Vec<Token>> = texts.into_iter().map(tokens).collect();
            let count = texts.iter().map(Vec::len).sum();
            let Caller { client, priority } = caller;
            let request = Embed { texts, pooling: None, normalize, client, priority };
            Ok((lease.loaded().engine.embed(request)?, count))
        };
        let (embedding, count) = blocking(submit).await??;
        let waiting = Waiting(embedding.canceller());
        let vectors = blocking(move || embedding.wait()).await??;
        drop(waiting);
        Ok((vectors, count))
    }
}

/// The first `n` numbers of a vector, made of length 1 again (Matryoshka embeddings, arXiv 2205.13147).
pub fn shorten(vector: &mut Vec<f32>, n: usize) {
    vector.truncate(n);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortened_vector_has_length_one() {
        let mut vector = vec![3.0, 4.0, 12.0];
        shorten(&mut vector, 2);
        assert_eq!(vector, [0.6, 0.8]);
    }
}
