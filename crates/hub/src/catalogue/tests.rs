//! The built-in data is sound, and is found by the names and words that people use.

use std::collections::HashSet;

use super::*;

fn built_in() -> Catalogue {
    Catalogue::built_in().unwrap()
}

fn full_names(found: &[&Entry]) -> Vec<String> {
    found.iter().map(|e| e.full_name()).collect()
}

#[test]
fn names_are_valid_and_mean_one_entry() {
    let catalogue = built_in();
    assert!(catalogue.entries().count() >= 60);
    let mut seen = HashSet::new();
    for e in catalogue.entries() {
        for tag in e.aliases.iter().chain([&e.tag]) {
            assert!(seen.insert((&e.name, tag)), "{}:{tag} twice", e.name);
            assert_ne!(tag, LATEST);
            for part in [&e.name, tag] {
                assert!(ModelName::parse(part).is_ok(), "{part}");
                assert_eq!(*part, part.to_lowercase());
            }
        }
        let defaults = catalogue.entries().filter(|o| o.name == e.name && o.default).count();
        assert_eq!(defaults, 1, "{} needs one default tag", e.name);
    }
}

#[test]
fn facts_are_complete() {
    for e in built_in().entries() {
        let name = e.full_name();
        assert!(e.parameters > 0 && e.context > 0 && !e.licence.is_empty(), "{name}");
        assert!(!e.kinds.is_empty() && !e.architecture.is_empty(), "{name}");
        assert!(e.active_parameters.is_none_or(|active| 0 < active && active < e.parameters));
        let embeds = e.kinds.contains(&Kind::Embedding);
        assert!(!embeds || e.kinds.len() == 1, "{name}: an embedding model is nothing else");
        let date = |d: &String| {
            let (year, month) = d.split_once('-').unwrap();
            let within = |text: &str, low, high| (low..=high).contains(&text.parse().unwrap());
            d.len() == 7 && within(year, 2018, 2100) && within(month, 1, 12)
        };
        assert!(e.released.as_ref().is_none_or(date), "{name}");
        assert!(e.published.as_ref().is_none_or(|p| p.config.is_object()), "{name}");
        for f in &e.files {
            assert!(f.bytes > 0 && !f.sources.is_empty());
            // A quantized weight takes between 1 and 32 bits.
            assert!(f.bytes * 8 > e.parameters && f.bytes < e.parameters * 5, "{name}");
        }
    }
}

#[test]
fn there_are_places_to_look_on_both_hubs() {
    let sound = |repo: &str| {
        let part = |text: &str| !text.is_empty() && ModelName::parse(text).is_ok();
        repo.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
    };
    for e in built_in().entries() {
        let (name, places) = (e.full_name(), &e.repositories);
        let here: Vec<&str> = places.hugging_face().collect();
        let there: Vec<&str> = places.model_scope().collect();
        for repos in [&here, &there] {
            assert!(repos.iter().all(|repo| sound(repo)), "{name}: {repos:?}");
            assert_eq!(repos.iter().collect::<HashSet<_>>().len(), repos.len(), "{name}");
        }
        assert!(sound(&e.weights), "{name}: {}", e.weights);
        assert!(!here.is_empty() || !there.is_empty(), "{name}");
        let one = here.is_empty() || there.is_empty();
        assert_eq!(places.one_hub().is_some(), one, "{name}: one hub, and why");
    }
}

#[test]
fn the_starter_is_there_under_all_its_names() {
    let c = built_in();
    for text in ["smollm2", "smollm2:135m", "SMOLLM2:135M", "smollm2:latest"] {
        let e = c.find(&ModelName::parse(text).unwrap()).unwrap().0;
        assert_eq!((e.parameters, e.files[0].bytes), (134_515_008, 98_362_432));
    }
    assert!(c.find(&ModelName::parse("smollm2:2b").unwrap()).is_none());
}

#[test]
fn aliases_mean_what_they_say() {
    let c = built_in();
    for (text, full) in [
        ("llama3.1", "llama3.1:8b"),
        ("qwen3:30b", "qwen3:30b-a3b"),
        ("deepseek-r1:latest", "deepseek-r1:8b"),
        ("gemma4:26b", "gemma4:26b-a4b"),
        ("all-minilm:22m", "all-minilm:l6-v2"),
        ("phi3:mini", "phi3:3.8b"),
    ] {
        assert_eq!(c.find(&ModelName::parse(text).unwrap()).unwrap().0.full_name(), full);
    }
}

#[test]
fn a_recipe_may_follow_the_tag() {
    let c = built_in();
    let found = |text: &str| {
        let name = ModelName::parse(text).unwrap();
        c.find(&name).map(|(entry, recipe)| (entry.full_name(), recipe.map(str::to_owned)))
    };
    let some = |full: &str, recipe: &str| Some((full.to_owned(), Some(recipe.to_owned())));
    assert_eq!(found("qwen3:14b-q8_0"), some("qwen3:14b", "q8_0"));
    assert_eq!(found("qwen3:30b-UD-Q4_K_XL"), some("qwen3:30b-a3b", "UD-Q4_K_XL"));
    assert_eq!(found("qwen3:30b-a3b"), Some(("qwen3:30b-a3b".to_owned(), None)));
    assert_eq!(found("qwen3:14b-"), None);
    assert_eq!(found("someone/qwen3:14b"), None);
}

#[test]
fn words_narrow_and_rank() {
    let c = built_in();
    let search = |words: &str| full_names(&c.search(words));
    assert_eq!(search("").len(), c.entries().count());
    assert!(search("no such model").is_empty());
    assert_eq!(search("qwen3 14b"), ["qwen3:14b"]);
    assert_eq!(search("Qwen3:14B"), ["qwen3:14b"]);
    // The name itself comes before names that begin with it, in the order of sizes.
    let qwen3 = search("qwen3");
    assert_eq!(qwen3[..2], ["qwen3:0.6b", "qwen3:1.7b"]);
    let embedding = qwen3.iter().position(|n| n == "qwen3-embedding:0.6b").unwrap();
    assert!(qwen3[..embedding].iter().any(|n| n == "qwen3:235b-a22b"));
    let code = c.search("code apache-2.0 qwen");
    assert!(code.len() >= 5);
    assert!(code.iter().all(|e| e.kinds.contains(&Kind::Code) && e.licence == "Apache-2.0"));
    assert!(c.search("embedding").iter().all(|e| e.kinds == [Kind::Embedding]));
    assert!(search("google").iter().any(|n| n == "gemma3:4b"));
}
