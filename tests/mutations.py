"""Reads files with mutations, in a process of its own: ``python mutations.py images 6000``.

Prints as JSON how many there were, how many could still be read, what was raised, warned of or
printed that should not be, processes that were started, how long the slowest file (spectra) or
folder (images) took, and how far resident memory rose above what it was at the start.
"""

import contextlib
import io
import itertools
import json
import random
import re
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fvfast.plot import read_metadata
from fvfast.spectrum import Spectrum
from fvfast.spectrum.photographs import SUFFIXES, PhotographFolder

STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system")
EXTREME = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
IN_A_FOLDER = 25
SHAPES = ("()", "(3,)", "(1, 6, 4)", "(-1, 6, 4)", "(2 ** 40,)", "(0,)", "(1, 6, 4", "(3L, 6L)",
          "(9999999999999, 9999999999999, 9)", "[1, 2]", "(True, 6)")  # fmt: skip
KINDS = ("<f4", ">f4", "<f8", "<f2", "<m8[s]", "<M8[D]", "|O", "<U4", "<U0", "|V8", "|S3", "<c8",
         "|b1", "<i8", ">u8", "<g", "f4", "x", "")  # fmt: skip
EXIF = {0x0112: 6, 0x010E: "a picture", 0x011A: 72.0}
# Every one that Pillow writes, with settings that take other ways through it.
WRITTEN = {
    "PNG": [("RGB", {}), ("P", {}), ("RGBA", {"save_all": True}), ("I;16", {}), ("1", {})],
    "JPEG": [("RGB", {}), ("L", {"progressive": True}), ("CMYK", {})],
    "WEBP": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGB", {"save_all": True})],
    "AVIF": [("RGB", {"speed": 10}), ("RGBA", {"speed": 10}), ("RGB", {"save_all": True})],
    "TIFF": [("RGB", {}), ("RGB", {"compression": "tiff_lzw"}), ("L", {"save_all": True}),
             ("RGB", {"compression": "jpeg"}), ("CMYK", {"compression": "tiff_deflate"}),
             ("F", {}), ("RGBA", {"compression": "packbits"}), ("1", {"compression": "group4"})],
    "BMP": [("RGB", {}), ("P", {}), ("1", {})],
    "GIF": [("P", {}), ("RGB", {"save_all": True})],
    "JPEG2000": [("RGB", {}), ("RGBA", {"no_jp2": True}), ("L", {"num_resolutions": 2})],
    "PPM": [("RGB", {}), ("L", {}), ("1", {}), ("F", {})],
    "MPO": [("RGB", {"save_all": True})],
    "TGA": [("RGB", {}), ("P", {"compression": "tga_rle"})],
    "DDS": [("RGBA", {}), ("RGBA", {"pixel_format": "DXT5"})],
    "ICO": [("RGBA", {})],
    **{name: [("RGB", {})] for name in ("EPS", "PDF", "ICNS", "PCX", "SGI", "QOI")},
    **{name: [("P", {})] for name in ("BLP", "PALM")},
    **{name: [("1", {})] for name in ("MSP", "XBM")},
    "SPIDER": [("F", {})],
}  # fmt: skip


def originals():
    """The files of all formats, by format: small, because size fields make them large."""
    columns, rows = np.meshgrid(np.arange(40), np.arange(32))
    pixels = np.stack([columns * 6, rows * 7, (columns * rows) % 256], -1).astype(np.uint8)
    picture = Image.fromarray(pixels)
    Image.init()
    for name, variants in WRITTEN.items():
        if name not in Image.SAVE:
            continue
        for mode, settings in variants:
            file = io.BytesIO()
            made = picture.convert("L" if mode == "I;16" else mode).convert(mode)
            if settings.get("save_all"):
                settings = {**settings, "append_images": [made.rotate(90), made.rotate(180)]}
            if name in ("JPEG", "PNG", "WEBP", "AVIF") and not settings.get("save_all"):
                exif = Image.Exif()
                exif.update(EXIF)
                settings = {**settings, "exif": exif}
            made.save(file, name, **settings)
            yield name, file.getvalue()


def mutated(data, chance):
    """Damage a file in one of several ways, or in two at once."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2))):
        # Headers decide the most.
        place = chance.randrange(min(len(data), chance.choice((32, 160, len(data)))))
        way = chance.randrange(6)
        if way == 0:
            data[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            del data[max(place, 1) :]
        elif way == 2:
            size = chance.choice("BHIQ")
            number = chance.choice(EXTREME) % 256 ** struct.calcsize(size)
            packed = struct.pack(chance.choice("<>") + size, number)
            data[place : place + len(packed)] = packed
        elif way == 3:
            data[place : place + chance.randrange(1, 40)] = b""
        elif way == 4:
            data[place:place] = chance.randbytes(chance.randrange(1, 40))
        else:
            again = chance.randrange(len(data))
            data[place : place + 16] = data[again : again + 16]
        if not data:
            break
    return bytes(data)


def with_right_checksums(png):
    """A PNG file whose damaged chunks pass: what they hold reaches the decoder."""
    made, position = png[:8], 8
    while position + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, position)
        body = png[position + 4 : position + 8 + length]
        made += png[position : position + 4] + body + struct.pack(">I", zlib.crc32(body))
        position += 12 + length
    return made


def damaged_image(data, chance):
    damaged = mutated(data, chance)
    png = damaged.startswith(b"\x89PNG\r\n\x1a\n")
    return with_right_checksums(damaged) if png and chance.random() < 0.7 else damaged


def damaged_spectrum(members, chance):
    """An archive with damage: in its members, with right checksums; or anywhere."""
    file = io.BytesIO()
    method = chance.choice((0, 8, 8, 8, 12, 14))
    within = chance.random() < 0.6
    chosen = chance.choice(list(members))
    if chance.random() < 0.3:
        chosen = "magnitude"
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            if name != chosen or not within:
                archive.writestr(f"{name}.npy", data)
                continue
            changed = damaged_member(data, chance) if chance.random() < 0.5 else None
            archive.writestr(f"{name}.npy", mutated(data, chance) if changed is None else changed)
            if chance.random() < 0.05:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of the name that comes twice
                    archive.writestr(f"{name}.npy", data)
    data = file.getvalue()
    return data if within else mutated(data, chance)


def damaged_member(data, chance):
    """An array whose header says something else, well-formed or not."""
    shape, kind = chance.choice(SHAPES), chance.choice(KINDS)
    order = chance.choice(("False", "True", "None"))
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    header = chance.choice((header, header, header[:-3], b"(" * 500, header + b" " * 70000))
    version = chance.choice((b"\1\0", b"\2\0", b"\3\0", b"\4\0"))
    packed = struct.pack("<H", len(header) % 65536)
    length = packed if version == b"\1\0" else struct.pack("<I", len(header))
    return b"\x93NUMPY" + version + length + header + data[128:]


class Watch:
    """What happened meanwhile: what was wrong, started processes, time."""

    def __init__(self):
        self.wrong, self.started, self.slowest = Counter(), [], 0.0
        sys.addaudithook(self.hook)

    def hook(self, event, arguments):
        if event in STARTS:
            self.started.append(f"{event} {arguments!r:.200}")

    def call(self, read, *allowed):
        """Return what a function gives, or None after an error that is allowed."""
        begin = time.perf_counter()
        try:
            return read()
        except allowed as error:
            if not str(error).strip():
                self.wrong[f"{type(error).__name__} without a message"] += 1
        except BaseException as error:  # noqa: BLE001 (reported)
            self.wrong[f"{type(error).__name__}: {error}"[:200]] += 1
        finally:
            self.slowest = max(self.slowest, time.perf_counter() - begin)
        return None


def read_images(count, folder, watch):
    """Read damaged images, in folders with one that is whole; return how many are still read."""
    chance = random.Random(0)
    sources = list(originals())
    readable = 0
    whole = Image.new("RGB", (40, 32), (9, 200, 90))
    kinds = itertools.cycle(sources)
    for start in range(0, count, IN_A_FOLDER):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        whole.save(folder / "whole.png")
        names = []
        for index in range(start, min(count, start + IN_A_FOLDER)):
            name, data = next(kinds)
            names.append(f"{name}{index}{chance.choice(SUFFIXES)}")
            (folder / names[-1]).write_bytes(damaged_image(data, chance))
        photographs = PhotographFolder(folder, (16, 16), progress=False)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            batches = watch.call(lambda: list(photographs))  # noqa: B023
        images = 0 if batches is None else sum(map(len, batches))
        lines = "\n".join(photographs.skipped)
        named = sum(f"{name}: " in lines for name in names)
        if images + named != len(names) + 1 or "whole.png" in lines:
            watch.wrong[f"{images} images and {named} named of {len(names) + 1}"] += 1
        if len(lines.splitlines()) != named or re.search(r": *$", lines, re.MULTILINE):
            watch.wrong["a reason is empty, or takes several lines"] += 1
        noise = [str(one.message) for one in told if "could not be read" not in str(one.message)]
        watch.wrong.update(f"warning: {text}"[:200] for text in noise)
        readable += images - 1
        for name in names:
            watch.call(lambda: read_metadata(folder / name), ValueError, OSError)  # noqa: B023
    return readable


def read_spectra(count, folder, watch):
    """Read so many damaged spectra; return how many could still be read."""
    chance = random.Random(0)
    folder.mkdir()
    path = folder / "spectrum"
    images = torch.rand((2, 1, 6, 6), generator=torch.Generator().manual_seed(0))
    Spectrum.from_images(images, progress=False).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {
            info.filename.removesuffix(".npy"): archive.read(info) for info in archive.infolist()
        }
    array = io.BytesIO()
    np.save(array, np.ones((3, 8, 5), np.float32))
    readable = 0
    for index in range(count):
        if index % 5:
            path.write_bytes(damaged_spectrum(members, chance))
        elif index % 2:
            path.write_bytes(mutated(array.getvalue(), chance))
        else:
            path.write_bytes(damaged_member(array.getvalue(), chance))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            spectrum = watch.call(lambda: Spectrum.from_file(path), ValueError)
            if spectrum is not None:
                readable += 1
                magnitude = watch.call(lambda: spectrum.magnitude(8, 8, spectrum.channels))  # noqa: B023
                if magnitude is None or not magnitude.isfinite().all() or magnitude.min() < 0:
                    watch.wrong["no magnitudes"] += 1
        watch.wrong.update(f"warning: {one.message}"[:200] for one in told)
    return readable


def peak_memory():
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line) * 1024


def main(what, count):
    read = {"images": read_images, "spectra": read_spectra}[what]
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch()
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = peak_memory()
        # Not what the libraries of Pillow print: libtiff tells of damage on its own.
        with contextlib.redirect_stderr(io.StringIO()) as printed:
            readable = read(count, Path(folder) / "files", watch)
        report = {
            "count": count,
            "readable": readable,
            "wrong": watch.wrong,
            "printed": printed.getvalue(),
            "started": watch.started,
            "slowest": round(watch.slowest, 2),
            "memory": peak_memory() - before,
        }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
