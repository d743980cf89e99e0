"""Estimators for scikit-learn: in pipelines, searches, cross-validation, calibration. Needs ``nnpar[sklearn]``."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnpar import losses, optimizers, random
from nnpar._checks import Array
from nnpar.callbacks import EarlyStopping
from nnpar.data.dataset import Dataset
from nnpar.layers import Flatten, Layer, Linear, ReLU, Sequential
from nnpar.optimizers import Optimizer
from nnpar.shapes import Shape
from nnpar.trainer import Trainer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError(
        f"nnpar.integrations.sklearn needs scikit-learn: pip install 'nnpar[sklearn]' ({error})"
    ) from error

__all__ = ["NeuralClassifier", "NeuralRegressor"]

Build = Callable[[Shape, int], Layer]
FEWEST_ROWS = 8  # of a prediction: with less, products are summed in another order


class _Neural(BaseEstimator):  # type: ignore[misc]
    """What both estimators have in common."""

    model_: Layer
    _default_loss: str

    def __init__(
        self,
        model: Layer | Build | None = None,
        hidden_layer_sizes: Sequence[int] = (100,),
        input_shape: Shape | None = None,
        loss: str | losses.Loss | None = None,
        optimizer: str | Callable[[float], Optimizer] = "Adam",
        learning_rate: float = 1e-3,
        batch_size: int = 200,
        max_iter: int = 200,
        tol: float = 1e-4,
        n_iter_no_change: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.hidden_layer_sizes = hidden_layer_sizes
        self.input_shape = input_shape
        self.loss = loss
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _samples(self, x: Any) -> Array:
        """Features in the shape that the model takes."""
        samples = np.asarray(x, np.float32)
        if self.input_shape is None:
            return samples
        if math.prod(samples.shape[1:]) != math.prod(self.input_shape):
            raise ValueError(
                f"{type(self).__name__}: X: expected {math.prod(self.input_shape)} features for input_shape "
                f"{tuple(self.input_shape)}, got shape {samples.shape}"
            )
        return samples.reshape(len(samples), *self.input_shape)

    def _new_trainer(self, samples: Array, outputs: int) -> Trainer:
        seed = int(check_random_state(self.random_state).randint(2**31))
        with random.seeded(seed):
            model = self._new_model(samples.shape[1:], outputs)
            return Trainer(model, self.loss or self._default_loss, self._new_optimizer(), seed=seed)

    def _new_model(self, shape: Shape, outputs: int) -> Layer:
        """The model, or a copy of the one given, with so many outputs."""
        if self.model is None:
            sizes = [math.prod(shape), *self.hidden_layer_sizes, outputs]
            layers: list[Layer] = [Flatten()] if len(shape) > 1 else []
            for before, size in itertools.pairwise(sizes):
                layers += [Linear(before, size), ReLU()]
            return Sequential(*layers[:-1])
        model: Layer = copy.deepcopy(self.model) if isinstance(self.model, Layer) else self.model(shape, outputs)
        given = model.output_shape((1, *shape))
        if given != (1, outputs):
            raise ValueError(f"{type(self).__name__}: model: expected {outputs} outputs, got {given[1:]}")
        return model

    def _new_optimizer(self) -> Optimizer:
        if callable(self.optimizer):
            return self.optimizer(self.learning_rate)
        if self.optimizer not in optimizers.__all__ or self.optimizer == "Optimizer":
            names = ", ".join(name for name in optimizers.__all__ if name != "Optimizer")
            raise ValueError(f"{type(self).__name__}: optimizer: expected one of {names}, got {self.optimizer!r}")
        made: Optimizer = getattr(optimizers, self.optimizer)(lr=self.learning_rate)
        return made

    def _train(self, x: Any, targets: NDArray[Any], weights: Any, outputs: int, epochs: int, go_on: bool) -> None:
        samples = self._samples(x)
        data = _merged(samples, targets, weights)
        if not (go_on and getattr(self, "_trainer", None) is not None):
            model = self.model_ if go_on and hasattr(self, "model_") else None
            self._trainer = self._new_trainer(samples, outputs)
            if model is not None:  # a copy of an estimator that was trained goes on with its weights
                self._trainer.model.load_state_dict(model.state_dict())
        validation, callbacks = None, []
        if self.early_stopping and epochs > 1:
            data, validation = data.split(1.0 - self.validation_fraction)
            callbacks = [EarlyStopping(patience=self.n_iter_no_change)]
        elif epochs > 1:
            stopping = EarlyStopping("loss", self.n_iter_no_change, self.tol, restore_best=False)
            callbacks = [stopping]
        self._trainer.fit(data, validation, epochs, self.batch_size, progress=bool(self.verbose), callbacks=callbacks)
        self.model_ = self._trainer.model
        self.history_ = self._trainer.history
        self.n_iter_ = len(self.history_)

    def _outputs(self, x: Any) -> Array:
        check_is_fitted(self, "model_")
        samples = self._samples(validate_data(self, x, dtype=np.float32, allow_nd=True, reset=False))
        rows = len(samples)
        if rows < FEWEST_ROWS:
            samples = np.concatenate([samples, np.zeros((FEWEST_ROWS - rows, *samples.shape[1:]), np.float32)])
        outputs: Array = self.model_(samples)[:rows]
        return outputs

    def _validated(self, x: Any, y: Any, sample_weight: Any, reset: bool, **options: Any) -> tuple[Any, Any, Any]:
        x, y = validate_data(self, x, y, dtype=np.float32, allow_nd=True, reset=reset, **options)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, x, dtype=np.float32, ensure_non_negative=True)
        return x, y, weights

    def __getstate__(self) -> dict[str, Any]:
        """Without the trainer: a copy, or what comes out of a file, has the weights."""
        return {name: value for name, value in super().__getstate__().items() if name != "_trainer"}


def _merged(samples: Array, targets: NDArray[Any], weights: Array | None) -> Dataset:
    """Samples that occur several times with the same target become one that weighs as much as they do together, in an
    order that does not depend on theirs; those of no weight are left out.
    """
    count = len(samples)
    rows = [np.ascontiguousarray(part.reshape(count, -1)).view(np.uint8) for part in (samples, targets)]
    joined = np.ascontiguousarray(np.concatenate(rows, axis=1))
    keys = joined.view([("", f"V{joined.shape[1]}")]).reshape(count)
    weighs = np.ones(count) if weights is None else weights.astype(np.float64)
    counts = weighs > 0
    keys, samples, targets, weighs = keys[counts], samples[counts], targets[counts], weighs[counts]
    if not len(keys):
        raise ValueError("sample_weight: expected at least one weight above 0")
    _, first, place = np.unique(keys, return_index=True, return_inverse=True)
    totals = np.bincount(place, weighs).astype(np.float32)
    same = bool((totals == totals[0]).all())
    return Dataset(samples[first], targets[first], "X", weights=None if same else totals)


class NeuralClassifier(ClassifierMixin, _Neural):  # type: ignore[misc]
    """A network that classifies.

    Parameters
    ----------
    model : Layer or callable, optional
        A model, of which a copy is trained from its weights on, or a function of the shape of one sample and the number
        of classes that makes one. Dense layers by default.
    hidden_layer_sizes : sequence of int
        Of the dense layers, with ReLUs between.
    input_shape : tuple of int, optional
        Of one sample, such as (1, 8, 8), where X has rows of features and the model takes images.
    loss : str or Loss, optional
        See :class:`nnpar.Trainer`; cross-entropy by default.
    optimizer : str or callable
        A name in :mod:`nnpar.optimizers`, or a function of the learning rate that makes one.
    learning_rate : float
    batch_size : int
    max_iter : int
        Epochs, at most.
    tol : float
    n_iter_no_change : int
        Training ends when the loss has not fallen by `tol` for so many epochs.
    early_stopping : bool
        Whether it ends when the loss of a held-out part has not fallen instead, with the weights of the best epoch.
    validation_fraction : float
        Of that part.
    warm_start : bool
        Whether `fit` goes on from the weights of the last one.
    random_state : int, RandomState or None
    verbose : bool

    Attributes
    ----------
    classes_ : ndarray
    model_ : Layer
        The trained model, for :class:`nnpar.Predictor`, ``save`` and ONNX.
    history_ : History
    n_iter_ : int
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import cross_val_score
    >>> from nnpar import zoo
    >>> from nnpar.integrations.sklearn import NeuralClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = NeuralClassifier(
    ...     lambda shape, classes: zoo.digits_cnn(), input_shape=(1, 8, 8), max_iter=5, random_state=0
    ... )
    >>> bool(cross_val_score(classifier, X / 16, y, cv=3).mean() > 0.8)
    True
    """

    _default_loss = "cross_entropy"
    classes_: NDArray[Any]

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> NeuralClassifier:
        """Train.

        Parameters
        ----------
        X : array_like of shape (N, features), or (N, C, H, W)
        y : array_like of shape (N,)
        sample_weight : array_like of shape (N,), optional

        Returns
        -------
        NeuralClassifier

        Raises
        ------
        ValueError
            If data or parameters do not fit.
        """
        x, labels, weights = self._labelled(X, y, sample_weight, True)
        go_on = self.warm_start and hasattr(self, "classes_")
        classes = np.unique(labels)
        if go_on and not np.array_equal(classes, self.classes_):
            raise ValueError(f"warm_start: y: expected the classes {self.classes_}, got {classes}")
        self.classes_ = classes
        self._train(x, np.searchsorted(classes, labels), weights, len(classes), self.max_iter, go_on)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> NeuralClassifier:
        """Go over the data once, from the weights that there are.

        Parameters
        ----------
        X : array_like of shape (N, features), or (N, C, H, W)
        y : array_like of shape (N,)
        classes : array_like, optional
            All that there will be: needed in the first call.
        sample_weight : array_like of shape (N,), optional

        Returns
        -------
        NeuralClassifier

        Raises
        ------
        ValueError
            If data or parameters do not fit, or y has other classes.
        """
        first = not hasattr(self, "classes_")
        x, labels, weights = self._labelled(X, y, sample_weight, first)
        if first:
            if classes is None:
                raise ValueError("partial_fit: classes: expected all classes in the first call, got None")
            self.classes_ = np.unique(np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(f"partial_fit: classes: expected {self.classes_}, got {classes}")
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"partial_fit: y: expected the classes {self.classes_}, got {unknown} as well")
        self._train(x, np.searchsorted(self.classes_, labels), weights, len(self.classes_), 1, True)
        return self

    def _labelled(self, x: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Any, Any, Any]:
        x, labels, weights = self._validated(x, y, sample_weight, reset)
        check_classification_targets(labels)
        return x, column_or_1d(labels, warn=True), weights

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes: the softmax of the outputs.

        Parameters
        ----------
        X : array_like of shape (N, features), or (N, C, H, W)

        Returns
        -------
        ndarray of shape (N, classes), float64
        """
        outputs = self._outputs(X).astype(np.float64)
        shares = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities: Array = shares / shares.sum(axis=1, keepdims=True)
        return probabilities

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class of the largest output.

        Parameters
        ----------
        X : array_like of shape (N, features), or (N, C, H, W)

        Returns
        -------
        ndarray of shape (N,)
        """
        outputs = self._outputs(X)
        labels: NDArray[Any] = self.classes_[outputs.argmax(axis=1)]
        return labels


class NeuralRegressor(RegressorMixin, _Neural):  # type: ignore[misc]
    """A network that predicts numbers.

    Parameters
    ----------
    model : Layer or callable, optional
        A model, of which a copy is trained from its weights on, or a function of the shape of one sample and the number
        of outputs that makes one. Dense layers by default.
    hidden_layer_sizes, input_shape, optimizer, learning_rate, batch_size, max_iter, tol, n_iter_no_change
        See :class:`NeuralClassifier`.
    loss : str or Loss, optional
        The mean squared error by default.
    early_stopping, validation_fraction, warm_start, random_state, verbose
        See :class:`NeuralClassifier`.

    Attributes
    ----------
    model_ : Layer
    history_ : History
    n_iter_ : int
    n_features_in_ : int

    Examples
    --------
    >>> import numpy as np
    >>> from nnpar.integrations.sklearn import NeuralRegressor
    >>> X = np.linspace(-1.0, 1.0, 200)[:, np.newaxis]
    >>> NeuralRegressor(learning_rate=0.01, random_state=0).fit(X, X[:, 0] ** 2).score(X, X[:, 0] ** 2) > 0.9
    True
    """

    _default_loss = "mse"

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> NeuralRegressor:
        """Train.

        Parameters
        ----------
        X : array_like of shape (N, features), or (N, C, H, W)
        y : array_like of shape (N,) or (N, outputs)
        sample_weight : array_like of shape (N,), optional

        Returns
        -------
        NeuralRegressor

        Raises
        ------
        ValueError
            If data or parameters do not fit.
        """
        return self._fit(X, y, sample_weight, self.max_iter, self.warm_start, True)

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> NeuralRegressor:
        """Go over the data once, from the weights that there are.

        Parameters
        ----------
        X : array_like of shape (N, features), or (N, C, H, W)
        y : array_like of shape (N,) or (N, outputs)
        sample_weight : array_like of shape (N,), optional

        Returns
        -------
        NeuralRegressor

        Raises
        ------
        ValueError
            If data or parameters do not fit.
        """
        return self._fit(X, y, sample_weight, 1, True, not hasattr(self, "model_"))

    def _fit(self, x: Any, y: Any, sample_weight: Any, epochs: int, go_on: bool, reset: bool) -> NeuralRegressor:
        x, targets, weights = self._validated(x, y, sample_weight, reset, multi_output=True, y_numeric=True)
        self._flat_targets = targets.ndim == 1 or targets.shape[1] == 1
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = column_or_1d(targets, warn=True)
        targets = np.asarray(targets, np.float32).reshape(len(targets), -1)
        self._train(x, targets, weights, targets.shape[1], epochs, go_on)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """The outputs.

        Parameters
        ----------
        X : array_like of shape (N, features), or (N, C, H, W)

        Returns
        -------
        ndarray of shape (N,) or (N, outputs), float32
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if self._flat_targets else outputs
