//! Tokens to a tree, by the grammar of Go's text/template.
//! Functions and variables are known here already, as in Go: what is not defined is an error of syntax. Absent: imaginary numbers.

use std::collections::BTreeMap;

use super::ast::{Command, Inner, Node, Pipe, Term, Tree};
use super::functions::Function;
use super::lexer::{Keyword, Kind, Token, tokens};
use super::literals;
use crate::TextError;

/// How deep lists and parentheses may be nested; the deepest known template has 6.
const MAX_NESTING: usize = 64;

/// Variables in sight: they are searched one by one.
const MAX_VARIABLES: usize = 1000;

/// Parses a source.
pub(super) fn parse(source: &str) -> Result<Tree, TextError> {
    let tokens = tokens(source);
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        variables: vec!["$".to_owned()],
        loops: 0,
        nesting: 0,
        named: BTreeMap::new(),
    };
    let (root, end) = parser.list(true)?;
    if end != End::OfSource {
        return Err(parser.wrong(&format!("unexpected {end}")));
    }
    let mut named = parser.named;
    // The source itself is the template without a name.
    let nameless = named.remove("").unwrap_or_default();
    let root = if is_blank(&root) && !nameless.is_empty() { nameless } else { root };
    Ok(Tree { root, named })
}

/// What ended a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    OfSource,
    /// `end`
    Word,
    /// `else`, its closing delimiter passed.
    Else,
    /// `else if` or `else with`: the pipeline is next.
    ElseIf,
    ElseWith,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            End::OfSource => "EOF",
            End::Word => "{{end}}",
            _ => "{{else}}",
        })
    }
}

struct Parser<'t, 's> {
    tokens: &'t [Token<'s>],
    at: usize,
    /// The variables in sight.
    variables: Vec<String>,
    /// The loops around.
    loops: usize,
    nesting: usize,
    named: BTreeMap<String, Vec<Node>>,
}

impl<'t, 's> Parser<'t, 's> {
    /// The next token; behind the last one comes the last.
    fn peek(&self) -> &'t Token<'s> {
        self.ahead(0)
    }

    fn ahead(&self, tokens: usize) -> &'t Token<'s> {
        const NONE: &Token<'static> =
            &Token { kind: Kind::End, text: std::borrow::Cow::Borrowed(""), line: 1 };
        self.tokens.get(self.at + tokens).or(self.tokens.last()).unwrap_or(NONE)
    }

    fn next(&mut self) -> &'t Token<'s> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn skip_space(&mut self) {
        while self.peek().kind == Kind::Space {
            self.at += 1;
        }
    }

    /// The next token that is no blank.
    fn next_word(&mut self) -> &'t Token<'s> {
        self.skip_space();
        self.next()
    }

    fn wrong(&self, message: &str) -> TextError {
        let last = self.tokens.get(self.at.saturating_sub(1)).or(self.tokens.last());
        at_line(last.map_or(1, |token| token.line), message)
    }

    fn unexpected(&self, token: &Token<'_>, context: &str) -> TextError {
        match token.kind {
            Kind::Error => at_line(token.line, &token.text),
            Kind::End => at_line(token.line, "unexpected EOF"),
            _ => at_line(token.line, &format!("unexpected {:?} in {context}", token.text)),
        }
    }

    fn expect(&mut self, kind: Kind, context: &str) -> Result<&'t Token<'s>, TextError> {
        let token = self.next_word();
        if token.kind == kind { Ok(token) } else { Err(self.unexpected(token, context)) }
    }

    /// Runs one level deeper.
    fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, TextError>,
    ) -> Result<T, TextError> {
        if self.nesting >= MAX_NESTING {
            return Err(TextError::TemplateLimit { what: "levels of nesting", limit: MAX_NESTING });
        }
        self.nesting += 1;
        let result = parse(self);
        self.nesting -= 1;
        result
    }

    /// Text and actions up to an end, which is passed. Definitions stand only at the top.
    fn list(&mut self, top: bool) -> Result<(Vec<Node>, End), TextError> {
        let mut nodes = Vec::new();
        loop {
            let token = self.next();
            match token.kind {
                Kind::Text => nodes.push(Node::Text(token.text.clone().into_owned())),
                Kind::Open => {
                    self.skip_space();
                    let Kind::Keyword(keyword) = self.peek().kind else {
                        nodes.push(self.action()?);
                        continue;
                    };
                    match keyword {
                        Keyword::Define if top => self.define()?,
                        Keyword::End => {
                            self.next();
                            self.expect(Kind::Close, "end")?;
                            return Ok((nodes, End::Word));
                        }
                        Keyword::Else => {
                            self.next();
                            return Ok((nodes, self.otherwise()?));
                        }
                        _ => nodes.push(self.keyword(keyword)?),
                    }
                }
                Kind::End if top => return Ok((nodes, End::OfSource)),
                _ => return Err(self.unexpected(token, "input")),
            }
        }
    }

    fn otherwise(&mut self) -> Result<End, TextError> {
        self.skip_space();
        let end = match self.peek().kind {
            Kind::Keyword(Keyword::If) => End::ElseIf,
            Kind::Keyword(Keyword::With) => End::ElseWith,
            _ => {
                self.expect(Kind::Close, "else")?;
                return Ok(End::Else);
            }
        };
        self.next();
        Ok(end)
    }

    fn action(&mut self) -> Result<Node, TextError> {
        // What an action declares stays in sight.
        Ok(Node::Action(self.pipe("command", Kind::Close)?))
    }

    fn keyword(&mut self, keyword: Keyword) -> Result<Node, TextError> {
        let token = self.next();
        let in_sight = self.variables.len();
        let node = match keyword {
            Keyword::If => self.nested(|p| p.choice(false)),
            Keyword::With => self.nested(|p| p.choice(true)),
            Keyword::Range => self.nested(Self::range),
            Keyword::Block => return self.block(),
            Keyword::Template => return self.template(token.line),
            Keyword::Break => return self.leave(Node::Break, "break"),
            Keyword::Continue => return self.leave(Node::Continue, "continue"),
            Keyword::Nil => {
                // No statement: an operand.
                self.at -= 1;
                return self.action();
            }
            Keyword::Define | Keyword::Else | Keyword::End => {
                return Err(self.unexpected(token, "command"));
            }
        };
        self.variables.truncate(in_sight);
        node
    }

    fn leave(&mut self, node: Node, word: &str) -> Result<Node, TextError> {
        self.expect(Kind::Close, &format!("{{{{{word}}}}}"))?;
        if self.loops == 0 {
            return Err(self.wrong(&format!("{{{{{word}}}}} outside {{{{range}}}}")));
        }
        Ok(node)
    }

    fn choice(&mut self, with: bool) -> Result<Node, TextError> {
        let (word, again) = if with { ("with", End::ElseWith) } else { ("if", End::ElseIf) };
        let mut branches = Vec::new();
        loop {
            let pipe = self.pipe(word, Kind::Close)?;
            let (body, end) = self.list(false)?;
            branches.push((pipe, body));
            match end {
                End::Word => return Ok(Node::Choice { with, branches, otherwise: vec![] }),
                End::Else => {
                    let otherwise = self.last_list()?;
                    return Ok(Node::Choice { with, branches, otherwise });
                }
                _ if end == again => {}
                _ => return Err(self.wrong(&format!("unexpected word behind else of {word}"))),
            }
        }
    }

    /// The list behind `else`.
    fn last_list(&mut self) -> Result<Vec<Node>, TextError> {
        match self.list(false)? {
            (list, End::Word) => Ok(list),
            (_, end) => Err(self.wrong(&format!("expected end; found {end}"))),
        }
    }

    fn range(&mut self) -> Result<Node, TextError> {
        let pipe = self.pipe("range", Kind::Close)?;
        self.loops += 1;
        let body = self.list(false);
        self.loops -= 1;
        let (body, end) = body?;
        let otherwise = match end {
            End::Word => vec![],
            End::Else => self.last_list()?,
            _ => return Err(self.wrong("unexpected word behind else of range")),
        };
        Ok(Node::Range { pipe, body, otherwise })
    }

    fn template(&mut self, line: u32) -> Result<Node, TextError> {
        let name = self.name("template clause")?;
        self.skip_space();
        let dot = if self.peek().kind == Kind::Close {
            self.next();
            None
        } else {
            Some(self.pipe("template clause", Kind::Close)?)
        };
        Ok(Node::Template { line, name, dot })
    }

    fn block(&mut self) -> Result<Node, TextError> {
        let line = self.peek().line;
        let name = self.name("block clause")?;
        let dot = Some(self.pipe("block clause", Kind::Close)?);
        self.definition(name.clone())?;
        Ok(Node::Template { line, name, dot })
    }

    fn define(&mut self) -> Result<(), TextError> {
        self.next();
        let name = self.name("define clause")?;
        self.expect(Kind::Close, "define clause")?;
        self.definition(name)
    }

    /// The list of a definition: it sees neither variables nor loops around it.
    fn definition(&mut self, name: String) -> Result<(), TextError> {
        let outer = std::mem::replace(&mut self.variables, vec!["$".to_owned()]);
        let loops = std::mem::take(&mut self.loops);
        let list = self.nested(|p| p.last_list());
        self.variables = outer;
        self.loops = loops;
        let list = list?;
        match self.named.get(&name) {
            Some(old) if !is_blank(old) && !is_blank(&list) => {
                Err(self.wrong(&format!("multiple definition of template {name:?}")))
            }
            Some(old) if !is_blank(old) => Ok(()),
            _ => {
                self.named.insert(name, list);
                Ok(())
            }
        }
    }

    /// The name of a template: a string.
    fn name(&mut self, context: &str) -> Result<String, TextError> {
        let token = self.next_word();
        let text = match token.kind {
            Kind::Quoted | Kind::Raw => self.literal(token)?,
            _ => return Err(self.unexpected(token, context)),
        };
        String::from_utf8(text).map_err(|_| self.wrong("a name that is not UTF-8"))
    }

    fn literal(&self, token: &Token<'_>) -> Result<Vec<u8>, TextError> {
        literals::text(&token.text).ok_or_else(|| at_line(token.line, "invalid syntax of a string"))
    }

    /// A pipeline up to its end, which is passed.
    fn pipe(&mut self, context: &str, end: Kind) -> Result<Pipe, TextError> {
        self.skip_space();
        let mut pipe =
            Pipe { line: self.peek().line, variables: vec![], assigns: false, commands: vec![] };
        self.declarations(&mut pipe, context)?;
        loop {
            let token = self.next_word();
            match token.kind {
                kind if kind == end => break,
                Kind::Bool
                | Kind::Char
                | Kind::Dot
                | Kind::Field
                | Kind::Identifier
                | Kind::Number
                | Kind::Keyword(Keyword::Nil)
                | Kind::Raw
                | Kind::Quoted
                | Kind::Variable
                | Kind::OpenParen => {
                    self.at -= 1;
                    let command = self.command()?;
                    pipe.commands.push(command);
                }
                _ => return Err(self.unexpected(token, context)),
            }
        }
        self.check(&pipe, context)?;
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, `$i, $x :=` at the start of a pipeline.
    fn declarations(&mut self, pipe: &mut Pipe, context: &str) -> Result<(), TextError> {
        while self.peek().kind == Kind::Variable {
            let mut after = 1;
            while self.ahead(after).kind == Kind::Space {
                after += 1;
            }
            let (name, next) = (self.peek().text.clone().into_owned(), self.ahead(after));
            let comma = next.kind == Kind::Other && next.text == ",";
            if !comma && !matches!(next.kind, Kind::Assign | Kind::Declare) {
                return Ok(());
            }
            self.at += after + 1;
            if self.variables.len() >= MAX_VARIABLES {
                return Err(TextError::TemplateLimit { what: "variables", limit: MAX_VARIABLES });
            }
            self.variables.push(name.clone());
            pipe.variables.push(name);
            if !comma {
                pipe.assigns = next.kind == Kind::Assign;
                return Ok(());
            }
            if context != "range" || pipe.variables.len() > 1 {
                return Err(self.wrong(&format!("too many declarations in {context}")));
            }
            self.skip_space();
            if !matches!(self.peek().kind, Kind::Variable | Kind::Close | Kind::CloseParen) {
                return Err(self.wrong("range can only initialize variables"));
            }
        }
        Ok(())
    }

    fn check(&self, pipe: &Pipe, context: &str) -> Result<(), TextError> {
        if pipe.commands.is_empty() {
            return Err(self.wrong(&format!("missing value for {context}")));
        }
        let constant = |c: &Command| {
            let head = &c.head;
            matches!(
                head,
                Term::Bool(_)
                    | Term::Dot
                    | Term::Nil
                    | Term::Int(_)
                    | Term::Float(_)
                    | Term::Text(_)
            )
        };
        match pipe.commands.iter().skip(1).position(constant) {
            Some(i) => {
                Err(self.wrong(&format!("non executable command in pipeline stage {}", i + 2)))
            }
            None => Ok(()),
        }
    }

    /// Operands up to `|` or the end of the pipeline.
    fn command(&mut self) -> Result<Command, TextError> {
        let line = self.peek().line;
        let mut operands = Vec::new();
        loop {
            self.skip_space();
            if let Some(operand) = self.operand()? {
                operands.push(operand);
            }
            let token = self.next();
            match token.kind {
                Kind::Space => continue,
                Kind::Close | Kind::CloseParen => self.at -= 1,
                Kind::Bar => {}
                _ => return Err(self.unexpected(token, "operand")),
            }
            break;
        }
        if operands.is_empty() {
            return Err(self.wrong("empty command"));
        }
        let head = operands.remove(0);
        Ok(Command { line, head, arguments: operands })
    }

    /// A term with the fields behind it.
    fn operand(&mut self) -> Result<Option<Term>, TextError> {
        let Some(term) = self.term()? else { return Ok(None) };
        let mut fields = Vec::new();
        while self.peek().kind == Kind::Field {
            fields.push(field_name(self.next()));
        }
        if fields.is_empty() {
            return Ok(Some(term));
        }
        Ok(Some(match term {
            Term::Fields(mut names) => {
                names.extend(fields);
                Term::Fields(names)
            }
            Term::Variable(name, mut names) => {
                names.extend(fields);
                Term::Variable(name, names)
            }
            Term::Inner(_) | Term::Function(_) => Term::Inner(Box::new(Inner::Chain(term, fields))),
            _ => return Err(self.wrong("unexpected . after a constant")),
        }))
    }

    fn term(&mut self) -> Result<Option<Term>, TextError> {
        let token = self.next();
        let number = |text: Option<Term>| {
            text.ok_or_else(|| at_line(token.line, &format!("not a number: {:?}", token.text)))
        };
        Ok(Some(match token.kind {
            Kind::Identifier => {
                let function = Function::named(&token.text);
                let unknown =
                    || at_line(token.line, &format!("function {:?} not defined", token.text));
                Term::Function(function.ok_or_else(unknown)?)
            }
            Kind::Dot => Term::Dot,
            Kind::Keyword(Keyword::Nil) => Term::Nil,
            Kind::Variable => {
                if !self.variables.iter().any(|v| *v == token.text) {
                    let message = format!("undefined variable {:?}", token.text);
                    return Err(at_line(token.line, &message));
                }
                Term::Variable(token.text.clone().into_owned(), vec![])
            }
            Kind::Field => Term::Fields(vec![field_name(token)]),
            Kind::Bool => Term::Bool(token.text == "true"),
            Kind::Char => number(literals::character(&token.text).map(Term::Int))?,
            Kind::Number => number(literals::number(&token.text))?,
            Kind::OpenParen => {
                let pipe = self.nested(|p| p.pipe("parenthesized pipeline", Kind::CloseParen))?;
                Term::Inner(Box::new(Inner::Pipe(pipe)))
            }
            Kind::Quoted | Kind::Raw => Term::Text(self.literal(token)?),
            _ => {
                self.at -= 1;
                return Ok(None);
            }
        }))
    }
}

fn field_name(token: &Token<'_>) -> String {
    token.text.strip_prefix('.').unwrap_or(&token.text).to_owned()
}

/// Whether a list writes nothing but blanks and does nothing.
fn is_blank(list: &[Node]) -> bool {
    list.iter().all(|node| matches!(node, Node::Text(text) if text.trim().is_empty()))
}

fn at_line(line: u32, message: &str) -> TextError {
    TextError::TemplateSyntax(format!("{message} (line {line})"))
}
