"""Write a data set as shards at an address in all formats, and read it again: ``python tests/hdfs_formats.py
mnist:FOLDER ADDRESS``.
"""

import sys
import time

import numpy as np

from nnpar import data, runs
from nnpar.data import Loader
from nnpar.data.convert import convert

name, address = sys.argv[1:]
_, source = runs.source(name, {})
for kind, reader in (("parquet", data.Parquet), ("tar", data.TarShards), ("npy", data.NpyFiles)):
    start = time.perf_counter()
    convert({"set": source}, f"{address}/{kind}", kind, rows_per_shard=400)
    wrote = time.perf_counter()
    loader = Loader(reader(f"{address}/{kind}/set"), 128, workers=2)
    opened = time.perf_counter()
    seen = 0
    order = loader.source.order(3, 1, 128)
    for batch in loader.batches(seed=3, epoch=1):
        index = order[batch.first : batch.first + len(batch.images)]
        np.testing.assert_array_equal(batch.images, source.images[index])
        np.testing.assert_array_equal(batch.labels, source.labels[index])
        seen += len(index)
    assert seen == len(source)
    read = time.perf_counter()
    print(
        f"{address}, {kind}: {seen} samples the same; written in {wrote - start:.2f} s, "
        f"opened in {opened - wrote:.2f} s, read in {read - opened:.2f} s"
    )
