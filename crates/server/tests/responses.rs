//! OpenAI's Responses API over a socket. Streams are held against a machine that knows which event may follow which, and against the response
//! that is not streamed.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{Server, Stream};
use serde_json::{Value, json};

/// A request of one word, whose answer is always the same.
fn request(model: &str, extra: Value) -> Value {
    let mut request =
        json!({"model": model, "max_output_tokens": 24, "temperature": 0, "input": "hello"});
    for (name, value) in extra.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

/// The response of a stream's last event; all before is held against it.
fn streamed(mut stream: Stream) -> Value {
    assert_eq!(stream.status, 200);
    let (mut number, mut items, mut last) = (0, Vec::<Item>::new(), Value::Null);
    while let Some((name, data)) = stream.event() {
        let data: Value = serde_json::from_str(&data).unwrap();
        let name = name.unwrap();
        assert_eq!((&data["type"], &data["sequence_number"]), (&json!(name), &json!(number)));
        assert_eq!(last, Value::Null, "behind the end: {data}");
        let response = &data["response"];
        match (number, name.as_str()) {
            (0, "response.created") | (1, "response.in_progress") => {
                assert_eq!(
                    (&response["status"], &response["output"]),
                    (&json!("in_progress"), &json!([]))
                );
            }
            (0 | 1, other) => panic!("{other} at the beginning"),
            (_, "response.completed" | "response.incomplete" | "response.failed") => {
                assert_eq!(name, format!("response.{}", response["status"].as_str().unwrap()));
                last = response.clone();
            }
            (_, "response.output_item.added") => {
                assert!(items.last().is_none_or(|item| item.done));
                assert_eq!(data["output_index"], items.len());
                items.push(Item::new(&data["item"]));
            }
            (_, name) => {
                assert_eq!(data["output_index"], items.len() - 1);
                items.last_mut().unwrap().event(name, &data);
            }
        }
        number += 1;
    }
    if last["status"] != "failed" {
        assert!(items.iter().all(|item| item.done));
        let made: Vec<Value> = items.into_iter().map(|item| item.value).collect();
        assert_eq!(last["output"], json!(made));
    }
    last
}

/// An item as its events make it up.
struct Item {
    value: Value,
    text: String,
    part: bool,
    done: bool,
}

impl Item {
    fn new(value: &Value) -> Item {
        Item { value: value.clone(), text: String::new(), part: false, done: false }
    }

    fn event(&mut self, name: &str, data: &Value) {
        assert!(!self.done);
        let kind = self.value["type"].as_str().unwrap().to_owned();
        if name == "response.output_item.done" {
            assert!(!self.part);
            assert_eq!(data["item"]["id"], self.value["id"]);
            self.value = data["item"].clone();
            let whole = match kind.as_str() {
                "function_call" => &self.value["arguments"],
                "message" => &self.value["content"][0]["text"],
                _ => self.value["summary"]
                    .get(0)
                    .map_or(&self.value["content"][0]["text"], |p| &p["text"]),
            };
            assert_eq!(*whole, *self.text);
            self.done = true;
            return;
        }
        assert_eq!(data["item_id"], self.value["id"]);
        let name = name.strip_prefix("response.").unwrap();
        let expected = match kind.as_str() {
            "function_call" => "function_call_arguments",
            "message" => "content_part output_text",
            _ => "content_part reasoning_text reasoning_summary_part reasoning_summary_text",
        };
        let (stem, end) = name.rsplit_once('.').unwrap();
        assert!(expected.split(' ').any(|name| name == stem), "{name} in {kind}");
        match end {
            "added" => assert!(!std::mem::replace(&mut self.part, true)),
            "delta" => {
                assert!(self.part || kind == "function_call");
                self.text += data["delta"].as_str().unwrap();
            }
            "done" if stem.ends_with("_part") => {
                assert!(std::mem::replace(&mut self.part, false));
                assert_eq!(data["part"]["text"], *self.text);
            }
            "done" => {
                let name = if kind == "function_call" { "arguments" } else { "text" };
                assert_eq!(data[name], *self.text);
            }
            other => panic!("{other}"),
        }
    }
}

/// Without what differs between two answers that are the same.
fn bare(mut response: Value) -> Value {
    for name in ["id", "created_at"] {
        response[name] = Value::Null;
    }
    response["usage"]["input_tokens_details"] = Value::Null;
    for item in response["output"].as_array_mut().unwrap() {
        (item["id"], item["call_id"]) = (Value::Null, Value::Null);
    }
    response
}

#[test]
fn a_response_and_its_stream_are_the_same() {
    let server = Server::start();
    for (model, extra) in [
        ("tiny", json!({})),
        ("tiny", json!({"temperature": 1.5, "seed": 7, "top_p": 0.9})),
        ("tiny", json!({"top_logprobs": 2})),
        ("tiny", json!({"instructions": "s", "reasoning": {"effort": "high"}})),
        ("thinker", json!({})),
        ("thinker", json!({"reasoning": {"summary": "auto"}})),
        ("thinker", json!({"reasoning": {"effort": "none"}})),
    ] {
        let mut request = request(model, extra.clone());
        let whole = server.post("/v1/responses", &request).ok();
        assert!(whole["id"].as_str().unwrap().starts_with("resp_"));
        assert_eq!((&whole["object"], &whole["model"]), (&json!("response"), &json!(model)));
        request["stream"] = true.into();
        let streamed = streamed(server.stream("/v1/responses", &request));
        assert_eq!(bare(streamed), bare(whole), "{model} {extra}");
    }
}

#[test]
fn thoughts_are_items_of_their_own() {
    let server = Server::start();
    let first = |extra: Value| {
        let response = server.post("/v1/responses", &request("thinker", extra)).ok();
        (response["output"][0].clone(), response["usage"].clone())
    };
    let (item, usage) = first(json!({}));
    assert_eq!((&item["type"], &item["summary"]), (&json!("reasoning"), &json!([])));
    assert_eq!(item["content"][0]["type"], "reasoning_text");
    assert!(usage["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap() > 0);
    let (item, _) = first(json!({"reasoning": {"summary": "auto"}}));
    assert_eq!(item["summary"][0]["type"], "summary_text");
    let (item, usage) = first(json!({"reasoning": {"effort": "none"}}));
    assert_eq!(item["type"], "message");
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 0);
}

#[test]
fn usage_and_settings_are_told() {
    let server = Server::start();
    let extra = json!({"max_output_tokens": 3, "metadata": {"a": "b"}, "user": "u", "truncation": "auto",
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": false}, {"type": "web_search"}]});
    let whole = server.post("/v1/responses", &request("tiny", extra)).ok();
    assert_eq!(whole["status"], "incomplete");
    assert_eq!(whole["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(whole["tools"].as_array().unwrap().len(), 1);
    let said =
        [&whole["metadata"]["a"], &whole["user"], &whole["truncation"], &whole["tool_choice"]];
    assert_eq!(said, ["b", "u", "auto", "auto"]);
    assert_eq!((&whole["temperature"], &whole["top_p"]), (&json!(0.0), &json!(0.9)));
    let usage = &whole["usage"];
    assert_eq!(usage["output_tokens"], 3);
    let sum = usage["input_tokens"].as_u64().unwrap() + 3;
    assert_eq!(usage["total_tokens"], sum);
    let part = &whole["output"][0]["content"][0];
    assert_eq!((&part["type"], &part["annotations"]), (&json!("output_text"), &json!([])));
}

#[test]
fn probabilities_come_with_their_text() {
    let server = Server::start();
    let whole = server.post("/v1/responses", &request("tiny", json!({"top_logprobs": 2}))).ok();
    let part = &whole["output"][0]["content"][0];
    let tokens = part["logprobs"].as_array().unwrap();
    assert!(!tokens.is_empty());
    for token in tokens {
        assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    let none = server.post("/v1/responses", &request("tiny", json!({}))).ok();
    assert_eq!(none["output"][0]["content"][0]["logprobs"], json!([]));
}

#[test]
fn a_conversation_goes_on_from_a_kept_response() {
    let server = Server::start();
    let create = |extra: Value| server.post("/v1/responses", &request("tiny", extra)).ok();
    let first = create(json!({"input": "a", "instructions": "gone"}));
    let said = &first["output"][0]["content"][0]["text"];
    let id = first["id"].as_str().unwrap();
    let second = create(json!({"input": "b", "previous_response_id": id}));
    assert_eq!(second["previous_response_id"], id);
    let by_hand = create(json!({"input": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": said}, {"role": "user", "content": "b"}]}));
    assert_eq!(second["usage"]["input_tokens"], by_hand["usage"]["input_tokens"]);
    assert_eq!(bare(second.clone())["output"], bare(by_hand)["output"]);
    let third = create(json!({"input": "c", "previous_response_id": second["id"]}));
    assert!(third["usage"]["input_tokens"].as_u64() > second["usage"]["input_tokens"].as_u64());
    let item = json!({"type": "item_reference", "id": first["output"][0]["id"]});
    let referring = create(
        json!({"input": [{"role": "user", "content": "a"}, item, {"role": "user", "content": "b"}]}),
    );
    assert_eq!(referring["usage"]["input_tokens"], second["usage"]["input_tokens"]);
}

#[test]
fn kept_responses_can_be_asked_for_and_deleted() {
    let server = Server::start();
    let mut body = request(
        "tiny",
        json!({"input": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}),
    );
    let whole = server.post("/v1/responses", &body).ok();
    let path = format!("/v1/responses/{}", whole["id"].as_str().unwrap());
    assert_eq!(server.get(&path).ok(), whole);
    let texts = |query: &str| {
        let page = server.get(&format!("{path}/input_items{query}")).ok();
        let texts = page["data"].as_array().unwrap().iter().map(|item| item["content"].clone());
        (texts.collect::<Vec<_>>(), page)
    };
    assert_eq!(texts("").0, ["b", "a"]);
    let (first, page) = texts("?order=asc&limit=1");
    assert_eq!((first, &page["has_more"]), (vec![json!("a")], &json!(true)));
    let rest = texts(&format!("?order=asc&after={}", page["last_id"].as_str().unwrap()));
    assert_eq!((rest.0, &rest.1["has_more"]), (vec![json!("b")], &json!(false)));
    server.get(&format!("{path}/input_items?limit=0")).expect(400);
    server.get(&format!("{path}/input_items?limit=x")).expect(400);
    server.get(&format!("{path}?stream=true")).expect(400);
    server.post(&format!("{path}/cancel"), &json!({})).expect(400);
    let other = server.request("GET", &path, &[("x-hob-client", "somebody else")], None);
    other.expect(404);
    assert_eq!(server.delete(&path, None).ok()["deleted"], true);
    let gone = server.get(&path).expect(404)["error"]["message"].as_str().unwrap().to_owned();
    assert!(gone.contains("not found"), "{gone}");
    server.delete(&path, None).expect(404);

    body["stream"] = true.into();
    let kept = streamed(server.stream("/v1/responses", &body));
    assert_eq!(server.get(&format!("/v1/responses/{}", kept["id"].as_str().unwrap())).ok(), kept);
    body["store"] = false.into();
    let fleeting = streamed(server.stream("/v1/responses", &body));
    server.get(&format!("/v1/responses/{}", fleeting["id"].as_str().unwrap())).expect(404);
}

#[test]
fn a_turn_of_codex_is_taken() {
    let server = Server::start();
    let text = |role: &str, text: &str| json!({"type": "message", "id": "msg_1", "role": role, "content": [{"type": "input_text", "text": text}]});
    let input = json!([text("developer", "a"), text("developer", "b"), text("user", "c"), text("user", "d"),
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "status": "completed", "id": "fc_1", "name": "shell", "arguments": "{\"x\":1}", "call_id": "c1"},
        {"type": "function_call_output", "id": "fo_1", "call_id": "c1", "output": "ok"}]);
    let function = json!({"type": "function", "name": "shell", "strict": false, "parameters": {"type": "object"}});
    let extra = json!({"input": input, "stream": true, "store": false, "include": ["reasoning.encrypted_content"],
        "tools": [function, {"type": "namespace", "name": "n", "tools": []}, {"type": "web_search"}],
        "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"summary": "auto"},
        "prompt_cache_key": "k", "client_metadata": {"a": "b"}});
    let response = streamed(server.stream("/v1/responses", &request("tiny", extra)));
    assert_eq!(response["tools"], json!([function]));
}

#[test]
fn errors_have_openai_s_form() {
    let server = Server::start();
    let refused =
        |body: Value, status| server.post("/v1/responses", &body).expect(status)["error"].clone();
    let error = refused(request("nobody", json!({})), 404);
    assert_eq!(error["code"], "model_not_found");
    let error = refused(request("tiny", json!({"previous_response_id": "resp_x"})), 400);
    let expected = (&json!("previous_response_not_found"), &json!("previous_response_id"));
    assert_eq!((&error["code"], &error["param"]), expected);
    let error = refused(request("tiny", json!({"background": true})), 400);
    assert_eq!(
        (&error["type"], &error["param"]),
        (&json!("invalid_request_error"), &json!("background"))
    );
    let reference = json!({"input": [{"type": "item_reference", "id": "x"}]});
    assert_eq!(refused(request("tiny", reference), 400)["param"], "input.0");
    let long = json!({"input": "x".repeat(5000)});
    assert_eq!(refused(request("tiny", long.clone()), 400)["code"], "context_length_exceeded");
    let mut long = request("tiny", long);
    long["stream"] = true.into();
    let failed = streamed(server.stream("/v1/responses", &long));
    assert_eq!(
        (&failed["status"], &failed["error"]["code"]),
        (&json!("failed"), &json!("context_length_exceeded"))
    );
    for bad in ["", "[]", "{", "{\"model\": 5}"] {
        assert!(server.post_text("/v1/responses", bad).expect(400)["error"]["message"].is_string());
    }
}
