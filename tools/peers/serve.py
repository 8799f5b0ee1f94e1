"""Times prepared calls for benchmarks: one JSON request a line in, one JSON answer a line out.

Request: {"case": {"kind": ..., sizes}, "dtype": "f32" | "bf16", "threads": int, "seconds": float}
Answer:  {"seconds": the fastest call, "calls": how many were timed}, or {"error": text}
"""

import json
import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch  # noqa: E402

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def serve(kinds):
    """Answers requests for `kinds`: name -> function(case, dtype) that gives a call without arguments."""
    prepared = {}

    def answer(request):
        case = request["case"]
        key = json.dumps([case, request["dtype"]])
        torch.set_num_threads(request["threads"])
        if key not in prepared:
            prepared.clear()
            prepared[key] = kinds[case["kind"]](case, DTYPES[request["dtype"]])
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
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # the benchmark reports it and goes on
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
