"""digits: the set that ships with the package is whole, and always split in the same way."""

import numpy as np

from nnpar.data import digits

CLASS_COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_holds_1797_images_in_two_parts():
    train, test = digits()
    assert train.images.shape == (1438, 1, 8, 8)
    assert test.images.shape == (359, 1, 8, 8)
    counts = np.bincount(np.concatenate([train.labels, test.labels]))
    assert counts.tolist() == CLASS_COUNTS


def test_values_are_sixteenths_from_0_to_1():
    for part in digits():
        assert part.images.dtype == np.float32
        assert np.unique(part.images * 16).tolist() == list(range(17))


def test_every_digit_is_split_in_the_same_proportion():
    train, test = digits()
    for part, share in ((train, 0.8), (test, 0.2)):
        assert (np.abs(np.bincount(part.labels) - share * np.array(CLASS_COUNTS)) < 1).all()


def test_parts_are_disjoint():
    # No two of the images are equal, so that an image tells its sample.
    train, test = ({image.tobytes() for image in part.images} for part in digits())
    assert (len(train), len(test)) == (1438, 359)
    assert not train & test


def test_is_the_same_every_time():
    for first, second in zip(digits(), digits(), strict=True):
        np.testing.assert_array_equal(first.images, second.images)
        np.testing.assert_array_equal(first.labels, second.labels)


def test_names():
    for part in digits():
        assert part.name == "digits"
        assert part.class_names == tuple("0123456789")


def test_looks_like_digits():
    """A digit is nearest to a digit of its own kind: labels belong to their images."""
    train, test = digits()
    x, y = test.images.reshape(len(test), -1), train.images.reshape(len(train), -1)
    distance = (y * y).sum(1) - 2 * x @ y.T
    assert (train.labels[distance.argmin(1)] == test.labels).mean() > 0.97
