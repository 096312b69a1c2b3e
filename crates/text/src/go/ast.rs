//! The tree of a parsed template.
//! A chain of `else if` is one node with many branches, so that nesting is only what the source nests. Absent: positions
//! finer than a line.

use std::collections::BTreeMap;

use super::functions::Function;

/// What a source defines.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    /// The text outside of definitions.
    pub(super) root: Vec<Node>,
    /// `define` and `block`.
    pub(super) named: BTreeMap<String, Vec<Node>>,
}

/// Text, or what an action does.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    /// Writes a value, or sets a variable.
    Action(Pipe),
    /// `if`, or `with` where the value becomes the dot.
    Choice {
        with: bool,
        branches: Vec<(Pipe, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    Range {
        pipe: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Template {
        line: u32,
        name: String,
        dot: Option<Pipe>,
    },
    Break,
    Continue,
}

/// Commands, each taking the value of the one before as its last argument.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    pub(super) line: u32,
    /// Variables that get the value, with their `$`.
    pub(super) variables: Vec<String>,
    /// `=` instead of `:=`.
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// What stands first, and its arguments.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) line: u32,
    pub(super) head: Term,
    pub(super) arguments: Vec<Term>,
}

/// An operand.
#[derive(Debug, Clone)]
pub(super) enum Term {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Vec<u8>),
    /// `.A.B`
    Fields(Vec<String>),
    /// `$x.A.B`
    Variable(String, Vec<String>),
    Function(Function),
    /// `(a | b)`, `(a).B`, or a function's result with fields.
    Inner(Box<Inner>),
}

/// An operand made of others.
#[derive(Debug, Clone)]
pub(super) enum Inner {
    Pipe(Pipe),
    Chain(Term, Vec<String>),
}

impl Node {
    /// The pipelines of this node itself.
    pub(super) fn pipes(&self) -> Vec<&Pipe> {
        match self {
            Node::Action(pipe) | Node::Range { pipe, .. } => vec![pipe],
            Node::Choice { branches, .. } => branches.iter().map(|(pipe, _)| pipe).collect(),
            Node::Template { dot, .. } => dot.iter().collect(),
            Node::Text(_) | Node::Break | Node::Continue => vec![],
        }
    }

    /// The lists within this node.
    pub(super) fn lists(&self) -> Vec<&[Node]> {
        match self {
            Node::Choice { branches, otherwise, .. } => {
                let lists = branches.iter().map(|(_, list)| list.as_slice());
                lists.chain([otherwise.as_slice()]).collect()
            }
            Node::Range { body, otherwise, .. } => vec![body, otherwise],
            _ => vec![],
        }
    }
}

impl Pipe {
    /// Calls `f` for each operand, inner ones too.
    pub(super) fn terms<'a>(&'a self, f: &mut impl FnMut(&'a Term)) {
        for command in &self.commands {
            for term in std::iter::once(&command.head).chain(&command.arguments) {
                term.each(f);
            }
        }
    }
}

impl Term {
    fn each<'a>(&'a self, f: &mut impl FnMut(&'a Term)) {
        f(self);
        let Term::Inner(inner) = self else { return };
        match inner.as_ref() {
            Inner::Pipe(pipe) => pipe.terms(f),
            Inner::Chain(term, _) => term.each(f),
        }
    }

    /// The names that are looked up: fields, and those behind a variable.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Term::Fields(names) | Term::Variable(_, names) => names,
            Term::Inner(inner) => match inner.as_ref() {
                Inner::Chain(_, names) => names,
                Inner::Pipe(_) => &[],
            },
            _ => &[],
        }
    }
}
