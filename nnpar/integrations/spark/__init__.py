"""Models on Apache Spark: prediction of columns and streams, training on a cluster, training on streams. Needs
``nnpar[spark]``, on the driver and on the workers.

Images are a column of binary, whose bytes become 0 to 1, or of arrays of numbers, also arrays within arrays.
"""

from nnpar.integrations.spark.online import train_stream
from nnpar.integrations.spark.prediction import predict_stream, predict_udf
from nnpar.integrations.spark.training import SparkTrainer

__all__ = ["SparkTrainer", "predict_stream", "predict_udf", "train_stream"]
