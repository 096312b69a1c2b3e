//! Advice over the device table and the catalogue: what the guide advises, under its constraints.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod catalogue;

use hob_machine::devices;
use hob_plan::advise::{
    Candidate, Choice, Constraints, Engine, Limit, Offer, Purpose, advise, offer_of_devices, offers,
};

fn candidates() -> Vec<Candidate> {
    let months = |text: &str| {
        let (year, month) = text.split_once('-').unwrap();
        (year.parse().unwrap(), month.parse().unwrap())
    };
    let candidate = |known: catalogue::Known| {
        let kinds = known.entry["kinds"].as_array().cloned().unwrap_or_default();
        let purpose = |kind: &serde_json::Value| match kind.as_str().unwrap() {
            "chat" => Some(Purpose::Chat),
            "code" => Some(Purpose::Code),
            "reasoning" => Some(Purpose::Reasoning),
            "embedding" => Some(Purpose::Embedding),
            _ => None,
        };
        Candidate {
            parameters: known.model.parameters(),
            active: known.model.active_parameters(),
            purposes: kinds.iter().filter_map(purpose).collect(),
            released: known.entry["released"].as_str().map(months),
            repository: known.entry["weights"].as_str().unwrap_or("").to_owned(),
            gguf: None,
            name: known.name,
            model: known.model,
        }
    };
    catalogue::all().into_iter().map(candidate).collect()
}

fn free() -> Constraints {
    Constraints {
        budget: None,
        max_watts: None,
        portable: false,
        os: None,
        purpose: Purpose::Chat,
        min_speed: None,
        context: None,
        users: 1,
    }
}

fn device(name: &str) -> Vec<Offer> {
    vec![offer_of_devices(&devices::parse(name).unwrap())]
}

fn check(list: &[Choice], constraints: &Constraints) {
    assert!((1..=7).contains(&list.len()));
    for choice in list {
        let needed = constraints.min_speed.unwrap_or(constraints.purpose.speed());
        assert!(choice.speed.mid >= needed);
        assert!(constraints.budget.is_none_or(|most| choice.usd.unwrap() <= most));
        assert!(constraints.max_watts.is_none_or(|most| choice.watts.unwrap() <= most));
    }
    // No other of the list is better in everything.
    for (a, b) in list.iter().flat_map(|a| list.iter().map(move |b| (a, b))) {
        let better = a.quality > b.quality && a.speed.mid > b.speed.mid;
        let cheaper = a.usd.zip(b.usd).is_some_and(|(a, b)| a < b);
        let cooler = a.watts.zip(b.watts).is_some_and(|(a, b)| a < b);
        assert!(!(better && cheaper && cooler));
    }
}

#[test]
fn a_room_with_five_hundred_watts() {
    let (offers, candidates) = (offers(), candidates());
    let constraints = Constraints { max_watts: Some(500), ..free() };
    let list = advise(&offers, &candidates, &constraints, 7).unwrap();
    check(&list, &constraints);
    // Desktop cards are among what is allowed, but not the largest.
    let watts = |name: &str| offers.iter().find(|o| o.name == name).unwrap().watts.unwrap();
    assert!(watts("GeForce RTX 5090") > 500 && watts("GeForce RTX 5070 Ti") <= 500);
    let desktop =
        offers.iter().filter(|o| !o.portable && !o.server && o.watts.unwrap_or(999) <= 500);
    assert!(desktop.flat_map(|o| &o.rig.cards).any(|card| card.memory >= 16 << 30));
}

#[test]
fn little_money_and_something_to_carry() {
    let (offers, candidates) = (offers(), candidates());
    let cheap = Constraints { budget: Some(1500), ..free() };
    check(&advise(&offers, &candidates, &cheap, 7).unwrap(), &cheap);
    let portable = Constraints { portable: true, ..free() };
    let list = advise(&offers, &candidates, &portable, 7).unwrap();
    check(&list, &portable);
    assert!(list.iter().all(|choice| offers[choice.offer].portable));
    // More money never buys worse answers.
    let best = |usd| {
        let constraints = Constraints { budget: Some(usd), ..free() };
        let list = advise(&offers, &candidates, &constraints, 1000).unwrap();
        list.iter().map(|c| c.quality).fold(f64::MIN, f64::max)
    };
    assert!(best(1500) <= best(3000) && best(3000) <= best(8000));
}

#[test]
fn many_users_on_cards_of_a_data_centre_are_served_by_vllm() {
    let candidates = candidates();
    let offers = device("2x A100 80GB");
    let constraints = Constraints { users: 32, ..free() };
    let list = advise(&offers, &candidates, &constraints, 7).unwrap();
    assert!(list.iter().any(|c| c.engine == Engine::Vllm { parallel: 2 }), "{list:?}");
    // Alone there is no case for it.
    let alone = advise(&offers, &candidates, &free(), 7).unwrap();
    assert!(alone.iter().all(|c| c.engine == Engine::LlamaCpp));
    // Nor on one card at home.
    let home = advise(&device("RTX 4090"), &candidates, &constraints, 7);
    assert!(home.is_ok_and(|list| list.iter().all(|c| c.engine == Engine::LlamaCpp)));
}

#[test]
fn what_excludes_everything_is_named() {
    let (offers, candidates) = (offers(), candidates());
    let constraints = Constraints { budget: Some(50), max_watts: Some(100_000), ..free() };
    let nothing = advise(&offers, &candidates, &constraints, 7).unwrap_err();
    let limits: Vec<Limit> = nothing.without.iter().map(|(limit, _)| *limit).collect();
    assert_eq!(limits, [Limit::Budget]);
    assert!(nothing.without[0].1.usd.unwrap() > 50);
    let fast = Constraints { min_speed: Some(1e6), ..free() };
    let nothing = advise(&device("RTX 4090"), &candidates, &fast, 7).unwrap_err();
    assert_eq!(nothing.without.len(), 1);
    assert_eq!(nothing.without[0].0, Limit::Speed);
}

#[test]
fn every_purpose_has_an_answer_on_a_good_card() {
    let candidates = candidates();
    for purpose in [
        Purpose::Chat,
        Purpose::Code,
        Purpose::Reasoning,
        Purpose::Embedding,
        Purpose::Rag,
        Purpose::LongContext,
    ] {
        let constraints = Constraints { purpose, ..free() };
        let list = advise(&device("RTX 4090"), &candidates, &constraints, 7).unwrap();
        check(&list, &constraints);
        let kinds = |c: &Choice| candidates[c.candidate].purposes.clone();
        if !matches!(purpose, Purpose::Rag | Purpose::LongContext) {
            assert!(list.iter().all(|c| kinds(c).contains(&purpose)), "{purpose:?}");
        }
    }
}
