//! Modelfiles: the forms of values, the words of errors, and that what is written is read again.

use hob_text::{Modelfile, ModelfileError, Parameter};
use proptest::prelude::*;

fn parse(text: &str) -> Modelfile {
    Modelfile::parse(text).unwrap_or_else(|e| panic!("{e}: {text:?}"))
}

fn error(text: &str) -> String {
    Modelfile::parse(text).expect_err("no Modelfile").to_string()
}

#[test]
fn every_instruction_is_read() {
    let file = parse(
        "\u{feff}# a model\nFROM ./model.gguf\nfrom ./mmproj.gguf\n  # indented comment\n\tParameter num_ctx 4096\n\
         PARAMETER temperature 0.5\nPARAMETER use_mmap false\nPARAMETER stop <|end|>\nPARAMETER stop \"  User: \"\n\
         PARAMETER num_ctx 8192\nPARAMETER mirostat 1\nTEMPLATE \"\"\"{{ .Prompt }}\n\"quoted\" # no comment\n\"\"\"\n\
         SYSTEM You are # terse. \r\nADAPTER lora.gguf\nDRAFT small.gguf\nLICENSE \"first\nlicense\"\nLICENSE second\n\
         MESSAGE user Hi: there\nMESSAGE assistant \"\"\"Hello\n  you\"\"\"\nRENDERER qwen3-coder\nPARSER harmony\nREQUIRES v0.14.0",
    );
    let expected = Modelfile {
        from: vec!["./model.gguf".to_owned(), "./mmproj.gguf".to_owned()],
        parameters: vec![
            ("num_ctx".to_owned(), Parameter::Int(8192)),
            ("temperature".to_owned(), Parameter::Float(0.5)),
            ("use_mmap".to_owned(), Parameter::Bool(false)),
            ("stop".to_owned(), Parameter::Text("<|end|>".to_owned())),
            ("stop".to_owned(), Parameter::Text("  User: ".to_owned())),
        ],
        template: Some("{{ .Prompt }}\n\"quoted\" # no comment\n".to_owned()),
        system: Some("You are # terse.".to_owned()),
        adapter: Some("lora.gguf".to_owned()),
        draft: Some("small.gguf".to_owned()),
        licenses: vec!["first\nlicense".to_owned(), "second".to_owned()],
        messages: vec![
            ("user".to_owned(), "Hi: there".to_owned()),
            ("assistant".to_owned(), "Hello\n  you".to_owned()),
        ],
        renderer: Some("qwen3-coder".to_owned()),
        parser: Some("harmony".to_owned()),
        requires: Some("0.14.0".to_owned()),
        deprecated: vec!["mirostat".to_owned()],
    };
    assert_eq!(file, expected);
}

#[test]
fn single_quotation_marks_and_inner_ones_are_text() {
    assert_eq!(parse("FROM 'a b'").from, ["'a b'"]);
    assert_eq!(parse("FROM a\"b\"").from, ["a\"b\""]);
    assert_eq!(parse("FROM a\nSYSTEM \"\"\"\"hi\"\"\"\"").system.unwrap(), "\"hi\"");
    assert_eq!(parse("FROM a\nSYSTEM \"one\" two\"\nFROM b").system.unwrap(), "one\" two");
    assert_eq!(parse("FROM a\nSYSTEM \"\"").system.unwrap(), "");
}

#[test]
fn errors_have_the_words_that_clients_know() {
    let command = "command must be one of \"from\", \"license\", \"template\", \"system\", \"adapter\", \"draft\", \"renderer\", \
        \"parser\", \"parameter\", \"message\", or \"requires\"";
    assert_eq!(error("FROM a\n\nBADCOMMAND x"), format!("(line 3): {command}"));
    assert_eq!(error("FROM a\nSYSTEM \"\"\"x\ny\"\"\"\n-x"), format!("(line 4): {command}"));
    assert_eq!(error("FROM\n"), format!("(line 1): {command}"));
    assert_eq!(error("FROM a\nFR\u{f6}M b"), format!("(line 2): {command}"));
    let role = "message role must be one of \"system\", \"user\", or \"assistant\"";
    assert_eq!(error("FROM a\nMESSAGE tool x"), format!("(line 2): {role}"));
    assert_eq!(error("# nothing\nSYSTEM x"), "no FROM line");
    assert_eq!(error(""), "no FROM line");
    assert_eq!(error("FROM a\nPARAMETER num_cxt 1"), "unknown parameter 'num_cxt'");
    assert_eq!(error("FROM a\nPARAMETER num_ctx many"), "invalid int value [many]");
    assert_eq!(error("FROM a\nPARAMETER top_p nan"), "invalid float value [nan]");
    assert_eq!(error("FROM a\nPARAMETER use_mmap si"), "invalid bool value [si]");
    assert_eq!(error("FROM a\nREQUIRES soon"), "requires must be a valid semver (e.g. 0.14.0)");
    assert_eq!(error("FROM a\nREQUIRES 1.2.03"), "requires must be a valid semver (e.g. 0.14.0)");
    for unfinished in ["FROM \"a", "FROM a\nSYSTEM \"\"\"x\"\"", "FROM", "FROM a\nPARAMETER stop"] {
        assert_eq!(Modelfile::parse(unfinished), Err(ModelfileError::Unfinished), "{unfinished}");
    }
    assert_eq!(error("FROM a\nADAPTER b\nADAPTER c"), "(line 3): only one adapter is supported");
    let draft = "DRAFT must not reference the same local path as FROM: a";
    assert_eq!(error("DRAFT a\nFROM a"), draft);
}

/// A text that the format can hold: a line that ends in three quotation marks would end it.
fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(
        &["\"", "\n", " ", "a", "{{ .X }}", "#", "\t", "'", "\\n", "FROM b", "é", "\r\n", "\u{a0}"]
            [..],
    );
    let any =
        prop_oneof![prop::collection::vec(pieces, 0..8).prop_map(|p| p.concat()), "\\PC{0,20}"];
    any.prop_filter("not to be written", |text| {
        let mut ended = text.split(['\n', '\r']).rev().skip(1);
        !ended.any(|line| line.trim_end().ends_with("\"\"\""))
    })
}

fn parameter() -> impl Strategy<Value = (String, Parameter)> {
    prop_oneof![
        any::<i64>().prop_map(|i| ("seed".to_owned(), Parameter::Int(i))),
        any::<f64>()
            .prop_filter("a number", |f| f.is_finite())
            .prop_map(|f| ("top_p".to_owned(), Parameter::Float(f))),
        any::<bool>().prop_map(|b| ("use_mmap".to_owned(), Parameter::Bool(b))),
    ]
}

fn modelfile() -> impl Strategy<Value = Modelfile> {
    let option = || prop::option::of(text());
    let texts = || prop::collection::vec(text(), 0..3);
    let roles = prop::sample::select(&["system", "user", "assistant"][..]).prop_map(str::to_owned);
    let lists = (
        prop::collection::vec(text(), 1..3),
        texts(),
        texts(),
        prop::option::of(parameter()),
        prop::collection::vec((roles, text()), 0..3),
    );
    let single = (option(), option(), option(), option(), option(), option());
    (lists, single).prop_map(|((from, licenses, stops, parameter, messages), single)| {
        let (template, system, adapter, draft, renderer, parser) = single;
        let stops = stops.into_iter().map(|stop| ("stop".to_owned(), Parameter::Text(stop)));
        let draft = draft.filter(|draft| !from.contains(draft));
        Modelfile {
            parameters: parameter.into_iter().chain(stops).collect(),
            requires: Some("0.14.0-rc1".to_owned()),
            deprecated: vec![],
            from,
            licenses,
            messages,
            template,
            system,
            adapter,
            draft,
            renderer,
            parser,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(file in modelfile()) {
        let text = file.to_string();
        prop_assert_eq!(Modelfile::parse(&text), Ok(file), "{}", text);
    }

    #[test]
    fn no_text_panics(text in "(?s)((FROM|parameter|MESSAGE user|SYSTEM|#|REQUIRES)?[ \"]{0,4}.{0,12}\n?){0,6}") {
        let _ = Modelfile::parse(&text);
    }
}
