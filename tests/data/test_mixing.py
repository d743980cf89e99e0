"""Mixed samples against what the papers' formulae say of the draws, and what training with them does."""

import numpy as np
import pytest
import scipy.stats

import nnpar
from nnpar import CrossEntropy, Linear, Trainer, data, reference, zoo
from nnpar.data import Arrays, Loader
from nnpar.data.mixing import CutMix, Mixing, Mixup, mixed
from nnpar.data.transforms import uniform

RNG = np.random.default_rng(0)
IMAGES = RNG.random((53, 3, 12, 10)).astype(np.float32)
LABELS = np.arange(53) % 4
NUMBERS = np.arange(100, 153)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 2.5, 100.0])
def test_shares_have_the_beta_distribution(alpha):
    uniforms = np.linspace(0.0005, 0.9995, 1000)[:, np.newaxis]
    shares = Mixup(alpha).shares(uniforms)
    np.testing.assert_allclose(shares, scipy.stats.beta(alpha, alpha).ppf(uniforms[:, 0]), atol=2e-5)


def test_mixup_is_the_weighted_sum():
    images, targets, weights = mixed([Mixup(0.4, classes=4)], IMAGES, LABELS, None, 7, 3, NUMBERS)
    own = scipy.stats.beta(0.4, 0.4).ppf(uniform(7, 3, NUMBERS, 255, 2)[:, 1])
    for i in range(53):
        expected = own[i] * IMAGES[i].astype(float) + (1 - own[i]) * IMAGES[52 - i]
        np.testing.assert_allclose(images[i], expected, atol=1e-5)
        np.testing.assert_allclose(
            targets[i], own[i] * (LABELS[i] == range(4)) + (1 - own[i]) * (LABELS[52 - i] == range(4)), atol=1e-5
        )
    assert weights is None


def test_cutmix_has_a_box_of_the_other_image():
    images, targets, _ = mixed([CutMix(1.0, classes=4)], IMAGES, LABELS, None, 7, 3, NUMBERS)
    draws = uniform(7, 3, NUMBERS, 255, 4)[:, 1:]
    areas = []
    for i in range(53):
        from_other = (images[i] != IMAGES[i]).all(axis=0)
        half = np.sqrt(1 - draws[i, 0]) * np.array([12, 10]) / 2  # Beta(1, 1) is uniform
        rows, cols = (
            [middle * size - side <= k + 0.5 <= middle * size + side for k in range(size)]
            for middle, side, size in zip(draws[i, 1:], half, (12, 10), strict=True)
        )
        if i != 26:  # the middle one of the batch is its own partner
            np.testing.assert_array_equal(from_other, np.outer(rows, cols))
            area = from_other.mean()
            own = (1 - area) * (LABELS[i] == range(4)) + area * (LABELS[52 - i] == range(4))
            np.testing.assert_allclose(targets[i], own, atol=1e-6)
            areas.append(area)
        np.testing.assert_array_equal(images[i][:, from_other], IMAGES[52 - i][:, from_other])
    assert min(areas) < 0.05
    assert max(areas) > 0.5


def test_of_several_ways_each_sample_goes_one():
    ways = [Mixup(1.0, classes=4), CutMix(1.0, classes=4)]
    images, *_ = mixed(ways, IMAGES, LABELS, None, 1, 0, NUMBERS)
    kept = np.array([(images[i] == IMAGES[i]).mean() for i in range(53)])
    summed = (kept < 0.01).sum()
    assert 15 < summed < 38


def test_targets_of_regression():
    values = RNG.random((53, 2))
    _, targets, _ = mixed([Mixup(1.0)], IMAGES, values, None, 0, 0, NUMBERS)
    own = uniform(0, 0, NUMBERS, 255, 2)[:, 1:]
    np.testing.assert_allclose(targets, own * values + (1 - own) * values[::-1], atol=1e-6)


def test_a_mixture_weighs_what_its_parts_do():
    """The loss of mixtures is linear in the targets: that of each part, times its share and its weight."""
    weights = RNG.random(53).astype(np.float32)
    weights[[0, 52]] = 0
    ways = [Mixup(1.0, classes=4)]
    _, targets, mixed_weights = mixed(ways, IMAGES, LABELS, weights, 0, 0, NUMBERS)
    own = uniform(0, 0, NUMBERS, 255, 2)[:, 1]
    logits = RNG.standard_normal((53, 4)).astype(np.float32)
    losses = np.array(
        [[reference.softmax_cross_entropy(z[None].astype(float), [c])[0] for c in range(4)] for z in logits]
    )
    parts = own * weights * losses[range(53), LABELS]
    parts += (1 - own) * weights[::-1] * losses[range(53), LABELS[::-1]]
    result = np.empty(4)
    CrossEntropy().step(logits, targets, None, result, mixed_weights)()
    assert result[0] == pytest.approx(parts.sum(), rel=1e-5)
    assert np.isfinite(targets).all()


@pytest.mark.parametrize("workers", [0, 2])
def test_neither_threads_nor_where_an_epoch_goes_on_change_a_bit(workers):
    ways = [Mixup(0.2, classes=4), CutMix(classes=4)]
    whole = list(Loader((IMAGES, LABELS), 8, mix=ways, workers=1).batches(5, 2))
    rest = list(Loader((IMAGES, LABELS), 8, mix=ways, workers=workers).batches(5, 2, 16))
    assert len(rest) == len(whole) - 2
    for batch, same in zip(rest, whole[2:], strict=True):
        np.testing.assert_array_equal(batch.images, same.images)
        np.testing.assert_array_equal(batch.labels, same.labels)
        assert batch.labels.dtype == np.float32


def test_training_with_mixtures_validates_on_class_numbers():
    train, test = data.digits()
    nnpar.manual_seed(0)
    trainer = Trainer(zoo.digits_cnn(), metrics=["f1"])
    loader = Loader(train, 32, mix=[Mixup(0.2, classes=10), CutMix(classes=10)])
    history = trainer.fit(loader, validation=test, epochs=4, progress=False)
    assert history["validation_accuracy"][-1] > 0.9
    assert history["validation_f1"][-1] > 0.9
    assert history["accuracy"][-1] < history["validation_accuracy"][-1]


class Halves(Mixing):
    """A user's own: the upper half of one image, the lower of another."""

    draws = 0

    def mix(self, images, others, draws):
        result = np.where(np.arange(images.shape[2])[:, np.newaxis] < images.shape[2] / 2, images, others)
        return result, np.full(len(images), 0.5)


def test_a_way_of_ones_own():
    images, targets, _ = mixed([Halves(classes=4)], IMAGES, LABELS, None, 0, 0, NUMBERS)
    np.testing.assert_array_equal(images[3, :, :6], IMAGES[3, :, :6])
    np.testing.assert_array_equal(images[3, :, 6:], IMAGES[49, :, 6:])
    assert set(targets.ravel()) <= {0.0, 0.5, 1.0}


def batches(mix, labels=LABELS, images=IMAGES):
    return list(Loader(Arrays(images, labels), 8, mix=mix, workers=0).batches())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Mixup(0), ValueError, "Mixup: alpha: expected a number above 0, got 0.0"),
        (lambda: CutMix(1e3), ValueError, "CutMix: alpha: expected at most 100, got 1000"),
        (lambda: CutMix(classes=1), ValueError, "CutMix: classes: expected at least 2, got 1"),
        (lambda: batches("mixup"), TypeError, "Loader: mix: expected Mixup, CutMix or several, got str"),
        (lambda: batches(Mixup()), ValueError, "Mixup: classes: expected their number, to mix class numbers, got None"),
        (lambda: batches(Mixup(classes=3)), ValueError, "Mixup: labels: expected 0 to 2, got 3"),
        (
            lambda: batches(Mixup(classes=4), np.zeros((53, 12, 10), int)),
            ValueError,
            r"Mixup: labels: expected shape \(8,\), got \(8, 12, 10\)",
        ),
        (
            lambda: batches(CutMix(classes=4), images=IMAGES[:, 0, 0]),
            ValueError,
            r"CutMix: expected images of shape \(N, C, H, W\), got \(8, 10\)",
        ),
    ],
)
def test_what_does_not_fit(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_losses_without_classes_take_mixed_targets():
    trainer = Trainer(Linear(10, 2), loss="mse")
    values = RNG.random((53, 2), np.float32)
    history = trainer.fit(Loader((IMAGES[:, 0, 0], values), 8, mix=Mixup()), epochs=2, progress=False)
    assert len(history["loss"]) == 2
