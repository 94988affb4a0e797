"""Loads a tokenizer that lora-train saved with Transformers and compares it with the reference ids.

    python bench/goldens/check_tokenizer.py FOLDER EXPECTED_JSON

EXPECTED_JSON is the goldens' smollm2/expected.json. Prints one line per kind of check; exit 1 on the
first difference. Checked with transformers 5.24.0.
"""

import json
import sys
from pathlib import Path

import transformers
from transformers import AutoTokenizer


def check(folder: Path, expected: dict) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for case in expected["tokens"]:
        ids = tokenizer(case["text"])["input_ids"]
        assert ids == case["ids"], f"{case['text']!r}: {ids}, expected {case['ids']}"
        assert tokenizer.decode(ids) == case["text"], case["text"]
    print(f"{len(expected['tokens'])} texts: ids equal, decoding gives the text")
    assert tokenizer.chat_template == expected["chat_template"]
    for case in expected["chats"]:
        text = tokenizer.apply_chat_template(case["messages"], tokenize=False)
        assert text == case["text"], text
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == case["ids"], ids
    print(f"{len(expected['chats'])} chats: text and ids equal")
    special = {name: tokenizer.convert_tokens_to_ids(text) for name, text in tokenizer.special_tokens_map.items()}
    print(f"{type(tokenizer).__name__} of transformers {transformers.__version__}, {len(tokenizer)} tokens, {special}")


if __name__ == "__main__":
    folder, expected = sys.argv[1:]
    check(Path(folder), json.loads(Path(expected).read_text()))
