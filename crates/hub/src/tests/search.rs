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

/// A hub that finds nothing, whichever it is.
fn nothing() -> Wire {
    Wire::start(|call| match call.path.as_str() {
        "/api/models" => Said::json(json!([])),
        _ => models(json!([])),
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

fn models(models: serde_json::Value) -> Said {
    Said::json(json!({"success": true, "code": "", "data": {"models": models, "total_count": 3}}))
}

#[test]
fn model_scope_is_searched() {
    let wire = Wire::start(|call| {
        assert_eq!(call.line(), "GET /openapi/v1/models");
        assert_eq!(call.parameter("search").as_deref(), Some("千问 gguf"));
        assert_eq!(call.parameter("sort").as_deref(), Some("downloads"));
        assert_eq!(call.parameter("page_size").as_deref(), Some("5"));
        models(json!([
            {"id": "Qwen/Qwen3-8B-GGUF", "display_name": "x", "downloads": 9, "likes": 2, "last_modified": "2025-11-25T18:14:43Z",
                "license": "apache-2.0", "params": 8_190_735_360_u64, "tags": ["llm", "chat"]},
            {"id": "../x"},
            {"id": "Qwen/Qwen3-8B", "downloads": null, "tags": null, "last_modified": 1_764_094_483},
        ]))
    });
    let found = found(&net(&[("hf.example", &nothing()), ("ms.example", &wire)]), "千问", 5);
    assert_eq!(wire.calls()[0].header("authorization"), "", "a token of another hub");
    assert_eq!((wire.calls().len(), found.len()), (1, 2));
    let first = &found[0];
    assert_eq!(
        (first.hub, first.repo.as_str(), first.downloads, first.likes),
        ("modelscope.cn", "Qwen/Qwen3-8B-GGUF", 9, 2)
    );
    assert_eq!((first.gguf, first.parameters), (true, Some(8_190_735_360)));
    assert_eq!((first.licence.as_deref(), first.tags.len()), (Some("apache-2.0"), 2));
    assert!(!found[1].gguf);
    assert!(found.iter().all(|f| f.updated.as_deref() == Some("2025-11-25")));
}

#[test]
fn words_that_are_too_many_for_model_scope_are_fewer_the_second_time() {
    let wire = Wire::start(|call| match call.parameter("search").as_deref() {
        Some("qwen") => models(json!([{"id": "Qwen/Qwen3-8B"}])),
        _ => models(json!([])),
    });
    let net = net(&[("hf.example", &nothing()), ("ms.example", &wire)]);
    assert_eq!(found(&net, "qwen", 5).len(), 1);
    assert_eq!(wire.calls().len(), 2);
    assert!(found(&net, "GGUF", 5).is_empty());
    assert_eq!(wire.calls().len(), 3);
}

#[test]
fn failed_searches_say_why_and_hide_no_other_hub() {
    let one = || Wire::start(|_| models(json!([{"id": "org/repo"}])));
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
    for said in [
        Said::status(200).body("<html>"),
        Said::status(500),
        Said::json(json!({"success": false, "message": "no"})),
    ] {
        let wire = Wire::start(move |_| said.clone());
        let (found, failed) =
            search(&net(&[("hf.example", &nothing()), ("ms.example", &wire)]), &hubs(), "x", 5);
        assert_eq!((found.len(), failed.len()), (0, 1));
    }
}
