"""Makes packages/models/fixtures/tokenizer/strings.json: texts, ids and decoded texts by transformers.

The vocabulary beside it is ours (make-tokenizer-vocabulary.ts); the reference is transformers'
CLIPTokenizer reading the same folder. Two rows of settings: CLIP's own padding token, and Stable
Diffusion 2's "!", which then matches inside the text too.
"""

import argparse
import json
import pathlib
import random

import transformers
from transformers import CLIPTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "packages/models/fixtures/tokenizer"
WORDS = """a photo of the cat dog red Blue GREEN isn't we're they'll I'd 's 'RE 'Ve ''s' don't naïve café fiancée
smörgåsbord İstanbul ΑΣΣ ὈΔΥΣΣΕΎΣ ẞtraße ﬁne ﬂ ＦＵＬＬ Ａ１ x² ½ Ⅳ ٣ 3 42 1.5e-3 #tag @me a_b-c/d\\e (x) [y] {z} <b> </b> &lt;
&amp;amp; &#39; &eacute; don’t “hi” — … !!! ?! ¿qué? 日本 語 赤い猫 红色 한국어 각 ㄱㅏㄱ हिन्दी ไทย עברית عربى ру́сский Ѐлка é ñ Å ﷺ
🙂 👩‍🚀 🇫🇷 ❤️ 👍🏽 🏴󠁧󠁢󠁥󠁮󠁧󠁿 ✨ <|startoftext|> <|endoftext|> <|STARTOFTEXT|> <|endoftext|>x y<|endoftext|> <|pad|> |> <| ! hello! !
renkato solverer quing tinkarenly ñuéш""".split()
SYLLABLES = ["ka", "to", "mi", "ren", "sol", "ver", "tin", "al", "o", "ba", "dri", "shu", "qu", "ex", "ing", "er", "est",
             "ly", "ñu", "é", "ш", "να", "犬", "猫", " "]
SPACES = [" ", " ", " ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\u0085", "\u000b",
          "\u001c", "", ""]
# Blocks up to Unicode 15; the control characters, marks, symbols, private use and unassigned ones too.
RANGES = [(1, 0x250), (0x250, 0x600), (0x600, 0xE00), (0xE00, 0x1400), (0x1E00, 0x2C00), (0x2E80, 0x3400),
          (0xAC00, 0xAD00), (0xE000, 0xE010), (0xF900, 0x10000), (0x10330, 0x10350), (0x1D400, 0x1D800),
          (0x1F300, 0x1F700), (0x20000, 0x20100), (0xE0000, 0xE0080), (0x10FFF0, 0x110000)]


def sentence(rng):
    parts = []
    for _ in range(rng.randint(1, 8)):
        parts += [rng.choice(WORDS), rng.choice(SPACES)]
    return "".join(parts)


def noise(rng):
    characters = []
    for _ in range(rng.randint(1, 10)):
        low, high = rng.choice(RANGES)
        characters.append(chr(rng.randrange(low, high)))
    return "".join(characters)


def letters(rng):
    if rng.random() < 0.3:
        return "".join(rng.choice("aeiou rstlnkm'.,09") for _ in range(rng.randint(1, 30)))
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 9)))


def marks(rng):
    base = rng.choice("aeounAEQ가ا")
    return base + "".join(chr(rng.randrange(0x300, 0x330)) for _ in range(rng.randint(1, 5))) + rng.choice(["", "b"])


def texts():
    rng = random.Random(20)
    fixed = ["", " ", "\n\n", "\u0301", "'", "''", "'s", "S's'S", "a" * 500, "!?" * 150, "ab" * 200 + " " + "猫" * 100,
             "<|endoftext|>", "<|startoftext|>" * 3, "a<|endoftext|>b", "<|endoftext", "\u0000a", "1234567890" * 8,
             " ".join(["a photo of a cat"] * 30)]
    fixed += WORDS + [" ".join(WORDS[i:i + 6]) for i in range(0, len(WORDS), 3)]
    for count, make in ((900, sentence), (500, noise), (400, letters), (250, marks)):
        fixed += [make(rng) for _ in range(count)]
    return list(dict.fromkeys(fixed))


def rows(tokenizer, strings):
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in strings]
    return ids, [tokenizer.decode(row) for row in ids]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER / "strings.json")
    out = parser.parse_args().out
    plain = CLIPTokenizer.from_pretrained(FOLDER)
    strings = texts()
    ids, decoded = rows(plain, strings)
    some = [i for i, text in enumerate(strings) if "!" in text][:200]
    padded = CLIPTokenizer.from_pretrained(FOLDER, pad_token="!")
    bang_ids, _ = rows(padded, [strings[i] for i in some])
    long = strings[-1] + " ".join(["a photo of a cat"] * 30)
    batch = plain([long, "a red cat"], padding="max_length", max_length=77, truncation=True).input_ids
    fixture = dict(transformers=transformers.__version__, strings=strings, ids=[" ".join(map(str, row)) for row in ids],
                   decoded={str(i): decoded[i] for i in range(0, len(strings), 10)},
                   bang=dict(index=some, ids=[" ".join(map(str, row)) for row in bang_ids]),
                   batch=dict(texts=[long, "a red cat"], ids=batch))
    # One member a line; the two long lists one item a line.
    members = []
    for key, value in fixture.items():
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if key in ("strings", "ids"):
            text = "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
        members.append(f"{json.dumps(key)}:{text}")
    out.write_text("{" + ",\n".join(members) + "}\n", encoding="utf-8")
    print(f"{out.name}: {len(strings)} strings, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
