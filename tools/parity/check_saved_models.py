"""Saves the fixture models with Equipoise in f32 and in bf16, which holds their weights exactly, loads them with diffusers
and transformers, both computing in f32, and compares outputs.

Usage: python tools/parity/check_saved_models.py
Prints one line per model and exits with 1 when any output differs by more than 1e-5.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from transformers import (
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
)

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "packages" / "models" / "fixtures"
LIMIT = 1e-5


class Fixture:
    def __init__(self, name):
        self.file = safe_open(FIXTURES / f"{name}.safetensors", "pt")
        self.scalars = json.loads(self.file.metadata()["fixture"])["scalars"]

    def tensor(self, key):
        return self.file.get_tensor(key)

    def image(self, key):
        return self.tensor(key).permute(0, 3, 1, 2)


def unet(model, fixture):
    extra = {}
    if "time_ids" in fixture.scalars:
        extra = {
            "added_cond_kwargs": {
                "text_embeds": fixture.tensor("in:text_embeds"),
                "time_ids": torch.tensor(fixture.scalars["time_ids"]),
            }
        }
    times = torch.tensor(fixture.scalars["timesteps"])
    yield model(fixture.image("in:sample"), times, fixture.tensor("in:context"), **extra).sample, "out:sample"


def vae(model, fixture):
    yield model.encode(fixture.image("in:image")).latent_dist.parameters, "out:moments"
    yield model.decode(fixture.image("in:latents")).sample, "out:decoded"


def text(model, fixture):
    out = model(torch.tensor(fixture.scalars["ids"]))
    yield out.last_hidden_state, "out:last"
    yield getattr(out, "text_embeds", getattr(out, "pooler_output", None)), "out:pooled"


def vision(model, fixture):
    yield model(fixture.image("in:pixels")).image_embeds, "out:pooled"


def clip(model, fixture):
    ids = torch.tensor(fixture.scalars["ids"])
    out = model(input_ids=ids, pixel_values=fixture.image("in:pixels"))
    yield out.logits_per_image, "out:logits_per_image"


MODELS = {
    "unet-sd1": (UNet2DConditionModel, unet),
    "unet-sd2": (UNet2DConditionModel, unet),
    "unet-sdxl": (UNet2DConditionModel, unet),
    "vae": (AutoencoderKL, vae),
    "clip-text-l": (CLIPTextModel, text),
    "clip-text-projected": (CLIPTextModelWithProjection, text),
    "clip-vision-projected": (CLIPVisionModelWithProjection, vision),
    "clip": (CLIPModel, clip),
}


def main():
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        node = ["node", "--import", "tsx", "--conditions=equipoise-source", "tools/parity/save-models.ts", folder]
        subprocess.run(node, cwd=ROOT, check=True)
        for saved, (name, (model_class, run)) in itertools.product(("", "-bf16"), MODELS.items()):
            fixture, path = Fixture(name), Path(folder) / (name + saved)
            kind = "dtype" if model_class.__module__.startswith("transformers") else "torch_dtype"
            options = {kind: torch.float32, "output_loading_info": True}
            model, info = model_class.from_pretrained(path, **options)
            problems = {kind: list(keys) for kind, keys in info.items() if keys}
            if problems:
                sys.exit(f"{name}: {problems}")
            with torch.no_grad():
                for actual, key in run(model.eval(), fixture):
                    expected = fixture.image(key) if actual.ndim == 4 else fixture.tensor(key)
                    error = (actual - expected).abs().max().item()
                    worst = max(worst, error)
                    print(f"{name + saved:<32}{key:<24}max |difference| {error:.1e}")
    if not worst <= LIMIT:
        sys.exit(f"differences up to {worst}, allowed {LIMIT}")


if __name__ == "__main__":
    main()
