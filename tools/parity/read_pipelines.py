"""Second half of the round trip started by write-pipelines.ts: diffusers loads the folders that this repository
wrote and must make the same images, from the prompt and from the prompt's embeddings that this repository saved.
Prints one JSON line for each; exits 1 when any differs."""

import argparse
import json
import pathlib
import sys

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file


def check(folder, kind, source):
    image = Image.open(folder / f"{kind}.png")
    settings = json.loads(image.text["equipoise"])
    pipe = DiffusionPipeline.from_pretrained(folder / kind)
    pipe.set_progress_bar_config(disable=True)
    text = {"prompt": settings["prompt"]} if source == "prompt" else load_file(folder / f"{kind}.embeds.safetensors")
    made = pipe(**text, num_inference_steps=settings["steps"], guidance_scale=settings["guidance"],
                generator=torch.Generator().manual_seed(settings["seed"]), output_type="np").images[0]
    error = np.asarray(image, dtype=np.float64) / 255 - made
    psnr = -10 * np.log10((error ** 2).mean())
    return dict(kind=kind, source=source, pipeline=type(pipe).__name__, psnr=round(float(psnr), 2),
                mean_difference_of_255=round(float(np.abs(error).mean() * 255), 4), diffusers=diffusers.__version__,
                transformers=transformers.__version__, ok=bool(psnr >= 50))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    folder = parser.parse_args().folder
    results = [check(folder, kind, source) for kind in ("sd", "sdxl") for source in ("prompt", "embeddings")]
    for result in results:
        print(json.dumps(result))
    sys.exit(0 if all(result["ok"] for result in results) else 1)


if __name__ == "__main__":
    main()
