"""ONNX models of one operator."""

from typing import Any

from library import Array
from onnx import TensorProto, helper, numpy_helper


def model(operator: str, inputs: dict[str, Array], constants: dict[str, Array], **attributes: Any) -> bytes:
    """The serialized model: `inputs` come at run time, `constants`, after them, are part of it; the result is ``y``."""
    node = helper.make_node(operator, [*inputs, *constants], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        operator,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return data


def conv2d(
    x: Array,
    w: Array,
    bias: Array,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> bytes:
    """A convolution whose weights are part of the model."""
    return model(
        "Conv",
        {"x": x},
        {"w": w, "bias": bias},
        strides=stride,
        pads=(*padding, *padding),
        dilations=dilation,
        group=groups,
        kernel_shape=w.shape[2:],
    )
