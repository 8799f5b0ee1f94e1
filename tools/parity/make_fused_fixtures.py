"""Fixtures of the fused kernels: PEFT's DoRA, torch.optim.AdamW, and ITI-GEN's loss through autograd.

Writes packages/backend/fixtures/fused/*.json. Needs torch and peft.

    python tools/parity/make_fused_fixtures.py
"""

import itertools
import json
import pathlib

import torch
from peft import LoraConfig, get_peft_model

OUT = pathlib.Path(__file__).resolve().parents[2] / "packages/backend/fixtures/fused"


def numbers(tensor):
    """Flat values that read back as the same float32."""
    return [float(f"{v:.9g}") for v in tensor.detach().flatten().to(torch.float32).tolist()]


def write(name, value):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(value, separators=(",", ":")) + "\n")


def dora_case(rows, inputs, outputs, rank, alpha, dora, bias):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(inputs, outputs, bias=bias)

        def forward(self, x):
            return self.layer(x)

    torch.manual_seed(rows + inputs + outputs)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["layer"], use_dora=dora)
    model = get_peft_model(Model(), config)
    layer = model.base_model.model.layer
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(b, std=0.2)
    magnitude = layer.lora_magnitude_vector["default"].weight if dora else None
    if dora:
        with torch.no_grad():
            magnitude.mul_(1 + 0.1 * torch.randn_like(magnitude))
    x = torch.randn(rows, inputs, requires_grad=True)
    upstream = torch.randn(rows, outputs)
    y = model(x)
    y.backward(upstream)
    case = {
        "rows": rows,
        "inputs": inputs,
        "outputs": outputs,
        "rank": rank,
        "scaling": alpha / rank,
        "x": numbers(x),
        "weight": numbers(layer.base_layer.weight),
        "bias": numbers(layer.base_layer.bias) if bias else None,
        "loraA": numbers(a),
        "loraB": numbers(b),
        "magnitude": numbers(magnitude) if dora else None,
        "upstream": numbers(upstream),
        "y": numbers(y),
        "gradX": numbers(x.grad),
        "gradA": numbers(a.grad),
        "gradB": numbers(b.grad),
        "gradMagnitude": numbers(magnitude.grad) if dora else None,
    }
    return case


def adamw_case(max_norm, weight_decay, steps):
    torch.manual_seed(3)
    shapes = [(5, 3), (7,), ()]
    parameters = [torch.randn(shape, requires_grad=True) for shape in shapes]
    options = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": weight_decay}
    optimizer = torch.optim.AdamW(parameters, **options)
    case = {
        "learningRate": 0.02,
        "beta1": 0.8,
        "beta2": 0.95,
        "epsilon": 1e-6,
        "weightDecay": weight_decay,
        "maxNorm": max_norm,
        "shapes": shapes,
        "start": [numbers(p) for p in parameters],
        "steps": [],
    }
    for _ in range(steps):
        gradients = [torch.randn(shape) for shape in shapes]
        for p, g in zip(parameters, gradients):
            p.grad = g.clone()
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm if max_norm else float("inf"))
        optimizer.step()
        case["steps"].append(
            {
                "gradients": [numbers(g) for g in gradients],
                "norm": float(norm),
                "parameters": [numbers(p) for p in parameters],
            }
        )
    return case


def iti_gen_loss(text, original, images, labels, categories, attribute, consistency):
    """The loss of one attribute in plain autograd, in float64: pairs and contexts by enumeration."""
    unit = text / text.norm(dim=1, keepdim=True)
    plain = original / original.norm()
    k = categories[attribute]
    combinations = list(itertools.product(*(range(n) for n in categories)))
    contexts = {}
    for index, combination in enumerate(combinations):
        key = combination[:attribute] + combination[attribute + 1 :]
        contexts.setdefault(key, {})[combination[attribute]] = index
    means = [images[labels == c].mean(dim=0) for c in range(k)]
    alignment = text.new_zeros(())
    hinge = text.new_zeros(())
    for first, second in itertools.combinations(range(k), 2):
        image = means[first] - means[second]
        image = image / image.norm()
        for rows in contexts.values():
            u, v = unit[rows[first]], unit[rows[second]]
            delta = (u - v) / (u - v).norm()
            alignment = alignment + (1 - image @ delta) / len(contexts)
            hinge = hinge + torch.relu(consistency - (plain @ u + plain @ v) / 2) / len(contexts)
    alignment, hinge = alignment / (k - 1), hinge / (k - 1)
    if torch.isnan(alignment):
        alignment = text.new_zeros(())
        for index, combination in enumerate(combinations):
            own = images[labels == combination[attribute]]
            if len(own) > 0:
                alignment = alignment + (1 - (own @ unit[index]).mean()) / len(contexts)
    return alignment, hinge


def direction_case(categories, attribute, consistency, note, equal=False, absent=None):
    torch.manual_seed(17 + attribute)
    depth, k = 12, categories[attribute]
    count = int(torch.tensor(categories).prod())
    text = torch.randn(count, depth)
    if equal:
        text = text[:1].repeat(count, 1)
    original = torch.randn(depth)
    labels = torch.tensor([c for c in range(k) if c != absent for _ in range(3 + c)])
    images = torch.randn(len(labels), depth)
    images = images / images.norm(dim=1, keepdim=True)
    wide = text.double().requires_grad_(True)
    parts = iti_gen_loss(wide, original.double(), images.double(), labels, categories, attribute, consistency)
    loss = parts[0] + parts[1]
    loss.backward()
    means = [images[labels == c].mean(dim=0) if c != absent else torch.zeros(depth) for c in range(k)]
    return {
        "note": note,
        "categories": categories,
        "attribute": attribute,
        "consistency": consistency,
        "depth": depth,
        "imageCounts": [int((labels == c).sum()) for c in range(k)],
        "text": numbers(text),
        "original": numbers(original),
        "imageMeans": numbers(torch.stack(means)),
        "loss": loss.item(),
        "parts": [p.item() for p in parts],
        "gradient": numbers(wide.grad),
    }


def main():
    write(
        "dora.json",
        [
            dora_case(6, 10, 7, 3, 6, dora=True, bias=True),
            dora_case(5, 8, 12, 4, 4, dora=True, bias=False),
            dora_case(4, 9, 5, 2, 8, dora=False, bias=True),
        ],
    )
    write("adamw.json", [adamw_case(None, 0.01, 4), adamw_case(0.5, 0.1, 4), adamw_case(100.0, 0.0, 3)])
    write(
        "direction.json",
        [
            direction_case([2, 3, 2], 0, 0.8, "all present"),
            direction_case([2, 3, 2], 1, 0.1, "some hinges closed"),
            direction_case([2, 3, 2], 2, 0.8, "all present"),
            direction_case([2, 3], 1, 0.8, "equal texts", equal=True),
            direction_case([2, 3], 1, 0.8, "absent category", absent=1),
        ],
    )


if __name__ == "__main__":
    main()
