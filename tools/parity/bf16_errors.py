"""What bf16 costs on the fixture models: ||bf16 - f32|| / ||f32|| of this project, of PyTorch's own bf16, and of PyTorch
in float32 with nothing but the operands of its matrix products and convolutions rounded to bf16, which is the least that
bf16 instructions can do. f32 is always PyTorch's.

Usage: python tools/parity/bf16_errors.py
Prints a table, and exits with 1 when an error of ours is above PyTorch's.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import make_model_fixtures
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1.0
aten = torch.ops.aten
# Positions of the two factors among the arguments.
FACTORS = {
    aten.mm.default: (0, 1),
    aten.bmm.default: (0, 1),
    aten.addmm.default: (1, 2),
    aten.baddbmm.default: (1, 2),
    aten.convolution.default: (0, 1),
}


class RoundedFactors(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in FACTORS:
            self.products += 1
            args = list(args)
            for i in FACTORS[function]:
                args[i] = args[i].bfloat16().float()
        return function(*args, **(kwargs or {}))


ROUNDED, PRODUCTS = {}, {}
note_pytorch = make_model_fixtures.note_bf16


def note(name, key, model, run, expected):
    note_pytorch(name, key, model, run, expected)
    # The plain attention, so that its products are seen too.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), RoundedFactors() as mode:
        actual = run(model, torch.float32)
    ROUNDED[name, key] = ((actual - expected).norm() / expected.norm()).item()
    PRODUCTS[name, key] = mode.products


def main():
    make_model_fixtures.note_bf16 = note
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for make in (make_model_fixtures.unets, make_model_fixtures.autoencoder, make_model_fixtures.clip):
            make(Path(folder))
    command = ["node", "--import", "tsx", "--conditions=equipoise-source", "tools/parity/bf16-errors.ts"]
    ours = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    failed = False
    print("| model | output | products | factors rounded | PyTorch bf16 | ours | ours / PyTorch |\n|---|---|---|---|---|---|---|")
    for (name, key), rounded in ROUNDED.items():
        theirs, here = make_model_fixtures.BF16_ERRORS[name][key], ours[name][key]
        failed |= not here <= LIMIT * theirs
        figures = " | ".join(f"{error:.1e}" for error in (rounded, theirs, here))
        print(f"| {name} | {key[4:]} | {PRODUCTS[name, key]} | {figures} | {here / theirs:.2f} |")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
