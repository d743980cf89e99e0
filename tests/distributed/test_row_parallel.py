"""Images divided by their rows: the bits of the whole images' outputs and input gradients."""

import mpi
import numpy as np
import pytest

import nnpar
from nnpar import AvgPool2d, BatchNorm1d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Sequential, Trainer

mpi.required()
distributed = pytest.importorskip("nnpar.distributed")
from nnpar.distributed import (  # noqa: E402
    Axis,
    DataParallel,
    GatherRows,
    RowParallel,
    RowParallelConv2d,
    Rows,
    ScatterRows,
    rows_of,
)


def work(ranks, scenario, *arguments, **changes):
    return mpi.work(ranks, scenario, *arguments, worker=mpi.MODEL_WORKER, **changes)


# n, channels, out_channels, height, width, kernel, dilation, groups; the algorithms that the whole images choose.
SHAPES = {
    (4, 8, 16, 32, 28, 3, 1, 1): ["winograd", "winograd"],
    (2, 16, 16, 60, 20, 3, 1, 1): ["winograd", "winograd"],
    (4, 8, 16, 32, 20, 5, 1, 1): ["winograd", "winograd"],
    (1, 64, 64, 24, 16, 3, 1, 1): ["winograd", "winograd"],  # of a process alone, too few tiles for that
    (4, 5, 16, 30, 20, 5, 1, 1): ["framed", "scatter"],
    (4, 8, 8, 32, 20, 3, 2, 1): ["indirect", "indirect"],
    (4, 8, 8, 33, 20, 3, 1, 8): ["depthwise", "depthwise"],
    (4, 8, 16, 32, 20, 3, 1, 2): ["indirect", "indirect"],
    (4, 8, 16, 31, 20, 1, 1, 1): ["indirect", "indirect"],
    (1, 3, 64, 64, 64, 7, 1, 1): ["framed", "planar"],
    (4, 1, 8, 32, 28, 3, 1, 1): ["framed", "planar"],
    (2, 1, 8, 48, 20, 5, 2, 1): ["indirect", "planar"],
    (17, 2, 4, 40, 90, 3, 1, 1): ["framed", "planar"],
    (1, 3, 40, 80, 200, 7, 1, 1): ["framed", "planar"],  # a few rows of a band at a time
}


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_bits_are_those_of_whole_images(shape, ranks):
    found = work(ranks, "row_layer", *shape)
    assert found["y"] == [True] * ranks
    assert found["dx"] == [True] * ranks
    assert np.max(found["errors"]) <= 1e-6
    assert max(found["weights"]) <= 2e-5


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_scattered_and_gathered(ranks):
    found = work(ranks, "row_values")
    assert found["y"] == [True] * ranks
    assert found["dx"] == [True] * ranks
    assert max(found["predicted"]) <= 2e-6
    assert found["slope"][0] == pytest.approx(found["slope"][1], rel=5e-3)


def test_training_ends_with_the_weights_of_one_process(tmp_path):
    """Against plain layers, in one process, and with parallel data: two images that two processes share each."""
    found, weights = {}, {}
    for ranks, data in ((1, "plain"), (2, "plain"), (1, 1), (2, 1), (3, 1), (4, 2)):
        found[ranks, data] = work(ranks, "row_train", data, tmp_path / "weights.npz")
        weights[ranks, data] = dict(np.load(tmp_path / "weights.npz"))
        assert found[ranks, data]["agreed"]
    for case in ((1, 1), (2, 1), (3, 1), (4, 2)):
        expected = case[1], "plain"
        assert found[case]["record"] == pytest.approx(found[expected]["record"], rel=1e-5)
        for name, array in weights[case].items():
            largest = abs(weights[expected][name]).max()
            assert abs(array - weights[expected][name]).max() <= 2e-5 * largest, (case, name)


def test_a_checkpoint_goes_on(tmp_path):
    assert work(2, "row_train", 1, tmp_path / "weights.npz", tmp_path / "run")["epochs"] == 2
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_rows_are_divided_from_multiples_of_8_on():
    for height in (1, 2, 7, 8, 15, 28, 64, 224, 227):
        for size in range(1, min(height, 9) + 1):
            rows = [rows_of(height, rank, size) for rank in range(size)]
            assert [row for part in rows for row in range(part.start, part.stop)] == list(range(height))
            assert all(part.stop > part.start for part in rows)
            if height >= 8 * size:
                assert all(part.start % 8 == 0 for part in rows)
    with pytest.raises(ValueError, match="height: expected at least 3, the number of processes, got 2"):
        rows_of(2, 0, 3)


def trio(height, factor=1):
    """Of three processes, without messages."""
    return Rows(height, factor, Axis(None, 0, 3))


def test_rows_after_poolings():
    rows = trio(32)
    assert rows.counts == [8, 8, 16]
    assert rows.pooled(2).pooled(2).counts == [2, 2, 4]
    assert (rows.pooled(2).height, rows.pooled(2).own) == (16, slice(0, 4))
    assert Rows.of((32, 2)).height == 16
    assert Rows.of(rows) is rows
    with pytest.raises(ValueError, match=r"factor: expected one that divides the rows.*\[8, 16, 32\], got 3"):
        trio(32, 3)
    with pytest.raises(ValueError, match="at least one row for each process"):
        trio(19, 8)
    with pytest.raises(TypeError, match="rows: expected Rows, a height or"):
        Rows.of("32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 2, "padding": 1}, "stride: expected 1"),
        ({"padding": 0}, "padding: expected as many rows before and after as keep the height"),
        ({"kernel_size": 4}, "padding: expected as many rows"),
        ({"kernel_size": 7, "rows": trio(32, 4)}, "rows: expected at least 3 for each process"),
        ({"kernel_size": 3, "dilation": 9}, "rows: expected at least 9 for each process"),
    ],
)
def test_arguments_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=f"RowParallelConv2d: {message}"):
        RowParallelConv2d(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, "rows": trio(32), **options})


def test_inputs_that_do_not_fit():
    for layer, height in ((RowParallelConv2d(1, 1, 3, rows=trio(32)), 32), (GatherRows(trio(32)), 16)):
        with pytest.raises(ValueError, match=f"expected 8 rows, of 32 divided among processes, got {height}"):
            layer.output_shape((2, 1, height, 5))
    with pytest.raises(ValueError, match="ScatterRows: input: expected height 32, got 8"):
        ScatterRows(trio(32))(np.zeros((2, 1, 8, 5)))


def between(*layers):
    rows = trio(32)
    return [
        ScatterRows(rows),
        RowParallelConv2d(1, 4, 3, rows=rows),
        *layers,
        GatherRows(rows),
        Flatten(),
        Linear(8, 2),
    ]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (between()[1:], "layer '0' .*expected rows of images, after ScatterRows"),
        ([*between()[:1], *between()], "layer '1' .*expected whole images"),
        (between()[:2], "expected a model whose output is whole, got rows; put a GatherRows last"),
        (between(MaxPool2d(3, stride=2)), "layer '2' .*MaxPool2d.*put a GatherRows before it"),
        (between(AvgPool2d(3, stride=1, padding=1)), "layer '2' .*AvgPool2d.*put a GatherRows before it"),
        (between(Conv2d(4, 4, 3, padding=1)), "layer '2' .*Conv2d.*put a GatherRows before it"),
        (between(Dropout()), "layer '2' .*Dropout.*put a GatherRows before it"),
        (between(Flatten()), "layer '2' .*Flatten.*put a GatherRows before it"),
        ([*between(), BatchNorm1d(2)], "layer '5' .*BatchNorm1d.*expected it between ScatterRows and GatherRows"),
    ],
)
def test_layers_that_do_not_work_on_rows(layers, message):
    with pytest.raises(ValueError, match=message):
        Trainer(Sequential(*layers), parallel=RowParallel(Axis(None, 0, 3)))


def test_another_parallel_does_not_train_them():
    for parallel in (None, DataParallel()):
        with pytest.raises(ValueError, match=r"layer '1' .*expected Trainer\(parallel=RowParallel"):
            Trainer(Sequential(*between()), parallel=parallel)
    with pytest.raises(ValueError, match="expected 1 processes, as RowParallel has, got 3"):
        Trainer(Sequential(*between()), parallel=RowParallel())


def test_one_process_is_a_plain_layer(tmp_path):
    nnpar.manual_seed(0)
    plain = Conv2d(3, 8, 3, padding=1)
    nnpar.manual_seed(0)
    own = Sequential(ScatterRows(16), RowParallelConv2d(3, 8, 3, rows=16), GatherRows(16))
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 9), np.float32)
    np.testing.assert_array_equal(own(x), plain(x))
    own.save(tmp_path / "model.safetensors")
    again = nnpar.load(tmp_path / "model.safetensors", layers=[ScatterRows, RowParallelConv2d, GatherRows])
    np.testing.assert_array_equal(again(x), plain(x))
