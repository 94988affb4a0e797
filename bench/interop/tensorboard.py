"""Reads a folder of event files with TensorBoard's own reader and prints what it found, as one JSON object.

usage: tensorboard.py LOGDIR [TRAINER_STATE]

Scalars come as {tag: [[step, value], …]}, texts as {tag: text}. With TRAINER_STATE, a `trainer_state.json`, each
number of its log is looked for under the tag that Transformers gives it; one that is missing or differs by more than
the rounding to f32 ends the script with status 1. Never writes a file.
"""

import json
import sys

# This folder stands first in the path, and this file has the library's name.
sys.path.pop(0)

from tensorboard.backend.event_processing import event_accumulator, tag_types  # noqa: E402


def tag_of(key):
    """The name under which Transformers reports a key of the log."""
    return "eval/" + key[len("eval_") :] if key.startswith("eval_") else "train/" + key


def read(folder):
    """Scalars and texts of all event files in `folder`."""
    everything = {tag_types.SCALARS: 0, tag_types.TENSORS: 0}
    accumulator = event_accumulator.EventAccumulator(folder, size_guidance=everything).Reload()
    tags = accumulator.Tags()
    scalars = {tag: [[e.step, e.value] for e in accumulator.Scalars(tag)] for tag in tags["scalars"]}
    texts = {}
    for tag in tags["tensors"]:
        plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
        proto = accumulator.Tensors(tag)[-1].tensor_proto
        if plugin == "text":
            texts[tag] = proto.string_val[0].decode()
        else:
            scalars[tag] = [[e.step, e.tensor_proto.float_val[0]] for e in accumulator.Tensors(tag)]
    return scalars, texts


def differences(scalars, log_history):
    """What the log holds and the event files don't, one sentence each."""
    found = []
    for line in log_history:
        for key, value in line.items():
            if key in ("step", "total_flos"):
                continue
            here = [v for step, v in scalars.get(tag_of(key), []) if step == line["step"]]
            if not any(abs(v - value) <= 1e-6 * abs(value) for v in here):
                found.append(f"{tag_of(key)} at step {line['step']}: {here}, not {value}")
    return found


def main():
    scalars, texts = read(sys.argv[1])
    wrong = []
    if len(sys.argv) > 2:
        with open(sys.argv[2]) as file:
            wrong = differences(scalars, json.load(file)["log_history"])
    print(json.dumps({"scalars": scalars, "texts": texts, "wrong": wrong}))
    sys.exit(1 if wrong or not scalars else 0)


main()
