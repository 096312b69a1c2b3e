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
    let apart = prompt.get(common..).is_some_and(|rest| rest.starts_with(['<', '\n']));
    let start = match full.get(..common) {
        Some(_) if whole || apart => common,
        head => head?.rfind(['<', '[', '\n'])?,
    };
    let plain = render(&Message::new("assistant", PLAIN))?;
    let (_, end) = plain.rsplit_once(PLAIN)?;
    let answer = full.get(start..)?;
    let mut answer = answer.strip_suffix(end).unwrap_or(answer);
    // Generation ends at these.
    for stop in STOPS {
        answer = answer.split(stop).next()?;
    }
    if !whole {
        answer = answer.trim_start();
    }
    let prompt = if whole { prompt } else { full.get(..start)?.to_owned() };
    Some((prompt, answer.to_owned()))
}

/// Tokens that end an answer before the template's end of the turn.
const STOPS: [&str; 7] = [
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_msg|>",
    "<SPECIAL_12>",
    "<｜end▁of▁sentence｜>",
    "<|tool_response>",
    "<|eom_id|>",
    "<｜hy_eos:opensource｜>",
];

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

/// What of the message the template wrote at all: many leave out thinking, or what stands beside a call.
fn written(message: &Message, text: &str) -> Message {
    let mut message = message.clone();
    if !text.contains("Some thought") {
        message.thinking = None;
    }
    if !text.contains("Some answer") {
        message.content.clear();
    }
    let calls = message.tool_calls.take().unwrap_or_default();
    let calls = calls.as_array().cloned().unwrap_or_default();
    let named = |c: &Value| text.contains(c["function"]["name"].as_str().unwrap_or("?"));
    let calls: Vec<Value> = calls.into_iter().filter(named).collect();
    message.tool_calls = (!calls.is_empty()).then(|| calls.into());
    message
}

fn same(message: &Message, answer: &ChatAnswer) -> Result<(), String> {
    let function = |c: &Value| (c["function"]["name"].clone(), c["function"]["arguments"].clone());
    let calls = message.tool_calls.iter().flat_map(|c| c.as_array().expect("a list"));
    let expected: Vec<(Value, Value)> = calls.map(function).collect();
    let json = |text: &str| serde_json::from_str(text).expect("arguments are JSON");
    let found: Vec<(Value, Value)> =
        answer.tool_calls.iter().map(|c| (c.name.clone().into(), json(&c.arguments))).collect();
    let thinking = message.thinking.clone().unwrap_or_default();
    let good = expected == found
        && answer.broken.is_empty()
        && thinking == answer.thinking
        && message.content == answer.content;
    if good { Ok(()) } else { Err(format!("{answer:?}")) }
}

/// Templates whose stored answers are not what their model writes: one leaves out the line that opens thinking, one closes none,
/// one stores a space before the text, one stores text beside a call as thinking.
const DIFFERENT: [(&str, Case); 6] = [
    ("Apriel-1.6-15b-Thinker-fixed", Case::ThinkingAndContent),
    ("Apriel-1.6-15b-Thinker-fixed", Case::ThinkingAndCall),
    ("NVIDIA-Nemotron-Nano-v2", Case::ThinkingAndContent),
    ("NVIDIA-Nemotron-Nano-v2", Case::ContentAndCall),
    ("Reka-Edge", Case::ContentAndCall),
    ("openai-gpt-oss-120b", Case::ContentAndCall),
];

/// All answers that the templates write: name, case, format, prompt, text.
fn corpus() -> Vec<(String, Case, ChatFormat, String, String)> {
    let mut corpus = Vec::new();
    for name in common::template_names() {
        let template =
            ChatTemplate::new(&common::template(&name), "<BOS>", "<EOS>").expect("a template");
        for case in Case::ALL {
            if let Some((prompt, text)) = answer_of(&template, &case.message()) {
                corpus.push((name.clone(), case, template.format(), prompt, text));
            }
        }
    }
    corpus
}

#[test]
fn what_templates_write_is_read_back() {
    let mut failures = Vec::new();
    let (mut answers, mut calls, mut thoughts) = (0, 0, 0);
    for (name, case, format, prompt, text) in corpus() {
        let message = written(&case.message(), &text);
        let answer = parse(&format, &prompt, &[&text]);
        let result = same(&message, &answer);
        if result.is_ok() == DIFFERENT.contains(&(name.as_str(), case)) {
            let tail: String =
                prompt.chars().skip(prompt.chars().count().saturating_sub(30)).collect();
            failures.push(format!(
                "{name} [{}] {case:?} {result:?}\n  {tail:?} | {text:?}",
                format.name()
            ));
        } else {
            answers += 1;
            calls += answer.tool_calls.len();
            thoughts += usize::from(!answer.thinking.is_empty());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!((answers, calls, thoughts), (329, 279, 58));
}

/// Cuts at pseudo-random places, one to `longest` characters apart.
fn pieces(text: &str, mut seed: u64, longest: u64) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let count = 1 + (seed >> 33) % longest;
        let at = rest.char_indices().nth(count as usize).map_or(rest.len(), |(at, _)| at);
        let (piece, behind) = rest.split_at(at);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

#[test]
fn pieces_join_to_the_whole() {
    for (i, (name, case, format, prompt, text)) in corpus().iter().enumerate() {
        // Whole, cut off anywhere, with a part missing, with a part twice.
        let chars: Vec<char> = text.chars().collect();
        let at = |k: usize| (k * 7919 + i * 104_729) % (chars.len() + 1);
        for k in 0..12 {
            let (a, b) = (at(k).min(at(k + 3)), at(k).max(at(k + 3)));
            let mangled: String = match k {
                0 => text.clone(),
                1..5 => chars[..b].iter().collect(),
                5..9 => chars[..a].iter().chain(&chars[b..]).collect(),
                _ => chars[..b].iter().chain(&chars[a..]).collect(),
            };
            let whole = parse(format, prompt, &[&mangled]);
            for longest in [1, 3, 17] {
                let cut = parse(format, prompt, &pieces(&mangled, k as u64, longest));
                assert_eq!(cut, whole, "{name} {case:?} {longest} {mangled:?}");
            }
        }
    }
}

#[test]
fn plain_text_passes_untouched() {
    let text = "  Is a<b & c>d? \"{x: [1]}\"\n\n <tool <think about|im_end> [TOOL to= Action \n";
    for name in ChatFormat::names() {
        let format = ChatFormat::by_name(name, "<think></think>").unwrap();
        for longest in [1, 2, 1000] {
            let answer = parse(&format, "", &pieces(text, 1, longest));
            assert_eq!((answer.content.as_str(), answer.tool_calls.len()), (text, 0), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_kept() {
    let format = ChatFormat::detect("<tool_call> <think></think>");
    for broken in [
        "<tool_call>\n{\"name\": \"get_time\", \"argu",
        "<tool_call>\n{\"name\": 5}</tool_call>",
        "<tool_call>nonsense</tool_call>",
        "<tool_call></tool_call>",
    ] {
        let answer = parse(&format, "", &["Hi ", broken]);
        assert_eq!((answer.content.as_str(), answer.broken.as_str()), ("Hi", broken));
    }
    let deep = format!("<tool_call>{}</tool_call>", "[".repeat(100_000));
    assert_eq!(parse(&format, "", &[&deep]).broken, deep);
    let long = format!("<tool_call>{}", "x".repeat(3 << 20));
    let answer = parse(&format, "", &[&long]);
    assert_eq!(answer.broken + &answer.content, long);
    let gemma = ChatFormat::by_name("gemma4", "").unwrap();
    let deep = format!("<|tool_call>call:f{{a:{}<tool_call|>", "[".repeat(100_000));
    assert_eq!(parse(&gemma, "", &[&deep]).broken, deep);
}

#[test]
fn formats_that_templates_do_not_show() {
    let named = |name| ChatFormat::by_name(name, "").unwrap();
    let cases = [
        ("llama3", "<|python_tag|>get_time.call(zone=\"JST\")", "get_time", json!({"zone": "JST"})),
        (
            "llama3",
            "<|python_tag|>import os\nprint(1)",
            "python",
            json!({"code": "import os\nprint(1)"}),
        ),
        (
            "llama3",
            "{\"name\": \"get_time\", \"parameters\": {\"zone\": \"JST\"}}",
            "get_time",
            json!({"zone": "JST"}),
        ),
        ("pythonic", "[get_time(zone='J\\'T')]", "get_time", json!({"zone": "J'T"})),
        (
            "gemma3",
            "```tool_code\nprint(get_time(zone=\"JST\"))\n```",
            "get_time",
            json!({"zone": "JST"}),
        ),
        (
            "lfm2",
            "<|tool_call_start|>[get_weather(city='x', where={'a': [1, None]})]<|tool_call_end|>",
            "get_weather",
            json!({"city": "x", "where": {"a": [1, null]}}),
        ),
        (
            "granite",
            "<|tool_call|>[{\"name\": \"get_time\", \"arguments\": {}}]",
            "get_time",
            json!({}),
        ),
        (
            "functools",
            "functools[{\"name\": \"get_time\", \"arguments\": {}}]",
            "get_time",
            json!({}),
        ),
        (
            "command-r",
            "Action: ```json\n[{\"tool_name\": \"get_time\", \"parameters\": {\"zone\": \"JST\"}}]\n```",
            "get_time",
            json!({"zone": "JST"}),
        ),
        (
            "gpt-oss",
            "<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>{\"zone\": \"JST\"}<|call|>",
            "get_time",
            json!({"zone": "JST"}),
        ),
        (
            "gigachat-3.0",
            "<|message_sep|>\n\nfunction call<|role_sep|>\n{\"name\": \"get_time\", \"arguments\": {}}",
            "get_time",
            json!({}),
        ),
        (
            "qwen3-coder",
            "<function=get_weather>\n<parameter=code>\n  a\n\n</parameter>\n</function>",
            "get_weather",
            json!({"code": "  a\n"}),
        ),
        (
            "mistral",
            "[TOOL_CALLS][{\"name\": \"get_time\", \"arguments\": {}}]",
            "get_time",
            json!({}),
        ),
        (
            "functiongemma",
            "<start_function_call>call:get_weather{city:<escape>1<escape>,days:<escape>2<escape>}<end_function_call>",
            "get_weather",
            json!({"city": "1", "days": 2}),
        ),
    ];
    for (name, text, function, arguments) in cases {
        let answer = parse(&named(name), "", &[text]);
        let call = answer.tool_calls.first().unwrap_or_else(|| panic!("{name}: {answer:?}"));
        let found: Value = serde_json::from_str(&call.arguments).unwrap();
        assert_eq!((call.name.as_str(), found), (function, arguments), "{name}");
        assert_eq!(
            (answer.tool_calls.len(), answer.content.as_str(), answer.broken.as_str()),
            (1, "", ""),
            "{name}"
        );
    }
}

#[test]
fn channels_and_answers_in_json_are_told_apart() {
    let format = ChatFormat::by_name("gpt-oss", "").unwrap();
    let text =
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.";
    let answer = parse(&format, "<|start|>assistant", &[text]);
    assert_eq!((answer.thinking.as_str(), answer.content.as_str()), ("Hm.", "Yes."));
    let llama = ChatFormat::by_name("llama3", "").unwrap();
    for plain in
        ["{\"name\": \"unknown\", \"parameters\": {}}", "{\"a\": 1} and more", "{ not json"]
    {
        let answer = parse(&llama, "", &[plain]);
        assert_eq!((answer.content.as_str(), answer.tool_calls.len()), (plain, 0));
    }
}
