//! Rules shown on vocabularies small enough to read, and properties on random text.

use hob_gguf::MetaBuilder;
use hob_text::{EncodeOptions, TextError, Token, Tokenizer};
use proptest::prelude::*;

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const SPECIAL: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

fn build(builder: &MetaBuilder) -> Result<Tokenizer, TextError> {
    Tokenizer::from_gguf(&builder.build().expect("valid metadata"))
}

fn tokenizer(builder: &MetaBuilder) -> Tokenizer {
    build(builder).expect("a valid vocabulary")
}

/// GPT-2's alphabet as pieces, in the order of the bytes.
fn byte_alphabet() -> Vec<String> {
    let printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut moved = 0x100..;
    let code = |b| if printable(b) { b } else { moved.next().expect("endless") };
    (0..256).map(code).map(|c| char::from_u32(c).expect("a character").to_string()).collect()
}

/// All bytes, a few merges, two control tokens and a user-defined one.
fn byte_bpe() -> MetaBuilder {
    let mut tokens = byte_alphabet();
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ hello", "ä ¸", "Ġ Ġ"];
    tokens.extend(merges.iter().map(|m| m.replace(' ', "")));
    let mut kinds = vec![1i32; tokens.len()];
    for (piece, kind) in [("<|im_start|>", 3), ("<|im_end|>", 3), ("<tool>", 4)] {
        tokens.push(piece.to_owned());
        kinds.push(kind);
    }
    MetaBuilder::new()
        .set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", "qwen2")
        .set("tokenizer.ggml.tokens", tokens)
        .set("tokenizer.ggml.token_type", kinds)
        .set("tokenizer.ggml.merges", merges.map(str::to_owned).to_vec())
        .set("tokenizer.ggml.bos_token_id", 263u32)
        .set("tokenizer.ggml.eos_token_id", 264u32)
}

/// SentencePiece with byte fallback.
fn spm() -> MetaBuilder {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    let mut kinds = vec![2i32, 3, 3];
    kinds.resize(tokens.len(), 6);
    let mut scores = vec![0f32; tokens.len()];
    for (score, piece) in ["▁", "a", "b", "ab", "▁a", "▁ab", "世"].iter().enumerate() {
        tokens.push((*piece).to_owned());
        kinds.push(1);
        scores.push(score as f32);
    }
    MetaBuilder::new()
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.tokens", tokens)
        .set("tokenizer.ggml.token_type", kinds)
        .set("tokenizer.ggml.scores", scores)
}

fn pieces(tokenizer: &Tokenizer, tokens: &[Token]) -> Vec<String> {
    tokens.iter().map(|&t| tokenizer.piece(t).into_owned()).collect()
}

#[test]
fn merges_apply_in_their_order() {
    let t = tokenizer(&byte_bpe());
    assert_eq!(pieces(&t, &t.encode("hello hello hell", PLAIN)), ["hello", "Ġhello", "Ġ", "hell"]);
    assert_eq!(t.decode(&t.encode("hello 世界\n", PLAIN)), "hello 世界\n");
}

#[test]
fn control_tokens_are_read_only_on_request() {
    let t = tokenizer(&byte_bpe());
    let text = "<|im_start|>hello<tool><|im_end|>";
    assert_eq!(t.encode(text, SPECIAL).len(), 4);
    let plain = t.encode(text, PLAIN);
    assert!(plain.iter().all(|&t| t != 263 && t != 264), "{plain:?}");
    assert!(plain.contains(&265), "a user-defined token is always one");
    assert_eq!(t.decode(&plain), text);
    assert_eq!(t.decode(&t.encode(text, SPECIAL)), "hello<tool>");
    assert_eq!(t.decode_with(&t.encode(text, SPECIAL), true), text);
    assert!(t.is_eog(264) && t.is_control(263) && !t.is_control(265));
    assert_eq!((t.token_id("<tool>"), t.bos(), t.vocab_size()), (Some(265), Some(263), 266));
}

#[test]
fn begin_and_end_follow_the_file() {
    assert!(tokenizer(&byte_bpe()).encode("", SPECIAL).is_empty());
    let both = byte_bpe()
        .set("tokenizer.ggml.add_bos_token", true)
        .set("tokenizer.ggml.add_eos_token", true);
    assert_eq!(tokenizer(&both).encode("", SPECIAL), [263, 264]);
    assert!(tokenizer(&both).encode("", PLAIN).is_empty());
    // Llama 3's files rely on the pre-tokenizer's name.
    let llama = byte_bpe().set("tokenizer.ggml.pre", "llama-bpe");
    assert_eq!(tokenizer(&llama).encode("", SPECIAL), [263]);
}

#[test]
fn sentencepiece_scores_prefix_and_byte_fallback() {
    let t = tokenizer(&spm());
    let tokens = t.encode("ab ab世é", SPECIAL);
    assert_eq!(pieces(&t, &tokens), ["<s>", "▁ab", "▁ab", "世", "<0xC3>", "<0xA9>"]);
    assert_eq!(t.decode(&tokens), "ab ab世é");
    // A prompt can't spell a control token.
    assert!(!t.encode("</s>", PLAIN).contains(&2));
    let no_prefix = tokenizer(&spm().set("tokenizer.ggml.add_space_prefix", false));
    assert_eq!(pieces(&no_prefix, &no_prefix.encode("ab", PLAIN)), ["ab"]);
}

#[test]
fn wordpiece_takes_the_longest_piece() {
    let tokens =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁un", "aff", "able", "▁un", "▁,", "▁世", "▁cafe"];
    let kinds = vec![3i32, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1];
    let t = tokenizer(
        &MetaBuilder::new()
            .set("tokenizer.ggml.model", "bert")
            .set("tokenizer.ggml.tokens", tokens.as_slice())
            .set("tokenizer.ggml.token_type", kinds)
            .set("tokenizer.ggml.cls_token_id", 2u32)
            .set("tokenizer.ggml.seperator_token_id", 3u32)
            .set("tokenizer.ggml.unknown_token_id", 1u32),
    );
    let tokens = t.encode("UNaffable,\u{200d} Café世xyz", SPECIAL);
    let expected = ["[CLS]", "▁un", "aff", "able", "▁,", "▁cafe", "▁世", "[UNK]", "[SEP]"];
    assert_eq!(pieces(&t, &tokens), expected);
}

#[test]
fn unigram_takes_the_best_sum() {
    let tokens = ["<pad>", "</s>", "<unk>", "▁a", "b", "▁ab", "c", "bc"];
    let scores = vec![0f32, 0.0, 0.0, -1.0, -2.0, -2.5, -3.0, -2.2];
    let t = tokenizer(
        &MetaBuilder::new()
            .set("tokenizer.ggml.model", "t5")
            .set("tokenizer.ggml.tokens", tokens.as_slice())
            .set("tokenizer.ggml.scores", scores)
            .set("tokenizer.ggml.token_type", vec![3i32, 3, 2, 1, 1, 1, 1, 1])
            .set("tokenizer.ggml.add_space_prefix", true),
    );
    assert_eq!(pieces(&t, &t.encode("abc", SPECIAL)), ["▁a", "bc", "</s>"]);
    assert_eq!(pieces(&t, &t.encode("ab??", PLAIN)), ["▁ab", "<unk>"]);
    assert!(t.encode("", PLAIN).is_empty());
}

#[test]
fn unknown_names_are_errors_that_name_them() {
    let named = |builder: &MetaBuilder| build(builder).expect_err("an error").to_string();
    assert!(named(&byte_bpe().set("tokenizer.ggml.pre", "klingon")).contains("klingon"));
    assert!(named(&byte_bpe().set("tokenizer.ggml.model", "rwkv")).contains("rwkv"));
}

#[test]
fn broken_metadata_is_an_error() {
    let none: Vec<String> = Vec::new();
    let broken = [
        byte_bpe().set("tokenizer.ggml.tokens", none),
        byte_bpe().set("tokenizer.ggml.tokens", "abc"),
        byte_bpe().set("tokenizer.ggml.tokens", vec![1u32, 2]),
        byte_bpe().set("tokenizer.ggml.token_type", vec![1i32]),
        byte_bpe().set("tokenizer.ggml.scores", vec![1f32]),
        byte_bpe().set("tokenizer.ggml.merges", vec!["nopair".to_owned()]),
        byte_bpe().set("tokenizer.ggml.merges", vec![7u32]),
        byte_bpe().set("tokenizer.ggml.add_bos_token", "yes"),
        spm()
            .set("tokenizer.ggml.model", "t5")
            .set("tokenizer.ggml.precompiled_charsmap", vec![1u8]),
        spm()
            .set("tokenizer.ggml.model", "t5")
            .set("tokenizer.ggml.precompiled_charsmap", vec![255u8; 2000]),
    ];
    for (i, builder) in broken.iter().enumerate() {
        assert!(build(builder).is_err(), "case {i}");
    }
    let mut without = byte_bpe();
    without.remove("tokenizer.ggml.merges");
    assert!(build(&without).is_err());
}

#[test]
fn special_ids_out_of_range_mean_none() {
    let t = tokenizer(
        &byte_bpe()
            .set("tokenizer.ggml.bos_token_id", -1i32)
            .set("tokenizer.ggml.eos_token_id", 9999u32),
    );
    assert_eq!((t.bos(), t.eos()), (None, None));
    assert_eq!(t.token_bytes(9999, true), b"");
    assert_eq!((t.piece(9999).as_ref(), t.is_eog(9999)), ("", false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn encoding_then_decoding_is_the_identity(text in "\\PC*|[a-b \n世é👍🏽<|im_end>tol]{0,80}") {
        for t in [tokenizer(&byte_bpe()), tokenizer(&spm())] {
            let text = text.replace('\u{2581}', "");
            prop_assert_eq!(t.decode(&t.encode(&text, PLAIN)), text);
        }
    }

    #[test]
    fn a_hostile_character_map_is_harmless(
        trie in proptest::collection::vec((0u32..256, any::<u8>(), any::<bool>()), 256),
        text in "\\PC{0,40}",
    ) {
        let units = trie.iter().flat_map(|&(offset, label, leaf)| {
            let unit: u32 = (offset << 10) | (u32::from(leaf) << 8) | u32::from(label);
            unit.to_le_bytes()
        });
        let map: Vec<u8> = 1024u32.to_le_bytes().into_iter().chain(units).chain(*b"xy\0z").collect();
        let builder = spm()
            .set("tokenizer.ggml.model", "t5")
            .set("tokenizer.ggml.precompiled_charsmap", map);
        tokenizer(&builder).encode(&text, PLAIN);
    }

    #[test]
    fn a_stream_is_what_decode_gives(tokens in proptest::collection::vec(0u32..270, 0..40)) {
        for t in [tokenizer(&byte_bpe()), tokenizer(&spm())] {
            let mut stream = t.detokenizer().from_start().with_special(true);
            let mut text = String::new();
            for &token in &tokens {
                text.push_str(stream.push(token));
            }
            text.push_str(&stream.finish());
            prop_assert_eq!(text, t.decode_with(&tokens, true));
        }
    }

    #[test]
    fn a_stream_never_shows_half_a_character(text in "\\PC*") {
        let t = tokenizer(&byte_bpe());
        let mut stream = t.detokenizer();
        let mut shown = String::new();
        for token in t.encode(&text, PLAIN) {
            shown.push_str(stream.push(token));
            prop_assert!(text.starts_with(&shown));
        }
        prop_assert!(!stream.is_pending());
        prop_assert_eq!(shown, text);
    }
}
