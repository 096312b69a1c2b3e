//! Chat templates without assets: limits, fallbacks, and what transformers adds to Jinja.

use std::time::{Duration, Instant};

use hob_gguf::MetaBuilder;
use hob_text::{ChatTemplate, Message, RenderOptions, TextError, Tokenizer};

fn conversation() -> Vec<Message> {
    vec![
        Message::new("user", "Hi"),
        Message::new("assistant", "Hello"),
        Message::new("user", "Bye"),
    ]
}

fn render(source: &str) -> Result<String, TextError> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(&conversation(), &RenderOptions::default())
}

#[test]
fn a_template_bomb_is_refused_quickly() {
    let doubling =
        "{% set a = 'x' * 1000 %}".to_owned() + &"{% set a = a ~ a %}".repeat(60) + "{{ a }}";
    let bombs = [
        "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% set x = i * j %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99999) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}",
        "{% set ns = namespace(x='ab') %}{% for i in range(99999) %}{% set ns.x = ns.x | replace('a', 'aa') %}{% endfor %}",
        "{% set ns = namespace(x=[1, 2]) %}{% for i in range(99999) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",
        "{% set ns = namespace(x=[1, 2]) %}{% for i in range(99999) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{{ 'x' * 9999999999 }}",
        "{{ [1] * 9999999999 }}",
        "{{ [0, 1] * 99999 * 99999 | join('x') }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 999999999) }}",
        "{{ '{:{w}}'.format(1, w=999999999) }}",
        "{{ '%*d' | format(999999999, 1) }}",
        "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
        "{{ ('x' * 1000000).join(['y'] * 99999) }}",
        "{{ ['y'] * 99999 | join('x' * 1000000) }}",
        "{{ (['y'] * 99999) | join('x' * 1000000) }}",
        "{{ ('x' * 20000) | indent(99999999) }}",
        "{{ messages | tojson(indent=99999999) | length }}",
        "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}{% endset %}",
        doubling.as_str(),
    ];
    for bomb in bombs {
        // Compiling tries the template out: that is bounded as well. Some 30 ms on a quiet machine.
        let start = Instant::now();
        let result = render(bomb);
        let took = start.elapsed();
        let harmless = result.as_ref().is_ok_and(|text| text.len() < 1 << 20);
        assert!(result.is_err() || harmless, "{bomb:.80}");
        assert!(took < Duration::from_secs(20), "{took:?} for {bomb:.80}");
    }
}

#[test]
fn an_endless_loop_names_its_limit() {
    let error =
        render("{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}");
    assert!(matches!(error, Err(TextError::TemplateLimit { .. })), "{error:?}");
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(matches!(render(&format!("{{{{ {deep} }}}}")), Err(TextError::TemplateSyntax(_))));
    let long = "x".repeat((1 << 20) + 1);
    assert!(matches!(render(&long), Err(TextError::TemplateLimit { .. })));
}

#[test]
fn a_long_conversation_is_no_bomb() {
    let source = "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content.strip() + ' [/INST]' }}\
        {% else %}{{ m.content.split('</think>')[-1] | trim + eos_token }}{% endif %}{% endfor %}";
    let template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
    let text = "Lorem ipsum, 世界. ".repeat(5000);
    let messages: Vec<Message> = (0..100)
        .map(|i| Message::new(if i % 2 == 0 { "user" } else { "assistant" }, text.as_str()))
        .collect();
    let prompt = template.render(&messages, &RenderOptions::default()).unwrap();
    assert!(prompt.len() > 100 * (text.len() - 1));
}

#[test]
fn what_transformers_adds_is_there() {
    let cases = [
        (
            "{{ messages[0]['role'] }}{{ messages[1:] | length }}{{ messages[-1].content }}",
            "user2Bye",
        ),
        (
            "{% for m in messages %}{% if loop.last %}{% continue %}{% endif %}{{ m.content }}{% if loop.index0 == 0 %}{% break %}{% endif %}{% endfor %}",
            "Hi",
        ),
        ("a\n{%- generation -%} b {%- endgeneration %}c", "abc"),
        ("{% if true %}\n  {% if false %}x{% endif %}\n y\n{% endif %}\n", " y\n"),
        ("{{ {'b': 1, 'a': [true, none]} | tojson }}", r#"{"b": 1, "a": [true, null]}"#),
        ("{{ {'b': 1} | tojson(indent=2) }}", "{\n  \"b\": 1\n}"),
        ("{% for k, v in {'x': 1}.items() %}{{ k }}={{ v }}{% endfor %}", "x=1"),
        ("{{ bos_token }}{{ tools is none }}{{ undefined_name is defined }}", "<s>TrueFalse"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ '<b>' }}{{ {'a': '<'}.get('a') }}", "<b><"),
        ("{{ 'x y'.split(' ')[-1].upper() }}{{ 'abc'.startswith('ab') }}", "YTrue"),
        ("{{ none is iterable }}{{ [] is iterable }}", "FalseTrue"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source).unwrap(), expected, "{source}");
    }
}

#[test]
fn refusals_and_mistakes_are_typed() {
    let refused = render("{{ raise_exception('No system role') }}").unwrap_err();
    assert!(
        matches!(&refused, TextError::TemplateRender(m) if m.contains("No system role")),
        "{refused}"
    );
    assert!(matches!(render("{% if %}"), Err(TextError::TemplateSyntax(_))));
    assert!(matches!(render("{{ nothing.at.all }}"), Err(TextError::TemplateRender(_))));
    assert!(matches!(render("{{ strftime_now('%') }}"), Err(TextError::TemplateRender(_))));
    assert!(matches!(render("{% include 'other' %}"), Err(TextError::TemplateRender(_))));
}

#[test]
fn content_is_typed_where_only_parts_are_read() {
    let source = "{% for m in messages %}{% for part in m.content %}{{ part.text }}|{% endfor %}{% endfor %}";
    assert_eq!(render(source).unwrap(), "Hi|Hello|Bye|");
}

#[test]
fn tool_call_arguments_arrive_as_objects() {
    let message: Message = serde_json::from_str(
        r#"{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\": 1}"}}]}"#,
    )
    .unwrap();
    let source =
        "{% for m in messages %}{{ m.tool_calls[0].function.arguments | tojson }}{% endfor %}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    assert_eq!(template.render(&[message], &RenderOptions::default()).unwrap(), r#"{"a": 1}"#);
}

fn vocabulary(tokens: &[&str]) -> MetaBuilder {
    MetaBuilder::new().set("tokenizer.ggml.model", "llama").set("tokenizer.ggml.tokens", tokens)
}

fn from_builder(builder: &MetaBuilder) -> Result<ChatTemplate, TextError> {
    let meta = builder.build().expect("valid metadata");
    ChatTemplate::required(&meta, &Tokenizer::from_gguf(&meta)?)
}

#[test]
fn without_a_template_only_chatml_vocabularies_chat() {
    let chatml = vocabulary(&["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]);
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    assert_eq!(
        from_builder(&chatml).unwrap().render(&[Message::new("user", "Hi")], &options).unwrap(),
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    let base = vocabulary(&["<unk>", "<s>", "</s>"]);
    let error = from_builder(&base).unwrap_err();
    assert!(matches!(error, TextError::NoTemplate) && error.to_string().contains("raw"), "{error}");
}

#[test]
fn the_tool_variant_is_used_for_tools() {
    let file = vocabulary(&["<unk>", "<s>", "</s>"])
        .set("tokenizer.chat_template", "plain")
        .set("tokenizer.chat_template.tool_use", "tools {{ bos_token }}");
    let template = from_builder(&file).unwrap();
    let mut options = RenderOptions::default();
    assert_eq!(template.render(&conversation(), &options).unwrap(), "plain");
    options.tools = Some(serde_json::json!([]));
    assert_eq!(template.render(&conversation(), &options).unwrap(), "tools <s>");
}
