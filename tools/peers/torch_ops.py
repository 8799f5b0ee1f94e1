"""PyTorch's side of the benchmark cases that are plain layers and ops; see serve.py for the protocol."""

import torch
import torch.nn.functional as F
from serve import serve


def pointwise(function):
    """A function of one [rows, columns] tensor."""

    def prepare(c, dtype):
        x = torch.randn(c["rows"], c["columns"]).to(dtype)

        def run():
            with torch.no_grad():
                return function(x)

        return run

    return prepare


def add(c, dtype):
    a, b = (torch.randn(c["rows"], c["columns"]).to(dtype) for _ in range(2))
    return lambda: a + b


def frozen_linear(c, dtype):
    """A layer without trained parameters, forward and backward to its input."""
    x = torch.randn(c["m"], c["k"]).to(dtype).requires_grad_(True)
    w, dy = torch.randn(c["n"], c["k"]).to(dtype), torch.randn(c["m"], c["n"]).to(dtype)

    def run():
        x.grad = None
        F.linear(x, w).backward(dy)

    return run


def mi_squared_norm(c, dtype):
    cond, uncond = (torch.randn(c["batch"], 4, c["size"], c["size"]).to(dtype) for _ in range(2))
    weights = torch.rand(c["batch"])
    return lambda: weights * (cond - uncond).pow(2).sum(dim=(1, 2, 3))


def random(function):
    return lambda c, dtype: lambda: function(c["batch"], 4, c["size"], c["size"])


KINDS = {
    "silu": pointwise(F.silu),
    "quickGelu": pointwise(lambda x: x * torch.sigmoid(1.702 * x)),
    "softmax": pointwise(lambda x: torch.softmax(x, dim=-1)),
    "toBf16": pointwise(lambda x: x.to(torch.bfloat16)),
    "add": add,
    "frozenLinear": frozen_linear,
    "miSquaredNorm": mi_squared_norm,
    "randn": random(torch.randn),
    "rand": random(torch.rand),
}

if __name__ == "__main__":
    serve(KINDS)
