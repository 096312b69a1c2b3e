"""Makes tiny checkpoints of every family with fixed seeds, and holds `hob convert` against llama.cpp's converter.

    python convert.py make DIR [NAME]                   tiny folders: DIR/FAMILY/{config.json,model.safetensors,...}
    python convert.py compare LLAMA_CPP HOB DIR [NAME]  converts folders in DIR with both, in f32, f16, bf16 and q8_0
    python convert.py store DIR OUT [NAME]              stores what `make` and `compare` left in DIR for the Rust test:
                                                        small files, tensors without numbers, hashes of theirs

LLAMA_CPP is a llama.cpp source tree (as in the llama-cpp-python 0.3.36 sdist), HOB the binary. Needs the packages
transformers, torch, sentencepiece, safetensors and tokenizers. The names of pre-tokenizers of these made-up
vocabularies are given to both, since the converter knows real ones only, by a hash.
"""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

from convert_published import PUBLISHED, gemma, sentence_transformer, unigram, word_piece

KINDS = ["f32", "f16", "bf16", "q8_0"]
FAMILIES = {}


def family(name, cls, pre=None, tokenizer="bpe"):
    def add(config):
        FAMILIES[name] = (cls, config, pre, tokenizer)
        return config
    return add


SMALL = dict(
    hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=320, max_position_embeddings=512, bos_token_id=256, eos_token_id=257, pad_token_id=None,
)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)

# Layers and windows are such that 250 tokens meet every kind of layer and every rule of a family.
family("llama", "LlamaForCausalLM", "llama-bpe")(dict(SMALL, rope_parameters=LLAMA3, tie_word_embeddings=True))
family("llama-spm", "LlamaForCausalLM", None, "spm")(dict(SMALL, attention_bias=True))
family("mixtral", "MixtralForCausalLM", None, "spm")(dict(SMALL, num_local_experts=4, num_experts_per_tok=2))
family("qwen2", "Qwen2ForCausalLM", "qwen2")(dict(SMALL, tie_word_embeddings=True))
family("qwen3", "Qwen3ForCausalLM", "qwen2")(dict(
    SMALL, head_dim=32,
    rope_parameters=dict(rope_type="yarn", rope_theta=1e6, factor=8.0, original_max_position_embeddings=64)))
family("qwen2moe", "Qwen2MoeForCausalLM", "qwen2")(dict(
    SMALL, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=32))
QWEN3_MOE = dict(
    SMALL, head_dim=32, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True)
family("qwen3moe", "Qwen3MoeForCausalLM", "qwen2")(QWEN3_MOE)
GEMMA2 = dict(SMALL, head_dim=32, sliding_window=64, query_pre_attn_scalar=32)
family("gemma2", "Gemma2ForCausalLM", None, "spm")(dict(
    GEMMA2, num_hidden_layers=4, attn_logit_softcapping=5.0, final_logit_softcapping=2.0))
GEMMA3 = dict(GEMMA2, num_hidden_layers=7)
family("gemma3", "Gemma3ForCausalLM", None, "spm")(GEMMA3)
PHI3 = dict(SMALL, max_position_embeddings=1024)
family("phi3", "Phi3ForCausalLM", None, "spm")(dict(
    PHI3, original_max_position_embeddings=128,
    rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, long_factor=[1.0 + i for i in range(8)],
                         short_factor=[1.0 + i / 8 for i in range(8)])))
family("phi3-short", "Phi3ForCausalLM", None, "spm")(dict(
    PHI3, original_max_position_embeddings=512, partial_rotary_factor=0.75,
    rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
                         long_factor=[1.0 + i for i in range(6)], short_factor=[1.0 + i / 2 for i in range(6)])))
family("olmo2", "Olmo2ForCausalLM", "dbrx")(dict(SMALL))
family("glm4", "Glm4ForCausalLM", "glm4")(dict(SMALL, head_dim=32, attention_bias=True))
family("smollm3", "SmolLM3ForCausalLM", "smaug-bpe")(dict(SMALL, num_hidden_layers=4, tie_word_embeddings=True))
family("mistral3", "Ministral3ForCausalLM", "tekken")(dict(
    SMALL, head_dim=32, rope_parameters=dict(
        rope_type="yarn", rope_theta=1e6, factor=16.0, original_max_position_embeddings=32, beta_fast=32.0,
        beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1)))
MLA = dict(
    SMALL, num_hidden_layers=3, num_key_value_heads=4, n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=1,
    moe_intermediate_size=16, first_k_dense_replace=1, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16,
    v_head_dim=16)
family("deepseek2", "DeepseekV3ForCausalLM", "deepseek-v3")(dict(
    MLA, q_lora_rank=32, n_group=4, topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True,
    scoring_func="sigmoid",
    rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=64,
                         beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0)))
family("deepseek2-lite", "DeepseekV2ForCausalLM", "deepseek-llm")(dict(
    MLA, q_lora_rank=None, topk_method="greedy", norm_topk_prob=False, routed_scaling_factor=1.0,
    n_group=1, topk_group=1,
    rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=64,
                         beta_fast=32, beta_slow=1, mscale=0.707, mscale_all_dim=0.707)))
GPT_OSS = dict(
    SMALL, num_hidden_layers=4, head_dim=32, intermediate_size=32, num_local_experts=4, num_experts_per_tok=2,
    sliding_window=64, rope_parameters=dict(
        rope_type="yarn", rope_theta=150000.0, factor=8.0, original_max_position_embeddings=64, beta_fast=32.0,
        beta_slow=1.0, truncate=False))
family("gpt-oss", "GptOssForCausalLM", "gpt-4o")(GPT_OSS)
family("gpt-oss-mxfp4", "GptOssForCausalLM", "gpt-4o")(GPT_OSS)
family("qwen3moe-stacked", "Qwen3MoeForCausalLM", "qwen2")(QWEN3_MOE)
family("gemma3-vision", "Gemma3ForCausalLM", None, "spm")(dict(GEMMA3, rope_parameters=dict(
    full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
    sliding_attention=dict(rope_type="default", rope_theta=10000.0))))
family("olmo3", "Olmo3ForCausalLM", "dbrx")(dict(
    SMALL, num_hidden_layers=4, sliding_window=64,
    rope_parameters=dict(
        full_attention=dict(rope_type="yarn", rope_theta=500000.0, factor=8.0, original_max_position_embeddings=64,
                            beta_fast=32.0, beta_slow=1.0, attention_factor=1.2079441541679836),
        sliding_attention=dict(rope_type="default", rope_theta=500000.0))))
family("qwen3-fp8", "Qwen3ForCausalLM", "qwen2")(dict(SMALL, head_dim=32))

DELTA = dict(SMALL, head_dim=32, linear_conv_kernel_dim=4, linear_key_head_dim=16, linear_value_head_dim=16,
             linear_num_key_heads=2, linear_num_value_heads=4)
SECTIONS = dict(rope_parameters=dict(
    rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25, mrope_interleaved=True, mrope_section=[2, 1, 1]))
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=32)
family("qwen35", "Qwen3_5ForCausalLM", "qwen35")(dict(DELTA, **SECTIONS, num_hidden_layers=4))
family("qwen35-vision", "Qwen3_5ForCausalLM", "qwen35")(dict(
    DELTA, **SECTIONS, layer_types=["linear_attention", "full_attention"], linear_num_value_heads=2,
    tie_word_embeddings=True))
family("qwen35moe", "Qwen3_5MoeForCausalLM", "qwen35")(dict(
    DELTA, **SECTIONS, **EXPERTS, layer_types=["linear_attention", "full_attention"]))
family("qwen3next", "Qwen3NextForCausalLM", "qwen2")(dict(
    DELTA, **EXPERTS, layer_types=["linear_attention", "full_attention"]))
CONV = dict(SMALL, num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"])
family("lfm2", "Lfm2ForCausalLM", "lfm2")(dict(CONV, block_multiple_of=16))
family("lfm2moe", "Lfm2MoeForCausalLM", "lfm2")(dict(
    CONV, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, num_dense_layers=1))
family("glm4moe", "Glm4MoeForCausalLM", "glm4")(dict(
    SMALL, bos_token_id=None, head_dim=16, first_k_dense_replace=1, n_routed_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=16, use_qk_norm=True, attention_bias=True))
PER_LAYER = dict(
    SMALL, num_hidden_layers=4, head_dim=16, global_head_dim=32, sliding_window=64, vocab_size=283,
    vocab_size_per_layer_input=283,
    layer_types=["sliding_attention", "full_attention"] * 2)
family("gemma4", "Gemma4ForCausalLM", None, "gemma")(dict(
    PER_LAYER, hidden_size_per_layer_input=16, num_kv_shared_layers=2, use_double_wide_mlp=True))
family("gemma4-moe", "Gemma4ForCausalLM", None, "gemma")(dict(
    PER_LAYER, hidden_size_per_layer_input=0, attention_k_eq_v=True, num_global_key_value_heads=1,
    enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=16, final_logit_softcapping=2.0))
family("gemma4-unified", "Gemma4ForCausalLM", None, "gemma")(dict(
    PER_LAYER, hidden_size_per_layer_input=0, num_kv_shared_layers=0))
family("gemma4-assistant", "Gemma4AssistantForCausalLM", None, "gemma")(dict(
    backbone_hidden_size=64, use_ordered_embeddings=True, num_centroids=16, centroid_intermediate_top_k=2,
    text_config=dict(PER_LAYER, model_type="gemma4_text", vocab_size_per_layer_input=0, hidden_size_per_layer_input=0)))
MAMBA = dict(
    SMALL, layer_types=["mamba", "attention"], shared_intermediate_size=32, mamba_n_heads=8, mamba_d_head=16,
    mamba_d_state=16, mamba_n_groups=1, attention_multiplier=0.5, embedding_multiplier=12.0, residual_multiplier=0.22,
    logits_scaling=3.0)
family("granitehybrid", "GraniteMoeHybridForCausalLM", "dbrx")(dict(
    MAMBA, num_local_experts=4, num_experts_per_tok=2))
family("granitehybrid-dense", "GraniteMoeHybridForCausalLM", "dbrx")(dict(
    MAMBA, mamba_n_groups=2, shared_intermediate_size=48, num_local_experts=0, num_experts_per_tok=0,
    tie_word_embeddings=True))
family("granite", "GraniteMoeHybridForCausalLM", "dbrx")(dict(
    MAMBA, layer_types=["attention"] * 2, position_embedding_type="rope", shared_intermediate_size=48,
    num_local_experts=0, num_experts_per_tok=0))
family("granitemoe", "GraniteMoeHybridForCausalLM", "dbrx")(dict(
    MAMBA, layer_types=["attention"] * 2, position_embedding_type="rope", num_local_experts=4, num_experts_per_tok=2))
ENCODER = dict(
    hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=320,
    max_position_embeddings=512, pad_token_id=0)
family("bert", "BertModel", "default", "word-piece")(dict(ENCODER))
family("bert-reranker", "BertForSequenceClassification", "default", "word-piece")(dict(ENCODER, num_labels=1))
family("nomic-bert", "BertModel", "default", "word-piece")(dict(ENCODER, max_position_embeddings=2048))
MULTILINGUAL = dict(ENCODER, vocab_size=40, max_position_embeddings=514, pad_token_id=1, type_vocab_size=1)
family("xlm-roberta", "XLMRobertaModel", None, "unigram")(dict(MULTILINGUAL))
family("xlm-roberta-reranker", "XLMRobertaForSequenceClassification", None, "unigram")(dict(
    MULTILINGUAL, num_labels=1))
family("nomic-bert-moe", "BertModel", None, "unigram")(dict(MULTILINGUAL, max_position_embeddings=2048))
family("qwen3-embedding", "Qwen3ForCausalLM", "qwen2")(dict(SMALL, head_dim=32, tie_word_embeddings=True))
# Models whose hidden states are what is wanted.
EMBEDDING = ("bert", "bert-reranker", "nomic-bert", "nomic-bert-moe", "qwen3-embedding", "xlm-roberta",
             "xlm-roberta-reranker")
# Without the layer that llama.cpp's converter expects by default.
FLAGS = {"qwen35-vision": ["--no-mtp"]}
POOLING = {"bert": "mean_tokens", "nomic-bert": "cls_token", "xlm-roberta": "cls_token",
           "qwen3-embedding": "lasttoken"}

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3_RE = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cased(suffix, digits):
    head = r"[^\r\n\p{L}\p{N}]?"
    return (f"{head}{UPPER}*{LOWER}+{suffix}|{head}{UPPER}+{LOWER}*{suffix}|{digits}"
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


# Stages and `ignore_merges` of each pre-tokenizer, as the real tokenizers of these names have them.
PRE = {
    "llama-bpe": ([LLAMA3_RE], True),
    "glm4": ([LLAMA3_RE], True),
    "smaug-bpe": ([LLAMA3_RE], True),
    "dbrx": ([LLAMA3_RE], False),
    "lfm2": ([LLAMA3_RE], False),
    "qwen2": ([LLAMA3_RE.replace("{1,3}", "")], False),
    "qwen35": ([LLAMA3_RE.replace("{1,3}", "").replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(
        r"\s\p{L}\p{N}]", r"\s\p{L}\p{M}\p{N}]")], False),
    "tekken": ([cased("", r"\p{N}")], True),
    "gpt-4o": ([cased("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}")], False),
    "deepseek-v3": ([
        r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"], False),
    "deepseek-llm": (["[\r\n]", r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳ]+", r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$",
                      "[一-龥ࠀ-一가-\ud7ff]+", "DIGITS"], False),
}
SPECIAL = ["<|begin|>", "<|end|>", "<|endoftext|>", "<|user|>", "<|assistant|>"]
TEMPLATE = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
CARD = """---
license: apache-2.0
language:
- en
- de
tags: [tiny, random]
base_model: Some-Org/Base-Model-7B-v0.1
pipeline_tag: text-generation
---
A random model.
"""


def bpe(folder, pre, more=()):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, Regex
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)}
    merges = [("t", "h"), ("th", "e"), ("i", "n"), ("Ġ", "the"), ("a", "n")]
    for a, b in merges:
        vocab[a + b] = len(vocab) + len(SPECIAL)
    for i, token in enumerate(SPECIAL):
        vocab[token] = 256 + i
    stages, ignore = PRE[pre]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore))
    cut = [pre_tokenizers.Digits(individual_digits=True) if s == "DIGITS" else
           pre_tokenizers.Split(Regex(s), "isolated") for s in stages]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        cut + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    begin, end = SPECIAL[:2]
    if pre in ("llama-bpe", "deepseek-llm"):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B:1", special_tokens=[(begin, 256)])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in [*SPECIAL, *more]])
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    (folder / "tokenizer.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False), encoding="utf-8")
    config = dict(bos_token=begin, eos_token=end, pad_token=SPECIAL[2], tokenizer_class="PreTrainedTokenizerFast",
                  chat_template=TEMPLATE, clean_up_tokenization_spaces=False)
    if more:
        config.pop("bos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def spm(folder, rows):
    from sentencepiece import sentencepiece_model_pb2 as pb
    model = pb.ModelProto()
    model.trainer_spec.model_type = 2
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{i:02X}>", 0.0, 6) for i in range(256)]
    pieces += [(p, -float(i), 1) for i, p in enumerate("▁ e t a h n i th ▁the in an".split())]
    pieces += [("<mask>", 0.0, 4), ("unused", 0.0, 5)]
    for text, score, kind in pieces:
        model.pieces.add(piece=text, score=score, type=kind)
    model.trainer_spec.vocab_size = len(pieces)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    config = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", add_bos_token=True, add_eos_token=False,
                  tokenizer_class="LlamaTokenizer", chat_template=TEMPLATE, add_prefix_space=False,
                  added_tokens_decoder={
                      "0": dict(content="<unk>", special=True), "1": dict(content="<s>", special=True),
                      "2": dict(content="</s>", special=True),
                      "290": dict(content="<|user|>", special=False), "291": dict(content="▁▁tool", special=False)})
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    assert len(pieces) < rows


def numbers(name, dtype, shape, middle, size):
    """A tensor's bytes from its name alone, so that the Rust test makes the same: a linear congruential generator, whose
    states become numbers within 2^size of the middle; for bytes within `size` bits, as FP8 up to two."""
    import numpy as np
    seed = 0x811C9DC5
    for byte in name.encode():
        seed = (seed ^ byte) * 0x01000193 % 2**32
    count = int(np.prod(shape, dtype=np.int64))
    states = np.empty(count, dtype=np.uint32)
    for i in range(count):
        seed = (seed * 1664525 + 1013904223) % 2**32
        states[i] = seed
    if dtype == "F8_E4M3":
        return (states >> 24 & 0xBF).astype(np.uint8).tobytes()
    if dtype == "U8":
        return (int(middle) + (states >> 32 - size)).astype(np.uint8).tobytes()
    values = (middle + states.view(np.int32) * 2.0**(size - 31)).astype("<f4")
    if dtype == "F32":
        return values.tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    return (values.view("<u4") >> 16).astype("<u2").tobytes()


# Families that store the gains of norms as their distance from one.
FROM_ONE = ("gemma2", "gemma3", "qwen35", "qwen3next")


def from_one(name, key):
    return name.startswith(FROM_ONE) and "norm" in key and "linear_attn" not in key




# Tensors that are neither norms nor biases nor matrices, by a part of their names: recurrences remember for long.
SPECIAL_SPREAD = {
    "sinks": (3, 0), "A_log": (-2, 1), "mamba.D": (1, -1), "layer_scalar": (1, -2), "router.scale": (1, -1),
    "per_expert_scale": (1, -1), "router.proj.": (0, 1), "embed_tokens_per_layer": (0, -2),
}


def spread(name, key, dtype, shape, tied):
    """Middle and size (a power of two) of a tensor's numbers: rows stay of size one, attention and routers are sharp, and
    every tensor shows in the logits. Tied embeddings are small, or each token would answer with itself."""
    # The gates of gpt-oss are large enough to be clamped.
    clamped = name.startswith("gpt-oss") * (2 if "gate_up_proj" in key else -2 if "experts.down_proj" in key else 0)
    if dtype == "U8":
        return (121 + clamped, 2) if key.endswith("_scales") else (0, 8)
    if key.endswith("_scale_inv"):
        return 0.1875, -4
    for part, numbers_of in SPECIAL_SPREAD.items():
        if part in key:
            return numbers_of
    if len(shape) == 1 and key.endswith(("weight", "gamma")):
        if name.startswith("gemma4") and "q_norm" in key:
            return 0.5, -2
        return (not from_one(name, key)) + ("q_norm" in key), -1
    if len(shape) == 1 or key.endswith("bias"):
        return 0, -2
    if "embed" in key:
        if name.startswith("granite"):
            return 0, -6 if tied else -3
        return 0, -3 if name.startswith("gemma") else -2 if tied else 0
    turned = name == "gpt-oss" and ".experts." in key
    width = shape[-2] if turned else shape[-1]
    sharp = key.endswith(("q_proj.weight", "q_b_proj.weight", "qkv_proj.weight", "gate.weight", "router.weight"))
    return 0, round(math.log2(3 / width) / 2) + sharp + clamped


def save(tensors, path):
    """A safetensors file of `name: (dtype, shape, middle, size)`, in the order of names."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(tensors):
        dtype, shape = tensors[name][:2]
        content = numbers(name, *tensors[name])
        header[name] = dict(dtype=dtype, shape=shape, data_offsets=[len(data), len(data) + len(content)])
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def pack_mxfp4(tensors):
    """gpt-oss as published: experts in MXFP4."""
    for key in [k for k in tensors if k.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, cols, rows = tensors.pop(key)[1]
        tensors[key + "_blocks"] = ("U8", [experts, rows, cols // 32, 16])
        tensors[key + "_scales"] = ("U8", [experts, rows, cols // 32])
    return tensors


def pack_fp8(tensors):
    """Matrices in FP8 with a factor for each block, as DeepSeek publishes them."""
    for key in [k for k in tensors if k.endswith("_proj.weight")]:
        rows, cols = tensors[key][1]
        tensors[key] = ("F8_E4M3", [rows, cols])
        tensors[key + "_scale_inv"] = ("F32", [-(-rows // 24), -(-cols // 20)])
    return tensors


def unpack_experts(tensors, name):
    """Experts one by one, as published; transformers keeps them stacked."""
    mixtral = name == "mixtral"
    names = ["w1", "w3", "w2"] if mixtral else ["gate_proj", "up_proj", "down_proj"]
    for key in [k for k in tensors if k.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        dtype, (experts, rows, cols) = tensors.pop(key)
        base = key.rsplit(".", 1)[0]
        if mixtral:
            base = base.replace("mlp.experts", "block_sparse_moe.experts")
        down = key.endswith("down_proj")
        for x in range(experts):
            for proj in names[2:] if down else names[:2]:
                tensors[f"{base}.{x}.{proj}.weight"] = (dtype, [rows if down else rows // 2, cols])
    for key in [k for k in tensors if mixtral and ".mlp.gate." in k]:
        tensors[key.replace(".mlp.", ".block_sparse_moe.")] = tensors.pop(key)
    return tensors


# Families whose experts are stacked as published, or come apart in another way.
STACKED = ("gpt-oss", "qwen35", "gemma4", "granite", "lfm2")


def checkpoint(name, cls, settings):
    """Config and tensors of a family, the latter by transformers' own names and shapes."""
    import torch
    import transformers
    klass = getattr(transformers, cls)
    with torch.device("meta"):
        model = klass(klass.config_class(**settings))
    dtype = {"gemma2": "F16", "olmo2": "F32", "bert": "F32", "nomic-bert": "F32",
             "xlm-roberta": "F16", "qwen3next": "F16"}.get(name, "BF16")
    tensors = {k: (dtype, list(v.shape)) for k, v in model.state_dict().items()}
    config = json.loads(model.config.to_json_string())
    config["architectures"] = [cls]
    if config["tie_word_embeddings"]:
        tensors.pop("lm_head.weight", None)
    if name == "gpt-oss-mxfp4":
        tensors = pack_mxfp4(tensors)
        config["quantization_config"] = dict(quant_method="mxfp4")
    elif not name.startswith(STACKED) and not name.endswith("-stacked"):
        tensors = unpack_experts(tensors, name)
    if name == "qwen3-fp8":
        tensors = pack_fp8(tensors)
        config["quantization_config"] = dict(quant_method="fp8", weight_block_size=[24, 20])
    if name == "qwen2":
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", [8])
    if name == "deepseek2":
        for key in [k for k in tensors if k.startswith("model.layers.2.")]:
            tensors[key.replace("layers.2", "layers.3")] = tensors[key]
        tensors["model.layers.3.eh_proj.weight"] = (dtype, [64, 128])
    if name == "gemma3-vision":
        tensors = {k.replace("model.", "language_model.model.", 1): v for k, v in tensors.items()}
        tensors["vision_tower.vision_model.post_layernorm.weight"] = (dtype, [32])
        tensors["multi_modal_projector.mm_input_projection_weight"] = (dtype, [32, 32])
        text = {k: v for k, v in config.items() if k not in ("architectures", "torch_dtype", "dtype")}
        config = dict(architectures=["Gemma3ForConditionalGeneration"], model_type="gemma3", text_config=text,
                      vision_config=dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2))
    return PUBLISHED[name](config, tensors) if name in PUBLISHED else (config, tensors)


def make(root, only):
    for name, (cls, settings, pre, tokenizer) in FAMILIES.items():
        if only and name not in only:
            continue
        folder = root / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        config, tensors = checkpoint(name, cls, settings)
        tied = not any("lm_head" in k for k in tensors)
        tensors = {k: (*v, *spread(name, k, *v, tied)) for k, v in tensors.items()}
        (folder / "config.json").write_text(json.dumps(config))
        parts = 2 if name == "qwen3moe" else 1
        place = {k: f"model-{1 + i % parts:05}-of-{parts:05}.safetensors" for i, k in enumerate(sorted(tensors))}
        if parts == 1:
            place = dict.fromkeys(place, "model.safetensors")
        else:
            (folder / "model.safetensors.index.json").write_text(json.dumps(dict(metadata={}, weight_map=place)))
        for part in sorted(set(place.values())):
            save({k: v for k, v in tensors.items() if place[k] == part}, folder / part)
        lines = []
        for key in sorted(tensors):
            dtype, shape, middle, size = tensors[key]
            lines.append(f"{place[key]} {key} {dtype} {middle} {size} {shape}")
        (folder / "tensors.txt").write_text("\n".join(lines) + "\n")
        if name == "qwen2":
            (folder / "README.md").write_text(CARD)
            (folder / "generation_config.json").write_text(json.dumps(
                dict(top_k=20, top_p=0.8, temperature=0.7, repetition_penalty=1.05)))
        if name in POOLING:
            sentence_transformer(folder, POOLING[name])
        if name == "gemma4-unified":
            (folder / "generation_config.json").write_text(json.dumps(dict(suppress_tokens=[8, 0])))
        if tokenizer == "spm":
            spm(folder, settings["vocab_size"])
        elif tokenizer == "gemma":
            gemma(folder)
        elif tokenizer == "word-piece":
            word_piece(folder)
        elif tokenizer == "unigram":
            unigram(folder, name == "xlm-roberta")
        else:
            bpe(folder, pre, ["[gMASK]", "<|observation|>"] if name == "glm4moe" else ())


def store(root, out, only):
    for folder in sorted(root / name for name in only or FAMILIES):
        to = out / folder.name
        to.mkdir(parents=True, exist_ok=True)
        for old in to.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
            elif old.name not in ("logits.bin", "hidden.bin"):
                old.unlink()
        for file in folder.iterdir():
            if file.is_dir():
                shutil.copytree(file, to / file.name)
            elif file.suffix not in (".gguf", ".safetensors"):
                shutil.copy(file, to / file.name)
        lines = []
        for kind in KINDS:
            theirs = folder / f"theirs-{kind}.gguf"
            lines.append(f"file {kind} {hashlib.sha256(theirs.read_bytes()).hexdigest()}")
        import gguf
        reader = gguf.GGUFReader(folder / "theirs-f32.gguf")
        lines += [f"key {key}" for key in reader.fields if not key.startswith("GGUF.")]
        for t in reader.tensors:
            digest = hashlib.sha256(t.data.tobytes()).hexdigest()
            lines.append(f"tensor {t.name} {t.tensor_type.name} {[int(d) for d in t.shape]} {digest}")
        (to / "expected.txt").write_text("\n".join(lines) + "\n")


def convert(llama_cpp, folder, out, kind, pre):
    """llama.cpp's converter, told the pre-tokenizer's name."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1] + '/gguf-py', sys.argv[1]]\n"
        "from conversion.base import TextModel\n"
        "pre = sys.argv[2]\n"
        "if pre: TextModel.get_vocab_base_pre = lambda self, tokenizer: pre\n"
        "sys.argv = sys.argv[2:]\n"
        "import convert_hf_to_gguf; convert_hf_to_gguf.main()\n")
    args = [sys.executable, "-c", code, str(llama_cpp), pre or "", str(folder), "--outfile", str(out), "--outtype", kind]
    args += FLAGS.get(folder.name, [])
    done = subprocess.run(args, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{folder}: llama.cpp's converter failed:\n{done.stderr[-3000:]}")


def listing(path):
    """A GGUF file line by line: keys with type and value (long ones hashed), tensors with type, shape and hash."""
    import gguf
    reader = gguf.GGUFReader(path)
    lines = [f"file {hashlib.sha256(Path(path).read_bytes()).hexdigest()}"]
    for key, field in reader.fields.items():
        if key.startswith("GGUF."):
            continue
        value = field.contents()
        text = json.dumps(value, ensure_ascii=False)
        if len(text) > 200:
            text = f"{len(value)} long, sha256 {hashlib.sha256(text.encode()).hexdigest()}"
        lines.append(f"key {key} {'/'.join(t.name for t in field.types)} {text}")
    for t in reader.tensors:
        digest = hashlib.sha256(t.data.tobytes()).hexdigest()
        lines.append(f"tensor {t.name} {t.tensor_type.name} {[int(d) for d in t.shape]} {digest}")
    return lines


def compare(llama_cpp, hob, root, only):
    bad = 0
    for folder in sorted(p for p in root.iterdir() if (p / "config.json").is_file()):
        if only and folder.name not in only:
            continue
        pre = FAMILIES.get(folder.name, (None, None, None, None))[2]
        for kind in KINDS:
            theirs, ours = folder / f"theirs-{kind}.gguf", folder / f"ours-{kind}.gguf"
            if not theirs.is_file():
                convert(llama_cpp, folder, theirs, kind, pre)
            done = subprocess.run([hob, "convert", folder, "-o", ours, "--type", kind, "--force"],
                                  capture_output=True, text=True)
            if done.returncode != 0:
                print(f"{folder.name} {kind}: hob failed: {done.stderr.strip()}")
                bad += 1
                continue
            if theirs.read_bytes() == ours.read_bytes():
                print(f"{folder.name} {kind}: identical, {ours.stat().st_size} bytes")
                continue
            bad += 1
            a, b = listing(theirs), listing(ours)
            print(f"{folder.name} {kind}: different")
            for line in a[1:]:
                if line not in b:
                    print(f"  - {line[:160]}")
            for line in b[1:]:
                if line not in a:
                    print(f"  + {line[:160]}")
            if sorted(a[1:]) == sorted(b[1:]):
                first = next(i for i in range(len(a)) if i and a[i] != b[i])
                print(f"  order: {a[first][:80]} | {b[first][:80]}")
    return bad


def main():
    verb, *rest = sys.argv[1:]
    if verb == "make":
        make(Path(rest[0]), rest[1:])
    elif verb == "store":
        store(Path(rest[0]), Path(rest[1]), rest[2:])
    elif verb == "compare":
        sys.exit(1 if compare(Path(rest[0]), rest[1], Path(rest[2]), rest[3:]) else 0)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
