//! Drafted tokens at the server: whatever is asked for and however it is sent, an answer is the same with `speculate` off, on and by measure,
//! token by token with its probabilities; and tokens were drafted.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::Server;
use serde_json::{Value, json};

/// A text that the tiny models go on to repeat parts of, since they have few letters to choose among.
const PROMPT: &str = "abcabcaabbccabcabc abacab abcabc";

fn over(mut body: Value, with: &Value) -> Value {
    for (name, value) in with.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn schema() -> Value {
    let word = json!({"type": "string", "pattern": "^[ab]{3,6}$"});
    json!({"type": "object", "properties": {"words": {"type": "array", "items": word, "minItems": 4, "maxItems": 5}},
        "required": ["words"], "additionalProperties": false})
}

/// A bias that leaves three letters to choose among.
fn three_letters() -> Value {
    (97..100).map(|id: u32| (id.to_string(), json!(100))).collect::<serde_json::Map<_, _>>().into()
}

/// What a reply of Ollama's dialect says, without its times, and how many tokens were drafted.
fn ollama(server: &Server, path: &str, body: &Value, stream: bool) -> (Vec<Value>, u64) {
    let body = over(body.clone(), &json!({"stream": stream}));
    let mut chunks: Vec<Value> = server
        .send("POST", path, &[], Some(&body.to_string()))
        .whole()
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let drafted = chunks.last().unwrap()["drafted_tokens"].as_u64().unwrap_or(0);
    for chunk in &mut chunks {
        assert!(chunk.get("error").is_none(), "{chunk}");
        let varies = |key: &str| {
            key.ends_with("_duration")
                || ["created_at", "cached_tokens", "drafted_tokens", "accepted_tokens"]
                    .contains(&key)
        };
        chunk.as_object_mut().unwrap().retain(|key, _| !varies(key));
    }
    (chunks, drafted)
}

/// The same of OpenAI's dialect.
fn openai(server: &Server, path: &str, body: &Value) -> (Value, u64) {
    let reply = server.post(path, body).ok();
    let drafted = reply["timings"]["draft_n"].as_u64().unwrap();
    assert!(reply["timings"]["draft_n_accepted"].as_u64().unwrap() <= drafted);
    (reply["choices"].clone(), drafted)
}

/// The same of its streams: all that the chunks say of their choices.
fn openai_stream(server: &Server, path: &str, body: &Value) -> Vec<Value> {
    let (chunks, done) =
        server.stream(path, &over(body.clone(), &json!({"stream": true}))).events();
    assert!(done);
    chunks.into_iter().map(|chunk| chunk["choices"].clone()).collect()
}

#[test]
fn ollamas_answers_are_the_same() {
    let server = Server::start();
    let format = json!({"format": schema()});
    let cases = [
        ("greedy", json!({}), json!({"temperature": 0})),
        ("drawn", json!({}), json!({"temperature": 0.8, "seed": 5})),
        ("a schema, greedy", format.clone(), json!({"temperature": 0})),
        ("a schema, drawn", format, json!({"temperature": 0.8, "seed": 6})),
        (
            "probabilities",
            json!({"logprobs": true, "top_logprobs": 3}),
            json!({"temperature": 0.8, "seed": 7}),
        ),
        (
            "stop texts",
            json!({}),
            json!({"temperature": 0, "stop": ["\n\n", "ab"], "repeat_penalty": 1.1}),
        ),
    ];
    let mut drafted = 0;
    for (what, fields, options) in cases {
        for stream in [false, true] {
            let ask = |speculate: &str| {
                let options =
                    over(options.clone(), &json!({"num_predict": 60, "speculate": speculate}));
                let body =
                    json!({"model": "tiny", "prompt": PROMPT, "raw": true, "options": options});
                ollama(&server, "/api/generate", &over(body, &fields), stream)
            };
            let (off, none) = ask("off");
            assert_eq!(none, 0, "{what}");
            for how in ["on", "auto"] {
                let (with, some) = ask(how);
                assert_eq!(with, off, "{what}, {how}, streamed: {stream}");
                drafted += some;
            }
        }
    }
    assert!(drafted > 50, "{drafted}");
}

#[test]
fn openais_answers_are_the_same() {
    let server = Server::start();
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "words", "schema": schema()}}});
    let cases = [
        ("greedy", json!({"temperature": 0, "logit_bias": three_letters()})),
        ("drawn", json!({"temperature": 0.8, "seed": 5, "logit_bias": three_letters()})),
        ("a schema, drawn", over(format, &json!({"temperature": 0.8, "seed": 6}))),
        (
            "probabilities",
            json!({"temperature": 0, "logit_bias": three_letters(), "logprobs": true, "top_logprobs": 2}),
        ),
        (
            "stop texts",
            json!({"temperature": 0.8, "seed": 8, "logit_bias": three_letters(), "stop": ["cccc", "abcb"]}),
        ),
    ];
    let path = "/v1/chat/completions";
    let mut drafted = 0;
    for (what, fields) in cases {
        let body = |speculate: &str| {
            let messages = json!([{"role": "user", "content": PROMPT}]);
            let body = json!({"model": "tiny", "messages": messages, "max_tokens": 60, "speculate": speculate});
            over(body, &fields)
        };
        let (off, none) = openai(&server, path, &body("off"));
        assert_eq!(none, 0, "{what}");
        let streamed = openai_stream(&server, path, &body("off"));
        for how in ["on", "auto"] {
            let (with, some) = openai(&server, path, &body(how));
            assert_eq!(with, off, "{what}, {how}");
            assert_eq!(
                openai_stream(&server, path, &body(how)),
                streamed,
                "{what}, {how}, streamed"
            );
            drafted += some;
        }
    }
    assert!(drafted > 50, "{drafted}");
}

#[test]
fn other_words_for_it_are_refused() {
    let server = Server::start();
    let chat =
        json!({"model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1});
    for wrong in [json!("fast"), json!(1), json!([])] {
        let body = over(chat.clone(), &json!({"options": {"speculate": wrong}}));
        let error = server.post("/api/chat", &body).expect(400);
        assert!(error["error"].as_str().unwrap().contains("speculate"), "{error}");
        let body = over(chat.clone(), &json!({"speculate": wrong}));
        assert_eq!(
            server.post("/v1/chat/completions", &body).expect(400)["error"]["param"],
            "speculate"
        );
    }
    let none = over(chat, &json!({"speculate": null, "options": {"speculate": null}}));
    server.post("/v1/chat/completions", &none).ok();
}
