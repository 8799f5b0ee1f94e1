"""Loads adapters that mi-tune trained here into diffusers and into PEFT and repeats the pictures drawn with them.

Usage: python tools/parity/check_mi_adapter.py
Runs mi-adapter-images.ts. Prints the worst agreement of each adapter (PSNR of 8-bit pixels, float32) by either way of
loading, and how far the adapter moves the pictures from the base model's. Exits with 1 when an agreement is below 40 dB
or an adapter changes nothing.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 40.0


def psnr(a, b):
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else 10 * np.log10(255.0**2 / error)


def load(settings):
    pipeline = StableDiffusionPipeline.from_pretrained(settings["weights"], torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline, settings, latents):
    images = pipeline(
        settings["prompts"],
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance"],
        latents=latents.permute(0, 3, 1, 2).contiguous(),
        output_type="np",
        height=64,
        width=64,
    ).images
    return np.round(images * 255).astype(np.uint8)


def without_tower_prefix(source, target):
    """Copies a PEFT folder, leaving `text_model.` out of its keys: transformers 5 has text towers without it, and PEFT
    does not translate (diffusers does). transformers 4 takes the files as they are."""
    shutil.copytree(source, target)
    for file in target.rglob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            tensors = {key.replace("text_model.", ""): opened.get_tensor(key) for key in opened.keys()}
            metadata = opened.metadata()
        save_file(tensors, file, metadata)
    return target


def by_diffusers(settings, folder):
    pipeline = load(settings)
    pipeline.load_lora_weights(folder / "adapter")
    return pipeline


def by_peft(settings, folder):
    pipeline = load(settings)
    peft = folder / "peft"
    if (peft / "adapter_config.json").exists():
        pipeline.unet = PeftModel.from_pretrained(pipeline.unet, peft)
        return pipeline
    pipeline.unet = PeftModel.from_pretrained(pipeline.unet, peft / "unet")
    text = peft / "text_encoder"
    if not hasattr(pipeline.text_encoder, "text_model"):
        text = without_tower_prefix(text, peft / "text_encoder-renamed")
    pipeline.text_encoder = PeftModel.from_pretrained(pipeline.text_encoder, text)
    return pipeline


def main():
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["node", "--import=tsx", "--conditions=equipoise-source", "tools/parity/mi-adapter-images.ts", name]
        subprocess.run(command, cwd=ROOT, check=True)
        settings = json.loads((folder / "settings.json").read_text())
        ours = load_file(folder / "images.safetensors")
        latents, base = ours.pop("latents"), ours.pop("base").numpy()
        for adapter, images in sorted(ours.items()):
            moved = min(psnr(a, b) for a, b in zip(images.numpy(), base))
            for way, loader in [("diffusers", by_diffusers), ("PEFT", by_peft)]:
                theirs = draw(loader(settings, folder / adapter), settings, latents)
                worst = min(psnr(a, b) for a, b in zip(images.numpy(), theirs))
                failed |= worst < LIMIT or moved > 30
                print(f"{adapter:10s} {way:10s} worst {worst:6.2f} dB; base model {moved:6.2f} dB away")
    print(f"required: {LIMIT} dB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
