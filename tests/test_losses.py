"""Cross-entropy of a class for each pixel: the loss, accuracy and gradient of all pixels as rows."""

import cases
import numpy as np
import pytest

import nnpar
from nnpar import SGD, Conv2d, MaxPool2d, ReLU, Sequential, Trainer, Upsample, losses, reference
from nnpar.data import Dataset

RNG = np.random.default_rng(0)


def rows(images):
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (3, 5, 4, 7), (2, 17, 9, 8), (2, 3, 1, 33)])
def test_each_pixel_is_a_row(shape):
    logits = cases.normals(RNG, shape)
    labels = RNG.integers(0, shape[1], (shape[0], *shape[2:]))
    loss = losses.get("cross_entropy")
    target = loss.check_target(labels, shape, "test")
    assert loss.new_target(shape, target.dtype).shape == target.shape
    grad, result = cases.channels_last(np.full(shape, np.nan, np.float32)), np.empty(4)
    loss.step(cases.channels_last(logits), target, grad, result)()
    expected, expected_grad = reference.softmax_cross_entropy(rows(logits).astype(np.float64), labels.ravel())
    assert result[0] / shape[0] == pytest.approx(expected, rel=1e-6)
    assert result[1] / shape[0] == pytest.approx(np.mean(logits.argmax(axis=1) == labels))
    np.testing.assert_allclose(rows(grad), expected_grad, rtol=1e-5, atol=1e-9)
    loss.step(cases.channels_last(logits), target, None, result)()
    assert result[0] / shape[0] == pytest.approx(expected, rel=1e-6)


def network():
    nnpar.manual_seed(0)
    return Sequential(
        Conv2d(2, 8, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(8, 8, 3, padding=1), ReLU(), Upsample(scale_factor=2),
        Conv2d(8, 3, 1),
    )  # fmt: skip


def test_training_learns_the_classes_of_pixels():
    """Squares of 2 x 2 pixels, of three classes that the first channel tells, in batches of which one is smaller."""
    classes = RNG.integers(0, 3, (50, 4, 4)).repeat(2, axis=1).repeat(2, axis=2)
    images = RNG.standard_normal((50, 2, 8, 8)).astype(np.float32) * 0.2
    images[:, 0] += classes - 1
    data = Dataset(images, classes)
    trainer = Trainer(network(), optimizer=SGD(0.1, momentum=0.9))
    history = trainer.fit(data, validation=data.take(7), epochs=20, batch_size=8, progress=False)
    assert history["loss"][0] > 0.9
    assert history["validation_accuracy"][-1] > 0.95
    logits = trainer.predict(images)
    expected, _ = reference.softmax_cross_entropy(rows(logits).astype(np.float64), classes.ravel())
    result = trainer.evaluate(data, batch_size=9)
    assert result["loss"] == pytest.approx(expected, rel=1e-5)
    assert result["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == classes))
    train, test = data.split(0.8)
    assert (len(train), test.labels.shape) == (40, (10, 8, 8))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.zeros((2, 8), int), ValueError, r"labels: expected shape \(2, 8, 8\), got \(2, 8\)"),
        (np.zeros(2, int), ValueError, r"labels: expected shape \(2, 8, 8\), got \(2,\)"),
        (np.full((2, 8, 8), 3), ValueError, "labels: expected 0 to 2, got 3"),
        (np.zeros((2, 8, 8)), TypeError, "labels: expected integers, got dtype float64"),
    ],
)
def test_labels_that_do_not_fit(labels, error, message):
    with pytest.raises(error, match=message):
        Trainer(network()).train_step(np.zeros((2, 2, 8, 8)), labels)


def test_outputs_that_do_not_fit():
    with pytest.raises(ValueError, match=r"output of shape \(N, classes\) or \(N, classes, H, W\), got \(2, 3, 4\)"):
        losses.get("cross_entropy").check_target(np.zeros(2, int), (2, 3, 4), "test")
