//! Hugging Face, ModelScope and plain addresses against servers that speak their protocols, also with malice.

use serde_json::{Value, json};

use super::content;
use super::wire::{Call, Said, Wire, net};
use crate::error::SourceError;
use crate::net::Ask;
use crate::source::{HuggingFace, ModelScope, Offer, Source, Url, select};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const HUB: &str = "http://hub.example";

fn hugging_face(token: Option<&str>) -> HuggingFace {
    HuggingFace {
        endpoint: HUB.into(),
        repo: "org/repo".into(),
        revision: "main".into(),
        token: token.map(str::to_owned),
    }
}

fn model_scope() -> ModelScope {
    ModelScope {
        endpoint: HUB.into(),
        repo: "org/repo".into(),
        revision: "master".into(),
        token: Some("ms-secret".into()),
    }
}

fn entry(path: &str, size: u64, oid: &str) -> Value {
    json!({"type": "file", "oid": "b1", "size": size, "path": path,
        "lfs": {"oid": oid, "size": size, "pointerSize": 134}})
}

/// A hub with one repository whose listing has these entries, on one page.
fn listing(entries: Value) -> Wire {
    Wire::start(move |call| match call.path.as_str() {
        "/api/models/org/repo/revision/main" => {
            Said::json(json!({"id": "org/repo", "sha": COMMIT, "gated": false}))
        }
        p if p == format!("/api/models/org/repo/tree/{COMMIT}") => Said::json(&entries),
        _ => Said::status(404),
    })
}

fn offered(wire: &Wire) -> Result<Offer, SourceError> {
    hugging_face(None).offer(&net(&[("hub.example", wire)]))
}

fn paths(offer: &Offer) -> Vec<&str> {
    offer.files.iter().map(|f| f.path.as_str()).collect()
}

#[test]
fn files_are_listed_over_pages_and_pinned_to_the_commit() {
    let wire = Wire::start(|call| match (call.path.as_str(), call.parameter("cursor")) {
        ("/api/models/org/repo/revision/main", _) => Said::json(json!({"sha": COMMIT})),
        (_, None) => {
            assert_eq!(call.parameter("recursive").as_deref(), Some("true"));
            // The hub's own host, as a mirror passes it on; also a place that must not be asked.
            let next = format!(
                "<https://elsewhere.example{}?recursive=true&cursor=a%3D%3D>; rel=\"next\"",
                call.path
            );
            let folder = json!({"type": "directory", "oid": "d", "size": 0, "path": "sub"});
            let model = entry("sub/M Q4_K_M.gguf", 7, &"ab".repeat(32));
            Said::json(json!([folder, model])).header("Link", next)
        }
        (_, Some(cursor)) => {
            assert_eq!(cursor, "a==");
            Said::json(json!([{"type": "file", "oid": "c", "size": 3, "path": "README.md"}]))
        }
    });
    let offer = offered(&wire).unwrap();
    assert_eq!(offer.revision.as_deref(), Some(COMMIT));
    assert_eq!(paths(&offer), ["sub/M Q4_K_M.gguf", "README.md"]);
    let model = &offer.files[0];
    assert_eq!(model.origin.url, format!("{HUB}/org/repo/resolve/{COMMIT}/sub/M%20Q4_K_M.gguf"));
    assert_eq!((model.bytes, model.digest.unwrap().to_string()), (Some(7), "ab".repeat(32)));
    assert_eq!((offer.files[1].bytes, offer.files[1].digest), (Some(3), None));
    assert_eq!(select(&offer, "q4_k_m").unwrap().files[0].path, model.path);
    assert_eq!(wire.calls().len(), 3);
}

#[test]
fn pages_come_to_an_end() {
    let same = Wire::start(|call| match call.path.ends_with("/revision/main") {
        true => Said::json(json!({"sha": COMMIT})),
        false => Said::json(json!([])).header("Link", "<x?recursive=true>; rel=\"next\""),
    });
    assert!(matches!(offered(&same), Err(SourceError::Refused(_))));
    assert_eq!(same.calls().len(), 2);
    let endless = Wire::start(|call| match call.path.ends_with("/revision/main") {
        true => Said::json(json!({"sha": COMMIT})),
        false => {
            let n: u64 = call.parameter("cursor").map_or(0, |c| c.parse().unwrap());
            Said::json(json!([])).header("Link", format!("<x?cursor={}>; rel=\"next\"", n + 1))
        }
    });
    assert!(matches!(offered(&endless), Err(SourceError::Refused(_))));
    assert_eq!(endless.calls().len(), 101);
}

#[test]
fn a_commit_is_required() {
    for sha in [json!(null), json!("main"), json!("../../../x"), json!("0".repeat(39))] {
        let wire = Wire::start(move |_| Said::json(json!({"sha": sha})));
        assert!(matches!(offered(&wire), Err(SourceError::Refused(_))));
        assert_eq!(wire.calls().len(), 1);
    }
    // Mirrors that tell it in a header only.
    let wire = Wire::start(|call| match call.path.ends_with("/revision/main") {
        true => Said::json(json!({})).header("X-Repo-Commit", COMMIT),
        false => Said::json(json!([])),
    });
    assert_eq!(offered(&wire).unwrap().revision.as_deref(), Some(COMMIT));
}

#[test]
fn refusals_say_what_to_do() {
    let refused = |status: u16, code: &'static str, message: &'static str| {
        let wire = Wire::start(move |_| {
            Said::status(status)
                .header("X-Error-Code", code)
                .header("X-Error-Message", message)
                .body("{}")
        });
        offered(&wire).unwrap_err()
    };
    let gated = refused(403, "GatedRepo", "Access to model org/repo is restricted");
    assert!(matches!(gated, SourceError::Gated { .. }));
    let text = gated.to_string();
    assert!(text.contains("http://hub.example/org/repo") && text.contains("HF_TOKEN"), "{text}");
    assert!(text.contains("is restricted"), "{text}");
    assert!(matches!(refused(401, "GatedRepo", ""), SourceError::Gated { .. }));
    let missing = refused(401, "RepoNotFound", "Repository not found");
    assert!(matches!(missing, SourceError::NotFound { .. }));
    assert!(missing.to_string().contains("HF_TOKEN"), "{missing}");
    let revision = refused(404, "RevisionNotFound", "Invalid rev id: main").to_string();
    assert!(revision.contains("revision main of org/repo"), "{revision}");
    let token = refused(401, "", "Invalid credentials in Authorization header");
    assert!(matches!(token, SourceError::Denied { .. }), "{token}");
    assert!(matches!(refused(403, "", ""), SourceError::Denied { .. }));
    assert!(matches!(refused(404, "", ""), SourceError::NotFound { .. }));
    assert!(matches!(refused(418, "", ""), SourceError::Status(418)));
    let hostile = refused(403, "GatedRepo", "a\u{1b}[2J\u{7}b").to_string();
    assert!(!hostile.contains(char::is_control), "{hostile:?}");
}

#[test]
fn busy_servers_are_asked_again_and_not_for_ever() {
    for status in [429, 500, 502, 503, 504] {
        let wire = Wire::start(move |_| Said::status(status).header("Retry-After", "0"));
        let e = offered(&wire).unwrap_err();
        assert_eq!(wire.calls().len(), 3, "{status}");
        assert_eq!(matches!(e, SourceError::Limited { .. }), status == 429, "{e}");
    }
    let dead = Wire::start(|_| Said::dead());
    let e = offered(&dead).unwrap_err();
    assert!(matches!(e, SourceError::Unreachable(_)), "{e}");
    let text = e.to_string();
    assert!(text.contains("HF_ENDPOINT") && text.contains("modelscope.cn"), "{text}");
    // Two tries of ours, each of which the client may repeat on a fresh connection.
    assert!(dead.calls().len() <= 4);
}

#[test]
fn gated_files_are_found_out_before_they_are_wanted() {
    let gate = |open: bool| {
        Wire::start(move |call| match call.path.as_str() {
            "/api/models/org/repo/revision/main" => {
                Said::json(json!({"sha": COMMIT, "gated": "manual"}))
            }
            p if p.contains("/tree/") => {
                Said::json(json!([entry("M-Q8_0.gguf", 7, &"ab".repeat(32))]))
            }
            _ if open => Said::redirect("http://cdn.example/x"),
            _ => Said::status(403).header("X-Error-Code", "GatedRepo"),
        })
    };
    let shut = gate(false);
    assert!(matches!(offered(&shut), Err(SourceError::Gated { .. })));
    assert_eq!(
        shut.lines().last().unwrap(),
        &format!("HEAD /org/repo/resolve/{COMMIT}/M-Q8_0.gguf")
    );
    assert_eq!(offered(&gate(true)).unwrap().files.len(), 1);
}

/// The token goes to the hub, with every request, and neither to where the hub redirects to nor to another port of its own host.
#[test]
fn a_token_stays_at_its_place() {
    let data = content(1000);
    let body = data.clone();
    let cdn = Wire::start(move |call| Said::bytes(call, &body));
    let hub = Wire::start(|call| match call.path.as_str() {
        "/api/models/org/repo/revision/main" => Said::json(json!({"sha": COMMIT, "gated": "auto"})),
        p if p.contains("/tree/") => {
            Said::json(json!([entry("M-Q8_0.gguf", 1000, &"ab".repeat(32))]))
        }
        _ => Said::redirect("http://cdn.example/blob?signature=s"),
    });
    let net = net(&[("hub.example", &hub), ("cdn.example", &cdn)]);
    let offer = hugging_face(Some("hf_secret")).offer(&net).unwrap();
    let origin = &offer.files[0].origin;
    let answer = net.send(&Ask::get(&origin.url).credential(origin.credential.as_ref())).unwrap();
    assert!(answer.bytes(2000).unwrap() == data);
    assert!(hub.calls().iter().all(|c| c.header("authorization") == "Bearer hf_secret"));
    assert_eq!((hub.calls().len(), cdn.calls().len()), (4, 1));
    assert_eq!(cdn.calls()[0].header("authorization"), "");
    let port = format!("http://hub.example:{}/x", cdn.address.port());
    net.send(&Ask::get(&port).credential(origin.credential.as_ref())).unwrap();
    assert_eq!(cdn.calls()[1].header("authorization"), "");
}

#[test]
fn redirects_lead_neither_inside_nor_to_other_schemes() {
    let inside = Wire::start(|_| Said::json(json!({"sha": COMMIT})));
    for target in [
        inside.url.clone() + "/x",
        "file:///etc/passwd".into(),
        "ftp://h.example/x".into(),
        "//127.0.0.1:1/x".into(),
    ] {
        let hub = Wire::start(move |_| Said::redirect(&target));
        let net = net(&[("hub.example", &hub)]);
        let e = hugging_face(Some("hf_secret")).offer(&net).unwrap_err();
        assert!(matches!(e, SourceError::Refused(_)), "{e}");
        let e = Url { url: format!("{HUB}/f.gguf") }.offer(&net).unwrap_err();
        assert!(matches!(e, SourceError::Refused(_)), "{e}");
        let e = model_scope().offer(&net).unwrap_err();
        assert!(matches!(e, SourceError::Refused(_)), "{e}");
    }
    assert!(inside.calls().is_empty());
}

#[test]
fn hostile_names_are_left_out_and_hostile_digests_refused() {
    let good = "ab".repeat(32);
    let names = [
        "../up.gguf",
        "/etc/x.gguf",
        "a/../../x.gguf",
        "a\0b.gguf",
        "a\\b.gguf",
        "C:/x.gguf",
        "a//b.gguf",
        ".",
        "",
        "x\u{1b}[2J.gguf",
    ];
    let mut entries: Vec<Value> = names.iter().map(|n| entry(n, 1, &good)).collect();
    entries.push(entry("fine.gguf", 1, &good));
    assert_eq!(paths(&offered(&listing(json!(entries))).unwrap()), ["fine.gguf"]);
    for digest in [&good[1..], "", "../../x", &"zz".repeat(32), &format!("{good}0")] {
        let wire = listing(json!([entry("M-Q8_0.gguf", 1, digest)]));
        assert!(matches!(offered(&wire), Err(SourceError::Refused(_))), "{digest}");
    }
}

#[test]
fn answers_of_another_shape_or_size_are_refused() {
    for (revision, tree) in [
        ("", "[]"),
        ("<html>", "[]"),
        ("[]", "[]"),
        (r#"{"sha":1}"#, "[]"),
        ("ok", ""),
        ("ok", "{}"),
        ("ok", r#"[{"type":"file"}]"#),
        ("ok", r#"[{"type":"file","path":"x","size":-1}]"#),
        ("ok", r#"[{"type":"file","path":"x","size":1e30}]"#),
    ] {
        let wire = Wire::start(move |call| match call.path.contains("/tree/") {
            true => Said::status(200).body(tree),
            false if revision == "ok" => Said::json(json!({"sha": COMMIT})),
            false => Said::status(200).body(revision),
        });
        assert!(matches!(offered(&wire), Err(SourceError::Refused(_))), "{revision} {tree}");
    }
    let huge = Wire::start(|_| Said::status(200).body(vec![b' '; (16 << 20) + 1]));
    assert!(matches!(offered(&huge), Err(SourceError::Refused(_))));
    let many: Vec<Value> =
        (0..20_001).map(|i| json!({"type": "file", "path": format!("f{i}"), "size": 1})).collect();
    assert!(matches!(offered(&listing(json!(many))), Err(SourceError::Refused(_))));
}

#[test]
fn repositories_with_odd_names_are_never_asked_for() {
    let wire = Wire::start(|_| Said::status(404));
    let net = net(&[("hub.example", &wire)]);
    for repo in ["../api/whoami", "a/b/c", "org/repo?x=y", "org/re po", ""] {
        let hf = HuggingFace { repo: repo.into(), ..hugging_face(None) };
        assert!(matches!(hf.offer(&net), Err(SourceError::Refused(_))), "{repo}");
        let ms = ModelScope { repo: repo.into(), ..model_scope() };
        assert!(matches!(ms.offer(&net), Err(SourceError::Refused(_))), "{repo}");
    }
    assert!(wire.calls().is_empty());
    let branch = HuggingFace { revision: "refs/pr/1?x#y".into(), ..hugging_face(None) };
    assert!(branch.offer(&net).is_err());
    assert_eq!(wire.lines(), ["GET /api/models/org/repo/revision/refs%2Fpr%2F1%3Fx%23y"]);
}

/// As modelscope.cn answers; whatever is in `files`.
fn scope(files: Value) -> Wire {
    Wire::start(move |call: &Call| match call.path.as_str() {
        "/api/v1/models/org/repo/repo/files" => {
            assert_eq!(call.query, "Revision=master&Recursive=True");
            Said::json(
                json!({"Code": 200, "Data": {"Files": files, "IsVisual": 0}, "Message": "success", "Success": true}),
            )
        }
        _ => Said::status(404),
    })
}

fn scope_file(path: &str, sha256: &str) -> Value {
    json!({"Name": "x", "Path": path, "Type": "blob", "Size": 7, "IsLFS": true, "Sha256": sha256, "Revision": COMMIT})
}

#[test]
fn model_scope_lists_files() {
    let good = "cd".repeat(32);
    let wire = scope(json!([
        {"Name": "sub", "Path": "sub", "Type": "tree", "Size": 0},
        scope_file("sub/M Q4_0.gguf", &good),
        scope_file("README.md", ""),
        scope_file("../x", &good),
    ]));
    let offer = model_scope().offer(&net(&[("hub.example", &wire)])).unwrap();
    assert_eq!(paths(&offer), ["sub/M Q4_0.gguf", "README.md"]);
    assert_eq!(
        offer.files[0].origin.url,
        format!("{HUB}/models/org/repo/resolve/master/sub/M%20Q4_0.gguf")
    );
    assert_eq!(offer.files[0].digest.unwrap().to_string(), good);
    assert_eq!((offer.files[0].bytes, offer.files[1].digest), (Some(7), None));
    assert_eq!(wire.calls()[0].header("authorization"), "Bearer ms-secret");
}

#[test]
fn model_scope_refuses_in_its_own_way() {
    let said = |said: Said| {
        let wire = Wire::start(move |_| said.clone());
        model_scope().offer(&net(&[("hub.example", &wire)])).unwrap_err()
    };
    let failure = json!({"Code": 10010205001_i64, "Message": "获取模型信息失败，信息不存在", "Success": false});
    assert!(matches!(said(Said::json(&failure).with_status(404)), SourceError::NotFound { .. }));
    let e = said(Said::json(&failure)).to_string();
    assert!(e.contains("信息不存在"), "{e}");
    let e = said(Said::json(json!({"Code": 403, "Message": "no", "Success": false})));
    assert!(e.to_string().contains("MODELSCOPE_API_TOKEN"), "{e}");
    assert!(matches!(
        said(Said::json(json!({"Code": 200, "Data": null}))),
        SourceError::Refused(_)
    ));
    assert!(matches!(said(Said::status(500)), SourceError::Status(500)));
    for body in ["", "<html>", "[]", r#"{"Code":200,"Data":{"Files":[{}]}}"#] {
        assert!(matches!(said(Said::status(200).body(body)), SourceError::Refused(_)), "{body}");
    }
    let wire = scope(json!([scope_file("a.gguf", &"c".repeat(63))]));
    let e = model_scope().offer(&net(&[("hub.example", &wire)])).unwrap_err();
    assert!(matches!(e, SourceError::Refused(_)), "{e}");
    let many: Vec<Value> = (0..3000).map(|i| scope_file(&format!("f{i}"), "")).collect();
    let wire = scope(json!(many));
    let e = model_scope().offer(&net(&[("hub.example", &wire)])).unwrap_err().to_string();
    assert!(e.contains("3000"), "a listing cut short is not taken for whole: {e}");
}

#[test]
fn an_address_is_measured() {
    let body = content(500);
    let wire = Wire::start(move |call| match (call.method.as_str(), call.path.as_str()) {
        ("HEAD", "/a/M%20x.gguf") => Said::bytes(call, &body).header("ETag", "\"e1\""),
        ("HEAD", "/signed.gguf") => Said::status(403),
        ("GET", "/signed.gguf") => Said::bytes(call, &body),
        _ => Said::status(404),
    });
    let net = net(&[("hub.example", &wire)]);
    let at = |path: &str| Url { url: format!("{HUB}{path}") }.offer(&net);
    let offer = at("/a/M%20x.gguf?download=true").unwrap();
    assert_eq!((offer.revision.as_deref(), paths(&offer)), (Some("\"e1\""), vec!["M x.gguf"]));
    assert_eq!((offer.files[0].bytes, offer.files[0].digest), (Some(500), None));
    assert_eq!(at("/signed.gguf").unwrap().files[0].bytes, Some(500));
    assert!(matches!(at("/none.gguf"), Err(SourceError::NotFound { .. })));
    assert!(matches!(at("/"), Err(SourceError::Refused(_))));
}
