"""Writes keys.json.gz: the configs of the full-size architectures, and the names and shapes of their weights.

The models are built without memory for their weights.

Usage: python tools/parity/make_model_keys.py [OUTPUT_FOLDER]
Versions: tools/parity/requirements.txt
"""

import gzip
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from make_model_fixtures import FIXTURES, config_of
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModel,
)


def tower(hidden, inner, layers, heads, act="quick_gelu", **more):
    """The sizes of one side of a CLIP model."""
    sizes = dict(hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads)
    return dict(sizes, hidden_act=act, **more)


def architectures():
    sd = dict(cross_attention_dim=768)
    sd21 = dict(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True)
    sdxl = dict(
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    vae = dict(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=512,
    )
    large_text, large_vision = tower(768, 3072, 12, 12), tower(1024, 4096, 24, 16, patch_size=14)
    base = CLIPConfig(projection_dim=512)
    large = CLIPConfig(text_config=large_text, vision_config=large_vision, projection_dim=768)
    big = tower(1280, 5120, 32, 20, "gelu", projection_dim=1280)
    with torch.device("meta"):
        return {
            "unet-sd15": UNet2DConditionModel(**sd),
            "unet-sd21": UNet2DConditionModel(**sd21),
            "unet-sdxl": UNet2DConditionModel(**sdxl),
            "vae": AutoencoderKL(**vae),
            "clip-text-l14": CLIPTextModel(CLIPTextConfig(**large_text)),
            "clip-text-h14": CLIPTextModel(CLIPTextConfig(**tower(1024, 4096, 23, 16, "gelu"))),
            "clip-text-bigg": CLIPTextModelWithProjection(CLIPTextConfig(**big)),
            "clip-vision-l14": CLIPVisionModel(CLIPVisionConfig(**large_vision)),
            "clip-l14": CLIPModel(large),
            "clip-b32": CLIPModel(base),
        }


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURES
    folder.mkdir(parents=True, exist_ok=True)
    dump = {}
    for name, model in architectures().items():
        keys = {key: list(value.shape) for key, value in model.state_dict().items()}
        dump[name] = {"config": config_of(model), "keys": keys}
    text = json.dumps(dump, separators=(",", ":"), sort_keys=True)
    (folder / "keys.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main()
