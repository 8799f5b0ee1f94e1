"""PyTorch's kernels on the GPU, timed with events: a JSON list of cases on stdin, {"times", "note"} on stdout.

Each case has an id, a family of benchmarks/src/kernels and its sizes. A family without a peer is left out; a peer that
fails is named in the note.
"""

import json
import statistics
import sys


def main():
    cases = json.load(sys.stdin)
    try:
        import torch
    except ImportError as error:
        print(json.dumps({"times": {}, "note": f"no PyTorch: {error}"}))
        return
    if not torch.cuda.is_available():
        print(json.dumps({"times": {}, "note": "PyTorch finds no GPU"}))
        return
    times, failures = {}, []
    for case in cases:
        try:
            peers = {name: seconds(torch, call) for name, call in calls(torch, case).items()}
            if peers:
                times[case["id"]] = peers
        except Exception as error:  # one peer that fails must not hide the others
            failures.append(f"{case['id']}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
        torch.cuda.empty_cache()
    note = f"PyTorch {torch.__version__}, {torch.cuda.get_device_name(0)}"
    print(json.dumps({"times": times, "note": "; ".join([note, *failures])}))


def seconds(torch, call, rounds=7, budget_ms=20.0):
    """Median time of one call."""

    def turn(n):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(n):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    turn(3)
    n = max(1, round(budget_ms / max(turn(3) / 3, 1e-3)))
    return statistics.median(turn(n) / n for _ in range(rounds)) / 1e3


def calls(torch, c):
    family = c["family"]
    dtype = torch.bfloat16 if c["precision"] == "bf16" else torch.float32
    make = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
    table = {
        "product": product,
        "linear": linear,
        "frozenLinear": frozen_linear,
        "doraLinear": dora,
        "attention": attention,
        "conv2d": conv,
        "groupNorm": group_norm,
        "layerNorm": layer_norm,
        "guidedStep": guided_step,
        "adamW": adamw,
    }
    return table[family](torch, c, make) if family in table else {}


def product(torch, c, make):
    a, b = make(8192, 8192), make(8192, 8192)
    return {"torch": lambda: a @ b}


def linear(torch, c, make):
    x, w, b = make(c["m"], c["k"]), make(c["n"], c["k"]), make(c["n"])
    return {"torch": lambda: torch.nn.functional.linear(x, w, b)}


def frozen_linear(torch, c, make):
    x, w, dy = make(c["m"], c["k"]).requires_grad_(), make(c["n"], c["k"]), make(c["m"], c["n"])

    def call():
        torch.autograd.grad(torch.nn.functional.linear(x, w), x, dy)

    return {"torch": call}


def dora(torch, c, make):
    from peft import LoraConfig, get_peft_model

    layer = torch.nn.Sequential()
    layer.add_module("proj", torch.nn.Linear(c["k"], c["n"], bias=False, dtype=torch.bfloat16))
    config = LoraConfig(r=c["r"], lora_alpha=c["r"], target_modules=["proj"], use_dora=True)
    layer = get_peft_model(layer, config).to("cuda", torch.bfloat16)
    x, dy = make(c["m"], c["k"]).requires_grad_(), make(c["m"], c["n"])
    trained = [p for p in layer.parameters() if p.requires_grad]

    def call():
        torch.autograd.grad(layer(x), [x, *trained], dy)

    return {"peft": call}


def attention(torch, c, make):
    q = make(c["batch"], c["heads"], c["queries"], c["depth"])
    k, v = (make(c["batch"], c["heads"], c["keys"], c["depth"]) for _ in range(2))
    return {"torch": lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)}


def conv(torch, c, make):
    x = make(c["batch"], c["in"], c["size"], c["size"]).to(memory_format=torch.channels_last)
    w = make(c["out"], c["in"], c["taps"], c["taps"]).to(memory_format=torch.channels_last)
    b = make(c["out"])
    torch.backends.cudnn.benchmark = True
    return {"cudnn": lambda: torch.nn.functional.conv2d(x, w, b, c["stride"], c["taps"] // 2)}


def group_norm(torch, c, make):
    x = make(1, c["channels"], c["size"], c["size"]).to(memory_format=torch.channels_last)
    g, b = make(c["channels"]), make(c["channels"])
    f = torch.nn.functional
    return {"torch": lambda: f.silu(f.group_norm(x, 32, g, b, 1e-5))}


def layer_norm(torch, c, make):
    x, g, b = make(c["rows"], c["columns"]), make(c["columns"]), make(c["columns"])
    return {"torch": lambda: torch.nn.functional.layer_norm(x, (c["columns"],), g, b, 1e-5)}


def guided_step(torch, c, make):
    u, e, x = (make(c["batch"], 4, c["size"], c["size"]) for _ in range(3))

    def call():
        eps = u + 7.5 * (e - u)
        mi = 0.1 * ((e - u) ** 2).sum(dim=(1, 2, 3))
        return 1.01 * x - 0.02 * eps, mi

    return {"eager": call}


def adamw(torch, c, make):
    parameters = [make(c["size"]).requires_grad_() for _ in range(c["tensors"])]
    for p in parameters:
        p.grad = torch.randn_like(p)
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)

    def call():
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return {"torch": call}


if __name__ == "__main__":
    main()
