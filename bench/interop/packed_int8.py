"""A cache entry of lora-train in int8, loaded by Transformers and bitsandbytes as part of a model. Writes only below OUT.

usage: python packed_int8.py MODEL ENTRY OUT

MODEL is the model whose linears the entry holds in int8. OUT becomes a model folder: the entry's tensors, the others of
MODEL, its config with a quantization_config. Prints one JSON object: how many weights were compared, how many have codes
and maxima equal bit for bit to what bitsandbytes makes of MODEL's weights, both in the file and in the loaded model.
"""

import json
import sys
from pathlib import Path

import torch
from bitsandbytes.nn import Int8Params, Linear8bitLt
from packed_model import loaded_with, weights_of
from safetensors.torch import load_file


def main() -> None:
    model, entry, out = map(Path, sys.argv[1:])
    weights, packed = weights_of(model), load_file(entry)
    modules = [name.removesuffix(".SCB") for name in packed if name.endswith(".SCB")]
    names = {f"{module}.weight" for module in modules}
    loaded = loaded_with(model, packed, names, {"load_in_8bit": True}, out)
    equal = 0
    for module in modules:
        whole = weights[f"{module}.weight"]
        layer = loaded.get_submodule(module)
        theirs = Int8Params(whole.float(), requires_grad=False).to("cpu")
        codes, absmax = packed[f"{module}.weight"], packed[f"{module}.SCB"]
        same = torch.equal(codes, theirs.data) and torch.equal(absmax, theirs.SCB)
        same = same and isinstance(layer, Linear8bitLt) and torch.equal(layer.weight.data, codes)
        equal += same and torch.equal(layer.weight.SCB, absmax) and list(codes.shape) == list(whole.shape)
    print(json.dumps({"compared": len(modules), "equal": equal}))


if __name__ == "__main__":
    main()
