//! Values as Go has them in a template: texts are bytes, maps are read in the order of their keys, and a structure knows
//! whether it prints itself as JSON, as the types of the ecosystem's templates do.
//! Absent: pointers, channels, functions, and numbers other than `int` and `float64`.

use std::sync::Arc;

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing: `nil`, or a key that a map doesn't have.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<[u8]>),
    List(List),
    Map(Arc<Map>),
    Struct(Arc<Struct>),
}

/// How a list, a map or a structure is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// As Go prints any: `[a b]`, `map[k:v]`, `{a b}`.
    Plain,
    Json,
    /// The types of a JSON schema: one without brackets.
    Types,
}

/// Items, or a part of them; parts share the items.
#[derive(Debug, Clone)]
pub(super) struct List {
    items: Arc<[Value]>,
    from: usize,
    to: usize,
    pub(super) show: Show,
    /// Go's list that was never made, which is not an empty one in JSON.
    pub(super) absent: bool,
}

/// Values by their keys.
#[derive(Debug, Clone)]
pub(super) struct Map {
    pub(super) entries: Vec<(Arc<str>, Value)>,
    pub(super) show: Show,
    pub(super) absent: bool,
    /// What a key that isn't there has.
    pub(super) missing: Value,
}

/// A structure: its type's name, and its fields in order.
#[derive(Debug, Clone)]
pub(super) struct Struct {
    pub(super) name: &'static str,
    pub(super) fields: Vec<Field>,
    pub(super) show: Show,
}

/// A field of a structure.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// Its key in JSON.
    pub(super) key: &'static str,
    /// Left out of JSON while it is empty.
    pub(super) optional: bool,
    pub(super) value: Value,
}

impl Field {
    /// A field that JSON names as Go does.
    pub(super) fn plain(name: &'static str, value: Value) -> Self {
        Self { name, key: name, optional: false, value }
    }

    /// A field with its key in JSON; `?` behind the key leaves it out while it is empty.
    pub(super) fn json(name: &'static str, key: &'static str, value: Value) -> Self {
        let (key, optional) = key.strip_suffix('?').map_or((key, false), |key| (key, true));
        Self { name, key, optional, value }
    }
}

impl List {
    pub(super) fn new(items: Vec<Value>, show: Show) -> Self {
        Self { from: 0, to: items.len(), items: items.into(), show, absent: false }
    }

    pub(super) fn absent(show: Show) -> Self {
        Self { absent: true, ..Self::new(Vec::new(), show) }
    }

    pub(super) fn items(&self) -> &[Value] {
        self.items.get(self.from..self.to).unwrap_or_default()
    }

    /// The part between two positions, which may reach behind this part's end as far as there are items.
    pub(super) fn part(&self, from: usize, to: usize) -> Option<Self> {
        let (from, to) = (self.from.checked_add(from)?, self.from.checked_add(to)?);
        (from <= to && to <= self.items.len()).then(|| Self { from, to, ..self.clone() })
    }

    /// The items from this part's start on.
    pub(super) fn capacity(&self) -> usize {
        self.items.len().saturating_sub(self.from)
    }
}

impl Map {
    pub(super) fn get(&self, key: &[u8]) -> &Value {
        let found = self.entries.iter().find(|(k, _)| k.as_bytes() == key);
        found.map_or(&self.missing, |(_, value)| value)
    }
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Value::Text(text.as_bytes().into())
    }

    pub(super) fn list(items: Vec<Value>) -> Self {
        Value::List(List::new(items, Show::Plain))
    }

    pub(super) fn map(entries: Vec<(Arc<str>, Value)>, show: Show) -> Self {
        Value::Map(Arc::new(Map { entries, show, absent: false, missing: Value::Nil }))
    }

    pub(super) fn structure(name: &'static str, show: Show, fields: Vec<Field>) -> Self {
        Value::Struct(Arc::new(Struct { name, fields, show }))
    }

    /// Whether `if` takes it: everything but zero and what is empty.
    pub(super) fn truth(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(b) => *b,
            Value::Int(i) => *i != 0,
            Value::Float(f) => *f != 0.0,
            Value::Text(t) => !t.is_empty(),
            Value::List(list) => !list.items().is_empty(),
            Value::Map(map) => !map.entries.is_empty(),
            Value::Struct(_) => true,
        }
    }

    /// What JSON leaves out of an optional field.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Value::Nil => true,
            Value::Text(text) => text.is_empty(),
            Value::List(list) => list.items().is_empty(),
            _ => false,
        }
    }

    pub(super) fn is_nil(&self) -> bool {
        match self {
            Value::Nil => true,
            Value::List(list) => list.absent,
            Value::Map(map) => map.absent,
            _ => false,
        }
    }

    /// The name of its type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(_) => "[]interface {}",
            Value::Map(_) => "map[string]interface {}",
            Value::Struct(s) => s.name,
        }
    }
}

impl From<&serde_json::Value> for Value {
    /// As Go reads JSON of any kind: numbers are `float64`, maps are in the order of their keys. Only integers that this would
    /// change stay what they are.
    fn from(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Nil,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(i) if i.unsigned_abs() > 1 << 53 => Value::Int(i),
                _ => Value::Float(n.as_f64().unwrap_or_default()),
            },
            Json::String(s) => Value::text(s),
            Json::Array(items) => Value::list(items.iter().map(Value::from).collect()),
            Json::Object(map) => Value::map(sorted(map), Show::Plain),
        }
    }
}

/// An object's entries in the order of their keys.
pub(super) fn sorted(map: &serde_json::Map<String, serde_json::Value>) -> Vec<(Arc<str>, Value)> {
    let mut entries: Vec<_> =
        map.iter().map(|(key, value)| (Arc::from(key.as_str()), Value::from(value))).collect();
    entries.sort_by(|a: &(Arc<str>, Value), b| a.0.cmp(&b.0));
    entries
}
