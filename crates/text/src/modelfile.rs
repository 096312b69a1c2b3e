//! Modelfiles: a model's sources, parameters, texts and messages as lines of instructions, read and written as Ollama does.
//! Pure text to a struct: what a path means, and whether it exists, is the caller's to know. Absent: escapes, which the format
//! does not have.

use std::fmt;

/// What a Modelfile says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Modelfile {
    /// `FROM`: names of models or paths, one at least; a second may add a projector.
    pub from: Vec<String>,
    /// `PARAMETER`, in order: each name once, but `stop` as often as it stands there.
    pub parameters: Vec<(String, Parameter)>,
    /// `TEMPLATE`: a chat template in Go's language.
    pub template: Option<String>,
    /// `SYSTEM`
    pub system: Option<String>,
    /// `ADAPTER`: a path.
    pub adapter: Option<String>,
    /// `DRAFT`: the path of a model that speculates.
    pub draft: Option<String>,
    /// `LICENSE`, each.
    pub licenses: Vec<String>,
    /// `MESSAGE`: role and text, the start of every conversation.
    pub messages: Vec<(String, String)>,
    /// `RENDERER`: the name of a built-in writer of prompts.
    pub renderer: Option<String>,
    /// `PARSER`: the name of a built-in reader of answers.
    pub parser: Option<String>,
    /// `REQUIRES`: the least version of the server, without a `v`.
    pub requires: Option<String>,
    /// Parameters that once had a meaning and are passed over.
    pub deprecated: Vec<String>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// Of counts and sizes.
    Int(i64),
    /// Of probabilities and penalties.
    Float(f64),
    /// Of switches.
    Bool(bool),
    /// Of `stop`.
    Text(String),
}

/// What is wrong with a Modelfile, in Ollama's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelfileError {
    /// A line begins with no instruction.
    #[error(
        "(line {line}): command must be one of \"from\", \"license\", \"template\", \"system\", \"adapter\", \"draft\", \
         \"renderer\", \"parser\", \"parameter\", \"message\", or \"requires\""
    )]
    Command {
        /// From 1.
        line: usize,
    },
    /// A message is nobody's.
    #[error("(line {line}): message role must be one of \"system\", \"user\", or \"assistant\"")]
    Role {
        /// From 1.
        line: usize,
    },
    /// No line says what the model is made of.
    #[error("no FROM line")]
    NoFrom,
    /// A parameter that does not exist.
    #[error("unknown parameter '{0}'")]
    UnknownParameter(String),
    /// A parameter's value is of another type.
    #[error("invalid {kind} value [{value}]")]
    Value {
        /// The type, in a word.
        kind: &'static str,
        /// What was found.
        value: String,
    },
    /// A quotation without an end, or an instruction without a value.
    #[error("unexpected EOF")]
    Unfinished,
    /// `REQUIRES` with something else than a version.
    #[error("requires must be a valid semver (e.g. 0.14.0)")]
    Version,
    /// A second adapter.
    #[error("(line {line}): only one adapter is supported")]
    SecondAdapter {
        /// From 1.
        line: usize,
    },
    /// A model that would speculate for itself.
    #[error("DRAFT must not reference the same local path as FROM: {0}")]
    DraftIsModel(String),
}

/// The type of a parameter's value.
#[derive(Clone, Copy)]
enum Kind {
    Int,
    Float,
    Bool,
    Text,
    /// Without a meaning today.
    Deprecated,
}

const PARAMETERS: [(&str, Kind); 29] = [
    ("num_ctx", Kind::Int),
    ("num_batch", Kind::Int),
    ("num_gpu", Kind::Int),
    ("main_gpu", Kind::Int),
    ("num_thread", Kind::Int),
    ("draft_num_predict", Kind::Int),
    ("num_keep", Kind::Int),
    ("seed", Kind::Int),
    ("num_predict", Kind::Int),
    ("top_k", Kind::Int),
    ("repeat_last_n", Kind::Int),
    ("top_p", Kind::Float),
    ("min_p", Kind::Float),
    ("typical_p", Kind::Float),
    ("temperature", Kind::Float),
    ("repeat_penalty", Kind::Float),
    ("presence_penalty", Kind::Float),
    ("frequency_penalty", Kind::Float),
    ("use_mmap", Kind::Bool),
    (STOP, Kind::Text),
    ("penalize_newline", Kind::Deprecated),
    ("low_vram", Kind::Deprecated),
    ("f16_kv", Kind::Deprecated),
    ("logits_all", Kind::Deprecated),
    ("vocab_only", Kind::Deprecated),
    ("use_mlock", Kind::Deprecated),
    ("mirostat", Kind::Deprecated),
    ("mirostat_tau", Kind::Deprecated),
    ("mirostat_eta", Kind::Deprecated),
];
/// The parameter that may stand several times.
const STOP: &str = "stop";
const ROLES: [&str; 3] = ["system", "user", "assistant"];

impl Modelfile {
    /// Reads a Modelfile.
    ///
    /// # Errors
    /// [`ModelfileError`], for the first thing that is wrong.
    pub fn parse(text: &str) -> Result<Self, ModelfileError> {
        let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
        let mut file = Self::default();
        while let Some(command) = reader.command()? {
            file.take(command)?;
        }
        if file.from.is_empty() {
            return Err(ModelfileError::NoFrom);
        }
        match file.draft.as_ref().filter(|draft| file.from.contains(draft)) {
            Some(draft) => Err(ModelfileError::DraftIsModel(draft.clone())),
            None => Ok(file),
        }
    }

    fn take(&mut self, command: Command<'_>) -> Result<(), ModelfileError> {
        let Command { line, name, key, value } = command;
        let text = value.to_owned();
        match name.as_str() {
            "from" => self.from.push(text),
            "template" => self.template = Some(text),
            "system" => self.system = Some(text),
            "license" => self.licenses.push(text),
            "adapter" if self.adapter.is_some() => {
                return Err(ModelfileError::SecondAdapter { line });
            }
            "adapter" => self.adapter = Some(text),
            "draft" => self.draft = Some(text),
            "renderer" => self.renderer = Some(text),
            "parser" => self.parser = Some(text),
            "requires" => self.requires = Some(version(value)?),
            "message" if ROLES.contains(&key) => self.messages.push((key.to_owned(), text)),
            "message" => return Err(ModelfileError::Role { line }),
            "parameter" => self.set(key, value)?,
            _ => return Err(ModelfileError::Command { line }),
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ModelfileError> {
        let kind = PARAMETERS.iter().find(|(n, _)| *n == name).map(|(_, kind)| *kind);
        let wrong = |kind| ModelfileError::Value { kind, value: value.to_owned() };
        let value = match kind {
            None => return Err(ModelfileError::UnknownParameter(name.to_owned())),
            Some(Kind::Deprecated) => {
                self.deprecated.push(name.to_owned());
                return Ok(());
            }
            Some(Kind::Int) => Parameter::Int(value.parse().map_err(|_| wrong("int"))?),
            Some(Kind::Float) => {
                let number = value.parse().ok().filter(|f: &f64| f.is_finite());
                Parameter::Float(number.ok_or_else(|| wrong("float"))?)
            }
            Some(Kind::Bool) => Parameter::Bool(switch(value).ok_or_else(|| wrong("bool"))?),
            Some(Kind::Text) => Parameter::Text(value.to_owned()),
        };
        match self.parameters.iter_mut().find(|(n, _)| n == name && n != STOP) {
            Some((_, old)) => *old = value,
            None => self.parameters.push((name.to_owned(), value)),
        }
        Ok(())
    }
}

/// The words that Go reads as truth values.
fn switch(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A semantic version without its `v`; the last numbers may be missing.
fn version(text: &str) -> Result<String, ModelfileError> {
    let version = text.strip_prefix('v').unwrap_or(text);
    let (core, tail) =
        version.split_once(['-', '+']).map_or((version, None), |(c, t)| (c, Some(t)));
    let numbers: Vec<&str> = core.split('.').collect();
    let number = |n: &&str| {
        !n.is_empty()
            && n.bytes().all(|b| b.is_ascii_digit())
            && (n.len() == 1 || !n.starts_with('0'))
    };
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
    let sound = numbers.len() <= 3
        && numbers.iter().all(number)
        && tail.is_none_or(|t| numbers.len() == 3 && !t.is_empty() && t.chars().all(word));
    if sound { Ok(version.to_owned()) } else { Err(ModelfileError::Version) }
}

/// An instruction.
struct Command<'t> {
    line: usize,
    /// In lower case.
    name: String,
    /// The parameter's name, or the message's role.
    key: &'t str,
    value: &'t str,
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Reader<'t> {
    /// The next instruction; blank lines and comments are passed over.
    fn command(&mut self) -> Result<Option<Command<'t>>, ModelfileError> {
        loop {
            self.pass(|c| is_blank(c) || is_line_end(c));
            if !self.rest.starts_with('#') {
                break;
            }
            self.pass(|c| !is_line_end(c));
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = self.line;
        let name = self.word(|c| c.is_ascii_alphabetic()).to_ascii_lowercase();
        let known = matches!(
            name.as_str(),
            "from"
                | "license"
                | "template"
                | "system"
                | "adapter"
                | "draft"
                | "renderer"
                | "parser"
                | "parameter"
                | "message"
                | "requires"
        );
        if known && self.rest.is_empty() {
            return Err(ModelfileError::Unfinished);
        }
        if !known || !self.rest.starts_with(is_blank) {
            return Err(ModelfileError::Command { line });
        }
        let key = match name.as_str() {
            "parameter" | "message" => {
                self.pass(is_blank);
                let key = self.word(|c| c.is_ascii_alphanumeric() || c == '_');
                if name == "message" && !ROLES.contains(&key) {
                    return Err(ModelfileError::Role { line });
                }
                if !self.rest.starts_with(is_blank) {
                    return Err(ModelfileError::Unfinished);
                }
                key
            }
            _ => "",
        };
        let value = self.value()?;
        Ok(Some(Command { line, name, key, value }))
    }

    /// The rest of the line, or of the lines up to the end of a quotation.
    fn value(&mut self) -> Result<&'t str, ModelfileError> {
        self.pass(is_blank);
        let text = self.rest;
        let ends = text.match_indices(is_line_end).map(|(at, _)| at).chain([text.len()]);
        for end in ends {
            let (value, rest) = text.split_at(end);
            if let Some(value) = unquoted(value.trim()) {
                self.line += lines(&text[..end]);
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(ModelfileError::Unfinished)
    }

    fn word(&mut self, of: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest.trim_start_matches(of);
        let word = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        word
    }

    fn pass(&mut self, over: impl Fn(char) -> bool) {
        let passed = self.word(over);
        self.line += lines(passed);
    }
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

/// A value without its quotation marks; `None` while the closing ones are missing.
fn unquoted(text: &str) -> Option<&str> {
    for mark in ["\"\"\"", "\""] {
        if let Some(inner) = text.strip_prefix(mark) {
            return inner.strip_suffix(mark);
        }
    }
    Some(text)
}

/// As it is read again. A text with a line that ends in three quotation marks has no way to be written.
impl fmt::Display for Modelfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for from in &self.from {
            writeln!(f, "FROM {}", Quoted(from))?;
        }
        let texts = [
            ("DRAFT", &self.draft),
            ("ADAPTER", &self.adapter),
            ("TEMPLATE", &self.template),
            ("SYSTEM", &self.system),
            ("RENDERER", &self.renderer),
            ("PARSER", &self.parser),
            ("REQUIRES", &self.requires),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                writeln!(f, "{name} {}", Quoted(text))?;
            }
        }
        for (name, value) in &self.parameters {
            writeln!(f, "PARAMETER {name} {value}")?;
        }
        for (role, text) in &self.messages {
            writeln!(f, "MESSAGE {role} {}", Quoted(text))?;
        }
        for license in &self.licenses {
            writeln!(f, "LICENSE {}", Quoted(license))?;
        }
        Ok(())
    }
}

/// As a Modelfile writes it, quoted where needed.
impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::Int(i) => write!(f, "{i}"),
            Parameter::Float(x) => write!(f, "{x}"),
            Parameter::Bool(b) => write!(f, "{b}"),
            Parameter::Text(text) => Quoted(text).fmt(f),
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0;
        let plain = !text.is_empty() && !text.starts_with('"') && text.trim() == text;
        if plain && !text.contains(is_line_end) {
            return f.write_str(text);
        }
        let mark = if text.contains('"') { "\"\"\"" } else { "\"" };
        write!(f, "{mark}{text}{mark}")
    }
}
