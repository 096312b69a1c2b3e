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

/// Two calls with what this template can write: three put strings down without quotes or escapes, one forgets the commas.
fn calls(template: &str) -> Vec<Value> {
    let city = match template {
        "vllm-llama3.2_pythonic" | "vllm-llama4_pythonic" | "vllm-toolace" => "Tokyo",
        _ => "東京, \"the\" {city}",
    };
    let weather = match template {
        "vllm-gemma3_pythonic" => json!({"city": city}),
        _ => json!({"city": city, "days": 2, "exact": true, "limit": 1.5, "code": "7"}),
    };
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
    let plain = render(&Message::new("assistant", PLAIN))?;
    let (header, end) = plain.rsplit_once(PLAIN)?;
    // Where the prompt opens something that the stored answer closes otherwise, they part there.
    let common = full.bytes().zip(prompt.bytes()).take_while(|(a, b)| a == b).count();
    let whole = common == prompt.len();
    let apart = prompt.get(common..).is_some_and(|rest| rest.starts_with(['<', '\n']));
    let start = match full.get(..common) {
        Some(_) if whole => common,
        _ if let Some(behind) = behind_but_for_blanks(&full, &prompt) => behind,
        Some(_) if apart => common,
        _ if full.starts_with(header.trim_end()) => header.trim_end().len(),
        head => head?.rfind(['<', '[', '\n'])?,
    };
    let answer = full.get(start..)?;
    let mut answer = answer.strip_suffix(end).unwrap_or(answer);
    // Generation ends at these.
    for stop in STOPS {
        answer = answer.split(stop).next()?;
    }
    // Blanks that stand before any answer are the header's.
    let lead = header.strip_prefix(&*prompt).filter(|lead| lead.trim().is_empty());
    answer = answer.strip_prefix(lead.unwrap_or_default()).unwrap_or(answer);
    if !whole {
        answer = answer.trim_start();
    }
    let prompt = if whole { prompt } else { full.get(..start)?.to_owned() };
    Some((prompt, answer.to_owned()))
}

/// Where `text` goes on behind a start that is `start` but for blanks: indented templates write theirs between the parts.
fn behind_but_for_blanks(text: &str, start: &str) -> Option<usize> {
    let mut chars = text.char_indices().filter(|(_, c)| !c.is_whitespace());
    let mut end = 0;
    for wanted in start.chars().filter(|c| !c.is_whitespace()) {
        let (at, c) = chars.next()?;
        if c != wanted {
            return None;
        }
        end = at + c.len_utf8();
    }
    Some(end)
}

/// Tokens that end an answer before the template's end of the turn.
const STOPS: [&str; 8] = [
    "<|endoftext|>",
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

    fn message(self, template: &str) -> Message {
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
            tool_calls: (count > 0).then(|| calls(template).into_iter().take(count).collect()),
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
/// one stores text beside a call as thinking, one stores a prefix that it asks for, two put text right before a call that has no
/// marker, and one stores calls without the marker that it asks for, their arguments as Python prints them.
const DIFFERENT: [(&str, Case); 11] = [
    ("Apriel-1.6-15b-Thinker-fixed", Case::ThinkingAndContent),
    ("Apriel-1.6-15b-Thinker-fixed", Case::ThinkingAndCall),
    ("NVIDIA-Nemotron-Nano-v2", Case::ThinkingAndContent),
    ("NVIDIA-Nemotron-Nano-v2", Case::ContentAndCall),
    ("openai-gpt-oss-120b", Case::ContentAndCall),
    ("vllm-hunyuan_a13b", Case::ThinkingAndContent),
    ("vllm-llama4_json", Case::ContentAndCall),
    ("vllm-llama4_pythonic", Case::ContentAndCall),
    ("vllm-phi4_mini", Case::Calls),
    ("vllm-phi4_mini", Case::OneCall),
    ("vllm-phi4_mini", Case::ThinkingAndCall),
];

/// Families that must be read: a template, its format, whether it writes thinking, calls at once.
const FAMILIES: [(&str, &str, bool, usize); 33] = [
    ("Qwen-Qwen2.5-7B-Instruct", "hermes", false, 2),
    ("Qwen-Qwen3-0.6B", "hermes", true, 2),
    ("vllm-hermes", "hermes", false, 2),
    ("Qwen3-Coder", "qwen3-coder", false, 2),
    ("vllm-qwen3coder", "qwen3-coder", false, 2),
    ("Qwen3.5-4B", "qwen3-coder", true, 2),
    ("vllm-rust-qwen35", "qwen3-coder", true, 2),
    ("meta-llama-Llama-3.1-8B-Instruct", "llama3", false, 1),
    ("vllm-llama3.2_pythonic", "pythonic", false, 2),
    ("vllm-llama4_json", "llama3", false, 2),
    ("vllm-llama4_pythonic", "pythonic", false, 2),
    ("vllm-mistral", "mistral-json", false, 2),
    ("mistralai-Mistral-Nemo-Instruct-2407", "mistral-json", false, 2),
    ("Mistral-Small-3.2-24B-Instruct-2506", "mistral", false, 2),
    ("mistralai-Ministral-3-14B-Reasoning-2512", "mistral", false, 2),
    ("vllm-deepseekv3", "deepseek", false, 2),
    ("vllm-deepseekr1", "deepseek", false, 2),
    ("deepseek-ai-DeepSeek-V3.1", "deepseek", false, 2),
    ("deepseek-ai-DeepSeek-V3.2", "deepseek-v3.2", true, 2),
    ("GLM-4.6", "glm", true, 2),
    ("GLM-4.7-Flash", "glm", true, 2),
    ("openai-gpt-oss-120b", "gpt-oss", true, 1),
    ("vllm-gemma3_pythonic", "pythonic", false, 2),
    ("google-gemma-4-31B-it", "gemma4", true, 2),
    ("vllm-functiongemma", "functiongemma", false, 2),
    ("LFM2.5-8B-A1B", "lfm2", true, 2),
    ("ibm-granite-granite-4.0", "hermes", false, 2),
    ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", "command-r7b", true, 2),
    ("moonshotai-Kimi-K2", "kimi-k2", false, 2),
    ("Kimi-K3", "kimi-k3", true, 2),
    ("MiniMax-M1", "tool-calls-json", false, 2),
    ("MiniMax-M2", "minimax-m2", true, 2),
    ("MiniMax-M3", "minimax-m3", true, 2),
];

/// All answers that the templates write: name, case, format, prompt, text.
fn corpus() -> Vec<(String, Case, ChatFormat, String, String)> {
    let mut corpus = Vec::new();
    for name in common::template_names() {
        let template =
            ChatTemplate::new(&common::template(&name), "<BOS>", "<EOS>").expect("a template");
        for case in Case::ALL {
            if let Some((prompt, text)) = answer_of(&template, &case.message(&name)) {
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
        let message = written(&case.message(&name), &text);
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
    assert_eq!((answers, calls, thoughts), (562, 423, 66));
}

#[test]
fn every_family_is_read() {
    let corpus = corpus();
    let mut found = Vec::new();
    for (name, ..) in FAMILIES {
        let answers = corpus.iter().filter(|(n, ..)| n == name);
        let answers: Vec<ChatAnswer> =
            answers.map(|(.., format, prompt, text)| parse(format, prompt, &[text])).collect();
        let thinks = answers.iter().any(|answer| !answer.thinking.is_empty());
        let calls = answers.iter().map(|answer| answer.tool_calls.len()).max();
        let format = ChatFormat::detect(&common::template(name)).name();
        found.push((name, format, thinks, calls.unwrap_or(0)));
    }
    assert_eq!(found, FAMILIES);
}

/// What models write that their templates leave out when they store it, in the models' own forms.
const WRITTEN: [(&str, &str); 16] = [
    ("HuggingFaceTB-SmolLM3-3B", "<think>\nHm.\n</think>\nYes."),
    (
        "Qwen-QwQ-32B",
        "<think>\nHm.\n</think>\n\nYes.\n<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"zone\": \"JST\"}}\n</tool_call>",
    ),
    (
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        "<think>\nHm.\n</think>\n\nYes.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{\"zone\": \"JST\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        "vllm-deepseekr1",
        "<think>\nHm.\n</think>\n\nYes.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n```json\n{\"zone\": \"JST\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        "deepseek-ai-DeepSeek-V3.1",
        "<think>Hm.</think>Yes.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{\"zone\": \"JST\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        "vllm-deepseekv31",
        "<think>Hm.</think>Yes.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{\"zone\": \"JST\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        "mistralai-Ministral-3-14B-Reasoning-2512",
        "[THINK]Hm.[/THINK]Yes.[TOOL_CALLS]get_time[ARGS]{\"zone\": \"JST\"}",
    ),
    (
        "Kimi-K2-Thinking",
        "<think>Hm.</think>Yes.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_time:0<|tool_call_argument_begin|>{\"zone\": \"JST\"}<|tool_call_end|><|tool_calls_section_end|>",
    ),
    (
        "Kimi-K2-Instruct",
        "Yes.<|tool_calls_section_begin|><|tool_call_begin|>functions.get_time:0<|tool_call_argument_begin|>{\"zone\": \"JST\"}<|tool_call_end|><|tool_calls_section_end|>",
    ),
    (
        "MiniMax-M1",
        "<think>\nHm.\n</think>\n\nYes.\n<tool_calls>\n{\"name\": \"get_time\", \"arguments\": {\"zone\": \"JST\"}}\n</tool_calls>",
    ),
    (
        "openai-gpt-oss-120b",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary<|message|>Yes.<|end|><|start|>assistant<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>{\"zone\": \"JST\"}<|call|>",
    ),
    ("LFM2-8B-A1B", "Yes.<|tool_call_start|>[get_time(zone=\"JST\")]<|tool_call_end|>"),
    (
        "vllm-phi4_mini",
        "Yes.functools[{\"name\": \"get_time\", \"arguments\": {\"zone\": \"JST\"}}]",
    ),
    (
        "CohereForAI-c4ai-command-r-plus-tool_use",
        "Yes.\nAction: ```json\n[{\"tool_name\": \"get_time\", \"parameters\": {\"zone\": \"JST\"}}]\n```",
    ),
    (
        "meta-llama-Llama-3.3-70B-Instruct",
        "<|python_tag|>{\"name\": \"get_time\", \"parameters\": {\"zone\": \"JST\"}}",
    ),
    (
        "ibm-granite-granite-3.3-2B-Instruct",
        "Yes.<|tool_call|>[{\"name\": \"get_time\", \"arguments\": {\"zone\": \"JST\"}}]",
    ),
];

#[test]
fn what_templates_do_not_store_is_read() {
    let mut clock = tools()[1].clone();
    // One template cannot do without.
    clock["function"]["parameters"]["properties"]["zone"]["description"] = "A zone".into();
    for (name, text) in WRITTEN {
        let template = ChatTemplate::new(&common::template(name), "<BOS>", "<EOS>").unwrap();
        let on = json!({"thinking": true}).as_object().cloned().unwrap_or_default();
        let options = RenderOptions {
            add_generation_prompt: true,
            tools: Some(json!([clock])),
            enable_thinking: Some(true),
            extra: on,
            ..RenderOptions::default()
        };
        let prompt = template.render(&[Message::new("user", "Hello")], &options).unwrap();
        // The prompt may have opened the thinking already.
        let opened = prompt.trim_end().ends_with("<think>");
        let text = if opened { text.trim_start_matches("<think>") } else { text };
        for longest in [1, 4, 1000] {
            let answer = parse(&template.format(), &prompt, &pieces(text, 1, longest));
            let expected = |part: &'static str| if text.contains(part) { part } else { "" };
            let called = usize::from(text.contains("get_time"));
            assert_eq!(
                (answer.thinking.as_str(), answer.content.as_str(), answer.broken.as_str()),
                (expected("Hm."), expected("Yes."), ""),
                "{name}: {text}"
            );
            assert_eq!(answer.tool_calls.len(), called, "{name}: {text}");
            for call in &answer.tool_calls {
                let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                assert_eq!((call.name.as_str(), arguments), ("get_time", json!({"zone": "JST"})));
            }
        }
    }
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
    // Without a hint in the template, thinking begins an answer or isn't there.
    let plain = ChatFormat::detect("");
    let answer = parse(&plain, "", &["A <think> tag</think>"]);
    assert_eq!((answer.content.as_str(), answer.thinking.as_str()), ("A <think> tag</think>", ""));
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
            "phi4-mini",
            "<|tool_call|>[{\"name\": \"get_time\", \"arguments\": {}}]<|/tool_call|>",
            "get_time",
            json!({}),
        ),
        ("pythonic", "[get_weather(code=7)]", "get_weather", json!({"code": "7"})),
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
    let two = "{\"name\": \"get_time\", \"parameters\": {}}";
    let answer = parse(&llama, "", &[two, "; ", two]);
    assert_eq!((answer.content.as_str(), answer.tool_calls.len()), ("", 2));
    for plain in
        ["{\"name\": \"unknown\", \"parameters\": {}}", "{\"a\": 1} and more", "{ not json"]
    {
        let answer = parse(&llama, "", &[plain]);
        assert_eq!((answer.content.as_str(), answer.tool_calls.len()), (plain, 0));
    }
}
