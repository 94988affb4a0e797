"""What AutoTokenizer makes of a tokenizer that lora-train saved. Never writes a file.

usage: python tokenizer.py FOLDER TEXTS

TEXTS is a JSON file with a list of texts. Prints one JSON object: `ids` of each text, `special` (name -> [token, id]).
"""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer


def main() -> None:
    folder, texts = map(Path, sys.argv[1:])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    special = {name: [text, tokenizer.convert_tokens_to_ids(text)] for name, text in tokenizer.special_tokens_map.items()}
    ids = [tokenizer(text)["input_ids"] for text in json.loads(texts.read_text())]
    print(json.dumps({"ids": ids, "special": special}))


if __name__ == "__main__":
    main()
