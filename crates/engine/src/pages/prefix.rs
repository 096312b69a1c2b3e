//! Prefixes that can be found again: a tree whose edges are full pages of tokens. A prefix is known by its whole path, not
//! by a hash of it, so a hit is never false. Who uses a page, and what is forgotten when, is decided elsewhere.

use std::collections::HashMap;

use hob_model::{NO_PAGE, PAGE};

/// The empty prefix.
pub(super) const ROOT: u64 = 0;

/// A prefix is the tokens of its last page after a shorter one. Numbers are never used again, so equal keys mean equal
/// prefixes, by induction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    parent: u64,
    tokens: [u32; PAGE],
}

#[derive(Clone, Debug)]
struct Node {
    key: Key,
    /// Prefixes longer by a page, tables that stand here, pages and a state that hold it; without any it is forgotten.
    refs: usize,
    /// Page of its last positions in every group.
    pages: Vec<u32>,
    /// Slot of the state after it.
    state: Option<u32>,
}

/// All known prefixes.
#[derive(Debug)]
pub(super) struct Prefixes {
    groups: usize,
    nodes: HashMap<u64, Node>,
    by_key: HashMap<Key, u64>,
    last: u64,
}

impl Prefixes {
    pub(super) fn new(groups: usize) -> Self {
        Prefixes { groups, nodes: HashMap::new(), by_key: HashMap::new(), last: ROOT }
    }

    /// The prefix `tokens` longer than `parent`, if it is known.
    pub(super) fn child(&self, parent: u64, tokens: &[u32; PAGE]) -> Option<u64> {
        self.by_key.get(&Key { parent, tokens: *tokens }).copied()
    }

    /// Moves a table that stands at `parent` to the prefix `tokens` longer.
    pub(super) fn advance(&mut self, parent: u64, tokens: &[u32; PAGE]) -> u64 {
        let key = Key { parent, tokens: *tokens };
        if let Some(&known) = self.by_key.get(&key) {
            self.hold(known);
            self.release(parent);
            return known;
        }
        // The table's hold on the parent becomes the child's.
        self.last += 1;
        let node =
            Node { key: key.clone(), refs: 1, pages: vec![NO_PAGE; self.groups], state: None };
        self.nodes.insert(self.last, node);
        self.by_key.insert(key, self.last);
        self.last
    }

    /// Another reason to remember a prefix.
    pub(super) fn hold(&mut self, prefix: u64) {
        if let Some(node) = self.nodes.get_mut(&prefix) {
            node.refs += 1;
        }
    }

    /// One reason less. Prefixes without any are forgotten, from the longest down.
    pub(super) fn release(&mut self, mut prefix: u64) {
        while let Some(node) = self.nodes.get_mut(&prefix) {
            node.refs -= 1;
            if node.refs > 0 {
                return;
            }
            let Some(node) = self.nodes.remove(&prefix) else { return };
            self.by_key.remove(&node.key);
            prefix = node.key.parent;
        }
    }

    /// The page that holds the last positions of a prefix in a group.
    pub(super) fn page(&self, prefix: u64, group: usize) -> Option<u32> {
        let page = self.nodes.get(&prefix)?.pages[group];
        (page != NO_PAGE).then_some(page)
    }

    /// Notes a page of a prefix that has none in the group.
    pub(super) fn set_page(&mut self, prefix: u64, group: usize, page: u32) {
        if let Some(node) = self.nodes.get_mut(&prefix) {
            node.pages[group] = page;
            node.refs += 1;
        }
    }

    /// Forgets a page that was noted.
    pub(super) fn clear_page(&mut self, prefix: u64, group: usize) {
        if let Some(node) = self.nodes.get_mut(&prefix) {
            node.pages[group] = NO_PAGE;
            self.release(prefix);
        }
    }

    /// The slot that holds the state after a prefix.
    pub(super) fn state(&self, prefix: u64) -> Option<u32> {
        self.nodes.get(&prefix)?.state
    }

    /// Notes the slot of a prefix that has none.
    pub(super) fn set_state(&mut self, prefix: u64, slot: u32) {
        if let Some(node) = self.nodes.get_mut(&prefix) {
            node.state = Some(slot);
            node.refs += 1;
        }
    }

    /// Forgets the slot of a prefix, if it has one.
    pub(super) fn take_state(&mut self, prefix: u64) -> Option<u32> {
        let slot = self.nodes.get_mut(&prefix)?.state.take()?;
        self.release(prefix);
        Some(slot)
    }

    /// Prefixes known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.nodes.len(), self.by_key.len());
        self.nodes.len()
    }
}
