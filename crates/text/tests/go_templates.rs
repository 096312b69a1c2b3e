//! The chat templates of Ollama's library, rendered as Go renders them (`go/oracle.go` wrote the goldens), and what is read off them.

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hob_text::{ChatAnswer, ChatParser, GoTemplate, Message, RenderOptions, TextError};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Cases {
    now: u64,
    conversations: BTreeMap<String, Conversation>,
}

#[derive(Deserialize)]
struct Conversation {
    #[serde(default)]
    messages: Vec<Message>,
    tools: Option<Value>,
    enable_thinking: Option<bool>,
    reasoning_effort: Option<String>,
    #[serde(default)]
    prompt: String,
    suffix: Option<String>,
}

#[derive(Deserialize)]
struct Goldens {
    sources: BTreeMap<String, String>,
    conversations: BTreeMap<String, BTreeMap<String, String>>,
}

fn hashed(text: &str) -> String {
    let hash: String = Sha256::digest(text).iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("{} {hash}", text.len())
}

fn rendered(
    template: &GoTemplate,
    conversation: &Conversation,
    now: u64,
) -> Result<String, TextError> {
    let effort = conversation.reasoning_effort.as_ref();
    let options = RenderOptions {
        add_generation_prompt: true,
        tools: conversation.tools.clone(),
        enable_thinking: conversation.enable_thinking,
        extra: effort.map(|e| ("reasoning_effort".to_owned(), json!(e))).into_iter().collect(),
        now: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(now)),
    };
    match &conversation.suffix {
        Some(suffix) => template.render_insert(&conversation.prompt, suffix, &options),
        None => template.render(&conversation.messages, &options),
    }
}

#[test]
fn templates_render_as_in_go() {
    let cases: Cases = serde_json::from_str(include_str!("go/cases.json")).unwrap();
    let goldens: Goldens = serde_json::from_str(include_str!("go/goldens.json")).unwrap();
    let (mut count, mut refused, mut failures) = (0, 0, Vec::new());
    for (name, expected) in &goldens.conversations {
        let source = common::go_template(name);
        assert_eq!(hashed(&source), goldens.sources[name], "{name} is another text than Go had");
        let template = GoTemplate::new(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(expected.len(), cases.conversations.len());
        for (case, expected) in expected {
            let found = rendered(&template, &cases.conversations[case], cases.now);
            count += 1;
            let hash = found.as_ref().map_or("error".to_owned(), |text| hashed(text));
            refused += usize::from(hash == "error");
            if hash != *expected {
                failures.push(format!("{name} {case}: {found:?}\n   expected {expected}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
    assert_eq!((goldens.conversations.len(), count, refused), (71, 1775, REFUSED));
}

/// Cases in which Go fails as well.
const REFUSED: usize = 10;

#[test]
fn formats_and_capabilities_are_read_off() {
    let (mut thinking, mut insert, mut formats) = (vec![], vec![], BTreeMap::new());
    for name in common::go_template_names() {
        let template = GoTemplate::new(&common::go_template(&name)).unwrap();
        let can = template.capabilities();
        if can.tools {
            *formats.entry(template.format().name()).or_insert(0) += 1;
        }
        if can.thinking {
            assert_eq!(template.thinking_tags(), Some(("<think>", "</think>")), "{name}");
            assert!(template.format().thinks(), "{name}");
            thinking.push(name.clone());
        }
        if can.insert {
            insert.push(name);
        }
    }
    assert_eq!(thinking, ["deepseek-r1-latest", "deepseek-v3.1-latest", "qwen3-next-80b"]);
    let fill =
        ["deepseek-coder-v2-16b", "deepseek-v2.5-236b", "granite-code-3b", "qwen2.5-coder-1.5b"];
    assert_eq!(insert, fill);
    // Templates with tools all belong to a format that has calls.
    let expected = [
        ("command-r", 1),
        ("command-r7b", 1),
        ("deepseek", 1),
        ("functools", 1),
        ("granite", 5),
        ("hermes", 9),
        ("llama3", 4),
        ("mistral-json", 3),
        ("nemotron-mini", 1),
        ("phi4-mini", 1),
    ];
    assert_eq!(formats, expected.into_iter().collect());
}

/// Templates whose stored call is not what stands behind their prompt.
const OTHERWISE: [&str; 7] = [
    "aya-expanse-8b",       // ends turns twice
    "command-a-111b",       // its prompt opens an answer in words
    "granite3.2-vision-2b", // writes no calls
    "llama3.1-8b",          // shows the tools with the last message
    "llama3.2-3b",          // as well
    "phi4-mini-3.8b",       // writes a brace too few
    "qwen3-next-80b",       // its prompt begins a thought
];

/// A call that a template writes behind its prompt is read back by its format.
#[test]
fn calls_that_templates_write_are_read_back() {
    let arguments = json!({"zone": "<J>", "n": 2});
    let call =
        json!({"type": "function", "function": {"name": "get_time", "arguments": arguments}});
    let tool = json!({"type": "function", "function": {"name": "get_time", "description": "The time",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}, "n": {"type": "integer"}}}}});
    let options = RenderOptions { tools: Some(json!([tool])), ..RenderOptions::default() };
    let (mut read, mut failures) = (0, Vec::new());
    for name in common::go_template_names() {
        let template = GoTemplate::new(&common::go_template(&name)).unwrap();
        if !template.capabilities().tools || OTHERWISE.contains(&name.as_str()) {
            continue;
        }
        let asked = Message::new("user", "When?");
        let answer = Message {
            role: "assistant".to_owned(),
            tool_calls: Some(json!([call])),
            ..Message::default()
        };
        let prompt = template.render(std::slice::from_ref(&asked), &options).unwrap();
        let whole = template.render(&[asked, answer], &options).unwrap();
        let same = prompt.bytes().zip(whole.bytes()).take_while(|(a, b)| a == b).count();
        let text = whole.get(same..).unwrap();
        let mut parser = ChatParser::new(template.format(), &prompt, options.tools.as_ref());
        let mut found = ChatAnswer::default();
        found.extend(parser.push(text));
        found.extend(parser.finish());
        let same = found.tool_calls.first().is_some_and(|c| {
            c.name == "get_time"
                && serde_json::from_str(&c.arguments).ok().as_ref() == Some(&arguments)
        });
        read += usize::from(same);
        if !same {
            failures.push(format!("{name} {}: {text:?} {found:?}", template.format().name()));
        }
    }
    assert!(failures.is_empty(), "{} beside {read}:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(read, 20);
}

fn messages(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

fn render(source: &str, turns: &[(&str, &str)]) -> String {
    let template = GoTemplate::new(source).expect("a template that parses");
    let text = template.render(&messages(turns), &RenderOptions::default());
    text.expect("a template that renders")
}

#[test]
fn a_template_of_turns_is_rendered_once_for_each_and_ends_where_the_answer_begins() {
    let source = "{{ if .System }}S:{{ .System }} {{ end }}{{ if .Prompt }}U:{{ .Prompt }} {{ end }}A:{{ .Response }};";
    let turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")];
    assert_eq!(render(source, &turns), "S:s U:a A:b;U:c A:");
    assert_eq!(render(source, &turns[..3]), "S:s U:a A:b");
    assert_eq!(
        render(source, &[("user", "a"), ("system", "s"), ("user", "b")]),
        "U:a A:;S:s U:b A:"
    );
    assert_eq!(render("{{ .Prompt }}", &turns), "abc");
    let branches = "{{ if .Prompt }}{{ .Response }}x{{ else }}y{{ end }}z";
    assert_eq!(render(branches, &[("user", "a")]), "");
    assert_eq!(render(branches, &[("tool", "a")]), "y");
}

#[test]
fn messages_of_one_role_become_one_and_lose_nothing() {
    let source = "[{{ .System }}]{{ range .Messages }}{{ .Role }}:{{ .Content }}{{ range .ToolCalls }}({{ .Function.Index }}\
        {{ .Function.Name }}{{ .Function.Arguments }}){{ end }};{{ end }}";
    let turns = [
        ("system", "a"),
        ("user", "b"),
        ("user", "c"),
        ("system", "d"),
        ("tool", "e"),
        ("tool", "f"),
    ];
    assert_eq!(render(source, &turns), "[a\n\nd]system:a;user:b\n\nc;system:d;tool:e;tool:f;");

    let call = |name: &str, arguments: Value| {
        let calls = json!([{"function": {"name": name, "arguments": arguments}}]);
        Message { role: "assistant".to_owned(), tool_calls: Some(calls), ..Message::default() }
    };
    let calls = [
        call("f", json!({"b": 1, "a": "<"})),
        call("g", json!("{\"x\": 2}")),
        call("h", json!("?")),
    ];
    let text = GoTemplate::new(source).unwrap().render(&calls, &RenderOptions::default()).unwrap();
    let arguments = r#"(0f{"a":"\u003c","b":1})(1g{"x":2})(2h?);"#;
    assert_eq!(text, format!("[]assistant:\n\n\n\n{arguments}"));
}

#[test]
fn options_reach_the_template() {
    let source = "{{ range .Messages }}{{ end }}{{ .Think }} {{ .ThinkLevel }} {{ .IsThinkSet }} {{ .mood }}";
    let template = GoTemplate::new(source).unwrap();
    let text = |enable_thinking, extra: Value| {
        let extra: Map<String, Value> = serde_json::from_value(extra).unwrap();
        let options = RenderOptions { enable_thinking, extra, ..RenderOptions::default() };
        template.render(&[], &options).unwrap()
    };
    assert_eq!(text(None, json!({})), "false  false <no value>");
    assert_eq!(text(Some(false), json!({"mood": "good"})), "false  true good");
    assert_eq!(text(Some(true), json!({"reasoning_effort": "low"})), "true low true <no value>");
    assert_eq!(text(None, json!({"reasoning_effort": "high"})), "true high true <no value>");
}

#[test]
fn capabilities_and_thinking_tags_are_found() {
    let of = |source: &str| {
        let template = GoTemplate::new(source).unwrap();
        let can = template.capabilities();
        let tags = template.thinking_tags().map(|(a, b)| (a.to_owned(), b.to_owned()));
        (can.tools, can.thinking, can.insert, tags)
    };
    assert_eq!(of("{{ .Prompt }}"), (false, false, false, None));
    assert!(of("{{ if .Suffix }}{{ .Prompt }}<mid>{{ .Suffix }}{{ end }}").2);
    assert!(of("{{ range $.Tools }}{{ . }}{{ end }}").0);
    let thinking = "{{ range $i, $m := .Messages }}{{ if and $.IsThinkSet .Thinking }}\n<think>{{ .Thinking }}</think>\n{{ end }}{{ end }}";
    let tags = Some(("<think>".to_owned(), "</think>".to_owned()));
    assert_eq!(of(thinking), (false, true, false, tags));
    assert_eq!(of("<think>{{ .Thinking }}</think>").3, None);
}

#[test]
fn a_long_conversation_is_no_bomb() {
    let source = "{{ range $i, $m := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}last {{ end }}{{ .Content }}{{ end }}";
    let turns: Vec<Message> = (0..5000)
        .map(|i| Message::new(["user", "assistant"][i % 2], "x".repeat(i % 999)))
        .collect();
    for source in [source, "{{ .System }}{{ .Prompt }}{{ .Response }}"] {
        let template = GoTemplate::new(source).unwrap();
        let text = template.render(&turns, &RenderOptions::default()).unwrap();
        assert!(text.len() > 2_000_000, "{}", text.len());
    }
}

#[test]
fn a_template_bomb_is_refused() {
    let doubling = "{{ $a := \"xxxxxxxx\" }}".to_owned()
        + &"{{ $a = print $a $a }}".repeat(64)
        + "{{ len $a }}";
    let deep = "{{ if true }}".repeat(5000) + &"{{ end }}".repeat(5000);
    let parens = format!("{{{{ {}1{} }}}}", "(".repeat(5000), ")".repeat(5000));
    let chain = "{{ if false }}".to_owned() + &"{{ else if false }}".repeat(5000) + "{{ end }}";
    let bombs = [
        "{{ range 99999 }}{{ range 99999 }}x{{ end }}{{ end }}",
        "{{ range 9223372036854775807 }}{{ end }}",
        "{{ $a := \"x\" }}{{ range 99999 }}{{ $a = print $a $a }}{{ end }}",
        "{{ $a := \"x\" }}{{ range 99999 }}{{ $a = json $a }}{{ end }}",
        "{{ $a := \"\\\"\" }}{{ range 99999 }}{{ $a = printf \"%q%q\" $a $a }}{{ end }}",
        "{{ define \"f\" }}{{ template \"f\" . }}{{ template \"f\" . }}{{ end }}{{ template \"f\" . }}",
        "{{ range 99999 }}{{ printf \"%999999d\" 1 }}{{ end }}",
        "{{ printf \"%999999d%999999d%999999d%999999d%999999d%999999d%999999d\" 1 1 1 1 1 1 1 }}",
        doubling.as_str(),
        deep.as_str(),
        parens.as_str(),
    ];
    for bomb in bombs {
        let result = GoTemplate::new(bomb)
            .and_then(|t| t.render(&messages(&[("user", "Hi")]), &RenderOptions::default()));
        assert!(matches!(result, Err(TextError::TemplateLimit { .. })), "{bomb:.80}: {result:?}");
    }
    assert_eq!(render(&chain, &[("user", "Hi")]), "");
    let long = [Message::new("user", "x".repeat(1 << 20))];
    for work in ["eq .Prompt .Prompt", "printf \"%.1s\" .Prompt", "slice .Prompt 1"] {
        let source = format!("{{{{ range 999999999 }}}}{{{{ $x := {work} }}}}{{{{ end }}}}");
        let source = source.replace(".Prompt", "$.Prompt");
        let result = GoTemplate::new(&source).unwrap().render(&long, &RenderOptions::default());
        assert!(matches!(result, Err(TextError::TemplateLimit { .. })), "{work}: {result:?}");
    }
    // Turns share what a conversation may use.
    let turns: Vec<Message> =
        (0..2000).map(|i| Message::new(["user", "assistant"][i % 2], "x")).collect();
    let source = "{{ range 5000 }}{{ end }}{{ .Prompt }}{{ .Response }}";
    let result = GoTemplate::new(source).unwrap().render(&turns, &RenderOptions::default());
    assert!(matches!(result, Err(TextError::TemplateLimit { .. })), "{result:?}");
    let many: String = (0..9999).map(|i| format!("{{{{ $x{i} := 1 }}}}")).collect();
    assert!(matches!(GoTemplate::new(&many), Err(TextError::TemplateLimit { .. })));
    let long = "x".repeat(2 << 20);
    assert!(matches!(GoTemplate::new(&long), Err(TextError::TemplateLimit { .. })));
}

#[test]
fn a_text_cut_within_a_character_is_still_a_text() {
    assert_eq!(render("{{ slice .Prompt 0 1 }}|", &[("user", "é")]), "\u{fffd}|");
}
