//! Answers taken apart: every template's own writing of a conversation is read back, whole and in pieces, and no text is lost.

mod common;

use hob_text::{ChatAnswer, ChatFormat, ChatParser, ChatTemplate, Message, RenderOptions};
use serde_json::{Value, json};

fn tools() -> Value {
    let tool = |name: &str, properties: Value| {
        json!({"type": "function", "function": {
            "name": name, "description": "A tool",
            "parameters": {"type": "object", "properties": properties}}})
    };
    json!([
        tool(
            "get_weather",
            json!({
                "city": {"type": "string"}, "days": {"type": "integer"}, "exact": {"type": "boolean"},
                "limit": {"type": "number"}, "where": {"type": "object"}, "code": {"type": "string"},
            })
        ),
        tool("get_time", json!({"zone": {"type": "string"}})),
    ])
}

fn call(name: &str, arguments: Value) -> Value {
    json!({"id": "call12345", "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn calls() -> Vec<Value> {
    let weather = json!({"city": "東京, \"the\" {city}", "days": 2, "exact": true, "limit": 1.5, "code": "7"});
    vec![call("get_weather", weather), call("get_time", json!({"zone": "JST"}))]
}

fn parse(format: &ChatFormat, prompt: &str, pieces: &[&str]) -> ChatAnswer {
    let tools = tools();
    let mut parser = ChatParser::new(format.clone(), prompt, Some(&tools));
    let mut answer = ChatAnswer::default();
    for piece in pieces {
        answer.extend(parser.push(piece));
    }
    answer.extend(parser.finish());
    answer
}

/// The assistant's part of a rendered conversation, without the role's header and the end of the turn; and its prompt.
fn answer_of(template: &ChatTemplate, message: &Message) -> Option<(String, String)> {
    const PLAIN: &str = "PLAINANSWER";
    let user = Message::new("user", "Hello");
    let options = |add_generation_prompt| RenderOptions {
        add_generation_prompt,
        tools: Some(tools()),
        enable_thinking: Some(message.thinking.is_some()),
        ..RenderOptions::default()
    };
    let prompt = template.render(std::slice::from_ref(&user), &options(true)).ok()?;
    let render = |m: &Message| template.render(&[user.clone(), m.clone()], &options(false)).ok();
    let full = render(message)?;
    // Where the prompt opens something that the stored answer closes otherwise, they part there.
    let common = full.bytes().zip(prompt.bytes()).take_while(|(a, b)| a == b).count();
    let whole = common == prompt.len();
    let start = if whole { common } else { full.get(..common)?.rfind(['<', '[', '\n'])? };
    let plain = render(&Message::new("assistant", PLAIN))?;
    let (_, end) = plain.rsplit_once(PLAIN)?;
    let answer = full.get(start..)?;
    let answer = answer.strip_suffix(end).unwrap_or(answer);
    let prompt = if whole { prompt } else { full.get(..start)?.to_owned() };
    Some((prompt, answer.to_owned()))
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Case {
    Calls,
    OneCall,
    ThinkingAndContent,
    ThinkingAndCall,
    ContentAndCall,
}

impl Case {
    const ALL: [Case; 5] = [
        Case::Calls,
        Case::OneCall,
        Case::ThinkingAndContent,
        Case::ThinkingAndCall,
        Case::ContentAndCall,
    ];

    fn message(self) -> Message {
        let count = match self {
            Case::Calls => 2,
            Case::ThinkingAndContent => 0,
            _ => 1,
        };
        let text = matches!(self, Case::ThinkingAndContent | Case::ContentAndCall);
        let thinking = matches!(self, Case::ThinkingAndContent | Case::ThinkingAndCall);
        Message {
            role: "assistant".into(),
            content: if text { "Some answer, two.\nLines".into() } else { String::new() },
            thinking: thinking.then(|| "Some thought".into()),
            tool_calls: (count > 0).then(|| calls().into_iter().take(count).collect()),
            ..Message::default()
        }
    }
}

fn same(message: &Message, answer: &ChatAnswer) -> Result<(), String> {
    let expected: Vec<(Value, Value)> = message.tool_calls.iter().flat_map(|c| c.as_array().unwrap()).map(|c| (c["function"]["name"].clone(), c["function"]["arguments"].clone())).collect();
    let found: Vec<(Value, Value)> = answer.tool_calls.iter().map(|c| (c.name.clone().into(), serde_json::from_str(&c.arguments).unwrap())).collect();
    if !answer.broken.is_empty() {
        return Err(format!("broken: {}", answer.broken));
    }
    if expected != found {
        return Err(format!("calls: {found:?}"));
    }
    if message.thinking.clone().unwrap_or_default() != answer.thinking {
        return Err(format!("thinking: {:?} content: {:?}", answer.thinking, answer.content));
    }
    if message.content != answer.content {
        return Err(format!("content: {:?}", answer.content));
    }
    Ok(())
}

#[test]
fn what_templates_write_is_read_back() {
    let mut failures = Vec::new();
    let (mut read, mut unwritten) = (0, 0);
    for name in common::template_names() {
        let template = ChatTemplate::new(&common::template(&name), "<BOS>", "<EOS>").unwrap();
        let format = template.format();
        for case in Case::ALL {
            let message = case.message();
            let Some((prompt, text)) = answer_of(&template, &message) else {
                unwritten += 1;
                failures.push(format!("{name} [{}] {case:?} NOT RENDERED", format.name()));
                continue;
            };
            let answer = parse(&format, &prompt, &[&text]);
            match same(&message, &answer) {
                Ok(()) => read += 1,
                Err(e) => failures.push(format!("{name} [{}] {case:?} {e}\n      {:?} | {text:?}", format.name(), prompt.chars().rev().take(30).collect::<Vec<_>>().iter().rev().collect::<String>())),
            }
        }
    }
    assert!(failures.is_empty(), "{read} read, {unwritten} not rendered; differing:\n{}", failures.join("\n"));
}
