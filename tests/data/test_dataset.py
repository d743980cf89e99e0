"""Dataset: what it accepts, what it refuses, and how it is cut."""

import numpy as np
import pytest

from nnpar.data import Dataset


def numbered(n: int, labels: object = None) -> Dataset:
    """A set whose images hold their own index."""
    return Dataset(np.arange(n).reshape(n, 1), np.zeros(n, int) if labels is None else np.asarray(labels), "numbered")


def indices(*parts: Dataset) -> list[int]:
    return [int(x) for part in parts for x in part.images[:, 0]]


@pytest.mark.parametrize("dtype", ["bool", "u1", "i8", "f2", "f8", ">f4"])
def test_images_become_float32(dtype):
    dataset = Dataset(np.ones((2, 1, 3, 4), dtype), np.array([0, 1]))
    assert dataset.images.dtype == np.float32
    assert dataset.images.shape == (2, 1, 3, 4)
    assert (dataset.images == 1).all()


@pytest.mark.parametrize(
    ("dtype", "expected"), [("u1", "i8"), ("i4", "i8"), ("bool", "i8"), ("f8", "f4"), ("f4", "f4")]
)
def test_labels_become_int64_or_float32(dtype, expected):
    assert Dataset(np.ones((3, 2)), np.array([0, 1, 1], dtype)).labels.dtype == expected


def test_arrays_of_the_right_type_are_kept():
    images, labels = np.zeros((3, 2), np.float32), np.zeros((3, 4), np.float32)
    dataset = Dataset(images, labels)
    assert dataset.images is images
    assert dataset.labels is labels


def test_values_may_be_non_finite():
    images = np.array([[np.nan], [np.inf]], np.float32)
    np.testing.assert_array_equal(Dataset(images, np.array([0, 1])).images, images)


@pytest.mark.parametrize("dtype", ["c8", "O", "U1", "M8[s]", "V4"])
@pytest.mark.parametrize("what", ["images", "labels"])
def test_refuses_what_is_not_a_real_number(dtype, what):
    arrays = {"images": np.zeros((2, 3), np.float32), "labels": np.zeros(2, int)}
    arrays[what] = np.empty(arrays[what].shape, dtype)
    with pytest.raises(TypeError, match=rf"dataset 'bad': expected {what} of a real number type, got "):
        Dataset(**arrays, name="bad")


@pytest.mark.parametrize(
    ("images_shape", "labels", "message"),
    [
        ((3, 2), np.zeros(4, int), r"labels for 3 images, got labels of shape \(4,\)"),
        ((3, 2), np.zeros(2, int), r"labels for 3 images, got labels of shape \(2,\)"),
        ((3, 2), np.float32(1), r"labels for 3 images, got labels of shape \(\)"),
        ((3, 2), np.zeros((3, 1), int), r"integer labels of shape \(N,\), .* got \(3, 1\)"),
        ((3, 1, 2, 4), np.zeros((3, 4, 2), int), r"integer labels of shape .* for each pixel, got \(3, 4, 2\)"),
        ((3, 2), np.array([0, 1, 2]), "labels 0 to 1, one per class name, got 0 to 2"),
        ((3, 2), np.array([0, 1, -1]), "labels 0 to 1, one per class name, got -1 to 1"),
        ((0, 2), np.zeros(0, int), r"no size 0, got \(0, 2\)"),
        ((3, 1, 0, 2), np.zeros(3, int), r"no size 0, got \(3, 1, 0, 2\)"),
        ((3,), np.zeros(3, int), r"shape \(N, C, H, W\) or \(N, F\).*got \(3,\)"),
    ],
)
def test_refuses_what_does_not_fit(images_shape, labels, message):
    with pytest.raises(ValueError, match=f"dataset 'bad': expected .*{message}"):
        Dataset(np.zeros(images_shape), labels, "bad", ("a", "b"))


def test_is_frozen():
    with pytest.raises(AttributeError):
        numbered(2).name = "other"  # type: ignore[misc]


def test_one_index_gives_a_sample():
    dataset = Dataset(np.arange(12).reshape(3, 1, 2, 2), np.array([5, 6, 7]))
    for index in (2, -1, np.int32(2)):
        image, label = dataset[index]
        np.testing.assert_array_equal(image, [[[8, 9], [10, 11]]])
        assert label == 7
    with pytest.raises(IndexError):
        dataset[3]


def test_iterates_over_samples():
    assert [int(label) for _, label in numbered(3, [4, 5, 6])] == [4, 5, 6]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (slice(1, None, 2), [1, 3]),
        ([4, 0, 4], [4, 0, 4]),
        ((2, 1), [2, 1]),
        (np.array([-1]), [4]),
        (np.array([1, 0, 0, 1, 0], bool), [0, 3]),
    ],
)
def test_many_indices_give_a_dataset(index, expected):
    dataset = Dataset(np.arange(5).reshape(5, 1), np.arange(5), "five", tuple("abcde"))
    part = dataset[index]
    assert indices(part) == expected
    assert part.labels.tolist() == expected
    assert (part.name, part.class_names) == ("five", tuple("abcde"))


@pytest.mark.parametrize("index", [np.zeros((2, 2), int), np.array(1), [5], [0.5], np.ones(3, bool)])
def test_refuses_other_indices(index):
    with pytest.raises(IndexError):
        numbered(5)[index]


def test_refuses_an_empty_part():
    with pytest.raises(ValueError, match=r"dataset 'numbered': expected .* got \(0, 1\)"):
        numbered(5)[3:3]


@pytest.mark.parametrize("n", [2, 3, 10, 97])
@pytest.mark.parametrize("fraction", [0.3, 0.5, 2 / 3])
@pytest.mark.parametrize("regression", [False, True])
def test_split_puts_every_sample_in_one_part(n, fraction, regression):
    dataset = numbered(n, np.arange(n) % 3 * (1.0 if regression else 1))
    first, second = dataset.split(fraction, seed=1)
    assert sorted(indices(first, second)) == list(range(n))
    assert len(first) == int(fraction * n + 0.5)
    for part in (first, second):
        np.testing.assert_array_equal(part.labels, part.images[:, 0] % 3)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.8])
def test_split_cuts_each_class_in_proportion(fraction):
    counts = np.array([1, 2, 5, 40, 100, 333])
    dataset = numbered(counts.sum(), np.repeat(np.arange(6), counts))
    first, second = dataset.split(fraction)
    got = np.bincount(first.labels, minlength=6)
    assert (np.abs(got - fraction * counts) < 1).all()
    np.testing.assert_array_equal(got + np.bincount(second.labels, minlength=6), counts)


def test_split_is_fixed_by_the_seed():
    dataset = numbered(8)
    # Written down: the same on every machine, with every version of NumPy.
    assert [indices(part) for part in dataset.split(0.5, seed=3)] == [[6, 5, 7, 3], [1, 2, 4, 0]]
    assert indices(*dataset.split(0.5, seed=3)) == indices(*dataset.split(0.5, seed=3))
    assert indices(*dataset.split(0.5, seed=3)) != indices(*dataset.split(0.5, seed=4))


def test_split_shuffles():
    first, second = numbered(100, np.repeat([0, 1], 50)).split(0.5)
    for part in (first, second):
        assert indices(part) != sorted(indices(part))
        assert 0 < part.labels[:25].sum() < 25


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.99, 1.0, -1, 1.5, float("nan")])
def test_split_refuses_an_empty_part(fraction):
    with pytest.raises(ValueError, match=f"dataset 'numbered': expected a fraction .* got {fraction}"):
        numbered(5).split(fraction)


def test_split_refuses_a_negative_seed():
    with pytest.raises(ValueError, match="positive"):
        numbered(5).split(0.5, seed=-1)


def test_take():
    dataset = numbered(5)
    assert indices(dataset.take(2)) == [0, 1]
    assert len(dataset.take(5)) == 5
    assert np.shares_memory(dataset.take(2).images, dataset.images)


@pytest.mark.parametrize("n", [-1, 0, 6])
def test_take_refuses_what_is_not_there(n):
    with pytest.raises(ValueError, match=f"expected to take 1 to 5 samples, got {n}"):
        numbered(5).take(n)
