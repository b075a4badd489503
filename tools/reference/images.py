"""Golden files of the image readers: pictures as Pillow decodes and resizes them.

usage: images.py FOLDER        (tests/golden/images; Pillow as pinned in requirements.txt)
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def picture(width, height):
    """Waves, an edge, and noise of a linear congruence: the same integers as in src/dataset/images/resize.rs."""
    state, values = 12345, []
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                state = (state * 1664525 + 1013904223) % 2**32
                ramp = (x * (channel + 2) + y * 3) % 256
                edge = 60 if x * height > y * width else 0
                values.append((ramp + edge + (state >> 26)) % 256)
    return Image.fromarray(np.array(values, np.uint8).reshape(height, width, 3))


def box_squash(image, side):
    """The ImageNet32 resizer with `-a box`."""
    return image.resize((side, side), Image.Resampling.BOX)


def centre_crop(image, side):
    """What guided-diffusion's `center_crop_arr` computes."""
    while min(image.size) >= 2 * side:
        image = image.resize(tuple(length // 2 for length in image.size), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize(tuple(round(length * scale) for length in image.size), Image.Resampling.BICUBIC)
    left, top = (image.size[0] - side) // 2, (image.size[1] - side) // 2
    return image.crop((left, top, left + side, top + side))


def resized():
    sources = [(97, 61), (61, 130), (33, 32), (16, 16), (11, 9), (200, 64)]
    for name, rule in [("box_squash", box_squash), ("centre_crop", centre_crop)]:
        for width, height in sources:
            image = rule(picture(width, height), 16)
            yield {"rule": name, "source": [width, height], "side": 16, "bytes": np.asarray(image).tobytes().hex()}


def smooth(mode):
    """A picture that JPEG keeps well, in a mode of Pillow."""
    y, x = np.mgrid[0:19, 0:26]
    planes = [128 + 100 * np.sin(x / 7 + c) * np.cos(y / (5 + c)) for c in range(len(mode))]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8).squeeze(), mode)


def high_byte(values):
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded():
    def case(name, file, tolerance, rgb=None):
        rgb = rgb or Image.open(io.BytesIO(file)).convert("RGB")
        rgb = np.asarray(rgb).tobytes().hex()
        return {"name": name, "file": file.hex(), "rgb": rgb, "tolerance": tolerance}

    rgb, grey = smooth("RGB"), smooth("L")
    for sampling in [0, 1, 2]:
        yield case(f"jpeg subsampling {sampling}", encoded(rgb, "JPEG", subsampling=sampling, quality=90), 4)
    yield case("jpeg progressive", encoded(rgb, "JPEG", progressive=True, quality=90), 4)
    yield case("jpeg restarts", encoded(rgb, "JPEG", restart_marker_blocks=1, quality=90), 4)
    yield case("jpeg grey", encoded(grey, "JPEG", quality=90), 1)
    yield case("jpeg cmyk", encoded(smooth("CMYK"), "JPEG", quality=90), 4)
    yield case("png rgb", encoded(rgb, "PNG"), 0)
    yield case("png grey", encoded(grey, "PNG"), 0)
    yield case("png rgba", encoded(smooth("RGBA"), "PNG"), 0)
    yield case("png grey with alpha", encoded(smooth("LA"), "PNG"), 0)
    yield case("png palette", encoded(rgb.quantize(16), "PNG"), 0)
    yield case("png one bit", encoded(grey.convert("1"), "PNG"), 0)
    values = (np.arange(20 * 24, dtype=np.uint32) * 137 % 65536).astype(np.uint16).reshape(20, 24)
    yield case("png grey 16 bits", encoded(Image.fromarray(values), "PNG"), 0, high_byte(values))


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, cases in [("resize", resized()), ("decode", decoded())]:
        lines = ",\n".join(json.dumps(case) for case in cases)
        (folder / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
