"""Makes small random-weight models with diffusers and transformers, and what they compute.

Each fixture is one safetensors file: the weights in f16 under their own names with the prefix "w:", inputs
("in:"), outputs ("out:") and gradients ("grad:") in f32. The metadata holds the config and the scalar inputs.
The reference runs in f32 on weights that both f16 and bf16 hold exactly, so that both sides start from the same
numbers in every storage format.

Usage: python tools/parity/make_model_fixtures.py [OUTPUT_FOLDER]
Versions: tools/parity/requirements.txt
"""

import copy
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

FIXTURES = Path(__file__).resolve().parents[2] / "packages" / "models" / "fixtures"
# Set by the libraries for their own bookkeeping; different on every version.
VOLATILE = {"_use_default_values", "_name_or_path", "transformers_version", "dtype", "torch_dtype"}


def perturb(model, seed):
    """Moves every weight off its initial value (norms from 1 and 0 above all) and rounds it to 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            scale = 0.2 if weight.ndim < 2 else 0.02
            rounded = (weight + scale * noise).bfloat16().float()
            # Below 2^-17 the last bit of a bf16 is finer than f16's smallest step.
            rounded[rounded.abs() < 2**-17] = 0
            assert torch.equal(rounded.half().float(), rounded)
            weight.copy_(rounded)
    return model.eval()


def randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def nhwc(x):
    return x.permute(0, 2, 3, 1).contiguous()


def config_of(model):
    config = model.config
    raw = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    for section in (raw, raw.get("text_config"), raw.get("vision_config")):
        for key in VOLATILE & set(section or ()):
            del section[key]
    raw.setdefault("_class_name", type(model).__name__)
    return raw


def save(folder, name, model, tensors, scalars=None):
    state = {f"w:{key}": value.half() for key, value in model.state_dict().items() if value.dtype == torch.float32}
    data = {key: value.detach().float().contiguous() for key, value in tensors.items()}
    # One key: safetensors writes several in no fixed order, and regenerated files should be equal.
    fixture = {"config": config_of(model), "scalars": scalars or {}}
    metadata = {"fixture": json.dumps(fixture, sort_keys=True)}
    save_file({**state, **data}, folder / f"{name}.safetensors", metadata=metadata)


def gradients(model, loss, inputs, weights):
    """Gradients of a scalar with respect to named inputs and weights."""
    parameters = dict(model.named_parameters())
    targets = {**inputs, **{f"w:{name}": parameters[name] for name in weights}}
    values = torch.autograd.grad(loss, list(targets.values()))
    return {f"grad:{name}": value for name, value in zip(targets, values)}


# ||bf16 - f32|| / ||f32|| of the reference itself, by fixture and output: what bf16 costs PyTorch.
BF16_ERRORS = {}


def note_bf16(name, key, model, run, expected):
    """Runs the reference in bf16 and notes how far it is from f32."""
    with torch.no_grad():
        actual = run(copy.deepcopy(model).bfloat16(), torch.bfloat16).float()
    BF16_ERRORS.setdefault(name, {})[key] = ((actual - expected).norm() / expected.norm()).item()


def unet_fixture(folder, name, config, *, size, timesteps, tokens, seed, added=False, guided=False):
    torch.manual_seed(seed)
    model = perturb(UNet2DConditionModel(**config), seed)
    batch = len(timesteps)
    sample = randn(batch, config["in_channels"], *size, seed=seed + 1).requires_grad_()
    context = randn(batch, tokens, config["cross_attention_dim"], seed=seed + 2).requires_grad_()
    extra, tensors, scalars = {}, {}, {"timesteps": timesteps}
    if added:
        width = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        pooled = randn(batch, width, seed=seed + 3).requires_grad_()
        scalars["time_ids"] = [[64.0 + 8 * i, 96.0, 3.0 * i, 5.0, 64.0, 80.0] for i in range(batch)]
        extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.tensor(scalars["time_ids"])}}
        tensors["in:text_embeds"] = pooled
    out = model(sample, torch.tensor(timesteps), context, **extra).sample

    def run(model, dtype):
        cast = {key: value.to(dtype) for key, value in extra.get("added_cond_kwargs", {}).items()}
        conditions = {"added_cond_kwargs": cast} if cast else {}
        return model(sample.to(dtype), torch.tensor(timesteps), context.to(dtype), **conditions).sample

    note_bf16(name, "out:sample", model, run, out)
    probe = randn(*out.shape, seed=seed + 4)
    inputs = {"sample": sample, "context": context}
    if added:
        inputs["text_embeds"] = pooled
    block = "down_blocks.1.attentions.0.transformer_blocks.0"
    weights = [
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        f"{block}.attn1.to_q.weight",
        f"{block}.attn2.to_k.weight",
        f"{block}.ff.net.0.proj.bias",
        "down_blocks.1.attentions.0.proj_in.weight",
        "down_blocks.0.downsamplers.0.conv.weight",
        "up_blocks.0.resnets.0.conv_shortcut.weight",
        "up_blocks.1.resnets.0.norm1.weight",
    ]
    grads = gradients(model, (out * probe).sum(), inputs, weights)
    for key in ("grad:sample",):
        grads[key] = nhwc(grads[key])
    if guided:
        # One latent for two texts at one timestep: the shape of classifier-free guidance.
        with torch.no_grad():
            doubled = sample[:1].expand(2, -1, -1, -1)
            tensors["out:guided"] = nhwc(model(doubled, timesteps[0], context[:2]).sample)
    tensors |= {"in:sample": nhwc(sample), "in:context": context, "in:probe": nhwc(probe), "out:sample": nhwc(out)}
    save(folder, name, model, {**tensors, **grads}, scalars)


def unets(folder):
    shared = dict(in_channels=4, out_channels=4, norm_num_groups=8)
    unet_fixture(
        folder,
        "unet-sd1",
        dict(
            shared,
            sample_size=8,
            block_out_channels=(16, 32, 32, 32),
            layers_per_block=2,
            cross_attention_dim=24,
            attention_head_dim=4,
        ),
        size=(8, 8),
        timesteps=[981, 7],
        tokens=7,
        seed=101,
        guided=True,
    )
    unet_fixture(
        folder,
        "unet-sd2",
        dict(
            shared,
            sample_size=8,
            block_out_channels=(16, 32, 32),
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=32,
            attention_head_dim=(2, 4, 4),
            use_linear_projection=True,
            upcast_attention=True,
        ),
        # Odd sides: the upsamplers must follow the skip connections.
        size=(9, 7),
        timesteps=[500, 500],
        tokens=5,
        seed=202,
        guided=True,
    )
    unet_fixture(
        folder,
        "unet-sdxl",
        dict(
            shared,
            sample_size=16,
            block_out_channels=(16, 32, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=40,
            attention_head_dim=(2, 4, 8),
            transformer_layers_per_block=(1, 2, 3),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24 + 6 * 8,
        ),
        size=(12, 8),
        timesteps=[999, 250],
        tokens=6,
        seed=303,
        added=True,
    )


def autoencoder(folder):
    torch.manual_seed(404)
    model = perturb(
        AutoencoderKL(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=2,
            norm_num_groups=4,
            sample_size=32,
        ),
        404,
    )
    image = (randn(2, 3, 16, 24, seed=405) * 0.5).requires_grad_()
    moments = model.encode(image).latent_dist.parameters
    noise = randn(2, 4, 4, 6, seed=406)
    posterior = model.encode(image).latent_dist
    latent_sample = posterior.mean + posterior.std * noise
    latents = randn(2, 4, 4, 6, seed=407).requires_grad_()
    decoded = model.decode(latents).sample
    note_bf16("vae", "out:moments", model, lambda m, t: m.encode(image.to(t)).latent_dist.parameters, moments)
    note_bf16("vae", "out:decoded", model, lambda m, t: m.decode(latents.to(t)).sample, decoded)
    encode_probe, decode_probe = randn(*moments.shape, seed=408), randn(*decoded.shape, seed=409)
    encode_weights = ["encoder.conv_in.weight", "encoder.down_blocks.0.downsamplers.0.conv.weight", "quant_conv.weight"]
    decode_weights = ["decoder.mid_block.attentions.0.to_q.weight", "decoder.up_blocks.1.resnets.0.conv1.weight"]
    grads = gradients(model, (moments * encode_probe).sum(), {"image": image}, encode_weights)
    grads |= gradients(model, (decoded * decode_probe).sum(), {"latents": latents}, decode_weights)
    large = randn(1, 4, 15, 11, seed=410)
    large_image = randn(1, 3, 60, 44, seed=411) * 0.5
    with torch.no_grad():
        tiled = model.tiled_decode(large).sample
        model.enable_tiling()
        tiled_moments = model.encode(large_image).latent_dist.parameters
    tensors = {
        "in:image": image,
        "in:noise": noise,
        "in:latents": latents,
        "in:encode_probe": encode_probe,
        "in:decode_probe": decode_probe,
        "in:large": large,
        "in:large_image": large_image,
        "out:moments": moments,
        "out:latent_sample": latent_sample,
        "out:decoded": decoded,
        "out:tiled": tiled,
        "out:tiled_moments": tiled_moments,
        **{key: value for key, value in grads.items() if not key.startswith("grad:w:")},
    }
    tensors = {key: nhwc(value) for key, value in tensors.items()}
    save(folder, "vae", model, {**tensors, **{k: v for k, v in grads.items() if k.startswith("grad:w:")}})


TEXT = dict(vocab_size=64, max_position_embeddings=12, hidden_size=32, intermediate_size=64, num_attention_heads=4)
IDS = [[61, 5, 9, 17, 62, 62, 62, 62, 62, 62, 62, 62], [61, 3, 40, 2, 33, 33, 8, 50, 62, 0, 0, 0]]


def text_fixture(folder, name, model_class, config, seed, ids=IDS):
    torch.manual_seed(seed)
    model = perturb(model_class(CLIPTextConfig(**{**TEXT, **config})), seed)
    table = model.get_input_embeddings().weight
    out = model(torch.tensor(ids), output_hidden_states=True)
    tensors = {f"out:hidden.{i}": state for i, state in enumerate(out.hidden_states)}
    tensors["out:last"] = out.last_hidden_state
    tensors["out:pooled"] = out.text_embeds if hasattr(out, "text_embeds") else out.pooler_output
    note_bf16(name, "out:last", model, lambda m, _: m(torch.tensor(ids)).last_hidden_state, out.last_hidden_state)
    probes = {"last": randn(*out.last_hidden_state.shape, seed=seed + 1)}
    probes["pooled"] = randn(*tensors["out:pooled"].shape, seed=seed + 2)
    loss = (out.last_hidden_state * probes["last"]).sum() + (tensors["out:pooled"] * probes["pooled"]).sum()
    names = [n for n, p in model.named_parameters() if p is table or n.endswith("layers.0.self_attn.v_proj.weight")]
    names += [n for n, _ in model.named_parameters() if n.endswith("layers.1.mlp.fc1.bias")]
    grads = gradients(model, loss, {}, names)
    inputs = {f"in:{key}_probe": value for key, value in probes.items()}
    save(folder, name, model, {**inputs, **tensors, **grads}, {"ids": ids})


def clip(folder):
    small = dict(num_hidden_layers=3, bos_token_id=61, eos_token_id=62, pad_token_id=62)
    text_fixture(folder, "clip-text-l", CLIPTextModel, dict(small, hidden_act="quick_gelu", eos_token_id=2), 501)
    text_fixture(folder, "clip-text-h", CLIPTextModel, dict(small, hidden_act="gelu", pad_token_id=0), 502)
    text_fixture(
        folder,
        "clip-text-projected",
        CLIPTextModelWithProjection,
        dict(small, hidden_act="gelu", projection_dim=20, pad_token_id=0),
        503,
    )
    vision = dict(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=12,
        patch_size=4,
        projection_dim=20,
    )
    pixels = randn(2, 3, 12, 12, seed=504).requires_grad_()
    for name, model_class, key in (
        ("clip-vision", CLIPVisionModel, "pooler_output"),
        ("clip-vision-projected", CLIPVisionModelWithProjection, "image_embeds"),
    ):
        torch.manual_seed(505)
        model = perturb(model_class(CLIPVisionConfig(**vision)), 505)
        out = model(pixels)
        note_bf16(name, "out:last", model, lambda m, t: m(pixels.to(t)).last_hidden_state, out.last_hidden_state)
        probe = randn(*getattr(out, key).shape, seed=506)
        weights = [n for n, _ in model.named_parameters() if n.endswith(("class_embedding", "patch_embedding.weight"))]
        grads = gradients(model, (getattr(out, key) * probe).sum(), {"pixels": pixels}, weights)
        grads["grad:pixels"] = nhwc(grads["grad:pixels"])
        tensors = {"in:pixels": nhwc(pixels), "in:probe": probe, "out:pooled": getattr(out, key)}
        save(folder, name, model, {**tensors, "out:last": out.last_hidden_state, **grads})
    torch.manual_seed(507)
    model = perturb(
        CLIPModel(CLIPConfig(text_config={**TEXT, **small}, vision_config=vision, projection_dim=20)), 507
    )
    with torch.no_grad():
        out = model(input_ids=torch.tensor(IDS), pixel_values=pixels)
    outputs = {
        "out:text_embeds": out.text_embeds,
        "out:image_embeds": out.image_embeds,
        "out:logits_per_image": out.logits_per_image,
    }
    save(folder, "clip", model, {"in:pixels": nhwc(pixels), **outputs}, {"ids": IDS})


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURES
    folder.mkdir(parents=True, exist_ok=True)
    # One thread: how sums are split among threads would change their last bits.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for make in (unets, autoencoder, clip):
        make(folder)
    (folder / "bf16.json").write_text(json.dumps(BF16_ERRORS, indent=2, sort_keys=True) + "\n")
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>9} {path.name}")


if __name__ == "__main__":
    main()
