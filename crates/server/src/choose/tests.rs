//! What is taken of real offers on machines of all sorts; that it is what `hob fit` marks; and that more is never less.

use super::*;
use hob_machine::{Kind, Vendor};
use hob_plan::Host;
use proptest::prelude::*;

/// Files of qwen3:14b as a hub lists them, in MB.
const QWEN: &[(&str, u64)] = &[
    ("UD-IQ1_S", 3_600),
    ("Q2_K", 5_753),
    ("UD-Q2_K_XL", 6_010),
    ("Q3_K_S", 6_657),
    ("Q3_K_M", 7_321),
    ("IQ4_XS", 8_110),
    ("Q4_K_S", 8_573),
    ("Q4_K_M", 9_001),
    ("Q4_1", 9_390),
    ("Q5_K_M", 10_514),
    ("Q6_K", 12_121),
    ("Q8_0", 15_698),
    ("BF16", 29_543),
];

/// Of gpt-oss:20b. The experts are in MXFP4 in all of them.
const GPT_OSS: &[(&str, u64)] =
    &[("Q2_K", 11_468), ("Q4_K_M", 11_625), ("Q6_K", 12_041), ("Q8_0", 12_110), ("F16", 13_793)];

fn described(name: &str) -> Described {
    let store = tempfile::tempdir().unwrap();
    let hub = Hub::at(store.path().join("hob")).unwrap();
    let (_, published) = hub.published(name).unwrap().unwrap();
    Described::of_published(published).unwrap()
}

fn choices(all: &[(&str, u64)]) -> Vec<Choice> {
    let choice = |(recipe, mb): &(&str, u64)| Choice {
        recipe: (*recipe).to_owned(),
        bytes: Some(mb * 1_000_000),
    };
    all.iter().map(choice).collect()
}

/// Cores with so many bytes free, which read so many per second.
fn cores(free: u64, bandwidth: f64) -> Rig {
    let host = Host {
        name: "CPU".to_owned(),
        kind: Kind::Cpu,
        vendor: Vendor::Other,
        memory: free,
        free,
        bandwidth,
        operations: 4e12,
        limit: None,
        probe: None,
    };
    Rig { name: String::new(), host, cards: Vec::new(), notes: Vec::new() }
}

/// What is taken of an offer, and the line.
fn taken(name: &str, offer: &[(&str, u64)], rig: Rig) -> (String, String) {
    let (chooser, all) = (Chooser::of(Some(described(name)), rig), choices(offer));
    let index = chooser.choose(name, &all).unwrap();
    (all[index].recipe.clone(), chooser.reason().unwrap())
}

/// As taken without a description.
fn by_size(offer: &[(&str, u64)], free: u64) -> Result<(String, String), String> {
    let (chooser, all) = (Chooser::of(None, cores(free, 1e11)), choices(offer));
    let index = chooser.choose("m", &all)?;
    Ok((all[index].recipe.clone(), chooser.reason().unwrap()))
}

#[test]
fn an_ordinary_machine_takes_the_usual_one_and_a_fast_one_more_bits_but_not_all() {
    let at = |bandwidth| taken("qwen3:14b", QWEN, cores(64 << 30, bandwidth));
    for bandwidth in [20e9, 40e9, 80e9] {
        let (recipe, line) = at(bandwidth);
        assert_eq!(recipe, "Q4_K_M", "{line}");
        assert!(line.starts_with("qwen3:14b: taking Q4_K_M (9.0 GB): the most bits, "), "{line}");
        for part in ["none of 4 bits or more reads at 10 tok/s; about ", "here, room for 40960"] {
            assert!(line.contains(part), "{line}");
        }
        assert!(line.ends_with(" tokens; --recipe or a tag takes another"), "{line}");
    }
    for bandwidth in [400e9, 4e12, 4e14] {
        assert_eq!(at(bandwidth).0, "Q6_K");
    }
    // In between, as many bits as read at 10 tok/s.
    let (recipe, line) = at(160e9);
    assert!(["Q4_K_S", "Q4_K_M", "Q4_1", "Q5_K_M"].contains(&recipe.as_str()), "{line}");
    assert!(line.contains("that fit wholly and read at 10 tok/s or more; about 1"), "{line}");
}

#[test]
fn what_is_taken_is_what_fit_marks() {
    for name in ["qwen3:14b", "qwen3:30b-a3b", "gpt-oss:20b", "smollm2:1.7b", "gemma3:4b"] {
        let described = described(name);
        let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
        let subject = Subject::new(&described.model, &described.size, &options);
        let mut offer: Vec<(&str, u64)> =
            Recipe::all().iter().map(|r| (r.name, subject.bytes(r).unwrap())).collect();
        offer.sort_by_key(|(_, bytes)| *bytes);
        let offer: Vec<Choice> = offer
            .into_iter()
            .map(|(recipe, bytes)| Choice { recipe: recipe.to_owned(), bytes: Some(bytes) })
            .collect();
        for (gib, bandwidth) in [(6, 40e9), (12, 40e9), (24, 90e9), (64, 90e9), (256, 500e9)] {
            let rig = cores(gib << 30, bandwidth);
            let fits = fit::fit(&subject, &rig, &Wishes::usual(&described.model));
            let Some((best, why)) = fit::best(&fits) else { continue };
            let chooser = Chooser::of(Some(self::described(name)), rig);
            let index = chooser.choose(name, &offer).unwrap();
            let bytes = fits[best].file_bytes;
            assert_eq!(offer[index].bytes, bytes, "{name} {gib} {bandwidth} {why:?}");
            assert!(chooser.reason().unwrap().contains(why.text()));
        }
    }
}

#[test]
fn little_memory_takes_the_smallest_and_less_nothing() {
    let qwen = || Some(described("qwen3:14b"));
    let all = choices(QWEN);
    let choose = |free: u64| {
        let chooser = Chooser::of(qwen(), cores(free, 4e10));
        chooser.choose("qwen3:14b", &all).map(|_| chooser.reason().unwrap())
    };
    // 3.6 GB, 1.3 of cache at 8192 tokens and half of that at 4096, and buffers.
    let line = choose(5_300_000_000).unwrap();
    assert!(
        line.contains("taking UD-IQ1_S (3.6 GB): the smallest, as none fits the 5.3 GB"),
        "{line}"
    );
    assert!(line.contains("with 8192 tokens of context"), "{line}");
    let refusal = choose(3_900_000_000).unwrap_err();
    assert!(refusal.contains("the smallest, UD-IQ1_S of 3.6 GB, does not fit"), "{refusal}");
}

#[test]
fn names_mean_the_nearest_recipe_and_lengths_have_the_last_word() {
    let nearest = |model: &str, name: &str, mb: u64| {
        let described = described(model);
        let options = RecipeOptions { importance: true, ..RecipeOptions::default() };
        let subject = Subject::new(&described.model, &described.size, &options);
        let rig = cores(1 << 40, 1e11);
        Judge::new(subject, &rig).nearest(name, mb * 1_000_000).unwrap().name
    };
    for (name, mb, expected) in [
        ("Q4_K_M", 9_001, "Q4_K_M"),
        ("Q4_K_XL", 9_160, "Q4_K_M"),
        ("Q2_K_XL", 6_010, "Q2_K"),
        ("Q8_K_XL", 16_900, "Q8_0"),
        ("IQ2_M", 5_400, "IQ2_M"),
        ("Q4", 9_001, "Q4_K_M"),
        ("TQ1_0", 3_600, "IQ1_S"),
        ("QWEN3-14B", 29_540, "F16"),
    ] {
        assert_eq!(nearest("qwen3:14b", name, mb), expected, "{name}");
    }
    // A third of what sixteen bits of everything would be.
    for (name, mb) in [("F16", 13_793), ("Q8_0", 12_110)] {
        assert_ne!(nearest("gpt-oss:20b", name, mb), name);
    }
    // Nothing is gained beyond the precision in which it was published.
    assert_eq!(taken("gpt-oss:20b", GPT_OSS, cores(64 << 30, 4e11)).0, "Q8_0");
}

#[test]
fn files_of_unknown_length_are_judged_by_their_names() {
    let choice = |recipe: &str| Choice { recipe: recipe.to_owned(), bytes: None };
    let taken = |names: &[&str], gib: u64| {
        let chooser = Chooser::of(Some(described("qwen3:14b")), cores(gib << 30, 4e11));
        let all: Vec<Choice> = names.iter().map(|name| choice(name)).collect();
        chooser.choose("qwen3:14b", &all).map(|i| all[i].recipe.clone())
    };
    assert_eq!(taken(&["BF16", "Q4_K_M", "Q6_K", "Q8_0"], 64).unwrap(), "Q6_K");
    assert_eq!(taken(&["BF16", "Q4_K_M", "Q6_K", "Q8_0"], 12).unwrap(), "Q4_K_M");
    assert_eq!(taken(&["MODEL"], 64).unwrap(), "MODEL");
}

#[test]
fn without_a_description_the_usual_one_unless_it_does_not_fit() {
    let all = [("Q2_K", 4_000), ("Q3_K_M", 6_000), ("Q4_K_M", 8_000), ("Q8_0", 15_000)];
    let pick = |gb: u64| by_size(&all, gb * 1_000_000_000);
    assert_eq!(pick(64).unwrap().0, "Q4_K_M");
    let (picked, line) = pick(8).unwrap();
    assert_eq!(picked, "Q3_K_M");
    assert!(line.contains("Q4_K_M does not fit"), "{line}");
    assert_eq!(pick(5).unwrap().0, "Q2_K");
    assert!(pick(3).unwrap_err().contains("Q2_K"));
    // Without a usual one the largest that fits.
    let all = [("Q8_0", 2_000), ("F16", 4_000), ("F32", 8_000)];
    assert_eq!(by_size(&all, 6_000_000_000).unwrap().0, "F16");
    assert!(by_size(&all, 1_000_000_000).is_err());
    assert!(by_size(&[], u64::MAX).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_memory_never_takes_a_worse_one(
        offered in prop::collection::vec(any::<bool>(), QWEN.len()),
        bandwidth in 1e10..1e12, free in 1u64..(40 << 30), more in 0u64..(20 << 30), described in any::<bool>(),
    ) {
        let offer: Vec<_> =
            QWEN.iter().zip(&offered).filter(|(_, offered)| **offered).map(|(o, _)| *o).collect();
        let all = choices(&offer);
        let size = |free| {
            let described = described.then(|| self::described("qwen3:14b"));
            let picked = Chooser::of(described, cores(free, bandwidth)).choose("m", &all).ok();
            picked.and_then(|index| all[index].bytes)
        };
        prop_assert!(size(free) <= size(free + more));
    }
}
