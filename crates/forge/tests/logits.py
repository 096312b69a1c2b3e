"""References for tests/logits.rs: logits of convert.py's tiny checkpoints in transformers.

    python logits.py reference DIR OUT [NAME]   DIR as convert.py made and compared it; writes OUT/FAMILY/logits.bin
    python logits.py every-tensor DIR [NAME]    how much the logits change when one tensor's numbers do
    python logits.py every-rule DIR [NAME]      how much they change when one rule of RULES is another
    python logits.py peer SERVER DIR OUT [NAME] runs theirs-f32.gguf in llama.cpp's server and compares

A reference is a prompt of 200 tokens and 50 greedy ones in float32 on the processor. The prompt is the first, counted by
seeds, in which no greedy choice is close. The same run in float64 tells the reference's own error. Needs the packages
transformers, torch and safetensors; SERVER is a llama-server's command line.
"""

import contextlib
import json
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

import convert

PROMPT, STEPS, SAMPLED = 200, 50, 16
# The least distance of the best two logits, as a part of what the row's logits spread.
CLOSE = 3e-3
# What a wrong tensor or rule must change at least: ten times what the test allows.
SEEN = 1e-3


# Rules that a tiny model must show: keys of its config, deeper ones after a dot, and other values of them.
RULES = {
    "llama": {"rope_parameters.rope_type": "default"},
    "qwen3": {"rope_parameters.attention_factor": 1.0, "rope_parameters.rope_type": "default"},
    "qwen2moe": {"norm_topk_prob": True, "num_experts_per_tok": 3},
    "qwen3moe": {"norm_topk_prob": False, "num_experts_per_tok": 3},
    "mixtral": {"num_experts_per_tok": 3},
    "gemma2": {"sliding_window": 63, "attn_logit_softcapping": None, "final_logit_softcapping": None,
               "query_pre_attn_scalar": 64, "layer_types": ["full_attention"] * 4,
               "rope_parameters.rope_theta": 11000.0},
    "gemma3": {"sliding_window": 63, "rope_parameters.full_attention.rope_theta": 1e4,
               "rope_parameters.sliding_attention.rope_theta": 1e6,
               "layer_types": ["sliding_attention"] * 7},
    "gemma3-vision": {"rope_parameters.full_attention.factor": 1.0},
    "phi3": {"rope_parameters.long_factor": [1.0] * 8, "rope_parameters.attention_factor": 1.0},
    "phi3-short": {"rope_parameters.short_factor": [1.0] * 6, "rope_parameters.attention_factor": 1.0},
    "olmo3": {"sliding_window": 63, "rope_parameters.full_attention.rope_type": "default",
              "rope_parameters.full_attention.attention_factor": 1.0,
              "layer_types": ["sliding_attention"] * 4},
    "smollm3": {"no_rope_layers": [1] * 4},
    "mistral3": {"rope_parameters.llama_4_scaling_beta": 0.0, "rope_parameters.rope_type": "default"},
    "deepseek2": {"topk_group": 4, "routed_scaling_factor": 1.0, "norm_topk_prob": False,
                  "rope_parameters.mscale_all_dim": 0.5, "rope_parameters.mscale": 0.5, "rope_interleave": False},
    "deepseek2-lite": {"rope_parameters.mscale_all_dim": 1.0, "routed_scaling_factor": 2.0},
    "qwen35": {"rope_parameters.rope_theta": 1e4},
    "qwen3next": {"rope_parameters.rope_theta": 1e6, "norm_topk_prob": False, "num_experts_per_tok": 3},
    "lfm2": {"rope_parameters.rope_theta": 1e4},
    "lfm2moe": {"norm_topk_prob": False, "routed_scaling_factor": 2.0, "use_expert_bias": False,
                "rope_parameters.rope_theta": 1e4},
    "glm4moe": {"routed_scaling_factor": 2.0, "norm_topk_prob": False, "rope_parameters.rope_theta": 1e6},
    "gemma4": {"sliding_window": 63, "rope_parameters.full_attention.rope_theta": 1e4,
               "rope_parameters.full_attention.rope_type": "default",
               "rope_parameters.sliding_attention.rope_theta": 1e6},
    "gemma4-moe": {"sliding_window": 63, "final_logit_softcapping": None, "top_k_experts": 3},
    "granitehybrid": {"embedding_multiplier": 11.0, "residual_multiplier": 0.2, "attention_multiplier": 0.25,
                      "logits_scaling": 2.0, "num_experts_per_tok": 3},
    "gpt-oss": {"sliding_window": 63, "swiglu_limit": 1e9, "swiglu_alpha": 1.0, "rope_parameters.truncate": True,
                "layer_types": ["full_attention"] * 4},
}


def fp8(tensors, block):
    """FP8 matrices times their blocks' factors."""
    for key in [k for k in tensors if k.endswith("_scale_inv")]:
        scale, name = tensors.pop(key), key.removesuffix("_scale_inv")
        rows, cols = tensors[name].shape
        scale = scale.repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :cols]
        tensors[name] = tensors[name].float() * scale
    return tensors


def mxfp4(tensors):
    """MXFP4 blocks: two codes in a byte, the lower one first, and an exponent for 32."""
    levels = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
    for key in [k for k in tensors if k.endswith("_blocks")]:
        name = key.removesuffix("_blocks")
        blocks, scales = tensors.pop(key).long(), tensors.pop(name + "_scales").int() - 127
        codes = torch.stack([blocks & 15, blocks >> 4], -1).flatten(-2)
        values = torch.ldexp(levels[codes], scales[..., None]).flatten(-2)
        tensors[name] = values.transpose(1, 2).contiguous()
    return tensors


def stack(tensors):
    """Experts one by one become stacked ones, as transformers computes with them."""
    for gate, up, down in (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2")):
        for key in [k for k in tensors if f".experts.0.{gate}." in k]:
            base = key.split(f".0.{gate}")[0]
            count = sum(k.startswith(base) and k.endswith(f".{gate}.weight") for k in tensors)
            part = {p: torch.stack([tensors.pop(f"{base}.{x}.{p}.weight") for x in range(count)])
                    for p in (gate, up, down)}
            tensors[base + ".gate_up_proj"] = torch.cat([part[gate], part[up]], 1)
            tensors[base + ".down_proj"] = part[down]
    return tensors


# Names in checkpoints, and in transformers where they differ.
RENAMED = {
    "model.language_model.": "model.", "language_model.model.": "model.", "block_sparse_moe.experts": "mlp.experts",
    "block_sparse_moe.gate.": "mlp.gate.",
    "block_sparse_moe.input_linear.weight": "block_sparse_moe.experts.gate_up_proj",
    "block_sparse_moe.output_linear.weight": "block_sparse_moe.experts.down_proj",
    "block_sparse_moe.router.layer.weight": "block_sparse_moe.router.weight",
}
# Parts that a language model lacks.
OTHERS = ("vision", "visual.", "multi_modal", "mtp.", "inv_freq")


def renamed(key):
    for old, new in RENAMED.items():
        if old in key:
            return key.replace(old, new)
    return key


def rounded(name, tensors):
    """What converters compute in a checkpoint's own half precision is rounded there, and so it is for the reference."""
    for key, tensor in tensors.items():
        if tensor.dtype == torch.float16 and convert.from_one(name, key):
            tensors[key] = (tensor + 1).float() - 1
        if tensor.dtype == torch.float16 and key.endswith("A_log"):
            tensors[key] = tensor.exp().float().log()
    return tensors


def read(folder):
    """A folder's config and tensors, as transformers' classes take them."""
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    config = json.loads((folder / "config.json").read_text())
    config = config.get("text_config", config)
    if config["model_type"] == "gemma4_unified_text":  # never has inputs for each layer, and does not say so
        config |= dict(hidden_size_per_layer_input=0)
    if config.get("time_step_limit", 0) is None:  # endless, which JSON cannot say
        config.pop("time_step_limit")
    quantized = config.pop("quantization_config", {})
    if quantized.get("quant_method") == "fp8":
        tensors = fp8(tensors, quantized["weight_block_size"])
    if quantized.get("quant_method") == "mxfp4":
        tensors = mxfp4(tensors)
    tensors = {renamed(k): v for k, v in stack(rounded(folder.name, tensors)).items()}
    return config, {k: v for k, v in tensors.items() if not any(part in k for part in OTHERS)}


def build(name, config, tensors):
    """The model of a family, every tensor in its place."""
    cls = getattr(transformers, convert.FAMILIES[name][0])
    model = cls._from_config(cls.config_class.from_dict(config), attn_implementation="eager",
                             experts_implementation="eager", dtype=torch.get_default_dtype())
    found = model.load_state_dict(tensors, strict=False)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    assert set(found.missing_keys) <= tied, found.missing_keys
    model.tie_weights()
    prediction = f"layers.{model.config.num_hidden_layers}."
    left = [k for k in found.unexpected_keys if prediction not in k]
    assert not left, left
    return model.eval()


@contextlib.contextmanager
def precision(double):
    """In float64 everything is, also what models widen to float32 whatever they compute in."""
    kept = torch.float32, torch.float, torch.Tensor.float
    try:
        if double:
            torch.float32 = torch.float = torch.float64
            torch.Tensor.float = torch.Tensor.double
            torch.set_default_dtype(torch.float64)
        with torch.no_grad():
            yield
    finally:
        torch.float32, torch.float, torch.Tensor.float = kept
        torch.set_default_dtype(torch.float32)


def prompt(seed):
    """Tokens that are bytes in the vocabularies of both kinds, none of them special."""
    tokens, state = [], seed
    for _ in range(PROMPT):
        state = (state * 1664525 + 1013904223) % 2**32
        tokens.append(3 + (state >> 16) % 253)
    return tokens


def run(model, tokens, columns, forced=None):
    """Logits of the prompt's rows and of the greedy steps, and the tokens chosen."""
    cache = transformers.DynamicCache(config=model.config)
    out = model(input_ids=torch.tensor([tokens]), cache=cache)
    first = out.logits[0, :, :columns]
    rows, chosen = [first[-1]], [int(first[-1].argmax())]
    for step in range(STEPS):
        token = forced[step] if forced else chosen[-1]
        out = model(input_ids=torch.tensor([[token]]), cache=cache)
        rows.append(out.logits[0, -1, :columns])
        chosen.append(int(rows[-1].argmax()))
    return first.numpy(), torch.stack(rows).numpy(), chosen


def columns_of(folder):
    """Rows of the embedding that the converter leaves."""
    import gguf
    reader = gguf.GGUFReader(folder / "theirs-f32.gguf")
    return next(int(t.shape[1]) for t in reader.tensors if t.name == "token_embd.weight")


def stored(first, rows):
    """What of the logits is kept: samples of the prompt's rows but the last, all of the others."""
    at = np.arange(SAMPLED) * rows.shape[1] // SAMPLED
    return np.concatenate([first[:-1, at].ravel(), rows.ravel()])


def far(found, reference):
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def gap(rows):
    """The least distance of the best two logits of a row, as a part of the row's spread."""
    best = np.sort(rows, 1)
    return float(((best[:, -1] - best[:, -2]) / rows.std(1)).min())


def reference(root, out, only):
    for folder in folders(root, only):
        columns, parts = columns_of(folder), read(folder)
        with precision(False):
            model = build(folder.name, *parts)
            for seed in range(100):
                tokens = prompt(seed)
                first, rows, chosen = run(model, tokens, columns)
                if gap(rows) > CLOSE:
                    break
            else:
                sys.exit(f"{folder.name}: every prompt has a close choice")
            whole = model(input_ids=torch.tensor([tokens + chosen[:STEPS]])).logits[0, PROMPT - 1:, :columns].numpy()
        with precision(True):
            model = build(folder.name, *parts)
            exact = run(model, tokens, columns, chosen)
        assert exact[2] == chosen, f"{folder.name}: float64 chooses other tokens"
        kept = stored(first, rows)
        header = np.array([PROMPT, STEPS, columns, SAMPLED, *tokens, *chosen], "<u4")
        (out / folder.name / "logits.bin").write_bytes(header.tobytes() + kept.astype("<f4").tobytes())
        print(f"{folder.name}: seed {seed}, gap {gap(rows):.1e}, {len(set(chosen))} different tokens, "
              f"spread {rows.std():.2f}, from float64 {far(kept, stored(*exact[:2])):.1e}, "
              f"from one pass over all {far(whole, rows):.1e}", flush=True)


def every_tensor(root, only):
    """The three tensors that show least. Each tensor's numbers are moved by one place: if no logit moves, a test cannot see how they are used."""
    unseen = 0
    for folder in folders(root, only):
        columns, changes = columns_of(folder), {}
        with precision(False):
            model = build(folder.name, *read(folder))
            tokens = torch.tensor([prompt(0)])
            before = model(input_ids=tokens).logits[0, :, :columns].numpy()
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                # The last norm takes a factor on the last layer away.
                hidden = f"{len(model.model.layers) - 1}.layer_scalar"
                if any(part in name for part in ("inv_freq", "embed_scale", hidden)):
                    continue
                kept = tensor.clone()
                tensor.copy_(kept.flatten().roll(1).view(kept.shape) if kept.numel() > 1 else kept * 1.1)
                changes[name] = far(model(input_ids=tokens).logits[0, :, :columns].numpy(), before)
                tensor.copy_(kept)
        least = sorted(changes, key=changes.get)[:3]
        print(f"{folder.name}: " + ", ".join(f"{name} {changes[name]:.1e}" for name in least), flush=True)
        unseen += sum(change < SEEN for change in changes.values())
    return unseen


def changed(config, key, value):
    """A config with another value."""
    config = json.loads(json.dumps(config))
    *path, last = key.split(".")
    inner = config
    for step in path:
        inner = inner[step]
    inner[last] = value
    return config


def every_rule(root, only):
    unseen = 0
    for folder in folders(root, only):
        config, tensors = read(folder)
        columns, tokens = columns_of(folder), torch.tensor([prompt(0)])
        with precision(False):
            def logits(config):
                return build(folder.name, config, tensors)(input_ids=tokens).logits[0, :, :columns].numpy()
            before = logits(config)
            for key, value in RULES.get(folder.name, {}).items():
                change = far(logits(changed(config, key, value)), before)
                print(f"{folder.name}: {key} = {value}: {change:.1e}", flush=True)
                unseen += change < SEEN
    return unseen


def recall(path):
    """A stored reference: the prompt, the tokens chosen and the logits that chose them."""
    words = np.fromfile(path, "<u4")
    count, steps, columns, _ = (int(n) for n in words[:4])
    tokens, chosen = words[4:4 + count].tolist(), words[4 + count:5 + count + steps].tolist()
    return tokens, chosen, words[-(steps + 1) * columns:].view("<f4").reshape(-1, columns)


def ask(port, tokens):
    """Logarithms of probabilities after these tokens. The server answers with none after a token that ends the text or a
    character's first byte only, so another one is forced; the probabilities are told as they were before."""
    body = json.dumps(dict(prompt=tokens, n_predict=1, n_probs=1 << 16, temperature=0, cache_prompt=True,
                           logit_bias=[[40, 1000]]))
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", body.encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)["completion_probabilities"][0]["top_logprobs"]
    row = np.full(len(found), np.nan)
    for entry in found:
        row[entry["id"]] = entry["logprob"]
    return row


@contextlib.contextmanager
def serving(server, model, port):
    """A server of the model, with keys and values in float32. By the name phi3 it would expect tokens of the real ones."""
    command = [*shlex.split(server), "-m", str(model), "--port", str(port), "-c", "512", "-np", "1", "-t", "1",
               "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup", "--override-kv", "general.name=str:tiny"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                if answer.status == 200:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"{model}: the server ended with {process.returncode}")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait()


def peer(server, root, out, only):
    """Rows are compared without their means, which probabilities do not tell."""
    for folder in folders(root, only):
        tokens, chosen, expected = recall(out / folder.name / "logits.bin")
        try:
            with serving(server, folder / "theirs-f32.gguf", 18230):
                found = np.array([ask(18230, tokens + chosen[:i]) for i in range(len(chosen))])
        except (RuntimeError, OSError) as error:
            print(f"{folder.name}: {error}", flush=True)
            continue
        centred = [rows - rows.mean(1, keepdims=True) for rows in (found, expected.astype(float))]
        same = int((found.argmax(1) == chosen).sum())
        print(f"{folder.name}: prompt {far(centred[0][:1], centred[1][:1]):.1e}, all {far(*centred):.1e}, "
              f"same token in {same} of {len(chosen)}", flush=True)


def folders(root, only):
    # An assistant reads what another model computed.
    others = (*convert.EMBEDDING, "gemma4-assistant")
    names = [name for name in sorted(convert.FAMILIES) if name not in others]
    return [root / name for name in names if not only or name in only]


def main():
    verb, *rest = sys.argv[1:]
    transformers.utils.logging.set_verbosity_error()
    if verb == "reference":
        reference(Path(rest[0]), Path(rest[1]), rest[2:])
    elif verb == "every-tensor":
        sys.exit(bool(every_tensor(Path(rest[0]), rest[1:])))
    elif verb == "every-rule":
        sys.exit(bool(every_rule(Path(rest[0]), rest[1:])))
    elif verb == "peer":
        peer(rest[0], Path(rest[1]), Path(rest[2]), rest[3:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
