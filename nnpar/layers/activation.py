"""Activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpar import _checks, initializers
from nnpar._checks import Array
from nnpar._kernels import activation, elementwise
from nnpar._kernels.strided import SumAxes
from nnpar.layers.base import Layer, Parameter, new_parameter
from nnpar.layers.lowering import Lowering
from nnpar.shapes import Shape


class ReLU(Layer):
    """Positive part, ``max(x, 0)``; NaN stays NaN. In a model it works in place.

    Examples
    --------
    >>> from nnpar import ReLU
    >>> ReLU()([[-1.0, 2.0]])
    array([[0., 2.]], dtype=float32)
    """

    def __init__(self) -> None:
        self._arrays = {}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape

    def forward(self, at: Lowering) -> None:
        call = at.fuse_relu()
        if call is not None:
            at.y = at.x
        else:
            at.y = at.overwritable(keeps_sign=True)
            call = at.step(elementwise.Relu, at.x, at.y, writes=at.y)
            call.ends_with_relu = True
        at.saved["call"] = call
        at.reads_y = "sign"

    def backward(self, at: Lowering) -> None:
        if not at.needs_dx:
            return
        if at.saved["call"].masked or at.saved["call"].grad_of_relu:
            at.pass_back(at.dy, owned=at.owns_dy)
            return
        dx = at.overwritable_dy()
        at.step(elementwise.ReluGrad, at.dy, at.y, dx)
        at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {}


class Activation(Layer):
    """Base of the activations, functions of each element; `kind` and constants are those of ``nnp_activation`` in
    csrc/kernels.h.
    """

    kind = ""
    of_input = False  # whether the gradient reads the input, rather than the output

    def __init__(self) -> None:
        self._arrays = {}

    @property
    def constants(self) -> tuple[float, ...]:
        """Constants of the kernel."""
        return ()

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        return input_shape

    def forward(self, at: Lowering) -> None:
        at.y = at.x.like() if self.of_input and at.training else at.overwritable()
        at.step(activation.Activation, self.kind, at.x, at.y, *self.constants, writes=at.y)
        at.reads_y = "" if self.of_input else "values"

    def backward(self, at: Lowering) -> None:
        if at.needs_dx:
            dx, v = at.overwritable_dy(), at.x if self.of_input else at.y
            at.step(activation.ActivationGrad, self.kind, at.dy, v, dx, *self.constants)
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {}


class ReLU6(Activation):
    """``min(max(x, 0), 6)``: Howard et al., arXiv:1704.04861.

    Examples
    --------
    >>> from nnpar import ReLU6
    >>> ReLU6()([[-1.0, 2.0]])
    array([[0., 2.]], dtype=float32)
    """

    kind = "clip"

    @property
    def constants(self) -> tuple[float, ...]:
        return (0.0, 6.0)


class Hardtanh(Activation):
    """``min(max(x, min_val), max_val)``.

    Parameters
    ----------
    min_val, max_val : float

    Raises
    ------
    ValueError
        If min_val is above max_val.

    Examples
    --------
    >>> from nnpar import Hardtanh
    >>> Hardtanh()([[-1.0, 2.0]])
    array([[-1.,  1.]], dtype=float32)
    """

    kind = "clip"

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        super().__init__()
        self.min_val = _checks.number(min_val, "Hardtanh", "min_val")
        self.max_val = _checks.number(max_val, "Hardtanh", "max_val")
        if self.min_val > self.max_val:
            raise ValueError(f"Hardtanh: min_val: expected at most max_val {self.max_val}, got {self.min_val}")

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.min_val, self.max_val)

    def settings(self) -> dict[str, Any]:
        return {"min_val": self.min_val, "max_val": self.max_val}


class LeakyReLU(Activation):
    """``x`` where it is positive, else ``negative_slope * x``.

    Parameters
    ----------
    negative_slope : float

    Raises
    ------
    ValueError
        If it is not finite.

    Examples
    --------
    >>> from nnpar import LeakyReLU
    >>> LeakyReLU()([[-1.0, 2.0]])
    array([[-0.01,  2.  ]], dtype=float32)
    """

    kind, of_input = "leaky", True

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = _checks.number(negative_slope, "LeakyReLU", "negative_slope")

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.negative_slope,)

    def settings(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}


class ELU(Activation):
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``: Clevert, Unterthiner, Hochreiter, arXiv:1511.07289.

    Parameters
    ----------
    alpha : float
        At least 0.

    Raises
    ------
    ValueError
        If alpha is negative.

    Examples
    --------
    >>> from nnpar import ELU
    >>> ELU()([[-1.0, 2.0]])
    array([[-0.63212055,  2.        ]], dtype=float32)
    """

    kind = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = _checks.number(alpha, "ELU", "alpha")
        if self.alpha < 0.0:
            raise ValueError(f"ELU: alpha: expected at least 0, got {self.alpha}")

    @property
    def constants(self) -> tuple[float, ...]:
        return (1.0, self.alpha, 1.0)

    def settings(self) -> dict[str, Any]:
        return {"alpha": self.alpha}


class SELU(Activation):
    """ELU with constants that keep mean and variance: Klambauer et al., arXiv:1706.02515.

    Examples
    --------
    >>> from nnpar import SELU
    >>> SELU()([[-1.0, 2.0]])
    array([[-1.1113307,  2.101402 ]], dtype=float32)
    """

    kind = "elu"

    @property
    def constants(self) -> tuple[float, ...]:
        return (SELU_SCALE, SELU_SCALE * SELU_ALPHA, 1.0)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class CELU(Activation):
    """``x`` where it is positive, else ``alpha * (exp(x / alpha) - 1)``: Barron, arXiv:1704.07483.

    Parameters
    ----------
    alpha : float
        Above 0.

    Raises
    ------
    ValueError
        If alpha is not above 0.

    Examples
    --------
    >>> from nnpar import CELU
    >>> CELU()([[-1.0, 2.0]])
    array([[-0.63212055,  2.        ]], dtype=float32)
    """

    kind = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = _checks.number(alpha, "CELU", "alpha")
        if self.alpha <= 0.0:
            raise ValueError(f"CELU: alpha: expected a number above 0, got {self.alpha}")

    @property
    def constants(self) -> tuple[float, ...]:
        return (1.0, self.alpha, 1.0 / self.alpha)

    def settings(self) -> dict[str, Any]:
        return {"alpha": self.alpha}


class GELU(Activation):
    """x times the normal distribution up to x: Hendrycks, Gimpel, arXiv:1606.08415.

    Parameters
    ----------
    approximate : {"none", "tanh"}
        With "tanh", ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> from nnpar import GELU
    >>> GELU()([[-1.0, 2.0]])
    array([[-0.15865527,  1.9544997 ]], dtype=float32)
    """

    of_input = True

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate: expected 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The kernel's name of the function."""
        return "gelu" if self.approximate == "none" else "gelu_tanh"

    def settings(self) -> dict[str, Any]:
        return {"approximate": self.approximate}


class SiLU(Activation):
    """``x / (1 + exp(-x))``, also called swish: Elfwing, Uchibe, Doya, arXiv:1702.03118.

    Examples
    --------
    >>> from nnpar import SiLU
    >>> SiLU()([[-1.0, 2.0]])
    array([[-0.26894143,  1.761594  ]], dtype=float32)
    """

    kind, of_input = "silu", True


class Hardswish(Activation):
    """``x * min(max(x + 3, 0), 6) / 6``: Howard et al., arXiv:1905.02244.

    Examples
    --------
    >>> from nnpar import Hardswish
    >>> Hardswish()([[-1.0, 2.0]])
    array([[-0.3333333,  1.6666667]], dtype=float32)
    """

    kind, of_input = "hardswish", True

    @property
    def constants(self) -> tuple[float, ...]:
        return (1 / 6, 0.5)


class Hardsigmoid(Activation):
    """``min(max(x + 3, 0), 6) / 6``.

    Examples
    --------
    >>> from nnpar import Hardsigmoid
    >>> Hardsigmoid()([[-1.0, 2.0]])
    array([[0.3333333, 0.8333334]], dtype=float32)
    """

    kind = "hardsigmoid"

    @property
    def constants(self) -> tuple[float, ...]:
        return (1 / 6, 0.5)


class Mish(Activation):
    """``x * tanh(log(1 + exp(x)))``: Misra, arXiv:1908.08681.

    Examples
    --------
    >>> from nnpar import Mish
    >>> Mish()([[-1.0, 2.0]])
    array([[-0.30340147,  1.943959  ]], dtype=float32)
    """

    kind, of_input = "mish", True


class Softplus(Activation):
    """``log(1 + exp(beta * x)) / beta``, and x itself where ``beta * x`` is above a threshold.

    Parameters
    ----------
    beta : float
        Above 0.
    threshold : float

    Raises
    ------
    ValueError
        If beta is not above 0.

    Examples
    --------
    >>> from nnpar import Softplus
    >>> Softplus()([[-1.0, 2.0]])
    array([[0.31326172, 2.126928  ]], dtype=float32)
    """

    kind, of_input = "softplus", True

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = _checks.number(beta, "Softplus", "beta")
        self.threshold = _checks.number(threshold, "Softplus", "threshold")
        if self.beta <= 0.0:
            raise ValueError(f"Softplus: beta: expected a number above 0, got {self.beta}")

    @property
    def constants(self) -> tuple[float, ...]:
        return (self.beta, self.threshold)

    def settings(self) -> dict[str, Any]:
        return {"beta": self.beta, "threshold": self.threshold}


class Softsign(Activation):
    """``x / (1 + |x|)``.

    Examples
    --------
    >>> from nnpar import Softsign
    >>> Softsign()([[-1.0, 2.0]])
    array([[-0.5      ,  0.6666667]], dtype=float32)
    """

    kind = "softsign"


class Sigmoid(Activation):
    """``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> from nnpar import Sigmoid
    >>> Sigmoid()([[-1.0, 2.0]])
    array([[0.26894143, 0.880797  ]], dtype=float32)
    """

    kind = "sigmoid"


class Tanh(Activation):
    """Hyperbolic tangent.

    Examples
    --------
    >>> from nnpar import Tanh
    >>> Tanh()([[-1.0, 2.0]])
    array([[-0.76159424,  0.9640277 ]], dtype=float32)
    """

    kind = "tanh"


class Abs(Activation):
    """``|x|``.

    Examples
    --------
    >>> from nnpar import Abs
    >>> Abs()([[-1.0, 2.0]])
    array([[1., 2.]], dtype=float32)
    """

    kind, of_input = "abs", True


class Exp(Activation):
    """Exponential.

    Examples
    --------
    >>> from nnpar import Exp
    >>> Exp()([[-1.0, 2.0]])
    array([[0.36787945, 7.389056  ]], dtype=float32)
    """

    kind = "exp"


class Erf(Activation):
    """Error function.

    Examples
    --------
    >>> from nnpar import Erf
    >>> Erf()([[-1.0, 2.0]])
    array([[-0.8427008,  0.9953223]], dtype=float32)
    """

    kind, of_input = "erf", True


class Log(Activation):
    """Natural logarithm.

    Examples
    --------
    >>> from nnpar import Log
    >>> Log()([[1.0, 4.0]])
    array([[0.       , 1.3862944]], dtype=float32)
    """

    kind, of_input = "log", True


class Reciprocal(Activation):
    """``1 / x``.

    Examples
    --------
    >>> from nnpar import Reciprocal
    >>> Reciprocal()([[1.0, 4.0]])
    array([[1.  , 0.25]], dtype=float32)
    """

    kind = "reciprocal"


class Sqrt(Activation):
    """Square root.

    Examples
    --------
    >>> from nnpar import Sqrt
    >>> Sqrt()([[1.0, 4.0]])
    array([[1., 2.]], dtype=float32)
    """

    kind = "sqrt"


class PReLU(Layer):
    """``x`` where it is positive, else ``weight * x``: He, Zhang, Ren, Sun, arXiv:1502.01852.

    Parameters
    ----------
    num_parameters : int
        1, or as many as there are channels, on the second axis.
    init : float

    Attributes
    ----------
    weight : ndarray of shape (num_parameters,), float32

    Raises
    ------
    ValueError
        If num_parameters is below 1, or an input has another number of channels.

    Examples
    --------
    >>> from nnpar import PReLU
    >>> PReLU()([[-1.0, 2.0]])
    array([[-0.25,  2.  ]], dtype=float32)
    """

    weight = Parameter()
    channels_last = True

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = _checks.integer(num_parameters, "PReLU", "num_parameters", 1)
        self.init = _checks.number(init, "PReLU", "init")
        first = initializers.constant(self.init)
        self._arrays = {"weight": new_parameter(first, (self.num_parameters,), "PReLU")}

    def output_shape(self, input_shape: Shape, name: str = "") -> Shape:
        if self.num_parameters > 1 and (len(input_shape) < 2 or input_shape[1] != self.num_parameters):
            raise ValueError(
                f"{self.describe(name)}: input: expected {self.num_parameters} channels, got shape {input_shape}"
            )
        return input_shape

    def forward(self, at: Lowering) -> None:
        at.y = at.x.like() if at.training else at.overwritable()
        at.step(activation.PRelu, at.x, self.weight, at.y, writes=at.y)

    def backward(self, at: Lowering) -> None:
        parts, dx = at.x.like(), at.overwritable_dy()
        at.step(activation.PReluGrad, at.dy, at.x, self.weight, dx, parts)
        at.step(_sum_of_columns, parts, at.gradients["weight"])
        if at.needs_dx:
            at.pass_back(dx)

    def settings(self) -> dict[str, Any]:
        return {"num_parameters": self.num_parameters, "init": self.init}


def _sum_of_columns(parts: Array, gradient: Array) -> SumAxes:
    """Of a value whose channels are last in memory, or of all its elements."""
    rows = np.moveaxis(parts, 1, -1) if parts.ndim > 1 else parts
    return SumAxes(rows.reshape(-1, gradient.size), gradient.reshape(1, -1))
