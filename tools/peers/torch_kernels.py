"""Times PyTorch CPU kernels for benchmarks/src/kernels: one JSON request a line in, one JSON answer a line out.

Request: {"case": {"kind": "linear", "m", "n", "k"} or {"kind": "matmul", "batch", "m", "n", "k"} or
          {"kind": "conv" | "convGradInput" | "convGradFilter" | "linearGradWeight", ...},
          "dtype": "f32" | "bf16", "threads": int, "seconds": float}
Answer:  {"seconds": the fastest call, "calls": how many were timed}
"""
import json
import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

prepared = {}


def conv_tensors(c, dtype):
    last = torch.channels_last
    x = torch.randn(c["batch"], c["channels"], c["height"], c["width"]).to(dtype).to(memory_format=last)
    w = torch.randn(c["outputs"], c["channels"], c["taps"], c["taps"]).to(dtype).to(memory_format=last)
    return x, w


def prepare(c, dtype):
    kind = c["kind"]
    if kind == "linear":
        x, w, b = (torch.randn(*s).to(dtype) for s in ([c["m"], c["k"]], [c["n"], c["k"]], [c["n"]]))
        return lambda: F.linear(x, w, b)
    if kind == "linearGradWeight":
        dy, x = (torch.randn(*s).to(dtype) for s in ([c["k"], c["m"]], [c["k"], c["n"]]))
        return lambda: dy.t() @ x
    if kind == "matmul":
        a, b = (torch.randn(*s).to(dtype) for s in ([c["batch"], c["m"], c["k"]], [c["batch"], c["k"], c["n"]]))
        return lambda: torch.bmm(a, b)
    x, w = conv_tensors(c, dtype)
    stride, pad = c["stride"], c["taps"] // 2
    if kind == "conv":
        b = torch.randn(c["outputs"]).to(dtype)
        return lambda: F.conv2d(x, w, b, stride, pad)
    y = F.conv2d(x, w, None, stride, pad)
    dy = torch.randn_like(y)
    mask = [kind == "convGradInput", kind == "convGradFilter", False]
    return lambda: torch.ops.aten.convolution_backward(
        dy, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask)


def answer(request):
    key = json.dumps([request["case"], request["dtype"]])
    torch.set_num_threads(request["threads"])
    with torch.no_grad():
        if key not in prepared:
            prepared.clear()
            prepared[key] = prepare(request["case"], {"f32": torch.float32, "bf16": torch.bfloat16}[request["dtype"]])
            prepared[key]()
        run, best, calls = prepared[key], float("inf"), 0
        end = time.perf_counter() + request["seconds"]
        while calls == 0 or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - start)
            calls += 1
    return {"seconds": best, "calls": calls}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
