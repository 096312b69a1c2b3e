//! Pulls by every kind of name from hubs that speak their own protocols: which recipe, under which name, from whom, and what is asked of
//! whom when something is missing.

use std::cell::RefCell;
use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::mirror::{COMMIT, mirror};
use super::wire::{Said, Wire};
use super::*;
use crate::{Choice, Facts, Keeper};

const SMALL: &str = "m-Q2_K.gguf";
const USUAL: &str = "m-Q4_K_M.gguf";

/// The repository's files: two recipes, one of them in two parts, and what is no model.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("README.md", b"# m".to_vec()),
        (SMALL, content(50_000)),
        (USUAL, content(150_000)),
        ("Q8_0/m-Q8_0-00001-of-00002.gguf", content(120_000)),
        ("Q8_0/m-Q8_0-00002-of-00002.gguf", content(90_001)),
    ]
}

fn serve(files: &[(&str, Vec<u8>)]) -> Wire {
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(p, d)| (*p, d.as_slice())).collect();
    mirror(&borrowed)
}

/// A hub whose two hubs are at these addresses, and whose catalogue has one model, in `org/repo` of both.
fn hub_of(root: &Path, hugging_face: &str, model_scope: &str) -> Hub {
    let entry = json!({"name": "known", "tag": "1b", "aliases": ["small"], "default": true, "kinds": ["chat"],
        "architecture": "llama", "parameters": 7, "context": 9, "licence": "MIT",
        "repositories": {"hugging-face": ["org/none", "org/repo"], "model-scope": ["org/none", "org/repo"]}});
    let mut settings = settings(root, hugging_face);
    settings.hubs.model_scope = model_scope.to_owned();
    Hub {
        store: Store::at(root.to_owned()),
        shared: Shared::default(),
        catalogue: Catalogue::parse(&json!([entry]).to_string()).unwrap(),
        settings,
    }
}

const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn a_repository_without_a_tag_gets_the_chosen_recipe_and_its_name() {
    let root = TempDir::new().unwrap();
    let server = serve(&files());
    let hub = hub_of(root.path(), &server.url, NOBODY);
    let offered = RefCell::new(Vec::new());
    let choose = |name: &str, choices: &[Choice]| {
        assert_eq!(name, "hf.co/org/repo:latest");
        offered.borrow_mut().extend(choices.iter().map(|c| (c.recipe.clone(), c.bytes)));
        Ok(0)
    };
    let describe = |parts: &[std::path::PathBuf]| {
        assert_eq!(fs::metadata(&parts[0]).unwrap().len(), 50_000);
        Some(Facts { architecture: "llama".into(), ..Facts::default() })
    };
    let wishes = Wishes { choose: &choose, describe: &describe, ..Wishes::plain() };
    let model = hub.pull("hf.co/org/repo", &wishes, &mut |_| ()).unwrap();
    assert_eq!(model.name, "hf.co/org/repo:Q2_K");
    let all = ["Q2_K", "Q4_K_M", "Q8_0"].map(str::to_owned).into_iter();
    let sizes = [50_000, 150_000, 210_001].map(Some);
    assert_eq!(*offered.borrow(), all.zip(sizes).collect::<Vec<_>>());
    let facts = model.facts.clone().unwrap();
    assert_eq!((facts.recipe.as_str(), facts.architecture.as_str()), ("Q2_K", "llama"));
    assert_eq!(facts.source, format!("Hugging Face org/repo@{COMMIT}"));
    assert_eq!(model.keeper, Keeper::Hob);
    // The name without a tag means it from now on, and nobody is asked again.
    let asked = server.calls().len();
    assert_eq!(hub.pull("hf.co/org/repo", &wishes, &mut |_| ()).unwrap(), model);
    assert_eq!((server.calls().len(), hub.find("HF.co/Org/Repo").unwrap()), (asked, Some(model)));
}

#[test]
fn a_split_model_is_one_model() {
    let root = TempDir::new().unwrap();
    let server = serve(&files());
    let hub = hub_of(root.path(), &server.url, NOBODY);
    let mut done = Vec::new();
    let model = hub
        .pull("hf.co/org/repo@main:q8_0", &Wishes::plain(), &mut |event| {
            if let Progress::Bytes { done: bytes, total } = event {
                assert_eq!(total, 210_001);
                done.push(bytes);
            }
        })
        .unwrap();
    assert_eq!((model.parts.len(), model.name.as_str()), (2, "hf.co/org/repo:Q8_0"));
    let lengths: Vec<u64> = model.parts.iter().map(|p| fs::metadata(p).unwrap().len()).collect();
    assert_eq!(lengths, [120_000, 90_001]);
    assert!(done.is_sorted() && done.last() == Some(&210_001), "{done:?}");
    assert_eq!(hub.verify(&[], &mut |_| ()).unwrap(), []);
}

#[test]
fn a_name_of_the_catalogue_is_looked_for_on_both_hubs_and_fetched_from_both() {
    let root = TempDir::new().unwrap();
    let (ours, theirs) = (serve(&files()), serve(&files()));
    let hub = hub_of(root.path(), &ours.url, &theirs.url);
    let model = hub.pull("known", &Wishes::plain(), &mut |_| ()).unwrap();
    assert_eq!(model.name, "known:1b");
    let facts = model.facts.unwrap();
    assert_eq!((facts.recipe.as_str(), facts.parameters), ("Q4_K_M", Some(7)));
    let fetched = |wire: &Wire, what: &str| wire.lines().iter().any(|line| line.contains(what));
    assert!(fetched(&ours, "/org/none") && fetched(&theirs, "/org/none"), "both were asked");
    assert!(fetched(&ours, "/storage/") || fetched(&theirs, "/models/org/repo/resolve/"));
    // An alias, and a recipe behind the tag.
    assert!(hub.find("known:small").unwrap().is_some());
    let other = hub.pull("known:1b-q2_k", &Wishes::plain(), &mut |_| ()).unwrap();
    assert_eq!(
        (other.name.as_str(), fs::metadata(&other.path).unwrap().len()),
        ("known:1b-q2_k", 50_000)
    );
    let wishes = Wishes { recipe: Some("Q8_0".into()), ..Wishes::plain() };
    assert_eq!(hub.pull("known", &wishes, &mut |_| ()).unwrap().name, "known:1b-q8_0");
}

#[test]
fn one_hub_is_enough_and_the_dead_one_is_asked_once() {
    let root = TempDir::new().unwrap();
    let server = serve(&files());
    let hub = hub_of(root.path(), NOBODY, &server.url);
    let mut failed = Vec::new();
    let model = hub
        .pull("known", &Wishes::plain(), &mut |event| {
            if let Progress::Failed { source, .. } = event {
                failed.push(source);
            }
        })
        .unwrap();
    assert_eq!(model.facts.unwrap().source, "ModelScope org/repo");
    assert_eq!(failed.iter().filter(|s| s.starts_with("Hugging Face")).count(), 1, "{failed:?}");
}

#[test]
fn the_same_bytes_come_from_the_namesake_when_the_first_breaks_off() {
    let root = TempDir::new().unwrap();
    let theirs = serve(&files());
    // Lists its file, and then does not have it.
    let listing = serve(&[(USUAL, content(150_000))]);
    let url = listing.url.clone();
    let broken = Wire::start(move |call| match call.path.starts_with("/api/") {
        true => Said::redirect(&format!("{url}{}", call.path)),
        false => Said::status(500),
    });
    let hub = hub_of(root.path(), &broken.url, &theirs.url);
    let model = hub.pull("hf.co/org/repo:Q4_K_M", &Wishes::plain(), &mut |_| ()).unwrap();
    assert!(fs::read(&model.path).unwrap() == content(150_000));
    assert!(model.facts.unwrap().source.starts_with("ModelScope org/repo"));
}

#[test]
fn a_namesake_alone_is_not_trusted() {
    let root = TempDir::new().unwrap();
    let theirs = serve(&files());
    let empty = Wire::start(|_| Said::status(404).header("X-Error-Code", "RepoNotFound"));
    let hub = hub_of(root.path(), &empty.url, &theirs.url);
    let result = hub.pull("hf.co/org/repo:Q4_K_M", &Wishes::plain(), &mut |_| ());
    let Err(HubError::AllSourcesFailed { tried, .. }) = result else { panic!("{result:?}") };
    assert_eq!((tried.len(), tried[0].source.as_str()), (1, "Hugging Face org/repo"));
    assert_eq!(hub.list().unwrap(), crate::Listing::default());
}

#[test]
fn what_is_not_there_is_said_with_what_there_is() {
    let root = TempDir::new().unwrap();
    let server = serve(&files());
    let hub = hub_of(root.path(), &server.url, NOBODY);
    let failed = |reference: &str, wishes: &Wishes| {
        hub.pull(reference, wishes, &mut |_| ()).unwrap_err().to_string()
    };
    let said = failed("hf.co/org/repo:Q5_K_M", &Wishes::plain());
    assert!(said.contains("no 'Q5_K_M'") && said.contains("Q4_K_M"), "{said}");
    let said = failed("hf.co/org/repo@v9:Q4_K_M", &Wishes::plain());
    assert!(said.contains("v9"), "{said}");
    let choose = |_: &str, _: &[Choice]| Err("nothing fits".to_owned());
    let said = failed("hf.co/org/repo", &Wishes { choose: &choose, ..Wishes::plain() });
    assert!(said.contains("nothing fits"), "{said}");
    assert_eq!(hub.list().unwrap(), crate::Listing::default());
}

#[test]
fn a_file_behind_an_address_gets_a_name_and_a_digest() {
    let root = TempDir::new().unwrap();
    let server = serve(&files());
    let hub = hub_of(root.path(), NOBODY, NOBODY);
    let url = format!("{}/models/org/repo/resolve/master/{USUAL}?download=true", server.url);
    let model = hub.pull(&url, &Wishes::plain(), &mut |_| ()).unwrap();
    assert_eq!(model.name, "url/m-Q4_K_M:latest");
    assert_eq!(model.digest, Some(sha256(&content(150_000))));
    assert_eq!(hub.find(&url).unwrap(), Some(model.clone()));
    assert_eq!(hub.verify(&[], &mut |_| ()).unwrap(), []);
    for folder in ["partial", "tmp"] {
        assert!(names_in(&root.path().join(folder)).is_empty());
    }
    // Its checksums are kept under its own name, for repairs.
    assert!(
        root.path().join("parts").join(format!("sha256-{}", sha256(&content(150_000)))).exists()
    );
}

#[test]
fn a_registry_s_model_without_weights_is_not_fetched() {
    let root = TempDir::new().unwrap();
    let config = json!({"mediaType": crate::manifest::CONFIG_TYPE, "digest": format!("sha256:{}", sha256(b"{}")), "size": 2});
    let tensor = json!({"mediaType": "application/vnd.ollama.image.tensor", "digest": format!("sha256:{}", sha256(b"t")), "size": 1});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": [tensor]}).to_string();
    let server = Wire::start(move |_| Said::status(200).body(manifest.clone()));
    let hub = hub_of(root.path(), &server.url, NOBODY);
    let said = hub.pull("me/mlx:v1", &Wishes::plain(), &mut |_| ()).unwrap_err().to_string();
    assert!(said.contains("no weights in GGUF"), "{said}");
    assert_eq!(server.calls().len(), 1);
}
