"""ONNX's own interface, ``onnx.backend.base``, for programs and tests that know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.backend.base import Backend, BackendRep, namedtupledict

from nnpar.io.onnx import files
from nnpar.io.onnx.importer import Imported, Importer
from nnpar.layers.base import check_values
from nnpar.plan import Plan

MOST_MODELS = 8  # of one representation, for different numbers of the inputs that are parameters

# Inputs of operators that are parameters of nnpar's layers.
PARAMETERS = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Dropout": (1,),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
    "RMSNormalization": (1,),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}


class NnparRep(BackendRep):  # type: ignore[misc]
    """A model that is ready to run. Inputs that are shapes, or parameters of a layer, are constants of a model that is
    built when their numbers are known, and kept for calls with the same.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        graph = proto.graph
        known = {tensor.name for tensor in graph.initializer}
        self._inputs = [value for value in graph.input if value.name not in known]
        read = {
            name
            for node in graph.node
            for number, name in enumerate(node.input)
            if number in PARAMETERS.get(node.op_type, ())
        }
        indices = {node.input[1] for node in graph.node if node.op_type == "Gather" and node.input[0] in known}
        self._constant = {
            value.name
            for value in self._inputs
            if value.name in read
            or (value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT and value.name not in indices)
            or not value.type.tensor_type.shape.dim
        }
        self._models: dict[Any, tuple[Imported, Plan | None]] = {}

    def run(self, inputs: Any, **kwargs: Any) -> tuple[NDArray[Any], ...]:
        """Outputs for inputs, by their order or their names.

        Raises
        ------
        ValueError
            If the model has what is not supported, or inputs do not fit.
        """
        names = [value.name for value in self._inputs]
        if isinstance(inputs, Mapping):
            values = {name: np.asarray(inputs[name]) for name in names}
        else:
            each = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
            values = {name: np.asarray(x) for name, x in zip(names, each, strict=True)}
        key = tuple(
            (x.shape, x.dtype.str, x.tobytes()) if name in self._constant else x.shape for name, x in values.items()
        )
        if key not in self._models:
            if len(self._models) >= MOST_MODELS:
                self._models.pop(next(iter(self._models)))
            self._models[key] = self._build(values)
        imported, plan = self._models[key]
        results: list[Any] = []
        if plan is not None:
            check_values(plan.nodes, [values[name] for name in imported.inputs])
            for name, x in zip(imported.inputs, plan.inputs, strict=True):
                np.copyto(x, values[name])
            plan.run()
            results = [np.array(y, order="C") for y in plan.outputs]
        outputs = [results[output] if isinstance(output, int) else output for output in imported.outputs]
        return namedtupledict("Outputs", [value.name for value in self._proto.graph.output])(*outputs)  # type: ignore[no-any-return]

    def _build(self, values: Mapping[str, NDArray[Any]]) -> tuple[Imported, Plan | None]:
        constants = {name: values[name] for name in values if name in self._constant}
        shapes = {name: values[name].shape for name in values if name not in self._constant}
        imported = Importer(self._proto, constants, shapes).run()
        if imported.model is None:
            return imported, None
        return imported, Plan(imported.model, [values[name].shape for name in imported.inputs], training=False)


class NnparBackend(Backend):  # type: ignore[misc]
    """nnpar as ONNX's tools call it."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Whether all data are tensors of types that nnpar has: float32, and integers and bools as constants."""
        types = {value.type.tensor_type.elem_type for value in model.graph.input}
        kinds = onnx.TensorProto
        return cls.supports_device(device) and types <= {kinds.FLOAT, kinds.INT64, kinds.INT32, kinds.BOOL}

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> NnparRep:
        """A model that is ready to run.

        Raises
        ------
        ValueError
            If it is not sound, or the device is another than the CPU.
        """
        if not cls.supports_device(device):
            raise ValueError(f"backend: device: expected 'CPU', got {device!r}")
        return NnparRep(files.check(onnx.ModelProto.FromString(model.SerializeToString())))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> Any:
        """Prepare a model and run it once."""
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> Any:
        """Run one operator of the newest version, or that of ``opset_version``."""
        names = [name for name in node.input if name]
        values = [np.asarray(x) for x in ([inputs[name] for name in names] if isinstance(inputs, Mapping) else inputs)]
        graph = onnx.helper.make_graph(
            [node], "node",
            [_info(name, x) for name, x in zip(names, values, strict=True)],
            [onnx.ValueInfoProto(name=name) for name in node.output if name],
        )  # fmt: skip
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
        return NnparRep(proto).run(values)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether it is the CPU."""
        return device.split(":")[0] == "CPU"


def _info(name: str, x: NDArray[Any]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)


is_compatible = NnparBackend.is_compatible
prepare = NnparBackend.prepare
run_model = NnparBackend.run_model
run_node = NnparBackend.run_node
supports_device = NnparBackend.supports_device
