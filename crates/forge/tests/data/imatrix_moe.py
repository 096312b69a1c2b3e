"""Writes a tiny model with experts, one of which no token reaches: the fixture of the tests of importance.

    python3 imatrix_moe.py T/moe.gguf        # needs the packages gguf and numpy
"""
import sys

import gguf
import numpy as np

WIDTH, FFN, EXPERTS, LAYERS, HEADS, VOCAB = 32, 48, 4, 1, 2, 259
rng = np.random.default_rng(7)
w = gguf.GGUFWriter(sys.argv[1], "llama")
w.add_block_count(LAYERS)
w.add_context_length(256)
w.add_embedding_length(WIDTH)
w.add_feed_forward_length(FFN)
w.add_head_count(HEADS)
w.add_head_count_kv(HEADS)
w.add_layer_norm_rms_eps(1e-5)
w.add_rope_dimension_count(WIDTH // HEADS)
w.add_expert_count(EXPERTS)
w.add_expert_used_count(1)
w.add_vocab_size(VOCAB)
stays = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
others = iter(range(0x100, 0x200))
tokens = [chr(b) if b in stays else chr(next(others)) for b in range(256)] + ["<bos>", "<eos>", "<eot>"]
w.add_tokenizer_model("gpt2")
w.add_tokenizer_pre("gpt-2")
w.add_token_list(tokens)
w.add_token_types([1] * 256 + [3] * 3)
w.add_token_merges(["z z"])  # an empty list would not be written
w.add_bos_token_id(256)
w.add_eos_token_id(257)
w.add_add_bos_token(False)


def add(name, *shape, scale=0.3):
    w.add_tensor(name, (scale * rng.standard_normal(shape)).astype(np.float32))


add("token_embd.weight", VOCAB, WIDTH)
add("output.weight", VOCAB, WIDTH)
w.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
for layer in range(LAYERS):
    blk = f"blk.{layer}."
    w.add_tensor(blk + "attn_norm.weight", np.ones(WIDTH, np.float32))
    w.add_tensor(blk + "ffn_norm.weight", np.ones(WIDTH, np.float32))
    for name in ["attn_q", "attn_k", "attn_v", "attn_output"]:
        add(f"{blk}{name}.weight", WIDTH, WIDTH)
    router = rng.standard_normal((EXPERTS, WIDTH)).astype(np.float32)
    # Of two equal logits the first wins, so the second of these experts has no token.
    router[2] = router[1]
    w.add_tensor(blk + "ffn_gate_inp.weight", router)
    add(blk + "ffn_gate_exps.weight", EXPERTS, FFN, WIDTH)
    add(blk + "ffn_up_exps.weight", EXPERTS, FFN, WIDTH)
    add(blk + "ffn_down_exps.weight", EXPERTS, WIDTH, FFN)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()
