"""Ctrl-C while a single step runs: it ends between two of its tasks, and weights are those of a whole training step.

The signal is one of a clock that counts the process's own time, so that a busy machine changes nothing.
"""

import signal
import traceback

import numpy as np
import pytest

import nnpar
from nnpar import BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear, Sequential, Trainer, convolution, shapes
from nnpar._kernels.gemm import gemm_step
from nnpar.arrays import empty

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")

SOON = 0.01  # seconds of the process's time
# Algorithm, input, weights, groups: a tenth of a second or more on two fast cores, where tasks may begin after 0.05.
CONVOLUTIONS = {
    "indirect": ((32, 64, 56, 56), (64, 64, 9, 9), 1),
    "depthwise": ((8, 256, 64, 64), (256, 1, 31, 31), 256),
    "framed": ((32, 8, 128, 128), (64, 8, 11, 11), 1),
    "planar": ((64, 3, 128, 128), (64, 3, 11, 11), 1),
    "winograd": ((64, 512, 28, 28), (512, 512, 3, 3), 1),
    "gemm": ((16, 1024, 28, 28), (2048, 1024, 1, 1), 1),
}


class Stop(Exception):  # noqa: N818
    pass


@pytest.fixture
def alarm():
    """Sets a handler, and the clock that calls it."""
    before = signal.getsignal(signal.SIGVTALRM)

    def start(handler):
        signal.signal(signal.SIGVTALRM, handler)
        signal.setitimer(signal.ITIMER_VIRTUAL, SOON)

    yield start
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    signal.signal(signal.SIGVTALRM, before)


def raise_it(*_):
    raise Stop


def the_shape(algorithm):
    x_shape, w_shape, groups = CONVOLUTIONS[algorithm]
    return shapes.conv2d(x_shape, w_shape, 1, (w_shape[2] // 2, w_shape[3] // 2), 1, groups, "test")


def convolution_step(which, algorithm):
    s = the_shape(algorithm)
    x, w, y = empty(s.input_shape), np.zeros(s.weight_shape, np.float32), empty(s.output_shape)
    x[...], y[...] = 1.0, 1.0
    if which == "forward":
        return convolution.forward(s, x, w, None, y, algorithm=algorithm)
    if which == "input_grad":
        return convolution.input_grad(s, y, w, x, algorithm)
    return convolution.weight_grad(s, x, y, w, algorithm)


STEPS = [
    (which, algorithm)
    for algorithm in CONVOLUTIONS
    for which in ("forward", "input_grad", "weight_grad")
    if convolution.fits(algorithm, the_shape(algorithm), which)
]


@pytest.mark.parametrize(("which", "algorithm"), STEPS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_convolution_ends_in_its_middle(alarm, which, algorithm, threads):
    with nnpar.num_threads(threads):
        step = convolution_step(which, algorithm)
        alarm(raise_it)
        with pytest.raises(Stop) as error:
            step()
    assert "Step.look" in "".join(traceback.format_tb(error.tb))


def test_a_matrix_product_ends_in_its_middle(alarm):
    a = np.ones((3072, 3072), np.float32)
    with nnpar.num_threads(1):
        step = gemm_step(a, a, np.empty_like(a))
        alarm(raise_it)
        with pytest.raises(Stop) as error:
            step()
    assert "Step.look" in "".join(traceback.format_tb(error.tb))


def test_a_handler_that_returns_changes_nothing(alarm):
    calls = []
    a = np.random.default_rng(0).standard_normal((3072, 3072)).astype(np.float32)
    results = [np.full_like(a, np.nan) for _ in range(2)]
    with nnpar.num_threads(1):
        gemm_step(a, a, results[0])()
        step = gemm_step(a, a, results[1])
        alarm(lambda *_: calls.append(1))
        step()
    assert calls == [1]
    np.testing.assert_array_equal(*results)


def test_a_step_that_was_ended_runs_again(alarm):
    a = np.ones((3072, 3072), np.float32)
    c = np.empty_like(a)
    with nnpar.num_threads(1):
        step = gemm_step(a, a, c)
        alarm(raise_it)
        with pytest.raises(Stop):
            step()
        step()
    assert (c == 3072.0).all()


def test_training_goes_on_from_the_last_whole_step(alarm):
    """Weights and running statistics are as they were, and what follows is what would have followed."""

    def trainer():
        nnpar.manual_seed(0)
        long = Conv2d(16, 64, 9, padding=4)
        return Trainer(
            Sequential(Conv2d(16, 16, 1), BatchNorm2d(16), long, GlobalAvgPool2d(), Flatten(), Linear(64, 2))
        )

    x, y = np.random.default_rng(0).standard_normal((32, 16, 64, 64)).astype(np.float32), np.arange(32) % 2
    with nnpar.num_threads(1):
        whole, ended = trainer(), trainer()
        for one in (whole, ended):
            one.train_step(x, y)
        before = ended.model.state_dict()
        alarm(raise_it)
        with pytest.raises(Stop) as error:
            ended.train_step(x, y)
        assert "run" in "".join(traceback.format_tb(error.tb))
        for name, array in ended.model.state().items():
            np.testing.assert_array_equal(array, before[name])
        assert ended.train_step(x, y) == whole.train_step(x, y)
    for name, array in ended.model.state().items():
        np.testing.assert_array_equal(array, whole.model.state()[name])
