"""What Transformers and PEFT compute for one golden folder: logits, gradients, losses of AdamW steps. CPU, f32.

Reads DIR/{config.json, model.safetensors, batch.json, adapter/}; never writes into it. `make_models.py` stores what this
returns, `check_models.py` compares it with a folder that somebody else made.
Shapes: B sequences, T positions, V vocabulary. Loss: the mean over the labels other than -100 that the shift leaves.
"""

import json
import os
from functools import partial
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging

import nf4

logging.disable_progress_bar()

STEPS = 5
ADAMW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)


def load_base(folder: Path) -> torch.nn.Module:
    # Eager attention: the textbook formula, without a fused kernel's own order of sums. Not for Falcon's ALiBi, which
    # Transformers' eager path adds twice: to the scores, and once more inside the mask.
    alibi = json.loads((folder / "config.json").read_text()).get("alibi")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa" if alibi else "eager"
    )
    if model.config.model_type == "mpt":
        # Transformers' MPT reads `alibi_bias_max` and never hands it to its own function; the original code does.
        decoder, bias_max = model.transformer, model.config.attn_config.alibi_bias_max
        decoder.build_mpt_alibi_tensor = partial(decoder.build_mpt_alibi_tensor, alibi_bias_max=bias_max)
    return model.train()


def load_lora(folder: Path, quantized: bool) -> torch.nn.Module:
    model = PeftModel.from_pretrained(load_base(folder), folder / "adapter", is_trainable=True)
    if quantized:
        for module in model.modules():
            if hasattr(module, "base_layer"):
                weight = module.base_layer.weight
                weight.data = torch.from_numpy(nf4.round_trip(weight.detach().numpy()))
    return model.train()


def adapter_key(name: str) -> str:
    """The name that PEFT gives a parameter in adapter_model.safetensors."""
    return name.replace(".default", "")


def batch_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k: torch.tensor(v) for k, v in json.loads((folder / "batch.json").read_text()).items()}


def forward_backward(model: torch.nn.Module, batch: dict) -> tuple[float, np.ndarray, dict[str, np.ndarray]]:
    """Loss, logits [B, T, V], gradients by parameter name (only of parameters that are trained)."""
    model.zero_grad()
    out = model(**batch)
    out.loss.backward()
    grads = {n: p.grad.numpy().copy() for n, p in model.named_parameters() if p.requires_grad}
    return out.loss.item(), out.logits.detach().numpy(), grads


def adamw_losses(model: torch.nn.Module, batch: dict) -> list[float]:
    """The loss before each of STEPS steps on the same batch; every parameter decays, nothing is clipped."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], **ADAMW)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def compute(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The contents of expected.json (without the versions) and of expected.safetensors."""
    batch = batch_of(folder)
    loss, logits, grads = forward_backward(load_base(folder), batch)
    facts = {"loss": loss, "full_adamw_losses": adamw_losses(load_base(folder), batch)}
    tensors = {"logits": logits, **{f"full/grad/{n}": g for n, g in grads.items()}}
    for prefix, quantized in (("lora", False), ("nf4", True)):
        model = load_lora(folder, quantized)
        facts["targets"] = sorted(model.peft_config["default"].target_modules)
        loss, logits, grads = forward_backward(model, batch)
        tensors[f"{prefix}/logits"] = logits
        tensors |= {f"{prefix}/grad/{adapter_key(n)}": g for n, g in grads.items()}
        facts[f"{prefix}_loss"] = loss
        trajectory = "nf4_lora_adamw_losses" if quantized else "lora_adamw_losses"
        facts[trajectory] = adamw_losses(load_lora(folder, quantized), batch)
    return facts, tensors
