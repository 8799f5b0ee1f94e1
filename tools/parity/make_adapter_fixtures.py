"""Makes the fixtures of packages/adapters with the real diffusers, transformers and PEFT.

    python tools/parity/make_adapter_fixtures.py

The model and most adapters are the fixtures of packages/weights; here are what PEFT computes with them: outputs,
gradients, merged weights, several adapters at once. One further adapter covers convolutions of size 1.
"""

import math
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "packages" / "weights" / "fixtures"
OUT = ROOT / "packages" / "adapters" / "fixtures"
PREFIX = "base_model.model."


def unet():
    return UNet2DConditionModel.from_pretrained(WEIGHTS / "pipeline" / "unet", variant="fp16").float().eval()


def randomize(model, seed, std):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora" in name:
                noise = torch.randn(parameter.shape, generator=generator)
                # Magnitudes stay near the norms they start from.
                parameter.add_(0.2 * noise) if "magnitude" in name else parameter.copy_(std * noise)


def convolution_adapter():
    config = LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=["proj_in", "proj_out", "attn2.to_v", "conv_shortcut"])
    model = get_peft_model(unet(), config)
    randomize(model, 7, 0.4)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        (OUT / "dora-pointwise").mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(Path(folder) / name, OUT / "dora-pointwise" / name)


class Recorder:
    def __init__(self):
        generator = torch.Generator().manual_seed(11)
        self.sample = torch.randn(2, 4, 8, 8, generator=generator)
        self.context = torch.randn(2, 5, 8, generator=generator)
        self.weights = torch.randn(2, 4, 8, 8, generator=generator)
        self.timestep = 501
        # Images are channels-last here.
        last = (0, 2, 3, 1)
        self.tensors = {"sample": self.sample.permute(last), "context": self.context, "weights": self.weights.permute(last)}

    def forward(self, model):
        return model(self.sample, self.timestep, self.context).sample

    def output(self, name, model):
        with torch.no_grad():
            self.tensors[f"{name}.output"] = self.forward(model).permute(0, 2, 3, 1)

    def gradients(self, name, model):
        for key, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in key)
        (self.forward(model) * self.weights).sum().backward()
        for key, parameter in model.named_parameters():
            if parameter.grad is not None:
                module, part = key.removeprefix(PREFIX).split(".lora_", 1)
                part = {"A": "down", "B": "up", "m": "magnitude"}[part[0]]
                gradient = parameter.grad.flatten(1) if part != "magnitude" else parameter.grad.flatten()
                self.tensors[f"{name}.gradient.{module}.{part}"] = gradient

    def merged(self, name, model, adapters=None):
        model.base_model.merge_adapter(adapters)
        self.output(f"{name}.merged", model)
        for key, module in model.named_modules():
            if isinstance(module, LoraLayer) and module.merged:
                weight = module.get_base_layer().weight.detach()
                self.tensors[f"{name}.merged.{key.removeprefix(PREFIX)}"] = weight.flatten(1).clone()


def single(record):
    adapters = {"dora": WEIGHTS / "adapters" / "dora-peft", "lora": WEIGHTS / "adapters" / "lora-peft-patterns"}
    adapters["pointwise"] = OUT / "dora-pointwise"
    for name, folder in adapters.items():
        model = PeftModel.from_pretrained(unet(), folder).eval()
        if name == "lora":
            # At its full weight the model is chaotic: rounding shows in the third digit.
            scale(model, {"default": 0.05})
        record.output(name, model)
        record.gradients(name, model)
        record.merged(name, model)


def scale(model, weights):
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name, weight in weights.items():
                if name in module.scaling:
                    before = module.scaling[name]
                    module.set_scale(name, weight)
                    assert math.isclose(module.scaling[name], weight * before)


def several(record):
    """Order matters for DoRA: each acts on the result of those before it."""
    folders = {"dora": WEIGHTS / "adapters" / "dora-peft", "lora": WEIGHTS / "adapters" / "lora-peft-patterns"}
    folders["pointwise"] = OUT / "dora-pointwise"
    for order in (["dora", "lora", "pointwise"], ["lora", "dora", "pointwise"]):
        first, *rest = order
        model = PeftModel.from_pretrained(unet(), folders[first], adapter_name=first)
        for name in rest:
            model.load_adapter(folders[name], adapter_name=name)
        model.base_model.set_adapter(order)
        scale(model, {"dora": 0.7, "lora": -0.1, "pointwise": 0.25})
        model.eval()
        name = "-".join(order)
        record.output(name, model)
        if order[0] == "dora":
            record.gradients(name, model)
            record.merged(name, model, order)
            for key in [key for key in record.tensors if ".gradient." in key and key.startswith(f"{name}.")]:
                del record.tensors[key]
    model = PeftModel.from_pretrained(unet(), folders["dora"], adapter_name="dora").eval()
    scale(model, {"dora": 0.0})
    record.output("dora-zero", model)


def text_encoder(record):
    model = CLIPTextModel.from_pretrained(WEIGHTS / "pipeline" / "text_encoder").eval()
    ids = torch.tensor([[0, 5, 17, 33, 2, 1, 1, 1], [0, 9, 8, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        record.tensors["text.plain"] = model(ids).last_hidden_state
    model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "v_proj"]))
    state = load_file(WEIGHTS / "adapters" / "lora-unet-text" / "pytorch_lora_weights.safetensors")
    parameters = {key.removeprefix("text_model."): value for key, value in model.named_parameters() if "lora_" in key}
    assert len(parameters) > 0
    for key, parameter in parameters.items():
        module, part = key.split(".lora_", 1)
        direction = "down" if part[0] == "A" else "up"
        with torch.no_grad():
            parameter.copy_(state[f"text_encoder.text_model.{module}.lora_linear_layer.{direction}.weight"])
    with torch.no_grad():
        record.tensors["text.output"] = model(ids).last_hidden_state
    record.tensors["text.ids"] = ids.int()


def main():
    warnings.filterwarnings("ignore")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    convolution_adapter()
    record = Recorder()
    record.output("plain", unet())
    single(record)
    several(record)
    text_encoder(record)
    tensors = {key: value.detach().contiguous() for key, value in record.tensors.items()}
    save_file(tensors, OUT / "expected.safetensors")
    def distance(a, b):
        return (tensors[f"{a}.output"] - tensors[f"{b}.output"]).abs().max().item()

    for name in ("dora", "lora", "pointwise", "dora-lora-pointwise"):
        print(f"{name}: merged differs by {distance(name, f'{name}.merged'):.2e}, unadapted by {distance(name, 'plain'):.2e}")
        assert distance(name, f"{name}.merged") < 5e-5 and distance(name, "plain") > 0.05
    size = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file())
    print(f"{size} bytes in {OUT.name}")
    assert size <= 400_000, "the fixtures must stay within 400 kB"


if __name__ == "__main__":
    main()
