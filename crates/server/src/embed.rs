//! Texts to vectors through a loaded model. What does not fit is an error with both numbers, unless the caller wants it cut; then it is counted.
//! Dropping the future cancels the work.

use std::sync::Arc;

use hob_engine::{Cancel, Embed, EngineError};
use hob_text::{EncodeOptions, Token};

use crate::access;
use crate::answer::Caller;
use crate::error::{ApiError, Kind};
use crate::loaded::Loaded;
use crate::models::{Lease, blocking};

/// What is to become vectors.
#[derive(Clone, Debug, Default)]
pub struct EmbedAsk {
    /// Texts; each becomes one.
    pub texts: Vec<Texts>,
    /// Leave out the end of a text that is too long.
    pub truncate: bool,
    /// Whether vectors get length 1.
    pub normalize: bool,
    /// Numbers to keep of each vector, which then gets length 1 again.
    pub dimensions: Option<usize>,
    /// Who asks; `None` for whom the guard knows.
    pub caller: Option<Caller>,
}

/// One text.
#[derive(Clone, Debug, PartialEq)]
pub enum Texts {
    /// As characters; the model's special tokens are put around them.
    Text(String),
    /// As the model's tokens, with whatever shall be around them.
    Tokens(Vec<Token>),
}

/// Vectors in the order of their texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    /// One for each.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens computed.
    pub tokens: usize,
    /// Tokens that were left out.
    pub dropped: usize,
}

/// Cancels unless it is told that the end has come.
struct Guard(Option<Cancel>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(cancel) = self.0.take() {
            cancel.cancel();
        }
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
    ) -> Result<(Vec<Vec<f32>>, usize), ApiError> {
        let ask = EmbedAsk { texts, normalize, ..EmbedAsk::default() };
        self.embed_as(ask).await.map(|embedded| (embedded.vectors, embedded.tokens))
    }

    /// As `embed`, with everything that can be asked for.
    ///
    /// # Errors
    /// As `embed`.
    pub async fn embed_as(self: Arc<Self>, ask: EmbedAsk) -> Result<Embedded, ApiError> {
        let (normalize, dimensions) = (ask.normalize, ask.dimensions);
        let caller = ask.caller.unwrap_or_else(access::caller);
        let lease = self.clone();
        let (texts, dropped) = blocking(move || lease.loaded().texts(ask)).await??;
        let tokens = texts.iter().map(Vec::len).sum();
        let request = Embed {
            texts,
            pooling: None,
            normalize,
            client: caller.client,
            priority: caller.priority,
        };
        let embedding = self.loaded().engine.embed(request).map_err(|e| self.advise(e))?;
        let mut guard = Guard(Some(embedding.canceller()));
        // The lease goes along: the model stays for as long as it computes.
        let lease = self.clone();
        let waited = blocking(move || {
            let vectors = embedding.wait();
            drop(lease);
            vectors
        });
        let vectors = tokio::select! {
            vectors = waited => vectors?,
            () = self.shutdown().ending() => {
                return Err(ApiError::new(Kind::Unavailable, "the server is shutting down"));
            }
        };
        guard.0 = None;
        let mut vectors = vectors?;
        if let Some(n) = dimensions {
            vectors.iter_mut().for_each(|v| shorten(v, n));
        }
        Ok(Embedded { vectors, tokens, dropped })
    }

    fn advise(&self, error: EngineError) -> ApiError {
        match error {
            EngineError::TextTooLong { tokens, most, .. } => too_long(tokens, most),
            other => other.into(),
        }
    }
}

impl Loaded {
    /// The tokens of each text, and how many were left out of them all.
    fn texts(&self, ask: EmbedAsk) -> Result<(Vec<Vec<Token>>, usize), ApiError> {
        let most = self.engine.longest_text();
        let mut dropped = 0;
        let tokens = |text| match text {
            Texts::Tokens(tokens) => tokens,
            Texts::Text(text) => {
                let special = EncodeOptions { add_special: true, parse_special: false };
                self.tokenizer.encode(&text, special)
            }
        };
        let mut texts = Vec::with_capacity(ask.texts.len());
        for text in ask.texts {
            let mut tokens = tokens(text);
            let all = tokens.len();
            if all > most {
                if !ask.truncate {
                    return Err(too_long(all, most));
                }
                cut(&mut tokens, most, |t| self.tokenizer.is_control(t));
                dropped += all - tokens.len();
            }
            texts.push(tokens);
        }
        Ok((texts, dropped))
    }
}

/// Leaves out what is before the last token if that is one of the model's own, which stays.
fn cut(tokens: &mut Vec<Token>, most: usize, is_control: impl Fn(Token) -> bool) {
    let last = tokens.last().copied().filter(|&t| is_control(t));
    tokens.truncate(most);
    if let (Some(last), Some(end)) = (last, tokens.last_mut()) {
        *end = last;
    }
}

fn too_long(tokens: usize, most: usize) -> ApiError {
    let message = format!(
        "the input length exceeds the context length: a text has {tokens} tokens, and {most} is the most; \
        shorten it, ask for a larger context, or for truncation"
    );
    ApiError { code: Some("context_length_exceeded"), ..ApiError::field("input", message) }
}

/// The first `n` numbers, of length 1 together (Matryoshka embeddings, arXiv 2205.13147).
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
        shorten(&mut vector, 9);
        assert_eq!(vector.len(), 2);
    }

    #[test]
    fn a_cut_text_keeps_the_models_own_end() {
        let mut tokens = vec![1, 10, 11, 12, 2];
        cut(&mut tokens, 3, |t| t < 3);
        assert_eq!(tokens, [1, 10, 2]);
        let mut tokens = vec![10, 11, 12];
        cut(&mut tokens, 2, |t| t < 3);
        assert_eq!(tokens, [10, 11]);
    }
}
