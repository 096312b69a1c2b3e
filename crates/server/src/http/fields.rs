//! An object of a request, read field by field, for dialects whose objects take so many shapes that a parser could only say that none fits.
//! What is wrong is told by its path (`messages.3.content`). Null is absent; what nobody reads is passed over.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// An object and where it stands.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// A request as a whole.
    pub fn top(map: &'a Map<String, Value>) -> Self {
        Fields { map, path: String::new() }
    }

    /// The object at `path`.
    ///
    /// # Errors
    /// When it is none.
    pub fn of(value: &'a Value, path: String) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Fields { map, path }),
            other => Err(wrong(&path, "an object", other)),
        }
    }

    /// Where a field of it stands.
    pub fn path(&self, name: &str) -> String {
        match self.path.is_empty() {
            true => name.to_owned(),
            false => format!("{}.{name}", self.path),
        }
    }

    /// An error about one of its fields.
    pub fn error(&self, name: &str, what: impl std::fmt::Display) -> ApiError {
        let path = self.path(name);
        ApiError::field(path.clone(), format!("{path}: {what}"))
    }

    /// An error about it as a whole.
    pub fn refuse(&self, what: impl std::fmt::Display) -> ApiError {
        ApiError::field(self.path.clone(), format!("{}: {what}", self.path))
    }

    /// A field, if it is there.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// What must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn need<T>(&self, name: &str, value: Option<T>) -> Result<T, ApiError> {
        value.ok_or_else(|| self.error(name, "field required"))
    }

    fn read<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| wrong(&self.path(name), expected, value))
    }

    /// A text.
    ///
    /// # Errors
    /// Here and below, when it is something else.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.read(name, "a string", Value::as_str)
    }

    /// Yes or no.
    pub fn truth(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.read(name, "a boolean", Value::as_bool)
    }

    /// A whole number from 0 on.
    pub fn count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let whole = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.read(name, "a whole number, not negative", whole)
    }

    /// A number in a range.
    pub fn number(&self, name: &str, low: f64, high: f64) -> Result<Option<f32>, ApiError> {
        let expected = format!("a number from {low} to {high}");
        let number = |value: &Value| value.as_f64().filter(|x| (low..=high).contains(x));
        Ok(self.read(name, &expected, number)?.map(|x| x as f32))
    }

    /// A list.
    pub fn list(&self, name: &str) -> Result<Option<&'a [Value]>, ApiError> {
        self.read(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    /// An object.
    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        self.get(name).map(|value| Fields::of(value, self.path(name))).transpose()
    }

    /// A list of objects; an absent one is empty.
    pub fn objects(&self, name: &str) -> Result<Vec<Fields<'a>>, ApiError> {
        let path = self.path(name);
        let list = self.list(name)?.unwrap_or_default().iter().enumerate();
        list.map(|(i, value)| Fields::of(value, format!("{path}.{i}"))).collect()
    }

    /// Its `type`, or what it is taken for without one.
    pub fn kind(&self, usual: &'a str) -> Result<&'a str, ApiError> {
        Ok(self.text("type")?.unwrap_or(usual))
    }
}

fn wrong(path: &str, expected: &str, found: &Value) -> ApiError {
    let what = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "this number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let colon = if path.is_empty() { "" } else { ": " };
    ApiError::field(path, format!("{path}{colon}expected {expected}, found {what}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_read_and_errors_have_paths() {
        let value =
            json!({"a": "x", "n": 3, "f": 1e308, "l": [{"b": true}, 5], "z": null, "m": -1});
        let top = Fields::top(value.as_object().unwrap());
        assert_eq!(top.text("a").unwrap(), Some("x"));
        assert_eq!(top.text("z").unwrap(), None);
        assert_eq!(top.count("n").unwrap(), Some(3));
        assert_eq!(top.number("n", 0.0, 3.0).unwrap(), Some(3.0));
        let message = |e: ApiError| (e.message, e.param.unwrap());
        let (text, param) = message(top.text("n").unwrap_err());
        assert_eq!(
            (text.as_str(), param.as_str()),
            ("n: expected a string, found this number", "n")
        );
        assert!(top.number("f", 0.0, 1.0).is_err());
        assert!(top.count("m").is_err());
        assert!(top.count("f").is_err());
        assert_eq!(message(top.objects("l").unwrap_err()).1, "l.1");
        assert_eq!(message(top.need("q", None::<()>).unwrap_err()).0, "q: field required");
        let inner = Fields::of(&value["l"][0], "l.0".to_owned()).unwrap();
        assert_eq!(inner.truth("b").unwrap(), Some(true));
        assert_eq!(message(inner.text("b").unwrap_err()).1, "l.0.b");
    }
}
