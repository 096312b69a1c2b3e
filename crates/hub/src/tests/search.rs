//! Searches against servers that answer as the hubs do.

use serde_json::json;

use super::wire::{Said, Wire, net};
use crate::error::SourceError;
use crate::error::Tried;
use crate::net::Net;
use crate::source::{Found, Hubs, search};

fn hubs() -> Hubs {
    Hubs {
        hugging_face: "http://hf.example".into(),
        hugging_face_token: Some("hf_secret".into()),
        model_scope: "http://ms.example".into(),
        model_scope_token: None,
    }
}

/// A hub that finds nothing.
fn nothing() -> Wire {
    Wire::start(|call| match call.method.as_str() {
        "GET" => Said::json(json!([])),
        _ => Said::json(json!({"Code": 200, "Data": {"Model": {"Models": []}}})),
    })
}

fn found(net: &Net, words: &str, limit: usize) -> Vec<Found> {
    let (found, failed) = search(net, &hubs(), words, limit);
    assert!(failed.is_empty(), "{failed:?}");
    found
}

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
    let found = found(&net(&[("hf.example", &wire), ("ms.example", &nothing())]), "qwen3 & co", 3);
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
    let found = found(&net(&[("hf.example", &nothing()), ("ms.example", &wire)]), "千问", 5);
    assert_eq!(wire.calls()[0].header("authorization"), "", "a token of another hub");
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
fn failed_searches_say_why_and_hide_no_other_hub() {
    let one = || {
        Wire::start(|_| {
            Said::json(
                json!({"Code": 200, "Data": {"Model": {"Models": [{"Path": "org", "Name": "repo"}]}}}),
            )
        })
    };
    let failed = |said: Said| {
        let wire = Wire::start(move |_| said.clone());
        let net = net(&[("hf.example", &wire), ("ms.example", &one())]);
        let (found, failed) = search(&net, &hubs(), "x", 5);
        assert_eq!((found.len(), failed.len()), (1, 1), "{failed:?}");
        let Tried { source, error } = failed.into_iter().next().unwrap();
        assert_eq!(source, "Hugging Face");
        error
    };
    for body in ["", "<html>", "{}", "[[", "7"] {
        assert!(matches!(failed(Said::status(200).body(body)), SourceError::Refused(_)), "{body}");
    }
    let huge = vec![b' '; (16 << 20) + 1];
    assert!(matches!(failed(Said::status(200).body(huge)), SourceError::Refused(_)));
    assert!(matches!(failed(Said::status(429)), SourceError::Limited { .. }));
    assert!(failed(Said::dead()).to_string().contains("HF_ENDPOINT"));
    for said in
        [Said::status(200).body("<html>"), Said::status(500), Said::json(json!({"Code": 500}))]
    {
        let wire = Wire::start(move |_| said.clone());
        let (found, failed) =
            search(&net(&[("hf.example", &nothing()), ("ms.example", &wire)]), &hubs(), "x", 5);
        assert_eq!((found.len(), failed.len()), (0, 1));
    }
}
