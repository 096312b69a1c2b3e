//! Answered responses, kept in memory so that a conversation can go on from one and its parts can be named. Each client sees its own. Bounded in
//! number and bytes, the longest unused go first, and nothing outlives the server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::Value;

/// Most responses that are kept.
pub const MAX_RESPONSES: usize = 1024;
/// Most bytes of JSON that are kept. What a response has of those before it counts for each.
pub const MAX_BYTES: usize = 128 << 20;

/// A response that was answered.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Whose it is.
    pub client: u64,
    /// As it was sent.
    pub response: Value,
    /// Items of the conversation in front of its request.
    pub before: Vec<Arc<Value>>,
    /// Items of its request.
    pub input: Vec<Arc<Value>>,
    /// Items of its answer.
    pub output: Vec<Arc<Value>>,
}

impl Stored {
    /// All items, from the first of the conversation to the last of the answer.
    pub fn items(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.before.iter().chain(&self.input).chain(&self.output)
    }

    fn bytes(&self) -> usize {
        let items: usize = self.items().map(|item| size(item)).sum();
        items + size(&self.response)
    }
}

/// About as many bytes as its JSON has.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 3,
        Value::Array(all) => all.iter().map(size).sum::<usize>() + 3,
        Value::Object(map) => {
            map.iter().map(|(name, value)| name.len() + 4 + size(value)).sum::<usize>() + 3
        }
    }
}

/// The kept responses.
#[derive(Debug)]
pub struct Store {
    kept: Mutex<Kept>,
    most: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    by_id: HashMap<String, Entry>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    stored: Arc<Stored>,
    bytes: usize,
    used: u64,
}

impl Default for Store {
    fn default() -> Self {
        Store::new(MAX_RESPONSES, MAX_BYTES)
    }
}

impl Store {
    /// With bounds of its own.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Store { kept: Mutex::default(), most, most_bytes }
    }

    /// Keeps a response, if it is not larger than all may be.
    pub fn put(&self, id: &str, stored: Stored) {
        let bytes = stored.bytes();
        if bytes > self.most_bytes {
            return;
        }
        let mut kept = self.kept();
        kept.clock += 1;
        let entry = Entry { stored: Arc::new(stored), bytes, used: kept.clock };
        kept.bytes += bytes;
        if let Some(old) = kept.by_id.insert(id.to_owned(), entry) {
            kept.bytes -= old.bytes;
        }
        while kept.by_id.len() > self.most || kept.bytes > self.most_bytes {
            let oldest = kept.by_id.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else { return };
            kept.remove(&oldest);
        }
    }

    /// A client's response.
    pub fn get(&self, id: &str, client: u64) -> Option<Arc<Stored>> {
        let mut kept = self.kept();
        kept.clock += 1;
        let now = kept.clock;
        let entry = kept.by_id.get_mut(id).filter(|entry| entry.stored.client == client)?;
        entry.used = now;
        Some(entry.stored.clone())
    }

    /// Forgets a client's response. Whether it was there.
    pub fn delete(&self, id: &str, client: u64) -> bool {
        let mut kept = self.kept();
        let own = kept.by_id.get(id).is_some_and(|entry| entry.stored.client == client);
        own && kept.remove(id)
    }

    /// An item of a client's responses.
    pub fn item(&self, id: &str, client: u64) -> Option<Arc<Value>> {
        let kept = self.kept();
        let own = kept.by_id.values().filter(|entry| entry.stored.client == client);
        let mut items = own.flat_map(|entry| entry.stored.input.iter().chain(&entry.stored.output));
        items.find(|item| item["id"] == id).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, id: &str) -> bool {
        let gone = self.by_id.remove(id);
        self.bytes -= gone.as_ref().map_or(0, |entry| entry.bytes);
        gone.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(client: u64, text: &str) -> Stored {
        let item = |id: &str| Arc::new(json!({"id": format!("{id}-{text}"), "text": text}));
        Stored {
            client,
            response: json!({"object": "response"}),
            before: Vec::new(),
            input: vec![item("in")],
            output: vec![item("out")],
        }
    }

    #[test]
    fn each_client_has_its_own() {
        let store = Store::default();
        store.put("a", stored(1, "x"));
        assert!(store.get("a", 1).is_some() && store.get("a", 2).is_none());
        assert!(store.item("out-x", 1).is_some() && store.item("out-x", 2).is_none());
        assert!(!store.delete("a", 2) && store.delete("a", 1) && !store.delete("a", 1));
        assert!(store.get("a", 1).is_none() && store.item("in-x", 1).is_none());
        assert_eq!(store.kept().bytes, 0);
    }

    #[test]
    fn the_longest_unused_go_first() {
        let store = Store::new(2, 1 << 20);
        for id in ["a", "b"] {
            store.put(id, stored(0, id));
        }
        store.get("a", 0);
        store.put("c", stored(0, "c"));
        let there = |id| store.get(id, 0).is_some();
        assert_eq!([there("a"), there("b"), there("c")], [true, false, true]);
    }

    #[test]
    fn bytes_are_bounded() {
        let one = stored(0, "x").bytes();
        let store = Store::new(100, 3 * one);
        for i in 0..10 {
            store.put(&format!("{i}"), stored(0, "x"));
        }
        store.put("9", stored(0, "x"));
        assert_eq!(store.kept().by_id.len(), 3);
        assert_eq!(store.kept().bytes, 3 * one);
        store.put("large", stored(0, &"x".repeat(4 * one)));
        assert!(store.get("large", 0).is_none() && store.get("9", 0).is_some());
    }
}
