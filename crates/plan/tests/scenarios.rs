//! What guides to running models at home claim, asked of the planner: the right answers, and where the claims are wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod catalogue;

use catalogue::{model, rig};
use hob_model::KvType;
use hob_plan::fit::{self, Fits, Why};
use hob_plan::placement::Wishes;

const GIB: u64 = 1 << 30;

#[test]
fn fourteen_billion_in_four_bits_on_twelve_gigabytes() {
    let qwen = model("qwen3:14b");
    for card in ["RTX 4070", "RTX 3060 12GB"] {
        let rig = rig(card);
        let short = qwen.fit("Q4_K_M", &rig, &Wishes::new(8192));
        assert_eq!(short.fits, Fits::Full, "{card}: {}", short.line);
        assert!(short.line.starts_with("all 40 layers on"), "{}", short.line);
        assert_eq!(short.memory.kv, 5 * GIB / 4);
        // 5 GiB of cache at 32k do not fit beside 8.4 of weights.
        let long = qwen.fit("Q4_K_M", &rig, &Wishes::new(32768));
        assert_eq!(long.fits, Fits::Partial, "{card}: {}", long.line);
        assert_eq!(long.memory.kv, 5 * GIB);
        assert!((8192..32768).contains(&long.max_context), "{}", long.max_context);
        assert!(
            long.line.contains("layers on") && long.line.contains("on the CPU"),
            "{}",
            long.line
        );
        // Half the cache reaches farther.
        let halved = Wishes { kv: KvType::Q8_0, ..Wishes::new(32768) };
        assert!(qwen.fit("Q4_K_M", &rig, &halved).max_context > long.max_context);
        // Without a part on the CPU it is faster.
        let speed = |fit: &fit::Fit| fit.speeds.unwrap().decode.mid;
        assert!(speed(&short) > speed(&long));
    }
}

#[test]
fn a_laptop_with_sixteen_gigabytes_and_an_integrated_gpu() {
    let qwen = model("qwen3:14b");
    let rig = rig("Radeon 780M 16GB");
    let fit = qwen.fit("Q4_K_M", &rig, &Wishes::new(8192));
    assert_eq!(fit.fits, Fits::Full, "{}", fit.line);
    let limit = rig.cards[0].free;
    // It is in memory; through the GPU only as far as the system lets it.
    if fit.memory.total() > limit {
        assert!(
            fit.line.starts_with("on the CPU: ") && fit.line.contains("may use"),
            "{}",
            fit.line
        );
    } else {
        assert!(fit.line.contains("780M"), "{}", fit.line);
    }
    let small = model("qwen3:4b").fit("Q4_K_M", &rig, &Wishes::new(8192));
    assert!(small.memory.total() < limit && small.line.contains("780M"), "{}", small.line);
    // The published weights have no room at all.
    assert_eq!(qwen.fit("BF16", &rig, &Wishes::new(8192)).fits, Fits::No);
}

#[test]
fn the_full_deepseek_on_a_mac_and_on_two_cards() {
    for name in ["deepseek-r1:671b", "deepseek-v3:671b"] {
        let deepseek = model(name);
        let mac = rig("M3 Ultra 512GB");
        let at = |recipe| deepseek.fit(recipe, &mac, &Wishes::new(8192));
        // 404 GB of weights in the 384 GiB that the GPU may use; latents are small.
        let four = at("Q4_K_M");
        assert_eq!(four.fits, Fits::Full, "{}", four.line);
        assert!(four.max_context >= 16384, "{}", four.max_context);
        assert!(four.memory.kv < GIB, "{}", four.memory.kv);
        assert_eq!(at("Q3_K_M").fits, Fits::Full);
        assert_ne!(at("Q5_K_M").fits, Fits::Full);
        assert_eq!(at("Q8_0").fits, Fits::No);

        let cards = rig("2x A100 80GB");
        for fit in deepseek.fits(&cards, &Wishes::new(8192)) {
            // Only what is called one bit has room there.
            let whole = fit.fits == Fits::Full;
            assert!(!whole || fit.bits < 2.0, "{}: {}", fit.recipe.name, fit.line);
        }
        assert_ne!(deepseek.fit("Q4_K_M", &cards, &Wishes::new(8192)).fits, Fits::Full);
    }
}

#[test]
fn published_weights_on_desktop_cards() {
    let qwen = model("qwen3:14b");
    let fit = |card, context| qwen.fit("BF16", &rig(card), &Wishes::new(context));
    assert_eq!(fit("RTX 4090", 4096).fits, Fits::Partial);
    let whole = fit("RTX 5090", 8192);
    assert_eq!(whole.fits, Fits::Full, "{}", whole.line);
    assert!(whole.max_context < 40960, "{}", whole.max_context);
    // More than fifty tokens per second in four bits, as the guide says; not as published.
    let four = qwen.fit("Q4_K_M", &rig("RTX 5090"), &Wishes::new(8192)).speeds.unwrap();
    assert!(four.decode.mid > 50.0, "{:?}", four.decode);
    assert!(four.decode.low < four.decode.mid && four.decode.mid < four.decode.high);
}

#[test]
fn ninety_six_gigabytes_of_shared_memory() {
    // Half of it as the system comes, 96 of 128 after a setting.
    let usual = rig("Ryzen AI Max+ 395 128GB");
    assert_eq!(usual.shared_limit(), Some(64 * GIB));
    let given = usual.clone().with_gpu_memory(96 * GIB);
    let llama = model("llama3.3:70b");
    let at = |rig| llama.fit("Q8_0", rig, &Wishes::new(8192));
    let (before, after) = (at(&usual), at(&given));
    assert_eq!((before.fits, after.fits), (Fits::Full, Fits::Full));
    assert!(
        before.line.starts_with("on the CPU: ") && before.line.contains("64 GiB"),
        "{}",
        before.line
    );
    assert!(after.line.starts_with("all 80 layers on Radeon 8060S"), "{}", after.line);
    // Memory is no speed: a mixture with few active parameters is what it is good for.
    assert!(after.speeds.unwrap().decode.mid < 10.0);
    let large = model("gpt-oss:120b").fit("MXFP4_MOE", &given, &Wishes::new(8192));
    assert!(large.line.starts_with("all 36 layers on Radeon 8060S"), "{}", large.line);
    assert!(large.speeds.unwrap().decode.mid > 20.0);
}

#[test]
fn thirty_two_billion_on_a_mac() {
    let qwen = model("qwen3:32b");
    let fits = |device, recipe| qwen.fit(recipe, &rig(device), &Wishes::new(8192));
    let fit = fits("M4 Max 64GB", "Q4_K_M");
    assert_eq!(fit.fits, Fits::Full, "{}", fit.line);
    assert!(fit.speeds.unwrap().decode.mid > 10.0);
    // A third of 24 GB is the system's.
    assert_ne!(fits("M4 Pro 24GB", "Q4_K_M").fits, Fits::Full);
}

#[test]
fn experts_on_the_cpu() {
    let qwen = model("qwen3:30b-a3b");
    for (card, context) in [("RTX 4070", 8192), ("RTX 4060 8GB", 8192)] {
        let rig = rig(card);
        let fits = qwen.fits(&rig, &Wishes::new(context));
        let four = fits.iter().find(|fit| fit.recipe.name == "Q4_K_M").unwrap();
        assert_eq!(four.fits, Fits::Partial, "{}", four.line);
        assert!(four.line.starts_with("experts of "), "{card}: {}", four.line);
        let placement = four.placement.as_ref().unwrap();
        let cores = placement.shares[&hob_plan::placement::Seat::Cores];
        assert!(cores.experts > 0 && cores.blocks == 0, "{cores:?}");
        // Faster than from main memory alone, and fast enough.
        let mut alone = rig.clone();
        alone.cards.clear();
        let slower = qwen.fit("Q4_K_M", &alone, &Wishes::new(context)).speeds.unwrap();
        let speed = four.speeds.unwrap().decode.mid;
        assert!(speed > slower.decode.mid && speed > 10.0, "{card}: {speed}");
        let (best, why) = fit::best(&fits).unwrap();
        assert!(fits[best].bits >= 4.0 && why <= Why::Partly, "{} {why:?}", fits[best].recipe.name);
    }
}

#[test]
fn the_best_is_explained_and_grows_with_the_card() {
    let qwen = model("qwen3:14b");
    let mut last = 0.0;
    for card in ["RTX 4060 8GB", "RTX 4070", "RTX 5060 Ti 16GB", "RTX 4090", "RTX 5090"] {
        let fits = qwen.fits(&rig(card), &Wishes::new(8192));
        let (index, why) = fit::best(&fits).unwrap();
        let best = &fits[index];
        assert!(best.bits >= last, "{card}: {} {why:?}", best.recipe.name);
        assert!(best.bits <= fit::ENOUGH_BITS, "{card}: {}", best.recipe.name);
        if best.fits == Fits::Full {
            last = best.bits;
        }
    }
    assert!(last > 6.5);
}

/// On cores alone a file of half the bytes is no more than twice as fast, for answers that are far worse.
#[test]
fn a_slow_processor_takes_the_usual_recipe() {
    let mut desktop = rig("RTX 4070").cores_only();
    for (name, bandwidth) in
        [("qwen3:14b", 80e9), ("qwen3:8b", 60e9), ("llama3.3:70b", 300e9), ("gemma3:27b", 90e9)]
    {
        desktop.host.bandwidth = bandwidth;
        let fits = model(name).fits(&desktop, &Wishes::new(8192));
        let (best, why) = fit::best(&fits).unwrap();
        // Or the same with a little more in its embeddings.
        let recipe = fits[best].recipe.name;
        assert!(["Q4_K_M", "Q4_K_L"].contains(&recipe) && why == Why::Slow, "{name}: {recipe}");
    }
    // With less room, fewer bits before fewer than four; then what is left.
    let qwen = model("qwen3:14b");
    let mut last = f64::INFINITY;
    for gib in [16, 12, 11, 10, 9, 8, 7, 6] {
        desktop.host.free = gib * GIB;
        let fits = qwen.fits(&desktop, &Wishes::new(8192));
        let (best, why) = fit::best(&fits).unwrap();
        assert!(fits[best].bits <= last && why >= Why::Slow, "{gib} {why:?}");
        assert_eq!(why == Why::Slow, fits[best].bits >= fit::GOOD_BITS, "{gib} {why:?}");
        last = fits[best].bits;
    }
}

/// Where four bits do not fit a card, three do, and answer at once.
#[test]
fn a_small_card_takes_few_bits_rather_than_the_cpu() {
    let fits = model("qwen3:32b").fits(&rig("RTX 4080"), &Wishes::new(8192));
    let (best, why) = fit::best(&fits).unwrap();
    let best = &fits[best];
    assert_eq!((why, best.fits), (Why::FewBits, Fits::Full), "{} {}", best.recipe.name, best.line);
    assert!(best.bits < fit::GOOD_BITS && best.speeds.unwrap().decode.mid > fit::READING_SPEED);
}

/// Recipes whose names promise less can have more bits where rows are not whole blocks; nothing is gained by them.
#[test]
fn what_was_published_in_four_bits_stays_so_and_vectors_have_eight() {
    let fast = rig("M3 Ultra 512GB");
    for (name, expected) in [
        ("gpt-oss:20b", "MXFP4_MOE"),
        ("gpt-oss:120b", "MXFP4_MOE"),
        ("all-minilm:l6-v2", "Q8_0"),
        ("nomic-embed-text:v1.5", "Q8_0"),
    ] {
        let fits = model(name).fits(&fast, &Wishes::new(512));
        let (best, why) = fit::best(&fits).unwrap();
        assert_eq!((fits[best].recipe.name, why), (expected, Why::Whole), "{name}");
    }
}
