"""What the Spark integration does without Spark: how partitions make one epoch, and what it says without pyspark."""

import sys

import numpy as np
import pytest

from nnpar import zoo
from nnpar.integrations import spark
from nnpar.integrations.spark.partitions import Partition, PartitionLoader, share


@pytest.mark.parametrize("counts", [(5,), (5, 5), (1, 0, 9), (0, 0, 3), (7, 11, 13, 2), (1, 1, 1, 1), (1000, 1)])
@pytest.mark.parametrize("batch_size", [4, 5, 64])
def test_every_sample_is_in_one_batch_and_no_batch_is_empty(counts, batch_size):
    total = sum(counts)
    for start in range(0, total, batch_size):
        stop = min(start + batch_size, total)
        sizes = [np.diff(share(count, total, start, stop))[0] for count in counts]
        assert min(sizes) >= 0
        assert sum(sizes) >= 1
        assert abs(sum(sizes) - (stop - start)) < len(counts)
    seen, steps, offset = [], set(), 0
    for count in counts:
        own = np.arange(offset, offset + count)
        loader = PartitionLoader(Partition(own[:, None], own, offset, total), batch_size, shuffle=True)
        batches = list(loader.batches(seed=3, epoch=1))
        steps.add(len(batches))
        seen += [label for batch in batches for label in batch.labels]
        positions = [batch.first + k for batch in batches for k in range(len(batch.labels))]
        assert positions == own.tolist()  # what dropout counts by: no two processes have the same
        offset += count
    assert steps == {-(-total // batch_size)}
    assert sorted(seen) == list(range(total))


def test_an_epoch_goes_on_in_its_middle():
    own = np.arange(10)
    loader = PartitionLoader(Partition(own[:, None], own, 0, 10), 4, shuffle=True)
    whole, rest = ([batch.labels.tolist() for batch in loader.batches(0, 2, start)] for start in (0, 4))
    assert rest == whole[1:]


@pytest.mark.parametrize(
    "make",
    [
        lambda: spark.predict_udf(zoo.digits_cnn()),
        lambda: spark.predict_stream(None, zoo.digits_cnn()),
        lambda: spark.SparkTrainer(zoo.digits_cnn()),
        lambda: spark.train_stream(None, None, "run"),
    ],
)
def test_without_pyspark_the_error_names_the_extra(make, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyspark"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ImportError, match=r"pyspark is needed: pip install 'nnpar\[spark\]'"):
        make()
