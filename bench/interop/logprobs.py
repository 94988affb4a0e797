"""What Transformers, and PEFT where an adapter is named, make of a folder that lora-train wrote. Never writes a file.

usage: python logprobs.py MODEL REQUEST [--adapter ADAPTER]

REQUEST is a JSON file: {"rows": [[id…]…], "tokens": [[[id…]…]…]}. Prints one JSON object with `logprobs` in the shape of
`tokens`: element [r][t][k] is the log-probability of token tokens[r][t][k] after rows[r][: t + 1]; f32 on a CPU, the
log-softmax in f64. The base gets the rows of an embedding that comes with the adapter. Fails where a tensor of the files is missing, or has no place in the model or in the adapter.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "goldens"))

import torch  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from check_adapter import check_keys  # noqa: E402
from reference import load_base  # noqa: E402
from tokens import load as load_adapter  # noqa: E402


def check_model(folder: Path) -> None:
    """Every weight is in the files, and every tensor of the files is one of the model's."""
    _, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    wrong = {kind: sorted(info[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[kind]}
    if wrong:
        raise SystemExit(f"{folder}: {wrong}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("request", type=Path)
    parser.add_argument("--adapter", type=Path)
    args = parser.parse_args()
    check_model(args.model)
    if args.adapter is None:
        model = load_base(args.model)
    else:
        model = load_adapter(args.model, args.adapter, 0)
        check_keys(model, args.adapter)
    model = model.eval()
    request = json.loads(args.request.read_text())
    answers = []
    for row, tokens in zip(request["rows"], request["tokens"]):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row])).logits[0]
        logprobs = torch.log_softmax(logits.double(), dim=-1)
        answers.append(logprobs.gather(1, torch.tensor(tokens)).tolist())
    print(json.dumps({"logprobs": answers}))


if __name__ == "__main__":
    main()
