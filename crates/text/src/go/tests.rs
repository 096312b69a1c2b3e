//! The language against Go's own text/template (`tests/go/oracle.go` wrote the expectations), its limits, and any source at all.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use serde::Deserialize;

use super::ast::Tree;
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
    eval::run(&tree, &tree.root, data, &mut ROOMY.clone(), now)
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

/// Pieces that sources are made of.
const PIECES: [&str; 72] = [
    "{{",
    "}}",
    "{{-",
    "-}}",
    "{{ ",
    " }}",
    " ",
    "\n",
    "(",
    ")",
    "|",
    ",",
    ".",
    "$",
    "$x",
    "$y",
    ":=",
    "=",
    "if",
    "else",
    "end",
    "range",
    "with",
    "define",
    "template",
    "block",
    "break",
    "continue",
    "nil",
    "true",
    "/*",
    "*/",
    "\"a\"",
    "`b`",
    "'c'",
    "\"",
    "\\",
    "1",
    "-1",
    "2.5",
    "99999999999",
    ".name",
    ".map",
    ".list",
    ".x",
    "and",
    "or",
    "not",
    "eq",
    "lt",
    "len",
    "index",
    "slice",
    "print",
    "printf",
    "println",
    "json",
    "html",
    "js",
    "urlquery",
    "currentDate",
    "\"%v %*d %q %x\"",
    "é",
    "\u{a0}",
    "\0",
    "{{ end }}",
    "{{ else }}",
    "{{ .list }}",
    "{{ range .list }}",
    "{{ if .name }}",
    "{{ define \"a\" }}",
    "{{ template \"a\" . }}",
];

fn any_source() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40);
    prop_oneof![
        pieces.prop_map(|pieces| pieces.join(" ")),
        "\\PC{0,60}",
        "(\\{\\{ ?\\PC{0,12} ?\\}\\}){0,6}"
    ]
}

/// One action of functions on anything, which parses more often than not.
fn any_action() -> impl Strategy<Value = String> {
    const FUNCTIONS: [&str; 20] = [
        "and",
        "or",
        "not",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "len",
        "index",
        "slice",
        "print",
        "printf",
        "println",
        "json",
        "html",
        "js",
        "urlquery",
        "toTypeScriptType",
    ];
    const OPERANDS: [&str; 16] = [
        ".",
        ".name",
        ".n",
        ".list",
        ".map",
        ".missing",
        ".uni",
        "nil",
        "true",
        "0",
        "1",
        "-3",
        "2.5",
        "\"é\"",
        "\"%v|%5.1f|%-9s|%+d|%c\"",
        "9223372036854775807",
    ];
    let call = (
        prop::sample::select(&FUNCTIONS[..]),
        prop::collection::vec(prop::sample::select(&OPERANDS[..]), 0..4),
    );
    prop::collection::vec(call, 1..4).prop_map(|calls| {
        let calls: Vec<String> =
            calls.iter().map(|(f, args)| format!("{f} {}", args.join(" "))).collect();
        format!("{{{{ {} }}}}", calls.join(" | "))
    })
}

fn check_any(source: &str) {
    let data = serde_json::json!({"name": "hob", "n": 3, "list": [1, "b", null], "map": {"k": [true]}, "uni": "a🚀é"});
    let limits = Limits { fuel: 20_000, output: 1 << 16 };
    let run =
        |tree: Tree| eval::run(&tree, &tree.root, &Value::from(&data), &mut limits.clone(), None);
    if let Ok(text) = parser::parse(source).and_then(run) {
        assert!(text.len() <= limits.output);
    }
    if let Ok(template) = GoTemplate::new(source) {
        let messages =
            [Message::new("user", "a"), Message::new("assistant", "é"), Message::new("user", "")];
        let _ = template.render(&messages, &RenderOptions::default());
        let _ = template.render_insert("a", "b", &RenderOptions::default());
        let _ = (template.capabilities(), template.thinking_tags(), template.format());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_source_panics(source in any_source()) {
        check_any(&source);
    }

    #[test]
    fn no_call_panics(source in any_action()) {
        check_any(&source);
    }

    /// Text without delimiters is what it is.
    #[test]
    fn text_stays(text in "[^{]{0,40}") {
        prop_assert_eq!(found(&text, &Value::Nil, None), text);
    }

    /// A string literal reads as what `%q` wrote.
    #[test]
    fn quoted_texts_read_back(text in "\\PC{0,40}") {
        let data = Value::map(vec![("t".into(), Value::text(&text))], super::value::Show::Plain);
        let quoted = found("{{ printf \"%q\" .t }}", &data, None);
        prop_assert_eq!(found(&format!("{{{{ {quoted} }}}}"), &data, None), text);
    }
}
