//! The store as the user sees it: listing, damage, removal, references.

use std::fs;

use tempfile::TempDir;

use super::server::{Reply, Server};
use super::*;

const LEN: usize = 100_000;

fn filled() -> (TempDir, Hub, Server) {
    let root = TempDir::new().unwrap();
    let server = Server::start(|r| Reply::proper(r, &content(LEN)));
    let hub = hub(root.path(), &content(LEN), &[hugging_face()], &server.url);
    pull(&hub).0.unwrap();
    (root, hub, server)
}

#[test]
fn a_store_that_does_not_exist_is_empty_and_stays_away() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("not/yet");
    let hub = Hub::at(folder.clone()).unwrap();
    assert_eq!(hub.list().unwrap(), crate::Listing::default());
    assert_eq!(hub.find("smollm2").unwrap(), None);
    assert!(matches!(hub.remove("smollm2"), Err(HubError::NotStored { .. })));
    assert!(!folder.exists());
}

#[test]
fn unknown_names_come_with_near_ones() {
    let root = TempDir::new().unwrap();
    let registry = Server::start(|_| Reply::status("404 Not Found"));
    let mut hub = Hub::at(root.path().to_owned()).unwrap();
    hub.settings.registry = registry.url.clone();
    for wrong in ["smolm2", "smollm", "SmolLM2:9b"] {
        match hub.find(wrong) {
            Err(HubError::UnknownModel { near, .. }) => {
                assert!(near.contains(&"smollm2:135m".to_owned()), "{near:?}");
                // Sizes only where one was given.
                let sizes = near.iter().filter(|n| n.starts_with("smollm2:")).count();
                assert_eq!(sizes > 1, wrong.contains(':'), "{near:?}");
            }
            other => panic!("{wrong}: {other:?}"),
        }
        assert!(matches!(
            hub.pull(wrong, &Wishes::plain(), &mut |_| ()),
            Err(HubError::UnknownModel { .. })
        ));
    }
}

#[test]
fn a_path_is_its_own_model() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("My Model.GGUF");
    fs::write(&path, b"GGUF").unwrap();
    let hub = Hub::at(root.path().join("store")).unwrap();
    let text = path.to_str().unwrap();
    let model = hub.find(text).unwrap().unwrap();
    assert_eq!(
        (model.name.as_str(), &model.path, model.bytes, &model.digest),
        (text, &path, 4, &None)
    );
    assert_eq!(hub.pull(text, &Wishes::plain(), &mut |_| ()).unwrap(), model);
    assert!(matches!(hub.find("./missing.gguf"), Err(HubError::NoSuchFile { .. })));
}

#[test]
fn damaged_models_hide_no_others_and_heal_by_pulling() {
    let (root, hub, _server) = filled();
    let manifest = root.path().join("manifests/registry.ollama.ai/library/tiny/1b");
    let sound = fs::read_to_string(&manifest).unwrap();
    let other = root.path().join("manifests/registry.ollama.ai/library/other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("latest"), &sound).unwrap();
    fs::write(other.join(".tmpXYZ"), "half").unwrap();
    fs::write(root.path().join("manifests/registry.ollama.ai/library/stray"), "file").unwrap();
    fs::create_dir_all(root.path().join("manifests/registry.ollama.ai/..odd")).unwrap();
    let escape = sound.replace(&sha256(&content(LEN)), "../../../../etc/passwd");
    for bad in [
        "",
        "{",
        "[]",
        "\u{0}",
        &sound[..sound.len() / 2],
        &sound.replace("\"schemaVersion\":2", "\"schemaVersion\":3"),
        &escape,
    ] {
        fs::write(&manifest, bad).unwrap();
        let listing = hub.list().unwrap();
        assert_eq!(
            listing.models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(),
            ["other:latest"]
        );
        assert_eq!(listing.damaged.len(), 1);
        assert_eq!(listing.damaged[0].name, "tiny:1b");
        assert!(matches!(hub.find("tiny"), Err(HubError::Damaged { .. })), "{bad}");
    }
    pull(&hub).0.unwrap();
    assert_eq!(hub.list().unwrap().models.len(), 2);
    assert_eq!(hub.list().unwrap().damaged, []);
}

#[test]
fn a_blob_of_another_length_is_fetched_again() {
    let (_root, hub, server) = filled();
    let model = hub.find("tiny").unwrap().unwrap();
    for rubbish in [Some(b"short".to_vec()), Some(vec![0; LEN + 1]), None] {
        match rubbish {
            Some(bytes) => fs::write(&model.path, bytes).unwrap(),
            None => fs::remove_file(&model.path).unwrap(),
        }
        assert!(matches!(hub.find("tiny"), Err(HubError::Damaged { .. })));
        let before = server.sent();
        let again = pull(&hub).0.unwrap();
        assert_stored(&hub, &again, &content(LEN));
        assert_eq!(server.sent(), before + LEN as u64);
    }
}

#[test]
fn a_blob_goes_with_its_last_model() {
    let (root, hub, _server) = filled();
    let LocalModel { path: blob, bytes, .. } = hub.find("tiny").unwrap().unwrap();
    let twin = root.path().join("manifests/registry.ollama.ai/library/twin");
    fs::create_dir_all(&twin).unwrap();
    fs::copy(root.path().join("manifests/registry.ollama.ai/library/tiny/1b"), twin.join("latest"))
        .unwrap();
    assert_eq!(hub.remove("tiny:1b").unwrap(), 0);
    assert!(blob.exists());
    assert_eq!(hub.find("twin").unwrap().unwrap().path, blob);
    assert_eq!(hub.find("tiny").unwrap(), None);
    assert_eq!(hub.remove("twin").unwrap(), bytes);
    assert!(!blob.exists());
    assert!(matches!(hub.remove("twin"), Err(HubError::NotStored { .. })));
}

#[test]
fn a_damaged_model_can_be_removed() {
    let (root, hub, _server) = filled();
    fs::write(root.path().join("manifests/registry.ollama.ai/library/tiny/1b"), "{").unwrap();
    hub.remove("tiny").unwrap();
    assert_eq!(hub.list().unwrap(), crate::Listing::default());
}

#[test]
fn an_unwritable_store_is_a_typed_error() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    let hub = hub(&file, &content(LEN), &[hugging_face()], "http://127.0.0.1:1");
    assert!(matches!(pull(&hub).0, Err(HubError::Io { action: "create", .. })));
}
