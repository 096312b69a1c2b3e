"""What convert.py's later families publish beside or instead of what transformers' own state holds: layers that predict
further tokens, experts under older names, image towers, sentence-transformers folders, and their kinds of tokenizer.

A function takes a config and the tensors (`name: (dtype, shape)`) as transformers has them and gives those published.
"""

import json

TEMPLATE = "{% for m in messages %}<|turn>{{ m['content'] }}<turn|>{% endfor %}"


def renamed(tensors, *pairs):
    """Names with parts replaced."""
    def name(key):
        for old, new in pairs:
            key = key.replace(old, new)
        return key
    return {name(k): v for k, v in tensors.items()}


def towers(config, tensors, cls, model_type, prefix="model.language_model."):
    """A text model as the part of a larger one."""
    tensors = {k.replace("model.", prefix, 1): v for k, v in tensors.items()}
    tensors["model.visual.blocks.0.norm1.weight"] = ("BF16", [32])
    tensors["model.vision_tower.std_bias"] = ("BF16", [32])
    text = {k: v for k, v in config.items() if k not in ("architectures", "dtype", "transformers_version")}
    return dict(architectures=[cls], model_type=model_type, text_config=text, vision_config={}), tensors


def prediction(config, tensors):
    """One layer of multi-token prediction: a copy of the last layer, with what joins it to the trunk."""
    last = f"model.layers.{config['num_hidden_layers'] - 1}."
    for key in [k for k in tensors if k.startswith(last)]:
        tensors["mtp.layers.0." + key.removeprefix(last)] = tensors[key]
    width = config["hidden_size"]
    tensors["mtp.fc.weight"] = ("BF16", [width, 2 * width])
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        tensors[f"mtp.{name}.weight"] = ("BF16", [width])
    return config, tensors


def precise(tensors):
    """Norms of delta-nets in F32. Not so decays, which are F32 too as published: the exponential of PyTorch is not the
    correctly rounded one for one F32 number in a hundred."""
    for key in tensors:
        if key.endswith("linear_attn.norm.weight"):
            tensors[key] = ("F32", tensors[key][1])


def qwen35(config, tensors):
    precise(tensors)
    return prediction(dict(config, mtp_num_hidden_layers=1), tensors)


def qwen35_vision(config, tensors):
    return towers(config, tensors, "Qwen3_5ForConditionalGeneration", "qwen3_5")


def qwen35moe(config, tensors):
    precise(tensors)
    config, tensors = prediction(dict(config, mtp_num_hidden_layers=1), tensors)
    return towers(config, tensors, "Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe")


def lfm2moe(config, tensors):
    for key in [k for k in tensors if k.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        dtype, (experts, rows, cols) = tensors.pop(key)
        base = key.rsplit(".", 1)[0]
        down = key.endswith("down_proj")
        for x in range(experts):
            for proj in ("w2",) if down else ("w1", "w3"):
                tensors[f"{base}.{x}.{proj}.weight"] = (dtype, [rows if down else rows // 2, cols])
    return config, tensors


def glm4moe(config, tensors):
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    last = f"model.layers.{layers - 1}."
    for key in [k for k in tensors if k.startswith(last)]:
        tensors[f"model.layers.{layers}." + key.removeprefix(last)] = tensors[key]
    more = {"eh_proj": [width, 2 * width], "enorm": [width], "hnorm": [width], "shared_head.norm": [width],
            "shared_head.head": [config["vocab_size"], width], "embed_tokens": [config["vocab_size"], width]}
    for name, shape in more.items():
        tensors[f"model.layers.{layers}.{name}.weight"] = ("BF16", shape)
    return config, tensors


def granite(config, tensors):
    kinds = {"linear_attention": "mamba", "full_attention": "attention"}
    config["layer_types"] = [kinds[kind] for kind in config["layer_types"]]
    config["time_step_limit"] = None
    return config, renamed(
        tensors, ("block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.input_linear.weight"),
        ("block_sparse_moe.experts.down_proj", "block_sparse_moe.output_linear.weight"),
        ("block_sparse_moe.router.weight", "block_sparse_moe.router.layer.weight"))


def gemma4_moe(config, tensors):
    return towers(config, tensors, "Gemma4ForConditionalGeneration", "gemma4")


def gemma4_unified(config, tensors):
    config = dict(config, model_type="gemma4_unified_text", moe_intermediate_size=None)
    for key in ("vocab_size_per_layer_input", "hidden_size_per_layer_input", "enable_moe_block"):
        config.pop(key)
    return towers(config, tensors, "Gemma4UnifiedForConditionalGeneration", "gemma4_unified")


def sentence_transformer(folder, mode):
    """The files that say how an encoder's vectors become one."""
    modules = [dict(idx=0, name="0", path="", type="sentence_transformers.models.Transformer"),
               dict(idx=1, name="1", path="1_Pooling", type="sentence_transformers.models.Pooling")]
    (folder / "modules.json").write_text(json.dumps(modules))
    pooling = dict(word_embedding_dimension=64, **{f"pooling_mode_{k}": k == mode for k in (
        "cls_token", "mean_tokens", "max_tokens", "lasttoken")})
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def reranker(config, tensors):
    """As the oldest checkpoints name their tensors."""
    return config, renamed(tensors, ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))


def nomic(config, tensors):
    """Nomic's own code and names; transformers' are others."""
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    config = dict(
        config, architectures=["NomicBertModel"], model_type="nomic_bert", activation_function="swiglu", causal=False,
        layer_norm_epsilon=1e-12, max_trained_positions=2048, mlp_fc1_bias=False, mlp_fc2_bias=False, n_embd=width,
        n_head=4, n_inner=inner, n_layer=layers, n_positions=8192, prenorm=False, qkv_proj_bias=False,
        rotary_emb_base=1000, rotary_emb_fraction=1.0, rotary_emb_interleaved=False, rotary_emb_scale_base=None)
    shapes = {"attn.Wqkv": [3 * width, width], "attn.out_proj": [width, width], "mlp.fc11": [inner, width],
              "mlp.fc12": [inner, width], "mlp.fc2": [width, inner]}
    names = [f"embeddings.{k}.weight" for k in ("word_embeddings", "token_type_embeddings")]
    tensors = {k: tensors[k] for k in names}
    norms = ["emb_ln"] + [f"encoder.layers.{i}.{n}" for i in range(layers) for n in ("norm1", "norm2")]
    tensors |= {f"{n}.{kind}": ("F32", [width]) for n in norms for kind in ("weight", "bias")}
    tensors |= {f"encoder.layers.{i}.{n}.weight": ("F32", s) for i in range(layers) for n, s in shapes.items()}
    return config, tensors


def nomic_moe(config, tensors):
    """The same with experts in every second layer, and biases."""
    config, tensors = nomic(config, tensors)
    config |= dict(activation_function="gelu", mlp_fc1_bias=True, mlp_fc2_bias=True, qkv_proj_bias=True,
                   moe_every_n_layers=2, moe_top_k=2, num_experts=4, n_positions=2048)
    width, inner, experts = config["hidden_size"], config["intermediate_size"], 4
    kept = ("embeddings", "emb_ln", "norm1", "norm2")
    tensors = {k: v for k, v in tensors.items() if any(part in k for part in kept)}
    shapes = {"mlp.experts.mlp.w1": [experts * inner, width], "mlp.experts.mlp.w2": [experts * inner, width],
              "mlp.experts.bias": [width], "mlp.router.layer.weight": [experts, width]}
    tensors |= {f"encoder.layers.1.{n}": ("BF16", s) for n, s in shapes.items()}
    linear = {"attn.Wqkv": [3 * width, width], "attn.out_proj": [width, width]}
    for i, shapes in enumerate((linear | {"mlp.fc1": [inner, width], "mlp.fc2": [width, inner]}, linear)):
        tensors |= {f"encoder.layers.{i}.{n}.weight": ("BF16", s) for n, s in shapes.items()}
        tensors |= {f"encoder.layers.{i}.{n}.bias": ("BF16", s[:1]) for n, s in shapes.items()}
    return config, tensors


def bare(config, tensors):
    """As the model without its unembedding names its tensors."""
    return config, {k.removeprefix("model."): v for k, v in tensors.items()}


PUBLISHED = {
    "qwen35": qwen35, "qwen35-vision": qwen35_vision, "qwen35moe": qwen35moe, "qwen3next": prediction,
    "qwen3-embedding": bare, "lfm2moe": lfm2moe, "glm4moe": glm4moe,
    "gemma4-moe": gemma4_moe, "gemma4-unified": gemma4_unified,
    "granitehybrid": granite, "granitehybrid-dense": granite, "granite": granite, "granitemoe": granite,
    "bert-reranker": reranker, "nomic-bert": nomic, "nomic-bert-moe": nomic_moe,
}


def gemma(folder):
    """BPE over characters with bytes to fall back on, as Gemma 4 has it."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokens = special + ["<|turn>", "<turn|>", "<|channel>", "<|image>"] + [f"<0x{i:02X}>" for i in range(256)]
    tokens += list("▁ethaniqxz\n") + ["th", "▁t", "the", "in", "an"]
    vocab = {t: i for i, t in enumerate(tokens)}
    merges = [("t", "h"), ("▁", "t"), ("th", "e"), ("i", "n"), ("a", "n")]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", 2)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special + tokens[5:9]])
    tokenizer.add_tokens([AddedToken("<|tool_call>", normalized=False), AddedToken("<tool>", normalized=False)])
    (folder / "tokenizer.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False), encoding="utf-8")
    config = dict(bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
                  image_token="<|image>", sot_token="<|turn>", tokenizer_class="PreTrainedTokenizerFast",
                  extra_special_tokens=["<turn|>"], clean_up_tokenization_spaces=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def word_piece(folder):
    """Words and their parts, in lower case."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = special + [f"[unused{i}]" for i in range(3)] + [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    tokens += ["the", "an", "in", "##e", "##t", "##h", "##ing", "é", "##é"]
    tokenizer = Tokenizer(models.WordPiece(vocab={t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=None)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    (folder / "tokenizer.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    config = dict(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]",
                  do_lower_case=True, tokenizer_class="BertTokenizer", model_max_length=512)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def characters():
    """A compiled table of a normalizer with one rule."""
    import io
    import tempfile
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    out = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write("FF21\t41\n")
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a b c d e"] * 10), model_writer=out, vocab_size=12, hard_vocab_limit=False,
            normalization_rule_tsv=rules.name, minloglevel=2)
    model = pb.ModelProto()
    model.ParseFromString(out.getvalue())
    return model.normalizer_spec.precompiled_charsmap


def unigram(folder, with_model):
    """A vocabulary like XLM-RoBERTa's: as transformers numbers it, and as its SentencePiece model has it."""
    import base64
    from sentencepiece import sentencepiece_model_pb2 as pb
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    pieces = [(p, -float(i) / 4) for i, p in enumerate("▁ e t a h n i q x th ▁the in an ▁a ing , .".split())]
    table = characters()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocab = [(t, 0.0) for t in special] + pieces + [("<mask>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in [*special, "<mask>"]])
    tokenizer.add_tokens([AddedToken("ing", normalized=False)])
    text = json.loads(tokenizer.to_str())
    text["normalizer"] = dict(type="Precompiled", precompiled_charsmap=base64.b64encode(table).decode())
    (folder / "tokenizer.json").write_text(json.dumps(text, ensure_ascii=False), encoding="utf-8")
    config = dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>", sep_token="</s>",
                  cls_token="<s>", mask_token="<mask>", tokenizer_class="XLMRobertaTokenizer")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if not with_model:
        return
    model = pb.ModelProto()
    model.trainer_spec.model_type = 1
    model.normalizer_spec.precompiled_charsmap = table
    model.normalizer_spec.remove_extra_whitespaces = False
    for text, score, kind in [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)] + [(*p, 1) for p in pieces]:
        model.pieces.add(piece=text, score=score, type=kind)
    (folder / "sentencepiece.bpe.model").write_bytes(model.SerializeToString())
