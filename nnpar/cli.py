"""The command ``nnpar``: train, sweep, evaluate, predict, report, export, data, info, bench.

``mpiexec -n 4 nnpar train ...`` trains on four processes.

Exit status: 0 done, 1 an error that is named on stderr, 2 wrong usage, 130 interrupted, 143 terminated (what was
trained is saved).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import nnpar
from nnpar import ops, prediction, runs, sweeps, threads, zoo
from nnpar._kernels import runtime
from nnpar.data import Dataset
from nnpar.parallel import launched
from nnpar.progress import NO_SCORES, readable
from nnpar.trainer import Trainer

DATA_HELP = "digits (default; ships with nnpar), or mnist:FOLDER with MNIST's four IDX files, gzipped or not"
DEFAULTS = {"digits": ("digits_cnn", 40), "mnist": ("mnist_cnn", 5)}  # data: model, epochs
LINUX_MAPS = Path("/proc/self/maps")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        The exit status.
    """
    options = _parser().parse_args(arguments)
    if not launched():
        return _main(options)
    from nnpar.distributed import command

    return command.run(options.command, lambda: _main(options))


def _main(options: argparse.Namespace) -> int:
    try:
        if options.threads is not None:
            threads.set_num_threads(options.threads)
        status: int = options.run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("nnpar: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has enough: nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, MemoryError) as error:
        print(f"nnpar: error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nnpar", description=nnpar.__doc__)
    parser.add_argument("--version", action="version", version=f"nnpar {nnpar.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--threads", type=int, help="number of threads; changes the speed, not one bit of the result")

    train = commands.add_parser("train", parents=[common], help="train a model, save it, draw its learning curves")
    train.add_argument("file", nargs="?", type=Path, help="TOML file of a run, instead of the options: nnpar.runs")
    train.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change a setting of the run's file"
    )
    train.add_argument("--resume", action="store_true", help="go on from the run's latest checkpoint, if there is one")
    train.add_argument("--quiet", action="store_true", help="of a run's file: the last record as JSON, and no more")
    train.add_argument("--data", default="digits", help=DATA_HELP)
    train.add_argument("--model", choices=sorted(zoo.MODELS), help="default: digits_cnn or mnist_cnn, by the data")
    train.add_argument("--epochs", type=int, help="default: 40 for digits, 5 for mnist")
    train.add_argument("--batch-size", type=int, default=64, help="default: 64")
    train.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam; default: 0.001")
    train.add_argument("--seed", type=int, default=0, help="of weights, order and dropout; default: 0")
    train.add_argument("--save", type=Path, help="model file; the picture goes beside it; default: DATA.safetensors")
    train.set_defaults(run=_train)

    sweep = commands.add_parser("sweep", parents=[common], help="train a run for each combination of settings")
    sweep.add_argument("file", type=Path, help="TOML file of a run")
    sweep.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="as of nnpar train")
    sweep.add_argument(
        "--grid", action="append", required=True, metavar="SECTION.KEY=VALUE,VALUE,...", help="values to try"
    )
    sweep.add_argument("--jobs", type=int, default=1, help="runs at a time, which share the threads; default: 1")
    sweep.add_argument("--samples", type=int, help="so many combinations, chosen at random; default: all")
    sweep.add_argument("--seed", type=int, default=0, help="of that choice; default: 0")
    sweep.add_argument("--folder", type=Path, default=Path("sweep"), help="results.csv, a folder each; default: sweep")
    sweep.set_defaults(run=_sweep)

    evaluate = commands.add_parser("evaluate", parents=[common], help="loss and accuracy of a saved model")
    evaluate.add_argument("model", type=Path, help="file that nnpar train saved, or the TOML file of a run")
    evaluate.add_argument("--data", default="digits", help=DATA_HELP)
    evaluate.set_defaults(run=_evaluate)

    predict = commands.add_parser("predict", parents=[common], help="classes of images, as CSV or JSON on stdout")
    predict.add_argument("model", type=Path, help="file that nnpar train saved, or the TOML file of a run")
    predict.add_argument(
        "images",
        nargs="*",
        default=["digits"],
        help=DATA_HELP + "; or a .npy file of shape (N, C, H, W); or image files, and folders of them",
    )
    predict.add_argument("--size", help="of image files: 224, or height,width; default: the run's, or their own")
    predict.add_argument("--channels", type=int, help="of image files: 3 or 1; default: the run's, or 3")
    predict.add_argument("--json", action="store_true", help="an object a line, with all probabilities")
    predict.set_defaults(run=_predict)

    report = commands.add_parser("report", parents=[common], help="one HTML page about a run that was trained")
    report.add_argument("file", type=Path, help="TOML file of the run")
    report.add_argument("output", type=Path, nargs="?", help="default: report.html in the run's folder")
    report.set_defaults(run=_report)

    export = commands.add_parser("export", help="write a saved model as an ONNX file")
    export.add_argument("model", type=Path, help="file that nnpar train saved")
    export.add_argument("output", type=Path, nargs="?", help="default: MODEL.onnx")
    export.add_argument("--shape", help="of one image, such as 1,8,8; default: that of --data")
    export.add_argument("--data", default="digits", help=DATA_HELP)
    export.set_defaults(run=_export, threads=None)

    of_data = commands.add_parser("data", help="data sets: nnpar data convert").add_subparsers(
        required=True, metavar="COMMAND"
    )
    convert = of_data.add_parser("convert", help="write a data set as shards, which many processes read at a time")
    convert.add_argument("source", help="as in a run's file: digits, mnist:FOLDER, folder:PATH, parquet:ADDRESS, ...")
    convert.add_argument("output", help="folder that is not there yet, or an address such as hdfs://HOST:PORT/PATH; "
                         "train and validation set, if there are both, go into folders within")  # fmt: skip
    convert.add_argument("--format", choices=("parquet", "tar", "npy"), default="parquet", help="default: parquet")
    convert.add_argument("--rows-per-shard", type=int, default=10_000, help="samples of a file; default: 10000")
    convert.add_argument("--size", help="of image files: 224, or height,width; default: files as they are")
    convert.add_argument("--channels", type=int, help="of image files: 3 or 1; default: 3")
    convert.set_defaults(run=_convert, threads=None)

    info = commands.add_parser("info", parents=[common], help="version, instruction set, OpenMP, threads")
    info.set_defaults(run=_info)

    bench = commands.add_parser("bench", parents=[common], help="measure this machine: speed, scaling, roofline")
    bench.add_argument("--picture", type=Path, help="PNG file for the thread-scaling and roofline charts")
    bench.add_argument("--json", type=Path, help="file for the numbers")
    bench.set_defaults(run=_bench)
    return parser


def _train_run(options: argparse.Namespace) -> int:
    """Train as a run's file says."""
    settings = runs.read(options.file, options.set)
    run = runs.build(settings, options.resume)
    history = run.trainer.fit(run.train, run.validation, progress=not options.quiet, **run.fit)
    record = history.last if len(history) else {}
    scores = {name: value for name, value in record.items() if name not in NO_SCORES}
    print(json.dumps(record) if options.quiet else f"{len(history)} epochs, the last: {readable(scores)}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    grid = dict(runs.values(text) for text in options.grid)
    settings = runs.read(options.file, options.set)
    results = sweeps.sweep(settings, grid, options.folder, options.jobs, options.samples, options.seed)
    print(f"{len(results)} runs: {options.folder / sweeps.TABLE}")
    return 1 if all("error" in result for result in results) else 0


def _train(options: argparse.Namespace) -> int:
    if options.file is not None:
        return _train_run(options)
    if options.set or options.resume:
        raise ValueError("train: expected the TOML file of a run with --set and --resume, got none")
    kind = options.data.partition(":")[0]
    train, test = prediction.data_set(options.data)
    model_name, epochs = DEFAULTS[kind]
    save = options.save or Path(f"{kind}.safetensors")
    if not save.parent.is_dir():
        raise FileNotFoundError(f"--save: no such folder: {save.parent}")
    if not os.access(save.parent, os.W_OK):
        raise PermissionError(f"--save: not allowed to write into {save.parent}")
    nnpar.manual_seed(options.seed)
    model = zoo.MODELS[options.model or model_name]()
    parallel = runs.parallel({})
    trainer = Trainer(model, loss="cross_entropy", optimizer=nnpar.Adam(options.lr), parallel=parallel)
    print(f"{options.model or model_name}: {model.parameter_count:,} parameters, {len(train):,} training images, "
          f"{threads.get_num_threads()} threads ({runtime.isa()})")  # fmt: skip
    try:
        trainer.fit(
            train,
            validation=test,
            epochs=epochs if options.epochs is None else options.epochs,
            batch_size=options.batch_size,
        )
    except KeyboardInterrupt:
        model.save(save)
        print(f"\ninterrupted; the weights so far are in {save}")
        raise
    result = trainer.evaluate(test)
    print(f"test accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}, on {len(test):,} images")
    if trainer.parallel.rank == 0:
        model.save(save)
        print(f"saved {save}")
        _draw(trainer, test, save.with_suffix(".png"))
    return 0


def _draw(trainer: Trainer, test: Dataset, path: Path) -> None:
    from nnpar import plots

    try:
        probabilities = ops.softmax(trainer.predict(test.images))
        title = f"{test.name}: {trainer.history['validation_accuracy'][-1]:.2%} of {len(test):,} test images right"
        figure = plots.training_report(
            trainer.history, test.images, test.labels, probabilities, test.class_names, title
        )
        plots.save(figure, path)
    except ImportError as error:
        print(f"no picture: {error}")
    else:
        print(f"drew {path}")


def _evaluate(options: argparse.Namespace) -> int:
    if options.model.suffix == runs.SUFFIX:
        settings = runs.read(options.model)
        run = runs.build({**settings, "model": {"file": runs.best_file(settings)}})
        if run.validation is None:
            raise ValueError(f"{options.model}: data.validation: expected a data set, got none")
        print(f"{readable(run.trainer.evaluate(run.validation))}, on {len(run.validation):,} images")
        return 0
    _, test = prediction.data_set(options.data)
    result = Trainer(nnpar.load(options.model)).evaluate(test)
    print(f"test accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}, on {len(test):,} images")
    return 0


def _predict(options: argparse.Namespace) -> int:
    size = None if options.size is None else _sizes(options.size, "--size")
    predictions = prediction.predict(options.model, options.images, size, options.channels)
    (prediction.write_json if options.json else prediction.write_csv)(predictions, sys.stdout)
    return 0


def _report(options: argparse.Namespace) -> int:
    from nnpar import report

    print(f"saved {report.report(runs.read(options.file), options.output)}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from nnpar.io import onnx

    model = nnpar.load(options.model)
    output = options.output or options.model.with_suffix(".onnx")
    if options.shape is not None:
        shape = _sizes(options.shape, "--shape")
    else:
        shape = getattr(model, "input_shape", None) or prediction.data_set(options.data)[1].images.shape[1:]
    onnx.save(model, output, shape)
    print(f"saved {output}")
    return 0


def _convert(options: argparse.Namespace) -> int:
    from nnpar.data.convert import convert

    size = None if options.size is None else _sizes(options.size, "--size")
    given = {"size": size if size is None or len(size) > 1 else size[0], "channels": options.channels}
    reading = {name: value for name, value in given.items() if value is not None}
    if reading and "size" not in runs.READING.get(options.source.partition(":")[0], ()):
        raise ValueError(f"convert: --size, --channels: are for image files, got {options.source!r}")
    source = runs.source(options.source, reading)
    parts = dict(zip(("train", "validation"), source, strict=True)) if isinstance(source, tuple) else source
    names = convert(parts, options.output, options.format, options.rows_per_shard)
    count = sum(map(len, source)) if isinstance(source, tuple) else len(source)
    print(f"saved {count:,} samples in {len(names)} files: {options.output}")
    return 0


def _sizes(text: str, option: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise ValueError(f"{option}: expected whole numbers with commas between them, got {text!r}") from error


def _info(options: argparse.Namespace) -> int:
    built = ", ".join(name if runs else f"{name} (not on this machine)" for name, runs in runtime.built_isas())
    version = runtime.openmp_version()
    openmp = f"{version // 100}-{version % 100:02d}" if version else "none: built without it, one thread"
    rows = [
        ("nnpar", nnpar.__version__),
        ("python", f"{platform.python_version()}, numpy {np.__version__}"),
        ("instruction set", f"{runtime.isa()}; built: {built}"),
        ("OpenMP", f"{openmp}; loaded: {', '.join(_openmp_libraries()) or 'unknown'}"),
        ("threads", f"{threads.get_num_threads()} ({threads.num_threads_source()})"),
    ]
    if launched():
        from nnpar.distributed import command

        rows += command.ranks()
    for name, value in rows:
        print(f"{name:16} {value}")
    return 0


def _openmp_libraries() -> list[str]:
    """OpenMP runtimes in this process: more than one fight over the processors."""
    try:
        paths = {line.split()[-1] for line in LINUX_MAPS.read_text().splitlines() if "omp" in line}
    except OSError:
        return []
    names = {Path(path).name for path in paths}
    return sorted(name for name in names if name.startswith(("libgomp", "libomp", "libiomp")))


def _bench(options: argparse.Namespace) -> int:
    from nnpar import benchmark

    result = benchmark.run(threads=options.threads, picture=options.picture, json=options.json)
    print(result.table())
    return 1 if result.different_bits else 0
