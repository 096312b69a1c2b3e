//! What a tree tells without being run: names that it looks up, where the answer stands, the texts around thinking.

use super::ast::{Node, Pipe, Term, Tree};

/// What a template knows besides conversations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// It describes tools to the model.
    pub tools: bool,
    /// It writes what the model thought.
    pub thinking: bool,
    /// It can ask for what stands between a prompt and a suffix.
    pub insert: bool,
}

pub(super) fn capabilities(tree: &Tree) -> Capabilities {
    Capabilities {
        tools: uses(tree, "tools"),
        thinking: thinking_tags(tree).is_some(),
        insert: uses(tree, "suffix"),
    }
}

/// Whether a name is looked up anywhere; case doesn't matter.
pub(super) fn uses(tree: &Tree, name: &str) -> bool {
    std::iter::once(&tree.root).chain(tree.named.values()).any(|list| list_uses(list, name))
}

fn list_uses(list: &[Node], name: &str) -> bool {
    list.iter().any(|node| {
        node.pipes().into_iter().any(|pipe| pipe_uses(pipe, name))
            || node.lists().into_iter().any(|list| list_uses(list, name))
    })
}

fn pipe_uses(pipe: &Pipe, name: &str) -> bool {
    let mut found = false;
    pipe.terms(&mut |term: &Term| {
        found |= term.names().iter().any(|n| n.eq_ignore_ascii_case(name));
    });
    found
}

/// A list up to the action that writes `.Response`, and whether there is one.
pub(super) fn start_of_answer(list: &[Node]) -> (Vec<Node>, bool) {
    let mut start = Vec::new();
    for node in list {
        let (node, ends) = match node {
            Node::Action(pipe) => (node.clone(), pipe_uses(pipe, "response")),
            Node::Choice { with, branches, otherwise } => {
                let (otherwise, mut ends) = start_of_answer(otherwise);
                let branches = branches.iter().map(|(pipe, list)| {
                    let (list, end) = start_of_answer(list);
                    ends |= end;
                    (pipe.clone(), list)
                });
                let branches = branches.collect();
                (Node::Choice { with: *with, branches, otherwise }, ends)
            }
            Node::Range { pipe, body, otherwise } => {
                let (body, ends) = start_of_answer(body);
                let (otherwise, also) = start_of_answer(otherwise);
                (Node::Range { pipe: pipe.clone(), body, otherwise }, ends || also)
            }
            _ => (node.clone(), false),
        };
        start.push(node);
        if ends {
            return (start, true);
        }
    }
    (start, false)
}

/// The first and the last text of the list that writes `.Thinking`, within a loop over `.Messages`.
pub(super) fn thinking_tags(tree: &Tree) -> Option<(&str, &str)> {
    tags_within(&tree.root, false)
}

fn tags_within(list: &[Node], in_messages: bool) -> Option<(&str, &str)> {
    let writes = |node: &Node| matches!(node, Node::Action(pipe) if pipe.variables.is_empty() && pipe_uses(pipe, "thinking"));
    let around = match (list.first(), list.last()) {
        (Some(Node::Text(open)), Some(Node::Text(close))) => Some((open.trim(), close.trim())),
        _ => None,
    };
    let tags = around.filter(|(open, close)| !open.is_empty() && !close.is_empty());
    if tags.is_some() && in_messages && list.iter().any(writes) {
        return tags;
    }
    list.iter().find_map(|node| {
        let in_messages = match node {
            Node::Range { pipe, .. } => pipe_uses(pipe, "messages"),
            _ => in_messages,
        };
        node.lists().into_iter().find_map(|list| tags_within(list, in_messages))
    })
}
