"""Full-size models on diffusers and transformers: makes folders of random weights, loads them, times forwards.

    python torch_models.py make FOLDER     writes FOLDER/{unet,text_encoder,vae} in bf16, as save_pretrained does
    python torch_models.py serve           answers requests, one JSON a line in, one JSON a line out

Requests: {"op": "load", "folder": ..., "model": "unet" | "text" | "vae", "layout": "default" | "channels_last",
"threads": int} and {"op": "run", "batch": int}. Answers: {"seconds": float, "peakBytes": int} or {"error": text};
the peak is the largest resident size of this process so far, as the kernel counts it (VmHWM).
"""

import json
import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch  # noqa: E402

# Stable Diffusion 2.1 base, its VAE, and the text tower of CLIP ViT-L/14.
UNET = dict(
    sample_size=64, in_channels=4, out_channels=4, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
    down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True,
)
VAE = dict(
    sample_size=512, block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)
TEXT = dict(
    vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
    max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768, eos_token_id=49407,
)


def make(folder):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    UNet2DConditionModel(**UNET).save_pretrained(os.path.join(folder, "unet"))
    AutoencoderKL(**VAE).save_pretrained(os.path.join(folder, "vae"))
    CLIPTextModel(CLIPTextConfig(**TEXT)).save_pretrained(os.path.join(folder, "text_encoder"))


def peak_bytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


class Server:
    def load(self, folder, model, layout, threads):
        torch.set_num_threads(threads)
        self.model = model
        if model == "unet":
            from diffusers import UNet2DConditionModel as Class
        elif model == "vae":
            from diffusers import AutoencoderKL as Class
        else:
            from transformers import CLIPTextModel as Class
        name = "text_encoder" if model == "text" else model
        start = time.perf_counter()
        self.module = Class.from_pretrained(os.path.join(folder, name), dtype=torch.bfloat16) if model == "text" else (
            Class.from_pretrained(os.path.join(folder, name), torch_dtype=torch.bfloat16))
        seconds = time.perf_counter() - start
        self.module.eval()
        if layout == "channels_last":
            self.module.to(memory_format=torch.channels_last)
        self.format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        return seconds

    def image(self, *shape):
        return torch.randn(*shape, dtype=torch.bfloat16).contiguous(memory_format=self.format)

    def run(self, batch):
        if self.model == "unet":
            latents, context = self.image(batch, 4, 64, 64), torch.randn(batch, 77, 1024, dtype=torch.bfloat16)
            call = lambda: self.module(latents, 501, context).sample  # noqa: E731
        elif self.model == "vae":
            latents = self.image(batch, 4, 64, 64)
            call = lambda: self.module.decode(latents).sample  # noqa: E731
        else:
            ids = torch.randint(0, 49406, (batch, 77))
            call = lambda: self.module(ids).last_hidden_state  # noqa: E731
        with torch.inference_mode():
            start = time.perf_counter()
            call()
            return time.perf_counter() - start


def serve():
    server = Server()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            seconds = getattr(server, request.pop("op"))(**request)
            reply = {"seconds": seconds, "peakBytes": peak_bytes()}
        except Exception as error:  # the benchmark reports it
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    make(sys.argv[2]) if sys.argv[1] == "make" else serve()
