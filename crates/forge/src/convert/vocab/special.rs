//! What surrounds a vocabulary: merges, the ids of special tokens, whether they are added, the chat template and flags
//! of the normalizer, gathered from the files in the order of the ecosystem's converter. Deliberately absent: the tokens.

use hob_gguf::MetaBuilder;
use serde_json::Value;

use crate::convert::error::ConvertError;
use crate::convert::folder::{Folder, Object};

/// Special tokens by their names in the files, and their keys in GGUF; without one it has no place there.
const KINDS: &[(&str, Option<&str>)] = &[
    ("bos", Some("bos_token_id")),
    ("eos", Some("eos_token_id")),
    ("unk", Some("unknown_token_id")),
    ("sep", Some("seperator_token_id")),
    ("pad", Some("padding_token_id")),
    ("cls", None),
    ("mask", Some("mask_token_id")),
    ("eot", Some("eot_token_id")),
    ("eom", Some("eom_token_id")),
    ("prefix", Some("prefix_token_id")),
    ("suffix", Some("suffix_token_id")),
    ("middle", Some("middle_token_id")),
];
/// The kinds that the files are asked for.
const ASKED: &[&str] = &["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
/// The kinds that a text can get added.
const ADDED: &[&str] = &["bos", "eos", "sep"];

/// What was found.
#[derive(Default)]
pub(super) struct Special {
    pub merges: Vec<String>,
    ids: Vec<(String, u32)>,
    adds: Vec<(&'static str, bool)>,
    template: Option<Value>,
    lowercase: Option<bool>,
    strip_accents: Option<bool>,
    /// Tokens of the vocabulary, beyond which no id counts.
    tokens: Option<u32>,
}

impl Special {
    /// Looks through a folder's files. `tokens`: size of a vocabulary that bounds the ids.
    pub fn read(
        folder: &Folder,
        tokenizer: Option<&Object>,
        tokens: Option<u32>,
    ) -> Result<Self, ConvertError> {
        let mut out = Special { tokens, ..Special::default() };
        let mut config = folder.json("tokenizer_config.json")?;
        let mut kinds: Vec<&str> = ASKED.to_vec();
        if let Some(tokenizer) = tokenizer.filter(|t| !t.is_empty()) {
            out.normalizer(tokenizer.get("normalizer").unwrap_or(&Value::Null), 0);
            let mut names = Names::new(config.as_mut());
            let processor = tokenizer.get("post_processor").unwrap_or(&Value::Null);
            let list = processor.get("processors").and_then(Value::as_array);
            for part in list.map_or_else(|| vec![processor], |list| list.iter().collect()) {
                out.processor(part, &mut names, &mut kinds);
            }
        }
        if let Some(config) = &config {
            out.template = template(folder, config)?;
            out.of_config(config, tokenizer, &kinds);
        }
        if let Some(config) = folder.json("config.json")? {
            let text = config.get("text_config").and_then(Value::as_object);
            for kind in kinds {
                let key = format!("{kind}_token_id");
                let found =
                    config.get(&key).filter(|id| !id.is_null()).or(text.and_then(|t| t.get(&key)));
                if let Some(id) =
                    found.and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok())
                {
                    out.set(kind, id);
                }
            }
        }
        Ok(out)
    }

    /// Sets an id unless there is one.
    pub fn set(&mut self, kind: &str, id: u32) {
        let known = self.ids.iter().any(|(k, _)| k == kind);
        if !known && self.tokens.is_none_or(|tokens| id < tokens) {
            self.ids.push((kind.to_owned(), id));
        }
    }

    /// States all of it.
    pub fn states(&mut self, meta: &mut MetaBuilder) {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        if !self.merges.is_empty() {
            meta.insert(&key("merges"), std::mem::take(&mut self.merges));
        }
        for (kind, id) in &self.ids {
            if let Some((_, Some(name))) = KINDS.iter().find(|(k, _)| k == kind) {
                meta.insert(&key(name), *id);
            }
        }
        for (kind, value) in self.adds.iter().filter(|(kind, _)| ADDED.contains(kind)) {
            meta.insert(&key(&format!("add_{kind}_token")), *value);
        }
        if let Some(template) = &self.template {
            state_template(template, meta);
        }
        if let Some(flag) = self.lowercase {
            meta.insert(&key("normalizer.lowercase"), flag);
        }
        if let Some(flag) = self.strip_accents {
            meta.insert(&key("normalizer.strip_accents"), flag);
        }
    }

    /// What the tokenizer's own config says.
    fn of_config(&mut self, config: &Object, tokenizer: Option<&Object>, kinds: &[&str]) {
        let added = tokenizer.and_then(|t| t.get("added_tokens")?.as_array());
        for kind in kinds {
            if let Some(add) = config.get(&format!("add_{kind}_token")).and_then(Value::as_bool)
                && let Some(kind) = ASKED.iter().find(|k| *k == kind)
                && !self.adds.iter().any(|(k, _)| k == kind)
            {
                self.adds.push((kind, add));
            }
            let Some(text) = config.get(&format!("{kind}_token")).and_then(content) else {
                continue;
            };
            let has_text =
                |token: &&Value| token.get("content").and_then(Value::as_str) == Some(text);
            let token = added.and_then(|added| added.iter().find(has_text));
            let id = token.and_then(|token| token.get("id")?.as_u64());
            if let Some(id) = id.and_then(|id| u32::try_from(id).ok()) {
                self.set(kind, id);
            }
        }
    }

    fn add(&mut self, kind: &'static str, value: bool) {
        match self.adds.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, old)) => *old = value,
            None => self.adds.push((kind, value)),
        }
    }

    /// Flags of a normalizer, which may be a sequence of some.
    fn normalizer(&mut self, part: &Value, depth: u32) {
        let flag = |key: &str| part.get(key).and_then(Value::as_bool);
        match part.get("type").and_then(Value::as_str) {
            Some("Lowercase") => self.lowercase = Some(true),
            Some("StripAccents") => self.strip_accents = Some(true),
            Some("BertNormalizer") => {
                self.lowercase = flag("lowercase").or(self.lowercase);
                self.strip_accents = flag("strip_accents").or(self.strip_accents);
            }
            Some("Sequence") if depth < 8 => {
                let list = part.get("normalizers").and_then(Value::as_array);
                list.into_iter().flatten().for_each(|part| self.normalizer(part, depth + 1));
            }
            _ => {}
        }
    }

    /// What is added to a text, by the tokenizer's post-processor.
    fn processor(&mut self, part: &Value, names: &mut Names<'_>, kinds: &mut Vec<&str>) {
        match part.get("type").and_then(Value::as_str) {
            Some("ByteLevel") => {
                for kind in ["bos", "eos"] {
                    if !self.adds.iter().any(|(k, _)| *k == kind) {
                        self.adds.push((kind, false));
                    }
                }
            }
            Some("TemplateProcessing") => self.processing(part, names, kinds),
            _ => {}
        }
    }

    /// A template of tokens around one text. Its first and last tokens tell whether begin and end are added.
    fn processing(&mut self, part: &Value, names: &mut Names<'_>, kinds: &mut Vec<&str>) {
        let list =
            |key: &str| part.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let special = |item: Option<&Value>| {
            item.and_then(|item| item.get("SpecialToken")?.get("id")?.as_str()).map(str::to_owned)
        };
        let (single, pair) = (list("single"), list("pair"));
        let many = single.len() > 1;
        let first = special(single.first()).filter(|_| many);
        let last = special(single.last()).filter(|_| many);
        if let Some(first) = &first {
            names.begins(first);
            self.add("bos", [&names.bos, &names.cls].contains(&&Some(first.clone())));
        }
        if let Some(last) = &last {
            names.ends(last, kinds);
            self.add("eos", names.eos.as_ref() == Some(last));
        }
        let start = usize::from(first.is_some() && special(pair.first()) == first);
        let stop = usize::from(last.is_some() && special(pair.last()) == last);
        let Some(inner) = pair.get(start..pair.len().saturating_sub(stop)) else { return };
        let sequence = |item: Option<&Value>| {
            item.and_then(|item| item.get("Sequence")?.get("id")?.as_str()).map(str::to_owned)
        };
        let ends = (sequence(inner.first()), sequence(inner.last()));
        let between = inner.get(1..inner.len().saturating_sub(1)).unwrap_or_default();
        if ends != (Some("A".to_owned()), Some("B".to_owned())) || between.is_empty() {
            return;
        }
        let parts = |item: Option<&Value>| {
            special(item).is_some_and(|token| [&names.sep, &names.eos].contains(&&Some(token)))
        };
        let separates = (parts(between.first()) && last.is_none())
            || (between.len() == 2 && parts(between.get(1)));
        self.add("sep", separates);
        if separates && names.sep.is_none() {
            names.state("sep", names.eos.clone());
        }
    }
}

/// The texts of special tokens, and the config that states them.
struct Names<'c> {
    config: Option<&'c mut Object>,
    bos: Option<String>,
    cls: Option<String>,
    eos: Option<String>,
    sep: Option<String>,
}

impl<'c> Names<'c> {
    fn new(config: Option<&'c mut Object>) -> Self {
        let text = |kind: &str| {
            let value = config.as_ref()?.get(&format!("{kind}_token"))?;
            content(value).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (bos, cls, eos, sep) = (text("bos"), text("cls"), text("eos"), text("sep"));
        let mut names = Names { config, bos, cls, eos, sep };
        if names.bos.is_none() && names.cls.is_some() {
            names.bos = names.cls.clone();
            names.state("bos", names.bos.clone());
        }
        if names.eos.is_none() && names.sep.is_some() {
            names.eos = names.sep.clone();
            names.state("eos", names.eos.clone());
        }
        names
    }

    fn state(&mut self, kind: &str, text: Option<String>) {
        if let (Some(config), Some(text)) = (&mut self.config, text) {
            config.insert(format!("{kind}_token"), text.into());
        }
    }

    /// A text begins with this token.
    fn begins(&mut self, first: &str) {
        let first = Some(first.to_owned());
        if self.config.is_none() {
            self.bos = first;
        } else if first != self.bos && first != self.cls {
            if self.bos.is_none() {
                self.bos = first.clone();
                self.state("bos", first.clone());
            }
            if self.cls.is_none() {
                self.cls = first.clone();
                self.state("cls", first);
            }
        }
    }

    /// A text ends with this token; the end that the config names becomes that of a turn.
    fn ends(&mut self, last: &str, kinds: &mut Vec<&str>) {
        let last = Some(last.to_owned());
        if self.config.is_some() && last != self.eos {
            if let Some(kind) = ["eot", "eom"].into_iter().find(|kind| !kinds.contains(kind)) {
                kinds.push(kind);
                self.state(kind, self.eos.clone());
            }
            self.state("eos", last.clone());
        }
        self.eos = last;
    }
}

/// A token's text, given as such or in an object.
pub(super) fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The chat template: the config's own, else that of a file beside it.
fn template(folder: &Folder, config: &Object) -> Result<Option<Value>, ConvertError> {
    if let Some(template) = config.get("chat_template") {
        return Ok(Some(template.clone()));
    }
    if let Some(template) = folder.text("chat_template.jinja")? {
        return Ok(Some(template.into()));
    }
    let json = folder.json("chat_template.json")?;
    Ok(json.and_then(|json| json.get("chat_template").cloned()))
}

/// States one template, or several by name.
fn state_template(template: &Value, meta: &mut MetaBuilder) {
    const KEY: &str = "tokenizer.chat_template";
    let mut default = template.as_str();
    let mut names: Vec<String> = Vec::new();
    for choice in template.as_array().into_iter().flatten() {
        let text = |key: &str| choice.get(key).and_then(Value::as_str);
        let (Some(name), Some(text)) = (text("name"), text("template")) else { continue };
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        match name.as_str() {
            "" => {}
            "default" => default = Some(text),
            _ => {
                meta.insert(&format!("{KEY}.{name}"), text);
                names.push(name);
            }
        }
    }
    if !names.is_empty() {
        meta.insert("tokenizer.chat_templates", names);
    }
    if let Some(text) = default.filter(|text| !text.is_empty()) {
        meta.insert(KEY, text);
    }
}
