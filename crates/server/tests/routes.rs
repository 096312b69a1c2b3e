//! All routes: each is described, each description is of a route, and none answers those who may not ask.

#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::BTreeSet;

use common::Server;
use serde_json::Value;

/// What a path could be.
fn example(path: &str) -> String {
    path.replace("{digest}", &format!("sha256:{}", "0".repeat(64)))
        .replace("{key}", "k")
        .replace("{*id}", "m")
        .replace("{id}", "x")
}

#[test]
fn all_routes_are_described_and_only_they() {
    let document: Value = serde_json::from_str(hob_server::OPENAPI).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method == "parameters" {
                continue;
            }
            described.insert(format!("{} {path}", method.to_uppercase()));
            let place = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{place}");
            assert!(operation["responses"].as_object().is_some_and(|r| !r.is_empty()), "{place}");
            for name in path.split('{').skip(1).filter_map(|part| part.split_once('}')) {
                let told = |list: &Value| {
                    let list = list.as_array().into_iter().flatten();
                    list.map(|p| resolved(&document, p)).any(|p| p["name"] == name.0)
                };
                assert!(told(&item["parameters"]) || told(&operation["parameters"]), "{place}");
            }
        }
    }
    let routes = hob_server::routes();
    let served = routes.table().iter();
    let served = served.map(|(method, path)| format!("{method} {}", path.replace("{*", "{")));
    assert_eq!(described, served.collect::<BTreeSet<String>>());
}

#[test]
fn all_references_lead_somewhere() {
    let document: Value = serde_json::from_str(hob_server::OPENAPI).unwrap();
    let mut todo = vec![&document];
    let mut found = 0;
    while let Some(value) = todo.pop() {
        match value {
            Value::Object(map) => {
                if map.get("$ref").is_some_and(Value::is_string) {
                    assert!(resolved(&document, value).is_object(), "{value}");
                    found += 1;
                }
                todo.extend(map.values());
            }
            Value::Array(list) => todo.extend(list),
            _ => {}
        }
    }
    assert!(found > 100);
}

fn resolved<'d>(document: &'d Value, value: &'d Value) -> &'d Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

#[test]
fn the_description_can_be_fetched() {
    let server = Server::empty(common::Setup::default());
    let reply = server.get("/openapi.json");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.ok()["info"]["title"], "hob");
}

#[test]
fn pages_of_others_are_refused_on_every_route() {
    let server = Server::empty(common::Setup::default());
    let routes = hob_server::routes();
    let unknown = (hob_server::Method::GET, "/unknown");
    for (method, path) in routes.table().iter().chain([&unknown]) {
        let path = example(path);
        let body = (*method == hob_server::Method::POST).then_some("{}");
        for (header, value) in [
            ("host", "rebound.example"),
            ("host", "rebound.example:11434"),
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let reply = server.request(method.as_str(), &path, &[(header, value)], body);
            assert_eq!(reply.status, 403, "{method} {path} {header}: {value}: {}", reply.body);
            assert_eq!(reply.header("access-control-allow-origin"), None);
        }
    }
}

#[test]
fn each_route_is_there() {
    let server = Server::empty(common::Setup::default());
    for (method, path) in hob_server::routes().table() {
        let reply = server.request(method.as_str(), &example(path), &[], Some("{}"));
        assert_ne!(reply.status, 405, "{method} {path}");
        assert!(reply.status < 500, "{method} {path}: {} {}", reply.status, reply.body);
        if reply.status == 404 && *method != hob_server::Method::HEAD {
            assert!(!reply.body.contains("there is no /"), "{method} {path}: {}", reply.body);
        }
    }
}
