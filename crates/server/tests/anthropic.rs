//! Anthropic's Messages API over a socket. Streams are held against a machine that knows which event may follow which, and against the message
//! that is not streamed.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{Server, Stream};
use serde_json::{Value, json};

/// A request of one word, whose answer is always the same.
fn request(model: &str, extra: Value) -> Value {
    let mut request = json!({"model": model, "max_tokens": 24, "temperature": 0,
        "messages": [{"role": "user", "content": "hello"}]});
    for (name, value) in extra.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

/// The message that the events of a stream make up.
fn streamed(mut stream: Stream) -> Value {
    assert_eq!(stream.status, 200);
    let (mut message, mut open, mut ended) = (Value::Null, None::<usize>, false);
    while let Some((name, data)) = stream.event() {
        let data: Value = serde_json::from_str(&data).unwrap();
        let name = name.unwrap();
        assert_eq!(data["type"], *name);
        assert!(!ended, "behind the end: {data}");
        let index = data["index"].as_u64().map(|i| i as usize);
        match name.as_str() {
            "message_start" => {
                assert_eq!(message, Value::Null);
                message = data["message"].clone();
                assert_eq!(message["content"], json!([]));
                assert_eq!(message["stop_reason"], Value::Null);
                let (name, _) = stream.event().unwrap();
                assert_eq!(name.as_deref(), Some("ping"));
            }
            "ping" => {}
            "content_block_start" => {
                let blocks = message["content"].as_array_mut().unwrap();
                assert_eq!((open, index), (None, Some(blocks.len())));
                blocks.push(data["content_block"].clone());
                open = index;
            }
            "content_block_delta" => {
                assert_eq!(open, index);
                add(&mut message["content"][index.unwrap()], &data["delta"]);
            }
            "content_block_stop" => {
                assert_eq!(open.take(), index);
                let block = &mut message["content"][index.unwrap()];
                if let Some(Value::String(text)) = block.as_object_mut().unwrap().remove("json") {
                    block["input"] = serde_json::from_str(&text).unwrap();
                }
            }
            "message_delta" => {
                assert_eq!(open, None);
                for (name, value) in data["delta"].as_object().unwrap() {
                    message[name] = value.clone();
                }
                message["usage"] = data["usage"].clone();
            }
            "message_stop" => ended = true,
            other => panic!("{other}: {data}"),
        }
    }
    assert!(ended && message["stop_reason"].is_string());
    message
}

fn add(block: &mut Value, delta: &Value) {
    let (kind, field, into) = match delta["type"].as_str().unwrap() {
        "text_delta" => ("text", "text", "text"),
        "thinking_delta" => ("thinking", "thinking", "thinking"),
        "signature_delta" => ("thinking", "signature", "signature"),
        "input_json_delta" => ("tool_use", "partial_json", "json"),
        other => panic!("{other}"),
    };
    assert_eq!(block["type"], kind);
    let before = block.get(into).and_then(Value::as_str).unwrap_or_default();
    block[into] = format!("{before}{}", delta[field].as_str().unwrap()).into();
}

/// Without what differs between two answers that are the same.
fn bare(mut message: Value) -> Value {
    message["id"] = Value::Null;
    for block in message["content"].as_array_mut().unwrap() {
        if block["type"] == "tool_use" {
            block["id"] = Value::Null;
        }
    }
    // The second may find its prompt in the cache.
    let usage = &message["usage"];
    let sum = usage["input_tokens"].as_u64().unwrap()
        + usage["cache_read_input_tokens"].as_u64().unwrap();
    message["usage"] = json!([sum, usage["output_tokens"]]);
    message
}

#[test]
fn a_message_and_its_stream_are_the_same() {
    let server = Server::start();
    for (model, extra) in [
        ("tiny", json!({})),
        ("tiny", json!({"temperature": 1, "seed": 7, "top_p": 0.9, "top_k": 40})),
        ("thinker", json!({})),
        ("thinker", json!({"thinking": {"type": "enabled", "budget_tokens": 1024}})),
        ("thinker", json!({"thinking": {"type": "adaptive", "display": "omitted"}})),
        ("tiny", json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}})),
    ] {
        let mut request = request(model, extra.clone());
        let reply = server.post("/v1/messages", &request);
        let whole = reply.ok();
        assert!(reply.header("request-id").unwrap().starts_with("req_"));
        assert!(whole["id"].as_str().unwrap().starts_with("msg_"));
        let fixed = [&whole["type"], &whole["role"], &whole["model"]];
        assert_eq!(fixed, ["message", "assistant", model]);
        request["stream"] = true.into();
        let stream = server.stream("/v1/messages?beta=true", &request);
        assert!(stream.header("request-id").unwrap().starts_with("req_"));
        assert_eq!(bare(streamed(stream)), bare(whole), "{model} {extra}");
    }
}

#[test]
fn thoughts_come_when_they_are_asked_for() {
    let server = Server::start();
    let kinds = |extra: Value| {
        let message = server.post("/v1/messages", &request("thinker", extra)).ok();
        let blocks = message["content"].as_array().unwrap().clone();
        blocks.iter().map(|b| b["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let asked = kinds(json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}));
    assert_eq!(asked.first().map(String::as_str), Some("thinking"));
    assert!(!kinds(json!({})).contains(&"thinking".to_owned()));
    let omitted = kinds(json!({"thinking": {"type": "adaptive", "display": "omitted"}}));
    assert!(!omitted.contains(&"thinking".to_owned()));
}

#[test]
fn tokens_are_counted_as_they_are_used() {
    let server = Server::start();
    let tools = json!([{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}]);
    for extra in [
        json!({}),
        json!({"system": [{"type": "text", "text": "be brief"}]}),
        json!({"tools": tools}),
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
    ] {
        let request = request("tiny", extra);
        let usage = server.post("/v1/messages", &request).ok()["usage"].clone();
        let count = |name: &str| usage[name].as_u64().unwrap();
        let used = count("input_tokens") + count("cache_read_input_tokens");
        let mut question = request;
        question.as_object_mut().unwrap().remove("max_tokens");
        let counted = server.post("/v1/messages/count_tokens", &question).ok();
        assert_eq!(counted, json!({"input_tokens": used}));
    }
    let long = json!([{"role": "user", "content": "x".repeat(5000)}]);
    let counted =
        server.post("/v1/messages/count_tokens", &request("tiny", json!({"messages": long})));
    assert!(counted.ok()["input_tokens"].as_u64().unwrap() > 5000);
}

#[test]
fn a_last_message_of_the_assistant_is_gone_on_with() {
    let server = Server::start();
    let answer = |messages: Value| {
        let message =
            server.post("/v1/messages", &request("tiny", json!({"messages": messages}))).ok();
        let text = message["content"][0]["text"].as_str().unwrap().to_owned();
        (text, message["usage"].clone())
    };
    let (whole, _) = answer(json!([{"role": "user", "content": "hello"}]));
    // The answer's letters are bytes; the first of them that is one is taken for its beginning.
    let (first, rest) = whole.split_at(whole.char_indices().nth(1).unwrap().0);
    if first.is_ascii() {
        let begun =
            json!([{"role": "user", "content": "hello"}, {"role": "assistant", "content": first}]);
        assert!(answer(begun).0.starts_with(rest), "{whole:?}");
    }
    let thinking = json!({"thinking": {"type": "adaptive"},
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    server.post("/v1/messages", &request("thinker", thinking)).expect(400);
}

#[test]
fn ends_are_told() {
    let server = Server::start();
    let whole = server.post("/v1/messages", &request("tiny", json!({"max_tokens": 3}))).ok();
    assert_eq!(
        (&whole["stop_reason"], &whole["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(3))
    );
    let text =
        server.post("/v1/messages", &request("tiny", json!({}))).ok()["content"][0]["text"].clone();
    let stop: String = text.as_str().unwrap().chars().skip(2).take(2).collect();
    let stopped =
        server.post("/v1/messages", &request("tiny", json!({"stop_sequences": [stop]}))).ok();
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!(stop))
    );
}

#[test]
fn whole_conversations_with_tools_are_taken() {
    let server = Server::start();
    let messages = json!([
        {"role": "user", "content": [{"type": "text", "text": "weather?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "system", "content": "agents: none"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "18", "is_error": true}]},
    ]);
    let extra = json!({"messages": messages, "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "metadata": {"user_id": "{}"}, "context_management": {"edits": []}, "service_tier": "auto",
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc_version=1"}, {"type": "text", "text": "s"}]});
    server.post("/v1/messages", &request("tiny", extra)).ok();
}

#[test]
fn errors_have_anthropic_s_form() {
    let server = Server::start();
    let refused = |body: Value, status| {
        let reply = server.post("/v1/messages", &body);
        let error = reply.expect(status);
        assert_eq!(error["type"], "error");
        assert_eq!(error["request_id"], reply.header("request-id").unwrap());
        let error = &error["error"];
        (error["type"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    };
    let (kind, text) = refused(request("nobody", json!({})), 404);
    assert_eq!((kind.as_str(), text.contains("nobody")), ("not_found_error", true));
    let (kind, text) = refused(request("tiny", json!({"max_tokens": null})), 400);
    assert_eq!(
        (kind.as_str(), text.as_str()),
        ("invalid_request_error", "max_tokens: field required")
    );
    let long = json!([{"role": "user", "content": "x".repeat(5000)}]);
    let (kind, text) = refused(request("tiny", json!({"messages": long, "stream": true})), 400);
    assert_eq!(kind, "invalid_request_error");
    assert!(
        text.starts_with("prompt is too long: 50") && text.contains(" > 1023 maximum"),
        "{text}"
    );
    let tools = json!([{"name": "f", "input_schema": {}}]);
    let (_, text) = refused(request("thinker", json!({"tools": tools})), 400);
    assert!(text.contains("does not support tools"), "{text}");
    for bad in ["", "[]", "{", "{\"model\": 5}"] {
        assert_eq!(server.post_text("/v1/messages", bad).expect(400)["type"], "error");
    }
    assert_eq!(server.get("/v1/messages").expect(405)["error"]["type"], "invalid_request_error");
}

#[test]
fn the_oldest_is_left_out_when_that_is_asked_for() {
    let server = Server::start();
    let turn = |role: &str| json!({"role": role, "content": "y".repeat(300)});
    let messages =
        json!([turn("user"), turn("assistant"), turn("user"), turn("assistant"), turn("user")]);
    let reply = server
        .post("/v1/messages", &request("tiny", json!({"messages": messages, "truncate": true})));
    reply.ok();
    let dropped: usize = reply.header("x-hob-dropped-tokens").unwrap().parse().unwrap();
    assert!(dropped >= 600, "{dropped}");
}

/// The tiny model calls nothing: this needs one that speaks.
#[test]
fn a_real_model_answers_in_words() {
    let Some(server) = Server::smollm2() else { return };
    let mut request = json!({"model": "smollm2:135m", "max_tokens": 24, "temperature": 0,
        "system": "Answer in one word.", "messages": [{"role": "user", "content": "What is the capital of France?"}]});
    let whole = server.post("/v1/messages", &request).ok();
    assert!(whole["content"][0]["text"].as_str().unwrap().contains("Paris"), "{whole}");
    request["system"] = "Answer in a few words. ".repeat(50).into();
    request["max_tokens"] = 4.into();
    let whole = server.post("/v1/messages", &request).ok();
    request["stream"] = true.into();
    let second = streamed(server.stream("/v1/messages", &request));
    assert!(second["usage"]["cache_read_input_tokens"].as_u64().unwrap() > 100, "{second}");
    assert_eq!(bare(second), bare(whole));
}
