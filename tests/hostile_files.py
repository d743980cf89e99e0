"""Loads thousands of damaged and hostile model files, with little memory to spare: a program that test_model_files.py
runs in a process of its own. Each file is a model or one ValueError that names it; anything else ends the program.

    python hostile_files.py FOLDER
"""

import copy
import json
import resource
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import layer_examples
import numpy as np
from safetensors.numpy import save

import nnpar
from nnpar.layers.composite import describe
from nnpar.loading import TYPES

ROOM = 2**28  # bytes of address space above what the imports took
DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]
NASTY = [
    None, True, "", "2", "\ud800", "os.system", 0, -1, 7, 2**31, 2**40, 2**62, 10**30, -(10**30), 0.5, -0.0, 1e308,
    float("nan"), float("inf"), [], [1], [2**40, 2**40], [0, -1], [[1, 2], [3]], list(range(100)), DEEP, {}, {"a": 1},
    {"type": "Sequential", "layers": []}, {"type": "Linear", "in_features": 2**40, "out_features": 2**40},
]  # fmt: skip


ENTRY = b'{"0.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
HEADERS = [
    b"", b"{", b"{}", b"[]", b"null", b"NaN", b"[" * 10**6, b'{"a":' * 10**6, b"\xff\xfe{}", b"{}" + b" " * 100,
    ENTRY[:-1] + b"," + ENTRY[1:],
    ENTRY[:-1] + b"," + ENTRY[1:].replace(b"[0,4]", b"[4,8]"),
    ENTRY.replace(b"[1]", b"[NaN]"),
    ENTRY.replace(b"[1]", b"[-1]"),
    ENTRY.replace(b"[1]", b"[" + b"1," * 1000 + b"1]"),
    ENTRY.replace(b"[1]", b"[0,1152921504606846976]").replace(b"[0,4]", b"[0,0]"),
    ENTRY.replace(b"[1]", b"[1152921504606846976,16]").replace(b"[0,4]", b"[0,0]"),
    ENTRY.replace(b"0.weight", b"\\ud800"),
    ENTRY.replace(b"0.weight", b"\xc3("),
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values within lists and dicts."""
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = by
    return changed


def with_description(model: Any, state: dict[str, np.ndarray]) -> bytes:
    return save(state, {"nnpar": json.dumps({"version": 1, "model": model})})


def attacked_settings() -> Iterator[tuple[str, bytes]]:
    """Every setting of every type of layer."""
    for name, cls in TYPES.items():
        model = nnpar.Sequential(cls(**layer_examples.example_arguments(cls)))
        description = json.loads(json.dumps(describe(model)))
        layer = description["layers"][0]
        for path in places(layer):
            for number, value in enumerate(NASTY):
                damaged = {**description, "layers": [replaced(layer, path, value)]}
                yield f"{name} {path} {number}", with_description(damaged, model.state())
        for key in layer:
            rest = {other: value for other, value in layer.items() if other != key}
            yield f"{name} without {key}", with_description({**description, "layers": [rest]}, model.state())
        yield f"{name} with more", with_description({**description, "layers": [layer | {"x": 1}]}, model.state())


def structures() -> Iterator[nnpar.layers.Composite]:
    x = nnpar.Input((4,))
    y = nnpar.Linear(4, 4)(x)
    yield nnpar.Graph(x, nnpar.Add()(y, x))
    yield nnpar.Graph((x,), (y, nnpar.ReLU()(y)))
    yield nnpar.Sequential(nnpar.Residual(nnpar.Linear(4, 4)), nnpar.Concat(None, nnpar.Sequential(nnpar.ReLU())))


def attacked_structures() -> Iterator[tuple[str, bytes]]:
    """Every value in the description of models within models."""
    for model in structures():
        description = json.loads(json.dumps(describe(model)))
        for path in places(description):
            for number, value in enumerate(NASTY):
                yield f"{path} {number}", with_description(replaced(description, path, value), model.state())
    for depth in (30, 31, 32, 200, 900, 20_000):
        text = '{"type":"Sequential","layers":[' * depth + '{"type":"ReLU"}' + "]}" * depth
        yield f"depth {depth}", save({}, {"nnpar": f'{{"version":1,"model":{text}}}'})
    for text in ("[" * 10**6, '{"a":' * 10**5, "[],", '"' + "a" * 2**23 + '"', "NaN", "[1e999]", "1" * 10**5, "\0"):
        yield f"text {text[:5]}", save({}, {"nnpar": text})
    for count in (10**6, 7 * 10**6):  # empty lists, which take twenty times their text
        yield f"{count} lists", save({}, {"nnpar": '{"version":1,"model":[' + "[]," * count + "[]]}"})


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of any header, well-formed or not."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def attacked_headers(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Lengths, names, types, shapes and offsets that lie."""
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    for lie in (0, 1, length - 1, length + 1, len(whole), 2**31, 2**32, 2**60, 2**63, 2**64 - 1):
        yield f"length {lie}", file_of(header, data, lie)
    for path in places(header):
        for number, value in enumerate(
            [*NASTY, "F64", "F8_E4M3", "F4", "BF16", "I64", "C64", "X", [2**60], [2**60] * 2]
        ):
            yield f"{path} {number}", file_of(replaced(header, path, value), data)
    for number, text in enumerate(HEADERS):
        yield f"header {number}", file_of(text, b"\0" * 4)
        yield f"header {number} and nothing", file_of(text)


def damaged_bytes(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """Cut, flipped, overwritten, repeated."""
    rng = np.random.default_rng(0)
    for size in range(0, len(whole), 9):
        yield f"first {size}", whole[:size]
    for place in rng.integers(0, 8 * len(whole), 2000):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << (place % 8)
        yield f"bit {place}", bytes(changed)
    for start, count in rng.integers(0, len(whole), (1000, 2)):
        changed = bytearray(whole)
        changed[start : start + count % 16] = rng.bytes(count % 16)
        yield f"bytes {start} {count % 16}", bytes(changed)
    yield "twice", whole + whole
    yield "one more", whole + b"\0"


def files() -> Iterator[tuple[str, bytes]]:
    yield from attacked_settings()
    yield from attacked_structures()
    model = nnpar.Sequential(nnpar.Conv2d(2, 3, 3), nnpar.BatchNorm2d(3), nnpar.Flatten(), nnpar.Linear(12, 2))
    whole = save(model.state(), {"nnpar": json.dumps({"version": 1, "model": describe(model)})})
    yield from attacked_headers(whole)
    yield from damaged_bytes(whole)


def main(folder: str) -> None:
    path = Path(folder, "hostile.safetensors")
    path.write_bytes(save({}))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
    counts: Counter[str] = Counter()
    for name, content in files():
        path.write_bytes(content)
        try:
            nnpar.load(path)
            counts["models"] += 1
        except ValueError as error:
            counts["errors"] += 1
            if not str(error).startswith(f"{path}: "):
                raise AssertionError(f"{name}: the error does not name the file") from error
        except BaseException as error:
            raise AssertionError(f"{name}: not a ValueError") from error
    print(json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1])
