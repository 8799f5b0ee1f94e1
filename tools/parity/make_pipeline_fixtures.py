"""Makes packages/diffusion/fixtures/{sd,sdxl}: tiny random diffusers pipelines, and what diffusers makes with them.

Weights are rounded to float16 before anything runs, so that half-size files hold exactly what was run in
float32. Images come out with contrast because the last layers are scaled up.
"""

import argparse
import json
import pathlib
import shutil

import diffusers
import torch
from diffusers import (AutoencoderKL, DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, PNDMScheduler,
                       StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

# diffusers' clip_skip reaches for a part that transformers 5 merged into the model itself.
if not hasattr(CLIPTextModel(CLIPTextConfig(num_hidden_layers=1, vocab_size=8)), "text_model"):
    CLIPTextModel.text_model = property(lambda self: self)

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "packages/models/fixtures/tokenizer"
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
PROMPTS = ["a red cat on top of a wooden table", "Two blue houses, it's raining!"]
NEGATIVE = ["a small dog", ""]


def rounded(model, gain=()):
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(tuple(gain)) and gain:
                value.mul_(1.2 if name.startswith("decoder") else 2)
            elif "norm" not in name and value.ndim > 1:
                value.mul_(1.5)
            value.copy_(value.half().float())
    return model.eval()


def text_config(projection=None, **extra):
    return CLIPTextConfig(vocab_size=1200, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                          num_attention_heads=4, max_position_embeddings=77, bos_token_id=1198, eos_token_id=1199,
                          pad_token_id=1199, projection_dim=projection or 32, **extra)


def autoencoder(scaling):
    return rounded(AutoencoderKL(block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4,
                                 down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                                 sample_size=64, scaling_factor=scaling), gain=("decoder.conv_out.weight",))


def stable_diffusion():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=4,
                                cross_attention_dim=32)
    return StableDiffusionPipeline(
        vae=autoencoder(0.18215), text_encoder=rounded(CLIPTextModel(text_config())),
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER), unet=rounded(unet, gain=("conv_out.weight",)),
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1, **BETAS), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)


def stable_diffusion_xl():
    torch.manual_seed(1)
    unet = UNet2DConditionModel(sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
                                transformer_layers_per_block=(1, 2), use_linear_projection=True,
                                cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
                                projection_class_embeddings_input_dim=24 + 6 * 8)
    second = CLIPTextModelWithProjection(text_config(24, hidden_act="gelu"))
    return StableDiffusionXLPipeline(
        vae=autoencoder(0.13025), text_encoder=rounded(CLIPTextModel(text_config())), text_encoder_2=rounded(second),
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER),
        tokenizer_2=CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!"),
        unet=rounded(unet, gain=("conv_out.weight",)),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **BETAS), add_watermarker=False)


def generators(seed):
    make = lambda value: torch.Generator().manual_seed(value)  # noqa: E731
    return [make(value) for value in seed] if isinstance(seed, list) else make(seed)


def run(pipe, scheduler, seed, **options):
    """Runs a pipeline; also records the summed squared difference of the two predictions at each step."""
    pipe.scheduler = scheduler
    sums, forward = [], pipe.unet.forward

    def recording(sample, timestep, **inputs):
        output = forward(sample, timestep, **inputs)
        halves = output[0].chunk(2)
        if options.get("guidance_scale", 7.5) > 1:
            sums.append((halves[1] - halves[0]).double().pow(2).sum(dim=(1, 2, 3)).float())
        return output

    pipe.unet.forward = recording
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(generator=generators(seed), output_type="latent", **options).images
    images = pipe(generator=generators(seed), output_type="np", **options).images
    pipe.unet.forward = forward
    tensors = dict(latents=latents.permute(0, 2, 3, 1).contiguous(), images=torch.from_numpy(images))
    if sums:
        tensors["mi"] = torch.stack(sums[:len(sums) // 2])
    return tensors


def switched(pipe, scheduler_class, **changes):
    """Another scheduler from the pipeline's config, as after loading it from a folder: there every key counts,
    while a config still in memory forgets those that had their default."""
    config = {key: value for key, value in pipe.scheduler.config.items() if key != "_use_default_values"}
    return scheduler_class.from_config({**config, **changes})


def sd_runs(pipe):
    pndm, ddim = switched(pipe, PNDMScheduler), switched(pipe, DDIMScheduler)
    ddpm, euler = switched(pipe, DDPMScheduler), switched(pipe, EulerDiscreteScheduler)
    velocity = switched(pipe, DDIMScheduler, prediction_type="v_prediction")
    for scheduler in (ddim, ddpm, velocity):
        # What the pipeline's constructor does to a scheduler it is given.
        scheduler.register_to_config(clip_sample=False)
    embeds = torch.randn(1, 77, 32, generator=torch.Generator().manual_seed(3))
    common = dict(num_inference_steps=6, guidance_scale=7.5, height=64, width=64)
    yield "pndm", {}, lambda: run(pipe, pndm, 42, prompt=PROMPTS, **common)
    yield "ddim", {}, lambda: run(pipe, ddim, 42, prompt=PROMPTS, negative_prompt=NEGATIVE, **{**common, "width": 48})
    yield "ddpm", {}, lambda: run(pipe, ddpm, 42, prompt=PROMPTS[:1], num_images_per_prompt=2, **common)
    yield "rescaled", {}, lambda: run(pipe, ddim, [1, 2], prompt=PROMPTS, guidance_rescale=0.7, **common)
    yield "skip", {}, lambda: run(pipe, euler, 5, prompt=PROMPTS[1:], clip_skip=1, **common)
    yield "velocity", {}, lambda: run(pipe, velocity, 6, prompt=PROMPTS, eta=0.4, **common)
    yield "unguided", dict(embeds=embeds), lambda: run(pipe, ddim, 7, prompt_embeds=embeds,
                                                       **{**common, "guidance_scale": 1.0})


def xl_runs(pipe):
    euler, ddim = switched(pipe, EulerDiscreteScheduler), switched(pipe, DDIMScheduler)
    common = dict(num_inference_steps=5, guidance_scale=5.0, height=64, width=64)
    yield "euler", {}, lambda: run(pipe, euler, 42, prompt=PROMPTS, **common)
    # DDIM clips by default, and nothing corrects that in this pipeline.
    yield "negative", {}, lambda: run(pipe, ddim, 8, prompt=PROMPTS, negative_prompt=NEGATIVE, **common)


def make(folder, pipe, runs):
    shutil.rmtree(folder, ignore_errors=True)
    tensors, seen = {}, []
    loaded = pipe.scheduler
    for name, inputs, execute in runs(pipe):
        result = {**inputs, **execute()}
        tensors.update({f"{name}.{key}": value.contiguous() for key, value in result.items()})
        seen.append(f"{name}: image std {result['images'].std():.3f}")
    pipe.scheduler = loaded
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)):
        if part is not None:
            part.half()
    pipe.save_pretrained(folder)
    save_file(tensors, folder / "expected.safetensors")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder.name}: {size} bytes; " + ", ".join(seen))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "packages/diffusion/fixtures")
    out = parser.parse_args().out
    torch.use_deterministic_algorithms(True)
    make(out / "sd", stable_diffusion(), sd_runs)
    make(out / "sdxl", stable_diffusion_xl(), xl_runs)
    (out / "pipelines.json").write_text(json.dumps(dict(diffusers=diffusers.__version__, torch=torch.__version__)) + "\n")


if __name__ == "__main__":
    main()
