"""Writes test/goldens/sentencepiece: what Transformers makes of folders that have only a `tokenizer.model`.

Run from the repository's root with a Python that has sentencepiece, protobuf, transformers and tokenizers (made with
SentencePiece 0.2.3, Transformers 5.24). Small models are trained on words below, BPE with Llama's and Gemma's trainer
options and Unigram; `expected.json` has for each case the folder's other files, and ids and texts by AutoTokenizer.
A case with `said` is made with these keys added to its config: the defaults that a folder without them had before
Transformers 5. A case that is `written` is made by TokenizersBackend, which follows the model's specs, for its class
ignores them; SentencePiece itself gives the same ids, or this fails. Never writes outside the folder.
"""

import io
import json
import random
import shutil
import tempfile
from pathlib import Path

import sentencepiece
import transformers
from sentencepiece import sentencepiece_model_pb2
from transformers import AutoTokenizer, TokenizersBackend

OUT = Path("test/goldens/sentencepiece")
WORDS = """die der und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat
dass sie nach wird bei einer um am sind noch wie einem über einen so zum war haben nur oder aber vor zur bis mehr durch
man sein wurde Straße Grüße schön größer Übung naïve the of and to a in is it you that he was for on are with his they
at be this have from or one had by word but not what all were we when your can said there def return self""".split()
TEXTS = [
    "Grüße aus der Straße, größer als 1234.",
    "die der und",
    " die",
    "  die  der   und ",
    "▁die▁▁der",
    "die\nder\t\tdas\r\n\r\n",
    "\n\nund",
    "naïve 🙂👩‍👩‍👧 日本語 한국어 \u0000\u0007\u200b\u00a0\u3000.",
    "Ａ①ﬁ e\u0301 ﬁne",
    "<s> die</s> der",
    "die</s>der<s>das",
    "</s>",
    "<unk> und <pad>die <pad> der",
    "[INST] die [/INST]das<|x|>die<c1>der <mask>",
    "a<|tool|> der<|tool|>",
    "def f(self):\n    return  self\n",
    "<0x41>A<0x0A>",
    "",
    " ",
    "▁",
]
LLAMA = dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
             split_digits=True, allow_whitespace_only_pieces=True)
# SentencePiece's own rules have 0.2 MB; these few are of the same form: the code points of a text, and of another.
RULES = [("Ａ", "A"), ("①", "1"), ("ﬁ", "fi"), ("e\u0301", "é"), ("\t", " "), ("\n", " "), ("\r", " "), ("\u3000", " "),
         ("\u00a0", " "), ("\u0007", ""), ("\u200b", " ")]
MODELS = {
    "llama": dict(LLAMA, vocab_size=360),
    "symbols": dict(LLAMA, vocab_size=340, pad_id=3, control_symbols=["<c1>"],
                    user_defined_symbols=["▁▁", "<|x|>", "[INST]", "\r\n"]),
    "gemma": dict(LLAMA, vocab_size=330, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
                  pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", user_defined_symbols=["<mask>", "▁▁"]),
    "unigram": dict(model_type="unigram", byte_fallback=True, vocab_size=340, hard_vocab_limit=False,
                    user_defined_symbols=["[INST]"]),
    "words": dict(model_type="bpe", vocab_size=90, pad_id=3, normalization_rule_name="identity"),
}


def added(content: str, normalized: bool, special: bool | None = None) -> dict:
    state = {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}
    return state | ({"__type": "AddedToken"} if special is None else {"special": special})


def decoder(*tokens: tuple[int, str, bool]) -> dict:
    return {str(id): added(content, not special, special) for id, content, special in tokens}


NAMED = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
OLD = {name: added(token, True) for name, token in NAMED.items()}
BOS = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
SAID = {"legacy": True, "add_bos_token": True}
FIRST = [(0, "<unk>", True), (1, "<s>", True), (2, "</s>", True)]
TEMPLATE = "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"

# name: (model, model_type, tokenizer_config.json, other files, how it is made)
CASES = {
    "llama-legacy": ("llama", "llama", {**BOS, **OLD, "legacy": True}, {}, {}),
    "llama": ("llama", "llama", {**BOS, **NAMED, "legacy": False, "pad_token": "<pad>", "chat_template": TEMPLATE,
                                 "added_tokens_decoder": decoder(*FIRST, (360, "<pad>", True), (361, "<|tool|>", False))}, {}, {}),
    "llama-eos": ("llama", "llama", {**BOS, "legacy": False, "add_bos_token": False, "add_eos_token": True}, {
        "special_tokens_map.json": {"pad_token": "<pad>", "eos_token": added("</s>", True)},
        "added_tokens.json": {"<|tool|>": 361, "<pad>": 360}}, {}),
    "llama-no-space": ("llama", "llama", {**BOS, "legacy": False, "add_prefix_space": False}, {}, {}),
    "llama-says-nothing": ("llama", "llama", {"tokenizer_class": "LlamaTokenizer"}, {}, {"said": SAID}),
    "mistral": ("llama", "mistral", {**BOS, **OLD, "legacy": True, "pad_token": None}, {}, {"written": "llama"}),
    "mistral-first": ("llama", "mistral", {**BOS, **NAMED, "legacy": False, "add_eos_token": True,
                                           "added_tokens_decoder": decoder(*FIRST, (5, "<|tool|>", False))}, {}, {}),
    "symbols-legacy": ("symbols", "llama", {**BOS, "legacy": True}, {}, {}),
    "symbols": ("symbols", "llama", {**BOS, "legacy": False}, {}, {}),
    "symbols-mistral": ("symbols", "mistral", {**BOS, "legacy": True}, {}, {"written": "symbols"}),
    "gemma": ("gemma", "gemma", {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True}, {}, {}),
    "unigram": ("unigram", "llama", {**BOS, "legacy": True}, {}, {"written": "unigram"}),
    "unigram-first": ("unigram", "mistral", {**BOS, "legacy": False}, {}, {}),
    "words": ("words", "llama", {**BOS, "legacy": True}, {}, {"written": "words"}),
}


def train(name: str, options: dict) -> None:
    """A model without the paths of the machine that made it: sentences and model pass through memory."""
    rng = random.Random(7)
    ends = [".", "!", ", 12", "  und", "\n", ""]
    sentences = [" ".join(rng.choices(WORDS, k=rng.randint(3, 12))) + rng.choice(ends) for _ in range(2000)]
    model = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        if options["model_type"] == "unigram":
            codes = lambda text: " ".join(f"{ord(c):X}" for c in text)
            rules = Path(folder) / "rules.tsv"
            rules.write_text("".join(f"{codes(text)}\t{codes(to)}\n" for text, to in RULES))
            options = {**options, "normalization_rule_tsv": str(rules)}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_writer=model, num_threads=1, minloglevel=2, **options)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    proto.normalizer_spec.normalization_rule_tsv = ""
    (OUT / f"{name}.model").write_bytes(proto.SerializeToString(deterministic=True))


def check_written(tokenizer: TokenizersBackend, model: str) -> None:
    """Ids as SentencePiece's own, for what has no special token in it (which it would read as text)."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(OUT / f"{model}.model"))
    # A byte's piece that is spelled out is text for SentencePiece; so is ▁, which it removes with spaces.
    special = set(tokenizer.all_special_tokens) | {"<c1>", "<0x"} | ({"▁"} if model in ("unigram", "words") else set())
    for text in TEXTS:
        if any(token in text for token in special):
            continue
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids == processor.encode(text), (model, text, ids, processor.encode(text))


def case(name: str) -> dict:
    model, model_type, config, files, how = CASES[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copy(OUT / f"{model}.model", folder / "tokenizer.model")
        files = {"config.json": {"model_type": model_type}, "tokenizer_config.json": config, **files}
        for file, content in files.items():
            said = how.get("said", {}) if file == "tokenizer_config.json" else {}
            (folder / file).write_text(json.dumps({**content, **said}))
        by = TokenizersBackend if how.get("written") else AutoTokenizer
        tokenizer = by.from_pretrained(folder)
    if how.get("written"):
        check_written(tokenizer, model)
    encoded = [[tokenizer(text, add_special_tokens=add)["input_ids"] for text in TEXTS] for add in (True, False)]
    around = tokenizer("", add_special_tokens=True)["input_ids"]
    before, after = [[id for id in around if id == named] for named in (tokenizer.bos_token_id, tokenizer.eos_token_id)]
    assert all(whole == before + text + after for whole, text in zip(*encoded))
    roles = ["bos_token", "eos_token", "unk_token", "pad_token"]
    made = {
        "model": model, "files": files, "length": len(tokenizer), "around": [before, after],
        "ids": encoded[1],
        "roles": {role: [getattr(tokenizer, role), getattr(tokenizer, f"{role}_id")] for role in roles
                  if getattr(tokenizer, role) is not None},
        "decoded": [tokenizer.decode(ids) for ids in encoded[0]],
        "skipped": [tokenizer.decode(ids, skip_special_tokens=True) for ids in encoded[0]],
    }
    return made


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, options in MODELS.items():
        train(name, options)
    versions = {"transformers": transformers.__version__, "sentencepiece": sentencepiece.__version__}
    made = {"versions": versions, "texts": TEXTS, "cases": {name: case(name) for name in CASES}}
    (OUT / "expected.json").write_text(json.dumps(made, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
