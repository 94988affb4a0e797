"""Writes test/goldens/peft: adapters of a tiny Llama as PEFT saves them.

plain  all defaults but r, alpha and targets
rich   ranks and alphas by pattern, biases, a whole module, rank-stabilised scaling

Run from the repository's root with a Python that has peft, torch and transformers (made with
PEFT 0.21.2, torch 2.15, Transformers 5.24). The order of `target_modules` is a Python set's.
"""

import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path("test/goldens/peft")
ADAPTERS = {
    "plain": dict(r=2, lora_alpha=3, target_modules=["q_proj", "down_proj"]),
    "rich": dict(
        r=2, lora_alpha=3.5, lora_dropout=0.25, target_modules=["q_proj", "v_proj"], bias="lora_only",
        rank_pattern={"v_proj": 3}, alpha_pattern={"v_proj": 5}, modules_to_save=["lm_head"], use_rslora=True,
    ),
}

for name, options in ADAPTERS.items():
    torch.manual_seed(14)
    base = LlamaForCausalLM(LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
        attention_bias=True,
    ))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    model.peft_config["default"].base_model_name_or_path = "tiny-llama"
    shutil.rmtree(OUT / name, ignore_errors=True)
    model.save_pretrained(OUT / name)
    (OUT / name / "README.md").unlink()
