//! Screens of `hob fit` from a description and named devices: as they should be, and within the terminal.

use hob_plan::rig_of_devices;
use serde_json::json;

use super::*;
use crate::doctor::lang::Lang;
use crate::grid;
use crate::grid::tests::is_as_kept;

const LANGS: [(Lang, &str); 2] = [(Lang::En, "en"), (Lang::Zh, "zh")];

/// Qwen3-14B, with one recipe measured.
fn qwen3(name: &str) -> Subject {
    let config = json!({"architectures": ["Qwen3ForCausalLM"], "head_dim": 128, "hidden_size": 5120,
        "intermediate_size": 17408, "max_position_embeddings": 40960, "num_attention_heads": 40, "num_hidden_layers": 40,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": false, "vocab_size": 151936});
    let config = HfConfig::parse(&config.to_string()).unwrap();
    let measured = vec![("Q4_K_M".to_owned(), json!({"kl": 0.01234, "perplexity": 9.5}))];
    Subject { measured, ..of_config(name, config, None).unwrap() }
}

fn on<'a>(subject: &'a Subject, device: &str, users: usize, pulled: bool) -> Report<'a> {
    let rig = rig_of_devices(&hob_machine::devices::parse(device).unwrap());
    report(subject, rig, Wishes { users, ..Wishes::new(32768) }, true, pulled).unwrap()
}

#[test]
fn screens_are_as_they_should_be() {
    let subject = qwen3("qwen3:14b");
    let (card, none) = (on(&subject, "RTX 4070", 1, false), on(&subject, "2x RTX 4070", 64, false));
    assert!(card.best.is_some() && none.best.is_none());
    for (name, report) in [("card", card), ("nothing", none)] {
        for (lang, ending) in LANGS {
            for width in [80, 120] {
                let text = show::text(&report, lang, width);
                is_as_kept(&format!("fit/{name}.{width}.{ending}.txt"), &text);
            }
        }
    }
}

#[test]
fn no_line_is_too_wide_and_none_is_left_in_english() {
    let subject = qwen3(
        "./a/folder/with-a-rather-long-name/that-has-no-spaces/between/its/many/parts/config.json",
    );
    let devices =
        ["RTX 4070", "M3 Ultra 512GB", "Radeon 780M 16GB", "RTX 4090 + RTX 3090", "8x B200"];
    for (device, users) in devices.iter().flat_map(|device| [(device, 1), (device, 4096)]) {
        let report = on(&subject, device, users, true);
        for (lang, _) in LANGS {
            for width in [80, 120] {
                let text = show::text(&report, lang, width) + &show::tensors(&report, lang, width);
                assert!(grid::fits(&text, width), "{width}: {text}");
                let english = text.split(|c: char| !c.is_alphanumeric()).any(|word| word == "of");
                assert_eq!(english, lang == Lang::En, "{text}");
            }
        }
    }
}

#[test]
fn every_reason_has_words_in_both_languages() {
    use fit::Why;
    for why in [Why::Whole, Why::Partly, Why::FewBits, Why::Slow, Why::SlowPartly, Why::Last] {
        let (english, chinese) = (words::why(Lang::En, why), words::why(Lang::Zh, why));
        assert!(english.is_ascii() && !chinese.is_ascii(), "{english}: {chinese}");
    }
}
