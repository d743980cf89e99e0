"""Pictures of models, training runs and measurements.

Each function returns a :class:`matplotlib.figure.Figure`, which notebooks show and :func:`save` writes. Figures are
made without pyplot: no display is needed, and no global state is touched. matplotlib is imported when the first one
is made.
"""

from nnpar.plots.benchmarks import benchmark_report, roofline, thread_scaling
from nnpar.plots.classes import class_scores, predictions
from nnpar.plots.figures import require_matplotlib, save
from nnpar.plots.inside import activations, filters
from nnpar.plots.training import learning_curves, training_report

__all__ = [
    "activations",
    "benchmark_report",
    "class_scores",
    "filters",
    "learning_curves",
    "predictions",
    "require_matplotlib",
    "roofline",
    "save",
    "thread_scaling",
    "training_report",
]
