"""Makes the project's own Trainer logs: what transformers.Trainer prints for a full fine-tuning of a golden model.

usage: python make_trainer.py               needs torch, transformers, accelerate (versions: each JSON)
Writes test/goldens/trainer/{rows.json, NAME.json}: the arguments and the whole log_history. Rows are read in order.
"""

import json
import tempfile
from pathlib import Path

import torch
import transformers
from transformers import Trainer, TrainingArguments

from reference import load_base

GOLDENS = Path(__file__).resolve().parents[2] / "test" / "goldens"
MODEL, PAD, ROWS = "llama-bias", 3, 23
COMMON = dict(
    learning_rate=2e-3, weight_decay=0.02, logging_steps=1, save_strategy="no", report_to="none", seed=1,
    use_cpu=True, optim="adamw_torch", disable_tqdm=True,
)
RUNS = {
    # 23 rows at batch 3 are 8 micro-batches (the last of 2 rows); 2 a step: 4 steps an epoch.
    "cosine": dict(
        num_train_epochs=2, per_device_train_batch_size=3, gradient_accumulation_steps=2, max_grad_norm=0.5,
        lr_scheduler_type="cosine", warmup_steps=3,
    ),
    # 23 rows at batch 1, 5 a step: the last step of an epoch has 3; max_steps ends within the second epoch.
    "constant-max-steps": dict(
        max_steps=8, per_device_train_batch_size=1, gradient_accumulation_steps=5, max_grad_norm=1.0,
        lr_scheduler_type="constant_with_warmup", warmup_steps=0.3,
    ),
}


class InOrder(Trainer):
    def _get_train_sampler(self, *_args, **_kwargs):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def make_rows(vocab_size: int) -> list[dict]:
    generator = torch.Generator().manual_seed(77)
    rows = []
    for _ in range(ROWS):
        length = int(torch.randint(6, 25, (1,), generator=generator))
        source = int(torch.randint(1, length - 2, (1,), generator=generator))
        ids = torch.randint(4, vocab_size, (length,), generator=generator).tolist()
        rows.append({"input_ids": ids, "labels": [-100] * source + ids[source:]})
    return rows


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)

    def padded(key: str, value: int) -> torch.Tensor:
        return torch.tensor([row[key] + [value] * (width - len(row[key])) for row in rows])

    mask = [[1] * len(r["input_ids"]) + [0] * (width - len(r["input_ids"])) for r in rows]
    return {"input_ids": padded("input_ids", PAD), "attention_mask": torch.tensor(mask), "labels": padded("labels", -100)}


def run(arguments: dict, rows: list[dict]) -> list[dict]:
    with tempfile.TemporaryDirectory() as output:
        trainer = InOrder(
            model=load_base(GOLDENS / "models" / MODEL),
            args=TrainingArguments(output_dir=output, **arguments),
            train_dataset=rows,
            data_collator=collate,
        )
        trainer.train()
    history = trainer.state.log_history
    for timing in ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos"):
        history[-1].pop(timing, None)
    return history


def main() -> None:
    folder = GOLDENS / "trainer"
    folder.mkdir(parents=True, exist_ok=True)
    rows = make_rows(json.loads((GOLDENS / "models" / MODEL / "config.json").read_text())["vocab_size"])
    (folder / "rows.json").write_text(json.dumps(rows) + "\n")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    for name, specific in RUNS.items():
        arguments = COMMON | specific
        log = {"model": MODEL, "versions": versions, "arguments": arguments, "log_history": run(arguments, rows)}
        (folder / f"{name}.json").write_text(json.dumps(log, indent=1) + "\n")
        print(name, log["log_history"][0], log["log_history"][-1])


if __name__ == "__main__":
    main()
