//! Two vocabularies beside byte-level BPE and SentencePiece: BPE over characters with merges and bytes to fall back on
//! (Gemma 4), and WordPiece (BERT), whose parts of words get the marks of SentencePiece. Deliberately
//! absent: cutting text.

use hob_gguf::MetaBuilder;

use super::bpe::Bpe;
use super::special::Special;
use super::{CONTROL, Files, SPACE, USER_DEFINED};
use crate::convert::error::ConvertError;

/// Control tokens of Gemma 4 that are to be seen in its answers, so that they can be parsed.
const VISIBLE: &[&str] = &[
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|\"|>",
];
/// Names of the pre-tokenizer by the number of words. No reader of a WordPiece vocabulary goes by them; these are what
/// the ecosystem's converter gives the uncased English one and the Chinese one of BGE.
const WORD_PIECE: &[(usize, &str)] = &[(30522, "jina-v2-en"), (21128, "bert-bge-large")];

impl Files<'_> {
    /// BPE over characters; all tokens have the same score, as merges tell their order.
    pub(super) fn character_bpe(&self, meta: &mut MetaBuilder) -> Result<u64, ConvertError> {
        let mut bpe = Bpe::read(self.folder, self.json)?;
        let mut tokens = bpe.scored();
        for (text, kind) in tokens.texts.iter().zip(&mut tokens.kinds) {
            if VISIBLE.contains(&text.as_str()) {
                *kind = USER_DEFINED;
            }
        }
        // Added tokens that the vocabulary has too count twice: the ecosystem's converter keeps so many rows.
        let added = self.json.and_then(|json| json.get("added_tokens")?.as_array());
        let count = bpe.words() + added.map_or(0, Vec::len);
        meta.insert("tokenizer.ggml.model", "gemma4");
        meta.insert("tokenizer.ggml.tokens", tokens.texts);
        meta.insert("tokenizer.ggml.scores", tokens.scores);
        meta.insert("tokenizer.ggml.token_type", tokens.kinds);
        let mut special = Special::read(self.folder, self.json, None)?;
        special.merges = std::mem::take(&mut bpe.merges);
        special.states(meta);
        meta.insert(SPACE, false);
        meta.insert("tokenizer.ggml.add_bos_token", true);
        Ok(count as u64)
    }

    /// WordPiece: what begins a word gets the mark of a space, what goes on loses its own.
    pub(super) fn word_piece(&self, meta: &mut MetaBuilder) -> Result<u64, ConvertError> {
        let bpe = Bpe::read(self.folder, self.json)?;
        let named = WORD_PIECE.iter().find(|(words, _)| *words == bpe.words());
        let pre = self.pre.or(named.map(|(_, name)| *name)).unwrap_or("default");
        let tokens = bpe.tokens(self.rows)?;
        let count = tokens.texts.len();
        let mark = |(text, kind): (&String, &i32)| match text.strip_prefix("##") {
            _ if *kind == CONTROL => text.clone(),
            Some(rest) => rest.to_owned(),
            None => format!("\u{2581}{text}"),
        };
        let texts: Vec<String> = tokens.texts.iter().zip(&tokens.kinds).map(mark).collect();
        meta.insert("tokenizer.ggml.model", "bert");
        meta.insert("tokenizer.ggml.pre", pre);
        meta.insert("tokenizer.ggml.tokens", texts);
        meta.insert("tokenizer.ggml.token_type", tokens.kinds);
        Special::read(self.folder, self.json, u32::try_from(count).ok())?.states(meta);
        Ok(count as u64)
    }
}
