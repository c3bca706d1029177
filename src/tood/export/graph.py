"""Writing an ONNX graph node by node, with formulas that read like formulas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 20
"""Version of ONNX's operators in every exported file."""
IR_VERSION = 10
"""Of the file format; what onnxruntime reads since 1.18."""


@dataclass(frozen=True)
class Value:
    """A tensor in a graph. Operators take other values of the same type, with broadcasting."""

    graph: "Graph"
    name: str

    def __add__(self, other: "Value") -> "Value":
        return self.graph.op("Add", self, other)

    def __sub__(self, other: "Value") -> "Value":
        return self.graph.op("Sub", self, other)

    def __mul__(self, other: "Value") -> "Value":
        return self.graph.op("Mul", self, other)

    def __truediv__(self, other: "Value") -> "Value":
        """The quotient; of integers that are not negative, rounded down."""
        return self.graph.op("Div", self, other)

    def __lt__(self, other: "Value") -> "Value":
        return self.graph.op("Less", self, other)

    def __gt__(self, other: "Value") -> "Value":
        return self.graph.op("Greater", self, other)

    def __and__(self, other: "Value") -> "Value":
        return self.graph.op("And", self, other)

    def cast(self, kind: DTypeLike) -> "Value":
        return self.graph.op("Cast", self, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

    def at(self, index: int) -> "Value":
        """The scalar at a place of a vector."""
        return self.graph.op("Gather", self, self.graph.constant(index, np.int64), axis=0)

    def reshaped(self, *shape: int) -> "Value":
        """With -1 for what remains."""
        return self.graph.op("Reshape", self, self.graph.constant(shape, np.int64))

    def taken(self, indices: "Value", axis: int = 0) -> "Value":
        return self.graph.op("Gather", self, indices, axis=axis)


@dataclass
class Graph:
    """Nodes in the order in which they are computed, each output under a name of its own."""

    name: str
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[tuple[str, tuple[int, ...], bytes], TensorProto] = field(default_factory=dict)
    inside: "Graph | None" = None
    """The graph of which this is the body of a loop."""

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        """The one output of a new node."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: Value, **attributes: Any) -> tuple[Value, ...]:
        """The outputs of a new node that has several."""
        number = len(self.nodes)
        names = [f"{self.name}/{kind}_{number}{f'_{place}' if count > 1 else ''}" for place in range(count)]
        given = [value.name for value in inputs]
        self.nodes.append(helper.make_node(kind, given, names, name=f"{self.name}/{kind}_{number}", **attributes))
        return tuple(Value(self, name) for name in names)

    def constant(self, value: ArrayLike, kind: DTypeLike) -> Value:
        """Equal ones are stored once; those of a loop's body with the graph around it."""
        if self.inside is not None:
            return Value(self, self.inside.constant(value, kind).name)
        array = np.asarray(value, kind)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, f"{self.name}/constant_{len(self.constants)}")
        return Value(self, self.constants[key].name)

    def input(self, name: str) -> Value:
        return Value(self, name)

    def output(self, value: Value, name: str) -> None:
        """Give a value a name of its own, as an output has it."""
        self.nodes.append(helper.make_node("Identity", [value.name], [name], name=f"{self.name}/{name}"))

    def model(self, inputs: Mapping[str, "Kind"], outputs: Mapping[str, "Kind"]) -> ModelProto:
        """The graph as a model of its own."""
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [kind.info(name) for name, kind in inputs.items()],
            [kind.info(name) for name, kind in outputs.items()],
            list(self.constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model


@dataclass(frozen=True)
class Kind:
    """Type and shape of a graph's input or output; sides with a name are of any length."""

    dtype: DTypeLike
    shape: Sequence[int | str]

    def info(self, name: str) -> onnx.ValueInfoProto:
        element = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        return helper.make_tensor_value_info(name, element, list(self.shape))
