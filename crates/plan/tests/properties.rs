//! What must hold on every rig: more is never less, parts are the whole, and nothing panics.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod catalogue;

use std::sync::LazyLock;

use hob_machine::{Kind, Vendor};
use hob_model::{CacheLayout, KvType, Model, Recipe, RecipeOptions};
use hob_plan::fit::{Fit, Fits};
use hob_plan::memory::Weights;
use hob_plan::placement::{Job, Seat, Wishes};
use hob_plan::{Card, Host, Rig};
use proptest::prelude::*;

const RECIPES: [&str; 6] = ["F16", "Q8_0", "Q5_K_M", "Q4_K_M", "IQ3_XXS", "IQ1_S"];

static MODELS: LazyLock<Vec<catalogue::Known>> = LazyLock::new(|| {
    let names = [
        "qwen3:14b",
        "qwen3:30b-a3b",
        "deepseek-v2:16b",
        "gemma3:4b",
        "qwen3.5:9b",
        "granite4:tiny-h",
        "llama3.2:1b",
    ];
    let all = catalogue::all();
    all.into_iter().filter(|known| names.contains(&known.name.as_str())).collect()
});

fn host() -> impl Strategy<Value = Host> {
    let kind = prop_oneof![3 => Just(Kind::Cpu), 1 => Just(Kind::Unified)];
    (kind, 0u64..64, 0u64..64, 0.0..600e9, 0.0..3e13).prop_map(
        |(kind, gib, limit, bandwidth, operations)| Host {
            name: "host".into(),
            kind,
            vendor: Vendor::Other,
            memory: gib << 30,
            free: gib << 30,
            bandwidth,
            operations,
            limit: (kind == Kind::Unified).then_some(limit << 30),
            probe: None,
        },
    )
}

fn card() -> impl Strategy<Value = Card> {
    let kind = prop_oneof![4 => Just(Kind::Discrete), 1 => Just(Kind::Integrated)];
    (kind, 0u64..40_000, 0.0..2e12, 0.0..2e14).prop_map(|(kind, mib, bandwidth, operations)| Card {
        name: format!("card {mib}"),
        kind,
        vendor: Vendor::Nvidia,
        memory: mib << 20,
        free: mib << 20,
        bandwidth,
        operations,
        link: 26e9,
    })
}

fn rig() -> impl Strategy<Value = Rig> {
    (host(), prop::collection::vec(card(), 0..4)).prop_map(|(host, cards)| Rig {
        name: "rig".into(),
        host,
        cards,
        notes: Vec::new(),
    })
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let kv = prop_oneof![Just(KvType::F16), Just(KvType::Q8_0)];
    (1usize..8192, 1usize..5, kv, 0usize..4096).prop_map(|(context, users, kv, depth)| Wishes {
        users,
        kv,
        depth,
        ..Wishes::new(context)
    })
}

fn fit(model: usize, recipe: usize, rig: &Rig, wishes: &Wishes) -> Fit {
    MODELS[model % MODELS.len()].fit(RECIPES[recipe % RECIPES.len()], rig, wishes)
}

fn decode(fit: &Fit) -> f64 {
    fit.speeds.map_or(0.0, |s| s.decode.mid)
}

fn weights(model: &Model, recipe: &str) -> Weights {
    let types = Recipe::find(recipe).unwrap().tensor_types(model, &RecipeOptions::default());
    Weights::of(model, &types)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_memory_never_fits_less(
        rig in rig(), wishes in wishes(), model in 0usize..7, recipe in 0usize..6, which in 0usize..5, more in 0u64..(20 << 30),
    ) {
        let mut larger = rig.clone();
        match (which, larger.cards.get_mut(which.wrapping_sub(2))) {
            (0, _) => larger.host.free += more,
            (1, _) => larger.host.limit = larger.host.limit.map(|l| l + more),
            (_, Some(card)) => card.free += more,
            _ => {}
        }
        let (a, b) = (fit(model, recipe, &rig, &wishes), fit(model, recipe, &larger, &wishes));
        prop_assert!(b.fits >= a.fits, "{} then {}", a.line, b.line);
        prop_assert!(b.max_context >= a.max_context, "{} {}", a.max_context, b.max_context);
    }

    #[test]
    fn more_to_keep_never_needs_less(
        rig in rig(), wishes in wishes(), model in 0usize..7, recipe in 0usize..6, tokens in 0usize..8192, users in 0usize..4,
    ) {
        let less = fit(model, recipe, &rig, &wishes);
        for more in [
            Wishes { context: wishes.context + tokens, ..wishes },
            Wishes { users: wishes.users + users, ..wishes },
        ] {
            let known = &MODELS[model % MODELS.len()];
            let weights = weights(&known.model, "Q4_K_M");
            let job = |wishes| Job { model: &known.model, weights: &weights, wishes };
            let (a, b) = (job(wishes).alone(&rig), job(more).alone(&rig));
            // Recurrent models keep fewer states of prefixes where other things need the room.
            if CacheLayout::of(&known.model).state_bytes() == 0 {
                prop_assert!(b.total() >= a.total());
            }
            let fit = fit(model, recipe, &rig, &more);
            prop_assert!(fit.fits <= less.fits, "{} then {}", less.line, fit.line);
        }
    }

    #[test]
    fn a_smaller_recipe_never_needs_more(rig in rig(), wishes in wishes(), model in 0usize..7) {
        let known = &MODELS[model % MODELS.len()];
        let mut needs: Vec<(u64, u64)> = RECIPES
            .iter()
            .map(|recipe| {
                let weights = weights(&known.model, recipe);
                let job = Job { model: &known.model, weights: &weights, wishes };
                (weights.total(), job.alone(&rig).total())
            })
            .collect();
        needs.sort_unstable();
        if CacheLayout::of(&known.model).state_bytes() == 0 {
            prop_assert!(needs.is_sorted_by_key(|(_, total)| *total));
        }
        // In one memory, what is smaller fits where the larger does.
        let alone = Rig { cards: Vec::new(), ..rig };
        let mut fits: Vec<Fit> = (0..RECIPES.len()).map(|r| fit(model, r, &alone, &wishes)).collect();
        fits.sort_by_key(|fit| fit.file_bytes);
        let whole: Vec<bool> = fits.iter().map(|fit| fit.fits != Fits::No).collect();
        prop_assert!(whole.is_sorted_by_key(|fits| !fits), "{whole:?}");
    }

    /// Where all lies in one memory, of whatever is offered: files of a recipe's name are a little larger or smaller than the recipe's own.
    #[test]
    fn more_memory_never_takes_a_smaller_file(
        host in host(), model in 0usize..7, more in 0u64..(20 << 30),
        offered in prop::collection::vec((0usize..6, 0.95..1.05), 1..8),
    ) {
        let known = &MODELS[model % MODELS.len()];
        let wishes = Wishes::usual(&known.model);
        let taken = |free: u64| {
            let host = Host { free, ..host.clone() };
            let rig = Rig { name: "rig".into(), host, cards: Vec::new(), notes: Vec::new() }.cores_only();
            let fit = |(recipe, factor): &(usize, f64)| known.fit_file(RECIPES[*recipe], *factor, &rig, &wishes);
            let fits: Vec<Fit> = offered.iter().map(fit).collect();
            hob_plan::fit::best(&fits).map(|(index, why)| (fits[index].file_bytes, why))
        };
        let (a, b) = (taken(host.free), taken(host.free + more));
        prop_assert!(a.map(|a| a.0) <= b.map(|b| b.0), "{a:?} then {b:?}");
    }

    #[test]
    fn more_bandwidth_is_never_slower(
        rig in rig(), wishes in wishes(), model in 0usize..7, recipe in 0usize..6, which in 0usize..4, factor in 1.0..3.0,
    ) {
        let mut faster = rig.clone();
        match faster.cards.get_mut(which.wrapping_sub(1)) {
            Some(card) => card.bandwidth *= factor,
            None => faster.host.bandwidth *= factor,
        }
        let (a, b) = (fit(model, recipe, &rig, &wishes), fit(model, recipe, &faster, &wishes));
        prop_assert_eq!(a.fits, b.fits);
        prop_assert!(decode(&b) >= decode(&a) * (1.0 - 1e-9), "{} {} {} {}", decode(&a), decode(&b), a.line, b.line);
    }

    #[test]
    fn parts_are_the_whole(rig in rig(), wishes in wishes(), model in 0usize..7, recipe in 0usize..6) {
        let known = &MODELS[model % MODELS.len()];
        let fit = fit(model, recipe, &rig, &wishes);
        let Some(placement) = &fit.placement else { return Ok(()) };
        let total = placement.total();
        prop_assert_eq!(total.blocks, known.model.blocks.len());
        prop_assert_eq!(total.weights, fit.file_bytes.unwrap() - known.size.header());
        prop_assert_eq!(total, fit.memory);
        for (seat, share) in &placement.shares {
            let free = match seat {
                Seat::Card(index) => rig.cards[*index].free,
                Seat::Chip => rig.host.limit.unwrap(),
                Seat::Cores => rig.host.free,
            };
            // Tables that are looked up lie in the file; they are all that a card leaves there.
            let in_file = *seat == Seat::Cores && share.blocks + share.experts == 0;
            prop_assert!(in_file || share.total() <= free, "{:?} {:?} of {}", seat, share, free);
        }
        prop_assert!(!fit.line.is_empty());
    }

    #[test]
    fn odd_rigs_do_no_harm(
        bandwidth in prop_oneof![Just(0.0), Just(f64::MIN_POSITIVE), Just(f64::MAX), Just(f64::INFINITY), Just(f64::NAN), Just(-1.0)],
        memory in prop_oneof![Just(0u64), Just(1), Just(u64::MAX)],
        kind in prop_oneof![Just(Kind::Cpu), Just(Kind::Unified), Just(Kind::Integrated), Just(Kind::Discrete)],
        model in 0usize..7,
    ) {
        let host = Host {
            name: String::new(), kind, vendor: Vendor::Other, memory, free: memory, bandwidth, operations: bandwidth,
            limit: Some(memory), probe: None,
        };
        let card = Card {
            name: String::new(), kind, vendor: Vendor::Other, memory, free: memory, bandwidth, operations: bandwidth, link: bandwidth,
        };
        let rig = Rig { name: String::new(), host, cards: vec![card; 3], notes: Vec::new() };
        for context in [0, 1, usize::MAX >> 40] {
            let wishes = Wishes { users: 0, prompt: 0, depth: context, ..Wishes::new(context) };
            let fits = MODELS[model].fits(&rig, &wishes);
            prop_assert_eq!(fits.len(), Recipe::all().len());
            hob_plan::fit::best(&fits);
        }
    }
}
