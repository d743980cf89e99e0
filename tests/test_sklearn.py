"""scikit-learn's own checks of both estimators, and how people use them."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn")

from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import nnpar
from nnpar import zoo
from nnpar.integrations.sklearn import NeuralClassifier, NeuralRegressor

X, Y = load_digits(return_X_y=True)
X = X / 16


@parametrize_with_checks([NeuralClassifier(), NeuralRegressor()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def dense(**options):
    return NeuralClassifier(
        **{"hidden_layer_sizes": (32,), "batch_size": 32, "learning_rate": 5e-3, "max_iter": 20, "random_state": 0}
        | options
    )


def cnn(shape, classes):
    assert shape == (1, 8, 8)
    assert classes == 10
    return zoo.digits_cnn()


def test_pipelines_searches_and_cross_validation():
    pipeline = make_pipeline(StandardScaler(), dense())
    assert cross_val_score(pipeline, X[:600], Y[:600], cv=3, n_jobs=2).mean() > 0.85
    search = GridSearchCV(dense(), {"learning_rate": [1e-5, 1e-2], "optimizer": ["Adam", "RMSprop"]}, cv=2, n_jobs=2)
    search.fit(X[:400], Y[:400])
    assert search.best_params_["learning_rate"] == 1e-2
    assert search.score(X[400:], Y[400:]) > 0.85


def test_calibration():
    calibrated = CalibratedClassifierCV(dense(), cv=2).fit(X[:600], Y[:600])
    probabilities = calibrated.predict_proba(X[600:800])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (calibrated.predict(X[600:800]) == Y[600:800]).mean() > 0.85


def test_a_model_for_images_by_a_function_or_as_it_is():
    images = X.reshape(-1, 1, 8, 8)
    by_function = NeuralClassifier(cnn, input_shape=(1, 8, 8), batch_size=32, max_iter=4, random_state=0).fit(
        X[:800], Y[:800]
    )
    assert by_function.score(X[800:], Y[800:]) > 0.85
    without_shape = NeuralClassifier(cnn, batch_size=32, max_iter=4, random_state=0).fit(images[:800], Y[:800])
    np.testing.assert_array_equal(without_shape.predict_proba(images[800:]), by_function.predict_proba(X[800:]))
    model = zoo.digits_cnn()
    before = model.state_dict()
    NeuralClassifier(model, input_shape=(1, 8, 8), max_iter=1, random_state=0).fit(X[:100], np.arange(100) % 10)
    for name, array in model.state().items():
        np.testing.assert_array_equal(array, before[name])


def test_the_same_seed_gives_the_same_bits_and_leaves_other_seeds_alone():
    nnpar.manual_seed(7)
    expected = nnpar.Linear(3, 3).weight
    nnpar.manual_seed(7)
    first = dense().fit(X[:300], Y[:300])
    np.testing.assert_array_equal(nnpar.Linear(3, 3).weight, expected)
    second = clone(first).fit(X[:300], Y[:300])
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    other = dense(random_state=1).fit(X[:300], Y[:300])
    assert (first.predict_proba(X) != other.predict_proba(X)).any()
    order = np.random.default_rng(0).permutation(300)
    shuffled = dense().fit(X[:300][order], Y[:300][order])
    np.testing.assert_array_equal(first.predict_proba(X), shuffled.predict_proba(X))


def test_partial_fits_and_warm_starts_go_on():
    classifier = dense()
    with pytest.raises(ValueError, match="partial_fit: classes: expected all classes in the first call"):
        classifier.partial_fit(X[:50], Y[:50])
    for start in range(0, 1600, 100):
        classifier.partial_fit(X[start : start + 100], Y[start : start + 100], classes=np.arange(10))
    assert classifier.score(X[1600:], Y[1600:]) > 0.5
    copied = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(copied.predict(X), classifier.predict(X))
    before = classifier.predict_proba(X)
    copied.partial_fit(X, Y)
    assert copied.score(X[1600:], Y[1600:]) > 0.5
    np.testing.assert_array_equal(classifier.predict_proba(X), before)
    with pytest.raises(ValueError, match=r"partial_fit: y: expected the classes .* got \[11\] as well"):
        classifier.partial_fit(X[:2], [0, 11])
    warm = dense(warm_start=True, max_iter=2)
    scores = [warm.fit(X[:800], Y[:800]).score(X[800:], Y[800:]) for _ in range(6)]
    assert scores[-1] > scores[0]
    assert warm.n_iter_ == 12


def test_early_stopping_holds_out_a_part():
    classifier = dense(max_iter=300, early_stopping=True, n_iter_no_change=3, learning_rate=0.02).fit(X, Y)
    assert classifier.n_iter_ < 300
    assert "validation_loss" in classifier.history_


def test_regression_of_one_and_of_several_numbers():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 2))
    y = np.stack([x[:, 0] * x[:, 1], x[:, 0] - x[:, 1]], axis=1)
    options = {"hidden_layer_sizes": (32, 32), "learning_rate": 5e-3, "random_state": 0}
    both = NeuralRegressor(**options).fit(x[:300], y[:300])
    assert both.predict(x).shape == (400, 2)
    assert both.score(x[300:], y[300:]) > 0.95
    one = NeuralRegressor(**options).fit(x[:300], y[:300, 1])
    assert one.predict(x).shape == (400,)
    assert one.score(x[300:], y[300:, 1]) > 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dense(optimizer="Adem").fit(X, Y), "NeuralClassifier: optimizer: expected one of .*, got 'Adem'"),
        (lambda: dense(input_shape=(1, 9, 9)).fit(X, Y), "X: expected 81 features for input_shape"),
        (lambda: dense(model=nnpar.Sequential(nnpar.Linear(64, 3))).fit(X, Y), "model: expected 10 outputs, got"),
        (lambda: dense(max_iter=0).fit(X, Y), "fit: epochs: expected at least 1, got 0"),
        (lambda: dense(loss="l3").fit(X, Y), "loss: expected one of cross_entropy"),
        (lambda: dense().fit(X, Y, np.zeros(len(Y))), "at least one (non-zero number|weight above 0)"),
        (lambda: dense(warm_start=True).fit(X, Y).fit(X[:5], [0, 1, 2, 3, 4]), "warm_start: y: expected the classes"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
