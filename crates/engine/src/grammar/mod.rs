//! Constrained answers: a rule (JSON, a schema, an expression, a Lark grammar) is compiled to the tokens that may come next.
//! llguidance does the matching; here are its tables, limits that end bombs early, and thinking before the answer. Absent: sampling.

mod adapt;
mod follow;
mod markers;
mod repeats;
mod schema;
mod slots;
#[cfg(test)]
mod tests;
mod vocabulary;
mod watch;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use hob_text::Tokenizer;
use llguidance::api::{GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{ParserFactory, TokenParser};
use slots::Slots;

use crate::fault::{contained, tried};
use follow::Digits;
pub(crate) use follow::Follower;
#[cfg(test)]
use follow::MAX_DIGITS;

/// The longest text of a rule, bytes.
pub const MAX_RULE_BYTES: usize = 256 << 10;
/// The deepest nesting of a schema.
pub const MAX_SCHEMA_DEPTH: usize = 64;
/// Most values in a schema, keys not counted.
pub const MAX_SCHEMA_VALUES: usize = 10_000;
/// Most keys of one object in a schema: matching those that may be left out costs their square.
pub const MAX_SCHEMA_PROPERTIES: usize = 500;
/// The longest regular expression, bytes.
pub const MAX_REGEX_BYTES: usize = 16 << 10;

/// Compiling recurses as deep as rules refer to each other; only what is used becomes memory.
const STACK_BYTES: usize = 256 << 20;
/// Times are those of optimised builds: a build with checks is a few times slower, and tests run on busy machines.
const SLOWNESS: u32 = if cfg!(debug_assertions) { 20 } else { 1 };
/// The longest wait for one's turn to compile.
const MAX_WAIT: Duration = Duration::from_millis(300).saturating_mul(SLOWNESS);
/// The longest that compiling may take; what llguidance does not count is given up then.
const MAX_COMPILE: Duration = Duration::from_millis(600).saturating_mul(SLOWNESS);
/// Rules that are compiled at once, in the whole process. Those that were given up count until they end.
const MAX_COMPILING: usize = 4;
static COMPILING: Slots = Slots::new(MAX_COMPILING);
/// The longest message that is handed on, bytes.
const MAX_MESSAGE_BYTES: usize = 400;

/// Bounds of compiling (tens of milliseconds) and of one token's mask (some ten).
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 1_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 150_000,
        step_max_items: 50_000,
        max_lexer_states: 50_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// What an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Any JSON object.
    Json,
    /// JSON that a JSON schema describes (drafts 4 to 2020-12; integers without bounds fit 64 bits). Alternatives of `oneOf` are set apart by
    /// their types, constants and required properties; those that cannot be are taken for `anyOf`.
    Schema(serde_json::Value),
    /// A text that all of a regular expression matches, in the syntax of Rust's `regex`.
    Regex(String),
    /// A text of a grammar in llguidance's dialect of Lark. `<|name|>` is the control token of that name, or its text where the
    /// vocabulary has no such control token; `<[NAME]>` is the same for `[NAME]`.
    Lark(String),
}

/// Why a rule cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// It is larger than what is compiled.
    #[error("{what}: {found}, but at most {most} can be followed")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// How much of it there is.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// It makes no sense, uses what is not supported, or takes too much work; the message says what.
    #[error("the answer's format cannot be followed: {0}")]
    Rule(String),
    /// Too many rules are being compiled.
    #[error("too many formats of answers are being compiled; try again")]
    Busy,
    /// The vocabulary cannot be put into tables.
    #[error("answers of this model cannot be constrained: {0}")]
    Vocabulary(String),
    /// While the answer ran: no token fits, or finding those that do took too much work.
    #[error("the answer cannot follow its format any further: {0}")]
    Stuck(String),
}

/// What is needed to compile rules for one vocabulary. Clones are handles to the same tables.
#[derive(Clone)]
pub struct Grammars(Arc<Tables>);

struct Tables {
    factory: ParserFactory,
    tokenizer: Arc<Tokenizer>,
    digits: Digits,
}

impl Grammars {
    /// Makes the tables: some tens of milliseconds and megabytes for a large vocabulary.
    ///
    /// # Errors
    /// [`GrammarError::Vocabulary`].
    pub fn new(tokenizer: &Arc<Tokenizer>) -> Result<Self, GrammarError> {
        let made = tried(|| {
            let env = vocabulary::environment(tokenizer);
            let slices = SlicedBiasComputer::general_slices();
            ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
        });
        let mut factory = made.map_err(GrammarError::Vocabulary)?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Grammars(Arc::new(Tables {
            factory,
            tokenizer: tokenizer.clone(),
            digits: Digits::new(tokenizer),
        })))
    }

    /// Compiles a rule while the caller waits, one second at most.
    ///
    /// # Errors
    /// [`GrammarError::TooLarge`], [`GrammarError::Rule`] and [`GrammarError::Busy`].
    pub fn compile(&self, rule: &Rule) -> Result<Constraint, GrammarError> {
        let grammar = self.source(rule)?;
        let parser = self.parser(vec![grammar.clone()])?;
        let opening = String::new();
        Ok(Constraint { tables: self.clone(), grammar, opening, parser: Ok(Arc::new(parser)) })
    }

    fn source(&self, rule: &Rule) -> Result<GrammarWithLexer, GrammarError> {
        let grammar = match rule {
            Rule::Json => GrammarWithLexer::from_json_schema(schema::object()),
            Rule::Schema(value) => GrammarWithLexer::from_json_schema(schema::checked(value)?),
            Rule::Regex(regex) => {
                at_most("bytes of a regular expression", regex.len(), MAX_REGEX_BYTES)?;
                repeats::check_regex(regex)?;
                match regex.is_empty() {
                    true => GrammarWithLexer::from_lark("start: \"\"".to_owned()),
                    false => GrammarWithLexer::from_regex(regex),
                }
            }
            Rule::Lark(lark) => {
                at_most("bytes of a grammar", lark.len(), MAX_RULE_BYTES)?;
                repeats::check_lark(lark)?;
                GrammarWithLexer::from_lark(markers::settled(lark, &self.0.tokenizer))
            }
        };
        Ok(GrammarWithLexer { name: Some(ANSWER.to_owned()), ..grammar })
    }

    /// Compiles grammars, the first of which starts.
    fn parser(&self, grammars: Vec<GrammarWithLexer>) -> Result<TokenParser, GrammarError> {
        let slot = COMPILING.take(MAX_WAIT).ok_or(GrammarError::Busy)?;
        let grammar = TopLevelGrammar { grammars, max_tokens: None };
        let (tables, (sender, result)) = (self.0.clone(), channel());
        let compile = move || {
            let _slot = slot;
            // Nobody listens any more after a while.
            let _ = sender.send(tried(|| tables.compiled(grammar)));
        };
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        builder.spawn(compile).map_err(|e| GrammarError::Rule(format!("no thread: {e}")))?;
        match result.recv_timeout(MAX_COMPILE) {
            Ok(parser) => parser.map_err(|e| GrammarError::Rule(short(&e))),
            Err(_) => Err(GrammarError::Rule("it takes too long to compile".to_owned())),
        }
    }
}

impl Tables {
    /// A parser whose first tokens were found within the time that there is for one: they are often the dearest.
    fn compiled(&self, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
        let parser = self.factory.create_parser(grammar).map_err(|e| e.to_string())?;
        let own = parser.deep_clone();
        let mut trial = Follower::new(own, self.tokenizer.eog_tokens(), None);
        match trial.allowed() {
            Ok(_) => Ok(parser),
            Err(GrammarError::Stuck(why)) => Err(why),
            Err(other) => Err(other.to_string()),
        }
    }
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grammars of {} tokens", self.0.tokenizer.vocab_size())
    }
}

/// Name of the rule's grammar beside that of the thinking.
const ANSWER: &str = "answer";

/// A compiled rule, for any number of requests.
#[derive(Clone)]
pub struct Constraint {
    tables: Grammars,
    grammar: GrammarWithLexer,
    /// What comes before the rule, as parts of a grammar.
    opening: String,
    /// An error is told when the request is submitted.
    parser: Result<Arc<TokenParser>, GrammarError>,
}

impl Constraint {
    /// The same rule for a model that may think first: anything between `open` and `close`, then blanks, then the rule. With
    /// `opened` the prompt ends with `open`, and the answer begins within the thinking. Marks are tokens or text, as the
    /// vocabulary has them. What goes wrong is told when a request with this constraint is submitted.
    #[must_use]
    pub fn behind_thinking(self, open: &str, close: &str, opened: bool) -> Constraint {
        let answer = format!("{} @{ANSWER}", self.opening);
        let wrapper = thinking(open, close, opened, &answer, &self.tables.0.tokenizer);
        let parser = wrapper.and_then(|lark| self.behind(lark));
        Constraint { parser: parser.map(Arc::new), ..self }
    }

    /// The same rule in a format whose answers begin with a header of their own, after the thinking: `opening` comes first. To be
    /// called before [`Constraint::behind_thinking`].
    #[must_use]
    pub fn opened_by(self, opening: &str) -> Constraint {
        let opening = mark(opening, &self.tables.0.tokenizer).join(" ");
        let parser = self.behind(format!("start: {opening} @{ANSWER}\n"));
        Constraint { opening, parser: parser.map(Arc::new), ..self }
    }

    /// Compiles the rule as a part of another grammar.
    fn behind(&self, lark: String) -> Result<TokenParser, GrammarError> {
        self.tables.parser(vec![GrammarWithLexer::from_lark(lark), self.grammar.clone()])
    }

    /// Tokens of the vocabulary it was made for.
    pub(crate) fn vocab(&self) -> usize {
        self.tables.0.tokenizer.vocab_size()
    }

    /// Starts an answer.
    pub(crate) fn follow(&self) -> Result<Follower, GrammarError> {
        let parser = self.parser.clone()?;
        // Shared caches would share their limits too: one answer's trouble would be another's.
        let own = contained(|| parser.deep_clone()).map_err(GrammarError::Rule)?;
        let tables = &self.tables.0;
        let digits = self.grammar.json_schema.is_some().then(|| tables.digits.clone());
        Ok(Follower::new(own, tables.tokenizer.eog_tokens(), digits))
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Constraint {:?}", self.parser.as_ref().map(|_| &self.grammar))
    }
}

/// A grammar of thinking and then what the answer is.
fn thinking(
    open: &str,
    close: &str,
    opened: bool,
    answer: &str,
    tokenizer: &Tokenizer,
) -> Result<String, GrammarError> {
    let (open, close) = (open.trim(), close.trim());
    if open.is_empty() || close.is_empty() {
        return Err(GrammarError::Rule("a mark of thinking is empty".to_owned()));
    }
    let close = mark(close, tokenizer);
    let first = close.first().cloned().unwrap_or_default();
    // Text ends at the first closing mark; a control token ends it by itself.
    let thought = match first.starts_with('"') {
        true => format!("thought[suffix={first}]: /(?s:.*)/"),
        false => format!("thought: /(?s:.*)/ {first}"),
    };
    let tail = close.get(1..).unwrap_or_default().join(" ");
    let start = match opened {
        true => format!("thinking {answer}"),
        false => format!("({} thinking)? {answer}", mark(open, tokenizer).join(" ")),
    };
    Ok(format!(
        "start: {start}\nthinking: thought {tail} BLANKS?\n{thought}\nBLANKS: /[ \\n]{{1,4}}/\n"
    ))
}

/// A mark as strings and tokens of a grammar.
fn mark(text: &str, tokenizer: &Tokenizer) -> Vec<String> {
    let options = hob_text::EncodeOptions { add_special: false, parse_special: true };
    let (mut parts, mut plain) = (Vec::new(), Vec::new());
    let string = |bytes: &[u8]| serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string();
    for token in tokenizer.encode(text, options) {
        if !tokenizer.is_control(token) {
            plain.extend_from_slice(tokenizer.token_bytes(token, false));
            continue;
        }
        if !plain.is_empty() {
            parts.push(string(&plain));
            plain.clear();
        }
        parts.push(format!("<[{token}]>"));
    }
    if !plain.is_empty() {
        parts.push(string(&plain));
    }
    parts
}

fn at_most(what: &'static str, found: usize, most: usize) -> Result<(), GrammarError> {
    if found <= most { Ok(()) } else { Err(GrammarError::TooLarge { what, found, most }) }
}

/// A message without the parts of the grammar that it may quote at length.
fn short(message: &str) -> String {
    let message = message.split("\n<backtrace").next().unwrap_or(message);
    match message.len() <= MAX_MESSAGE_BYTES {
        true => message.trim_end().to_owned(),
        false => format!("{}…", &message[..message.floor_char_boundary(MAX_MESSAGE_BYTES)]),
    }
}
