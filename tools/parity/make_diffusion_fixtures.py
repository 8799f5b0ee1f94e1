"""Makes packages/diffusion/fixtures/schedulers.json with the real diffusers.

Tables and timestep lists are stored as SHA-256 of their little-endian bytes (they must be equal bit for
bit, but see `tables`); trajectories as base64 of float32 values, one row of 8 per step. The model is a stand-in made of
basic operations, m = 0.4 x / (1 + x^2) + 0.05 t / 1000, evaluated in float32 on the scaled input.
"""

import argparse
import base64
import hashlib
import json
import pathlib

import diffusers
import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, PNDMScheduler

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
CLASSES = dict(DDPMScheduler=DDPMScheduler, DDIMScheduler=DDIMScheduler, PNDMScheduler=PNDMScheduler,
               EulerDiscreteScheduler=EulerDiscreteScheduler)
SEED, WIDTH = 7, 8


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def encode(array):
    return base64.b64encode(np.ascontiguousarray(array).astype("<f4").tobytes()).decode()


def tables():
    """Zero-SNR tables go through torch's vectorised square root, which is not correctly rounded and not the
    same on every machine: their values are stored instead of a digest, to be compared with a tolerance."""
    rows = []
    for schedule in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        for count in (1000, 137):
            config = dict(num_train_timesteps=count, beta_start=0.00085, beta_end=0.012, beta_schedule=schedule)
            scheduler = DDIMScheduler(**config)
            zero = DDIMScheduler(rescale_betas_zero_snr=True, **config)
            rows.append(dict(config=config, betas=digest(scheduler.betas.numpy()),
                             alphas_cumprod=digest(scheduler.alphas_cumprod.numpy()),
                             zero_snr_alphas_cumprod=encode(zero.alphas_cumprod.numpy()[::-9])))
    return rows


def timestep_lists():
    rows = []
    for name, dtype in (("DDIMScheduler", np.int64), ("EulerDiscreteScheduler", np.float32)):
        for spacing in ("leading", "trailing", "linspace"):
            scheduler = CLASSES[name](timestep_spacing=spacing, **SD)
            total = hashlib.sha256()
            for steps in range(1, 1001):
                scheduler.set_timesteps(steps)
                total.update(np.ascontiguousarray(scheduler.timesteps.numpy().astype(dtype)).astype("<f8").tobytes())
            rows.append(dict(class_name=name, spacing=spacing, sha256=total.hexdigest()))
    return rows


def model(x, t):
    t = float(t)
    return np.float32(0.4) * x / (1 + x * x) + np.float32(0.05 * t / 1000)


def trajectory(name, steps, eta=0.0, **config):
    scheduler = CLASSES[name](**{**SD, **config})
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(1, WIDTH, generator=generator) * scheduler.init_noise_sigma
    rows = []
    for t in scheduler.timesteps:
        output = torch.from_numpy(model(scheduler.scale_model_input(x, t).numpy(), t))
        extra = {}
        if name in ("DDPMScheduler", "DDIMScheduler"):
            extra["generator"] = generator
        if name == "DDIMScheduler":
            extra["eta"] = eta
        x = scheduler.step(output, t, x, **extra).prev_sample
        rows.append(x.numpy().reshape(-1))
    saved = {key: value for key, value in scheduler.config.items() if not key.startswith("_")}
    return dict(config=dict(_class_name=name, **saved), steps=steps, eta=eta,
                timesteps=[float(t) for t in scheduler.timesteps],
                init_noise_sigma=float(scheduler.init_noise_sigma),
                x=encode(np.concatenate(rows)))


def trajectories():
    rows = []
    spacings = ("leading", "trailing", "linspace")
    for spacing in spacings:
        for prediction in ("epsilon", "v_prediction", "sample"):
            kind = dict(timestep_spacing=spacing, prediction_type=prediction)
            rows.append(trajectory("DDPMScheduler", 20, clip_sample=False, **kind))
            rows.append(trajectory("DDIMScheduler", 20, clip_sample=False, set_alpha_to_one=False, **kind))
            rows.append(trajectory("EulerDiscreteScheduler", 20, **kind))
            if prediction != "sample":
                rows.append(trajectory("PNDMScheduler", 20, skip_prk_steps=True, **kind))
    rows.append(trajectory("DDPMScheduler", 30, clip_sample=True))
    rows.append(trajectory("DDPMScheduler", 30, clip_sample=True, prediction_type="v_prediction", clip_sample_range=2.0))
    rows.append(trajectory("DDPMScheduler", 30, clip_sample=False, variance_type="fixed_large"))
    rows.append(trajectory("DDPMScheduler", 30, clip_sample=False, variance_type="fixed_small_log"))
    rows.append(trajectory("DDIMScheduler", 30, eta=0.5, clip_sample=True))
    rows.append(trajectory("DDIMScheduler", 30, eta=1.0, clip_sample=False))
    rows.append(trajectory("DDIMScheduler", 11, clip_sample=False, rescale_betas_zero_snr=True,
                           timestep_spacing="trailing", prediction_type="v_prediction"))
    rows.append(trajectory("EulerDiscreteScheduler", 11, rescale_betas_zero_snr=True,
                           timestep_spacing="trailing", prediction_type="v_prediction"))
    rows.append(trajectory("EulerDiscreteScheduler", 11, final_sigmas_type="sigma_min"))
    for steps in (1, 2, 3, 4, 5):
        rows.append(trajectory("PNDMScheduler", steps, skip_prk_steps=True))
    rows.append(trajectory("PNDMScheduler", 50, skip_prk_steps=True, set_alpha_to_one=True))
    rows.append(trajectory("DDPMScheduler", 100, clip_sample=False))
    return rows


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=root / "packages/diffusion/fixtures/schedulers.json")
    out = parser.parse_args().out
    fixture = dict(diffusers=diffusers.__version__, torch=torch.__version__, seed=SEED, width=WIDTH, tables=tables(),
                   timestep_lists=timestep_lists(), trajectories=trajectories())
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps(fixture, sort_keys=True, separators=(",", ":"))
    out.write_text(lines.replace('},{"', '},\n{"') + "\n")
    print(f"{out.name}: {out.stat().st_size} bytes, {len(fixture['trajectories'])} trajectories")


if __name__ == "__main__":
    main()
