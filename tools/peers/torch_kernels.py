"""PyTorch's side of the benchmark cases that are matrix products and convolutions; see serve.py for the protocol."""

import torch
import torch.nn.functional as F
from serve import serve


def conv_tensors(c, dtype):
    last = torch.channels_last
    x = torch.randn(c["batch"], c["channels"], c["height"], c["width"]).to(dtype).to(memory_format=last)
    w = torch.randn(c["outputs"], c["channels"], c["taps"], c["taps"]).to(dtype).to(memory_format=last)
    return x, w


def linear(c, dtype):
    x, w, b = (torch.randn(*s).to(dtype) for s in ([c["m"], c["k"]], [c["n"], c["k"]], [c["n"]]))
    return lambda: F.linear(x, w, b)


def linear_grad_weight(c, dtype):
    dy, x = (torch.randn(*s).to(dtype) for s in ([c["k"], c["m"]], [c["k"], c["n"]]))
    return lambda: dy.t() @ x


def matmul(c, dtype):
    a, b = (torch.randn(*s).to(dtype) for s in ([c["batch"], c["m"], c["k"]], [c["batch"], c["k"], c["n"]]))
    return lambda: torch.bmm(a, b)


def conv(c, dtype):
    x, w = conv_tensors(c, dtype)
    b = torch.randn(c["outputs"]).to(dtype)
    return lambda: F.conv2d(x, w, b, c["stride"], c["taps"] // 2)


def conv_gradient(mask):
    """One gradient of a convolution; the mask names it: of the image, of the filter, of the bias."""

    def prepare(c, dtype):
        x, w = conv_tensors(c, dtype)
        stride, pad = c["stride"], c["taps"] // 2
        dy = torch.randn_like(F.conv2d(x, w, None, stride, pad))
        return lambda: torch.ops.aten.convolution_backward(
            dy, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask)

    return prepare


KINDS = {
    "linear": linear,
    "linearGradWeight": linear_grad_weight,
    "matmul": matmul,
    "conv": conv,
    "convGradInput": conv_gradient([True, False, False]),
    "convGradFilter": conv_gradient([False, True, False]),
}

if __name__ == "__main__":
    serve(KINDS)
