"""Damaged and hostile ONNX files: ``python tests/hostile_onnx.py COUNT SEED`` tries COUNT files damaged at random.

Each has to load, or to be one ValueError that names the file, in 10 seconds and 3 GB.
"""

import re
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import nnpar
import nnpar.io.onnx
from nnpar.io.onnx.exporter import to_proto

MEMORY = 3 << 30  # bytes of address space
SECONDS = 10
reasons: set[str] = set()


def small_model() -> onnx.ModelProto:
    """A model of many kinds of layers in few bytes."""
    return to_proto(
        nnpar.Sequential(
            nnpar.Conv2d(1, 2, 3, padding=1), nnpar.BatchNorm2d(2), nnpar.ReLU(), nnpar.MaxPool2d(2),
            nnpar.GroupNorm(1, 2), nnpar.Upsample(scale_factor=2), nnpar.Flatten(), nnpar.Linear(32, 2),
        ),
        (1, 4, 4),
    )  # fmt: skip


EXTREMES = (-(2**63), -(2**31), -7, -1, 0, 1, 3, 2**16, 2**31, 2**40, 2**62, 2**63 - 1)


def altered(rng: np.random.Generator) -> bytes:
    """A well-formed file with other sizes, attributes, names, operators, or another order of the nodes."""
    proto = onnx.ModelProto.FromString(small_model_bytes)
    graph = proto.graph
    for _ in range(rng.integers(1, 4)):
        node = graph.node[rng.integers(len(graph.node))]
        other = graph.node[rng.integers(len(graph.node))]
        tensor = graph.initializer[rng.integers(len(graph.initializer))]
        extreme = EXTREMES[rng.integers(len(EXTREMES))]
        kind = rng.integers(9)
        if kind == 0 and node.attribute:
            attribute = node.attribute[rng.integers(len(node.attribute))]
            attribute.i = extreme
            attribute.f = float(extreme)
            if attribute.ints:
                attribute.ints[rng.integers(len(attribute.ints))] = extreme
        elif kind == 1 and tensor.dims:
            tensor.dims[rng.integers(len(tensor.dims))] = extreme
        elif kind == 2:
            tensor.raw_data = rng.bytes(rng.integers(200))
        elif kind == 3:
            tensor.data_type = int(rng.integers(30))
        elif kind == 4:
            node.op_type = other.op_type
        elif kind == 5:
            node.input[rng.integers(len(node.input))] = other.output[0]
        elif kind == 6:
            node.output[0] = other.output[0]
        elif kind == 7:
            graph.input[0].type.tensor_type.shape.dim[rng.integers(4)].dim_value = extreme
        else:
            node.CopyFrom(other)
    return proto.SerializeToString()


def damaged(rng: np.random.Generator) -> bytes:
    """A model's file, cut off, with bits flipped, with parts overwritten, doubled or left out, or altered."""
    content = bytearray(small_model_bytes)
    kind = rng.integers(10)
    if kind > 4:
        return altered(rng)
    start, length = int(rng.integers(len(content))), int(rng.integers(1, 64))
    if kind == 0:
        del content[start:]
    elif kind == 1:
        for at in rng.integers(len(content), size=rng.integers(1, 8)):
            content[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        content[start : start + length] = rng.bytes(length)
    elif kind == 3:
        content[start:start] = content[start : start + length]
    else:
        del content[start : start + length]
    return bytes(content)


def model(
    nodes: list[onnx.NodeProto], constants: dict[str, Any] | None = None, shape: Any = (1, 4), **more: Any
) -> onnx.ModelProto:
    """A model from input x to output y."""
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("A", "B"))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), *more.pop("opsets", [])], **more)


def huge(operator: str, *sizes: Any, **attributes: Any) -> onnx.ModelProto:
    """An operator on constants that would give more than there is memory for, and its use."""
    names = [f"c{k}" for k in range(len(sizes))]
    nodes = [helper.make_node(operator, names, ["big"], **attributes), helper.make_node("Add", ["x", "big"], ["y"])]
    return model(nodes, dict(zip(names, sizes, strict=True)))


def tensor(**fields: Any) -> onnx.ModelProto:
    """A dense layer whose weight has other fields than it should."""
    proto = model([helper.make_node("Gemm", ["x", "w"], ["y"])], {"w": np.ones((4, 2), np.float32)})
    weight = proto.graph.initializer[0]
    for name, value in fields.items():
        weight.ClearField(name)
        if isinstance(value, list):
            getattr(weight, name).extend(value)
        else:
            setattr(weight, name, value)
    return proto


def external(location: str, **entries: int) -> onnx.ModelProto:
    """A dense layer whose weight is in another file."""
    proto = tensor(data_location=TensorProto.EXTERNAL, raw_data=b"")
    for key, value in {"location": location, **entries}.items():
        proto.graph.initializer[0].external_data.add(key=key, value=str(value))
    return proto


def nested(levels: int) -> onnx.ModelProto:
    """Functions that each call the one before ten times."""
    functions = []
    for level in range(levels):
        call = ("Relu", "") if level == 0 else (f"f{level - 1}", "own")
        nodes = [helper.make_node(call[0], [f"v{k}"], [f"v{k + 1}"], domain=call[1]) for k in range(10)]
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", f"f{level}", ["v0"], ["v10"], nodes, opsets))
    node = helper.make_node(f"f{levels - 1}", ["x"], ["y"], domain="own")
    return model([node], functions=functions, opsets=[helper.make_opsetid("own", 1)])


def branches(depth: int) -> onnx.GraphProto:
    """If within If."""
    end = helper.make_tensor_value_info("z", TensorProto.FLOAT, ("A", "B"))
    if depth == 0:
        return helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "leaf", [], [end])
    inner = branches(depth - 1)
    node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    return helper.make_graph([node], "branch", [], [end])


def hostile(folder: Path) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Well-formed files that mean harm, all of them errors."""
    relu, long = helper.make_node("Relu", ["x"], ["y"]), np.int64
    yield "cycle", model([helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
                          helper.make_node("Relu", ["b"], ["y"])])  # fmt: skip
    yield "duplicate output", model([relu, relu])
    yield "unknown input", model([helper.make_node("Add", ["x", "nobody"], ["y"])])
    yield "duplicate input", model([helper.make_node("Relu", ["x"], ["x"]), relu])
    yield "negative size", model([relu], shape=(1, -4))
    yield "enormous input", model([helper.make_node("Flatten", ["x"], ["y"])], shape=(1, 2**40, 2**40))
    yield "free sizes", model([relu], shape=(None, None))
    yield "no output", model([])
    yield "If", model([helper.make_node("If", ["c"], ["y"], then_branch=branches(3), else_branch=branches(3))],
                      {"c": np.array(True)})  # fmt: skip
    yield "deep", model([helper.make_node("If", ["c"], ["y"], then_branch=branches(12), else_branch=branches(0))],
                        {"c": np.array(True)})  # fmt: skip
    yield "nested functions", nested(12)
    yield "unknown domain", model([helper.make_node("Relu", ["x"], ["y"], domain="else.where")],
                                  opsets=[helper.make_opsetid("else.where", 1)])  # fmt: skip
    yield "ConstantOfShape", huge("ConstantOfShape", np.array([2**40], long))
    yield "ConstantOfShape, overflow", huge("ConstantOfShape", np.array([2**32, 2**32], long))
    yield "ConstantOfShape, negative", huge("ConstantOfShape", np.array([-5], long))
    yield "Expand", huge("Expand", np.ones(1, np.float32), np.array([2**20, 2**20], long))
    yield "Tile", huge("Tile", np.ones(2, np.float32), np.array([2**40], long))
    yield "Range", huge("Range", np.array(0, long), np.array(2**50, long), np.array(1, long))
    yield "Range, zero", huge("Range", np.array(0, long), np.array(9, long), np.array(0, long))
    yield "Gather", huge("Gather", np.ones((1, 2**14), np.float32), np.zeros(2**15, long))
    yield "Add", huge("Add", np.ones((2**15, 1), np.float32), np.ones((1, 2**15), np.float32))
    for target in ([2**60], [1, 2**62, 2**62], [-1, -1], [-7, 4], [0, 0, 0, 0]):
        yield f"Reshape {target}", model([helper.make_node("Reshape", ["x", "s"], ["y"])], {"s": np.array(target)})
    image = (1, 1, 4, 4)
    for operator, inputs, constants, attributes in (
        ("Resize", ["x", "", "s"], {"s": np.array([1, 1, 1e9, 1e9], np.float32)}, {"mode": "cubic"}),
        ("Pad", ["x", "p"], {"p": np.array([0, 0, 2**40, 0, 0, 0, 0, 0])}, {}),
        ("Tile", ["x", "p"], {"p": np.array([1, 2**40, 1, 1])}, {}),
        ("Expand", ["x", "p"], {"p": np.array([1, 2**40, 4, 4])}, {}),
        ("Conv", ["x", "w"], {"w": np.ones((1, 7, 3, 3), np.float32)}, {}),
        ("Conv", ["x", "w"], {"w": np.ones((1, 1, 3, 3), np.float32)}, {"strides": [0, 0]}),
        ("Conv", ["x", "w"], {"w": np.ones((1, 1, 3, 3), np.float32)}, {"pads": [-1, 0, 0, 0]}),
        ("Conv", ["x", "w"], {"w": np.ones((1, 1, 3, 3), np.float32)}, {"pads": [2**62] * 4}),
        ("Conv", ["x", "w"], {"w": np.ones((1, 1, 3, 3), np.float32)}, {"group": 0}),
        ("Conv", ["x", "w"], {"w": np.ones((1, 1, 3, 3), np.float64)}, {}),
        ("MaxPool", ["x"], {}, {"kernel_shape": [2**40, 2]}),
        ("MaxPool", ["x"], {}, {"kernel_shape": [0, 0]}),
        ("AveragePool", ["x"], {}, {"kernel_shape": [2], "pads": [1]}),
        ("LRN", ["x"], {}, {"size": 2**40}),
        ("Dropout", ["x"], {}, {"ratio": "much"}),
        ("Flatten", ["x"], {}, {"axis": 99}),
    ):
        yield (
            f"{operator} {attributes}",
            model([helper.make_node(operator, inputs, ["y"], **attributes)], constants, image),
        )
    yield "short data", tensor(raw_data=b"1234")
    yield "long data", tensor(raw_data=b"1234" * 1000)
    yield "negative sizes", tensor(dims=[-4, -2])
    yield "enormous sizes", tensor(dims=[2**40, 2**40])
    yield "unknown type", tensor(data_type=99)
    yield "text", tensor(data_type=TensorProto.STRING)
    yield "two data", tensor(float_data=[1.0] * 8)
    (folder / "weights").write_bytes(b"\0" * 64)
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "folder").symlink_to("/etc")
    (folder / "inner").mkdir()
    for location in ("../x", "/etc/passwd", "link", "folder/passwd", "inner/../../x", "missing", "", "inner", "a\0b"):
        yield f"external {location!r}", external(location)
    yield "external, offset", external("weights", offset=2**62)
    yield "external, behind the end", external("weights", offset=60, length=32)
    yield "external, negative", external("weights", offset=-8)
    yield "external, length", external("weights", length=2**40)


def outcome(content: bytes, path: Path) -> str:
    """What loading does: "loaded", "refused", or what went wrong."""
    path.write_bytes(content)
    signal.alarm(SECONDS)
    try:
        nnpar.io.onnx.load(path)
    except ValueError as error:
        reasons.add(re.sub(r"\d+", "0", str(error)))
        return "refused" if str(path) in str(error) and len(str(error)) < 20000 else f"unclear: {str(error)[:300]}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    return "loaded"


def main(count: int, seed: int) -> int:
    """Try all; returns how many went wrong."""
    rng = np.random.default_rng(seed)
    wrong = 0
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "model.onnx"
        for kind, proto in hostile(Path(name)):
            result = outcome(proto.SerializeToString(), path)
            if result != "refused":
                wrong += 1
                print(f"{kind}: {result}")
            counts[result] += 1
        for number in range(count):
            content = damaged(rng)
            result = outcome(content, path)
            if result not in ("refused", "loaded"):
                wrong += 1
                print(f"damaged file {number} of seed {seed}: {result}")
            counts[result] += 1
    if len(reasons) < 40:  # otherwise all would be refused for the same flaw
        wrong += 1
        print(f"few reasons: {reasons}")
    print(dict(counts))
    return wrong


def timed_out(signum: int, frame: object) -> None:
    """Loading takes too long."""
    raise TimeoutError(f"more than {SECONDS} seconds")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, timed_out)
    small_model_bytes = small_model().SerializeToString()
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) > 0)
