//! Runs a tree on data, as Go's text/template does with `missingkey=zero`.
//! A template is a stranger's program: each step costs fuel, as does every 64 bytes that are written or made, and depth is bounded
//! because Rust's stack is the resource. Absent: methods.

use std::sync::Arc;
use std::time::SystemTime;

use super::ast::{Command, Inner, Node, Pipe, Term, Tree};
use super::functions::Function;
use super::print::{Buffer, Refusal, write_action};
use super::value::Value;
use crate::TextError;

/// How deep lists, pipelines and templates may call each other.
const MAX_DEPTH: usize = 200;
/// Bytes that cost as much as one step.
const BYTES_PER_STEP: usize = 64;

/// What a template may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Steps, or 64 bytes each.
    pub(super) fuel: u64,
    /// Bytes of output.
    pub(super) output: usize,
}

/// What the template `nodes` of `tree` writes about `data`; takes what it uses from `limits`.
pub(super) fn run(
    tree: &Tree,
    nodes: &[Node],
    data: &Value,
    limits: &mut Limits,
    now: Option<SystemTime>,
) -> Result<Vec<u8>, TextError> {
    let mut run = Run {
        tree,
        limits: *limits,
        fuel: limits.fuel,
        depth: 0,
        variables: vec![("$", data.clone())],
        out: Buffer::new(limits.output),
        now,
    };
    run.list(data, nodes)?;
    *limits = Limits { fuel: run.fuel, output: run.out.left() };
    Ok(run.out.bytes)
}

/// How a list ended.
#[derive(PartialEq, Eq)]
enum Flow {
    Done,
    Break,
    Continue,
}

struct Run<'t> {
    tree: &'t Tree,
    limits: Limits,
    fuel: u64,
    depth: usize,
    variables: Vec<(&'t str, Value)>,
    out: Buffer,
    now: Option<SystemTime>,
}

impl<'t> Run<'t> {
    fn burn(&mut self, steps: u64) -> Result<(), TextError> {
        match self.fuel.checked_sub(steps) {
            Some(left) => {
                self.fuel = left;
                Ok(())
            }
            None => Err(self.spent()),
        }
    }

    fn spent(&self) -> TextError {
        let limit = usize::try_from(self.limits.fuel).unwrap_or(usize::MAX);
        TextError::TemplateLimit { what: "steps (or 64 bytes each)", limit }
    }

    /// Runs one level deeper.
    fn deeper<T>(
        &mut self,
        run: impl FnOnce(&mut Self) -> Result<T, TextError>,
    ) -> Result<T, TextError> {
        if self.depth >= MAX_DEPTH {
            return Err(TextError::TemplateLimit { what: "levels of calls", limit: MAX_DEPTH });
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    fn list(&mut self, dot: &Value, nodes: &'t [Node]) -> Result<Flow, TextError> {
        self.deeper(|run| {
            for node in nodes {
                run.burn(1)?;
                let flow = run.node(dot, node)?;
                if flow != Flow::Done {
                    return Ok(flow);
                }
            }
            Ok(Flow::Done)
        })
    }

    fn node(&mut self, dot: &Value, node: &'t Node) -> Result<Flow, TextError> {
        match node {
            Node::Text(text) => self.write(0, |out| out.push_str(text))?,
            Node::Action(pipe) => {
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.write(pipe.line, |out| write_action(&value, out))?;
                }
            }
            Node::Choice { with, branches, otherwise } => {
                let mark = self.variables.len();
                let flow = self.choice(dot, *with, branches, otherwise);
                self.variables.truncate(mark);
                return flow;
            }
            Node::Range { pipe, body, otherwise } => {
                let mark = self.variables.len();
                let flow = self.range(dot, pipe, body, otherwise);
                self.variables.truncate(mark);
                return flow;
            }
            Node::Template { line, name, dot: pipe } => {
                self.template(dot, *line, name, pipe.as_ref())?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Done)
    }

    fn write(
        &mut self,
        line: u32,
        write: impl FnOnce(&mut Buffer) -> Result<(), Refusal>,
    ) -> Result<(), TextError> {
        let before = self.out.work;
        write(&mut self.out).map_err(|refusal| match refusal {
            Refusal::Wrong(message) => at_line(line, &message),
            Refusal::Full => {
                TextError::TemplateLimit { what: "bytes of output", limit: self.limits.output }
            }
        })?;
        self.burn(((self.out.work - before) / BYTES_PER_STEP) as u64)
    }

    fn choice(
        &mut self,
        dot: &Value,
        with: bool,
        branches: &'t [(Pipe, Vec<Node>)],
        otherwise: &'t [Node],
    ) -> Result<Flow, TextError> {
        for (pipe, body) in branches {
            let value = self.pipe(dot, pipe)?;
            if value.truth() {
                return self.list(if with { &value } else { dot }, body);
            }
        }
        self.list(dot, otherwise)
    }

    fn range(
        &mut self,
        dot: &Value,
        pipe: &'t Pipe,
        body: &'t [Node],
        otherwise: &'t [Node],
    ) -> Result<Flow, TextError> {
        let over = self.pipe(dot, pipe)?;
        let mark = self.variables.len();
        let mut any = false;
        let mut once = |run: &mut Self, key: Value, item: Value| {
            any = true;
            run.burn(1)?;
            run.bind(pipe, &key, &item)?;
            let flow = run.list(&item, body)?;
            run.variables.truncate(mark);
            Ok::<bool, TextError>(flow != Flow::Break)
        };
        match &over {
            Value::List(list) => {
                for (i, item) in list.items().iter().enumerate() {
                    if !once(self, Value::Int(i as i64), item.clone())? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for (key, item) in &map.entries {
                    if !once(self, Value::text(key), item.clone())? {
                        break;
                    }
                }
            }
            Value::Int(_) if pipe.variables.len() > 1 => {
                let message = "can't use a number to iterate over more than one variable";
                return Err(at_line(pipe.line, message));
            }
            Value::Int(end) => {
                for i in 0..*end {
                    if !once(self, Value::Int(i), Value::Int(i))? {
                        break;
                    }
                }
            }
            Value::Nil => {}
            other => {
                let message = format!("range can't iterate over {}", other.kind());
                return Err(at_line(pipe.line, &message));
            }
        }
        if any {
            return Ok(Flow::Done);
        }
        self.list(dot, otherwise)
    }

    /// Sets the variables of a loop: one takes the item, two take key and item.
    fn bind(&mut self, pipe: &'t Pipe, key: &Value, item: &Value) -> Result<(), TextError> {
        let values = if pipe.variables.len() > 1 { [key, item] } else { [item, key] };
        for (name, value) in pipe.variables.iter().zip(values) {
            self.set(pipe.line, name, value)?;
        }
        Ok(())
    }

    /// Sets the innermost variable of a name.
    fn set(&mut self, line: u32, name: &str, value: &Value) -> Result<(), TextError> {
        match self.variables.iter_mut().rev().find(|(n, _)| *n == name) {
            Some((_, old)) => {
                *old = value.clone();
                Ok(())
            }
            None => Err(at_line(line, &format!("undefined variable: {name}"))),
        }
    }

    fn template(
        &mut self,
        dot: &Value,
        line: u32,
        name: &str,
        pipe: Option<&'t Pipe>,
    ) -> Result<(), TextError> {
        let tree = self.tree;
        let Some(nodes) = tree.named.get(name) else {
            return Err(at_line(line, &format!("template {name:?} not defined")));
        };
        let dot = match pipe {
            Some(pipe) => self.pipe(dot, pipe)?,
            None => Value::Nil,
        };
        let outer = std::mem::replace(&mut self.variables, vec![("$", dot.clone())]);
        let done = self.list(&dot, nodes);
        self.variables = outer;
        done.map(|_| ())
    }

    /// A pipeline's value, which its variables get as well.
    fn pipe(&mut self, dot: &Value, pipe: &'t Pipe) -> Result<Value, TextError> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.deeper(|run| run.command(dot, command, value))?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            if pipe.assigns {
                self.set(pipe.line, name, &value)?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    /// A command's value; `last` comes through the pipeline as its last argument.
    fn command(
        &mut self,
        dot: &Value,
        command: &'t Command,
        last: Option<Value>,
    ) -> Result<Value, TextError> {
        self.burn(1)?;
        let Command { line, head, arguments } = command;
        if let Term::Function(function) = head {
            return self.function(dot, *line, *function, arguments, last);
        }
        if !arguments.is_empty() || last.is_some() {
            return Err(at_line(*line, "can't give argument to what is no function"));
        }
        match head {
            Term::Nil => Err(at_line(*line, "nil is not a command")),
            _ => self.term(dot, *line, head),
        }
    }

    fn function(
        &mut self,
        dot: &Value,
        line: u32,
        function: Function,
        terms: &'t [Term],
        last: Option<Value>,
    ) -> Result<Value, TextError> {
        let given = terms.len() + usize::from(last.is_some());
        function.check_arity(given).map_err(|refusal| self.refused(line, refusal))?;
        if let Function::And | Function::Or = function {
            return self.short_circuit(dot, line, function == Function::Or, terms, last);
        }
        let mut arguments = Vec::with_capacity(given);
        for term in terms {
            arguments.push(self.term(dot, line, term)?);
        }
        arguments.extend(last);
        let room = usize::try_from(self.fuel).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_STEP);
        let mut out = Buffer::new(room);
        let value = function.call(&arguments, &mut out, self.now);
        self.burn((out.work / BYTES_PER_STEP) as u64)?;
        value.map_err(|refusal| self.refused(line, refusal))
    }

    /// `and` and `or`: the first argument that decides, else the last.
    fn short_circuit(
        &mut self,
        dot: &Value,
        line: u32,
        decisive: bool,
        terms: &'t [Term],
        last: Option<Value>,
    ) -> Result<Value, TextError> {
        let mut value = Value::Nil;
        for term in terms {
            value = self.term(dot, line, term)?;
            if value.truth() == decisive {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn refused(&self, line: u32, refusal: Refusal) -> TextError {
        match refusal {
            Refusal::Wrong(message) => at_line(line, &message),
            Refusal::Full => self.spent(),
        }
    }

    fn term(&mut self, dot: &Value, line: u32, term: &'t Term) -> Result<Value, TextError> {
        self.burn(1)?;
        match term {
            Term::Dot => Ok(dot.clone()),
            Term::Nil => Ok(Value::Nil),
            Term::Bool(b) => Ok(Value::Bool(*b)),
            Term::Int(i) => Ok(Value::Int(*i)),
            Term::Float(f) => Ok(Value::Float(*f)),
            Term::Text(text) => {
                self.burn((text.len() / BYTES_PER_STEP) as u64)?;
                Ok(Value::Text(Arc::from(text.as_slice())))
            }
            Term::Fields(names) => self.fields(line, dot.clone(), names),
            Term::Variable(name, names) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                let Some((_, value)) = found else {
                    return Err(at_line(line, &format!("undefined variable: {name}")));
                };
                let value = value.clone();
                self.fields(line, value, names)
            }
            Term::Function(function) => self.function(dot, line, *function, &[], None),
            Term::Inner(inner) => match inner.as_ref() {
                Inner::Pipe(pipe) => self.deeper(|run| run.pipe(dot, pipe)),
                Inner::Chain(term, names) => {
                    let value = self.term(dot, line, term)?;
                    self.fields(line, value, names)
                }
            },
        }
    }

    fn fields(
        &mut self,
        line: u32,
        mut value: Value,
        names: &[String],
    ) -> Result<Value, TextError> {
        for (i, name) in names.iter().enumerate() {
            if let Value::Map(map) = &value {
                // Maps are searched from their start.
                self.burn(map.entries.len() as u64 / 16)?;
            }
            value = field(&value, name, i == 0).map_err(|message| at_line(line, &message))?;
        }
        Ok(value)
    }
}

/// A field of a structure, or a map's entry. Go lets nothing have fields, unless it came out of a field itself.
fn field(value: &Value, name: &str, first: bool) -> Result<Value, String> {
    match value {
        Value::Struct(s) => match s.fields.iter().find(|f| f.name == name) {
            Some(field) => Ok(field.value.clone()),
            None => Err(format!("can't evaluate field {name} in type {}", s.name)),
        },
        Value::Map(map) => Ok(map.get(name.as_bytes()).clone()),
        Value::Nil if first => Ok(Value::Nil),
        Value::Nil => Err(format!("nil pointer evaluating nil.{name}")),
        other => Err(format!("can't evaluate field {name} in type {}", other.kind())),
    }
}

fn at_line(line: u32, message: &str) -> TextError {
    TextError::TemplateRender(format!("{message} (line {line})"))
}
