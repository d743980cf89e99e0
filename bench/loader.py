"""How much of its time a training run computes, on a folder of JPEGs that are decoded and augmented meanwhile, against
the same run on an array of the same images: ``python bench/loader.py``; see bench/README.md.

Both train the network with the same augmentation, epoch by epoch in turn, with the same number of threads. Images are
of 256x256 pixels, half of them noise, so that their files are about as large as photographs' (30 KB).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image

import nnpar
from nnpar import data, zoo
from nnpar.data.transforms import Normalize, Pipeline, RandomHorizontalFlip, RandomResizedCrop

CLASSES = 10


def write_images(folder: Path, count: int) -> None:
    """JPEGs of smooth patterns with noise, a folder for each class."""
    rng = np.random.default_rng(0)
    down, right = np.mgrid[:256, :256] / 256
    for number in range(count):
        label = number % CLASSES
        waves = [np.sin(2 * np.pi * (rng.uniform(1, 8) * down + rng.uniform(1, 8) * right)) for _ in range(3)]
        pixels = 128 + 60 * np.stack(waves, axis=2) + rng.normal(0, 12, (256, 256, 3)) + 4 * label
        (folder / str(label)).mkdir(exist_ok=True)
        image = PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(folder / str(label) / f"{number}.jpg", quality=85)


def main() -> None:
    """Print the seconds of the epochs, and the share."""
    parser = argparse.ArgumentParser(prog="python bench/loader.py", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--network", default="resnet18", choices=sorted(zoo.MODELS))
    parser.add_argument("--size", type=int, default=224, help="of the network's images (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="of each, after one (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    nnpar.set_num_threads(options.threads)
    augment = Pipeline(RandomResizedCrop(options.size), RandomHorizontalFlip(), Normalize(0.5, 0.25))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, options.images)
        size = sum(path.stat().st_size for path in folder.rglob("*.jpg")) / options.images / 1000
        files = data.ImageFolder(folder)
        images, labels, _ = files.read(np.arange(len(files)))
        loaders = {
            "JPEG files": data.Loader(files, 16, transform=augment, workers=options.workers),
            "an array": data.Loader((images, labels), 16, transform=augment, workers=options.workers),
        }
        trainers = {kind: nnpar.Trainer(zoo.MODELS[options.network](num_classes=CLASSES)) for kind in loaders}
        seconds: dict[str, list[float]] = {kind: [] for kind in loaders}
        for epoch in range(options.epochs + 1):
            for kind, loader in loaders.items():
                began = time.perf_counter()
                trainers[kind].fit(loader, epochs=1, progress=False)
                if epoch:
                    seconds[kind].append(time.perf_counter() - began)
    for kind, times in seconds.items():
        print(f"{options.network} on {kind}: {statistics.median(times):.2f} s an epoch of {options.images} images")
    share = statistics.median(seconds["an array"]) / statistics.median(seconds["JPEG files"])
    budget = f"{options.threads} threads, {options.workers} workers"
    print(f"{share:.1%} as busy as on an array; files of {size:.0f} KB, {budget}")


if __name__ == "__main__":
    main()
