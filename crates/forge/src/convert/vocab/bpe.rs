//! Byte-level BPE from `tokenizer.json`, or from `vocab.json` and `merges.txt`; and vocabularies that were SentencePiece
//! once and are now in a `tokenizer.json` with bytes as tokens. WordPiece has the same files but for its merges.
//! Deliberately absent: Unigram, which is another file.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{BYTE, CONTROL, NORMAL, Tokens, UNUSED, USER_DEFINED, looks_special, spaced};
use crate::convert::error::ConvertError;
use crate::convert::folder::{Folder, Object};

/// A token beside the model's vocabulary.
#[derive(Clone, Debug)]
struct Added {
    text: String,
    special: bool,
}

/// The vocabulary of a model and what is added to it.
pub(super) struct Bpe {
    tokens: BTreeMap<u32, String>,
    added: BTreeMap<u32, Added>,
    named: Vec<String>,
    pub merges: Vec<String>,
}

impl Bpe {
    /// Reads a folder's files. `tokenizer` is its `tokenizer.json`.
    pub fn read(folder: &Folder, tokenizer: Option<&Object>) -> Result<Self, ConvertError> {
        let config = folder.json("tokenizer_config.json")?.unwrap_or_default();
        let mut bpe = match tokenizer {
            Some(tokenizer) => of_tokenizer(tokenizer)?,
            None => of_parts(folder)?,
        };
        bpe.add_of_config(&config);
        bpe.named = named(&config, folder.json("special_tokens_map.json")?.as_ref());
        bpe.name_special();
        Ok(bpe)
    }

    /// Tokens that the tokenizer's config adds.
    fn add_of_config(&mut self, config: &Object) {
        let decoder = config.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, token) in decoder.into_iter().flatten() {
            if let (Ok(id), Some(added)) = (id.parse(), added(token)) {
                self.added.insert(id, added);
            }
        }
    }

    /// Tokens of the vocabulary that the config names are special ones.
    fn name_special(&mut self) {
        for (id, text) in &self.tokens {
            if self.named.contains(text) {
                let added = Added { text: text.clone(), special: true };
                self.added.entry(*id).or_insert(added);
            }
        }
    }

    /// Tokens with their kinds, as many as the model has rows (`size`, else as many as there are).
    pub fn tokens(&self, size: Option<u32>) -> Result<Tokens, ConvertError> {
        let last = self.tokens.keys().chain(self.added.keys()).max().copied().unwrap_or(0);
        let size = size.unwrap_or(last.saturating_add(1));
        if last >= size {
            let why = format!("it has a token {last}, but the model only {size} rows");
            return Err(ConvertError::Tokenizer(why));
        }
        let mut out = Tokens::default();
        for id in 0..size {
            match (self.added.get(&id), self.tokens.get(&id)) {
                (Some(added), _) if added.special || looks_special(&added.text) => {
                    out.push(added.text.clone(), CONTROL);
                }
                (Some(added), _) => out.push(spaced(&added.text), USER_DEFINED),
                (None, Some(text)) => out.push(text.clone(), NORMAL),
                (None, None) => out.push(format!("[PAD{id}]"), UNUSED),
            }
        }
        Ok(out)
    }

    /// Tokens of a vocabulary that was SentencePiece, all with the same score.
    pub fn scored(&self) -> Tokens {
        let mut out = Tokens::default();
        for text in self.tokens.values() {
            let kind = match text.as_bytes() {
                [b'<', b'0', b'x', a, b, b'>']
                    if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() =>
                {
                    BYTE
                }
                _ if self.named.contains(text) => CONTROL,
                _ => NORMAL,
            };
            out.push(text.clone(), kind);
        }
        for (id, added) in &self.added {
            if !self.tokens.contains_key(id) {
                let special = self.named.contains(&added.text);
                out.push(added.text.clone(), if special { CONTROL } else { USER_DEFINED });
            }
        }
        out.scores = vec![-1000.0; out.texts.len()];
        out
    }

    /// Tokens of the vocabulary itself.
    pub fn words(&self) -> usize {
        self.tokens.len()
    }

    /// The id of an added token.
    pub fn added_id(&self, text: &str) -> Option<u32> {
        self.added.iter().find(|(_, added)| added.text == text).map(|(id, _)| *id)
    }
}

/// Whether a `tokenizer.json` has a vocabulary that was SentencePiece.
pub(super) fn was_sentence_piece(tokenizer: &Object) -> bool {
    let model = tokenizer.get("model").unwrap_or(&Value::Null);
    let kind = |value: Option<&Value>| {
        value.and_then(|v| v.get("type")?.as_str()).unwrap_or_default().to_owned()
    };
    kind(Some(model)) == "BPE"
        && model.get("byte_fallback").and_then(Value::as_bool) == Some(true)
        && kind(tokenizer.get("decoder")) == "Sequence"
}

fn of_tokenizer(tokenizer: &Object) -> Result<Bpe, ConvertError> {
    let model = tokenizer.get("model").unwrap_or(&Value::Null);
    let kind = model.get("type").and_then(Value::as_str).unwrap_or("BPE");
    if !["BPE", "WordPiece"].contains(&kind) {
        let why = format!("its model is '{kind}', neither BPE nor WordPiece");
        return Err(ConvertError::Tokenizer(why));
    }
    let vocab = model.get("vocab").and_then(Value::as_object);
    let vocab = vocab.ok_or_else(|| ConvertError::Tokenizer("it has no vocabulary".to_owned()))?;
    let merges = model.get("merges").and_then(Value::as_array);
    let merges = merges.into_iter().flatten().map(merge).collect::<Option<_>>();
    let merges = merges.ok_or_else(|| ConvertError::Tokenizer("a merge is no pair".to_owned()))?;
    let list = tokenizer.get("added_tokens").and_then(Value::as_array);
    let of_token = |token: &Value| Some((id(token.get("id")?)?, added(token)?));
    let added = list.into_iter().flatten().filter_map(of_token).collect();
    Ok(Bpe { tokens: ids(vocab)?, added, named: Vec::new(), merges })
}

fn of_parts(folder: &Folder) -> Result<Bpe, ConvertError> {
    let missing = || ConvertError::NoFile(folder.path().join("tokenizer.json"));
    if let Some(words) = folder.text("vocab.txt")? {
        let tokens = (0..).zip(words.lines().map(str::to_owned)).collect();
        return Ok(Bpe { tokens, added: BTreeMap::new(), named: Vec::new(), merges: Vec::new() });
    }
    let vocab = folder.json("vocab.json")?.ok_or_else(missing)?;
    let merges = folder.text("merges.txt")?.ok_or_else(missing)?;
    let lines = merges.lines().enumerate().filter(|(i, line)| *i > 0 || !line.starts_with('#'));
    let pair = |(_, line): (usize, &str)| {
        let parts: Vec<&str> = line.split_whitespace().collect();
        (parts.len() == 2).then(|| parts.join(" "))
    };
    let merges = lines.filter_map(pair).collect();
    let mut bpe = Bpe { tokens: ids(&vocab)?, added: BTreeMap::new(), named: Vec::new(), merges };
    for (text, at) in folder.json("added_tokens.json")?.unwrap_or_default() {
        if let Some(id) = id(&at) {
            bpe.added.insert(id, Added { text, special: false });
        }
    }
    Ok(bpe)
}

/// Tokens by their ids.
fn ids(vocab: &Object) -> Result<BTreeMap<u32, String>, ConvertError> {
    let entry = |(text, at): (&String, &Value)| Some((id(at)?, text.clone()));
    let map = vocab.iter().map(entry).collect::<Option<_>>();
    map.ok_or_else(|| ConvertError::Tokenizer("a token's id is no whole number".to_owned()))
}

fn id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn added(token: &Value) -> Option<Added> {
    let text = token.get("content")?.as_str()?.to_owned();
    Some(Added { text, special: token.get("special").and_then(Value::as_bool).unwrap_or(false) })
}

/// A merge, written as one text or as two. In two, spaces are escaped as byte-level BPE does.
fn merge(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(pair) => match &pair[..] {
            [Value::String(a), Value::String(b)] => {
                Some(format!("{} {}", a.replace(' ', "Ġ"), b.replace(' ', "Ġ")))
            }
            _ => None,
        },
        _ => None,
    }
}

/// The texts that the configs name as special: values of keys like `eos_token`, and lists or objects of more.
pub(super) fn named(config: &Object, map: Option<&Object>) -> Vec<String> {
    let text = |value: &Value| {
        let text = value.as_str().or_else(|| value.get("content")?.as_str());
        text.map(str::to_owned)
    };
    let mut out = Vec::new();
    for object in [Some(config), map].into_iter().flatten() {
        let single = object.iter().filter(|(key, _)| key.ends_with("_token"));
        out.extend(single.filter_map(|(_, value)| text(value)));
        for key in ["additional_special_tokens", "extra_special_tokens"] {
            match object.get(key) {
                Some(Value::Array(list)) => out.extend(list.iter().filter_map(text)),
                Some(Value::Object(map)) => out.extend(map.values().filter_map(text)),
                _ => {}
            }
        }
    }
    out
}
