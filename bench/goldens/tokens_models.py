"""What a vocabulary that grows makes of golden models, by Stanford Alpaca's function, and an adapter that PEFT saves of it.

Called by make_tokens.py. Writes OUT/models/NAME/{expected.json, adapter/}; the base models are those of
test/goldens/models. Never trains them in place.
"""

import json
from pathlib import Path

import torch
from peft import PeftModel

from reference import adamw_losses, batch_of, load_base

NEW = 2
BASES = ["bloom-hub", "llama-bias"]


def grow(model: torch.nn.Module) -> torch.nn.Module:
    """`smart_tokenizer_and_embedding_resize` of Stanford Alpaca's train.py, after the tokenizer got NEW tokens."""
    old = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(old + NEW)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        rows = layer.weight.data
        rows[-NEW:] = rows[:-NEW].mean(dim=0, keepdim=True)
    return model.train()


def with_new_ids(batch: dict, vocab_size: int) -> dict:
    """Both new ids are read, one of them is learnt; the padding carries the other."""
    ids, labels, mask = batch["input_ids"], batch["labels"], batch["attention_mask"]
    ids[mask == 0] = vocab_size
    ids[0, 1] = vocab_size
    ids[0, 8] = labels[0, 8] = vocab_size + 1
    return batch


def mean_rows(model: torch.nn.Module, dtype: torch.dtype) -> dict[str, list[float]]:
    rows = lambda layer: layer.weight.detach().to(dtype).mean(dim=0).float().tolist()
    return {"embedding": rows(model.get_input_embeddings()), "head": rows(model.get_output_embeddings())}


def make(folder: Path, out: Path) -> None:
    base = load_base(folder)
    vocab_size = base.get_input_embeddings().weight.shape[0]
    batch = with_new_ids(batch_of(folder), vocab_size)
    facts = {
        "vocab_size": vocab_size + NEW,
        **{name: rows.tolist() for name, rows in batch.items()},
        "mean": mean_rows(base, torch.float64),
        "mean_bf16": mean_rows(base, torch.bfloat16),
        "full_adamw_losses": adamw_losses(grow(base), batch),
    }
    lora = lambda: PeftModel.from_pretrained(grow(load_base(folder)), folder / "adapter", is_trainable=True).train()
    facts["lora_adamw_losses"] = adamw_losses(lora(), batch)

    # New rows that nobody could guess: they have to come from the adapter's file.
    model = lora()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in {model.get_input_embeddings(), model.get_output_embeddings()}:
            noise = torch.randn(NEW, layer.weight.shape[1], generator=generator)
            layer.weight[-NEW:] += 0.2 * noise
        facts["saved_loss"] = model(**batch).loss.item()
    model.peft_config["default"].base_model_name_or_path = str(folder)
    model.save_pretrained(out / "adapter")
    (out / "adapter" / "README.md").unlink(missing_ok=True)
    path = out / "adapter" / "adapter_config.json"
    saved = json.loads(path.read_text()) | {"base_model_name_or_path": folder.name}
    saved["target_modules"] = sorted(saved["target_modules"])
    path.write_text(json.dumps(saved, indent=2) + "\n")
    (out / "expected.json").write_text(json.dumps(facts) + "\n")
    print(folder.name, {k: v for k, v in facts.items() if k.endswith(("losses", "loss"))})


def make_models(out: Path) -> None:
    for name in BASES:
        target = out / "models" / name
        target.mkdir(parents=True, exist_ok=True)
        make(Path("test/goldens/models") / name, target)
