"""Peak memory of segmenting a large GeoTIFF in parts and as a whole: python -m benchmarks.geotiff.

Each is measured in a process of its own, with the model of the demo; what a process has after it
has loaded the model is subtracted.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLASSES = ("sky", "grass", "sea", "sand", "road")
STRIDE = 48  # pixels; windows of the demo's model, without overlap


def write_image(path: Path, side: int) -> None:
    """A raster of random blocks, side by side, written row of tiles by row of tiles."""
    import numpy as np
    import rasterio
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    shape = {"height": side, "width": side, "count": 3, "dtype": "uint8"}
    form = {"tiled": True, "crs": "EPSG:32633", "transform": rasterio.Affine(0.5, 0, 0, 0, -0.5, 9)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **form) as raster:
        for top in range(0, side, 256):
            rows = min(256, side - top)
            blocks = rng.integers(0, 256, (3, -(-rows // 64), -(-side // 64)), dtype="uint8")
            pixels = blocks.repeat(64, axis=1).repeat(64, axis=2)[:, :rows, :side]
            raster.write(pixels, window=Window(0, top, side, rows))


def one(how: str, image: Path, target: Path) -> None:
    """Segment an image in this process; print seconds and MB beyond the loaded model."""
    from sclip_core import SCLIP, Protocol, Vocabulary, read_image
    from sclip_core.exports import segment_in_parts, write_labels

    model = SCLIP.load("sclip-demo", "scenes", device="cpu")
    words = Vocabulary.from_classes(CLASSES)
    protocol = Protocol(tile=True, slide_crop=STRIDE, slide_stride=STRIDE)
    model.bank_of(words, protocol)
    before, start = peak(), time.perf_counter()
    if how == "parts":
        segment_in_parts(model, image, target, words, protocol)
    else:
        labels = model.segment(read_image(image), words, protocol).labels
        write_labels(labels, CLASSES, image, target)
    print(f"{time.perf_counter() - start:.1f} {peak() - before:.0f}")


def peak() -> float:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the peak memory in MB and the seconds of each way, of images of each side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", default="3000,6000", help="pixels of the images")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        how, image, target = given.one
        return one(how, Path(image), Path(target))
    with tempfile.TemporaryDirectory() as folder:
        for side in map(int, given.sides.split(",")):
            image = Path(folder, f"{side}.tif")
            write_image(image, side)
            for how in ("parts", "whole"):
                target = Path(folder, f"{how}.tif")
                command = [sys.executable, "-m", "benchmarks.geotiff", "--one", how]
                said = subprocess.run(
                    [*command, str(image), str(target)], check=True, capture_output=True, text=True
                )
                seconds, megabytes = said.stdout.split()
                print(f"{side:,}x{side:,} {how}: {megabytes} MB, {seconds} s", flush=True)


if __name__ == "__main__":
    main()
