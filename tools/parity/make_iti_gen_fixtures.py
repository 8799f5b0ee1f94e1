"""Ten ITI-GEN updates in PyTorch with autograd, on the small CLIP of the model fixtures.

The text tower is run by hand on embeddings (checked against transformers' own forward), all positions each time; the
losses follow the published formulas pair by pair. Written for comparison with packages/iti-gen.

Usage: python tools/parity/make_iti_gen_fixtures.py
Versions: tools/parity/requirements.txt
"""

import itertools
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
CATEGORIES = [2, 3]
PER_CATEGORY = 4
TOKENS = 3
PROMPT = [5, 17, 9]  # content ids
UPDATES, RATE, DECAY_AFTER, DECAY, LAMBDA = 10, 0.01, 4, 0.5, 0.8


def load_clip():
    with safe_open(PACKAGES / "models" / "fixtures" / "clip.safetensors", "pt") as file:
        metadata = file.metadata()
        config = json.loads(metadata["fixture"])["config"]
        weights = {k[2:]: file.get_tensor(k).float() for k in file.keys() if k.startswith("w:")}
    model = CLIPModel(CLIPConfig(**{k: v for k, v in config.items() if not k.startswith("_")}))
    model.load_state_dict(weights)
    return model.eval()


class Tower:
    """CLIP's text tower on embeddings that may be anything."""

    def __init__(self, model):
        self.model, self.text = model, model.text_model
        self.config = model.config.text_config
        self.act = {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "gelu": F.gelu}[self.config.hidden_act]

    def embed(self, ids):
        e = self.text.embeddings
        return e.token_embedding(ids) + e.position_embedding.weight[: ids.shape[1]]

    def states(self, x):
        heads = self.config.num_attention_heads
        for layer in self.text.encoder.layers:
            h, a = layer.layer_norm1(x), layer.self_attn
            q, k, v = (p(h).unflatten(2, (heads, -1)).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
            x = x + a.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
            x = x + layer.mlp.fc2(self.act(layer.mlp.fc1(layer.layer_norm2(x))))
        return self.text.final_layer_norm(x)

    def feature(self, x, position):
        return self.model.text_projection(self.states(x)[:, position])


def layout(tower, compat, bos, eos, pad, length):
    """(embeddings with empty slots, start of the slots, plain ids)."""
    fill = 0 if compat == "reference" else pad
    plain = torch.full((1, length), fill)
    plain[0, : len(PROMPT) + 2] = torch.tensor([bos, *PROMPT, eos])
    start = len(PROMPT) + 1
    ids = plain.clone()
    ids[0, start] = fill
    if compat == "paper":
        ids[0, start + TOKENS] = eos
    base = tower.embed(ids).clone()
    positions = tower.text.embeddings.position_embedding.weight[start : start + TOKENS]
    base[0, start : start + TOKENS] = positions if compat == "paper" else 0
    return base.detach(), start, plain


def loss_of(attribute, text, original, means):
    """Published loss of one attribute, pair by pair, with its cosine replacement."""
    text = F.normalize(text, dim=-1)
    combos = list(itertools.product(*[range(k) for k in CATEGORIES]))
    k = CATEGORIES[attribute]
    contexts = sorted({c[:attribute] + c[attribute + 1 :] for c in combos})
    row = {c: i for i, c in enumerate(combos)}
    at = lambda ctx, cat: text[row[ctx[:attribute] + (cat,) + ctx[attribute:]]]
    direction, consistency = torch.zeros(()), torch.zeros(())
    broken = False
    for i, j in itertools.combinations(range(k), 2):
        d_img = means[i] - means[j]
        for ctx in contexts:
            d_txt = at(ctx, i) - at(ctx, j)
            if d_txt.norm() <= 1e-6:
                broken = True
            else:
                direction = direction + (1 - F.cosine_similarity(d_img, d_txt, dim=0)) / len(contexts) / (k - 1)
            closeness = (original @ at(ctx, i) + original @ at(ctx, j)) / 2
            consistency = consistency + F.relu(LAMBDA - closeness) / len(contexts) / (k - 1)
    if broken:
        direction = sum(1 - text[row[c]] @ means[c[attribute]] for c in combos) / len(contexts)
    return direction, consistency


def run(tower, compat, features, bos, eos, pad, length):
    base, start, plain = layout(tower, compat, bos, eos, pad, length)
    original = F.normalize(tower.feature(tower.embed(plain), plain[0].tolist().index(eos))[0], dim=-1).detach()
    width = tower.config.hidden_size
    tokens = [torch.zeros(k, TOKENS, width, requires_grad=True) for k in CATEGORIES]
    optimizers = [torch.optim.Adam([t], lr=RATE) for t in tokens]
    schedules = [torch.optim.lr_scheduler.MultiStepLR(o, [DECAY_AFTER], DECAY) for o in optimizers]
    combos = list(itertools.product(*[range(k) for k in CATEGORIES]))
    out, losses = {}, []
    for update in range(UPDATES):
        for a in range(len(CATEGORIES)):
            sums = torch.stack([sum(t[c[i]] for i, t in enumerate(tokens)) for c in combos])
            x = torch.cat([base[:, :start].expand(len(combos), -1, -1), base[:, start : start + TOKENS] + sums,
                           base[:, start + TOKENS :].expand(len(combos), -1, -1)], 1)
            text = tower.feature(x, start + TOKENS)
            direction, consistency = loss_of(a, text, original, features[a].mean(1))
            optimizers[a].zero_grad()
            (direction + consistency).backward()
            if update in (0, 1):
                out[f"{compat}.grad.{update}.{a}"] = tokens[a].grad.clone()
            optimizers[a].step()
            losses.append([direction.item(), consistency.item()])
        for schedule in schedules:
            schedule.step()
    for a, t in enumerate(tokens):
        out[f"{compat}.tokens.{a}"] = t.detach().clone()
    out[f"{compat}.losses"] = torch.tensor(losses).reshape(UPDATES, len(CATEGORIES), 2)
    out[f"{compat}.text"] = text.detach().clone()
    return out


def main():
    model = load_clip()
    for p in model.parameters():
        p.requires_grad_(False)
    tower = Tower(model)
    config = tower.config
    bos, eos, pad, length = config.vocab_size - 2, config.vocab_size - 1, config.vocab_size - 1, config.max_position_embeddings
    ids = torch.full((1, length), pad)
    ids[0, : len(PROMPT) + 2] = torch.tensor([bos, *PROMPT, eos])
    assert torch.allclose(tower.states(tower.embed(ids)), model.text_model(ids).last_hidden_state, atol=2e-6)
    generator = torch.Generator().manual_seed(7)
    depth = model.config.projection_dim
    features = [F.normalize(torch.randn(k, PER_CATEGORY, depth, generator=generator), dim=-1) for k in CATEGORIES]
    tensors = {f"features.{a}": f for a, f in enumerate(features)}
    for compat in ("paper", "reference"):
        tensors |= run(tower, compat, features, bos, eos, pad, length)
    settings = dict(prompt=PROMPT, tokens=TOKENS, updates=UPDATES, rate=RATE, decay_after=DECAY_AFTER, decay=DECAY,
                    consistency=LAMBDA, categories=CATEGORIES, bos=bos, eos=eos, pad=pad)
    folder = PACKAGES / "iti-gen" / "fixtures"
    folder.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "updates.safetensors", {"settings": json.dumps(settings)})


main()
