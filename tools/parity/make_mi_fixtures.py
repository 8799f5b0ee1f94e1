"""MI-TUNE's score of a few candidates, summed in diffusers' own sampling loop on the small pipeline fixture.

DDPM steps with guidance; per step with t > 50 the squared difference of both predictions, weighted. For comparison with
packages/mi-tune.

Usage: python tools/parity/make_mi_fixtures.py
Versions: tools/parity/requirements.txt
"""

import json
from pathlib import Path

import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
PROMPTS = ["a red circle", "a photo of a cat and a dog", "a red circle"]
STEPS, GUIDANCE = 12, 7.5


def nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous()


def main():
    pipe = StableDiffusionPipeline.from_pretrained(PACKAGES / "diffusion" / "fixtures" / "sd", safety_checker=None,
                                                   torch_dtype=torch.float32)
    for model in (pipe.unet, pipe.text_encoder):
        model.float()
    config = dict(pipe.scheduler.config) | {"clip_sample": False}
    scheduler = DDPMScheduler.from_config(config)
    scheduler.set_timesteps(STEPS)
    encode = lambda texts: pipe.text_encoder(
        pipe.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt",
                       max_length=pipe.tokenizer.model_max_length).input_ids)[0]
    size = pipe.unet.config.sample_size
    generator = torch.Generator().manual_seed(3)
    draw = lambda: torch.randn(len(PROMPTS), pipe.unet.config.in_channels, size, size, generator=generator)
    x = initial = draw()
    tensors = {"initial": nhwc(initial)}
    timesteps = [int(t) for t in scheduler.timesteps]
    scores = {"reference": torch.zeros(len(PROMPTS)), "paper": torch.zeros(len(PROMPTS))}
    kept = [t for t in timesteps if t > 50]
    with torch.no_grad():
        cond, uncond = encode(PROMPTS), encode([""] * len(PROMPTS))
        for i, t in enumerate(timesteps):
            eu, ec = pipe.unet(torch.cat([x, x]), t, torch.cat([uncond, cond])).sample.chunk(2)
            if t > 50:
                beta, bar = scheduler.betas[t], scheduler.alphas_cumprod[t]
                term = (ec - eu).square().sum((1, 2, 3)) * beta * 1000 / (2 * (1 - bar)) / len(kept)
                scores["reference"] += term
                scores["paper"] += term / (1 - beta)
            noise = draw()
            tensors[f"noise.{i}"] = nhwc(noise)
            # The scheduler's own step, with our noise for its variance term.
            mean = scheduler.step(eu + GUIDANCE * (ec - eu), t, x, generator=torch.Generator().manual_seed(0)).prev_sample
            own = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
            std = scheduler._get_variance(t) ** 0.5 if t > 0 else torch.tensor(0.0)
            x = mean - std * own + std * noise
    tensors |= {"final": nhwc(x), "cond": cond, "uncond": uncond, **{f"mi.{k}": v for k, v in scores.items()}}
    folder = PACKAGES / "mi-tune" / "fixtures"
    folder.mkdir(exist_ok=True)
    settings = json.dumps({"prompts": PROMPTS, "steps": STEPS, "guidance": GUIDANCE, "timesteps": timesteps})
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "ddpm.safetensors", {"settings": settings})


main()
