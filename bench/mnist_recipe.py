"""A recipe for MNIST with augmentation, in ten epochs: ``python bench/mnist_recipe.py --data FOLDER``.

Four convolutions with batch normalisation, a one-cycle learning rate, images turned and shifted a little, and the
moving average of the weights. With ``--torch`` the same in PyTorch, from the same weights on the same batches, which
nnpar's loader augments for both.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import nnpar
from nnpar import data
from nnpar.data.transforms import Normalize, Pipeline, RandomCrop, RandomRotation
from nnpar.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from nnpar.schedules import OneCycleLR

EPOCHS, BATCH, RATE, AVERAGE = 10, 128, 3e-3, 0.99
NORMALIZE = Normalize(0.1307, 0.3081)
AUGMENT = Pipeline(RandomRotation(10), RandomCrop(28, padding=2), NORMALIZE)


def network() -> Sequential:
    """379,894 parameters, 18.8 M multiply-adds."""
    layers: list[nnpar.Layer] = []
    for channels, out, last in ((1, 32, False), (32, 32, True), (32, 64, False), (64, 64, True)):
        layers += [Conv2d(channels, out, 3, padding=1, bias=False), BatchNorm2d(out), ReLU()]
        layers += [MaxPool2d(2)] if last else []
    return Sequential(*layers, Flatten(), Dropout(0.3), Linear(3136, 100), ReLU(), Dropout(0.3), Linear(100, 10))


def of_nnpar(train: data.Dataset, test: data.Dataset, seed: int) -> None:
    """Accuracy and seconds after each epoch."""
    nnpar.manual_seed(seed)
    trainer = nnpar.Trainer(
        network(), optimizer=nnpar.AdamW(RATE), schedule=OneCycleLR(RATE, EPOCHS), average=AVERAGE, seed=seed
    )
    checked = data.Loader(test, 1000, shuffle=False, transform=NORMALIZE)
    began = time.perf_counter()

    def show(trainer: nnpar.Trainer, record: dict[str, float]) -> None:
        seconds = time.perf_counter() - began
        print(f"epoch {record['epoch']}: {record['validation_accuracy']:.2%}, {seconds:.1f} s", flush=True)

    loader = data.Loader(train, BATCH, transform=AUGMENT)
    trainer.fit(loader, checked, epochs=EPOCHS, progress=False, callbacks=[show])


def of_torch(train: data.Dataset, test: data.Dataset, seed: int) -> None:
    """The same in PyTorch."""
    import torch
    from torch import nn
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.set_num_threads(nnpar.get_num_threads())
    nnpar.manual_seed(seed)
    start = network().state_dict()
    layers: list[Any] = []
    for channels, out, last in ((1, 32, False), (32, 32, True), (32, 64, False), (64, 64, True)):
        layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if last else []
    dense = [nn.Flatten(), nn.Dropout(0.3), nn.Linear(3136, 100), nn.ReLU(), nn.Dropout(0.3), nn.Linear(100, 10)]
    model = nn.Sequential(*layers, *dense).to(memory_format=torch.channels_last)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in start.items()}, strict=False)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    loader = data.Loader(train, BATCH, transform=AUGMENT)
    steps = -(-len(train) // BATCH)
    schedule = OneCycleLR(RATE, EPOCHS)
    checked = data.Loader(test, 1000, shuffle=False, transform=NORMALIZE)
    began = time.perf_counter()
    for epoch in range(EPOCHS):
        model.train()
        for number, batch in enumerate(loader.batches(seed, epoch)):
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr(RATE, epoch * steps + number, steps)
            optimizer.zero_grad()
            images = torch.from_numpy(batch.images)
            torch.nn.functional.cross_entropy(model(images), torch.from_numpy(batch.labels)).backward()
            optimizer.step()
            averaged.update_parameters(model)
        averaged.eval()
        with torch.no_grad():
            right = sum(
                int((averaged(torch.from_numpy(b.images)).argmax(1).numpy() == b.labels).sum())
                for b in checked.batches()
            )
        print(f"epoch {epoch + 1}: {right / len(test):.2%}, {time.perf_counter() - began:.1f} s", flush=True)


def main() -> None:
    """Print a line for each epoch."""
    parser = argparse.ArgumentParser(prog="python bench/mnist_recipe.py", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of MNIST's four files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--torch", action="store_true", help="in PyTorch, where it is installed")
    options = parser.parse_args()
    train, test = data.mnist(options.data)
    (of_torch if options.torch else of_nnpar)(train, test, options.seed)


if __name__ == "__main__":
    main()
