//! Searches against servers that answer as the hubs do.

use serde_json::json;

use super::wire::{Said, Wire, net};
use crate::error::SourceError;
use crate::source::{Found, search_hugging_face, search_model_scope};

const HUB: &str = "http://hub.example";

#[test]
fn hugging_face_is_searched() {
    let wire = Wire::start(|call| {
        assert_eq!(call.line(), "GET /api/models");
        assert_eq!(call.parameter("search").as_deref(), Some("qwen3 & co"));
        assert_eq!(call.parameter("filter").as_deref(), Some("gguf"));
        assert_eq!(call.parameter("sort").as_deref(), Some("downloads"));
        assert_eq!(call.parameter("limit").as_deref(), Some("3"));
        assert!(call.query.contains("&expand=gguf"));
        Said::json(json!([
            {"_id": "1", "id": "unsloth/Qwen3-14B-GGUF", "downloads": 9, "likes": 2, "lastModified": "2026-11-25T10:00:00.000Z",
                "tags": ["gguf", "license:apache-2.0", "en"],
                "gguf": {"total": 14_768_307_200_u64, "architecture": "qwen3", "context_length": 40960, "chat_template": "x"}},
            {"id": "../evil", "downloads": 8},
            {"id": 7},
            {"id": "org/bare"},
        ]))
    });
    let net = net(&[("hub.example", &wire)]);
    let found = search_hugging_face(&net, HUB, Some("hf_secret"), "qwen3 & co", 3).unwrap();
    let first = Found {
        hub: "hf.co",
        repo: "unsloth/Qwen3-14B-GGUF".into(),
        downloads: 9,
        likes: 2,
        updated: Some("2026-11-25".into()),
        gguf: true,
        licence: Some("apache-2.0".into()),
        parameters: Some(14_768_307_200),
        architecture: Some("qwen3".into()),
        context: Some(40960),
        tags: vec!["gguf".into(), "license:apache-2.0".into(), "en".into()],
    };
    let bare = Found { hub: "hf.co", repo: "org/bare".into(), ..Found::default() };
    assert_eq!(found, [first, bare]);
    assert_eq!(wire.calls()[0].header("authorization"), "Bearer hf_secret");
}

#[test]
fn model_scope_is_searched() {
    let wire = Wire::start(|call| {
        assert_eq!(call.line(), "PUT /api/v1/dolphin/models");
        assert_eq!(call.header("content-type"), "application/json");
        let body: serde_json::Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            (&body["Name"], &body["PageSize"], &body["PageNumber"]),
            (&json!("千问"), &json!(5), &json!(1))
        );
        Said::json(
            json!({"Code": 200, "Success": true, "Message": "", "Data": {"Model": {"TotalCount": 3, "Models": [
                {"Path": "Qwen", "Name": "Qwen3-8B-GGUF", "Downloads": 9, "Stars": 2, "LastUpdatedTime": 1_764_094_483,
                    "License": "apache-2.0", "Libraries": ["gguf"], "Tags": ["llm", {"Name": "chat"}],
                    "ModelInfos": {"gguf": {"architecture": "qwen3", "model_size": 8_190_735_360_u64}}},
                {"Path": "..", "Name": "x"},
                {"Path": "Qwen", "Name": "Qwen3-8B", "Libraries": null, "Tags": null, "ModelInfos": {}},
            ]}}}),
        )
    });
    let net = net(&[("hub.example", &wire)]);
    let found = search_model_scope(&net, HUB, "千问", 5).unwrap();
    assert_eq!(found.len(), 2);
    let first = &found[0];
    assert_eq!(
        (first.hub, first.repo.as_str(), first.downloads, first.likes),
        ("modelscope.cn", "Qwen/Qwen3-8B-GGUF", 9, 2)
    );
    assert_eq!(
        (first.updated.as_deref(), first.gguf, first.parameters),
        (Some("2025-11-25"), true, Some(8_190_735_360))
    );
    assert_eq!(first.tags, ["llm", "chat"]);
    assert!(!found[1].gguf);
}

#[test]
fn failed_searches_say_why() {
    for body in ["", "<html>", "{}", "[[", "7"] {
        let wire = Wire::start(move |_| Said::status(200).body(body));
        let net = net(&[("hub.example", &wire)]);
        let e = search_hugging_face(&net, HUB, None, "x", 5).unwrap_err();
        assert!(matches!(e, SourceError::Refused(_)), "{body}: {e}");
        let e = search_model_scope(&net, HUB, "x", 5).unwrap_err();
        assert!(matches!(e, SourceError::Refused(_)), "{body}: {e}");
    }
    let huge = Wire::start(|_| Said::status(200).body(vec![b'['; (16 << 20) + 1]));
    let net = net(&[("hub.example", &huge)]);
    assert!(search_hugging_face(&net, HUB, None, "x", 5).is_err());
    let busy = Wire::start(|_| Said::status(429));
    let net = super::wire::net(&[("hub.example", &busy)]);
    assert!(matches!(
        search_hugging_face(&net, HUB, None, "x", 5),
        Err(SourceError::Limited { .. })
    ));
    assert!(matches!(search_model_scope(&net, HUB, "x", 5), Err(SourceError::Limited { .. })));
}
