//! The language against Go's own text/template (`tests/go/oracle.go` wrote the expectations), its limits, and any source at all.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde::Deserialize;

use super::eval::{self, Limits};
use super::value::Value;
use super::{GoTemplate, parser};
use crate::{Message, RenderOptions, TextError};

#[derive(Deserialize)]
struct Cases {
    now: u64,
    data: serde_json::Value,
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Goldens {
    features: BTreeMap<String, Vec<Golden>>,
}

#[derive(Deserialize)]
struct Golden {
    text: Option<String>,
    error: Option<String>,
    line: Option<u32>,
}

const ROOMY: Limits = Limits { fuel: 1 << 20, output: 1 << 20 };

fn render(source: &str, data: &Value, now: Option<SystemTime>) -> Result<Vec<u8>, TextError> {
    let tree = parser::parse(source)?;
    eval::run(&tree, &tree.root, data, ROOMY, now)
}

/// What was found, as the oracle tells it.
fn found(source: &str, data: &Value, now: Option<SystemTime>) -> String {
    let (stage, message) = match render(source, data, now) {
        Ok(text) => return String::from_utf8_lossy(&text).into_owned(),
        Err(TextError::TemplateSyntax(message)) => ("parse", message),
        Err(TextError::TemplateRender(message)) => ("run", message),
        Err(other) => ("limit", other.to_string()),
    };
    let line = message.rsplit_once("(line ").map_or("?", |(_, line)| line.trim_end_matches(')'));
    format!("error: {stage} {line}")
}

#[test]
fn the_language_is_that_of_go() {
    let cases: Cases = serde_json::from_str(include_str!("../../tests/go/cases.json")).unwrap();
    let goldens: Goldens =
        serde_json::from_str(include_str!("../../tests/go/goldens.json")).unwrap();
    let data = Value::from(&cases.data);
    let now = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(cases.now));
    let (mut count, mut failures) = (0, Vec::new());
    for (topic, sources) in &cases.features {
        let expected = &goldens.features[topic];
        assert_eq!(sources.len(), expected.len(), "{topic}");
        for (source, golden) in sources.iter().zip(expected) {
            count += 1;
            let expected = match (&golden.text, &golden.error) {
                (Some(text), _) => text.clone(),
                (None, error) => format!(
                    "error: {} {}",
                    error.as_deref().unwrap_or("?"),
                    golden.line.unwrap_or(0)
                ),
            };
            let found = found(source, &data, now);
            if found != expected {
                let why = render(source, &data, now).err().map(|e| e.to_string());
                failures.push(format!(
                    "{topic}: {source:?}\n   found    {found:?} {why:?}\n   expected {expected:?}"
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
    assert!(count > 400, "{count}");
}
