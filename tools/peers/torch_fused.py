"""PyTorch's and PEFT's side of the fused kernels' benchmarks; see serve.py for the protocol."""

import itertools

import torch
import torch.nn.functional as F
from serve import serve


def without_gradients(prepare):
    """The calls of a kind that is forward only."""

    def wrapped(c, dtype):
        run = prepare(c, dtype)

        def call():
            with torch.no_grad():
                return run()

        return call

    return wrapped


def group_norm(c, dtype):
    x = torch.randn(c["batch"], c["channels"], c["size"], c["size"]).to(dtype)
    x = x.to(memory_format=torch.channels_last)
    weight, bias = torch.ones(c["channels"]).to(dtype), torch.zeros(c["channels"]).to(dtype)
    return lambda: F.silu(F.group_norm(x, 32, weight, bias, 1e-5))


def layer_norm(c, dtype):
    x = torch.randn(c["rows"], c["channels"]).to(dtype)
    weight, bias = torch.ones(c["channels"]).to(dtype), torch.zeros(c["channels"]).to(dtype)
    return lambda: F.layer_norm(x, (c["channels"],), weight, bias)


def geglu(c, dtype):
    x = torch.randn(c["rows"], 2 * c["channels"]).to(dtype)

    def run():
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)

    return run


def gelu(c, dtype):
    x = torch.randn(c["rows"], c["channels"]).to(dtype)
    return lambda: F.gelu(x)


def attention(c, dtype):
    q, k, v = (
        torch.randn(c["batch"], length, c["heads"], c["depth"]).to(dtype).transpose(1, 2)
        for length in (c["queries"], c["keys"], c["keys"])
    )
    return lambda: F.scaled_dot_product_attention(q, k, v)


def dora(c, dtype):
    """PEFT's DoRA layer, forward and backward, gradients of input and adapter; adapters in float32 as PEFT casts."""
    from peft import LoraConfig, get_peft_model

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(c["inputs"], c["outputs"], bias=False).to(dtype)

        def forward(self, x):
            return self.layer(x)

    model = get_peft_model(Model(), LoraConfig(r=c["rank"], target_modules=["layer"], use_dora=True))
    x = torch.randn(c["rows"], c["inputs"]).to(dtype).requires_grad_(True)
    dy = torch.randn(c["rows"], c["outputs"]).to(dtype)

    def run():
        with torch.enable_grad():
            model.zero_grad(set_to_none=True)
            x.grad = None
            model(x).backward(dy)

    return run


def direction(c, dtype):
    """The loss by loops over pairs and contexts, as published, with backward. One attribute of the combinations."""
    categories, attribute = c["categories"], c["attribute"]
    k, depth = categories[attribute], c["depth"]
    combinations = list(itertools.product(*(range(n) for n in categories)))
    contexts = {}
    for index, combination in enumerate(combinations):
        contexts.setdefault(combination[:attribute] + combination[attribute + 1 :], []).append(index)
    text = torch.randn(len(combinations), depth, requires_grad=True)
    original = F.normalize(torch.randn(depth), dim=0)
    images, labels = F.normalize(torch.randn(20 * k, depth), dim=1), torch.arange(20 * k) % k

    def run():
        with torch.enable_grad():
            text.grad = None
            unit = text / text.norm(dim=1, keepdim=True)
            total = 0
            for i, j in itertools.combinations(range(k), 2):
                image = images[labels == i].mean(dim=0) - images[labels == j].mean(dim=0)
                image = image / image.norm()
                similarity = unit @ original
                for rows in contexts.values():
                    delta = unit[rows[i]] - unit[rows[j]]
                    delta = delta / delta.norm()
                    hinge = F.relu(0.8 - similarity[[rows[i], rows[j]]].mean())
                    total = total + (1 - image @ delta + hinge) / len(contexts)
            (total / (k - 1)).backward()

    return run


def guided_step(c, dtype):
    u, e, x, z = (torch.randn(c["batch"], 4, c["size"], c["size"]).to(dtype) for _ in range(4))

    def run():
        difference = e - u
        mi = 3.0 * difference.pow(2).sum(dim=(1, 2, 3))
        eps = u + 7.5 * difference
        return 1.01 * x - 0.3 * eps + 0.1 * z, mi

    return run


def adamw(c, dtype):
    parameters = [torch.randn(c["elements"] // c["tensors"], requires_grad=True) for _ in range(c["tensors"])]
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def run():
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return run


def random_normal(c, dtype):
    return lambda: torch.randn(c["elements"])


KINDS = {
    "groupNorm": without_gradients(group_norm),
    "layerNorm": without_gradients(layer_norm),
    "geglu": without_gradients(geglu),
    "gelu": without_gradients(gelu),
    "attention": without_gradients(attention),
    "dora": dora,
    "direction": direction,
    "guidedStep": without_gradients(guided_step),
    "adamW": without_gradients(adamw),
    "randomNormal": without_gradients(random_normal),
}

if __name__ == "__main__":
    serve(KINDS)
