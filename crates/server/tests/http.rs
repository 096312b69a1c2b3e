//! The server over a socket: its name, unknown routes, and that the shared client sees what is there.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::Server;
use serde_json::json;

#[test]
fn answers_come_over_the_wire_whole_and_in_lines() {
    let server = Server::start();
    let reply = server.get("/api/version");
    assert!(reply.ok()["version"].is_string());
    assert!(reply.header("server").unwrap().starts_with("hob/"));
    let missing = server.get("/nothing").expect(404);
    assert_eq!(missing["error"], "there is no /nothing here");

    let options = json!({"num_predict": 8, "temperature": 0});
    let request = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "options": options});
    let mut stream = server.stream("/api/chat", &request);
    assert_eq!(stream.status, 200);
    let mut said = String::new();
    let last = loop {
        let chunk = stream.json_line().unwrap();
        said += chunk["message"]["content"].as_str().unwrap();
        if chunk["done"] == true {
            break chunk;
        }
    };
    assert_eq!(stream.line(), None);
    assert!((1..=8).contains(&last["eval_count"].as_u64().unwrap()), "{last}");

    let mut request = request;
    request["stream"] = false.into();
    let whole = server.post("/api/chat", &request).ok();
    assert_eq!(whole["message"]["content"], said);
}
