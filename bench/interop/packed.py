"""A folder that `lora-train quantize` wrote in 4 bits, loaded by Transformers and bitsandbytes. Writes nothing.

usage: python packed.py MODEL FOLDER

FOLDER holds the linears of MODEL in 4 bits. Prints one JSON object: how many weights were compared, how many have codes,
maxima and table equal bit for bit to what bitsandbytes makes of MODEL's weights (plain maxima: with double
quantisation bitsandbytes' CPU build rounds some of them by a table of its own), and the largest difference of the
stored maxima there.
"""

import json
import sys
from pathlib import Path

import bitsandbytes.functional as bnb
import torch
from packed_model import loaded, weights_of

STATE = ".quant_state.bitsandbytes__"


def main() -> None:
    model, folder = map(Path, sys.argv[1:])
    weights, packed = weights_of(model), weights_of(folder)
    states = [name.split(STATE) for name in packed if STATE in name]
    names, quant_type = [name for name, _ in states], states[0][1]
    nested = f"{names[0]}.nested_absmax" in packed
    whole = loaded(folder)
    equal, worst = 0, 0.0
    for name in names:
        weight = whole.get_submodule(name.removesuffix(".weight")).weight
        theirs, state = bnb.quantize_4bit(weights[name].float(), quant_type=quant_type, blocksize=64)
        ours = weight.quant_state
        absmax = ours.absmax
        if nested:
            absmax = bnb.dequantize_blockwise(ours.absmax, ours.state2) + ours.offset
        worst = max(worst, ((absmax - state.absmax).abs().max() / state.absmax.abs().max()).item())
        same = torch.equal(weight.data.reshape(-1), theirs.reshape(-1)) and torch.equal(ours.code, state.code)
        equal += same and (nested or torch.equal(absmax, state.absmax)) and list(ours.shape) == list(weights[name].shape)
    print(json.dumps({"compared": len(names), "equal": equal, "absmax": worst}))


if __name__ == "__main__":
    main()
