"""Makes the fixtures of packages/weights with the real safetensors, diffusers, transformers and PEFT.

Run with a Python that has torch, safetensors, diffusers, transformers and peft:

    python tools/parity/make_weights_fixtures.py

Everything is small, random and seeded. A second run rewrites the same tensors; files with more than one
metadata key may differ in the order of those keys, which upstream leaves open.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

OUT = Path(__file__).resolve().parents[2] / "packages" / "weights" / "fixtures"
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]


def values(*shape, dtype=torch.float32):
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(*shape).to(dtype)
    return torch.randint(0, 100, shape).to(dtype)


def containers():
    folder = OUT / "containers"
    folder.mkdir(parents=True)
    example = {
        "b.w": values(2, 3),
        "a.w": values(4, dtype=torch.float16),
        "c": values(2, dtype=torch.int64),
        "d": values(3, dtype=torch.uint8),
    }
    save_file(example, folder / "example.safetensors", metadata={"format": "pt"})
    types = {
        "bool": torch.tensor([True, False, True]),
        "u8": values(3, dtype=torch.uint8),
        "i8": values(1, dtype=torch.int8),
        "f8_e5m2": values(2, dtype=torch.float8_e5m2),
        "f8_e4m3": values(3, dtype=torch.float8_e4m3fn),
        "i16": values(3, dtype=torch.int16),
        "u16": values(3).abs().to(torch.uint16),
        "f16": values(2, 2, dtype=torch.float16),
        "bf16": values(5, dtype=torch.bfloat16),
        "i32": values(2, dtype=torch.int32),
        "u32": values(2).abs().to(torch.uint32),
        "f32": values(1, 3, 1),
        "c64": values(2, dtype=torch.complex64),
        "f64": values(2, dtype=torch.float64),
        "i64": values(1, dtype=torch.int64),
        "u64": values(1).abs().to(torch.uint64),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "empty too": torch.zeros(2, 0, dtype=torch.float16),
        'quote " slash \\ tab \t nul \x00 del \x7f': values(1),
        "\uff5e\u00e9\u4e2d": values(1),
        "\U0001f600": values(1),
        "\u2028": values(1),
    }
    save_file(types, folder / "types.safetensors")
    save_file({}, folder / "empty.safetensors")
    save_file({"x": values(1)}, folder / "odd-metadata.safetensors", metadata={"k\u00e9y\n": '{"a": "\u2028"}'})
    two = {"format": "pt", "note": "two keys"}
    save_file({"x": values(1)}, folder / "two-metadata.safetensors", metadata=two)


def conversions():
    special = [0.0, -0.0, 1.0, float("inf"), float("-inf"), float("nan"), 65504.0, 65519.99, 65520.0, 65536.0, 3.4e38]
    special += [2.0**-14, 2.0**-24, 2.0**-25, 2.0**-25 * 1.0001, 2.0**-26, 1.5 * 2.0**-24, 2.5 * 2.0**-24, 1e-45, 6.1e-5]
    special += [1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-11 - 2.0**-23, 3.3895e38]
    exponents = torch.randint(-40, 40, (400,)).float()
    x = torch.cat([torch.tensor(special), torch.randn(400) * 2.0**exponents, torch.randn(200)])
    half = x.to(torch.float16)
    brain = x.to(torch.bfloat16)
    tensors = {"x": x, "f16": half, "bf16": brain, "f16.f32": half.float(), "bf16.f32": brain.float()}
    save_file(tensors, OUT / "containers" / "conversions.safetensors")


def tiny_unet():
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def tiny_text_config():
    return CLIPTextConfig(
        vocab_size=40,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=8,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def rename_keys(path, rename, metadata=None):
    tensors = {rename(key): value for key, value in load_file(path).items()}
    save_file(tensors, path, metadata=metadata or {"format": "pt"})


def legacy_attention(key):
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    return key


def pipeline():
    """A pipeline folder: unet in float16 only, sharded; vae with the old attention names; text encoder without prefix."""
    folder = OUT / "pipeline"
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4, layers_per_block=1, sample_size=8)
    text = CLIPTextModel(tiny_text_config())
    unet = tiny_unet().half()
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=None,
        unet=unet,
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet", max_shard_size="20KB", variant="fp16")
    vae_file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    modern = load_file(vae_file)
    rename_keys(vae_file, legacy_attention)
    loaded = AutoencoderKL.from_pretrained(folder / "vae").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in modern.items())
    save_shapes(folder / "shapes.json", unet=unet, vae=vae, text_encoder=prefixed(text))


def prefixed(text):
    state = text.state_dict()
    state = {key: value for key, value in state.items() if not key.endswith("position_ids")}
    return {key if key.startswith("text_model.") else f"text_model.{key}": value for key, value in state.items()}


def save_shapes(path, **models):
    table = {}
    for name, model in models.items():
        state = model if isinstance(model, dict) else model.state_dict()
        table[name] = {key: list(value.shape) for key, value in state.items()}
    path.write_text(json.dumps(table, indent=1) + "\n")


def randomize(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                parameter.copy_(torch.randn_like(parameter))


def old_processor(key):
    """`<attn>.to_q.lora_A.weight` as the first attention processors spelled it."""
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        for new, old in (("lora_A", "down"), ("lora_B", "up")):
            old_name = name.removesuffix(".0")
            key = key.replace(f".{name}.{new}.", f".processor.{old_name}_lora.{old}.")
    return key


def kohya(state, alpha, dora):
    result = {}
    for key, value in state.items():
        module, kind = key.rsplit(".lora_", 1)
        flat = "lora_unet_" + module.replace(".", "_")
        if kind == "A.weight":
            result[f"{flat}.lora_down.weight"] = value
            result[f"{flat}.alpha"] = torch.tensor(float(alpha))
        elif kind == "B.weight":
            result[f"{flat}.lora_up.weight"] = value
        elif dora:
            result[f"{flat}.dora_scale"] = value[:, None]
    return {key: value.contiguous() for key, value in result.items()}


def adapters():
    folder = OUT / "adapters"
    folder.mkdir(parents=True)
    config = dict(r=2, lora_alpha=4, init_lora_weights="gaussian", target_modules=TARGETS)

    unet = tiny_unet()
    unet.add_adapter(LoraConfig(use_dora=True, **config))
    randomize(unet)
    state = get_peft_model_state_dict(unet)
    layers = convert_state_dict_to_diffusers(state)
    save = StableDiffusionPipeline.save_lora_weights
    save(folder / "dora-diffusers", unet_lora_layers=layers, safe_serialization=True)
    described = _collate_lora_metadata({"unet": unet})
    save(folder / "dora-diffusers-described", unet_lora_layers=layers, safe_serialization=True, **described)
    unet.save_lora_adapter(folder / "dora-adapter")
    plain = {key: value.contiguous() for key, value in state.items()}
    save_file(kohya(plain, 4, dora=True), folder / "dora-kohya.safetensors")
    without = {key: value for key, value in plain.items() if "magnitude" not in key}
    save_file({old_processor(key): value for key, value in without.items()}, folder / "lora-processors.safetensors")

    model = get_peft_model(tiny_unet(), LoraConfig(use_dora=True, **config))
    model.load_state_dict({f"base_model.model.{k}": v for k, v in with_adapter_name(state).items()}, strict=False)
    model.save_pretrained(folder / "dora-peft")

    mixed = tiny_unet()
    patterns = dict(rank_pattern={"attn2.to_q": 3, "to_v": 1}, alpha_pattern={"attn2.to_q": 6})
    model = get_peft_model(mixed, LoraConfig(use_rslora=True, **patterns, **config))
    randomize(model)
    model.save_pretrained(folder / "lora-peft-patterns")
    scaling = {
        name.removeprefix("base_model.model."): module.scaling["default"]
        for name, module in model.named_modules()
        if hasattr(module, "scaling") and "default" in module.scaling
    }
    (folder / "lora-peft-patterns.scaling.json").write_text(json.dumps(scaling, indent=1, sort_keys=True) + "\n")

    text = CLIPTextModel(tiny_text_config())
    text.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "v_proj"]))
    randomize(text)
    text_state = {
        key if key.startswith("text_model.") else f"text_model.{key}": value
        for key, value in get_peft_model_state_dict(text).items()
    }
    lora = {key: value for key, value in layers.items() if "magnitude" not in key}
    text_layers = convert_state_dict_to_diffusers(text_state)
    save(folder / "lora-unet-text", unet_lora_layers=lora, text_encoder_lora_layers=text_layers, safe_serialization=True)


def with_adapter_name(state):
    renamed = {}
    for key, value in state.items():
        if key.endswith(".weight"):
            renamed[key.removesuffix(".weight") + ".default.weight"] = value
        else:
            renamed[key + ".default.weight"] = value
    return renamed


def main():
    torch.manual_seed(20)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    containers()
    conversions()
    pipeline()
    adapters()
    # Model cards that the savers add are of no use here.
    for card in OUT.rglob("README.md"):
        card.unlink()
    size = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file())
    print(f"{size} bytes in {OUT.name}")
    assert size <= 300_000, "the fixtures must stay within 300 kB"


if __name__ == "__main__":
    main()
