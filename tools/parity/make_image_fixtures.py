"""Makes packages/models/fixtures/image/: digests of Pillow's bicubic, CLIP crops, and awkward image files.

Input pixels are a formula that the test repeats, so only digests of the results are stored. Needs a Pillow
before 13: that version chooses by size which axis goes first, and rounds between the passes, so its bytes
differ from every earlier version's, and from what models were trained on.
"""

import argparse
import hashlib
import json
import pathlib

import numpy as np
import PIL
import transformers
from PIL import Image
from transformers import CLIPImageProcessor

ROOT = pathlib.Path(__file__).resolve().parents[2]
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def picture(width, height, kind):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    if kind == "smooth":
        value = x * 3 + y * 2 + c * 40
        value = np.abs(value % 510 - 255)
    else:
        value = (x * x * 3 + y * y * 5 + x * y * 7 + c * 61 + (x // 4) * (y // 8)) % 256
    return Image.fromarray(value.astype(np.uint8), "RGB")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def resizes():
    sizes = [(32, 32, 16, 16), (32, 32, 64, 64), (37, 53, 29, 31), (37, 53, 101, 77), (100, 60, 100, 30),
             (60, 100, 25, 100), (1, 1, 7, 5), (3, 200, 224, 224), (640, 480, 298, 224), (500, 375, 224, 168),
             (1024, 768, 224, 168), (224, 224, 224, 224), (64, 64, 224, 224), (17, 19, 1, 1), (1500, 40, 200, 5), (3, 400, 5, 20)]
    return [dict(size=size, kind=kind, sha256=digest(picture(*size[:2], kind).resize(size[2:], Image.BICUBIC).tobytes()))
            for size in sizes for kind in ("smooth", "busy")]


def openai_crop(image, edge=224):
    """OpenAI's transform: torchvision's Resize and CenterCrop, on Pillow images."""
    width, height = image.size
    short, long = min(width, height), int(edge * max(width, height) / min(width, height))
    size = (edge, long) if width <= height else (long, edge)
    assert short > 0
    image = image.resize(size, Image.BICUBIC)
    left, top = (int(round((side - edge) / 2.0)) for side in image.size)
    return image.crop((left, top, left + edge, top + edge))


def crops():
    processor = CLIPImageProcessor()
    rows = []
    for width, height in ((640, 480), (480, 640), (299, 224), (301, 224), (225, 500), (224, 224), (99, 70)):
        image = picture(width, height, "busy")
        values = processor(image, return_tensors="np").pixel_values[0].transpose(1, 2, 0)
        pixels = np.round((values * STD + MEAN) * 255).astype(np.uint8)
        rows.append(dict(size=[width, height], hf=digest(pixels.tobytes()), openai=digest(openai_crop(image).tobytes()),
                         values=[float(v) for v in values.reshape(-1)[::7919]]))
    return rows


def files(folder):
    """Small files of awkward kinds; the pixels that Pillow reads from each."""
    rgb = picture(12, 8, "busy")
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12)))
    rgb.save(folder / "rgb.png")
    alpha.save(folder / "alpha.png")
    rgb.convert("L").save(folder / "grey.png")
    rgb.quantize(16).save(folder / "palette.png")
    rgb.save(folder / "picture.jpg", quality=90, subsampling=0)
    rgb.convert("CMYK").save(folder / "cmyk.jpg", quality=95, subsampling=0)
    rgb.save(folder / "picture.webp", lossless=True)
    frames = [picture(12, 8, kind).quantize(16) for kind in ("busy", "smooth")]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:], duration=100)
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "rotated.jpg", quality=90, subsampling=0, exif=exif)
    sixteen = (np.asarray(rgb).astype(np.uint16) << 8) | 0x5A
    write_png16(folder / "sixteen.png", sixteen)
    (folder / "truncated.png").write_bytes((folder / "rgb.png").read_bytes()[:150])
    (folder / "lying.png").write_bytes(header_only_png(60000, 60000))
    exact = ["rgb.png", "alpha.png", "grey.png", "palette.png", "picture.webp", "sixteen.png"]
    return {name: digest(np.asarray(rgb if name == "sixteen.png" else Image.open(folder / name).convert("RGB")).tobytes())
            for name in exact}


def chunk(kind, body):
    import struct
    import zlib
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png16(path, pixels):
    import struct
    import zlib
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def header_only_png(width, height):
    import struct
    import zlib
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def main():
    if int(PIL.__version__.split(".")[0]) >= 13:
        raise SystemExit(f"Pillow {PIL.__version__} resizes in another order; install pillow<13")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "packages/models/fixtures/image")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    fixture = dict(pillow=PIL.__version__, transformers=transformers.__version__, resizes=resizes(), crops=crops(),
                   files=files(folder))
    (folder / "reference.json").write_text(json.dumps(fixture, indent=1) + "\n")
    print(sum(path.stat().st_size for path in folder.iterdir()), "bytes in", len(list(folder.iterdir())), "files")


if __name__ == "__main__":
    main()
