#!/usr/bin/env python3
"""Counts the parameters of every config of the catalogue with transformers, as a second opinion for tests/parameters.rs.

    python3 count.py > counts.txt

Needs torch and transformers (5.24). Models are built on torch's meta device, where weights have shapes and no memory.
Of models with image or sound towers the text model alone is built, of encoders what comes before any head. Prints for
each config a line of counts.txt: the model's name; parameters (shared ones once); elements of buffers that a checkpoint holds;
of both what one token meets; elements cached for each position; elements kept for each sequence.
"""
import functools
import json
import sys
import warnings
from pathlib import Path

import torch
import transformers

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()

CATALOGUE = Path(__file__).parents[2] / "hub" / "catalogue"
# A class of another's, under a name of its own.
KINDS = {"kimi_k2": "deepseek_v3"}
# Keys of Nomic's own configuration, by those of the class in transformers.
NOMIC = {"hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer",
         "intermediate_size": "n_inner"}


def model_of(config):
    config = config.get("text_config", config)
    kind = KINDS.get(config["model_type"], config["model_type"])
    if kind == "nomic_bert":
        config = dict(config, hidden_act="silu", **{new: config[old] for new, old in NOMIC.items()})
    made = transformers.AutoConfig.for_model(**dict(config, model_type=kind))
    auto = transformers.AutoModel if kind in ("bert", "nomic_bert") else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(made)


def in_use(model, name, module, config):
    """Parameters of a layer's experts that one token meets, and all of them."""
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    experts = experts or getattr(config, "n_routed_experts", None)
    used = getattr(config, "num_experts_per_tok", None) or getattr(config, "top_k_experts", None)
    stacked = name.endswith(".experts") or ".block_sparse_moe." in name and name.endswith("put_linear")
    if not stacked:
        return 0, 0
    # What multiplies the result of an expert is no part of it.
    elements = sum(p.numel() for key, p in module.named_parameters() if "scale" not in key)
    return elements * used // experts, elements


def cached(module):
    """Elements that a layer keeps for each position, by the shapes of its projections."""
    rows = lambda name: getattr(module, name).weight.shape[0] if getattr(module, name, None) is not None else None
    if (latent := rows("kv_a_proj_with_mqa")) is not None:
        return latent
    if (both := rows("qkv_proj")) is not None:
        return both - module.o_proj.weight.shape[1]
    keys = rows("k_proj") or rows("key") or 0
    return keys + (rows("v_proj") or rows("value") or keys)


def recurrent(module):
    """Elements that a layer keeps for each sequence: the last inputs of its convolution, and its state."""
    conv = getattr(module, "conv1d", None) or getattr(module, "conv", None)
    if not isinstance(conv, torch.nn.Conv1d):
        return 0
    kept = conv.in_channels * (conv.kernel_size[0] - 1)
    if hasattr(module, "head_k_dim"):
        return kept + module.num_v_heads * module.head_k_dim * module.head_v_dim
    if hasattr(module, "ssm_state_size"):
        return kept + module.num_heads * module.head_dim * module.ssm_state_size
    return kept


@functools.cache
def counts(config):
    """All numbers of a line. Many models share a shape, so the config's text is the key."""
    model = model_of(json.loads(config))
    trained = sum(p.numel() for p in model.parameters())
    held = set(model.state_dict()) - {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = sum(b.numel() for name, b in model.named_buffers() if name in held)
    met, all_experts = map(sum, zip(*(in_use(model, n, m, model.config) for n, m in model.named_modules())))
    cache = sum(cached(m) for m in model.modules())
    state = sum(recurrent(m) for m in model.modules())
    return trained, buffers, trained + buffers - all_experts + met, cache, state


def main(names):
    files = sorted(CATALOGUE.glob("*.json"))
    for entry in sorted((e for f in files for e in json.loads(f.read_text())), key=lambda e: (e["name"], e["tag"])):
        name = f"{entry['name']}:{entry['tag']}"
        if "published" in entry and (not names or name in names):
            print(name, *counts(json.dumps(entry["published"]["config"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
