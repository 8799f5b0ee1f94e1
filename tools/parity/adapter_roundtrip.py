"""Loads adapters made by packages/adapters with the real diffusers and PEFT, and the other way round, and compares outputs.

    python tools/parity/adapter_roundtrip.py

Runs adapter-write.ts into a temporary folder first. Prints one line a check; ends with exit code 1 if any fails.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import diffusers
import peft
import torch
import transformers
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "packages" / "weights" / "fixtures"
LIMIT = 1e-4
failures = 0


def check(name, actual, expected):
    global failures
    error = (actual - expected).abs().max().item()
    good = error <= LIMIT
    failures += not good
    print(f"{'ok    ' if good else 'FAILED'} {name}: max difference {error:.2e} (limit {LIMIT:g})")


def unet():
    return UNet2DConditionModel.from_pretrained(WEIGHTS / "pipeline" / "unet", variant="fp16").float().eval()


def forward(model):
    inputs = load_file(ROOT / "packages" / "adapters" / "fixtures" / "expected.safetensors")
    with torch.no_grad():
        sample = inputs["sample"].permute(0, 3, 1, 2)
        return model(sample, 501, inputs["context"]).sample.permute(0, 2, 3, 1)


def with_peft(folder):
    return PeftModel.from_pretrained(unet(), folder).eval()


def with_diffusers(folder):
    model = unet()
    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(folder, return_lora_metadata=True)
    StableDiffusionPipeline.load_lora_into_unet(state, network_alphas=alphas, unet=model, metadata=metadata)
    return model


def with_load_lora_adapter(folder):
    model = unet()
    model.load_lora_adapter(folder, prefix=None, use_safetensors=True, weight_name="pytorch_lora_weights.safetensors")
    return model


def scaled(model, weight):
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in list(module.scaling):
                module.set_scale(name, weight)
    return model


def main():
    warnings.filterwarnings("ignore")
    diffusers.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    print(json.dumps({m.__name__: m.__version__ for m in (diffusers, peft, torch)}))
    with tempfile.TemporaryDirectory() as folder:
        script = ROOT / "tools" / "parity" / "adapter-write.ts"
        subprocess.run(["node", "--import=tsx", "--conditions=equipoise-source", str(script), folder], check=True, cwd=ROOT)
        out = Path(folder)
        outputs = load_file(out / "outputs.safetensors")
        check("no adapter", forward(unet()), outputs["plain"])
        for name in ("dora-attention", "lora-attention", "dora-all"):
            assert (outputs[name] - outputs["plain"]).abs().max() > 0.02, "the adapter must matter"
            check(f"ours in PEFT: {name}", forward(with_peft(out / name / "peft")), outputs[name])
            check(f"ours in diffusers: {name}", forward(with_diffusers(out / name / "diffusers")), outputs[name])
    theirs = WEIGHTS / "adapters"
    loaders = {
        "dora-diffusers": with_diffusers,
        "dora-diffusers-described": with_diffusers,
        "dora-adapter": with_load_lora_adapter,
        "dora-peft": with_peft,
        "lora-unet-text": with_diffusers,
    }
    for name, load in loaders.items():
        check(f"theirs here: {name}, weight 0.25", forward(scaled(load(theirs / name), 0.25)), outputs[f"theirs.{name}"])
    print("adapter round trip:", "failed" if failures else "all equal")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
