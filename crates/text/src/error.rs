//! What can go wrong with a vocabulary or a template, as one enum.
//! Encoding and decoding themselves cannot fail: any text has tokens, any token has bytes.

/// An error of tokenizers and chat templates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// `tokenizer.ggml.model` names an algorithm that is not implemented.
    #[error(
        "unknown tokenizer model `{0}` (known: gpt2, llama, gemma4, bert, t5); the file may need a newer hob"
    )]
    UnknownModel(String),
    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not implemented.
    #[error(
        "unknown pre-tokenizer `{0}` in tokenizer.ggml.pre: guessing would degrade every answer; the file may need a newer hob"
    )]
    UnknownPreTokenizer(String),
    /// A metadata key that the tokenizer needs is absent or of another type.
    #[error(transparent)]
    Meta(#[from] hob_gguf::MetaError),
    /// A metadata key has the right type but a value that makes no sense.
    #[error("metadata key \"{key}\" is unusable: {reason}")]
    BadValue {
        /// The metadata key.
        key: &'static str,
        /// What was found and what was expected.
        reason: String,
    },
    /// A built-in pattern did not compile: a defect of this program.
    #[error("a pre-tokenizer's pattern does not compile")]
    Pattern(#[source] Box<regex::Error>),
    /// The file has no chat template and none can be assumed.
    #[error(
        "this model has no chat template and its vocabulary has no ChatML tokens: it is a base model, use raw prompts"
    )]
    NoTemplate,
    /// A chat template does not parse.
    #[error("the chat template does not parse: {0}")]
    TemplateSyntax(String),
    /// A chat template stopped with an error of its own (often `raise_exception`).
    #[error("the chat template failed: {0}")]
    TemplateRender(String),
    /// A chat template used more computation or memory than any honest template needs.
    #[error("the chat template exceeds the limit of {limit} {what}")]
    TemplateLimit {
        /// The resource, in words.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
}
