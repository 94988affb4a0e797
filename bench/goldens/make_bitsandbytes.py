"""Writes test/goldens/bitsandbytes: small Llamas as Transformers and bitsandbytes save them in 4 bits.

nested    double quantisation of one linear (llm_int8_skip_modules leaves out the others), a tied head
plain     one maximum in f32 for each block, of the head alone
Both have an odd number of values and a last block that is not full; all else is bf16.

expected.safetensors: `logits` [1, T, V] of `input_ids` in f32 on the values that follow from the stored codes,
tables, maxima and offset by the rule of nf4.py; `values/NAME`, those of the nested one. (Not by bitsandbytes' CPU build,
whose AVX-512 unpacking is wrong where a row is no multiple of the block.)
Run from the repository's root with a Python that has torch, transformers, bitsandbytes and safetensors
(made with torch 2.15, Transformers 5.24, bitsandbytes 0.50.2). The seed is fixed: the values come out equal.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

OUT = Path("test/goldens/bitsandbytes")
STATE = ".quant_state.bitsandbytes__nf4"
COMMON = dict(
    hidden_size=11, intermediate_size=13, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=8,
    vocab_size=31, max_position_embeddings=32,
)


def unpack(tensors, name):
    """The values of a weight in f32: product and sum rounded one after the other, no fused multiply-add."""
    part = lambda suffix: tensors[f"{name}.{suffix}"].numpy()
    state = json.loads(bytes(tensors[name + STATE].tolist()))
    n, absmax = int(np.prod(state["shape"])), part("absmax")
    if "nested_offset" in state:
        per_block = np.repeat(part("nested_absmax"), state["nested_blocksize"])[: len(absmax)]
        absmax = part("nested_quant_map")[absmax] * per_block + np.float32(state["nested_offset"])
    packed = tensors[name].numpy().reshape(-1)
    codes = np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:n]
    values = part("quant_map")[codes] * np.repeat(absmax, state["blocksize"])[:n]
    assert values.dtype == np.float32
    return torch.from_numpy(values.reshape(state["shape"]))


def expected(folder, ids, shown):
    tensors = load_file(folder / "model.safetensors")
    packed = [name.removesuffix(STATE) for name in tensors if name.endswith(STATE)]
    state = {name: tensor.float() for name, tensor in tensors.items() if tensor.dtype != torch.uint8}
    state = {name: tensor for name, tensor in state.items() if not any(name.startswith(p + ".") for p in packed)}
    state |= {name: unpack(tensors, name) for name in packed}
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    config.dtype = torch.float32
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and missing in ([], ["lm_head.weight"]), (missing, unexpected)
    model.tie_weights()
    with torch.no_grad():
        logits = model(ids).logits
    print(folder, sorted(packed))
    out = {"input_ids": ids, "logits": logits} | {f"values/{name}": state[name] for name in shown}
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, folder / "expected.safetensors")


def make(name, config, double_quant, skip, shown):
    torch.manual_seed(16)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    with torch.no_grad():
        for p in model.parameters():
            noise = torch.randn(p.shape, dtype=torch.float32)
            p.copy_(noise * p.shape[1] ** -0.5 if p.ndim == 2 else 1 + 0.2 * noise)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=torch.bfloat16, llm_int8_skip_modules=skip,
    )
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        quantized = AutoModelForCausalLM.from_pretrained(plain, quantization_config=quantization)
    quantized.save_pretrained(OUT / name)
    (OUT / name / "generation_config.json").unlink()
    ids = torch.randint(0, config.vocab_size, (1, 7))
    expected(OUT / name, ids, shown)


if __name__ == "__main__":
    tied = LlamaConfig(tie_word_embeddings=True, **COMMON)
    skip = ["lm_head", ".*self_attn", "mlp.gate_proj", "mlp.up_proj"]
    make("nested", tied, True, skip, ["model.layers.0.mlp.down_proj.weight"])
    untied = LlamaConfig(tie_word_embeddings=False, **COMMON)
    make("plain", untied, False, [".*self_attn", ".*mlp"], [])
