//! OpenAI's API over the wire: answers whole and streamed are the same, every field does what it says or is refused by its name.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Reply, Server};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// A request to the tiny model, with these fields over the usual ones.
fn chat(with: Value) -> Value {
    let messages = json!([{"role": "user", "content": "hi"}]);
    over(json!({"model": "tiny", "messages": messages, "temperature": 0, "max_tokens": 12}), with)
}

fn text(with: Value) -> Value {
    over(json!({"model": "tiny", "prompt": "abc", "temperature": 0, "max_tokens": 12}), with)
}

fn over(mut body: Value, with: Value) -> Value {
    for (name, value) in with.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A bias that leaves only the letter `a` to choose.
fn only_a() -> Value {
    json!({"97": 100})
}

/// What the chunks of a stream say of each choice: the texts of a field of its delta joined, and why it ended.
fn joined(chunks: &[Value], field: &str) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap() as usize;
        if all.len() <= index {
            all.resize(index + 1, (String::new(), None));
        }
        assert_eq!(all[index].1, None, "after its end: {choice}");
        let said = choice.pointer(field).and_then(Value::as_str);
        all[index].0 += said.unwrap_or_default();
        all[index].1 = choice["finish_reason"].as_str().map(str::to_owned);
    }
    all
}

#[track_caller]
fn refused(reply: &Reply, status: u16, param: Option<&str>) -> Value {
    let error = reply.expect(status)["error"].clone();
    assert_eq!(error["param"].as_str(), param, "{error}");
    assert_eq!(error["type"], "invalid_request_error");
    assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()));
    error
}

#[test]
fn a_chat_is_the_same_whole_and_streamed() {
    let server = Server::start();
    let reply = server.post(CHAT, &chat(json!({}))).ok();
    assert!(reply["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(reply["object"], "chat.completion");
    assert_eq!(reply["model"], "tiny");
    assert_eq!(reply["system_fingerprint"], "fp_hob");
    let choice = &reply["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!((&choice["message"]["refusal"], &choice["logprobs"]), (&Value::Null, &Value::Null));
    let said = choice["message"]["content"].as_str().unwrap();
    let usage = &reply["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"));
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 0);
    assert_eq!(reply["timings"]["predicted_n"], usage["completion_tokens"]);

    let body = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let stream = server.stream(CHAT, &body);
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let (chunks, done) = stream.events();
    assert!(done);
    let (last, chunks) = chunks.split_last().unwrap();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(chunks.iter().all(|c| c["object"] == "chat.completion.chunk" && c["id"] == last["id"]));
    assert!(chunks.iter().all(|c| c.get("usage") == Some(&Value::Null)));
    let reason = choice["finish_reason"].as_str().map(str::to_owned);
    assert_eq!(joined(chunks, "/delta/content"), [(said.to_owned(), reason)]);
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], usage["total_tokens"]);

    // Without being asked for, no usage comes.
    let (chunks, done) = server.stream(CHAT, &chat(json!({"stream": true}))).events();
    assert!(done && chunks.iter().all(|c| c.get("usage").is_none()));
}

#[test]
fn several_answers_have_seeds_of_their_own() {
    let server = Server::start();
    let with =
        |fields: Value| chat(over(json!({"temperature": 1.5, "top_k": -1, "top_p": 1}), fields));
    let texts = |reply: &Value| -> Vec<String> {
        let choices = reply["choices"].as_array().unwrap();
        let indices: Vec<u64> = choices.iter().map(|c| c["index"].as_u64().unwrap()).collect();
        assert!(indices.iter().copied().eq(0..choices.len() as u64));
        choices.iter().map(|c| c["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let reply = server.post(CHAT, &with(json!({"n": 3, "seed": 7}))).ok();
    let three = texts(&reply);
    assert_eq!(three.len(), 3);
    let single = server.post(CHAT, &with(json!({"seed": 9}))).ok();
    assert_eq!(texts(&single)[0], three[2]);
    assert_ne!(three[0], three[2]);
    // The prompt counts once, the answers all.
    assert_eq!(reply["usage"]["prompt_tokens"], single["usage"]["prompt_tokens"]);
    assert!(reply.get("timings").is_none());

    let (chunks, done) =
        server.stream(CHAT, &with(json!({"n": 3, "seed": 7, "stream": true}))).events();
    assert!(done);
    let streamed = joined(&chunks, "/delta/content");
    assert!(streamed.iter().all(|(_, reason)| reason.is_some()));
    assert!(streamed.iter().map(|(text, _)| text).eq(&three));
}

#[test]
fn lengths_stops_and_biases_hold() {
    let server = Server::start();
    let forced = |fields: Value| {
        let reply = server.post(CHAT, &chat(over(json!({"logit_bias": only_a()}), fields))).ok();
        let choice = reply["choices"][0].clone();
        let text = choice["message"]["content"].as_str().unwrap().to_owned();
        let count = reply["usage"]["completion_tokens"].as_u64().unwrap();
        (text, choice["finish_reason"].as_str().unwrap().to_owned(), count)
    };
    let a = |n: usize| "a".repeat(n);
    assert_eq!(forced(json!({})), (a(12), "length".into(), 12));
    assert_eq!(forced(json!({"max_completion_tokens": 3})), (a(3), "length".into(), 3));
    let (text, reason, _) = forced(json!({"max_tokens": -1, "num_ctx": 128}));
    assert!(text.len() > 12 && reason == "length", "{text} {reason}");
    assert_eq!(forced(json!({"stop": "aaaa"})), (String::new(), "stop".into(), 4));
    assert_eq!(forced(json!({"stop": ["b", "aa"]})).0, "");
    assert_eq!(forced(json!({"stop": null})).2, 12);
    // A forbidden token does not come, though all others may.
    let body = chat(json!({"logit_bias": {"97": 100, "98": 99}, "temperature": 0}));
    let only = server.post(CHAT, &over(body, json!({"logit_bias": {"97": -100, "98": 100}}))).ok();
    assert_eq!(only["choices"][0]["message"]["content"], "b".repeat(12));
}

#[test]
fn probabilities_are_of_every_token() {
    let server = Server::start();
    let fields = json!({"logit_bias": only_a(), "logprobs": true, "top_logprobs": 3});
    let reply = server.post(CHAT, &chat(fields.clone())).ok();
    let told = reply["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(told.len(), 12);
    for token in &told {
        assert_eq!((&token["token"], &token["bytes"]), (&json!("a"), &json!([97])));
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64());
    }
    let (chunks, _) = server.stream(CHAT, &chat(over(fields, json!({"stream": true})))).events();
    let lists = chunks.iter().filter_map(|c| c["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(lists.flatten().cloned().collect::<Vec<_>>(), told);

    let reply = server.post(TEXT, &text(json!({"logit_bias": only_a(), "logprobs": 2}))).ok();
    let told = &reply["choices"][0]["logprobs"];
    assert_eq!(told["text_offset"], json!((0..12).collect::<Vec<_>>()));
    assert_eq!(told["tokens"].as_array().unwrap().len(), 12);
    assert_eq!(told["token_logprobs"].as_array().unwrap().len(), 12);
    assert!(told["top_logprobs"][0].as_object().unwrap().contains_key("a"));
}

#[test]
fn thinking_goes_apart_and_can_be_left_out() {
    let server = Server::start();
    let ask = |fields: Value| {
        let fields = over(json!({"model": "thinker", "logit_bias": only_a()}), fields);
        server.post(CHAT, &chat(fields)).ok()
    };
    let reply = ask(json!({}));
    let message = &reply["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "a".repeat(12));
    assert_eq!(
        (&message["reasoning"], &message["content"]),
        (&message["reasoning_content"], &json!(""))
    );
    let thought = &reply["usage"]["completion_tokens_details"]["reasoning_tokens"];
    assert!(thought.as_u64().unwrap() > 0);
    for off in [
        json!({"reasoning_effort": "none"}),
        json!({"reasoning": {"effort": "none"}}),
        json!({"reasoning": {"enabled": false}}),
        json!({"chat_template_kwargs": {"enable_thinking": false}}),
    ] {
        let message = &ask(off.clone())["choices"][0]["message"];
        assert_eq!(message["content"], "a".repeat(12), "{off}");
        assert!(message.get("reasoning_content").is_none());
    }
    let fields = json!({"model": "thinker", "logit_bias": only_a(), "stream": true, "reasoning_effort": "high"});
    let (chunks, _) = server.stream(CHAT, &chat(fields)).events();
    assert_eq!(joined(&chunks, "/delta/reasoning_content")[0].0, "a".repeat(12));
    // A model that cannot think is given no hint.
    server.post(CHAT, &chat(json!({"reasoning_effort": "high"}))).ok();
}

#[test]
fn a_prompt_that_does_not_fit_is_refused_or_cut_aloud() {
    let server = Server::start();
    let messages = json!([
        {"role": "user", "content": "x".repeat(1000)},
        {"role": "assistant", "content": "y"},
        {"role": "user", "content": "z"},
    ]);
    let error = refused(&server.post(CHAT, &chat(json!({"messages": messages}))), 400, None);
    assert_eq!(error["code"], "context_length_exceeded");
    let cut = server.post(CHAT, &chat(json!({"messages": messages, "truncate": true})));
    let dropped = cut.ok()["dropped_tokens"].as_u64().unwrap();
    assert!(dropped > 1000);
    assert_eq!(cut.header("x-hob-dropped-tokens"), Some(dropped.to_string().as_str()));
    let error = refused(&server.post(CHAT, &chat(json!({"num_ctx": 16}))), 400, None);
    assert_eq!(error["code"], "context_length_exceeded");
}

#[test]
fn answers_have_the_form_that_is_asked_for() {
    let server = Server::start();
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["ok"],
        "properties": {"ok": {"type": "boolean"}}});
    let said = |path: &str, body: Value| {
        let reply = server.post(path, &body).ok();
        let choice = &reply["choices"][0];
        assert_eq!(choice["finish_reason"], "stop", "{reply}");
        let text = choice["text"].as_str().or_else(|| choice["message"]["content"].as_str());
        text.unwrap().to_owned()
    };
    let named = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    for fields in
        [json!({"response_format": named}), json!({"structured_outputs": {"json": schema}})]
    {
        let text = said(CHAT, chat(over(json!({"max_tokens": 400}), fields)));
        assert!(serde_json::from_str::<Value>(&text).unwrap()["ok"].is_boolean(), "{text}");
    }
    let texts = ["left.", "right?", "(c)"];
    let chosen = said(TEXT, text(json!({"guided_choice": texts})));
    assert!(texts.contains(&chosen.as_str()), "{chosen}");
    assert_eq!(said(CHAT, chat(json!({"regex": "a{3}b"}))), "aaab");
    assert_eq!(said(CHAT, chat(json!({"grammar": "start: \"x\" \"y\""}))), "xy");
    // Thinking is free.
    let fields = json!({"model": "thinker", "regex": "a{3}b", "reasoning_effort": "none"});
    assert_eq!(said(CHAT, chat(fields)), "aaab");
}

#[test]
fn demanded_calls_come() {
    let server = Server::start();
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object",
            "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": false}}})
    };
    let named = json!({"type": "function", "function": {"name": "g"}});
    let body =
        chat(json!({"tools": [tool("f"), tool("g")], "tool_choice": named, "max_tokens": 400,
        "parallel_tool_calls": false}));
    let reply = server.post(CHAT, &body).ok();
    let choice = &reply["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &Value::Null)
    );
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("g")), "{reply}");
    let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(arguments).unwrap()["yes"].is_boolean());

    let (chunks, done) = server.stream(CHAT, &over(body.clone(), json!({"stream": true}))).events();
    assert!(done);
    let first =
        chunks.iter().find_map(|c| c["choices"][0]["delta"]["tool_calls"].as_array()).unwrap();
    assert_eq!(
        (&first[0]["function"]["name"], &first[0]["type"]),
        (&json!("g"), &json!("function"))
    );
    assert!(first[0]["id"].as_str().is_some_and(|id| !id.is_empty()));
    let streamed = joined(&chunks, "/delta/tool_calls/0/function/arguments");
    assert_eq!(streamed, [(arguments.to_owned(), Some("tool_calls".to_owned()))]);

    // The older form.
    let functions = json!([tool("f")["function"]]);
    let body =
        chat(json!({"functions": functions, "function_call": {"name": "f"}, "max_tokens": 400}));
    let choice = server.post(CHAT, &body).ok()["choices"][0].clone();
    assert_eq!(
        (&choice["message"]["function_call"]["name"], &choice["finish_reason"]),
        (&json!("f"), &json!("function_call"))
    );
}

#[test]
fn models_that_cannot_are_told_apart() {
    let server = Server::start();
    let tool =
        json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let with = |model: &str| chat(json!({"model": model, "tools": [tool]}));
    server.post(CHAT, &with("tiny")).ok();
    refused(&server.post(CHAT, &with("thinker")), 400, Some("tools"));
    refused(&server.post(CHAT, &chat(json!({"model": "base"}))), 400, None);
    refused(&server.post(CHAT, &chat(json!({"model": "vectors"}))), 400, None);
    refused(&server.post(TEXT, &text(json!({"suffix": "x"}))), 400, Some("suffix"));
    for model in ["nobody", "nobody:7b", "some/nobody"] {
        let error = refused(&server.post(CHAT, &chat(json!({"model": model}))), 404, Some("model"));
        assert_eq!(error["code"], "model_not_found");
    }
    let error = server.post("/v1/nothing", &json!({})).expect(404)["error"].clone();
    assert_eq!(error["type"], "invalid_request_error");
}

#[test]
fn bad_fields_are_refused_by_their_names() {
    let server = Server::start();
    let huge = json!(u64::MAX);
    for (fields, param) in [
        (json!({"model": null}), "model"),
        (json!({"model": 5}), "model"),
        (json!({"messages": null}), "messages"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0]",
        ),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"temperature": 1e308}), "temperature"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"min_p": -1}), "min_p"),
        (json!({"typical_p": 2}), "typical_p"),
        (json!({"top_k": -2}), "top_k"),
        (json!({"top_k": 1.5}), "top_k"),
        (json!({"presence_penalty": 2.5}), "presence_penalty"),
        (json!({"frequency_penalty": -2.5}), "frequency_penalty"),
        (json!({"repeat_penalty": 0}), "repeat_penalty"),
        (json!({"repeat_last_n": -7}), "repeat_last_n"),
        (json!({"seed": huge}), "seed"),
        (json!({"seed": "x"}), "seed"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -2}), "max_tokens"),
        (json!({"max_tokens": huge}), "max_tokens"),
        (json!({"max_completion_tokens": 0}), "max_completion_tokens"),
        (json!({"n": 0}), "n"),
        (json!({"n": 65}), "n"),
        (json!({"n": huge}), "n"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": [1]}), "stop"),
        (json!({"stop": vec!["x"; 17]}), "stop"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias.x"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias.1"),
        (json!({"logit_bias": {"999999": 1}}), "logit_bias"),
        (json!({"logit_bias": []}), "logit_bias"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"logprobs": "yes"}), "logprobs"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
        (json!({"response_format": {"type": "yaml"}}), "response_format.type"),
        (json!({"reasoning_effort": "mad"}), "reasoning_effort"),
        (json!({"tools": [{"type": "custom"}]}), "tools[0].type"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"audio": {"voice": "x"}}), "audio"),
        (json!({"web_search_options": {}}), "web_search_options"),
        (json!({"num_ctx": 0}), "num_ctx"),
        (json!({"options": {"num_ctx": -1}}), "num_ctx"),
        (json!({"keep_alive": "soon"}), "keep_alive"),
        (json!({"priority": 128}), "priority"),
        (json!({"chat_template": "{% nonsense %}"}), "chat_template"),
        (json!({"regex": "("}), "regex"),
        (json!({"guided_json": {"type": "nonsense"}}), "guided_json"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}}}),
            "response_format",
        ),
        (json!({"chat_template_kwargs": 5}), "chat_template_kwargs"),
    ] {
        let reply = server.post(CHAT, &chat(fields.clone()));
        assert_eq!(reply.status, 400, "{fields}: {}", reply.body);
        refused(&reply, 400, Some(param));
    }
    for (fields, param) in [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [[1], "x", {}]}), "prompt[2]"),
        (json!({"best_of": 2}), "best_of"),
        (json!({"logprobs": 21}), "logprobs"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"echo": true, "logprobs": 0}), "echo"),
        (json!({"prompt": vec!["x"; 129]}), "prompt"),
        (json!({"prompt": vec!["x"; 100], "n": 3}), "n"),
        (json!({"prompt": [1, 2], "suffix": "x"}), "suffix"),
        (json!({"max_tokens": -2}), "max_tokens"),
    ] {
        let reply = server.post(TEXT, &text(fields.clone()));
        assert_eq!(reply.status, 400, "{fields}: {}", reply.body);
        refused(&reply, 400, Some(param));
    }
    for body in ["", "{", "[]", "\"x\"", "7"] {
        refused(&server.post_text(CHAT, body), 400, None);
    }
    // Null is absent, and what nobody knows is passed over.
    let nulls = [
        "n",
        "seed",
        "stop",
        "tools",
        "tool_choice",
        "response_format",
        "logit_bias",
        "stream_options",
    ];
    let nulls = nulls.into_iter().map(|name| (name.to_owned(), Value::Null)).collect();
    server.post(CHAT, &chat(Value::Object(nulls))).ok();
    server.post(CHAT, &chat(json!({"user": "u", "store": true, "metadata": {}, "service_tier": "auto", "x": [1]}))).ok();
}

#[test]
fn texts_are_continued_one_or_many() {
    let server = Server::start();
    let reply = server.post(TEXT, &text(json!({}))).ok();
    assert!(reply["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(reply["object"], "text_completion");
    let said = reply["choices"][0]["text"].as_str().unwrap().to_owned();
    let same = server.post(TEXT, &text(json!({"prompt": [97, 98, 99]}))).ok();
    assert_eq!(same["choices"][0]["text"], said);
    let echoed = server.post(TEXT, &text(json!({"echo": true}))).ok();
    assert_eq!(echoed["choices"][0]["text"], format!("abc{said}"));
    let many = server.post(TEXT, &text(json!({"prompt": ["abc", "x", "abc"], "n": 2}))).ok();
    let choices = many["choices"].as_array().unwrap();
    assert!(choices.iter().map(|c| c["index"].as_u64().unwrap()).eq(0..6));
    for index in [0, 1, 4, 5] {
        assert_eq!(choices[index]["text"], said);
    }
    assert_eq!(many["usage"]["prompt_tokens"], 7);
    let body = text(json!({"prompt": ["abc", "abc"], "echo": true, "stream": true}));
    let (chunks, done) = server.stream(TEXT, &body).events();
    assert!(done && chunks.iter().all(|c| c["object"] == "text_completion"));
    assert!(joined(&chunks, "/text").iter().all(|(text, _)| *text == format!("abc{said}")));
    // Sixteen tokens are usual here.
    let usual = text(json!({"max_tokens": null, "logit_bias": only_a()}));
    assert_eq!(server.post(TEXT, &usual).ok()["choices"][0]["text"], "a".repeat(16));
}

#[test]
fn embeddings_are_numbers_or_bytes() {
    let server = Server::start();
    let ask = |fields: Value| {
        server.post(
            "/v1/embeddings",
            &over(json!({"model": "vectors", "input": ["one", "two"]}), fields),
        )
    };
    let vectors = |reply: &Value| -> Vec<Vec<f32>> {
        let data = reply["data"].as_array().unwrap().iter();
        data.map(|d| serde_json::from_value(d["embedding"].clone()).unwrap()).collect()
    };
    let reply = ask(json!({})).ok();
    assert_eq!((&reply["object"], &reply["data"][1]["index"]), (&json!("list"), &json!(1)));
    assert!(reply["usage"]["prompt_tokens"].as_u64().unwrap() >= 6);
    let plain = vectors(&reply);
    let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>();
    assert!(plain.iter().all(|v| v.len() == 64 && (length(v) - 1.0).abs() < 1e-5));
    assert_ne!(plain[0], plain[1]);

    let coded = ask(json!({"encoding_format": "base64"})).ok();
    let bytes = STANDARD.decode(coded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let floats = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    assert!(floats.eq(plain[0].iter().copied()));

    let short = vectors(&ask(json!({"dimensions": 8})).ok());
    assert!(short[0].len() == 8 && (length(&short[0]) - 1.0).abs() < 1e-5);
    let cut = ask(json!({"input": "x".repeat(5000), "truncate": true}));
    assert!(cut.ok()["dropped_tokens"].as_u64().unwrap() > 3000);
    let single = vectors(&ask(json!({"input": "one"})).ok());
    assert_eq!(single, [plain[0].clone()]);
    let tokens = vectors(&ask(json!({"input": [[111, 110, 101], [116]]})).ok());
    assert_eq!(tokens.len(), 2);
    // A model that writes text has vectors, too.
    assert_eq!(vectors(&ask(json!({"model": "tiny"})).ok()).len(), 2);

    for (fields, param) in [
        (json!({"input": null}), Some("input")),
        (json!({"input": []}), Some("input")),
        (json!({"input": {"a": 1}}), Some("input")),
        (json!({"input": vec!["x"; 2049]}), Some("input")),
        (json!({"encoding_format": "hex"}), Some("encoding_format")),
        (json!({"dimensions": 0}), Some("dimensions")),
        (json!({"dimensions": 65}), Some("dimensions")),
        (json!({"input": [[999999]]}), None),
        (json!({"input": "x".repeat(5000)}), Some("input")),
    ] {
        let reply = ask(fields.clone());
        assert_eq!(reply.status, 400, "{fields}: {}", reply.body);
        refused(&reply, 400, param);
    }
}

#[test]
fn models_are_listed_in_the_form_of_who_asks() {
    let server = Server::start();
    server.add("someone/mine:v1", &hob_testkit::Tiny::new(hob_testkit::Family::Llama));
    let list = server.get("/v1/models").ok();
    assert_eq!(list["object"], "list");
    let named = |id: &str| {
        let data = list["data"].as_array().unwrap().iter();
        data.clone().find(|m| m["id"] == id).unwrap_or_else(|| panic!("no {id} in {list}"))
    };
    assert_eq!(named("tiny:latest")["owned_by"], "library");
    let mine = named("someone/mine:v1");
    assert_eq!((&mine["object"], &mine["owned_by"]), (&json!("model"), &json!("someone")));
    assert!(mine["created"].as_u64().unwrap() > 1_700_000_000);
    for path in ["/v1/models/someone/mine:v1", "/v1/models/someone%2Fmine%3Av1"] {
        assert_eq!(server.get(path).ok(), *mine);
    }
    assert_eq!(server.get("/v1/models/tiny").ok()["id"], "tiny:latest");
    let error = refused(&server.get("/v1/models/nobody"), 404, Some("model"));
    assert_eq!(error["code"], "model_not_found");

    let theirs = [("anthropic-version", "2023-06-01")];
    let list = server.request("GET", "/v1/models", &theirs, None).ok();
    assert_eq!((&list["has_more"], &list["first_id"]), (&json!(false), &list["data"][0]["id"]));
    let one = server.request("GET", "/v1/models/tiny", &theirs, None).ok();
    assert_eq!((&one["type"], &one["id"]), (&json!("model"), &json!("tiny:latest")));
    assert!(one["created_at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn documents_are_ranked_by_nearness() {
    let server = Server::start();
    let body = json!({"model": "vectors", "query": "alpha", "documents": ["beta", {"text": "alpha"}, "gamma ray"],
        "return_documents": true});
    for path in ["/v1/rerank", "/v1/reranking", "/rerank"] {
        let reply = server.post(path, &body).ok();
        let results = reply["results"].as_array().unwrap();
        assert_eq!(results.len(), 3);
        assert_eq!(
            (&results[0]["index"], &results[0]["document"]["text"]),
            (&json!(1), &json!("alpha"))
        );
        let scores: Vec<f64> =
            results.iter().map(|r| r["relevance_score"].as_f64().unwrap()).collect();
        assert!((scores[0] - 1.0).abs() < 1e-5 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        for (fields, param) in [
            (json!({"query": ""}), "query"),
            (json!({"documents": []}), "documents"),
            (json!({"documents": [5]}), "documents[0]"),
            (json!({"top_n": 0}), "top_n"),
        ] {
            refused(&server.post(path, &over(body.clone(), fields)), 400, Some(param));
        }
    }
    // A cross-encoder, by its way of pooling.
    let mut bytes = hob_testkit::Tiny::new(hob_testkit::Family::Bert).bytes();
    let key = b"bert.pooling_type";
    let at = bytes.windows(key.len()).position(|w| w == key).unwrap() + key.len();
    bytes[at + 4..at + 8].copy_from_slice(&4u32.to_le_bytes());
    server.add_bytes("ranker", &bytes);
    let reply = server.post("/rerank", &over(body.clone(), json!({"model": "ranker"})));
    let error = refused(&reply, 400, Some("model"));
    assert!(error["message"].as_str().unwrap().contains("cannot be run yet"), "{error}");
    let best =
        server.post("/rerank", &over(body, json!({"top_n": 1, "return_documents": false}))).ok();
    assert_eq!(best["results"].as_array().unwrap().len(), 1);
    assert!(best["results"][0].get("document").is_none());
}

#[test]
fn smollm2_answers_a_question() {
    let Some(server) = Server::smollm2() else { return };
    let question = "What is the capital city of France? Answer in one sentence.";
    let body = json!({"model": "smollm2:135m", "temperature": 0, "max_tokens": 32,
        "messages": [{"role": "user", "content": question}]});
    let reply = server.post(CHAT, &body).ok();
    let said = reply["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(said.contains("Paris"), "{said}");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");
    let (chunks, done) = server.stream(CHAT, &over(body, json!({"stream": true}))).events();
    assert!(done);
    assert_eq!(joined(&chunks, "/delta/content")[0].0, said);
}
