//! Pulling from and pushing to a registry that speaks the protocol: challenges, tokens, signatures, uploads in parts, and what goes wrong.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::json;

use super::wire::{Call, Said, Wire, net};
use super::{content, sha256};
use crate::digest::Digest;
use crate::error::SourceError;
use crate::manifest::{CONFIG_TYPE, Kind, Layer, MANIFEST_TYPE, Manifest};
use crate::name::ModelName;
use crate::net::{Ask, Net};
use crate::source::{Key, Pushed, Registry, push, push_in_parts};

const REALM: &str = "http://registry.example/token";

fn name() -> ModelName {
    ModelName::parse("registry.example/me/mine:v1").unwrap()
}

fn registry<'a>(net: &'a Net, key: Option<&'a Key>) -> Registry<'a> {
    Registry::new(net, &name(), true, key)
}

fn digest(data: &[u8]) -> Digest {
    sha256(data).parse().unwrap()
}

fn manifest(blobs: &[&[u8]]) -> Manifest {
    let layers = blobs.iter().map(|b| Layer::new(Kind::Model, digest(b), b.len() as u64));
    let config =
        Layer { media_type: CONFIG_TYPE.into(), ..Layer::new(Kind::Other, digest(b"{}"), 2) };
    Manifest::new(config, layers.collect())
}

/// A manifest as no serializer of ours would write it.
fn odd_bytes(manifest: &Manifest) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(manifest).unwrap();
    bytes.extend(b"\n \n");
    bytes
}

#[test]
fn a_manifest_is_kept_byte_for_byte() {
    let bytes = odd_bytes(&manifest(&[b"model"]));
    let body = bytes.clone();
    let wire = Wire::start(move |call| match call.line().as_str() {
        "GET /v2/me/mine/manifests/v1" => {
            assert!(call.header("accept").contains(MANIFEST_TYPE));
            Said::status(200)
                .body(body.clone())
                .header("Docker-Content-Digest", format!("sha256:{}", sha256(&body)))
        }
        _ => Said::status(404),
    });
    let net = net(&[("registry.example", &wire)]);
    let fetched = registry(&net, None).manifest("v1").unwrap();
    assert!(fetched.bytes == bytes);
    assert_eq!(fetched.manifest.layers[0].digest, digest(b"model"));
}

#[test]
fn hostile_manifests_are_refused() {
    let good = format!("sha256:{}", sha256(b"x"));
    let with = |digest: &str, size: i64| {
        json!({"schemaVersion": 2, "config": {"mediaType": CONFIG_TYPE, "digest": good, "size": 2},
            "layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": size}]})
        .to_string()
    };
    for body in [
        with("sha256:../../etc/passwd", 1),
        with(&good[..good.len() - 1], 1),
        with(&good, -1),
        String::new(),
        "<html>".into(),
        " ".repeat((4 << 20) + 1),
    ] {
        let wire = Wire::start(move |_| Said::status(200).body(body.clone()));
        let net = net(&[("registry.example", &wire)]);
        let e = registry(&net, None).manifest("v1").unwrap_err();
        assert!(matches!(e, SourceError::Refused(_)), "{e}");
    }
    let lying = Wire::start(|_| {
        let told = format!("sha256:{}", "0".repeat(64));
        Said::status(200).body(odd_bytes(&manifest(&[b"x"]))).header("Docker-Content-Digest", told)
    });
    let e = registry(&net(&[("registry.example", &lying)]), None).manifest("v1").unwrap_err();
    assert!(matches!(e, SourceError::Content { .. }), "{e}");
}

#[test]
fn refusals_say_what_is_wrong() {
    let said = |said: Said| {
        let wire = Wire::start(move |_| said.clone());
        registry(&net(&[("registry.example", &wire)]), None).manifest("v1").unwrap_err()
    };
    let unknown = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]});
    assert!(matches!(said(Said::json(unknown).with_status(404)), SourceError::NotFound { .. }));
    assert!(matches!(said(Said::status(404)), SourceError::NotFound { .. }));
    let sharded =
        json!({"error": "The specified tag is a sharded GGUF. Ollama does not support this yet."});
    let e = said(Said::json(sharded).with_status(400)).to_string();
    assert!(e.contains("several files") && e.contains("hf.co/"), "{e}");
    let newer = json!({"errors": [{"code": "", "message": "requires a newer version"}]});
    let e = said(Said::json(newer).with_status(412)).to_string();
    assert!(e.contains("requires a newer version"), "{e}");
    assert!(matches!(said(Said::status(500)), SourceError::Status(500)));
    assert!(matches!(said(Said::status(429)), SourceError::Limited { .. }));
    let basic = Said::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    assert!(matches!(said(basic), SourceError::Denied { .. }));
    assert!(matches!(
        said(Said::status(302).header("Location", "file:///x")),
        SourceError::Refused(_)
    ));
}

/// Asks for a token before everything below `/v2/`; gives one for what `admits`.
fn guarded(
    realm: &'static str,
    admits: impl Fn(&Call) -> bool + Send + Sync + 'static,
    inner: impl Fn(&Call) -> Said + Send + Sync + 'static,
) -> Wire {
    Wire::start(move |call| {
        if call.path == "/token" {
            return match admits(call) {
                true => Said::json(json!({"token": "t-secret"})),
                false => Said::status(401),
            };
        }
        if call.header("authorization") == "Bearer t-secret" {
            return inner(call);
        }
        let scope =
            if call.method == "GET" || call.method == "HEAD" { "pull" } else { "pull,push" };
        let challenge = format!(
            "Bearer realm=\"{realm}\",service=\"registry.example\",scope=\"repository:me/mine:{scope}\""
        );
        Said::status(401).header("WWW-Authenticate", challenge)
    })
}

/// Whether a request for a token is signed by the key it names, over what it asks.
fn is_signed(call: &Call) -> bool {
    let Some((public, signature)) = call.header("authorization").split_once(':') else {
        return false;
    };
    let blob = STANDARD.decode(public).unwrap();
    let empty = STANDARD.encode(sha256(b""));
    let text = format!("GET,http://registry.example{}?{},{empty}", call.path, call.query);
    assert_eq!(call.parameter("service").as_deref(), Some("registry.example"));
    assert!(
        call.parameter("ts").is_some() && call.parameter("nonce").is_some_and(|n| n.len() == 22)
    );
    let public = UnparsedPublicKey::new(&ED25519, &blob[blob.len() - 32..]);
    public.verify(text.as_bytes(), &STANDARD.decode(signature).unwrap()).is_ok()
}

#[test]
fn a_challenge_is_answered_with_a_signature() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::generate(&folder.path().join("id_ed25519")).unwrap();
    let serve = |_: &Call| Said::status(200).body(odd_bytes(&manifest(&[b"model"])));
    let wire = guarded(REALM, is_signed, serve);
    let net = net(&[("registry.example", &wire)]);
    let signed = registry(&net, Some(&key));
    signed.manifest("v1").unwrap();
    assert_eq!(
        wire.lines(),
        ["GET /v2/me/mine/manifests/v1", "GET /token", "GET /v2/me/mine/manifests/v1"]
    );
    assert_eq!(wire.calls()[1].parameter("scope").as_deref(), Some("repository:me/mine:pull"));
    // The token is kept.
    signed.manifest("v1").unwrap();
    assert_eq!(wire.calls().len(), 4);
    let e = registry(&net, None).manifest("v1").unwrap_err();
    assert!(e.to_string().contains("no key"), "{e}");
    let other = guarded(REALM, |_| false, serve);
    let net = super::wire::net(&[("registry.example", &other)]);
    let e = registry(&net, Some(&key)).manifest("v1").unwrap_err().to_string();
    assert!(e.contains(&key.public()), "{e}");
    // A registry that never lets in is asked once more, not for ever.
    assert_eq!(other.calls().len(), 2);
}

#[test]
fn a_realm_elsewhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::generate(&folder.path().join("id_ed25519")).unwrap();
    let thief = Wire::start(|_| Said::json(json!({"token": "x"})));
    for realm in [
        "http://thief.example/token",
        "https://registry.example/token",
        "http://registry.example:81/token",
        "//x",
        "file:///x",
    ] {
        let wire = guarded(realm, |_| true, |_| Said::status(200));
        let net = net(&[("registry.example", &wire), ("thief.example", &thief)]);
        for key in [None, Some(&key)] {
            let e = registry(&net, key).manifest("v1").unwrap_err();
            assert!(matches!(e, SourceError::Refused(_)), "{realm}: {e}");
        }
        // Nor may the realm lead on to another host.
        let wire = Wire::start(|call| match call.path.as_str() {
            "/token" => Said::redirect("http://thief.example/token"),
            _ => Said::status(401).header("WWW-Authenticate", format!("Bearer realm=\"{REALM}\"")),
        });
        let net = super::wire::net(&[("registry.example", &wire), ("thief.example", &thief)]);
        assert!(registry(&net, Some(&key)).manifest("v1").is_err());
    }
    assert!(thief.calls().is_empty());
}

/// A challenge from where the registry redirects to is no challenge of the registry.
#[test]
fn only_the_registry_itself_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::generate(&folder.path().join("id_ed25519")).unwrap();
    let thief = Wire::start(|_| {
        Said::status(401).header("WWW-Authenticate", format!("Bearer realm=\"{REALM}\""))
    });
    let wire = Wire::start(|_| Said::redirect("http://thief.example/x"));
    let net = net(&[("registry.example", &wire), ("thief.example", &thief)]);
    let e = registry(&net, Some(&key)).manifest("v1").unwrap_err();
    assert!(matches!(e, SourceError::Denied { .. }), "{e}");
    assert_eq!((wire.lines().len(), thief.lines().len()), (1, 1));
}

#[test]
fn blobs_come_from_storage_without_the_token() {
    let data = content(1000);
    let body = data.clone();
    let storage = Wire::start(move |call| Said::bytes(call, &body));
    let wire = guarded(
        REALM,
        |_| true,
        |_| Said::status(307).header("Location", "http://storage.example/b?signed=1"),
    );
    let net = net(&[("registry.example", &wire), ("storage.example", &storage)]);
    let layer = Layer::new(Kind::Model, digest(&data), 1000);
    let file = registry(&net, None).blob(&layer).unwrap();
    assert!(storage.calls().is_empty(), "an address signed for GET is not asked with HEAD");
    assert_eq!((file.bytes, file.digest), (Some(1000), Some(digest(&data))));
    assert_eq!(file.path, format!("sha256-{}", sha256(&data)));
    let answer =
        net.send(&Ask::get(&file.origin.url).credential(file.origin.credential.as_ref())).unwrap();
    assert!(answer.bytes(2000).unwrap() == data);
    assert_eq!(wire.calls().last().unwrap().header("authorization"), "Bearer t-secret");
    assert_eq!(storage.calls()[0].header("authorization"), "");
}

#[test]
fn blobs_of_another_length_or_name_are_not_taken() {
    let wire = Wire::start(|_| Said::status(200).header("Content-Length", "7"));
    let net = net(&[("registry.example", &wire)]);
    let mut layer = Layer::new(Kind::Model, digest(b"x"), 8);
    let e = registry(&net, None).blob(&layer).unwrap_err();
    assert!(matches!(e, SourceError::Length { expected: 8, found: 7 }), "{e}");
    layer.size = 7;
    layer.name = Some("../../x".into());
    assert!(registry(&net, None).blob(&layer).unwrap().path.starts_with("sha256-"));
    layer.name = Some("model.safetensors".into());
    assert_eq!(registry(&net, None).blob(&layer).unwrap().path, "model.safetensors");
}

/// What a registry that takes uploads has.
#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<String, Vec<u8>>,
    upload: Vec<u8>,
    manifest: Vec<u8>,
    /// Requests that fail before they are understood.
    failures: Vec<(usize, Said)>,
    patches: usize,
}

impl Shelf {
    fn answer(&mut self, call: &Call) -> Said {
        let at = "/v2/me/mine/blobs/uploads/u1?state=s";
        match (call.method.as_str(), call.path.as_str()) {
            ("HEAD", path) => {
                let digest = path.rsplit(':').next().unwrap();
                match self.blobs.get(digest) {
                    Some(blob) => {
                        Said::status(200).header("Content-Length", blob.len().to_string())
                    }
                    None => Said::status(404),
                }
            }
            ("POST", "/v2/me/mine/blobs/uploads/") => {
                if call.parameter("from").as_deref() == Some("library/base") {
                    let digest = call.parameter("mount").unwrap();
                    self.blobs.insert(digest.replace("sha256:", ""), Vec::new());
                    return Said::status(201);
                }
                self.upload.clear();
                Said::status(202).header("Location", at)
            }
            ("PATCH", "/v2/me/mine/blobs/uploads/u1") => {
                self.patches += 1;
                if let Some(at) = self.failures.iter().position(|(n, _)| *n == self.patches) {
                    // Half of it arrived.
                    self.upload.extend(&call.body[..call.body.len() / 2]);
                    return self.failures.remove(at).1;
                }
                let (from, to) = call.header("content-range").split_once('-').unwrap();
                assert_eq!(from.parse::<usize>().unwrap(), self.upload.len());
                assert_eq!(to.parse::<usize>().unwrap() + 1 - self.upload.len(), call.body.len());
                self.upload.extend(&call.body);
                Said::status(202).header("Location", at)
            }
            ("GET", "/v2/me/mine/blobs/uploads/u1") => {
                let range = format!("0-{}", self.upload.len().saturating_sub(1));
                Said::status(204).header("Range", range).header("Location", at)
            }
            ("PUT", "/v2/me/mine/blobs/uploads/u1") => {
                let digest = call.parameter("digest").unwrap().replace("sha256:", "");
                assert_eq!(call.parameter("state").as_deref(), Some("s"));
                if sha256(&self.upload) != digest {
                    return Said::json(
                        json!({"errors": [{"code": "DIGEST_INVALID", "message": "other digest"}]}),
                    )
                    .with_status(400);
                }
                self.blobs.insert(digest, std::mem::take(&mut self.upload));
                Said::status(201)
            }
            ("PUT", "/v2/me/mine/manifests/v1") => {
                assert_eq!(call.header("content-type"), MANIFEST_TYPE);
                self.manifest = call.body.clone();
                Said::status(201)
            }
            _ => Said::status(405),
        }
    }
}

/// A registry with a shelf, behind a guard, and the blobs of a model in a folder.
fn shelf(failures: Vec<(usize, Said)>) -> (Arc<Mutex<Shelf>>, Wire) {
    let shelf = Arc::new(Mutex::new(Shelf { failures, ..Shelf::default() }));
    let inner = shelf.clone();
    let wire = guarded(REALM, |_| true, move |call| inner.lock().unwrap().answer(call));
    (shelf, wire)
}

fn put_blobs(folder: &tempfile::TempDir, blobs: &[&[u8]]) -> impl Fn(&Digest) -> PathBuf + use<> {
    let folder = folder.path().to_owned();
    for blob in blobs {
        fs::write(folder.join(sha256(blob)), blob).unwrap();
    }
    move |digest| folder.join(digest.to_string())
}

#[test]
fn a_push_brings_blobs_then_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (content(100_000), b"second".to_vec());
    let at = put_blobs(&folder, &[&one, &two, b"{}"]);
    let bytes = odd_bytes(&manifest(&[&one, &two]));
    let (shelf, wire) = shelf(vec![]);
    let net = net(&[("registry.example", &wire)]);
    let mut events = Vec::new();
    push(&registry(&net, None), "v1", &bytes, &at, &mut |p| events.push(p)).unwrap();
    {
        let shelf = shelf.lock().unwrap();
        assert_eq!(shelf.blobs.len(), 3);
        assert!(shelf.blobs[&sha256(&one)] == one && shelf.manifest == bytes);
    }
    assert_eq!(events.last(), Some(&Pushed::Manifest));
    let (d, total) = (digest(&one), 100_000);
    assert_eq!(
        events[..2],
        [
            Pushed::Blob { digest: d, done: 0, total },
            Pushed::Blob { digest: d, done: total, total }
        ]
    );
    let scopes: Vec<_> = wire.calls().iter().filter_map(|c| c.parameter("scope")).collect();
    assert_eq!(scopes, ["repository:me/mine:pull"], "one token is enough here");
    // The second time nothing is sent but the manifest.
    let before = wire.calls().len();
    push(&registry(&net, None), "v1", &bytes, &at, &mut |_| ()).unwrap();
    let lines = wire.lines().split_off(before);
    assert!(
        lines.iter().all(|l| !l.starts_with("P") || l == "PUT /v2/me/mine/manifests/v1"),
        "{lines:?}"
    );
}

#[test]
fn a_layer_of_another_model_is_mounted() {
    let folder = tempfile::tempdir().unwrap();
    let at = put_blobs(&folder, &[b"base", b"{}"]);
    let mut manifest = manifest(&[b"base"]);
    manifest.layers[0].from = Some("library/base".into());
    let (shelf, wire) = shelf(vec![]);
    let net = net(&[("registry.example", &wire)]);
    push(&registry(&net, None), "v1", &manifest.to_bytes(), &at, &mut |_| ()).unwrap();
    let patched = wire.calls().iter().filter(|c| c.method == "PATCH").count();
    assert_eq!((shelf.lock().unwrap().blobs.len(), patched), (2, 1));
}

#[test]
fn a_broken_upload_goes_on_where_it_was() {
    for failure in [Said::dead(), Said::status(503), Said::status(416)] {
        let folder = tempfile::tempdir().unwrap();
        let data = content(90_001);
        let at = put_blobs(&folder, &[&data, b"{}"]);
        let (shelf, wire) = shelf(vec![(1, failure)]);
        let net = net(&[("registry.example", &wire)]);
        push(&registry(&net, None), "v1", &manifest(&[&data]).to_bytes(), &at, &mut |_| ())
            .unwrap();
        assert!(shelf.lock().unwrap().blobs[&sha256(&data)] == data);
        let ranges: Vec<_> = wire
            .calls()
            .iter()
            .filter(|c| c.method == "PATCH" && c.body.len() > 2)
            .map(|c| c.header("content-range").to_owned())
            .collect();
        assert_eq!(
            (ranges.first().unwrap().as_str(), ranges.last().unwrap().as_str()),
            ("0-90000", "45000-90000")
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let at = put_blobs(&folder, &[b"model", b"{}"]);
    let (_, wire) = shelf((1..20).map(|n| (n, Said::status(500))).collect());
    let net = net(&[("registry.example", &wire)]);
    let e = push(&registry(&net, None), "v1", &manifest(&[b"model"]).to_bytes(), &at, &mut |_| ())
        .unwrap_err();
    assert!(matches!(e, SourceError::Interrupted { .. }), "{e}");
}

#[test]
fn a_blob_goes_in_parts_and_on_from_the_middle_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = content(25_000);
    let at = put_blobs(&folder, &[&data, b"{}"]);
    let (shelf, wire) = shelf(vec![(2, Said::dead())]);
    let net = net(&[("registry.example", &wire)]);
    let mut done = Vec::new();
    let mut told = |p| {
        if let Pushed::Blob { done: n, total: 25_000, .. } = p {
            done.push(n);
        }
    };
    let bytes = manifest(&[&data]).to_bytes();
    push_in_parts(&registry(&net, None), "v1", &bytes, 10_000, &at, &mut told).unwrap();
    assert!(shelf.lock().unwrap().blobs[&sha256(&data)] == data);
    assert_eq!(done, [0, 10_000, 15_000, 25_000]);
    // Storage's tag of the parts that arrived: MD5 of their MD5s, and their number.
    let commit = wire.calls().into_iter().find(|c| c.method == "PUT").unwrap();
    let sums: Vec<u8> = [&data[..10_000], &data[10_000..15_000], &data[15_000..]]
        .iter()
        .flat_map(Md5::digest)
        .collect();
    let tag: String = Md5::digest(sums).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(commit.parameter("etag"), Some(format!("{tag}-3")));
}

#[test]
fn pushes_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = put_blobs(&folder, &[b"model", b"{}"]);
    let manifest = manifest(&[b"model"]).to_bytes();
    // Uploads are not sent to other servers, wherever the registry points.
    let other = Wire::start(|_| Said::status(202));
    for target in [
        "http://other.example/u".to_owned(),
        other.url.clone(),
        "file:///x".into(),
        "https://registry.example/u".into(),
    ] {
        let wire = Wire::start(move |call| match call.method.as_str() {
            "POST" => Said::status(202).header("Location", target.clone()),
            _ => Said::status(404),
        });
        let net = net(&[("registry.example", &wire), ("other.example", &other)]);
        let e = push(&registry(&net, None), "v1", &manifest, &at, &mut |_| ()).unwrap_err();
        assert!(matches!(e, SourceError::Refused(_)), "{e}");
    }
    assert!(other.calls().is_empty());
    let (_, wire) = shelf(vec![]);
    let net = net(&[("registry.example", &wire)]);
    let gone = folder.path().join("gone");
    let e =
        push(&registry(&net, None), "v1", &manifest, &|_| gone.clone(), &mut |_| ()).unwrap_err();
    assert!(matches!(e, SourceError::Local { .. }), "{e}");
    fs::write(&gone, b"mode").unwrap();
    let e =
        push(&registry(&net, None), "v1", &manifest, &|_| gone.clone(), &mut |_| ()).unwrap_err();
    assert!(matches!(e, SourceError::Local { .. }), "{e}");
    fs::write(&gone, b"other").unwrap();
    let e =
        push(&registry(&net, None), "v1", &manifest, &|_| gone.clone(), &mut |_| ()).unwrap_err();
    assert!(e.to_string().contains("other digest"), "{e}");
    let lines = wire.lines();
    assert!(lines.iter().all(|l| !l.contains("manifests")), "no manifest without its blobs");
}
