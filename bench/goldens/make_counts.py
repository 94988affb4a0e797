"""Counts the parameters of the true sizes (`test/goldens/configs/*/config.json`) with Transformers and PEFT.

On PyTorch's meta device: no weight is made. Writes `test/goldens/configs/counts.json`, which the plan is held against.
Run: python bench/goldens/make_counts.py
"""

import json
from pathlib import Path

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, BloomConfig, MptConfig

CONFIGS = Path(__file__).parents[2] / "test/goldens/configs"
ADAPTERS = {
    "bloom-6b4": (BloomConfig, {"r": 8, "target_modules": ["query_key_value", "dense"]}),
    "mpt-30b": (MptConfig, {"r": 64, "target_modules": ["up_proj", "down_proj"]}),
}


def own_keys(config: dict) -> dict:
    """Without what belongs to the original checkpoint's own code, which Transformers' class does not take."""
    config = {key: value for key, value in config.items() if key not in ("auto_map", "init_config")}
    if "attn_config" in config:
        config["attn_config"] = {key: config["attn_config"][key] for key in ("alibi", "alibi_bias_max")}
    return config


def counts(name: str) -> dict:
    config_class, adapter = ADAPTERS[name]
    config = json.loads((CONFIGS / name / "config.json").read_text())
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_class(**own_keys(config)))
        model.tie_weights()
        base = sum(parameter.numel() for parameter in model.parameters())
        lora = peft.get_peft_model(model, peft.LoraConfig(**adapter, task_type="CAUSAL_LM"))
        trainable, all_params = lora.get_nb_trainable_parameters()
    return {"base": base, "adapter": adapter, "trainable": trainable, "all": all_params}


if __name__ == "__main__":
    versions = {module.__name__: module.__version__ for module in (peft, torch, transformers)}
    result = {"versions": versions, **{name: counts(name) for name in ADAPTERS}}
    (CONFIGS / "counts.json").write_text(json.dumps(result, indent=2) + "\n")
