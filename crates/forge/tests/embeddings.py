"""References for encoders and embedding models: last hidden states of convert.py's tiny checkpoints in transformers.

    python embeddings.py reference DIR OUT [NAME]   DIR as convert.py made it; writes OUT/FAMILY/hidden.bin
    python embeddings.py peer SERVER DIR OUT [NAME] embeds in llama.cpp's server (theirs-f32.gguf) and compares

A reference is 200 tokens in float32 on the processor: words of 32 bits in little-endian, which are the number of tokens, the
width, the number of scores (of rerankers: one, else none), the tokens, and then floats: a row for each token, the scores.
Rows are as the model leaves them; pooling is the reader's. Needs what logits.py needs.
"""

import json
import re
import sys
import urllib.request
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file

import convert
from logits import PROMPT, far, precision, prompt, serving

CLASSES = {"nomic-bert": "NomicBertModel", "qwen3-embedding": "Qwen3Model"}
FAMILIES = ("bert", "bert-reranker", "nomic-bert", "qwen3-embedding", "xlm-roberta", "xlm-roberta-reranker")
# Names of Nomic's own code, and in transformers.
NOMIC = (("encoder.layers", "layers"), ("emb_ln", "embeddings.LayerNorm"), ("attn.out_proj", "self_attn.o_proj"),
         ("fc11", "up_proj"), ("fc12", "gate_proj"), ("fc2", "down_proj"), ("norm1", "post_attention_layernorm"),
         ("norm2", "post_mlp_layernorm"))


def read(folder):
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    tensors = {k.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): v
               for k, v in tensors.items()}
    if folder.name == "nomic-bert":
        config |= dict(hidden_act="silu", rope_theta=config["rotary_emb_base"])
        for old, new in NOMIC:
            tensors = {k.replace(old, new): v for k, v in tensors.items()}
        for key in [k for k in tensors if "attn.Wqkv" in k]:
            for part, rows in zip("qkv", tensors.pop(key).chunk(3)):
                tensors[key.replace("attn.Wqkv", f"self_attn.{part}_proj")] = rows
    return config, tensors


def build(name, config, tensors):
    cls = getattr(transformers, CLASSES.get(name, convert.FAMILIES[name][0]))
    model = cls._from_config(cls.config_class.from_dict(config), attn_implementation="eager",
                             dtype=torch.get_default_dtype())
    found = model.load_state_dict(tensors, strict=False)
    unused = re.compile("pooler|position_ids")
    assert not [k for k in found.missing_keys + found.unexpected_keys if not unused.search(k)], found
    return model.eval()


def tokens_of(config):
    """The prompt within a vocabulary, its special tokens left out."""
    return [3 + (token - 3) % (config["vocab_size"] - 4) for token in prompt(0)]


def run(model, tokens):
    """Last hidden states, and the scores of a reranker."""
    out = model(input_ids=torch.tensor([tokens]), output_hidden_states=True)
    rows = out.last_hidden_state if hasattr(out, "last_hidden_state") else out.hidden_states[-1]
    scores = out.logits[0] if hasattr(out, "logits") else torch.zeros(0)
    return rows[0].numpy(), scores.numpy()


def reference(root, out, only):
    for name in only or FAMILIES:
        config, tensors = read(root / name)
        tokens = tokens_of(config)
        with precision(False):
            rows, scores = run(build(name, config, tensors), tokens)
        with precision(True):
            exact, _ = run(build(name, config, tensors), tokens)
        header = np.array([PROMPT, rows.shape[1], len(scores), *tokens], "<u4")
        floats = np.concatenate([rows.ravel(), scores]).astype("<f4")
        (out / name / "hidden.bin").write_bytes(header.tobytes() + floats.tobytes())
        print(f"{name}: spread {rows.std():.2f}, scores {scores}, from float64 {far(rows, exact):.1e}", flush=True)


def peer(server, root, out, only):
    """Rows with the token that stands for the text first, as the server normalizes each."""
    for name in only or FAMILIES:
        words = np.fromfile(out / name / "hidden.bin", "<u4")
        count, width = int(words[0]), int(words[1])
        tokens, rows = words[3:3 + count].tolist(), words[3 + count:3 + count + count * width].view("<f4")
        command = f"{server} --embedding --pooling none -b 512 -ub 512"
        try:
            with serving(command, root / name / "theirs-f32.gguf", 18230):
                body = json.dumps(dict(content=tokens, embd_normalize=-1)).encode()
                request = urllib.request.Request("http://127.0.0.1:18230/embedding", body,
                                                 {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=60) as answer:
                    found = np.array(json.load(answer)[0]["embedding"])
        except (RuntimeError, OSError) as error:
            print(f"{name}: {error}", flush=True)
            continue
        print(f"{name}: {far(found, rows.reshape(count, width).astype(float)):.1e}", flush=True)


def main():
    verb, *rest = sys.argv[1:]
    transformers.utils.logging.set_verbosity_error()
    if verb == "reference":
        reference(Path(rest[0]), Path(rest[1]), rest[2:])
    elif verb == "peer":
        peer(rest[0], Path(rest[1]), Path(rest[2]), rest[3:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
