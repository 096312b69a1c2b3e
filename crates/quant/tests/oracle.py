#!/usr/bin/env python3
"""Writes the fixtures of tests/oracle.rs from implementations that are not ours.

    python3 oracle.py [LLAMA_CPP]

The expected weights come from the `gguf` Python package (pip install gguf==0.19.0). LLAMA_CPP is an
unpacked llama.cpp (for example from the llama-cpp-python source archive); its ggml-quants.c is
compiled into a temporary library and must agree with the Python package on every block. It is
needed for the types that the package cannot decode (Q1_0, Q2_0): without it their fixtures are left
as they are. Run by hand; the fixtures are committed, so the tests need neither.

decode-TYPE.bin: u32 blocks, the blocks, then their weights in f32.
encode-TYPE.bin: u32 weights, the weights in f32, then their blocks.
sizes.txt: `name id block_len block_bytes` a line. All little-endian.
"""
import ctypes
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

FIXTURES = Path(__file__).parent / "fixtures"

# type: (blocks, byte offsets of f16 fields). The grid types get enough blocks to reach every entry.
DECODE = {
    "F16": (256, [0]), "BF16": (256, []),
    "Q4_0": (16, [0]), "Q4_1": (16, [0, 2]), "Q5_0": (16, [0]), "Q5_1": (16, [0, 2]),
    "Q8_0": (16, [0]), "Q1_0": (8, [0]), "Q2_0": (16, [0]),
    "Q2_K": (8, [80, 82]), "Q3_K": (8, [108]), "Q4_K": (8, [0, 2]), "Q5_K": (8, [0, 2]),
    "Q6_K": (8, [208]), "TQ1_0": (8, [52]), "TQ2_0": (8, [64]),
    "IQ1_S": (64, [0]), "IQ1_M": (64, []), "IQ2_XXS": (8, [0]), "IQ2_XS": (16, [0]),
    "IQ2_S": (32, [0]), "IQ3_XXS": (8, [0]), "IQ3_S": (8, [0]),
    "IQ4_NL": (16, [0]), "IQ4_XS": (8, [0]), "MXFP4": (256, []), "NVFP4": (64, []),
}
ENCODE = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
EXTRA_SIZES = {"Q2_0": (42, 64, 18)}  # llama.cpp has it, gguf 0.19.0 does not


def size(name):
    return GGML_QUANT_SIZES[T[name]] if name in T.__members__ else EXTRA_SIZES[name][1:]


def sweep(name, blocks):
    """Spreads a permutation of all grid indices over the blocks."""
    n = len(blocks)
    order = np.random.default_rng(7)

    def indices(count, each):
        assert n * each >= count, name
        return order.permutation(np.resize(np.arange(count), n * each)).reshape(n, each)

    if name == "IQ2_XXS":
        blocks[:, 2:].reshape(n, 8, 8)[:, :, :4] = indices(256, 32).reshape(n, 8, 4)
    elif name == "IQ2_XS":
        q = blocks[:, 2:66].copy().view("<u2") & 0xFE00 | indices(512, 32).astype(np.uint16)
        blocks[:, 2:66] = q.view(np.uint8)
    elif name == "IQ2_S":
        i = indices(1024, 32)
        blocks[:, 2:34] = i & 255
        blocks[:, 66:74] = (i.reshape(n, 8, 4) >> 8 << [0, 2, 4, 6]).sum(-1)
    elif name == "IQ3_XXS":
        blocks[:, 2:66] = indices(256, 64)
    elif name == "IQ3_S":
        i = indices(512, 64)
        blocks[:, 2:66] = i & 255
        blocks[:, 66:74] = (i.reshape(n, 8, 8) >> 8 << np.arange(8)).sum(-1)
    elif name == "IQ1_S":
        i = indices(2048, 32)
        blocks[:, 2:34] = i & 255
        high = (i.reshape(n, 8, 4) >> 8 << [0, 3, 6, 9]).sum(-1).astype(np.uint16)
        q = blocks[:, 34:50].copy().view("<u2") & 0xF000 | high
        blocks[:, 34:50] = q.view(np.uint8)
    elif name == "IQ1_M":
        i = indices(2048, 32)
        blocks[:, :32] = i & 255
        high = (i.reshape(n, 16, 2) >> 8 << [0, 4]).sum(-1).astype(np.uint8)
        blocks[:, 32:48] = blocks[:, 32:48] & 0x88 | high


def random_blocks(name, rng):
    """Random bytes with finite scales of both signs, some of them subnormal."""
    n, scales = DECODE[name]
    length = size(name)[1]
    blocks = rng.integers(0, 256, (n, length), dtype=np.uint8)
    for at in scales:
        values = rng.normal(size=n) * 10.0 ** rng.uniform(-7, 1, n)
        blocks[:, at:at + 2] = values.astype("<f2").view(np.uint8).reshape(n, 2)
    if name == "BF16":  # no NaN, no infinity
        blocks[:, 1] &= 0xBF
    if name == "MXFP4":  # every exponent
        blocks[:, 0] = np.arange(n)
    if name == "NVFP4":  # every scale
        blocks[:, :4] = np.arange(4 * n).reshape(n, 4)
    if name == "IQ1_M":  # keep bit 14 of the scattered f16 clear: below 2
        blocks[:, 55] &= 0xBF
    sweep(name, blocks)
    return blocks


def compile_reference(root, folder):
    """ggml-quants.c as a library, with stand-ins for what its decoders never call."""
    ggml, folder = Path(root) / "ggml", Path(folder)
    library, stubs = folder / "reference.so", folder / "stubs.c"
    missing = ["ggml_abort", "ggml_row_size", "ggml_type_name", "ggml_type_size"]
    stubs.write_text("".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in missing))
    subprocess.run(["cc", "-O1", "-ffp-contract=off", "-w", "-shared", "-fPIC", "-o", library,
                    "-I", ggml / "include", "-I", ggml / "src", ggml / "src/ggml-quants.c", stubs,
                    "-lm"], check=True)
    return ctypes.CDLL(str(library))


def reference_decode(library, name, blocks):
    symbol = name.lower() if not name.endswith("_K") else name[:-1].lower() + "K"
    function = getattr(library, "dequantize_row_" + symbol)
    out = np.empty(len(blocks) * size(name)[0], np.float32)
    function(ctypes.c_void_p(blocks.ctypes.data), ctypes.c_void_p(out.ctypes.data),
             ctypes.c_int64(out.size))
    return out


def same(a, b):
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


def write_decode(name, library, rng):
    blocks = np.ascontiguousarray(random_blocks(name, rng))
    ours = ["F16", "BF16"]  # no row function in ggml-quants.c
    expected = [reference_decode(library, name, blocks)] if library and name not in ours else []
    if name in T.__members__:
        try:
            expected.append(dequantize(blocks, T[name]).reshape(-1))
        except NotImplementedError:
            pass
    if not expected:
        return print(f"{name}: left as it is (give LLAMA_CPP)")
    assert all(same(expected[0], other) for other in expected), name
    assert np.isfinite(expected[0]).all() or name == "MXFP4", name
    data = struct.pack("<I", len(blocks)) + blocks.tobytes() + expected[0].astype("<f4").tobytes()
    (FIXTURES / f"decode-{name}.bin").write_bytes(data)
    print(f"{name}: {len(blocks)} blocks, {len(expected)} oracles, {len(data)} bytes")


def encoder_input(rng):
    """48 blocks: several distributions, and the cases where rounding and ties decide."""
    rows = [rng.normal(size=32) * 10.0 ** rng.uniform(-6, 3) for _ in range(24)]
    rows += [rng.uniform(0, 1, 32) for _ in range(4)] + [-rng.exponential(size=32) for _ in range(4)]
    rows += [rng.integers(-16, 17, 32) / 2 for _ in range(8)]  # ties
    rows += [np.zeros(32), np.full(32, 3.0), np.full(32, -0.7), np.eye(32)[5], -np.eye(32)[31]]
    rows += [np.resize([1.0, -1.0], 32), np.resize([-8.0, 7.5, 8.0], 32), np.full(32, 60000.0)]
    return np.array(rows, np.float32)


def write_encode(name, rows):
    expected = np.ascontiguousarray(quantize(rows, T[name])).view(np.uint8)
    data = struct.pack("<I", rows.size) + rows.astype("<f4").tobytes() + expected.tobytes()
    (FIXTURES / f"encode-{name}.bin").write_bytes(data)
    print(f"encode {name}: {rows.size} weights, {len(data)} bytes")


def write_sizes():
    sizes = {t.name: (int(t), *GGML_QUANT_SIZES[t]) for t in GGML_QUANT_SIZES}
    sizes |= EXTRA_SIZES
    for activation in ("Q8_1", "Q8_K"):
        del sizes[activation]
    lines = [f"{name} {' '.join(map(str, sizes[name]))}\n" for name in sizes]
    (FIXTURES / "sizes.txt").write_text("".join(lines))


def main():
    FIXTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        library = compile_reference(sys.argv[1], folder) if len(sys.argv) > 1 else None
        for number, name in enumerate(DECODE):
            write_decode(name, library, np.random.default_rng(number))
    rows = encoder_input(np.random.default_rng(99))
    for name in ENCODE:
        write_encode(name, rows)
    write_sizes()


if __name__ == "__main__":
    main()
