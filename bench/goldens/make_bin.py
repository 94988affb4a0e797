"""Writes test/goldens/bin: small models as torch.save writes them, and the same values as safetensors.

bloom-f32    pytorch_model.bin with all that a state dict can be: a tied head on the embedding's storage, a
             matrix that is a transposed view, a vector inside a larger storage, Parameters, _metadata
mpt-f16      pytorch_model.bin in f16, with pickle protocol 4
llama-bf16   shards with pytorch_model.bin.index.json in bf16, written by huggingface_hub
hostile      pickles that call something or pack their entries: none may be run

Each folder's expected.safetensors holds the tensors under the same names.
Run from the repository's root with a Python that has torch, transformers, safetensors and huggingface_hub
(made with torch 2.15, Transformers 5.24). The seed is fixed: the values come out equal.
"""

import os
import zipfile
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BloomConfig, LlamaConfig, MptConfig

OUT = Path("test/goldens/bin")


def write_folder(name, config, dtype):
    """The folder with its config; returns it and the state dict of a random model."""
    torch.manual_seed(15)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    config.dtype = dtype
    config.save_pretrained(folder)
    return folder, model.state_dict()


def write_expected(folder, state):
    save_file({k: v.contiguous().clone() for k, v in state.items()}, folder / "expected.safetensors")


def write_bloom():
    config = BloomConfig(vocab_size=97, hidden_size=16, n_layer=1, n_head=2)
    folder, state = write_folder("bloom-f32", config, torch.float32)
    assert state["lm_head.weight"].data_ptr() == state["transformer.word_embeddings.weight"].data_ptr()
    up = "transformer.h.0.mlp.dense_h_to_4h.weight"
    state[up] = state[up].t().contiguous().t()
    norm = "transformer.ln_f.weight"
    state[norm] = torch.cat([torch.zeros(3), torch.randn(16), torch.zeros(2)])[3:19]
    bias = "transformer.h.0.mlp.dense_h_to_4h.bias"
    state[bias] = torch.nn.Parameter(torch.randn(128))[::2]
    out = "transformer.h.0.self_attention.dense.weight"
    state[out] = torch.nn.Parameter(state[out])
    assert not state[up].is_contiguous() and state[bias].stride() == (2,)
    torch.save(state, folder / "pytorch_model.bin")
    write_expected(folder, state)


def write_mpt():
    config = MptConfig(vocab_size=97, d_model=16, n_layers=1, n_heads=2, max_seq_len=32)
    folder, state = write_folder("mpt-f16", config, torch.float16)
    state = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    torch.save(state, folder / "pytorch_model.bin", pickle_protocol=4)
    write_expected(folder, state)


def write_llama():
    config = LlamaConfig(
        vocab_size=97, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    folder, state = write_folder("llama-bf16", config, torch.bfloat16)
    save_torch_state_dict(state, folder, max_shard_size=4000, safe_serialization=False)
    write_expected(folder, state)


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def write_hostile():
    folder = OUT / "hostile"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"w": Calls(os.system, "touch was-run")}, folder / "system.bin")
    torch.save({"w": Calls(eval, "1")}, folder / "eval.bin", pickle_protocol=4)
    torch.save({"epoch": 3, "w": torch.ones(2)}, folder / "number.bin")
    torch.save({"model": {"w": torch.ones(2)}}, folder / "nested.bin")
    torch.save({"w": torch.ones(2)}, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"w": torch.ones(2)}, folder / "plain.bin")
    with zipfile.ZipFile(folder / "plain.bin") as plain:
        with zipfile.ZipFile(folder / "compressed.bin", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in plain.namelist():
                packed.writestr(zipfile.ZipInfo(name), plain.read(name), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    write_bloom()
    write_mpt()
    write_llama()
    write_hostile()
