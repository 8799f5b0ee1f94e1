"""Makes packages/models/fixtures/inception.json: pooled features of FID's Inception, and its two ways to resize.

The network is written out here in PyTorch from the published description (Szegedy et al. 2016, with the three changes
of the FID weights). Weights are a formula of the tensor's name that the test repeats, so that no 95 MB are stored.
"""

import argparse
import json
import math
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Convolution(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride=1, pad=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Named convolutions and a function of them."""

    def __init__(self, run, **convolutions):
        super().__init__()
        self.run = run
        for name, arguments in convolutions.items():
            self.add_module(name, Convolution(*arguments))

    def forward(self, x):
        return torch.cat(self.run(self, x), 1)


def average(x):
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def a(inputs, pooled):
    run = lambda b, x: [b.branch1x1(x), b.branch5x5_2(b.branch5x5_1(x)),
                        b.branch3x3dbl_3(b.branch3x3dbl_2(b.branch3x3dbl_1(x))), b.branch_pool(average(x))]
    return Block(run, branch1x1=(inputs, 64, 1), branch5x5_1=(inputs, 48, 1), branch5x5_2=(48, 64, 5, 1, 2),
                 branch3x3dbl_1=(inputs, 64, 1), branch3x3dbl_2=(64, 96, 3, 1, 1), branch3x3dbl_3=(96, 96, 3, 1, 1),
                 branch_pool=(inputs, pooled, 1))


def b(inputs):
    run = lambda b, x: [b.branch3x3(x), b.branch3x3dbl_3(b.branch3x3dbl_2(b.branch3x3dbl_1(x))), F.max_pool2d(x, 3, 2)]
    return Block(run, branch3x3=(inputs, 384, 3, 2), branch3x3dbl_1=(inputs, 64, 1),
                 branch3x3dbl_2=(64, 96, 3, 1, 1), branch3x3dbl_3=(96, 96, 3, 2))


def c(inputs, c7):
    across, down = dict(kernel=(1, 7), pad=(0, 3)), dict(kernel=(7, 1), pad=(3, 0))
    conv = lambda i, o, k: (i, o, k["kernel"], 1, k["pad"])

    def run(b, x):
        single = b.branch7x7_3(b.branch7x7_2(b.branch7x7_1(x)))
        double = x
        for name in ("1", "2", "3", "4", "5"):
            double = getattr(b, f"branch7x7dbl_{name}")(double)
        return [b.branch1x1(x), single, double, b.branch_pool(average(x))]

    return Block(run, branch1x1=(inputs, 192, 1), branch7x7_1=(inputs, c7, 1), branch7x7_2=conv(c7, c7, across),
                 branch7x7_3=conv(c7, 192, down), branch7x7dbl_1=(inputs, c7, 1), branch7x7dbl_2=conv(c7, c7, down),
                 branch7x7dbl_3=conv(c7, c7, across), branch7x7dbl_4=conv(c7, c7, down),
                 branch7x7dbl_5=conv(c7, 192, across), branch_pool=(inputs, 192, 1))


def d(inputs):
    def run(b, x):
        y = b.branch7x7x3_4(b.branch7x7x3_3(b.branch7x7x3_2(b.branch7x7x3_1(x))))
        return [b.branch3x3_2(b.branch3x3_1(x)), y, F.max_pool2d(x, 3, 2)]

    return Block(run, branch3x3_1=(inputs, 192, 1), branch3x3_2=(192, 320, 3, 2), branch7x7x3_1=(inputs, 192, 1),
                 branch7x7x3_2=(192, 192, (1, 7), 1, (0, 3)), branch7x7x3_3=(192, 192, (7, 1), 1, (3, 0)),
                 branch7x7x3_4=(192, 192, 3, 2))


def e(inputs, pool):
    def run(b, x):
        y = b.branch3x3_1(x)
        z = b.branch3x3dbl_2(b.branch3x3dbl_1(x))
        return [b.branch1x1(x), b.branch3x3_2a(y), b.branch3x3_2b(y), b.branch3x3dbl_3a(z), b.branch3x3dbl_3b(z),
                b.branch_pool(pool(x))]

    across, down = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    return Block(run, branch1x1=(inputs, 320, 1), branch3x3_1=(inputs, 384, 1), branch3x3_2a=(384, 384, *across),
                 branch3x3_2b=(384, 384, *down), branch3x3dbl_1=(inputs, 448, 1),
                 branch3x3dbl_2=(448, 384, 3, 1, 1), branch3x3dbl_3a=(384, 384, *across),
                 branch3x3dbl_3b=(384, 384, *down), branch_pool=(inputs, 192, 1))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3)
        blocks = dict(Mixed_5b=a(192, 32), Mixed_5c=a(256, 64), Mixed_5d=a(288, 64), Mixed_6a=b(288),
                      Mixed_6b=c(768, 128), Mixed_6c=c(768, 160), Mixed_6d=c(768, 160), Mixed_6e=c(768, 192),
                      Mixed_7a=d(768), Mixed_7b=e(1280, average), Mixed_7c=e(2048, lambda x: F.max_pool2d(x, 3, 1, 1)))
        for name, block in blocks.items():
            self.add_module(name, block)
        self.blocks = list(blocks)

    def forward(self, x):
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = F.max_pool2d(x, 3, 2)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return x.mean((2, 3))


def uniform(name, count):
    """count numbers in [0, 1): a hash of the name and the index; the test computes the same."""
    salt = 2166136261
    for byte in name.encode():
        salt = ((salt ^ byte) * 16777619) & 0xFFFFFFFF
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(salt)
    for shift, factor in ((16, 2246822507), (13, 3266489909)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return ((x ^ (x >> np.uint32(16))).astype(np.float64) / 2**32)


def values(name, shape):
    u = uniform(name, math.prod(shape))
    if name.endswith("conv.weight"):
        v = (2 * u - 1) * math.sqrt(6 / math.prod(shape[1:]))
    elif name.endswith(("bn.weight", "running_var")):
        v = 0.5 + u
    else:
        v = 0.2 * u - 0.1
    return torch.from_numpy(v.reshape(shape).astype(np.float32))


def picture(width, height):
    y, x, ch = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * x * 3 + y * y * 5 + x * y * 7 + ch * 61) % 256).astype(np.uint8)


def clean(image):
    channels = [np.asarray(Image.fromarray(image[..., i].astype(np.float32), "F").resize((299, 299), Image.BICUBIC))
                for i in range(3)]
    return (np.stack(channels, -1).clip(0, 255) - 128) / 128


def bilinear(image):
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    x = F.interpolate(x, (299, 299), mode="bilinear", align_corners=False)
    return (2 * x - 1)[0].permute(1, 2, 0).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default=ROOT / "packages/models/fixtures/inception.json")
    options = parser.parse_args()
    torch.set_num_threads(2)
    model = Inception().eval()
    shapes = {name: list(value.shape) for name, value in model.state_dict().items() if "num_batches" not in name}
    model.load_state_dict({name: values(name, shape) for name, shape in shapes.items()}, strict=False)
    cases = []
    for width, height in ((64, 64), (421, 310)):
        image = picture(width, height)
        case = {"width": width, "height": height}
        for kind, resize in (("clean", clean), ("pytorch-fid", bilinear)):
            pixels = resize(image)
            with torch.no_grad():
                features = model(torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None])[0].numpy()
            case[kind] = {
                # Every 997th pixel value, and every 8th feature with the norm of all.
                "pixels": [round(float(v), 6) for v in pixels.ravel()[::997]],
                "features": [float(f"{v:.7g}") for v in features[::8]],
                "norm": float(np.linalg.norm(features)),
            }
        cases.append(case)
    text = json.dumps({"tensors": shapes, "cases": cases}, separators=(",", ":"))
    pathlib.Path(options.out).write_text(text + "\n")
    print(options.out, len(text), "bytes; feature norms", [c["clean"]["norm"] for c in cases])


if __name__ == "__main__":
    main()
