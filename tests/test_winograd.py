"""Winograd's convolution against the plain sum in float64, within the bound that nnpar.convolution.choose states."""

import cases
import numpy as np
import pytest

import nnpar
from nnpar import ops, reference
from nnpar.convolution import fits

# The interpolation points for 3x3; for 5x5 two more.
POINTS = [0, 1, -1, 2, -2, 1 / 2, -1 / 2]


def matrices(kernel):
    """B, G and A of y = A^T [(G g G^T) * (B^T d B)] A, a column or row for each point, the last for infinity."""
    points = np.array(POINTS[: kernel + 2])
    others = [np.delete(points, i) for i in range(len(points))]
    b = [np.append(np.poly(roots)[::-1], 0) for roots in others] + [np.poly(points)[::-1]]
    g = [p ** np.arange(kernel) / np.prod(p - roots) for p, roots in zip(points, others, strict=True)]
    a = [p ** np.arange(4) for p in points]
    return np.array(b).T, np.array([*g, np.eye(kernel)[-1]]), np.array([*a, np.eye(4)[-1]])


def conv(kernel, name, n, c, h, w, oc, padding=None):
    padding = (kernel // 2, kernel // 2) if padding is None else padding
    return cases.Conv2dCase(f"{kernel}x{kernel}-{name}", n, c, h, w, oc, (kernel, kernel), padding=padding)


CASES = [
    *(case for case in cases.small(cases.CONV2D_CASES) if case.kernel in ((3, 3), (5, 5)) and case.groups == 1
      and case.stride == case.dilation == (1, 1)),
    # Images around tiles of 4 x 4 outputs, and paddings from none to more than the kernel.
    *(conv(k, f"{h}x{w}", 2, 3, h, w, 5) for k in (3, 5)
      for h, w in [(1, 1), (2, 9), (3, 4), (4, 3), (5, 5), (8, 6), (9, 13)]),
    *(conv(k, f"padding-{p}", 1, 5, 6, 7, 9, p) for k in (3, 5)
      for p in [(0, 0), (0, 1), (1, 2), (2, 0), (2, 2), (3, 1), (4, 3), (4, 4), (5, 7)]),
    # Channels around vectors, panels, cache lines, rows of filters, and rows of a task of the weight gradient.
    *(conv(3, f"c-{c}", 1, c, 5, 6, 7) for c in (1, 2, 4, 8, 15, 16, 17, 31, 33, 64, 65, 97, 100)),
    *(conv(3, f"oc-{oc}", 1, 7, 5, 6, oc) for oc in (1, 2, 4, 8, 12, 13, 15, 16, 17, 31, 33, 48, 64, 65, 100, 129)),
    *(conv(5, f"c-{c}", 1, c, 5, 6, 7) for c in (1, 4, 6, 15, 16, 17, 33, 97)),
    *(conv(5, f"oc-{oc}", 1, 7, 5, 6, oc) for oc in (1, 4, 13, 16, 17, 64, 65, 129)),
    # Tiles of 4 x 4 outputs in a block of one thread: rows of products of one height, and of two.
    *(conv(k, f"tiles-{t}", 1, 5, 4, 4 * t, oc) for k in (3, 5) for oc in (17, 65) for t in (6, 7, 11, 12, 13, 23, 25)),
    # Source channels that are multiplied at once, with and without a rest; runs of blocks, which ask for the next.
    *(conv(3, f"depth-{c}", 1, c, 6, 5, 18) for c in (63, 80, 128, 129)),
    conv(3, "runs-of-blocks", 7, 3, 61, 66, 5),
    # Blocks of tiles: of all threads, one and several, of a thread; filters and sums that never go to memory.
    conv(3, "shared-filters", 2, 271, 29, 34, 270),
    conv(3, "shared-blocks", 3, 9, 29, 30, 10),
    conv(3, "own-blocks", 13, 7, 31, 32, 5),
    conv(3, "shared-sums", 8, 129, 13, 19, 130),
    conv(3, "streamed", 2, 171, 9, 6, 175),
    conv(3, "streamed-128-tiles", 2, 171, 30, 31, 175),
    conv(3, "shared-129-tiles", 3, 171, 3, 170, 175),
    conv(3, "own-64-tiles", 1, 13, 32, 31, 32),
    conv(3, "own-65-tiles", 1, 25, 20, 50, 17),
    # Strips of channels of v and z: whole ones, and one channel more.
    conv(3, "whole-strips", 1, 192, 5, 6, 192),
    conv(3, "strips-and-one", 1, 193, 5, 6, 193),
    conv(5, "shared-blocks", 3, 9, 29, 30, 10),
    conv(5, "own-blocks", 13, 7, 31, 32, 5),
    conv(5, "shared-sums", 4, 97, 19, 26, 98),
    conv(5, "streamed", 2, 131, 9, 6, 134),
]  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=cases.name_of)


def tiles(images, size):
    """(n, c, h, w) zero-padded and cut into overlapping squares of `size`, 4 apart: (n, c, rows, cols, size, size)."""
    rows, cols = ((length - size) // 4 + 1 for length in images.shape[2:])
    cut = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(2, 3))
    return cut[:, :, : 4 * rows : 4, : 4 * cols : 4]


def padded(images, before, outputs, size):
    """Zeros around images, so that tiles of `size` cover `outputs` positions, of which the first begins `before` it."""
    width = [(0, 0), (0, 0)]
    for length, pad, out in zip(images.shape[2:], before, outputs, strict=True):
        covered = -(-out // 4) * 4 + size - 4
        width.append((pad, max(covered - pad - length, 0)))
    return np.pad(images, width)


def both_sides(left, middle, right):
    return np.abs(left) @ np.abs(middle) @ np.abs(right)


def forward_magnitude(x, w, padding, outputs):
    """The whole computation on absolute values, (n, oc, oh, ow)."""
    kernel = w.shape[2]
    b, g, a = matrices(kernel)
    v = both_sides(b.T, tiles(padded(x, padding, outputs, kernel + 3), kernel + 3), b)
    m = np.einsum("ocij,nctsij->notsij", both_sides(g, w, g.T), v, optimize=True)
    y = both_sides(a.T, m, a)
    n, oc, rows, cols = y.shape[:4]
    return y.swapaxes(3, 4).reshape(n, oc, 4 * rows, 4 * cols)[:, :, : outputs[0], : outputs[1]]


def weight_magnitude(x, dy, padding, kernel):
    outputs = dy.shape[2:]
    b, g, a = matrices(kernel)
    v = both_sides(b.T, tiles(padded(x, padding, outputs, kernel + 3), kernel + 3), b)
    z = both_sides(a, tiles(padded(dy, (0, 0), outputs, 4), 4), a.T)
    return both_sides(g.T, np.einsum("nctsij,notsij->ocij", v, z, optimize=True), g)


@pytest.mark.parametrize("kernel", [3, 5])
def test_the_matrices_make_a_convolution(kernel):
    b, g, a = matrices(kernel)
    products = np.einsum("ko,kg,dk->ogd", a, g, b)
    for output, tap, pixel in np.ndindex(products.shape):
        assert abs(products[output, tap, pixel] - (pixel == output + tap)) < 1e-14


@every_case
def test_forward(case):
    x, w, bias, _ = case.arrays(draw=cases.normals)
    y = ops.conv2d(x, w, bias, *case.window, algorithm="winograd", out=np.full_like(x, np.nan, shape=case.y_shape))
    x, w, bias = (array.astype(np.float64) for array in (x, w, bias))
    magnitude = forward_magnitude(x, w, case.padding, case.y_shape[2:]) + abs(bias)[:, None, None]
    cases.assert_within(y, reference.conv2d(x, w, bias, *case.window), case.c + 40, magnitude)


@every_case
def test_input_grad(case):
    _, w, _, dy = case.arrays(draw=cases.normals)
    if max(case.padding) >= case.kernel[0]:
        with pytest.raises(ValueError, match="cannot compute the input_grad pass"):
            ops.conv2d_input_grad(dy, w, case.x_shape, *case.window, algorithm="winograd")
        return
    out = np.full_like(dy, np.nan, shape=case.x_shape)
    dx = ops.conv2d_input_grad(dy, w, case.x_shape, *case.window, algorithm="winograd", out=out)
    dy, w = dy.astype(np.float64), w.astype(np.float64)
    turned = w[:, :, ::-1, ::-1].swapaxes(0, 1)
    padding = [case.kernel[0] - 1 - pad for pad in case.padding]
    magnitude = forward_magnitude(dy, turned, padding, case.x_shape[2:])
    cases.assert_within(dx, reference.conv2d_input_grad(dy, w, case.x_shape, *case.window), case.oc + 40, magnitude)


@every_case
def test_weight_grad(case):
    x, w, _, dy = case.arrays(draw=cases.normals)
    out = np.full_like(w, np.nan)
    dw = ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, algorithm="winograd", out=out)
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    terms = case.n * -(-case.y_shape[2] // 4) * -(-case.y_shape[3] // 4)
    expected = reference.conv2d_weight_grad(x, dy, case.w_shape, *case.window)
    cases.assert_within(dw, expected, terms + 40, weight_magnitude(x, dy, case.padding, case.kernel[0]))


@pytest.mark.parametrize("kernel", [3, 5])
def test_the_error_is_small_in_practice(kernel):
    """Outputs of size 1: about 10 times the error of the plain sum, and far below the bound."""
    case = conv(kernel, "typical", 2, 64, 16, 16, 64)
    x, w, _, _ = case.arrays(draw=cases.normals)
    w /= np.float32(8 * kernel)
    expected = reference.conv2d(x.astype(np.float64), w.astype(np.float64), None, *case.window)
    assert 0.9 < expected.std() < 1.1
    for algorithm, rms, worst in (("indirect", 1e-6, 1e-5), ("winograd", 5e-6, 5e-5)):
        error = ops.conv2d(x, w, None, *case.window, algorithm=algorithm) - expected
        assert np.sqrt(np.mean(error**2)) < rms
        assert abs(error).max() < worst


@pytest.mark.parametrize("name", ["shared-blocks", "own-blocks", "shared-sums", "streamed", "9x13", "tiles-25"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_threads_do_not_change_a_bit(kernel, name):
    check_threads(f"{kernel}x{kernel}-{name}")


@pytest.mark.parametrize("name", ["3x3-shared-filters", "3x3-runs-of-blocks", "3x3-depth-129"])
def test_threads_do_not_change_a_bit_of_3x3(name):
    check_threads(name)


def check_threads(name):
    case = next(case for case in CASES if case.name == name)
    x, w, bias, dy = case.arrays(draw=cases.normals)
    results = []
    for threads in (1, 2, 3, 4, 8):
        with nnpar.num_threads(threads):
            results.append([
                ops.conv2d(x, w, bias, *case.window, algorithm="winograd"),
                ops.conv2d_input_grad(dy, w, case.x_shape, *case.window, algorithm="winograd"),
                ops.conv2d_weight_grad(x, dy, case.w_shape, *case.window, algorithm="winograd"),
            ])  # fmt: skip
    for others in results[1:]:
        for first, other in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(first, other)


def test_all_cases_can_be_computed():
    for case in CASES:
        shape = nnpar.shapes.conv2d(case.x_shape, case.w_shape, *case.window, "test")
        assert fits("winograd", shape, "forward")
        assert fits("winograd", shape, "weight_grad")
