"""How old a row of a stream is when Flink has its prediction: ``python bench/flink_latency.py``; see bench/README.md.

Rows come evenly spaced, by a socket, and carry the time at which they were sent. Flink's clock is read again after the
prediction, and the program's when ``collect()`` has fetched the row.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyflink.version
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.table import StreamTableEnvironment

import nnpar
from nnpar import zoo
from nnpar.integrations.flink import predict_udf

IMAGE = "CAST(REPEAT(SUBSTRING('0123456789ABCDEF', CAST(MOD(id, 16) AS INT) + 1, 1), 784) AS VARBINARY(784))"
# Flink's clock stands behind a condition on the prediction, so that it is read afterwards.
QUERY = f"""
SELECT id, made, CASE WHEN predicted >= 0 THEN LOCALTIMESTAMP END
FROM (
    SELECT id, made, predict({IMAGE}) AS predicted
    FROM (
        SELECT CAST(SPLIT_INDEX(f0, ' ', 0) AS BIGINT) AS id, CAST(SPLIT_INDEX(f0, ' ', 1) AS DOUBLE) AS made
        FROM source
    )
)
"""


def send(listener: socket.socket, rate: int, count: int) -> None:
    """Lines of a number and the time, evenly spaced."""
    connection, _ = listener.accept()
    with connection:
        start = time.time()
        for number in range(count):
            time.sleep(max(0.0, start + number / rate - time.time()))
            connection.sendall(f"{number} {time.time()}\n".encode())


class Ages(NamedTuple):
    """Milliseconds of each row after the first seconds."""

    predicted: Sequence[float]
    collected: Sequence[float]


def measure(bundle: int | None, rate: int, seconds: int, warm: int) -> Ages:
    """One job; rows of its first `warm` seconds do not count."""
    stream = StreamExecutionEnvironment.get_execution_environment()
    stream.set_parallelism(1)
    environment = StreamTableEnvironment.create(stream)
    environment.get_config().set("table.local-time-zone", "UTC")
    if bundle is not None:
        environment.get_config().set("python.fn-execution.bundle.time", str(bundle))
    environment.create_temporary_function("predict", predict_udf(zoo.mnist_cnn(), (1, 28, 28)))
    predicted, collected = [], []
    with socket.create_server(("localhost", 0)) as listener:
        sender = threading.Thread(target=send, args=(listener, rate, rate * seconds))
        sender.start()
        # PyFlink has no source of its own for sockets.
        lines = stream._j_stream_execution_environment.socketTextStream("localhost", listener.getsockname()[1])
        environment.create_temporary_view("source", environment.from_data_stream(DataStream(lines)))
        with environment.execute_sql(QUERY).collect() as rows:
            for number, made, done in rows:
                if number >= warm * rate:
                    predicted.append((done.replace(tzinfo=datetime.timezone.utc).timestamp() - made) * 1e3)
                    collected.append((time.time() - made) * 1e3)
        sender.join()
    return Ages(predicted, collected)


def row(title: str, ages: Sequence[float]) -> str:
    return f"| {title} | " + " | ".join(f"{value:.0f}" for value in np.percentile(ages, [50, 95, 100])) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=int, default=100, help="rows a second (100)")
    parser.add_argument("--seconds", type=int, default=15, help="of rows, for each setting (15)")
    parser.add_argument("--output", type=Path, help="a Markdown file to write, too")
    arguments = parser.parse_args()
    lines = ["| bundle.time, and where | p50 ms | p95 ms | largest ms |", "| --- | --- | --- | --- |"]
    for bundle in (None, 200, 50, 10):
        ages = measure(bundle, arguments.rate, arguments.seconds, warm=5)
        name = "1000 ms (the default)" if bundle is None else f"{bundle} ms"
        lines += [row(f"{name}, predicted", ages.predicted), row(f"{name}, in the program", ages.collected)]
        print("\n".join(lines[-2:]), file=sys.stderr)
    versions = {"Python": platform.python_version(), "numpy": np.__version__, "nnpar": nnpar.__version__}
    text = "\n".join(
        [
            "# Age of a row with its prediction in Flink\n",
            f"`python bench/flink_latency.py --rate {arguments.rate} --seconds {arguments.seconds}`: mnist_cnn, "
            f"{nnpar.get_num_threads()} threads, {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}.\\",
            f"{processor()}, {platform.system()} {platform.release()}, apache-flink {pyflink.version.__version__}, "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
            + ".\n",
            *lines,
        ]
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n")


def processor() -> str:
    """Its name, and how many there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
