"""Metrics against scikit-learn."""

import numpy as np
import pytest

from nnpar import metrics

sklearn = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn")


def scores(rng, samples, classes, ties):
    values = rng.standard_normal((samples, classes))
    return np.round(values) if ties else values


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("samples", [1, 7, 200])
def test_metrics_are_those_of_scikit_learn(classes, ties, samples):
    rng = np.random.default_rng(classes + samples)
    outputs, labels = scores(rng, samples, classes, ties), rng.integers(0, classes, samples)
    taken, options = outputs.argmax(axis=1), {"average": "macro", "zero_division": 0}
    assert metrics.accuracy(outputs, labels) == pytest.approx(sklearn.accuracy_score(labels, taken))
    matrix = sklearn.confusion_matrix(labels, taken, labels=range(classes))
    np.testing.assert_array_equal(metrics.confusion_matrix(outputs, labels), matrix)
    assert metrics.precision(outputs, labels) == pytest.approx(sklearn.precision_score(labels, taken, **options))
    assert metrics.recall(outputs, labels) == pytest.approx(sklearn.recall_score(labels, taken, **options))
    assert metrics.f1(outputs, labels) == pytest.approx(sklearn.f1_score(labels, taken, **options))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_roc_auc_is_that_of_scikit_learn(classes, ties):
    rng = np.random.default_rng(classes)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 100)])
    outputs = scores(rng, len(labels), classes, ties)
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    if classes == 2:
        expected = sklearn.roc_auc_score(labels, outputs[:, 1] - outputs[:, 0])
        assert metrics.roc_auc(outputs, labels) == pytest.approx(expected)
    else:
        expected = sklearn.roc_auc_score(labels, shares, multi_class="ovr")
        assert metrics.roc_auc(shares, labels) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_that_of_scikit_learn(k):
    rng = np.random.default_rng(k)
    outputs, labels = rng.standard_normal((300, 8)), rng.integers(0, 8, 300)
    expected = sklearn.top_k_accuracy_score(labels, outputs, k=k, labels=range(8))
    assert metrics.top_k_accuracy(outputs, labels, k) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 3)])
def test_r2_is_that_of_scikit_learn(shape):
    rng = np.random.default_rng(0)
    outputs, targets = rng.standard_normal(shape), rng.standard_normal(shape)
    assert metrics.r2(outputs, targets) == pytest.approx(sklearn.r2_score(targets, outputs))
    constant = np.ones(shape)
    assert metrics.r2(constant, constant) == 1.0
    assert metrics.r2(outputs, constant) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy([1.0], [0]), r"accuracy: outputs: expected shape \(N, classes\), got \(1,\)"),
        (lambda: metrics.accuracy(np.zeros((0, 2)), []), r"accuracy: outputs: expected shape \(N, classes\)"),
        (lambda: metrics.f1(np.zeros((2, 2)), [0, 2]), "confusion_matrix: labels: expected 0 to 1, got 0 to 2"),
        (lambda: metrics.f1(np.zeros((2, 2)), [0.0, 1.0]), "labels: expected 2 integers, got float64"),
        (lambda: metrics.top_k_accuracy(np.zeros((2, 2)), [0, 1], 0), "top_k_accuracy: k: expected at least 1"),
        (lambda: metrics.roc_auc(np.zeros((2, 2)), [1, 1]), "roc_auc: labels: expected samples of each class"),
        (lambda: metrics.r2([1.0], [1.0]), "r2: targets: expected two or more"),
        (lambda: metrics.by_name(["f2"], "Trainer"), "Trainer: metrics: expected one of accuracy, .*, got 'f2'"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
