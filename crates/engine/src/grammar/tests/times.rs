//! What masks take with real vocabularies: measured, not asserted.

use std::time::{Duration, Instant};

use hob_gguf::Gguf;
use hob_text::{CallChoice, ChatFormat, EncodeOptions};
use serde_json::{Value, json};

use super::*;

/// Prose and code.
fn text() -> String {
    let prose =
        "The quick brown fox thinks: is x < 3, or \"why not\"? Zwölf Boxkämpfer jagen Viktor. ";
    let code = "fn main() {\n    let items: Vec<u32> = (0..10).map(|i| i * i).collect();\n}\n";
    [prose, code].concat().repeat(12)
}

/// Rules that allow long texts, with an answer of each.
fn cases() -> Vec<(&'static str, Rule, String)> {
    let string = |more: Value| {
        let mut text = json!({"type": "string"});
        text.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Rule::Schema(json!({"type": "object", "properties": {"text": text}, "required": ["text"]}))
    };
    let answer = json!({"text": text()}).to_string().replacen(":", ": ", 1);
    let tools = json!([{"function": {"name": "write", "parameters": {"type": "object",
        "properties": {"text": {"type": "string"}}, "required": ["text"]}}}]);
    let format = ChatFormat::by_name("qwen3-coder", "").unwrap();
    let call = format.call_grammar(&tools, CallChoice::Required, false).unwrap();
    let called = format!("<tool_call>\n<function=write>\n<parameter=text>\n{}", text());
    vec![
        ("any text", Rule::Regex("(?s:.*)".to_owned()), text()),
        ("a JSON object", Rule::Json, answer.clone()),
        ("a string", string(json!({})), answer.clone()),
        ("a string, maxLength", string(json!({"maxLength": 10_000})), answer),
        ("a call's argument", Rule::Lark(call), called),
    ]
}

#[test]
#[ignore = "measures; run with --nocapture on an idle machine"]
fn masks_of_long_texts() {
    let home = std::env::var("HOME").unwrap_or_default();
    for model in ["smollm2", "qwen-coder"] {
        let path = std::path::PathBuf::from(&home).join(format!(".cache/hob-assets/{model}.gguf"));
        let Ok(gguf) = Gguf::open(&path) else { continue };
        let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.meta()).unwrap());
        let begun = Instant::now();
        let grammars = grammars(&tokenizer);
        println!("{model}: {} tokens, tables {:.1?}", tokenizer.vocab_size(), begun.elapsed());
        for (name, rule, answer) in cases() {
            let constraint = grammars.compile(&rule).unwrap();
            let free = constraint.clone().behind_thinking("<think>", "</think>", true);
            let options = EncodeOptions { add_special: false, parse_special: true };
            for (name, constraint, answer) in
                [(name, constraint, answer), ("thinking", free, text())]
            {
                let mut times = Vec::new();
                let mut follower = constraint.follow().unwrap();
                for token in tokenizer.encode(&answer, options) {
                    let begun = Instant::now();
                    let mask = follower.allowed().unwrap().unwrap();
                    let allowed = mask[token as usize / 32] >> (token % 32) & 1 == 1;
                    assert!(allowed, "{name}: {token}");
                    follower.take(token).unwrap();
                    times.push(begun.elapsed());
                }
                times.sort();
                let (n, sum) = (times.len(), times.iter().sum::<Duration>());
                println!(
                    "  {name:20} {n:4} tokens: median {:8.1?}, 99 of 100 {:8.1?}, worst {:8.1?}, mean {:8.1?}",
                    times[n / 2],
                    times[n * 99 / 100],
                    times[n - 1],
                    sum / n as u32
                );
            }
        }
    }
}
