#!/usr/bin/env python3
"""Compares the encoders with llama.cpp's: weighted error and time, on normal, heavy-tailed and real weights.

    cargo build --release --package hob-quant --example encode
    python3 against.py LIBGGML_BASE ENCODE MODEL [TYPE ...]

LIBGGML_BASE is the path of llama.cpp's libggml-base.so, ENCODE that of the example `encode`, MODEL a GGUF file with real
weights (rows of its ffn_up of a middle layer are taken, with uniform noise one 4-bit step wide per 32 weights, as the
file may be quantized). Needs the Python packages `gguf` (0.19.0) and `numpy`. Run by hand, on a quiet machine.

A line per type, with and without importance: hob's error over llama.cpp's by the weights that llama.cpp's encoder uses
(and in brackets by importance alone), for the three kinds of rows; and how many times faster hob is.
"""
import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gguf
import numpy as np

COLUMNS, ROWS = 4096, 256
# Factor of the mean square and its span, as in the objective of each encoder; None: importance alone.
SPANS = {"Q2_K": (1, 256), "Q3_K": (2, 256), "Q4_K": (2, 256), "Q5_K": (2, 256), "Q6_K": None, "IQ4_XS": (2, 256),
         "IQ4_NL": (2, 32), "Q4_0": (1, 0), "Q4_1": (1, 0), "Q5_0": (1, 0), "Q5_1": (1, 0), "MXFP4": None,
         "IQ3_XXS": (2, 256), "IQ3_S": (2, 256), "IQ2_XXS": (1, 256), "IQ2_XS": (1, 256), "IQ2_S": (2, 256),
         "IQ1_S": (2, 256), "IQ1_M": (2, 256)}
NEEDS = {"IQ2_XXS", "IQ2_XS", "IQ1_S"}


def rows_of(model):
    rng = np.random.default_rng(7)
    normal = rng.standard_normal((ROWS, COLUMNS)) * 0.02
    heavy = rng.standard_t(4, (ROWS, COLUMNS)) * 0.02
    reader = gguf.GGUFReader(model)
    tensor = next(t for t in reader.tensors if t.name == "blk.10.ffn_up.weight")
    real = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(-1)[: ROWS * COLUMNS].astype(np.float64)
    groups = real.reshape(-1, 32)
    step = (groups.max(1, keepdims=True) - groups.min(1, keepdims=True)) / 15
    real = (groups + step * (rng.random(groups.shape) - 0.5)).reshape(ROWS, COLUMNS)
    importance = np.exp(rng.standard_normal(COLUMNS) * 1.2)
    return {n: r.astype(np.float32) for n, r in [("normal", normal), ("heavy", heavy), ("real", real)]}, importance.astype(np.float32)


def objective(name, x, importance):
    weights = np.broadcast_to(importance, x.shape).astype(np.float64)
    if SPANS[name]:
        factor, span = SPANS[name]
        groups = x.astype(np.float64).reshape(-1, span or COLUMNS)
        base = factor * (groups**2).mean(1, keepdims=True)
        weights = weights * np.sqrt(base + groups**2).reshape(x.shape)
    return weights


def main():
    lib, encode, model, *names = sys.argv[1:]
    lib = ctypes.CDLL(lib)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    data, importance = rows_of(model)
    folder = Path(tempfile.mkdtemp())
    importance.tofile(folder / "imp")
    for name in names or SPANS:
        ty = gguf.GGMLQuantizationType[name]
        block, size = gguf.GGML_QUANT_SIZES[ty]
        lib.ggml_quantize_init(int(ty))
        for weighted in (True, False):
            if not weighted and name in NEEDS:
                continue
            cells, ours_s, theirs_s = [], 0, 0
            for kind, x in data.items():
                x.tofile(folder / "x")
                args = [encode, name, str(COLUMNS), folder / "x", folder / "out"] + ([folder / "imp"] if weighted else [])
                ours_s += float(subprocess.check_output(args))
                ours = np.fromfile(folder / "out", np.uint8)
                theirs = np.zeros_like(ours)
                begun = time.perf_counter()
                lib.ggml_quantize_chunk(int(ty), x.ctypes.data, theirs.ctypes.data, 0, ROWS, COLUMNS,
                                        importance.ctypes.data if weighted else None)
                theirs_s += time.perf_counter() - begun
                imp = importance if weighted else np.ones(COLUMNS)
                ratios = []
                for w in (objective(name, x, imp), np.broadcast_to(imp, x.shape)):
                    errors = [(w * (gguf.quants.dequantize(d.reshape(ROWS, -1), ty).astype(np.float64) - x) ** 2).sum()
                              for d in (ours, theirs)]
                    ratios.append(errors[0] / errors[1])
                cells.append(f"{kind} {ratios[0]:.4f} ({ratios[1]:.4f})")
            print(f"{name:8} {'weighted' if weighted else 'plain':8}  {'  '.join(cells)}   {theirs_s / ours_s:5.1f} times as fast,"
                  f" {ROWS * COLUMNS * 3 / ours_s / 1e6:.0f} M/s", flush=True)


main()
