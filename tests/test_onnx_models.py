"""Models out to ONNX, into onnxruntime, and back."""

import itertools

import layer_examples
import numpy as np
import onnx
import onnxruntime
import pytest
from test_zoo import RUNS

import nnpar
import nnpar.io.onnx
from nnpar import Conv2d, Flatten, Graph, Input, Linear, Sequential, layers, zoo
from nnpar.io.onnx.emitters import EMITTERS
from nnpar.io.onnx.exporter import to_proto
from nnpar.io.onnx.operators import OPERATORS

# vgg11 stands for its family: each of them has half a gigabyte of weights.
MODELS = {name: RUNS[name][0] for name in zoo.MODELS if name not in ("vgg13", "vgg16", "vgg19")}
# One sample for each type of layer.
SHAPES = {
    "Conv3d": (4, 5, 6, 7), "ConvTranspose3d": (4, 2, 3, 4), "Expand": (1,), "MatMul": (3, 4, 4), "Max": (2, 2, 2, 6),
    "AdaptiveAvgPool1d": (4, 9), "ReflectionPad1d": (4, 9), "ReplicationPad1d": (4, 9), "Select": (2, 2, 2, 6),
    "AvgPool1d": (4, 9), "AvgPool3d": (4, 5, 6, 7), "Conv1d": (4, 9), "ConvTranspose1d": (4, 5), "MaxPool1d": (4, 9),
    "MaxPool3d": (4, 5, 6, 7), "BatchNorm1d": (4,), "BatchNorm3d": (4, 2, 2, 2), "Embedding": (5,),
    "InstanceNorm1d": (4, 6),
    "LayerNorm": (4, 4), "Linear": (4,), "MultiheadAttention": (5, 4), "PositionEmbedding": (4, 4), "RMSNorm": (4, 4),
    "TransformerEncoderLayer": (5, 4), "ConstantPad": (6,), "Permute": (4, 6), "PixelShuffle": (16, 2, 2),
    "Scale": (2, 2), "Shift": (2, 2), "Slice": (2, 2, 2, 6),
}  # fmt: skip
COUNTS = {"Where": 3} | dict.fromkeys(
    ["Add", "Concatenate", "Div", "Equal", "Less", "LessOrEqual", "MatMul", "Maximum", "Minimum", "Mul", "Sub"], 2
)
LAYERS = [
    *sorted(cls.__name__ for cls in EMITTERS if cls.__name__ in layers.__all__),
    "MultiheadAttention",
    "TransformerEncoderLayer",
]


def run(path, *inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([x.name for x in session.get_inputs()], inputs, strict=True)))


def shaken(model, seed=0):
    """The model with other numbers than those that it begins with, such as ones and zeros."""
    rng = np.random.default_rng(seed)
    for array in model.state().values():
        if array.ndim < 2 or (array == array.flat[0]).all():
            array += rng.uniform(0.0, 0.1, array.shape).astype(np.float32)
    return model


def close(result, expected):
    """Within a thousandth of a percent of the largest number: both sum in float32, in different orders."""
    assert result.shape == expected.shape
    assert np.abs(result - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_models_go_out_and_come_back(name, tmp_path):
    model, path = shaken(zoo.MODELS[name]()), tmp_path / "model.onnx"
    nnpar.io.onnx.save(model, path, MODELS[name])
    onnx.checker.check_model(path, full_check=True)
    # But for the weights of attention, which ONNX has as those of queries, keys and values apart.
    names = {name for name in model.state() if ".in_proj_" not in name}
    assert {tensor.name for tensor in onnx.load(path).graph.initializer} >= names
    x = np.random.default_rng(1).standard_normal((3, *MODELS[name]), np.float32)
    expected = model(x)
    close(run(path, x)[0], expected)
    close(nnpar.io.onnx.load(path)(x), expected)
    close(nnpar.io.onnx.load(path, fold=True)(x), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_goes_out(name, tmp_path):
    """With each of its arguments."""
    cls, shape, path = getattr(layers, name), SHAPES.get(name, (4, 6, 6)), tmp_path / "model.onnx"
    plain = cls(**layer_examples.example_arguments(cls))
    rng = np.random.default_rng(0)
    compared = 0
    for layer in itertools.chain([plain], *layer_examples.variations(cls).values()):
        count = COUNTS.get(name, 1) if getattr(layer, "value", None) is None else 1
        try:
            layer.output_shapes([(2, *shape)] * count)
            proto = to_proto(shaken(layer), [shape] * count)
        except ValueError as error:
            if layer is plain and "onnx.save" not in str(error) and name != "Reshape":
                raise
            continue
        path.write_bytes(proto.SerializeToString())
        inputs = [rng.integers(0, 2, (2, *shape)).astype(np.float32) if name == "Embedding"
                  else rng.standard_normal((2, *shape), np.float32) for _ in range(count)]  # fmt: skip
        inputs = [abs(x) + 0.1 for x in inputs] if name in ("Div", "Log", "Reciprocal", "Sqrt") else inputs
        close(run(path, *inputs)[0], layer(*inputs))
        compared += 1
    assert compared or name in ("LocalResponseNorm", "Reshape")  # of an even size, of one batch; others are below


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (layers.LocalResponseNorm(1, alpha=0.5), [(4, 3, 3)]),
        (layers.LocalResponseNorm(3, alpha=0.5, beta=0.6, k=2.0), [(6, 3, 3)]),
        (layers.LocalResponseNorm(5, alpha=0.5), [(7, 3, 3)]),
        (layers.PositionEmbedding(5, 4, class_token=True), [(4, 4)]),
        (layers.MultiheadAttention(4, 2, kdim=3, vdim=2, batch_first=True), [(5, 4), (6, 3), (6, 2)]),
        (layers.MultiheadAttention(4, 2, batch_first=True, causal=True), [(5, 4)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_layers_whose_arguments_need_another_input(layer, shapes, tmp_path):
    (tmp_path / "model.onnx").write_bytes(to_proto(shaken(layer), shapes).SerializeToString())
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, *shape), np.float32) for shape in shapes]
    close(run(tmp_path / "model.onnx", *inputs)[0], layer(*inputs))


def test_every_layer_has_a_form():
    missing = {
        name for name, cls in nnpar.loading.TYPES.items()
        if cls not in EMITTERS and not issubclass(cls, layers.Composite)
    }  # fmt: skip
    assert missing == set()


def test_several_inputs_and_outputs(tmp_path):
    x, z = Input((4, 5, 5)), Input((4, 5, 5))
    y = nnpar.Add()(Conv2d(4, 4, 3, padding=1)(x), z)
    model = Graph((x, z), (y, Flatten()(y), nnpar.ReLU()(z)))
    nnpar.io.onnx.save(model, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, 4, 5, 5), np.float32) for _ in range(2)]
    for results in (run(tmp_path / "model.onnx", *inputs), nnpar.io.onnx.load(tmp_path / "model.onnx")(*inputs)):
        for result, expected in zip(results, model(*inputs), strict=True):
            close(result, expected)


def test_folding_leaves_no_batch_normalisation(tmp_path):
    nnpar.io.onnx.save(shaken(zoo.resnet20()), tmp_path / "model.onnx", (3, 32, 32))
    assert "BatchNorm" in repr(nnpar.io.onnx.load(tmp_path / "model.onnx"))
    assert "BatchNorm" not in repr(nnpar.io.onnx.load(tmp_path / "model.onnx", fold=True))


def test_a_loaded_model_learns_as_the_saved_one(tmp_path):
    """Bit for bit."""
    train, _ = nnpar.data.digits()
    model = zoo.digits_cnn()
    nnpar.io.onnx.save(model, tmp_path / "model.onnx", (1, 8, 8))
    again = nnpar.io.onnx.load(tmp_path / "model.onnx")
    before = list(again.state_dict().values())
    for each in (model, again):
        nnpar.Trainer(each, optimizer=nnpar.Adam(1e-3)).fit(train, epochs=1)
    for x, y, start in zip(model.state().values(), again.state().values(), before, strict=True):
        np.testing.assert_array_equal(x, y)
        assert (y != start).any()


def pytorch_view():
    """x.view(x.shape[0], -1), as PyTorch exports it: the batch's size cut out of the shape."""
    h = onnx.helper
    nodes = [
        h.make_node("Shape", ["x"], ["s"]), h.make_node("Gather", ["s", "zero"], ["n"], axis=0),
        h.make_node("Unsqueeze", ["n", "axes"], ["n1"]), h.make_node("Concat", ["n1", "rest"], ["t"], axis=0),
        h.make_node("Reshape", ["x", "t"], ["y"]),
    ]  # fmt: skip
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    ends = [h.make_tensor_value_info("x", 1, ["batch", 2, 3, 4])], [h.make_tensor_value_info("y", 1, ["b", "f"])]
    graph = h.make_graph(
        nodes, "g", *ends, [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 18)])


def test_shapes_that_follow_the_batch(tmp_path):
    onnx.save(pytorch_view(), tmp_path / "view.onnx")
    model = nnpar.io.onnx.load(tmp_path / "view.onnx")
    assert [type(node.layer).__name__ for node in model.nodes()] == ["Flatten"]
    assert model(np.zeros((5, 2, 3, 4))).shape == (5, 24)


def test_dense_layers_of_tokens_come_back(tmp_path):
    model = shaken(Sequential(Linear(4, 3), nnpar.ReLU(), nnpar.LayerNorm(3), Linear(3, 2)))
    nnpar.io.onnx.save(model, tmp_path / "m.onnx", (5, 4))
    again = nnpar.io.onnx.load(tmp_path / "m.onnx")
    assert [repr(node.layer) for node in again.nodes()][:2] == [repr(node.layer) for node in model.nodes()][:2]
    x = np.random.default_rng(0).standard_normal((2, 5, 4), np.float32)
    np.testing.assert_array_equal(again(x), model(x))


def test_a_bias_is_not_added_to_what_others_read(tmp_path):
    h = onnx.helper
    nodes = [
        h.make_node("MatMul", ["x", "w"], ["a"]), h.make_node("Add", ["a", "b"], ["c"]),
        h.make_node("Add", ["a", "c"], ["y"]),
    ]  # fmt: skip
    ends = [h.make_tensor_value_info("x", 1, ["n", 2])], [h.make_tensor_value_info("y", 1, ["n", 3])]
    constants = {"w": np.ones((2, 3), np.float32), "b": np.ones(3, np.float32)}
    graph = h.make_graph(nodes, "g", *ends, [onnx.numpy_helper.from_array(v, k) for k, v in constants.items()])
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 18)]), tmp_path / "m.onnx")
    np.testing.assert_array_equal(nnpar.io.onnx.load(tmp_path / "m.onnx")([[1.0, 2.0]]), [[7.0, 7.0, 7.0]])


def test_reshapes_of_any_batch(tmp_path):
    model = Sequential(layers.Reshape((0, 2, -1)), layers.Permute((0, 2, 1)), layers.Reshape((-1, 12)))
    nnpar.io.onnx.save(model, tmp_path / "m.onnx", (12,))
    for rows in (1, 3):
        x = np.random.default_rng(0).standard_normal((rows, 12), np.float32)
        np.testing.assert_array_equal(run(tmp_path / "m.onnx", x)[0], model(x))
        np.testing.assert_array_equal(nnpar.io.onnx.load(tmp_path / "m.onnx")(x), model(x))


def test_external_data(tmp_path):
    model = shaken(Sequential(Linear(40, 30)))
    proto = to_proto(model, (40,))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="inner.bin", size_threshold=0)
    assert (tmp_path / "inner.bin").stat().st_size >= 4 * model.parameter_count
    x = np.random.default_rng(0).standard_normal((2, 40), np.float32)
    np.testing.assert_array_equal(nnpar.io.onnx.load(tmp_path / "m.onnx")(x), model(x))


def test_embedding_of_integers(tmp_path):
    """As PyTorch exports it: without the cast that nnpar's own export has."""
    h, table = onnx.helper, np.arange(12, dtype=np.float32).reshape(4, 3)
    ends = [h.make_tensor_value_info("i", 7, ["n", 2])], [h.make_tensor_value_info("y", 1, ["n", 2, 3])]
    graph = h.make_graph(
        [h.make_node("Gather", ["t", "i"], ["y"])], "g", *ends, [onnx.numpy_helper.from_array(table, "t")]
    )
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 18)]), tmp_path / "m.onnx")
    model = nnpar.io.onnx.load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(model([[0, 3], [2, 2]]), table[[[0, 3], [2, 2]]])


def test_all_that_is_not_supported_is_named_at_once(tmp_path):
    h = onnx.helper
    nodes = [
        h.make_node("Det", ["x"], ["a"], name="first"), h.make_node("Relu", ["a"], ["b"]),
        h.make_node("MaxPool", ["x"], ["c"], name="second", kernel_shape=[3, 3], strides=[2, 2], storage_order=1),
        h.make_node("Einsum", ["b", "c"], ["y"], equation="nchw,nchw->nchw"),
    ]  # fmt: skip
    ends = [h.make_tensor_value_info("x", 1, ["n", 2, 4, 4])], [h.make_tensor_value_info("y", 1, ["n", 2, 4, 4])]
    onnx.save(
        h.make_model(h.make_graph(nodes, "g", *ends), opset_imports=[h.make_opsetid("", 18)]), tmp_path / "m.onnx"
    )
    with pytest.raises(ValueError, match=r"m.onnx: not supported: Det 'first': this operator; "
                       r"MaxPool 'second': storage_order=1; Einsum \(node 3\): this operator$"):  # fmt: skip
        nnpar.io.onnx.load(tmp_path / "m.onnx")


def test_errors_of_save(tmp_path):
    class Double(nnpar.CustomLayer):
        def forward(self, x):
            return 2 * x, None

        def backward(self, dy, saved):
            return 2 * dy

    path = tmp_path / "model.onnx"
    with pytest.raises(ValueError, match=r"layers without a form in ONNX: layer '0' \(Double\)"):
        nnpar.io.onnx.save(Sequential(Double(), Linear(2, 2)), path, (2,))
    with pytest.raises(ValueError, match="input_shape: expected the shape of one sample"):
        nnpar.io.onnx.save(Sequential(Linear(2, 2)), path)
    with pytest.raises(TypeError, match="model: expected a layer, got int"):
        nnpar.io.onnx.save(3, path)
    assert not path.exists()


def test_operators_are_sorted():
    assert list(OPERATORS) == sorted(OPERATORS)
