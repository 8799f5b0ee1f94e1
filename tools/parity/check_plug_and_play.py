"""Runs the Python snippets of docs/iti-gen.md on random-weight pipelines, with tokens that `equipoise iti-gen train` learned.

Makes a folder with what the snippets name: a Stable Diffusion (the fixture of packages/diffusion), a ControlNet and an
InstructPix2Pix with random weights beside it, and prompt-embeds.safetensors from a short training with a CLIP whose
text tower is the pipeline's. Then checks that

- the embeddings are what transformers' text encoder makes of the prompt with the tokens in place (1e-5);
- every snippet runs as it is printed, and every row of the embeddings gives another picture.

Prints one JSON line a check; exits 1 when one fails. Needs tools/parity/requirements.txt, Node and a built addon.
Usage: python tools/parity/check_plug_and_play.py [--node node]
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import diffusers
import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionInstructPix2PixPipeline, StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "packages/diffusion/fixtures/sd"
PROMPT = "a red cat on a table"
CATEGORIES = {"Tone": ("dark", "light"), "Hat": ("bow", "cap", "none")}


def random_images(folder):
    generator = np.random.default_rng(1)
    for attribute, categories in CATEGORIES.items():
        for category in categories:
            (folder / attribute / category).mkdir(parents=True)
            base = generator.uniform(0, 200, 3)
            for n in range(6):
                pixels = base + generator.uniform(0, 50, (32, 32, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / attribute / category / f"{n}.png")


def clip_with(text_encoder, folder):
    """A CLIP whose text tower is the pipeline's; its other weights are random."""
    torch.manual_seed(2)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32,
                  patch_size=8, projection_dim=24)
    model = CLIPModel(CLIPConfig(text_config=text_encoder.config.to_dict(), vision_config=vision, projection_dim=24))
    own = {name.removeprefix("text_model."): value for name, value in text_encoder.state_dict().items()}
    missing, unexpected = model.text_model.load_state_dict(own, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    model.save_pretrained(folder)
    return model


def prepare(folder, node):
    pipe = StableDiffusionPipeline.from_pretrained(FIXTURE).to(torch.float32)
    pipe.save_pretrained(folder / "stable-diffusion")
    torch.manual_seed(3)
    control = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(8, 8, 16, 16))
    with torch.no_grad():
        # A fresh ControlNet ends in zeros and controls nothing.
        for name, value in control.named_parameters():
            if "controlnet_" in name:
                value.normal_(std=0.1)
    control.save_pretrained(folder / "controlnet")
    edit = dict(pipe.unet.config, in_channels=8)
    unet = type(pipe.unet).from_config(edit)
    parts = {name: value for name, value in pipe.components.items() if name not in ("unet", "image_encoder")}
    StableDiffusionInstructPix2PixPipeline(unet=unet, requires_safety_checker=False, **parts).save_pretrained(folder / "instruct-pix2pix")
    for name in ("edges", "photo"):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    random_images(folder / "references")
    clip = clip_with(pipe.text_encoder, folder / "clip")
    program = [node, "--import=tsx", "--conditions=equipoise-source", str(ROOT / "apps/cli/src/main.ts")]
    words = ["iti-gen", "train", "--clip", folder / "clip", "--tokenizer", FIXTURE / "tokenizer", "--data",
             folder / "references", "--attributes", ",".join(CATEGORIES), "--prompt", PROMPT, "--epochs", "20",
             "--references", "6", "--updates", "2", "--learning-rate", "0.05", "--out", folder / "run"]
    subprocess.run(program + [str(word) for word in words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)
    os.rename(folder / "run" / "prompt-embeds.safetensors", folder / "prompt-embeds.safetensors")
    return pipe, clip


def expected_embeddings(pipe, clip, tokens):
    """transformers' text tower, on embeddings with summed tokens after the prompt (the paper's layout)."""
    tokenizer, text = pipe.tokenizer, clip.text_model
    content = tokenizer(PROMPT).input_ids[1:-1]
    length = tokens[0].shape[1]
    ids = [tokenizer.bos_token_id, *content, *[tokenizer.pad_token_id] * length, tokenizer.eos_token_id]
    ids += [tokenizer.pad_token_id] * (77 - len(ids))
    start = 1 + len(content)
    rows = []
    for first in tokens[0]:
        for second in tokens[1]:
            words = text.embeddings.token_embedding(torch.tensor([ids])).clone()
            words[0, start : start + length] = first + second
            x = words + text.embeddings.position_embedding.weight[:77]
            for layer in text.encoder.layers:
                a, h = layer.self_attn, layer.layer_norm1(x)
                q, k, v = (p(h).unflatten(2, (a.num_heads, -1)).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
                x = x + a.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
                x = x + layer.mlp(layer.layer_norm2(x))
            rows.append(text.final_layer_norm(x)[0])
    return torch.stack(rows)


def snippets():
    """The Python blocks of the section about other pipelines."""
    text = (ROOT / "docs/iti-gen.md").read_text()
    section = text.split("## In diffusers", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```python\n(.*?)```", section, re.S)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", default="node")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pipe, clip = prepare(folder, options.node)
        with safe_open(folder / "prompt-embeds.safetensors", "pt") as file:
            rows = file.get_tensor("prompt_embeds")
        with safe_open(folder / "run" / "tokens.safetensors", "pt") as file:
            tokens = [file.get_tensor(attribute) for attribute in CATEGORIES]
        with torch.no_grad():
            error = (rows - expected_embeddings(pipe, clip, tokens)).abs().max().item()
        spread = (rows[1:] - rows[:1]).abs().amax((1, 2)).min().item()
        results.append(dict(check="embeddings", rows=len(rows), error=error, spread=spread,
                            ok=error <= 1e-5 and len(rows) == 6 and spread > 1e-3))
        found = snippets()
        results.append(dict(check="snippets found", count=len(found), ok=len(found) >= 3))
        os.chdir(folder)
        scope = {}
        for i, code in enumerate(found):
            torch.manual_seed(0)
            exec(compile(code, f"snippet {i + 1}", "exec"), scope)
            images = [np.asarray(image, dtype=np.float64) for image in scope.pop("images")]
            least = min(np.abs(a - b).mean() for k, a in enumerate(images) for b in images[:k])
            results.append(dict(check=f"snippet {i + 1}", pipeline=type(scope["pipe"]).__name__, images=len(images),
                                least_difference=round(float(least), 4), diffusers=diffusers.__version__,
                                ok=len(images) == 6 and least > 0 and all(np.isfinite(i).all() for i in images)))
    for result in results:
        print(json.dumps(result))
    sys.exit(0 if all(result["ok"] for result in results) else 1)


if __name__ == "__main__":
    main()
