"""Writes test/goldens/gguf: small GGUF files and what the reference libraries read from them.

quants.gguf        two rows of random blocks of every GGML type that the engine reads
quants.safetensors their values by gguf.quants.dequantize
tiny-llama.gguf    a random Llama with many types, converted as llama.cpp's converter does it
tiny-llama.safetensors, tiny-llama.json
                   its tensors and config as Transformers' own GGUF reader has them; the biases, which
                   that reader drops, are the original ones

Run from the repository's root with a Python that has gguf, torch, transformers and safetensors
(made with gguf 0.19, torch 2.15, Transformers 5.24). The seed is fixed: the files come out equal.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as T
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

OUT = Path("test/goldens/gguf")
RNG = np.random.default_rng(14)

# Places of the f16 numbers in a block; all other bytes may be anything.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}


def random_blocks(kind, rows, values):
    """Random blocks; their scales are finite, some of them zero or subnormal."""
    size, bytes_ = gguf.GGML_QUANT_SIZES[kind]
    blocks = RNG.integers(0, 256, (rows * values // size, bytes_), dtype=np.uint8)
    for place in SCALES[kind]:
        scale = (RNG.standard_normal(len(blocks)) * 0.05).astype(np.float16)
        scale[:2] = [0, 3e-7]
        blocks[:, place : place + 2] = scale.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(rows, -1)


def write_quants():
    writer = gguf.GGUFWriter(OUT / "quants.gguf", "none")
    expected = {}
    for kind in SCALES:
        data = random_blocks(kind, 2, 512)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        expected[kind.name] = gguf.quants.dequantize(data, kind)
    values = RNG.standard_normal((2, 96)).astype(np.float32)
    for kind in (T.F32, T.F16, T.BF16):
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        expected[kind.name] = gguf.quants.dequantize(data, kind)
    writer.add_array("test.ints", [-1, 2, 3])
    writer.add_array("test.texts", ["a", "ä", ""])
    writer.add_bool("test.bool", True)
    writer.add_float64("test.f64", 0.1)
    writer.add_int16("test.i16", -2)
    finish(writer)
    save_file(expected, OUT / "quants.safetensors")


def permute(rows, heads):
    """As llama.cpp's converter: the two halves of a head become neighbours."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def llama3_divisors(config, factor):
    """As llama.cpp's converter computes rope_freqs.weight."""
    dim, theta = config.head_dim, config.rope_parameters["rope_theta"]
    divisors = []
    for freq in 1.0 / (theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)):
        wavelength = 2 * np.pi / freq
        smooth = (8192 / wavelength - 1) / (4 - 1)
        divisors.append(
            1 if wavelength < 8192 / 4 else factor if wavelength > 8192 else 1 / ((1 - smooth) / factor + smooth)
        )
    return np.array(divisors, dtype=np.float32)


TYPES = {
    "token_embd": T.Q8_0, "output": T.F16, "attn_q": T.Q4_1, "attn_k": T.F16, "attn_v": T.Q8_0,
    "attn_output": T.Q4_0, "ffn_gate": T.BF16, "ffn_up": T.Q5_0, "ffn_down": T.Q5_1,
}


def write_llama():
    torch.manual_seed(14)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=512, rms_norm_eps=1e-5,
        attention_bias=True, rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
    )
    model = LlamaForCausalLM(config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    path = OUT / "tiny-llama.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(5)
    writer.add_pad_token_id(3)
    biases = {}
    for name, tensor in model.state_dict().items():
        values = (torch.randn(tensor.shape) * 0.1).numpy()
        module, kind = name.rsplit(".", 1)
        if kind == "bias":
            biases[name] = values
        if ".q_proj." in name:
            values = permute(values, config.num_attention_heads)
        if ".k_proj." in name:
            values = permute(values, config.num_key_value_heads)
        target = names.get_name(module)
        dtype = TYPES.get(target.split(".")[-1], T.F32) if kind == "weight" else T.F32
        writer.add_tensor(f"{target}.{kind}", gguf.quants.quantize(values, dtype), raw_dtype=dtype)
    writer.add_tensor("rope_freqs.weight", llama3_divisors(config, 8))
    finish(writer)

    read = AutoModelForCausalLM.from_pretrained(OUT, gguf_file=path.name, dtype=torch.float32)
    expected = {name: tensor.numpy() for name, tensor in read.state_dict().items()}
    save_file(expected | biases, OUT / "tiny-llama.safetensors")
    keys = [
        "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "max_position_embeddings", "vocab_size", "tie_word_embeddings",
    ]
    known = read.config.to_dict()
    text = json.dumps({key: known[key] for key in keys}, indent=2) + "\n"
    (OUT / "tiny-llama.json").write_text(text)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    write_quants()
    write_llama()
