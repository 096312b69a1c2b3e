#!/usr/bin/env python3
"""Writes the fixtures of tests/recipes.rs: the tensor types that llama.cpp's quantizer chooses.

    python3 oracle.py LLAMA_QUANTIZE

LLAMA_QUANTIZE is the path of a built `llama-quantize`. It is asked with --dry-run on files that have the header and
directory of a real model and a hole for data. Needs the `gguf` Python package (0.19.0). Run by hand; the fixtures are
committed, so the tests need neither.

recipes/MODEL.txt: `meta KEY VALUE` and `has TENSOR` (`*` for every layer) describe the model, in terms of GGUF; `needs
importance` names the recipes that the quantizer refuses to make without an importance matrix; then a line for each recipe and circumstance: `any` or, where it matters, `plain` and `importance` (without and with an importance
matrix), and `pure`. The types follow, as runs over the layers: `attn_k,attn_v=Q6_K*4,Q4_K*24`.
"""
import itertools
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np

FIXTURES = Path(__file__).parent / "recipes"
RECIPES = """F32 F16 BF16 Q8_0 Q6_K_L Q6_K Q5_1 Q5_K_L Q5_K_M Q5_K_S Q5_0 Q4_K_L Q4_1 Q4_K_M Q4_K_S Q4_0 IQ4_NL MXFP4_MOE IQ4_XS
    Q3_K_XL Q3_K_L Q3_K_M IQ3_M IQ3_S Q3_K_S IQ3_XS IQ3_XXS Q2_K_L Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S""".split()
# Mixes that the hubs make with two switches.
LARGE = {"Q6_K_L": "Q6_K", "Q5_K_L": "Q5_K_M", "Q4_K_L": "Q4_K_M", "Q3_K_XL": "Q3_K_L", "Q2_K_L": "Q2_K"}
KEYS = {"layers": "block_count", "width": "embedding_length", "ffn": "feed_forward_length", "heads": "attention.head_count",
        "kv_heads": "attention.head_count_kv", "vocab": "vocab_size", "experts": "expert_count", "used": "expert_used_count",
        "expert_ffn": "expert_feed_forward_length", "shared": "expert_shared_count", "dense": "leading_dense_block_count",
        "kv_rank": "attention.kv_lora_rank", "q_rank": "attention.q_lora_rank", "rope": "rope.dimension_count",
        "window": "attention.sliding_window", "key": "attention.key_length", "value": "attention.value_length",
        "key_mla": "attention.key_length_mla", "value_mla": "attention.value_length_mla"}


def shape(arch, layers, width, ffn, heads, kv_heads, vocab, tied=False, **more):
    return dict(arch=arch, layers=layers, width=width, ffn=ffn, heads=heads, kv_heads=kv_heads, vocab=vocab, tied=tied, **more)


MODELS = {
    "smollm2-135m": shape("llama", 30, 576, 1536, 9, 3, 49152, tied=True),
    "qwen2.5-coder-1.5b": shape("qwen2", 28, 1536, 8960, 12, 2, 151936, tied=True),
    "qwen3-0.6b": shape("qwen3", 28, 1024, 3072, 16, 8, 151936, tied=True, key=128),
    "qwen3-14b": shape("qwen3", 40, 5120, 17408, 40, 8, 151936, key=128),
    "llama-3-70b": shape("llama", 80, 8192, 28672, 64, 8, 128256),
    "llama-1-65b": shape("llama", 80, 8192, 22016, 64, 64, 32000),
    "qwen1.5-72b": shape("qwen2", 80, 8192, 24576, 64, 64, 152064),
    "mixtral-8x7b": shape("llama", 32, 4096, 14336, 32, 8, 32000, experts=8, used=2),
    "deepseek-v2-lite": shape("deepseek2", 27, 2048, 10944, 16, 1, 102400, experts=64, used=6, expert_ffn=1408, shared=2, dense=1,
                              kv_rank=512, rope=64, key=576, value=512, key_mla=192, value_mla=128),
    "deepseek-v3": shape("deepseek2", 61, 7168, 18432, 128, 1, 129280, experts=256, used=8, expert_ffn=2048, shared=1, dense=3,
                         q_rank=1536, kv_rank=512, rope=64, key=576, value=512, key_mla=192, value_mla=128),
    "gemma-3-1b": shape("gemma3", 26, 1152, 6912, 4, 1, 262144, tied=True, key=256, window=512),
    "odd-rows": shape("llama", 17, 144, 400, 3, 1, 1000),
}


def attention(m):
    """(name, rows, row length) of the attention's matrices; more dimensions come first."""
    width, heads = m["width"], m["heads"]
    if m["arch"] == "deepseek2":
        rope, rank = m["rope"], m["kv_rank"]
        nope, value = m["key_mla"] - rope, m["value_mla"]
        if "q_rank" in m:
            yield "attn_q_a.weight", m["q_rank"], width
            yield "attn_q_a_norm.weight", m["q_rank"]
            yield "attn_q_b.weight", heads * m["key_mla"], m["q_rank"]
        else:
            yield "attn_q.weight", heads * m["key_mla"], width
        yield "attn_kv_a_mqa.weight", rank + rope, width
        yield "attn_kv_a_norm.weight", rank
        yield "attn_k_b.weight", heads, rank, nope
        yield "attn_v_b.weight", heads, value, rank
        yield "attn_output.weight", width, heads * value
        return
    dim = m.get("key", width // heads)
    for name, rows in ("q", heads * dim), ("k", m["kv_heads"] * dim), ("v", m["kv_heads"] * dim):
        yield f"attn_{name}.weight", rows, width
        if m["arch"] == "qwen2":
            yield f"attn_{name}.bias", rows
    yield "attn_output.weight", width, heads * dim
    if m["arch"] in ("qwen3", "gemma3"):
        yield "attn_q_norm.weight", dim
        yield "attn_k_norm.weight", dim


def feed_forward(m, layer):
    width = m["width"]
    if not m.get("experts") or layer < m.get("dense", 0):
        yield "ffn_gate.weight", m["ffn"], width
        yield "ffn_up.weight", m["ffn"], width
        yield "ffn_down.weight", width, m["ffn"]
        return
    experts, ffn = m["experts"], m.get("expert_ffn", m["ffn"])
    yield "ffn_gate_inp.weight", experts, width
    yield "ffn_gate_exps.weight", experts, ffn, width
    yield "ffn_up_exps.weight", experts, ffn, width
    yield "ffn_down_exps.weight", experts, width, ffn
    if "q_rank" in m:
        yield "exp_probs_b.bias", experts
    if m.get("shared"):
        yield "ffn_gate_shexp.weight", m["shared"] * ffn, width
        yield "ffn_up_shexp.weight", m["shared"] * ffn, width
        yield "ffn_down_shexp.weight", width, m["shared"] * ffn


def tensors(m):
    yield "token_embd.weight", m["vocab"], m["width"]
    for layer in range(m["layers"]):
        for name, *dims in itertools.chain(attention(m), feed_forward(m, layer)):
            yield f"blk.{layer}.{name}", *dims
        norms = ["attn_norm", "ffn_norm"]
        if m["arch"] == "gemma3":
            norms += ["post_attention_norm", "post_ffw_norm"]
        for name in norms:
            yield f"blk.{layer}.{name}.weight", m["width"]
    yield "output_norm.weight", m["width"]
    if not m["tied"]:
        yield "output.weight", m["vocab"], m["width"]


def metadata(m):
    pairs = [(f"{m['arch']}.{KEYS[k]}", v) for k, v in m.items() if k in KEYS]
    return pairs + [(f"{m['arch']}.context_length", 32768), (f"{m['arch']}.attention.layer_norm_rms_epsilon", 1e-6)]


def write(path, m):
    """The model's file with a hole for its data."""
    w = gguf.GGUFWriter(path, m["arch"])
    for key, value in metadata(m):
        (w.add_float32 if isinstance(value, float) else w.add_uint32)(key, value)
    total = 0
    for name, *dims in tensors(m):
        matrix = len(dims) > 1 and "ffn_gate_inp" not in name
        dtype = np.float16 if matrix else np.float32
        size = int(np.prod(dims, dtype=np.int64)) * dtype().nbytes
        w.add_tensor_info(name, dims, np.dtype(dtype), size)
        total += (size + 31) // 32 * 32
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    w.close()
    with open(path, "r+b") as f:
        f.truncate((f.seek(0, 2) + 31) // 32 * 32 + total)


def write_importance(path):
    """llama.cpp's older format, with one entry: that there is one is all that the choice of types asks."""
    name = b"blk.0.attn_q.weight"
    path.write_bytes(struct.pack("<ii", 1, len(name)) + name + struct.pack("<iif", 1, 1, 1.0))


LINE = re.compile(r"\[ *\d+/ *\d+\] +(\S+) .*type = +(\w+), size = .*?(?:MiB \((\w+)\))?$")


def ask(tool, path, recipe, *flags):
    """The type of each tensor that is not F32, by name, and whether an importance matrix is missing."""
    if recipe in LARGE:
        recipe = LARGE[recipe]
        flags += "--output-tensor-type", "q8_0", "--token-embedding-type", "q8_0"
    done = subprocess.run([tool, "--dry-run", *flags, path, recipe], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said, found = done.stdout + done.stderr, {}
    for line in said.splitlines():
        if match := LINE.match(line):
            name, old, new = match.groups()
            found[name] = (new or old).upper()
    return found, "will require an imatrix" in said


def runs(m, answer):
    """The types in short."""
    types, by_kind = answer[0], {}
    for name, *dims in tensors(m):
        if len(dims) > 1 and "ffn_gate_inp" not in name:
            kind = re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")
            block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[types[name]]][0]
            # Told by a switch, the quantizer takes a type that rows cannot hold, and would stop there.
            by_kind.setdefault(kind, []).append("F16" if dims[-1] % block else types[name])
    kinds_of = {}
    for kind, found in sorted(by_kind.items()):
        text = ",".join(f"{ty}*{len(list(same))}" for ty, same in itertools.groupby(found))
        kinds_of.setdefault(text, []).append(kind)
    return " ".join(sorted(f"{','.join(kinds)}={text}" for text, kinds in kinds_of.items()))


def main(tool):
    for name, m in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            path, importance = Path(folder) / "model.gguf", Path(folder) / "imatrix.dat"
            write(path, m)
            write_importance(importance)
            lines = [f"meta general.architecture {m['arch']}"] + [f"meta {key} {value}" for key, value in metadata(m)]
            special = {re.sub(r"blk\.\d+", "blk.*", t) for t, *_ in tensors(m)}
            lines += [f"has {t}" for t in sorted(special) if t == "output.weight" or t.endswith(".bias")]
            plain_answers = {recipe: ask(tool, path, recipe) for recipe in RECIPES}
            lines.append(" ".join(["needs importance"] + [r for r, (_, missing) in plain_answers.items() if missing]))
            for recipe in RECIPES:
                plain = runs(m, plain_answers[recipe])
                weighted = runs(m, ask(tool, path, recipe, "--imatrix", importance))
                if plain == weighted:
                    lines.append(f"{recipe} any {plain}")
                else:
                    lines += [f"{recipe} plain {plain}", f"{recipe} importance {weighted}"]
                lines.append(f"{recipe} pure {runs(m, ask(tool, path, recipe, '--pure'))}")
        (FIXTURES / f"{name}.txt").write_text("\n".join(lines) + "\n")
        print(name, len(lines))


if __name__ == "__main__":
    main(sys.argv[1])
