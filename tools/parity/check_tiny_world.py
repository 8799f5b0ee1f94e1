"""Repeats with diffusers, in float32, the pictures that the embedded model made here from the same latents.

Usage: python tools/parity/check_tiny_world.py [WEIGHTS]
Runs tiny-world-images.ts, loads the same folder with StableDiffusionPipeline, prints one line per prompt, and
exits with 1 when any picture agrees by less than 40 dB (PSNR of 8-bit pixels).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 40.0


def psnr(a, b):
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255.0**2 / error)


def main():
    with tempfile.TemporaryDirectory() as folder:
        command = ["node", "--import=tsx", "--conditions=equipoise-source", "tools/parity/tiny-world-images.ts", folder]
        subprocess.run([*command, *sys.argv[1:2]], cwd=ROOT, check=True)
        settings = json.loads((Path(folder) / "settings.json").read_text())
        ours = load_file(Path(folder) / "images.safetensors")
    pipeline = StableDiffusionPipeline.from_pretrained(settings["weights"], torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        settings["prompts"],
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance"],
        latents=ours["latents"].permute(0, 3, 1, 2).contiguous(),
        output_type="np",
        height=64,
        width=64,
    ).images
    worst = float("inf")
    for prompt, mine, other in zip(settings["prompts"], ours["images"].numpy(), theirs):
        value = psnr(mine, np.round(other * 255).astype(np.uint8))
        worst = min(worst, value)
        print(f"{value:7.2f} dB  {prompt}")
    print(f"worst {worst:.2f} dB, required {LIMIT} dB")
    return 0 if worst >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
