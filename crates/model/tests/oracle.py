#!/usr/bin/env python3
"""Writes the fixtures of tests/recipes.rs: the tensor types that llama.cpp's quantizer chooses.

    cargo build -p hob-model --example header
    python3 oracle.py LLAMA_QUANTIZE HEADER [NAME ...]

LLAMA_QUANTIZE is the path of a built `llama-quantize`, HEADER that of the example. The quantizer is asked with --dry-run on
files that have the header and directory of a model and a hole for data. NAME is that of a model in the catalogue, with a dash
for the colon, or of a config beside the fixtures (recipes/NAME.json). Needs the `gguf` Python package (0.19.0). Run by hand;
the fixtures are committed, so the tests need none of this.

recipes/NAME.txt: `kept` names the matrices that the quantizer never touches; `needs importance` the recipes that it refuses
to make without an importance matrix; then a line for each recipe and circumstance: `any` or, where it matters, `plain` and
`importance` (without and with an importance matrix), and `pure`. The types follow, as runs over the layers:
`attn_k,attn_v=Q6_K*4,Q4_K*24`.
"""
import itertools
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf

HERE = Path(__file__).parent
CATALOGUE = HERE.parents[1] / "hub" / "catalogue"
RECIPES = """F32 F16 BF16 Q8_0 Q6_K_L Q6_K Q5_1 Q5_K_L Q5_K_M Q5_K_S Q5_0 Q4_K_L Q4_1 Q4_K_M Q4_K_S Q4_0 IQ4_NL MXFP4_MOE IQ4_XS
    Q3_K_XL Q3_K_L Q3_K_M IQ3_M IQ3_S Q3_K_S IQ3_XS IQ3_XXS Q2_K_L Q2_K Q2_K_S IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S""".split()
# Mixes that the hubs make with two switches.
LARGE = {"Q6_K_L": "Q6_K", "Q5_K_L": "Q5_K_M", "Q4_K_L": "Q4_K_M", "Q3_K_XL": "Q3_K_L", "Q2_K_L": "Q2_K"}
# What every matrix has in the files, and what no recipe but its own gives.
SOURCE = "BF16"


def write_importance(path):
    """llama.cpp's older format, with one entry: that there is one is all that the choice of types asks."""
    name = b"blk.0.attn_q.weight"
    path.write_bytes(struct.pack("<ii", 1, len(name)) + name + struct.pack("<iif", 1, 1, 1.0))


LINE = re.compile(r"\[ *\d+/ *\d+\] +(\S+) +- +\[([ \d,]+)\], +type = +(\w+), size = .*?(?:MiB \((\w+)\))?$")


def ask(tool, path, recipe, *flags):
    """Row length and type of each matrix, by name, and whether an importance matrix is missing."""
    if recipe in LARGE:
        recipe = LARGE[recipe]
        flags += "--output-tensor-type", "q8_0", "--token-embedding-type", "q8_0"
    done = subprocess.run([*tool, "--dry-run", *flags, path, recipe], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said, found = done.stdout + done.stderr, {}
    for line in said.splitlines():
        if match := LINE.match(line):
            name, dims, old, new = match.groups()
            dims = [int(n) for n in dims.split(",")]
            if max(dims[1:]) > 1:
                found[name] = dims[0], (new or old).upper()
    return found, "will require an imatrix" in said


def kind(name):
    return re.sub(r"^blk\.\d+\.", "", name).removesuffix(".weight")


def in_order(name):
    """As the file has them: layer by layer."""
    layer = re.match(r"blk\.(\d+)\.", name)
    return int(layer[1]) if layer else -1


def runs(answer, kept):
    """The types in short."""
    by_kind = {}
    for name in sorted(answer, key=in_order):
        if kind(name) not in kept:
            row, ty = answer[name]
            block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[ty]][0]
            # Told by a switch, the quantizer takes a type that rows cannot hold, and would stop there.
            by_kind.setdefault(kind(name), []).append("F16" if row % block else ty)
    kinds_of = {}
    for name, found in sorted(by_kind.items()):
        text = ",".join(f"{ty}*{len(list(same))}" for ty, same in itertools.groupby(found))
        kinds_of.setdefault(text, []).append(name)
    return " ".join(sorted(f"{','.join(kinds)}={text}" for text, kinds in kinds_of.items()))


def fixture(tool, path, importance):
    plain_answers = {recipe: ask(tool, path, recipe) for recipe in RECIPES}
    kept = {kind(name) for name, (_, ty) in plain_answers["Q8_0"][0].items() if ty == SOURCE}
    yield f"kept {','.join(sorted(kept))}".rstrip()
    yield " ".join(["needs importance"] + [r for r, (_, missing) in plain_answers.items() if missing])
    for recipe in RECIPES:
        plain = runs(plain_answers[recipe][0], kept)
        weighted = runs(ask(tool, path, recipe, "--imatrix", importance)[0], kept)
        if plain == weighted:
            yield f"{recipe} any {plain}"
        else:
            yield from (f"{recipe} plain {plain}", f"{recipe} importance {weighted}")
        yield f"{recipe} pure {runs(ask(tool, path, recipe, '--pure')[0], kept)}"


def config(name):
    """The text of a model's configuration."""
    entries = (entry for file in CATALOGUE.glob("*.json") for entry in json.loads(file.read_text()))
    for entry in entries:
        if f"{entry['name']}-{entry['tag']}" == name:
            return json.dumps(entry["published"]["config"])
    return (HERE / "recipes" / f"{name}.json").read_text()


def main(tool, header, *names):
    for out in sorted((HERE / "recipes").glob("*.txt")) if not names else [HERE / "recipes" / f"{n}.txt" for n in names]:
        with tempfile.TemporaryDirectory() as folder:
            path, importance = Path(folder) / "model.gguf", Path(folder) / "imatrix.dat"
            described = Path(folder) / "config.json"
            described.write_text(config(out.stem))
            subprocess.run([header, described, path], check=True)
            write_importance(importance)
            lines = list(fixture(tool.split(), path, importance))
        out.write_text("\n".join(lines) + "\n")
        print(out.stem, len(lines), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
