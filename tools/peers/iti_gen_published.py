"""ITI-GEN's updates the published way, in PyTorch: every position, image features in every step, a looped loss.

Answers requests, one JSON a line in, one JSON a line out:
  {"op": "load", "threads": int}            CLIP ViT-L/14 in float32 with random weights
  {"op": "text", "attribute": int}          {"seconds": forward, loss, backward and Adam step of one update}
  {"op": "images", "count": int}            {"seconds": features of that many images, without gradients}
The model is frozen: gradients reach the tokens only, which the published code does not even ask for.
"""

import itertools
import json
import os
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from transformers import CLIPConfig, CLIPModel  # noqa: E402

# Male x Skin_tone x Age.
CATEGORIES = (2, 6, 9)
TOKENS, POSITIONS, LAMBDA, RATE = 3, 77, 0.8, 0.01
# A prompt of five words: "a headshot of a person" has as many tokens. BOS, content, EOS.
PROMPT = [49406, 320, 39463, 539, 320, 2533, 49407]
TEXT = dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            projection_dim=768, vocab_size=49408, max_position_embeddings=POSITIONS, hidden_act="quick_gelu")
VISION = dict(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
              projection_dim=768, image_size=224, patch_size=14, hidden_act="quick_gelu")


def load():
    torch.manual_seed(0)
    config = CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=768)
    return CLIPModel(config).eval().requires_grad_(False)


class Published:
    def __init__(self, threads):
        torch.set_num_threads(threads)
        self.model = load()
        self.combinations = list(itertools.product(*(range(k) for k in CATEGORIES)))
        embeddings = self.model.text_model.embeddings
        ids = torch.zeros(1, POSITIONS, dtype=torch.long)
        ids[0, : len(PROMPT)] = torch.tensor(PROMPT)
        self.base = embeddings.token_embedding(ids) + embeddings.position_embedding.weight
        self.start = len(PROMPT) - 1
        with torch.no_grad():
            self.original = F.normalize(self.feature(self.base, self.start)[0], dim=0)
        self.tokens = [torch.zeros(k, TOKENS, 768, requires_grad=True) for k in CATEGORIES]
        self.optimizers = [torch.optim.Adam([t], lr=RATE) for t in self.tokens]
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            # Not the first update: directions exist, and the full loss is computed.
            for t in self.tokens:
                t.copy_(0.01 * torch.randn(t.shape, generator=generator))
        self.means = [F.normalize(torch.randn(k, 768, generator=generator), dim=1) for k in CATEGORIES]

    def feature(self, x, position):
        mask = torch.full((POSITIONS, POSITIONS), float("-inf")).triu(1)
        for layer in self.model.text_model.encoder.layers:
            heads, a, h = 12, layer.self_attn, layer.layer_norm1(x)
            q, k, v = (p(h).unflatten(2, (heads, -1)).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = x + a.out_proj(y.transpose(1, 2).flatten(2))
            h = layer.layer_norm2(x)
            x = x + layer.mlp.fc2(layer.mlp.activation_fn(layer.mlp.fc1(h)))
        return self.model.text_projection(self.model.text_model.final_layer_norm(x)[:, position])

    def loss(self, attribute, text):
        k = CATEGORIES[attribute]
        text = F.normalize(text, dim=1)
        row = {c: i for i, c in enumerate(self.combinations)}
        contexts = [c for c in self.combinations if c[attribute] == 0]
        total = 0
        for i, j in itertools.combinations(range(k), 2):
            image = self.means[attribute][i] - self.means[attribute][j]
            direction, consistency = 0, 0
            for context in contexts:
                at = lambda category: text[row[context[:attribute] + (category,) + context[attribute + 1 :]]]
                first, second = at(i), at(j)
                direction = direction + (1 - F.cosine_similarity(image, first - second, dim=0))
                similarity = (self.original @ first + self.original @ second) / 2
                consistency = consistency + F.relu(LAMBDA - similarity)
            total = total + (direction + consistency) / len(contexts)
        return total / (k - 1)

    def text(self, attribute):
        start = time.perf_counter()
        sums = torch.stack([sum(t[c[a]] for a, t in enumerate(self.tokens)) for c in self.combinations])
        x = self.base.repeat(len(self.combinations), 1, 1)
        x = torch.cat([x[:, : self.start], sums, x[:, self.start + TOKENS :]], 1)
        loss = self.loss(attribute, self.feature(x, self.start + TOKENS))
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.optimizers[attribute].step()
        return {"seconds": time.perf_counter() - start, "loss": loss.item()}

    def images(self, count):
        pixels = torch.randn(count, 3, 224, 224, generator=torch.Generator().manual_seed(2))
        start = time.perf_counter()
        with torch.no_grad():
            states = self.model.vision_model(pixel_values=pixels).pooler_output
            F.normalize(self.model.visual_projection(states), dim=1).sum().item()
        return {"seconds": time.perf_counter() - start}


def main():
    published = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["op"] == "load":
                published = Published(request["threads"])
                reply = {"torch": torch.__version__}
            else:
                arguments = {key: value for key, value in request.items() if key != "op"}
                reply = getattr(published, request["op"])(**arguments)
        except Exception as error:  # reported by the caller
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
