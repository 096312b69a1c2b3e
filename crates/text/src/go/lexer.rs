//! Source to tokens, by the rules of Go's text/template: `{{`, `}}`, their trim markers, comments.
//! All tokens are made at once; the first error is the last token, so that errors of grammar before it come first. Absent: other
//! delimiters, and hexadecimal floats.

/// A piece of a source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'s> {
    pub(super) kind: Kind,
    /// As it stands in the source; of an error, the message.
    pub(super) text: std::borrow::Cow<'s, str>,
    /// Where it begins, from 1.
    pub(super) line: u32,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// `{{`
    Open,
    /// `}}`
    Close,
    Space,
    /// `=`
    Assign,
    /// `:=`
    Declare,
    Bar,
    OpenParen,
    CloseParen,
    /// Another character, such as a comma.
    Other,
    Identifier,
    Keyword(Keyword),
    Bool,
    /// A dot alone.
    Dot,
    /// With its dot.
    Field,
    /// With its `$`.
    Variable,
    Number,
    Char,
    Quoted,
    Raw,
    Error,
    End,
}

/// A reserved word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Block,
    Break,
    Continue,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
const OPEN_COMMENT: &str = "/*";
const CLOSE_COMMENT: &str = "*/";
/// A trim marker: a hyphen and the blank beside it.
const MARKER: usize = 2;

/// The tokens of a source; the last is an error or the end.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { source, start: 0, at: 0, line: 1, parens: 0, tokens: Vec::new() };
    let (kind, text) = match lexer.all() {
        Ok(()) => (Kind::End, std::borrow::Cow::Borrowed("")),
        Err(message) => (Kind::Error, message.into()),
    };
    lexer.tokens.push(Token { kind, text, line: lexer.line });
    lexer.tokens
}

struct Lexer<'s> {
    source: &'s str,
    /// Where the token under way begins.
    start: usize,
    at: usize,
    /// The line of `start`.
    line: u32,
    parens: usize,
    tokens: Vec<Token<'s>>,
}

impl<'s> Lexer<'s> {
    fn all(&mut self) -> Result<(), String> {
        while let Some(found) = self.rest().find(OPEN) {
            let open = self.at + found;
            let after = open + OPEN.len();
            let trims = left_marker(&self.source[after..]);
            self.at = open;
            if trims {
                self.at =
                    self.start + self.source[self.start..open].trim_end_matches(is_space).len();
            }
            self.emit_text();
            self.at = open;
            self.ignore();
            let inside = after + if trims { MARKER } else { 0 };
            if self.source[inside..].starts_with(OPEN_COMMENT) {
                self.at = inside;
                self.comment()?;
            } else {
                self.at = after;
                self.emit(Kind::Open);
                self.at = inside;
                self.ignore();
                self.action()?;
            }
        }
        self.at = self.source.len();
        self.emit_text();
        Ok(())
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn skip_while(&mut self, test: impl Fn(char) -> bool) {
        self.at += self.rest().len() - self.rest().trim_start_matches(test).len();
    }

    /// Forgets what was read.
    fn ignore(&mut self) {
        let lines = self.source[self.start..self.at].matches('\n').count();
        self.line += lines as u32;
        self.start = self.at;
    }

    fn emit(&mut self, kind: Kind) {
        let text = &self.source[self.start..self.at];
        self.tokens.push(Token { kind, text: text.into(), line: self.line });
        self.ignore();
    }

    fn emit_text(&mut self) {
        if self.at > self.start {
            self.emit(Kind::Text);
        }
    }

    fn comment(&mut self) -> Result<(), String> {
        let Some(end) = self.rest().find(CLOSE_COMMENT) else {
            return Err("unclosed comment".into());
        };
        self.skip(end + CLOSE_COMMENT.len());
        let trims = self.close_ahead().ok_or("comment ends before closing delimiter")?;
        self.close(trims);
        self.ignore();
        Ok(())
    }

    /// Whether a closing delimiter is next, and whether it trims.
    fn close_ahead(&self) -> Option<bool> {
        let rest = self.rest();
        if rest.starts_with(CLOSE) {
            return Some(false);
        }
        let marked = rest.strip_prefix(is_space).and_then(|r| r.strip_prefix('-'));
        marked.is_some_and(|r| r.starts_with(CLOSE)).then_some(true)
    }

    /// Passes a closing delimiter and the blanks that it trims.
    fn close(&mut self, trims: bool) {
        self.skip(CLOSE.len() + if trims { MARKER } else { 0 });
        if trims {
            self.skip_while(is_space);
        }
    }

    /// The tokens of an action, up to the closing delimiter.
    fn action(&mut self) -> Result<(), String> {
        self.parens = 0;
        loop {
            if let Some(trims) = self.close_ahead() {
                if self.parens > 0 {
                    return Err("unclosed left paren".into());
                }
                if trims {
                    self.skip(MARKER);
                    self.ignore();
                }
                self.skip(CLOSE.len());
                self.emit(Kind::Close);
                if trims {
                    self.skip_while(is_space);
                    self.ignore();
                }
                return Ok(());
            }
            self.token()?;
        }
    }

    fn token(&mut self) -> Result<(), String> {
        let next = self.peek().ok_or("unclosed action")?;
        match next {
            _ if is_space(next) => self.space(),
            '=' => self.one(Kind::Assign),
            ':' => {
                if !self.rest().starts_with(":=") {
                    return Err("expected :=".into());
                }
                self.skip(2);
                self.emit(Kind::Declare);
            }
            '|' => self.one(Kind::Bar),
            '"' => self.quoted('"', Kind::Quoted, "unterminated quoted string")?,
            '\'' => self.quoted('\'', Kind::Char, "unterminated character constant")?,
            '`' => {
                let end = self.rest()[1..].find('`').ok_or("unterminated raw quoted string")?;
                self.skip(end + 2);
                self.emit(Kind::Raw);
            }
            '$' => self.name(Kind::Variable)?,
            '.' if !self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let kind = if self.terminated(1) { Kind::Dot } else { Kind::Field };
                self.name(kind)?;
            }
            '+' | '-' | '.' | '0'..='9' => self.number()?,
            _ if is_word(next) => self.identifier()?,
            '(' => {
                self.one(Kind::OpenParen);
                self.parens += 1;
            }
            ')' => {
                self.parens = self.parens.checked_sub(1).ok_or("unexpected right paren")?;
                self.one(Kind::CloseParen);
            }
            ' '..='~' => self.one(Kind::Other),
            _ => return Err(format!("unrecognized character in action: {next:?}")),
        }
        Ok(())
    }

    fn one(&mut self, kind: Kind) {
        self.skip(1);
        self.emit(kind);
    }

    /// Blanks, without the one that belongs to a trim marker.
    fn space(&mut self) {
        while self.close_ahead().is_none() && self.peek().is_some_and(is_space) {
            self.skip(1);
        }
        self.emit(Kind::Space);
    }

    /// Whether a word may end so many bytes ahead.
    fn terminated(&self, ahead: usize) -> bool {
        let rest = &self.rest()[ahead..];
        let ends = |c: char| is_space(c) || matches!(c, '.' | ',' | '|' | ':' | ')' | '(');
        rest.is_empty() || rest.starts_with(ends) || rest.starts_with(CLOSE)
    }

    /// A dot or `$` and the word behind it.
    fn name(&mut self, kind: Kind) -> Result<(), String> {
        self.skip(1);
        self.word()?;
        self.emit(kind);
        Ok(())
    }

    fn word(&mut self) -> Result<(), String> {
        self.skip_while(is_word);
        match self.peek() {
            Some(c) if !self.terminated(0) => Err(format!("bad character {c:?}")),
            _ => Ok(()),
        }
    }

    fn identifier(&mut self) -> Result<(), String> {
        self.word()?;
        let kind = match &self.source[self.start..self.at] {
            "true" | "false" => Kind::Bool,
            word => keyword(word).map_or(Kind::Identifier, Kind::Keyword),
        };
        self.emit(kind);
        Ok(())
    }

    fn quoted(&mut self, quote: char, kind: Kind, unterminated: &str) -> Result<(), String> {
        self.skip(1);
        loop {
            let c = self.peek().filter(|&c| c != '\n').ok_or(unterminated)?;
            self.skip(c.len_utf8());
            if c == quote {
                break;
            }
            if c == '\\' {
                let c = self.peek().filter(|&c| c != '\n').ok_or(unterminated)?;
                self.skip(c.len_utf8());
            }
        }
        self.emit(kind);
        Ok(())
    }

    /// All that can belong to a number; the parser judges it.
    fn number(&mut self) -> Result<(), String> {
        let signs = |l: &mut Self| {
            if l.rest().starts_with(['+', '-']) {
                l.skip(1);
            }
        };
        signs(self);
        let hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        if hex {
            self.skip(2);
            self.skip_while(|c| c.is_ascii_hexdigit() || c == '_');
        } else {
            if ["0o", "0O", "0b", "0B"].iter().any(|p| self.rest().starts_with(p)) {
                self.skip(2);
            }
            self.skip_while(|c| c.is_ascii_digit() || c == '_' || c == '.');
            if self.rest().starts_with(['e', 'E']) {
                self.skip(1);
                signs(self);
                self.skip_while(|c| c.is_ascii_digit() || c == '_');
            }
        }
        if self.peek().is_some_and(is_word) {
            self.skip_while(is_word);
            return Err(format!("bad number syntax: {:?}", &self.source[self.start..self.at]));
        }
        self.emit(Kind::Number);
        Ok(())
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn left_marker(inside: &str) -> bool {
    inside.strip_prefix('-').is_some_and(|r| r.starts_with(is_space))
}

fn keyword(word: &str) -> Option<Keyword> {
    Some(match word {
        "block" => Keyword::Block,
        "break" => Keyword::Break,
        "continue" => Keyword::Continue,
        "define" => Keyword::Define,
        "else" => Keyword::Else,
        "end" => Keyword::End,
        "if" => Keyword::If,
        "nil" => Keyword::Nil,
        "range" => Keyword::Range,
        "template" => Keyword::Template,
        "with" => Keyword::With,
        _ => return None,
    })
}
