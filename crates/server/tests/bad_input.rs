//! What no client should send: every field of every request with values that it does not expect, bodies that are none, and requests that are
//! small but ask for much. All of it is refused in the dialect's form, or answered, and harms nobody else. The fields are those of the
//! description of all routes.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Reply, Server, slow};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value, json};

/// Stands for what JSON cannot say.
const NAN: &str = "@NaN@";

/// A request of each route that is fine as it is, or refused for its model alone, with as few tokens as possible.
fn bases() -> Vec<(&'static str, Value)> {
    let said = json!([{"role": "user", "content": "hi"}]);
    let tool = json!([{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]);
    let options = json!({"num_predict": 2, "num_ctx": 512});
    let (short, few) = (json!({"num_ctx": 512}), json!(2));
    let answers = json!([{"role": "user", "content": "hi"},
        {"role": "assistant", "content": "x", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "y"}]);
    vec![
        ("/tokenize", json!({"model": "tiny", "content": "a b"})),
        ("/detokenize", json!({"model": "tiny", "tokens": [65, 66]})),
        (
            "/api/generate",
            json!({"model": "tiny", "prompt": "hi", "stream": false, "options": options}),
        ),
        (
            "/api/chat",
            json!({"model": "tiny", "messages": said, "tools": tool, "stream": false, "options": options}),
        ),
        (
            "/api/chat",
            json!({"model": "thinker", "messages": said, "think": true, "options": options}),
        ),
        ("/api/embed", json!({"model": "vectors", "input": "hi"})),
        ("/api/embeddings", json!({"model": "vectors", "prompt": "hi"})),
        ("/api/show", json!({"model": "tiny"})),
        ("/api/pull", json!({"model": "no name!", "stream": false})),
        ("/api/push", json!({"model": "no name!", "stream": false})),
        ("/api/create", json!({"model": "made", "from": "tiny", "stream": false})),
        ("/api/copy", json!({"source": "tiny", "destination": "copied"})),
        ("/api/delete", json!({"model": "gone"})),
        (
            "/v1/chat/completions",
            json!({"model": "tiny", "messages": said, "tools": tool, "max_tokens": few, "options": short}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "tiny", "messages": answers, "max_tokens": few, "stream": true, "options": short}),
        ),
        (
            "/v1/completions",
            json!({"model": "tiny", "prompt": "hi", "max_tokens": few, "num_ctx": 512}),
        ),
        ("/v1/embeddings", json!({"model": "vectors", "input": "hi"})),
        ("/v1/rerank", json!({"model": "vectors", "query": "hi", "documents": ["a", "b"]})),
        ("/v1/reranking", json!({"model": "vectors", "query": "hi", "documents": ["a", "b"]})),
        ("/rerank", json!({"model": "vectors", "query": "hi", "documents": ["a", "b"]})),
        (
            "/v1/responses",
            json!({"model": "tiny", "input": "hi", "max_output_tokens": few, "num_ctx": 512}),
        ),
        (
            "/v1/responses",
            json!({"model": "tiny", "input": said, "stream": true, "max_output_tokens": few, "num_ctx": 512}),
        ),
        (
            "/v1/messages",
            json!({"model": "tiny", "messages": said, "max_tokens": few, "num_ctx": 512}),
        ),
        (
            "/v1/messages",
            json!({"model": "thinker", "messages": said, "thinking": {"type": "enabled"}, "stream": true, "max_tokens": few}),
        ),
        ("/v1/messages/count_tokens", json!({"model": "tiny", "messages": said})),
    ]
}

/// Values that hardly any field expects; `None` takes the field away.
fn values() -> Vec<Option<Value>> {
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!({"a": deep});
    }
    let large = "x".repeat(10 << 20);
    let strange = [
        Value::Null,
        json!(""),
        json!(-1),
        json!(0),
        json!(1e308),
        json!(NAN),
        json!(1_u64 << 63),
        json!([]),
        deep,
        json!(large),
        json!(true),
        json!("\u{0}\u{202e}\u{10ffff}"),
        json!({}),
        json!([null]),
    ];
    std::iter::once(None).chain(strange.into_iter().map(Some)).collect()
}

/// A step into a request.
#[derive(Clone, Debug)]
enum Step {
    Key(String),
    First,
}

struct Document(Value);

impl Document {
    fn read() -> Document {
        Document(serde_json::from_str(hob_server::OPENAPI).unwrap())
    }

    fn resolved<'d>(&'d self, value: &'d Value) -> &'d Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.0.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    /// Where the fields of a route's request are.
    fn fields(&self, path: &str) -> Vec<Vec<Step>> {
        let item = self.0["paths"][path].as_object().unwrap();
        let body = item.values().find_map(|operation| operation.get("requestBody")).unwrap();
        let schema = &self.resolved(body)["content"]["application/json"]["schema"];
        let mut found = Vec::new();
        self.collect(schema, &[], &mut found);
        found
    }

    fn collect(&self, schema: &Value, at: &[Step], found: &mut Vec<Vec<Step>>) {
        let schema = self.resolved(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.collect(part, at, found);
        }
        let properties = schema["properties"].as_object().into_iter().flatten();
        let more = schema.get("additionalProperties").filter(|v| v.is_object());
        let more = more.map(|schema| ("65".to_owned(), schema));
        for (name, schema) in properties.map(|(name, schema)| (name.clone(), schema)).chain(more) {
            let mut path = at.to_vec();
            path.push(Step::Key(name));
            found.push(path.clone());
            self.collect(schema, &path, found);
        }
        if let Some(items) = schema.get("items") {
            let path = [at, &[Step::First]].concat();
            found.push(path.clone());
            self.collect(items, &path, found);
        }
    }
}

/// The request with this value there.
fn with(base: &Value, path: &[Step], value: Option<&Value>) -> Value {
    let mut request = base.clone();
    let (last, way) = path.split_last().unwrap();
    let mut place = &mut request;
    for step in way {
        place = match step {
            Step::Key(key) => {
                if !place.is_object() {
                    *place = json!({});
                }
                place.as_object_mut().unwrap().entry(key.clone()).or_insert(Value::Null)
            }
            Step::First => first(place),
        };
    }
    match (last, value) {
        (Step::Key(key), value) => {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let place = place.as_object_mut().unwrap();
            match value {
                Some(value) => drop(place.insert(key.clone(), value.clone())),
                None => drop(place.remove(key)),
            }
        }
        (Step::First, Some(value)) => *first(place) = value.clone(),
        (Step::First, None) => *place = json!([]),
    }
    request
}

fn first(place: &mut Value) -> &mut Value {
    if place.get(0).is_none() {
        *place = json!([null]);
    }
    &mut place[0]
}

/// Holds the answer against what any request may get; gives what is wrong.
fn wrong(path: &str, reply: &Reply) -> Option<String> {
    let told = || format!("{} {}", reply.status, short(&reply.body));
    match reply.status {
        200..=299 => {
            // A stream tells late what went wrong.
            let blamed = ["the server made a mistake", "a worker failed", "panicked", "api_error"];
            blamed.iter().any(|words| reply.body.contains(words)).then(told)
        }
        400..=499 => {
            let said: Value = serde_json::from_str(&reply.body).unwrap_or_default();
            let error = &said["error"];
            let texts = |names: &[&str]| names.iter().all(|name| error[name].is_string());
            let shaped = match path {
                _ if path.starts_with("/v1/messages") => {
                    said["type"] == "error" && texts(&["type", "message"])
                }
                _ if path.starts_with("/v1/") => {
                    texts(&["message", "type"])
                        && error.get("param").is_some()
                        && error.get("code").is_some()
                }
                _ => error.is_string(),
            };
            (!shaped).then(told)
        }
        _ => Some(told()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

fn method(path: &str) -> &'static str {
    if path == "/api/delete" { "DELETE" } else { "POST" }
}

/// The text of a request, with what JSON cannot say.
fn text(request: &Value) -> String {
    request.to_string().replace(&format!("\"{NAN}\""), "NaN")
}

#[test]
fn every_field_with_every_value_is_answered_or_refused() {
    let server = Server::start();
    let (document, values) = (Document::read(), values());
    let mut work = Vec::new();
    for (path, base) in bases() {
        let fine = server.request(method(path), path, &[], Some(&text(&base)));
        assert_eq!(wrong(path, &fine), None, "{path} {base}");
        let mut fields = document.fields(path);
        // Fields that are in the request and not in the description.
        let told: Vec<String> =
            fields.iter().filter(|f| f.len() == 1).map(|f| format!("{f:?}")).collect();
        for name in base.as_object().unwrap().keys() {
            let step = vec![Step::Key(name.clone())];
            assert!(told.contains(&format!("{step:?}")), "{path}: {name} is not described");
        }
        fields.sort_by_key(Vec::len);
        work.extend(fields.into_iter().map(|field| (path, base.clone(), field)));
    }
    assert!(work.len() > 300, "{}", work.len());
    let (next, faults) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((path, base, field)) = work.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    for value in &values {
                        // Large texts inside of others take the same ways.
                        if field.len() > 2
                            && value
                                .as_ref()
                                .is_some_and(|v| v.as_str().is_some_and(|t| t.len() > 1000))
                        {
                            continue;
                        }
                        let request = with(base, field, value.as_ref());
                        let reply = server.request(method(path), path, &[], Some(&text(&request)));
                        if let Some(wrong) = wrong(path, &reply) {
                            faults.fetch_add(1, Ordering::Relaxed);
                            eprintln!("{path} {}: {wrong}", short(&request.to_string()));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(faults.into_inner(), 0);
    server.get("/health").ok();
}

/// Every route that takes JSON.
fn posts() -> Vec<&'static str> {
    let mut paths: Vec<&str> = bases().into_iter().map(|(path, _)| path).collect();
    paths.dedup();
    paths
}

#[test]
fn bodies_that_are_no_requests_are_refused() {
    let server = Server::start();
    let depth = 100_000;
    for path in posts() {
        for body in [
            String::new(),
            " \n".to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
            "\"text\"".to_owned(),
            "{".to_owned(),
            "{\"model\":\"tiny\",}".to_owned(),
            "{\"model\":\"tiny\"} x".to_owned(),
            "\u{feff}{}".to_owned(),
            "[".repeat(depth),
            "{\"a\":".repeat(depth),
            format!("{}1{}", "[".repeat(depth), "]".repeat(depth)),
            format!(
                "{{\"model\":\"tiny\",\"options\":{}1{}}}",
                "{\"a\":".repeat(depth),
                "}".repeat(depth)
            ),
            format!("{{\"model\":{}}}", "9".repeat(100_000)),
        ] {
            let reply = server.request(method(path), path, &[], Some(&body));
            let told = format!("{path} {}: {} {}", short(&body), reply.status, short(&reply.body));
            assert!((400..500).contains(&reply.status), "{told}");
            assert_eq!(wrong(path, &reply), None, "{told}");
        }
    }
    // Bytes that are no text.
    let reply = raw(&server, b"POST /api/chat HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 4\r\n\r\n{\"\xff}");
    assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
}

/// Sends these bytes, ends, and gives what comes back.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn heads_that_lie_are_refused() {
    let server = Server::start();
    let body =
        json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": false,
        "options": {"num_predict": 1}})
        .to_string();
    let head = |more: &str, body: &str| {
        format!("POST /api/chat HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n\r\n{body}").into_bytes()
    };
    let length = |n: &dyn std::fmt::Display| format!("content-length: {n}");
    let fine = raw(&server, &head(&length(&body.len()), &body));
    assert!(fine.starts_with("HTTP/1.1 200"), "{fine}");
    for (more, body) in [
        (length(&(body.len() + 10)), body.as_str()),
        (length(&(body.len() - 10)), &body),
        (length(&-1), &body),
        (length(&"NaN"), &body),
        (length(&u128::MAX), &body),
        (length(&(1_u64 << 63)), &body),
        (format!("content-length: {}\r\ncontent-length: 5", body.len()), &body),
        ("transfer-encoding: chunked".to_owned(), &body),
        ("transfer-encoding: chunked".to_owned(), "5\r\n{\"mod\r\n"),
        ("transfer-encoding: chunked".to_owned(), "fffffffffffffffff\r\n{\"mod\r\n"),
        ("transfer-encoding: gzip".to_owned(), &body),
        (format!("x: {}\r\ncontent-length: {}", "y".repeat(1 << 20), body.len()), &body),
        (format!("{}content-length: {}", "a: b\r\n".repeat(10_000), body.len()), &body),
        ("\0: \0".to_owned(), &body),
    ] {
        let reply = raw(&server, &head(&more, body));
        let status = reply.get(9..10);
        // Of some heads nothing can be made: then the connection is closed.
        assert!(reply.is_empty() || status == Some("4"), "{}: {}", short(&more), short(&reply));
    }
    for at in 0..body.len() {
        let reply = raw(&server, &head(&length(&body.len()), &body[..at]));
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400"), "{at}: {}", short(&reply));
        let reply = raw(&server, &head(&length(&at), &body[..at]));
        assert!(reply.starts_with("HTTP/1.1 400"), "{at}: {}", short(&reply));
    }
    server.get("/health").ok();
}

fn packed(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(bytes).unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(bytes).unwrap();
    (gzip.finish().unwrap(), zlib.finish().unwrap())
}

#[test]
fn compressed_bodies_are_read_and_bombs_are_not() {
    let server = Server::start();
    let send = |coding: &str, body: &[u8]| {
        let head = format!(
            "POST /api/show HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        raw(&server, &[head.as_bytes(), body].concat())
    };
    let (gzip, zlib) = packed(b"{\"model\":\"tiny\"}");
    for (coding, body) in [("gzip", &gzip), ("GZIP", &gzip), ("x-gzip", &gzip), ("deflate", &zlib)]
    {
        let reply = send(coding, body);
        assert!(reply.starts_with("HTTP/1.1 200"), "{coding}: {reply}");
    }
    let spaces = vec![b' '; 65 << 20];
    let (gzip_bomb, zlib_bomb) = packed(&spaces);
    assert!(gzip_bomb.len() < 100_000);
    for (coding, body) in [("gzip", &gzip_bomb), ("deflate", &zlib_bomb)] {
        let reply = send(coding, body);
        assert!(reply.starts_with("HTTP/1.1 413"), "{coding}: {reply}");
        assert!(reply.contains("longer than"), "{reply}");
    }
    // A bomb of many members, which only ends when all are read.
    let (member, _) = packed(&spaces[..1 << 20]);
    let reply = send("gzip", &member.repeat(70));
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    for (coding, body, status) in [
        ("gzip", &gzip[..gzip.len() - 3], 400),
        ("gzip", b"nothing of the kind".as_slice(), 400),
        ("deflate", &gzip, 400),
        ("br", &gzip, 415),
        ("gzip, gzip", &gzip, 415),
        ("\u{e9}", &gzip, 415),
    ] {
        let reply = send(coding, body);
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{coding} {status}: {reply}");
    }
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let server = Server::start();
    let body = format!("{{\"model\":\"{}\"}}", "x".repeat(64 << 20));
    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
        let reply = server.post_text(path, &body);
        assert_eq!(reply.status, 413, "{path}");
        assert_eq!(wrong(path, &reply), None, "{path}: {}", reply.body);
    }
}

/// Somebody who is answered all the time.
fn beside<T>(server: &Server, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let (done, tokens) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut tokens = 0;
            while !over.load(Ordering::Relaxed) {
                let options = json!({"num_predict": 64, "temperature": 0});
                let request = json!({"model": "tiny", "prompt": "go on", "options": options});
                let mut stream = server.stream("/api/generate", &request);
                assert_eq!(stream.status, 200);
                let mut last = Value::Null;
                while let Some(line) = stream.json_line() {
                    tokens += 1;
                    last = line;
                }
                assert_eq!(last["done"], true, "{last}");
            }
            tokens
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        (done, reader.join().unwrap())
    });
    assert!(tokens > 0);
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Sends each to the server, twice at once, and tells how long it took.
fn refused(server: &Server, name: &str, requests: &[(&str, Value)]) {
    for (path, request) in requests {
        let began = Instant::now();
        let replies: Vec<Reply> = thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| server.post(path, request)));
            both.map(|one| one.join().unwrap()).into()
        });
        eprintln!("{name}: {path}: {:.3} s", began.elapsed().as_secs_f64());
        for reply in replies {
            let told = format!("{name} {path}: {} {}", reply.status, short(&reply.body));
            assert!((400..500).contains(&reply.status), "{told}");
            assert_eq!(wrong(path, &reply), None, "{told}");
        }
    }
}

#[test]
fn template_bombs_are_refused_while_others_are_answered() {
    let server = Server::start();
    let said = json!([{"role": "user", "content": "hi"}]);
    let forever =
        "{% for i in range(100000) %}{% for j in range(100000) %}{{ i }}{% endfor %}{% endfor %}";
    let doubling = format!(
        "{{% set x = 'xxxxxxxxxxxxxxxx' %}}{}{{{{ x }}}}",
        "{% set x = x ~ x %}".repeat(60)
    );
    let lists =
        format!("{{% set x = [1] %}}{}{{{{ x | length }}}}", "{% set x = x + x %}".repeat(60));
    let repeated = "{{ 'x' * 1000000000 }}".to_owned();
    let recursion = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned();
    let nested = format!("{}x{}", "{% if true %}".repeat(20_000), "{% endif %}".repeat(20_000));
    let brackets = format!("{{{{ {}1{} }}}}", "[".repeat(20_000), "]".repeat(20_000));
    let padded = "{{ '%1000000000d' | format(1) }}{{ 'x'.ljust(1000000000) }}".to_owned();
    beside(&server, || {
        for (name, template) in [
            ("loops", forever.to_owned()),
            ("doubling", doubling),
            ("lists", lists),
            ("repeated", repeated),
            ("recursion", recursion),
            ("nested", nested),
            ("brackets", brackets),
            ("padded", padded),
            ("unfinished", "{% for".to_owned()),
            ("go", "{{ range .Messages }}".to_owned()),
        ] {
            refused(
                &server,
                name,
                &[
                    (
                        "/api/chat",
                        json!({"model": "tiny", "messages": said, "template": template, "stream": false}),
                    ),
                    (
                        "/api/generate",
                        json!({"model": "tiny", "prompt": "x", "template": template, "stream": false}),
                    ),
                    (
                        "/v1/chat/completions",
                        json!({"model": "tiny", "messages": said, "chat_template": template}),
                    ),
                ],
            );
        }
    });
}

#[test]
fn bombs_of_forms_are_refused_while_others_are_answered() {
    let server = Server::start();
    let said = json!([{"role": "user", "content": "hi"}]);
    let mut deep = json!({"type": "string"});
    for _ in 0..60 {
        deep = json!({"anyOf": [deep.clone(), {"type": "array", "items": {"type": "integer"}}], "minItems": 3});
    }
    let mut wide = Map::new();
    for i in 0..20_000 {
        wide.insert(format!("p{i}"), json!({"type": "string"}));
    }
    let mut doubling = Map::new();
    for i in 0..40 {
        let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
        doubling.insert(
            format!("d{i}"),
            json!({"type": "object", "properties": {"a": next, "b": next}, "required": ["a", "b"]}),
        );
    }
    doubling.insert("d40".into(), json!({"type": "string"}));
    let schemas = [
        ("wide", json!({"type": "object", "properties": wide})),
        ("long", json!({"type": "string", "minLength": 1_000_000_000, "maxLength": 2_000_000_000})),
        (
            "pattern",
            json!({"type": "string", "pattern": "(((((a{1,100}){1,100}){1,100}){1,100}){1,100}){1,100}"}),
        ),
        ("items", json!({"type": "array", "minItems": 1_000_000_000})),
        ("loop", json!({"$ref": "#"})),
        ("reference", json!({"$ref": "http://127.0.0.1:9/schema"})),
        ("enumeration", json!({"enum": (0..200_000).collect::<Vec<i32>>()})),
        ("unsatisfiable", json!({"type": "integer", "minimum": 5, "maximum": 4})),
        ("multiple", json!({"type": "integer", "multipleOf": 999_999_937})),
    ];
    let regexes = [
        ("counted", "(x{1,1000}){1,1000}".to_owned()),
        ("classes", "(.*a.*b.*c.*d){500}".to_owned()),
        ("alternatives", format!("({}z)", "a|".repeat(100_000))),
        ("parentheses", format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000))),
        ("unfinished", "(a".to_owned()),
    ];
    let grammars = [
        ("left", "start: start start | start".to_owned()),
        ("undefined", "start: other".to_owned()),
        ("nonsense", "}{".repeat(1000)),
        ("large", format!("start: {}\n", "\"a\" ".repeat(200_000))),
    ];
    let schema = |schema: &Value| json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    beside(&server, || {
        for (name, bomb) in &schemas {
            refused(
                &server,
                name,
                &[
                    (
                        "/api/chat",
                        json!({"model": "tiny", "messages": said, "format": bomb, "stream": false}),
                    ),
                    (
                        "/v1/chat/completions",
                        json!({"model": "thinker", "messages": said, "response_format": schema(bomb)}),
                    ),
                    (
                        "/v1/responses",
                        json!({"model": "tiny", "input": "x", "text": {"format": {"type": "json_schema", "name": "x", "schema": bomb}}}),
                    ),
                    (
                        "/v1/messages",
                        json!({"model": "tiny", "max_tokens": 9, "messages": said, "output_config": {"format": {"type": "json_schema", "schema": bomb}}}),
                    ),
                ],
            );
        }
        for (name, bomb) in &regexes {
            refused(
                &server,
                name,
                &[(
                    "/v1/chat/completions",
                    json!({"model": "tiny", "messages": said, "regex": bomb}),
                )],
            );
        }
        for (name, bomb) in &grammars {
            refused(
                &server,
                name,
                &[("/v1/completions", json!({"model": "tiny", "prompt": "x", "grammar": bomb}))],
            );
        }
        // These may be answered, if they can be followed after all; what counts is that they are.
        for (name, bomb) in
            [("deep", deep), ("doubling", json!({"$ref": "#/$defs/d0", "$defs": doubling}))]
        {
            let request = json!({"model": "tiny", "messages": said, "format": bomb, "stream": false, "options": {"num_predict": 8}});
            let began = Instant::now();
            let reply = server.post("/api/chat", &request);
            eprintln!("{name}: {:.3} s: {}", began.elapsed().as_secs_f64(), short(&reply.body));
            assert_eq!(wrong("/api/chat", &reply), None, "{name}");
        }
    });
}

#[test]
fn what_asks_for_too_much_is_refused() {
    let server = Server::start();
    let said = json!([{"role": "user", "content": "hi"}]);
    let function = |i: usize| json!({"type": "function", "function": {"name": format!("f{i}"), "parameters": {"type": "object"}}});
    let tools: Vec<Value> = (0..10_000).map(function).collect();
    let flat: Vec<Value> = tools
        .iter()
        .map(|t| json!({"type": "function", "name": t["function"]["name"], "parameters": {}}))
        .collect();
    let named: Vec<Value> = tools
        .iter()
        .map(|t| json!({"name": t["function"]["name"], "input_schema": {"type": "object"}}))
        .collect();
    let chat = |field: &str, value: Value| json!({"model": "tiny", "messages": said, field: value});
    let much = 1_000_000;
    refused(
        &server,
        "too much",
        &[
            ("/v1/chat/completions", chat("n", json!(much))),
            ("/v1/completions", json!({"model": "tiny", "prompt": "x", "n": much})),
            ("/v1/completions", json!({"model": "tiny", "prompt": "x", "best_of": much})),
            ("/v1/completions", json!({"model": "tiny", "prompt": "x", "logprobs": much})),
            ("/v1/completions", json!({"model": "tiny", "prompt": vec!["x"; 10_000]})),
            (
                "/v1/chat/completions",
                json!({"model": "tiny", "messages": said, "logprobs": true, "top_logprobs": much}),
            ),
            ("/v1/responses", json!({"model": "tiny", "input": "x", "top_logprobs": much})),
            ("/api/chat", chat("top_logprobs", json!(much))),
            ("/api/generate", json!({"model": "tiny", "prompt": "x", "top_logprobs": much})),
            ("/v1/chat/completions", chat("tools", json!(tools))),
            (
                "/v1/chat/completions",
                chat("functions", tools.iter().map(|t| t["function"].clone()).collect()),
            ),
            ("/api/chat", chat("tools", json!(tools))),
            ("/v1/responses", json!({"model": "tiny", "input": "x", "tools": flat})),
            (
                "/v1/messages",
                json!({"model": "tiny", "messages": said, "max_tokens": 1, "tools": named}),
            ),
            (
                "/v1/messages",
                json!({"model": "tiny", "messages": said, "max_tokens": 1, "stop_sequences": vec!["x"; 10_000]}),
            ),
            ("/v1/chat/completions", chat("stop", json!(vec!["x"; 10_000]))),
            (
                "/api/chat",
                json!({"model": "tiny", "messages": said, "options": {"stop": vec!["x"; 10_000]}}),
            ),
            ("/v1/embeddings", json!({"model": "vectors", "input": vec!["x"; 1_000_000]})),
            ("/api/embed", json!({"model": "vectors", "input": vec!["x"; 1_000_000]})),
            (
                "/v1/rerank",
                json!({"model": "vectors", "query": "x", "documents": vec!["x"; 1_000_000]}),
            ),
        ],
    );
}

#[test]
fn a_request_that_is_slow_holds_nobody_up() {
    let server = Server::with(common::Setup::default());
    server.add("slow", &slow());
    // Bodies of which half has come.
    let half: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(b"POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"mod").unwrap();
            stream
        })
        .collect();
    server.get("/health").ok();
    server.post("/api/show", &json!({"model": "tiny"})).ok();
    drop(half);
}
