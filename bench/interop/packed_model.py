"""What packed.py and packed_int8.py share: a model folder around a cache entry of lora-train, loaded by Transformers.

No script of its own. Writes only below OUT, and compares nothing.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def weights_of(model: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in model.glob("*.safetensors") for name, tensor in load_file(file).items()}


def loaded_with(model: Path, packed: dict[str, torch.Tensor], names: set[str], quantization: dict, out: Path):
    """OUT becomes a model folder: the entry's tensors, MODEL's others but those of `names`, which the entry holds, and
    MODEL's config with a quantization_config. Returns it as Transformers loads it."""
    others = {name: tensor for name, tensor in weights_of(model).items() if name not in names}
    out.mkdir(parents=True)
    save_file(others | packed, out / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    kept = sorted({n.removesuffix(".weight") for n, t in others.items() if t.ndim == 2 and "emb" not in n and "wte" not in n})
    config["quantization_config"] = {
        "quant_method": "bitsandbytes", **quantization, "llm_int8_skip_modules": ["lm_head", *kept],
    }
    (out / "config.json").write_text(json.dumps(config))
    for file in model.glob("generation_config.json"):
        shutil.copy(file, out)
    return AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
