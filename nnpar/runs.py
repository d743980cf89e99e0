"""Training runs as files: TOML whose sections name what the classes of nnpar take as arguments.

::

    [data]
    train = "digits"          # or mnist:FOLDER, cifar10:FOLDER, cifar100:FOLDER, fetch:NAME, folder:PATH, tar:PATH,
                              # parquet:PATH, npy:PATH; paths may be addresses, such as hdfs://HOST:PORT/PATH
    size = 224                # of images in folders, tar files and Parquet
    mixed = 8                 # of Parquet and .npy; and streams, cache_mb; of Parquet also image, label, shape
    batch_size = 64
    augment = [{ name = "RandomCrop", size = 8, padding = 1 }]
    mix = [{ name = "Mixup", alpha = 0.2, classes = 10 }]

    [model]
    name = "digits_cnn"       # in nnpar.zoo; or file = "model.safetensors"

    [optimizer]
    name = "Adam"
    lr = 1e-3

    [train]
    epochs = 10
    folder = "run"            # for checkpoints, the best model, log.csv
    shards = 8                # the same bits on 1 to 8 MPI ranks, see nnpar.distributed.DataParallel
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nnpar
from nnpar import callbacks, data, losses, optimizers, random, schedules, zoo
from nnpar.data.transforms import Pipeline, Transform
from nnpar.losses import Loss
from nnpar.parallel import Parallel, launched
from nnpar.schedules import Schedule

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = Mapping[str, Any]  # sections by name
SECTIONS: dict[str, tuple[str, ...]] = {
    "data": (
        "train", "validation", "size", "channels", "image", "label", "shape", "mixed", "streams", "cache_mb",
        "batch_size", "augment", "mix", "prepare", "workers",
    ),
    "model": ("name", "file"),
    "loss": ("name",),
    "optimizer": ("name",),
    "schedule": ("name", "then"),
    "train": (
        "epochs", "seed", "folder", "every_steps", "keep", "clip_norm", "clip_value", "average", "accumulate", "on_nan",
        "metrics", "max_seconds", "validate_every", "patience", "monitor", "shards", "bucket_mb", "sync_batch_norm",
    ),
}  # fmt: skip
SUFFIX, LOG = ".toml", "log.csv"  # of a run's file; in its folder
OPEN = ("model", "loss", "optimizer", "schedule")  # whose other keys are arguments of what is named
READERS: dict[str, Any] = {
    "folder": data.ImageFolder, "tar": data.TarShards, "parquet": data.Parquet, "npy": data.NpyFiles,
}  # fmt: skip
OF_IMAGES, OF_UNITS = ("size", "channels"), ("mixed", "streams", "cache_mb")
READING: dict[str, tuple[str, ...]] = {  # what each takes of a run's settings
    "folder": OF_IMAGES, "tar": OF_IMAGES, "parquet": (*OF_IMAGES, "image", "label", "shape", *OF_UNITS),
    "npy": OF_UNITS,
}  # fmt: skip
PAIRS: dict[str, Any] = {"mnist": data.mnist, "cifar10": data.cifar10, "cifar100": data.cifar100, "fetch": data.fetch}
MIXING: dict[str, Any] = {"Mixup": data.mixing.Mixup, "CutMix": data.mixing.CutMix}
LOSSES = {name: getattr(losses, name) for name in ("BCEWithLogits", "CrossEntropy", "Huber", "KLDiv", "L1", "MSE")}


@dataclass
class Run:
    """What a file describes, ready to train.

    Attributes
    ----------
    trainer : Trainer
    train, validation : Loader
    fit : dict
        The other arguments of `Trainer.fit`.
    """

    trainer: nnpar.Trainer
    train: data.Loader
    validation: data.Loader | None
    fit: dict[str, Any]


def read(path: str | os.PathLike[str], changes: Sequence[str] = ()) -> dict[str, Any]:
    """A file's settings, with changes such as ``optimizer.lr=0.01``.

    Parameters
    ----------
    path : path-like
    changes : sequence of str
        ``section.key=value``, the value as in TOML; text may stand without quotes.

    Returns
    -------
    dict
        Sections by name.

    Raises
    ------
    ValueError
        If the file is not TOML, or there is no such section or key.
    """
    try:
        with open(path, "rb") as file:
            settings = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
    for change in changes:
        place, equals, text = change.partition("=")
        section, dot, key = place.strip().partition(".")
        if not equals or not dot or not key:
            raise ValueError(f"--set: expected section.key=value, got {change!r}")
        settings.setdefault(section, {})[key] = _value(text)
    return checked(settings, os.fspath(path))


def values(text: str) -> tuple[str, list[Any]]:
    """The values of a setting to try, from text such as ``optimizer.lr=0.1,0.01``.

    Parameters
    ----------
    text : str
        ``section.key=value,value,...``, each as in TOML; text may stand without quotes, unless it has a comma.

    Returns
    -------
    name : str
        ``section.key``
    values : list

    Raises
    ------
    ValueError
        If there is no name or no value.

    Examples
    --------
    >>> values("optimizer.lr=0.1,0.01")
    ('optimizer.lr', [0.1, 0.01])
    >>> values("optimizer.name=SGD,Adam")
    ('optimizer.name', ['SGD', 'Adam'])
    """
    name, equals, listed = text.partition("=")
    if not equals or not name.strip() or not listed.strip():
        raise ValueError(f"grid: expected section.key=value,value, got {text!r}")
    try:
        found: list[Any] = tomllib.loads(f"value = [{listed}]")["value"]
    except tomllib.TOMLDecodeError:
        found = [_value(part.strip()) for part in listed.split(",")]
    return name.strip(), found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def checked(settings: Mapping[str, Any], who: str) -> dict[str, Any]:
    """The settings, if all sections and keys are known.

    Raises
    ------
    ValueError
        If not; the error names all that are not.
    """
    problems = []
    for section, values in settings.items():
        if section not in SECTIONS or not isinstance(values, Mapping):
            problems.append(f"[{section}]: expected one of {', '.join(SECTIONS)}")
        elif section not in OPEN:
            unknown = [key for key in values if key not in SECTIONS[section]]
            problems += [f"{section}.{key}: expected one of {', '.join(SECTIONS[section])}" for key in unknown]
    if problems:
        raise ValueError(f"{who}: " + "; ".join(problems))
    return {section: dict(settings.get(section, {})) for section in SECTIONS}


def build(settings: Mapping[str, Any], resume: bool = False) -> Run:
    """Make all that a run needs; nothing is trained yet.

    Parameters
    ----------
    settings : mapping
        Sections, as `read` gives them.
    resume : bool
        Whether to go on from the folder's latest checkpoint.

    Returns
    -------
    Run

    Raises
    ------
    ValueError
        If names or arguments do not fit.
    """
    parts = checked(settings, "run")
    train = dict(parts["train"])
    first, second = (
        None if source is None else loader(parts, source, training)
        for source, training in zip(_sources(parts["data"]), (True, False), strict=True)
    )
    assert first is not None
    names = ("clip_norm", "clip_value", "average", "accumulate", "on_nan", "metrics")
    with random.seeded(train.pop("seed", 0)):
        trainer = nnpar.Trainer(
            _model(parts["model"]),
            _loss(parts["loss"]),
            _optimizer(parts["optimizer"]),
            schedule=_schedule(parts["schedule"]),
            **{name: train.pop(name) for name in names if name in train},
            parallel=parallel(train),
        )
    made: list[callbacks.Callback] = []
    folder, monitor = train.pop("folder", None), train.pop("monitor", None)
    every_steps, keep = train.pop("every_steps", None), train.pop("keep", 2)
    if folder is not None:
        made.append(callbacks.Checkpoint(folder, every_steps=every_steps, keep=keep, monitor=monitor))
        made.append(callbacks.CSVLog(os.path.join(folder, LOG)))
    elif resume:
        raise ValueError("train.folder: expected a folder to go on from, got none")
    if "patience" in train:
        made.append(callbacks.EarlyStopping(monitor, train.pop("patience")))
    return Run(trainer, first, second, {"callbacks": made, "resume": folder if resume else None, **train})


def best_file(settings: Settings) -> str:
    """The file of a run's best model.

    Parameters
    ----------
    settings : mapping

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the run keeps nothing.
    """
    folder = settings["train"].get("folder")
    if folder is None:
        raise ValueError("train.folder: expected the folder with the run's best model, got none")
    return os.path.join(folder, "best.safetensors")


def image_files(settings: Settings, places: Sequence[str]) -> data.ImageFiles:
    """Image files, decoded as the run does.

    Parameters
    ----------
    settings : mapping
    places : sequence of str
        Files, or folders of them.

    Returns
    -------
    ImageFiles
    """
    options = settings["data"]
    return data.ImageFiles(places, **{name: options[name] for name in OF_IMAGES if name in options})


def loader(settings: Settings, source: Any, training: bool = False) -> data.Loader:
    """A source in batches, prepared as the run does.

    Parameters
    ----------
    settings : mapping
    source : Source, Dataset, arrays, or samples
    training : bool
        Whether it is shuffled and augmented.

    Returns
    -------
    Loader
    """
    options = settings["data"]
    wanted = [*(options.get("augment", []) if training else []), *options.get("prepare", [])]
    pipeline = Pipeline(*(_transform(each) for each in wanted)) if wanted else None
    ways = options.get("mix", []) if training else []
    mix = [_named("data.mix", way.get("name"), MIXING, _rest(way, "name")) for way in ways]
    return data.Loader(source, options.get("batch_size", 64), training, pipeline, options.get("workers", 1), mix=mix)


def _sources(options: Mapping[str, Any]) -> list[Any]:
    """Training and validation set; None if there is no second."""
    if "train" not in options:
        raise ValueError("data.train: expected a data set, got none")
    names = [options[key] for key in ("train", "validation") if key in options]
    taken = {option for name in names for option in READING.get(_kind(name), ())}
    for option in READING["parquet"]:
        # Those of images are for files that are predicted, too.
        if option in options and option not in (*OF_IMAGES, *taken):
            takers = ", ".join(f"{kind}:" for kind, takes in READING.items() if option in takes)
            raise ValueError(f"data.{option}: expected a data set {takers}, got {', '.join(map(repr, names))}")
    train = source(options["train"], options)
    if isinstance(train, tuple):
        if "validation" in options:
            raise ValueError(f"data.validation: {options['train']!r} has one of its own")
        return list(train)
    return [train, source(options["validation"], options) if "validation" in options else None]


def source(name: str, options: Mapping[str, Any]) -> Any:
    """A data set by its name.

    Parameters
    ----------
    name : str
        Such as ``digits`` or ``folder:PATH``.
    options : mapping
        The settings of section ``data``, of which it takes those for its kind.

    Returns
    -------
    Source, or tuple of Dataset
        Training and validation set where there are both.

    Raises
    ------
    ValueError
        If there is no such data set.

    Examples
    --------
    >>> source("digits", {})[1]
    Dataset('digits', images (359, 1, 8, 8), labels (359,) int64)
    """
    kind, place = _kind(name), str(name).partition(":")[2]
    if name == "digits":
        return data.digits()
    if kind in PAIRS and place:
        return PAIRS[kind](place)
    if kind in READERS and place:
        return READERS[kind](place, **{key: options[key] for key in READING[kind] if key in options})
    forms = ", ".join(["digits", *(f"{kind}:PLACE" for kind in (*PAIRS, *READERS))])
    raise ValueError(f"data: expected one of {forms}, got {name!r}")


def _kind(name: Any) -> str:
    return str(name).partition(":")[0]


def _named(section: str, name: Any, found: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    """What has that name, made with arguments."""
    if name not in found:
        raise ValueError(f"{section}.name: expected one of {', '.join(found)}, got {name!r}")
    try:
        return found[name](**arguments)
    except TypeError as error:
        raise ValueError(f"{section}: {name}: {error}") from error


def _rest(options: Mapping[str, Any], *taken: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key not in taken}


def _transform(options: Mapping[str, Any]) -> Transform:
    found = {name: getattr(data.transforms, name) for name in data.transforms.__all__}
    kinds = {name: kind for name, kind in found.items() if issubclass(kind, Transform) and kind is not Transform}
    made: Transform = _named("data.augment", options.get("name"), kinds, _rest(options, "name"))
    return made


def _model(options: Mapping[str, Any]) -> Any:
    if ("file" in options) == ("name" in options):
        raise ValueError("model: expected either name or file")
    if "file" in options:
        return nnpar.load(options["file"])
    return _named("model", options["name"], zoo.MODELS, _rest(options, "name"))


def _loss(options: Mapping[str, Any]) -> str | Loss:
    name = options.get("name", "CrossEntropy")
    if name in LOSSES:
        made: Loss = _named("loss", name, LOSSES, _rest(options, "name"))
        return made
    return str(name)


def parallel(train: dict[str, Any]) -> Parallel | None:
    """Who trains: several processes, if a launcher has started them.

    Parameters
    ----------
    train : dict
        Settings, out of which those of :class:`nnpar.distributed.DataParallel` are taken.

    Returns
    -------
    Parallel or None
        Also for one process, if there are such settings: `shards` gives the bits that several would.
    """
    options = {name: train.pop(name) for name in ("shards", "bucket_mb", "sync_batch_norm") if name in train}
    if not options and not launched():
        return None
    from nnpar.distributed import DataParallel

    return DataParallel(**options)


def _optimizer(options: Mapping[str, Any]) -> optimizers.Optimizer:
    found = {name: getattr(optimizers, name) for name in optimizers.__all__ if name != "Optimizer"}
    made: optimizers.Optimizer = _named("optimizer", options.get("name", "Adam"), found, _rest(options, "name"))
    return made


def _schedule(options: Mapping[str, Any]) -> Schedule | None:
    if not options:
        return None
    found = {name: getattr(schedules, name) for name in schedules.__all__ if name != "Schedule"}
    arguments = _rest(options, "name", "then")
    if "then" in options:
        arguments["then"] = _schedule(options["then"])
    made: Schedule = _named("schedule", options.get("name"), found, arguments)
    return made
