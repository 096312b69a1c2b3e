//! Grammars of calls: whatever is drawn from them, the parser finds calls of the wanted tools with arguments of their schemas.

use hob_text::{CallChoice, ChatAnswer, ChatFormat, ChatParser};
use serde_json::{Value, json};

use super::*;

fn tools() -> Value {
    let weather = json!({"type": "object", "properties": {
        "city": {"type": "string", "description": "where"},
        "unit": {"type": "string", "enum": ["C", "F"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    }, "required": ["city", "days"], "additionalProperties": false});
    let order = json!({"$defs": {"Item": {"type": "object", "properties": {
        "id": {"type": "integer", "minimum": 0, "maximum": 999}, "gift": {"type": "boolean"},
    }, "required": ["id"], "additionalProperties": false}},
        "type": "object", "properties": {
            "items": {"type": "array", "items": {"$ref": "#/$defs/Item"}, "minItems": 1, "maxItems": 2},
            "express": {"type": ["boolean", "null"]},
        }, "required": ["items"], "additionalProperties": false});
    json!([
        {"type": "function", "function": {"name": "get_weather", "parameters": weather}},
        {"type": "function", "function": {"name": "order", "description": "things", "parameters": order}},
        {"type": "function", "function": {"name": "now"}},
    ])
}

/// Formats that have a grammar, with the markers that their vocabularies have as control tokens.
const FORMATS: [(&str, &[&str], &str); 21] = [
    ("hermes", &[], ""),
    ("hermes", &["<tool_call>", "</tool_call>"], ""),
    ("llama3", &[], ""),
    ("mistral-json", &["[TOOL_CALLS]"], ""),
    ("mistral", &["[TOOL_CALLS]", "[ARGS]"], ""),
    ("mistral", &[], ""),
    ("nemotron-v2", &[], ""),
    ("nemotron-mini", &[], ""),
    ("granite", &["<|tool_call|>"], ""),
    ("granite-20b", &[], ""),
    ("phi4-mini", &["<|tool_call|>", "<|/tool_call|>"], ""),
    ("command-r7b", &["<|START_ACTION|>", "<|END_ACTION|>"], ""),
    ("internlm2", &["<|action_start|>", "<|action_end|>", "<|plugin|>"], ""),
    ("apertus", &["<|tools_prefix|>", "<|tools_suffix|>"], ""),
    ("gpt-oss", &[], "<|start|>assistant"),
    (
        "kimi-k2",
        &[
            "<|tool_calls_section_begin|>",
            "<|tool_calls_section_end|>",
            "<|tool_call_begin|>",
            "<|tool_call_end|>",
            "<|tool_call_argument_begin|>",
        ],
        "",
    ),
    (
        "deepseek",
        &[
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁sep｜>",
        ],
        "",
    ),
    ("functionary-v3.1", &[], ""),
    ("qwen3-coder", &[], ""),
    ("glm", &["<tool_call>", "</tool_call>", "<arg_key>"], ""),
    ("minimax-m2", &["<minimax:tool_call>", "</minimax:tool_call>"], ""),
];

fn parsed(format: &ChatFormat, prompt: &str, text: &str) -> ChatAnswer {
    let mut parser = ChatParser::new(format.clone(), prompt, Some(&tools()));
    let mut answer = ChatAnswer::default();
    answer.extend(parser.push(text));
    answer.extend(parser.finish());
    answer
}

#[test]
fn drawn_calls_are_parsed_and_valid() {
    let schemas: Vec<(String, Value)> = tools()
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| {
            let function = &tool["function"];
            let none = json!({"type": "object", "maxProperties": 0});
            let schema = function.get("parameters").cloned().unwrap_or(none);
            (function["name"].as_str().unwrap().to_owned(), schema)
        })
        .collect();
    let choices = [
        (CallChoice::Required, false),
        (CallChoice::Required, true),
        (CallChoice::Named("order".to_owned()), false),
    ];
    let mut rng = Rng::new(21);
    for (name, control, prompt) in FORMATS {
        let format = ChatFormat::by_name(name, "").unwrap();
        let tokenizer = marked(control);
        let grammars = grammars(&tokenizer);
        for (choice, parallel) in &choices {
            let lark = format.call_grammar(&tools(), choice.clone(), *parallel).unwrap();
            let constraint = grammars
                .compile(&Rule::Lark(lark.clone()))
                .unwrap_or_else(|e| panic!("{name}: {e}\n{lark}"));
            let (mut ended, mut most) = (0, 0);
            for _ in 0..20 {
                let Some(text) = draw(&tokenizer, &constraint, &mut rng) else { continue };
                ended += 1;
                let answer = parsed(&format, prompt, &text);
                assert_eq!(
                    (answer.content.as_str(), answer.broken.len()),
                    ("", 0),
                    "{name}: {text}"
                );
                most = most.max(answer.tool_calls.len());
                assert!(!answer.tool_calls.is_empty(), "{name}: {text}");
                for call in &answer.tool_calls {
                    let (_, schema) = schemas.iter().find(|(n, _)| *n == call.name).unwrap();
                    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                    assert!(
                        jsonschema::is_valid(schema, &arguments),
                        "{name}: {text}: {arguments}"
                    );
                    assert!(
                        *choice == CallChoice::Required || call.name == "order",
                        "{name}: {text}"
                    );
                }
            }
            assert!(ended > 8, "{name}: {ended} of 20 ended");
            assert!(*parallel || most == 1, "{name}: {most}");
            assert!(!*parallel || most > 1 || name == "gpt-oss", "{name}: {most}");
        }
    }
}

#[test]
fn what_cannot_be_written_is_none() {
    let qwen = ChatFormat::by_name("qwen3-coder", "").unwrap();
    let tool = |parameters: Value| json!([{"function": {"name": "f", "parameters": parameters}}]);
    let grammar = |format: &ChatFormat, tools: &Value| {
        format.call_grammar(tools, CallChoice::Required, false)
    };
    let pattern = tool(json!({"properties": {"a": {"type": "string", "pattern": "x"}}}));
    let any = tool(json!({"anyOf": [{"required": ["a"]}]}));
    assert_eq!((grammar(&qwen, &pattern), grammar(&qwen, &any)), (None, None));
    let hermes = ChatFormat::by_name("hermes", "").unwrap();
    assert!(grammar(&hermes, &pattern).is_some());
    assert_eq!(grammar(&hermes, &json!([])), None);
    assert_eq!(grammar(&hermes, &json!([{"function": {"name": "a b"}}])), None);
    assert_eq!(grammar(&hermes, &tool(json!({"type": "string"}))), None);
    assert_eq!(hermes.call_grammar(&any, CallChoice::Named("g".to_owned()), false), None);
    for name in ["plain", "lfm2", "gemma3", "functionary-v3.2"] {
        assert_eq!(grammar(&ChatFormat::by_name(name, "").unwrap(), &pattern), None, "{name}");
    }
}

#[test]
fn answers_with_headers_are_read_as_content() {
    let tokenizer = marked(&["<|channel|>", "<|message|>", "<|end|>", "<|start|>"]);
    let word = grammars(&tokenizer).compile(&Rule::Regex("[a-z]{1,9}".to_owned())).unwrap();
    let mut rng = Rng::new(8);
    for (name, prompt) in [("gpt-oss", "<|start|>assistant"), ("functionary-v3.2", ">>>")] {
        let format = ChatFormat::by_name(name, "").unwrap();
        let mut constraint = word.clone().opened_by(format.answer_opening().unwrap());
        if let Some((open, close)) = format.thinking_marks() {
            constraint = constraint.behind_thinking(open, close, false);
        }
        let (mut ended, mut thought) = (0, 0);
        for _ in 0..30 {
            let Some(text) = draw(&tokenizer, &constraint, &mut rng) else { continue };
            ended += 1;
            let answer = parsed(&format, prompt, &text);
            let word = (1..=9).contains(&answer.content.len())
                && answer.content.bytes().all(|b| b.is_ascii_lowercase());
            assert!(word && answer.tool_calls.is_empty(), "{name}: {text}: {answer:?}");
            thought += usize::from(!answer.thinking.is_empty());
        }
        assert!(ended > 10 && (thought > 0) == (name == "gpt-oss"), "{ended} {thought}");
    }
    assert_eq!(ChatFormat::by_name("muse", "").unwrap().answer_opening(), None);
    assert_eq!(ChatFormat::by_name("hermes", "").unwrap().answer_opening(), Some(""));
}
