"""A folder that `lora-train quantize` wrote in int8, loaded by Transformers and bitsandbytes. Writes nothing.

usage: python packed_int8.py MODEL FOLDER

FOLDER holds the linears of MODEL in int8. Prints one JSON object: how many weights were compared, how many have codes and
maxima equal bit for bit to what bitsandbytes makes of MODEL's weights, both in the file and in the loaded model.
"""

import json
import sys
from pathlib import Path

import torch
from bitsandbytes.nn import Int8Params, Linear8bitLt
from packed_model import loaded, weights_of


def main() -> None:
    model, folder = map(Path, sys.argv[1:])
    weights, packed = weights_of(model), weights_of(folder)
    modules = [name.removesuffix(".SCB") for name in packed if name.endswith(".SCB")]
    whole, equal = loaded(folder), 0
    for module in modules:
        weight = weights[f"{module}.weight"]
        layer = whole.get_submodule(module)
        theirs = Int8Params(weight.float(), requires_grad=False).to("cpu")
        codes, absmax = packed[f"{module}.weight"], packed[f"{module}.SCB"]
        same = torch.equal(codes, theirs.data) and torch.equal(absmax, theirs.SCB)
        same = same and isinstance(layer, Linear8bitLt) and torch.equal(layer.weight.data, codes)
        equal += same and torch.equal(layer.weight.SCB, absmax) and list(codes.shape) == list(weight.shape)
    print(json.dumps({"compared": len(modules), "equal": equal}))


if __name__ == "__main__":
    main()
