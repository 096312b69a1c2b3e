"""The Python package `gguf` as an independent oracle, both ways. Needs `pip install gguf==0.19.0`.

    python3 oracle.py write    writes the fixtures in tests/data (committed; tests/oracle.rs reads them)
    python3 oracle.py read FILE   checks a file written by
                              HOB_GGUF_OUT=FILE cargo test -p hob-gguf --test oracle
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian, GGUFReader, GGUFValueType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES

DATA = Path(__file__).parent / "data"
TOKENS = ["<s>", "Ġthe", "字", "", "a" * 300]
SCALARS = [
    ("u8", "uint8", 200), ("i8", "int8", -100), ("u16", "uint16", 60000), ("i16", "int16", -30000),
    ("u32", "uint32", 4000000000), ("i32", "int32", -2000000000), ("f32", "float32", 0.15625),
    ("u64", "uint64", 2**63 + 1), ("i64", "int64", -(2**62)), ("f64", "float64", 1e-300),
]


def pattern(n: int, seed: int) -> np.ndarray:
    """Bytes that both sides can compute: the high bytes of a linear congruence."""
    x = np.arange(n, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(seed * 97)
    return ((x >> np.uint64(16)) & np.uint64(255)).astype(np.uint8)


def add_meta(w: GGUFWriter) -> None:
    for name, kind, value in SCALARS:
        getattr(w, f"add_{kind}")(f"test.{name}", value)
    w.add_bool("test.bool", True)
    w.add_string("test.string", "naïve 字")
    w.add_array("test.tokens", TOKENS)
    w.add_array("test.floats", [0.5, -2.25])
    w.add_array("test.ints", [1, -2, 3])
    w.add_array("test.bools", [True, False, True])
    w.add_key_value("test.u16s", [1, 65535], GGUFValueType.ARRAY, GGUFValueType.UINT16)


def add_tensors(w: GGUFWriter, types: list[GGMLQuantizationType]) -> None:
    for ty in types:
        block, size = GGML_QUANT_SIZES[ty]
        # Three rows of two blocks, given as bytes; the package derives the shape in elements.
        data = pattern(6 * size, ty.value).reshape(3, 2 * size)
        w.add_tensor(ty.name, data, raw_dtype=ty)


def finish(w: GGUFWriter) -> None:
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def write() -> None:
    DATA.mkdir(exist_ok=True)
    skipped = {GGMLQuantizationType.Q8_1, GGMLQuantizationType.Q8_K}
    types = [ty for ty in GGMLQuantizationType if ty not in skipped]
    for name, alignment in [("all-types", None), ("aligned-256", 256)]:
        w = GGUFWriter(DATA / f"{name}.gguf", "llama")
        if alignment:
            w.add_custom_alignment(alignment)
        add_meta(w)
        add_tensors(w, types if not alignment else types[:3])
        finish(w)
    w = GGUFWriter(DATA / "big-endian.gguf", "llama", endianess=GGUFEndian.BIG)
    finish(w)
    w = GGUFWriter(DATA / "split.gguf", "llama", split_max_tensors=2)
    add_meta(w)
    add_tensors(w, types[:5])
    finish(w)
    for f in sorted(DATA.iterdir()):
        print(f.name, f.stat().st_size)


def read(path: str) -> None:
    r = GGUFReader(path)
    got = {key: field.contents() for key, field in r.fields.items() if not key.startswith("GGUF.")}
    want = {f"test.{name}": value for name, _, value in SCALARS}
    want |= {
        "general.architecture": "llama", "general.alignment": 64, "test.bool": True,
        "test.string": "naïve 字", "test.tokens": TOKENS, "test.floats": [0.5, -2.25],
        "test.ints": [1, -2, 3], "test.bools": [True, False, True], "test.u16s": [1, 65535],
    }
    assert got == want, (got, want)
    for t in r.tensors:
        block, size = GGML_QUANT_SIZES[t.tensor_type]
        assert t.name == t.tensor_type.name
        assert list(t.shape) == [2 * block, 3], (t.name, t.shape)
        assert t.data_offset % 64 == 0
        assert (t.data.reshape(-1).view(np.uint8) == pattern(6 * size, t.tensor_type.value)).all(), t.name
    print(f"{len(got)} pairs and {len(r.tensors)} tensors agree")


if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        write()
    elif len(sys.argv) == 3 and sys.argv[1] == "read":
        read(sys.argv[2])
    else:
        sys.exit(__doc__)
