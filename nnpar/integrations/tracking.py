"""Records of runs for TensorBoard and MLflow: callbacks."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from nnpar.callbacks import Callback, Record

if TYPE_CHECKING:
    from nnpar.trainer import Trainer

EXTRA = "pip install 'nnpar[tracking]'"


class TensorBoard(Callback):
    """Each number of each epoch's record, as scalars in a folder of events.

    Parameters
    ----------
    folder : path-like
        One for each run. A run that goes on adds to what is there, and hides what it wrote after its checkpoint.

    Raises
    ------
    ImportError
        If tensorboardX is missing.

    Examples
    --------
    >>> import os, tempfile
    >>> from nnpar import Flatten, Linear, Sequential, Trainer, data
    >>> from nnpar.integrations.tracking import TensorBoard
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trainer = Trainer(Sequential(Flatten(), Linear(64, 10)))
    ...     history = trainer.fit(data.digits()[0], epochs=2, callbacks=[TensorBoard(folder)], progress=False)
    ...     print(len(os.listdir(folder)))
    1
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(f"TensorBoard: tensorboardX is needed: {EXTRA}") from error
        self.folder = os.fspath(folder)
        self._make: Any = SummaryWriter
        self._writer: Any = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        purge = trainer.epochs_done + 1 if trainer.epochs_done else None
        # Files are named by the second: a run that goes on within the same one must not write over what is there.
        self._writer = self._make(self.folder, purge_step=purge, filename_suffix=f".{trainer.steps_done}")

    def on_record(self, trainer: Trainer, record: Record) -> None:
        for name, value in record.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(record["epoch"]))
        self._writer.flush()

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        self._close()

    def on_fit_end(self, trainer: Trainer) -> None:
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class MLflow(Callback):
    """Each number of each epoch's record as a metric of the active run, or else of a run of its own; what makes the
    trainer as parameters. MLflow knows where to, by ``mlflow.set_tracking_uri`` and ``MLFLOW_TRACKING_URI``.

    Parameters
    ----------
    name : str, optional
        Of a run of its own.

    Raises
    ------
    ImportError
        If mlflow is missing.
    """

    def __init__(self, name: str | None = None) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise ImportError(f"MLflow: mlflow is needed: {EXTRA}") from error
        self.name = name
        self._mlflow: Any = mlflow
        self._own = False

    def on_fit_begin(self, trainer: Trainer) -> None:
        if self._mlflow.active_run() is None:
            self._mlflow.start_run(run_name=self.name)
            self._own = True
        if trainer.epochs_done == 0:
            self._mlflow.log_params(
                {
                    "optimizer": type(trainer.optimizer).__name__,
                    "lr": trainer.optimizer.lr,
                    "loss": type(trainer.loss).__name__,
                    "seed": trainer.seed,
                    "parameters": sum(array.size for array in trainer.model.parameters().values()),
                }
            )

    def on_record(self, trainer: Trainer, record: Record) -> None:
        finite = {name: value for name, value in record.items() if name != "epoch" and math.isfinite(value)}
        self._mlflow.log_metrics(finite, step=int(record["epoch"]))

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        self._end("KILLED" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "FAILED")

    def on_fit_end(self, trainer: Trainer) -> None:
        self._end("FINISHED")

    def _end(self, status: str) -> None:
        if self._own:
            self._mlflow.end_run(status)
            self._own = False
