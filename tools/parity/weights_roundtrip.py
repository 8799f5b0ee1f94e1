"""Loads, with the real diffusers, transformers and PEFT, what packages/weights writes, and compares.

    python tools/parity/weights_roundtrip.py

Runs weights_write.ts into a temporary folder first. Prints one line a check; ends with exit code 1 if any fails.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import diffusers
import peft
import safetensors
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from peft import PeftModel
from safetensors.torch import load_file
from transformers import CLIPTextModel

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "packages" / "weights" / "fixtures"
failures = 0


def check(name, error, limit):
    global failures
    good = error <= limit
    failures += not good
    print(f"{'ok    ' if good else 'FAILED'} {name}: max difference {error:.3g} (limit {limit:g})")


def distance(a, b):
    if a.keys() != b.keys():
        print("       keys differ:", sorted(a.keys() ^ b.keys())[:4])
        return float("inf")
    return max((a[key].float() - b[key].float()).abs().max().item() for key in a)


def pipeline(out):
    reference = {
        "unet": UNet2DConditionModel.from_pretrained(FIXTURES / "pipeline" / "unet", variant="fp16"),
        "vae": AutoencoderKL.from_pretrained(FIXTURES / "pipeline" / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(FIXTURES / "pipeline" / "text_encoder"),
    }
    for variant, limit in ((None, 0), ("fp16", 5e-4)):
        pipe = StableDiffusionPipeline.from_pretrained(out / "pipeline", variant=variant, tokenizer=None, safety_checker=None)
        for name, model in reference.items():
            check(f"pipeline, variant {variant}, {name}", distance(model.state_dict(), getattr(pipe, name).state_dict()), limit)


def unet():
    return UNet2DConditionModel.from_pretrained(FIXTURES / "pipeline" / "unet", variant="fp16").float().eval()


def run(model):
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    context = torch.randn(2, 5, 8, generator=generator)
    with torch.no_grad():
        return model(sample, 7, context).sample


def with_peft(folder):
    return run(PeftModel.from_pretrained(unet(), folder).eval())


def with_diffusers(folder):
    model = unet()
    state, alphas, metadata = StableDiffusionPipeline.lora_state_dict(folder, return_lora_metadata=True)
    StableDiffusionPipeline.load_lora_into_unet(state, network_alphas=alphas, unet=model, metadata=metadata)
    return run(model)


def adapters(out):
    plain = run(unet())
    dora = with_peft(FIXTURES / "adapters" / "dora-peft")
    patterns = with_peft(FIXTURES / "adapters" / "lora-peft-patterns")
    scaled = with_diffusers(FIXTURES / "adapters" / "dora-diffusers")
    lora = with_diffusers(FIXTURES / "adapters" / "lora-unet-text")
    assert (dora - plain).abs().max() > 0.1 and (dora - scaled).abs().max() > 0.01, "the adapters must matter"
    expected = {
        "dora-peft": dora,
        "dora-kohya": dora,
        "dora-diffusers": scaled,
        "lora-peft-patterns": patterns,
        "lora-unet-text": lora,
    }
    for name, output in expected.items():
        for form, load in (("peft", with_peft), ("diffusers", with_diffusers)):
            check(f"{name}, saved for {form}", (load(out / "adapters" / name / form) - output).abs().max().item(), 1e-5)
    text = load_file(out / "adapters" / "lora-unet-text" / "diffusers" / "pytorch_lora_weights.safetensors")
    theirs = load_file(FIXTURES / "adapters" / "lora-unet-text" / "pytorch_lora_weights.safetensors")
    check("lora-unet-text, tensors", distance(text, theirs), 0)


def main():
    warnings.filterwarnings("ignore")
    diffusers.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    versions = {m.__name__: m.__version__ for m in (diffusers, transformers, peft, safetensors, torch)}
    print(json.dumps(versions))
    with tempfile.TemporaryDirectory() as folder:
        script = ROOT / "tools" / "parity" / "weights_write.ts"
        command = ["node", "--import=tsx", "--conditions=equipoise-source", str(script), folder]
        subprocess.run(command, check=True, cwd=ROOT)
        pipeline(Path(folder))
        adapters(Path(folder))
    print("weights round trip:", "failed" if failures else "all equal")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
