"""Makes what the Transformers Trainer logs for the two runs on the stand-ins, and what PEFT counts.

usage: python make_standins_logs.py         needs torch, transformers, peft, accelerate (versions: each JSON)
Reads test/goldens/standins/{bloom, mpt, rows.json} (make_standins.py); writes there
expected_RUN.json   arguments, token ids of each row and where its answer begins, parameters that PEFT counts, the whole
                    log_history
mpt-adapter/        the adapter before the first step: A random, B zero

Options are those of the two runs, but for what the order of sums and a random generator would decide: f32 on a CPU,
rows in their order, no dropout, AdamW with f32 states. Run 2's linears hold their NF4 values (`nf4.py`).
"""

import json
import shutil
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast, TrainingArguments

import nf4
from make_trainer import InOrder
from reference import load_base

STANDINS = Path(__file__).resolve().parents[2] / "test" / "goldens" / "standins"
IGNORED = -100
ALPACA = "Below is an instruction that describes a task"
ALPACA_END = "Write a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n"
ALPACA_PROMPTS = dict(
    prompt_input=ALPACA
    + ", paired with an input that provides further context. "
    + ALPACA_END
    + "### Input:\n{input}\n\n### Response:",
    prompt_no_input=ALPACA + ". " + ALPACA_END + "### Response:",
)
RESPONSE = "{instruction}\n\n### Response:"
LINEARS = ("Wqkv", "out_proj", "up_proj", "down_proj")
COMMON = dict(save_strategy="no", report_to="none", use_cpu=True, optim="adamw_torch", disable_tqdm=True)
BLOOM = dict(
    num_train_epochs=2, per_device_train_batch_size=2, gradient_accumulation_steps=8, learning_rate=2e-5,
    warmup_steps=2, logging_steps=2, lr_scheduler_type="cosine",
)
# `warmup_ratio: 0.04` of the run is a `warmup_steps` below 1 in Transformers 5.
MPT = dict(
    num_train_epochs=3, per_device_train_batch_size=4, gradient_accumulation_steps=4, learning_rate=2e-5,
    warmup_steps=0.04, logging_steps=1, lr_scheduler_type="linear", max_grad_norm=0.3, adam_beta2=0.999,
)
LORA = dict(r=64, lora_alpha=16, target_modules=["up_proj", "down_proj"], bias="none", task_type="CAUSAL_LM")


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    names = json.loads((STANDINS / name / "special_tokens_map.json").read_text())
    return PreTrainedTokenizerFast(tokenizer_file=str(STANDINS / name / "tokenizer.json"), **names)


def rows_of(tokenizer: PreTrainedTokenizerFast, prompts: dict[str, str]) -> list[dict]:
    """Prompt and answer tokenised as one text; a token that ends behind the border belongs to the answer."""
    rows = []
    for row in json.loads((STANDINS / "rows.json").read_text()):
        source = prompts["prompt_input" if row["input"] else "prompt_no_input"].format_map(row)
        encoded = tokenizer(source + row["output"], return_offsets_mapping=True)
        ids = encoded["input_ids"] + [tokenizer.eos_token_id]
        ends = [end for _, end in encoded["offset_mapping"]] + [len(source) + 1]
        rows.append(dict(input_ids=ids, labels=[i if end > len(source) else IGNORED for i, end in zip(ids, ends)]))
    return rows


def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)

    def padded(values: list[list[int]], by: int) -> torch.Tensor:
        return torch.tensor([v + [by] * (width - len(v)) for v in values])

    return dict(
        input_ids=padded([r["input_ids"] for r in rows], 0),
        attention_mask=padded([[1] * len(r["input_ids"]) for r in rows], 0),
        labels=padded([r["labels"] for r in rows], IGNORED),
    )


def train(model: torch.nn.Module, arguments: dict, rows: list[dict]) -> list[dict]:
    with tempfile.TemporaryDirectory() as output:
        trainer = InOrder(
            model=model, args=TrainingArguments(output_dir=output, **COMMON, **arguments), train_dataset=rows,
            data_collator=collate,
        )
        trainer.train()
    history = trainer.state.log_history
    for timing in ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos"):
        history[-1].pop(timing, None)
    return history


def make_adapter(base: torch.nn.Module, folder: Path) -> PeftModel:
    """A new adapter with an A of PEFT's spread, rounded to bf16 so that its file is small."""
    torch.manual_seed(153)
    model = get_peft_model(base, LoraConfig(lora_dropout=0.0, **LORA))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.copy_(p.bfloat16())
    model.peft_config["default"].base_model_name_or_path = "mpt"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = sorted(config["target_modules"])  # A set in PEFT: its order changes from run to run.
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    path = folder / "adapter_model.safetensors"
    save_file({k: t.bfloat16() for k, t in load_file(path).items()}, path, metadata={"format": "pt"})
    return model


def write(name: str, arguments: dict, rows: list[dict], facts: dict) -> None:
    versions = {m.__name__: m.__version__ for m in (torch, transformers, peft)}
    places = [{"ids": r["input_ids"], "answer": r["labels"].count(IGNORED)} for r in rows]
    expected = {"versions": versions, "arguments": arguments} | facts | {"rows": places}
    (STANDINS / f"expected_{name}.json").write_text(json.dumps(expected) + "\n")
    print(name, {k: v for k, v in facts.items() if k != "log_history"}, *facts["log_history"], sep="\n")


def make_bloom() -> None:
    rows = rows_of(tokenizer_of("bloom"), ALPACA_PROMPTS)
    model = load_base(STANDINS / "bloom")
    count = model.num_parameters()
    facts = {"trainable_params": count, "all_params": count, "log_history": train(model, BLOOM, rows)}
    write("bloom", BLOOM, rows, facts)


def make_mpt() -> None:
    rows = rows_of(tokenizer_of("mpt"), dict(prompt_input=RESPONSE, prompt_no_input=RESPONSE))
    base = load_base(STANDINS / "mpt")
    for name, module in base.named_modules():
        if name.split(".")[-1] in LINEARS:
            module.weight.data = torch.from_numpy(nf4.round_trip(module.weight.detach().numpy()))
    model = make_adapter(base, STANDINS / "mpt-adapter")
    trainable, every = model.get_nb_trainable_parameters()
    facts = {"trainable_params": trainable, "all_params": every, "log_history": train(model, MPT, rows)}
    write("mpt", MPT, rows, facts)


if __name__ == "__main__":
    make_bloom()
    make_mpt()
