"""What each process of a test of meshes, tensor and row parallelism does: ``mpiexec -n 2 python model_worker.py
SCENARIO ARGUMENTS``. Process 0 prints JSON.
"""

import hashlib
import json
import sys

import numpy as np
from mpi4py import MPI

import nnpar
from nnpar import (
    GELU,
    SGD,
    Add,
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool2d,
    PReLU,
    ReLU,
    Sequential,
    Trainer,
    convolution,
    data,
)
from nnpar.callbacks import Callback, Checkpoint, EarlyStopping
from nnpar.distributed import (
    DataParallel,
    GatherRows,
    Mesh,
    RowParallel,
    RowParallelConv2d,
    Rows,
    ScatterRows,
    TensorParallel,
    TensorParallelDropout,
    TensorParallelLinear,
    full_state_dict,
    load_full_state_dict,
)
from nnpar.optimizers import LAMB
from nnpar.plan import Plan

WORLD = MPI.COMM_WORLD
TRAIN, TEST = data.digits()
TRAIN = TRAIN[:1203]


def say(**values):
    """Process 0 says what it found; lists of all processes' come from `WORLD.allgather`."""
    if WORLD.rank == 0:
        print(json.dumps(values), flush=True)


def passes(model, x, dy):
    """Output, gradients of the input and of the parameters."""
    plan = Plan(model, x.shape, training=True, needs_dx=True)
    np.copyto(plan.x, x)
    plan.run_forward()
    y = plan.y.copy()
    np.copyto(plan.dy, dy)
    plan.run_backward()
    return y, plan.dx.copy(), plan.gradients


def error(found, expected):
    """Of the largest element."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(abs(found - expected).max() / abs(expected).max())


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def mesh(*sizes):
    """Sums of the processes' numbers along each axis say who belongs together."""
    made = Mesh(*map(int, sizes))
    axes = (made.data, made.pipeline, made.tensor)
    own = [(axis.rank, axis.size, axis.comm.size, axis.comm.rank, axis.comm.allreduce(WORLD.rank)) for axis in axes]
    say(processes=WORLD.allgather(own))


def data_over_mesh():
    """Data parallelism along one axis only: the others train apart."""
    made = Mesh(data=2, tensor=2)
    nnpar.manual_seed(1)
    trainer = Trainer(Linear(4, 3), optimizer=SGD(0.1), parallel=DataParallel(comm=made.data.comm))
    x, y = numbers(8, 4, seed=made.tensor.rank), np.arange(8) % 3
    trainer.train_step(x, y)
    say(weights=WORLD.allgather(trainer.model.weight.tolist()))


# Tensor parallelism


def tensor_layers(first, hidden, last):
    """Two divided layers and an activation between them, against plain ones."""
    first, hidden, last = int(first), int(hidden), int(last)
    nnpar.manual_seed(WORLD.rank)  # processes agree even if seeds do not
    model = Sequential(
        TensorParallelLinear(first, hidden), GELU(), TensorParallelLinear(hidden, last, split="row"), ReLU(),
        TensorParallelLinear(last, hidden, gather=True, bias=False),
    )  # fmt: skip
    nnpar.manual_seed(0)
    plain = Sequential(Linear(first, hidden), GELU(), Linear(hidden, last), ReLU(), Linear(last, hidden, bias=False))
    state = full_state_dict(model)
    same = all(np.array_equal(state[name], array) for name, array in plain.state().items()) and len(state) == 5
    errors = {}
    for shape in ((7, first), (2, 3, first)):
        x, dy = numbers(*shape), numbers(*shape[:-1], hidden, seed=1)
        expected, found = passes(plain, x, dy), passes(model, x, dy)
        errors |= {f"y{len(shape)}": error(found[0], expected[0]), f"dx{len(shape)}": error(found[1], expected[1])}
    for number, layer in ((0, model[0]), (2, model[2]), (4, model[4])):
        for key in layer._arrays:
            whole = expected[2][f"{number}.{key}"]
            errors[f"{number}.{key}"] = error(found[2][f"{number}.{key}"], layer.slice_of(key, whole))
    frozen = nnpar.Predictor(model)(x[0])
    errors["predicted"] = error(frozen, plain(x[0]))
    say(same=WORLD.allgather(same), errors=WORLD.allgather(errors))


def tensor_slope():
    """The gradient of the input along a direction, against differences."""
    nnpar.manual_seed(2)
    model = Sequential(TensorParallelLinear(6, 7), GELU(), TensorParallelLinear(7, 5, split="row"))
    x, dy, along = numbers(4, 6), numbers(4, 5, seed=1), numbers(4, 6, seed=2)
    _, dx, _ = passes(model, x, dy)
    step = 1e-2
    up, down = (np.sum(model(x + sign * step * along) * dy, dtype=np.float64) for sign in (1, -1))
    say(found=float(np.sum(dx * along)), expected=float((up - down) / (2 * step)))


def head(place, dropout=0.0):
    nnpar.manual_seed(1)
    return Sequential(
        Conv2d(1, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU(), MaxPool2d(2), Flatten(),
        TensorParallelLinear(128, 50, comm=place), ReLU(), TensorParallelDropout(dropout, place),
        TensorParallelLinear(50, 10, split="row", comm=place),
    )  # fmt: skip


def plain_head():
    return Sequential(
        Conv2d(1, 8, 3, padding=1, bias=False), BatchNorm2d(8), ReLU(), MaxPool2d(2), Flatten(),
        Linear(128, 50), ReLU(), Dropout(0.0), Linear(50, 10),
    )  # fmt: skip


def samples(outputs, targets):
    """A metric: how many there are."""
    return len(outputs)


class Counts(Callback):
    calls = 0

    def on_epoch_end(self, trainer, record):
        self.calls += 1


def tensor_train(data_size, path, **options):
    """Weights after some steps, with clipping, an average and batch normalisation; they go to a file."""
    place = Mesh(data=int(data_size), tensor=WORLD.size // int(data_size))
    model = head(place)
    for name, array in model.state().items():  # what is not split becomes that of process 0
        if WORLD.rank and "running" not in name and name[0] == "0":
            array += 1.0
    trainer = Trainer(
        model, optimizer=SGD(0.05, momentum=0.9), clip_norm=0.5, average=0.9, metrics=["f1", samples], accumulate=2,
        parallel=TensorParallel(place, sync_batch_norm=True),
    )  # fmt: skip
    counts = Counts()
    history = trainer.fit(TRAIN, TEST, epochs=1, batch_size=100, progress=WORLD.rank > 0, callbacks=[counts])
    state = full_state_dict(model)
    plain = plain_head()
    plain.load_state_dict(state)
    same = error(plain(TEST.images), trainer.predict(TEST.images))
    again = head(place)
    load_full_state_dict(again, state)
    restored = all(np.array_equal(again.state()[name], array) for name, array in model.state().items())
    replicated = b"".join(
        array.tobytes() for name, array in model.state().items() if name[0] in "01" or "8.bias" in name
    )
    agreed = len(set(WORLD.allgather(replicated))) == 1
    if WORLD.rank == 0:
        np.savez(path, **state)
    record = {name: value for name, value in history.last.items() if "seconds" not in name and "per_second" not in name}
    say(
        same=same, restored=WORLD.allgather(restored), agreed=agreed, calls=WORLD.allgather(counts.calls), record=record
    )


def tensor_resume(folder, epochs, plain=False):
    """Goes on from a folder's checkpoint; digests of each process's arrays, and the whole weights."""
    model, parallel = (plain_head(), None) if plain else (head(Mesh(tensor=WORLD.size)), TensorParallel())
    trainer = Trainer(
        model, optimizer=SGD(0.05, momentum=0.9), average=0.9, accumulate=2, seed=1, parallel=parallel
    )  # fmt: skip
    checkpoint = Checkpoint(folder, every_epochs=None, every_steps=4, best=False)
    collected, collect = [], trainer.collect
    trainer.collect = lambda: (collected.append(trainer.steps_done), collect())
    trainer.fit(TRAIN, epochs=int(epochs), batch_size=100, progress=False, callbacks=[checkpoint], resume=folder)
    arrays = b"".join(array.tobytes() for array in trainer.state_arrays().values())
    weights = {name: array.tolist() for name, array in full_state_dict(trainer.model).items() if "weight" in name}
    say(
        collected=collected,
        steps=trainer.steps_done,
        digests=WORLD.allgather(hashlib.sha256(arrays).hexdigest()),
        weights=weights,
    )


def tensor_recompute():
    """Slices that differ in size may make processes compute other values again."""
    weights = []
    for recompute in (False, True):
        nnpar.manual_seed(1)
        model = Sequential(
            Flatten(), TensorParallelLinear(64, 301), GELU(), TensorParallelLinear(301, 64, split="row"), GELU(),
            TensorParallelLinear(64, 301), GELU(), TensorParallelLinear(301, 10, split="row"),
        )  # fmt: skip
        trainer = Trainer(model, recompute=recompute, parallel=TensorParallel())
        trainer.fit(TRAIN, epochs=1, batch_size=100, progress=False)
        weights.append(model.state_dict())
    say(same=WORLD.allgather(all(np.array_equal(weights[0][name], array) for name, array in weights[1].items())))


def tensor_dropout():
    """Zeros in the slices of processes are not in the same places."""
    layer = TensorParallelDropout(0.5)
    plan = Plan(layer, (1, 4096), training=True)
    plan.x[...] = 1.0
    plan.run_forward()
    kept = plan.y[0] > 0
    both = np.mean(np.all(WORLD.allgather(kept), axis=0))
    say(kept=float(kept.mean()), both=float(both))


class Refuses(Callback):
    """As a checkpoint does in process 0."""

    on_every_rank = True

    def on_fit_begin(self, trainer):
        raise ValueError("EarlyStopping: restore_best: expected False with TensorParallel and a Checkpoint")


def tensor_errors(folder):
    """What does not work says so, in all processes alike."""
    found = []

    def attempt(make):
        try:
            make()
        except ValueError as caught:
            found.append(str(caught))
        else:
            found.append("")

    model = Sequential(Flatten(), TensorParallelLinear(64, 10, gather=True))
    attempt(lambda: Trainer(model, parallel=DataParallel()))
    attempt(lambda: Trainer(model))
    attempt(lambda: Trainer(model, optimizer=LAMB(), parallel=TensorParallel()))
    attempt(lambda: model.save(f"{folder}/model.safetensors"))
    trainer = Trainer(model, parallel=TensorParallel())
    attempt(lambda: Checkpoint(folder).on_fit_begin(trainer))
    callbacks = [Checkpoint(folder, best=False), EarlyStopping()] if WORLD.rank == 0 else [Refuses()]
    attempt(lambda: trainer.fit(TRAIN, TEST, epochs=1, progress=False, callbacks=callbacks))
    attempt(lambda: load_full_state_dict(model, {"1.weight": np.zeros((5, 64)), "1.bias": np.zeros(10)}))
    say(found=found, same=len(set(map(tuple, WORLD.allgather(found)))) == 1, shown=repr(model))


# Row parallelism


def row_layer(n, channels, out_channels, height, width, kernel, dilation, groups, algorithm=""):
    """Bits of the outputs and input gradients of each process's rows, and the error of the weights' gradients."""
    n, channels, out_channels, height, width = map(int, (n, channels, out_channels, height, width))
    rows, options = Rows(height), {"dilation": int(dilation), "groups": int(groups)}
    nnpar.manual_seed(1)
    plain = Conv2d(channels, out_channels, int(kernel), padding="same", **options)
    nnpar.manual_seed(1)
    own = RowParallelConv2d(channels, out_channels, int(kernel), rows=rows, **options)
    x, dy = numbers(n, channels, height, width), numbers(n, out_channels, height, width, seed=1)
    y, dx, whole = passes(plain, x, dy)
    found = passes(own, x[:, :, rows.own], dy[:, :, rows.own])
    sums = {name: WORLD.allreduce(array.astype(np.float64)) for name, array in found[2].items()}
    shape = plain._shape(x.shape, "")
    say(
        y=WORLD.allgather(np.array_equal(found[0], y[:, :, rows.own])),
        dx=WORLD.allgather(np.array_equal(found[1], dx[:, :, rows.own])),
        errors=WORLD.allgather([error(found[0], y[:, :, rows.own]), error(found[1], dx[:, :, rows.own])]),
        weights=[error(sums[name], whole[name]) for name in ("weight", "bias")],
        chosen=[convolution.choose(shape, which) for which in ("forward", "input_grad")],
    )


def row_model(rows):
    """Two convolutions with a branch, batch normalisation and pooling; of one process without `rows`."""
    nnpar.manual_seed(1)

    def convolve(a, b, size, at, **options):
        return (
            RowParallelConv2d(a, b, size, rows=at, **options) if rows else Conv2d(a, b, size, padding="same", **options)
        )

    x = Input((1, 16, 16))
    h = ScatterRows(rows)(x) if rows else x
    small = rows and rows.pooled(2)
    h = ReLU()(BatchNorm2d(8)(convolve(1, 8, 3, rows, bias=False)(h)))
    h = PReLU(8)(Add()(convolve(8, 8, 5, rows)(h), Conv2d(8, 8, 1)(h)))
    h = ReLU()(convolve(8, 16, 3, small)(MaxPool2d(2)(h)))
    h = GatherRows(small)(h) if rows else h
    return Graph(x, Linear(64, 10)(ReLU()(Linear(1024, 64)(Flatten()(h)))))


def row_values():
    """The whole images' values, through scattering and gathering."""
    rows = Rows(32)
    nnpar.manual_seed(1)
    own = Sequential(
        ScatterRows(rows), RowParallelConv2d(8, 16, 3, rows=rows), GELU(), AvgPool2d(2),
        RowParallelConv2d(16, 8, 3, rows=rows.pooled(2)), GatherRows(rows.pooled(2)),
    )  # fmt: skip
    nnpar.manual_seed(1)
    plain = Sequential(Conv2d(8, 16, 3, padding=1), GELU(), AvgPool2d(2), Conv2d(16, 8, 3, padding=1))
    x, dy, along = numbers(3, 8, 32, 12), numbers(3, 8, 16, 6, seed=1), numbers(3, 8, 32, 12, seed=2)
    y, dx, _ = passes(plain, x, dy)
    found = passes(own, x, dy)
    predicted = nnpar.Predictor(own)(x)
    step = 1e-2
    up, down = (np.sum(own(x + sign * step * along) * dy, dtype=np.float64) for sign in (1, -1))
    say(
        y=WORLD.allgather(np.array_equal(found[0], y)),
        dx=WORLD.allgather(np.array_equal(found[1], dx)),
        predicted=WORLD.allgather(error(predicted, y)),
        slope=[float(np.sum(found[1] * along)), float((up - down) / (2 * step))],
    )


def enlarged(samples):
    return np.repeat(np.repeat(samples.images, 2, axis=2), 2, axis=3), samples.labels


def row_train(data_size, path, folder=""):
    """Weights after some steps; or of plain layers, if there is no mesh, with parallel data."""
    place = None if data_size == "plain" else Mesh(data=int(data_size), tensor=WORLD.size // int(data_size))
    model = row_model(place and Rows(16, comm=place))
    if WORLD.rank and place:
        for array in model.parameters().values():
            array += 1.0
    trainer = Trainer(
        model, optimizer=SGD(0.05, momentum=0.9), clip_norm=0.5, metrics=["f1", samples], accumulate=2,
        parallel=RowParallel(place) if place else DataParallel(),
    )  # fmt: skip
    saved = [Checkpoint(folder)] if folder else []
    for epochs in (1, 2) if folder else (1,):  # the second time it goes on
        trainer.fit(
            enlarged(TRAIN), enlarged(TEST), epochs=epochs, batch_size=100, progress=False, callbacks=saved,
            resume=folder or None,
        )  # fmt: skip
    states = WORLD.allgather(b"".join(array.tobytes() for array in trainer.state_arrays().values()))
    if WORLD.rank == 0:
        np.savez(path, *model.state().values())
    record = {
        name: trainer.history.last[name] for name in ("loss", "validation_loss", "validation_f1", "validation_samples")
    }
    say(agreed=len(set(states)) == 1, record=record, epochs=len(trainer.history))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
