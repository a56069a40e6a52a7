"""Building the graph of a span for ONNX Runtime in memory: no export, no file but the weights'.

One `OnnxGraph` collects nodes and initializers. Quantized matrices stay in the files of the block cache:
ONNX Runtime maps them, packs them for the processor, and lets the mapping go.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from gridnode.engine.block_cache import stored_bits, stored_group_size
from gridnode.engine.block_file import StoredArray
from gridnode.engine.executor import Array
from gridnode.engine.quantization import groups_of

_OPSET = 21
_IR_VERSION = 10
_CONTRIB = "com.microsoft"
_TYPES = {
    "uint8": TensorProto.UINT8,
    "float32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}
# How long the threads of a graph watch for its next product before they sleep: waking them takes as long as a
# small product. They never watch between two runs.
_WATCH_US = 60
# Activations of quantized products in 8 bits: what makes them fast on processors with integer dot products.
_ACCURACY_INT8 = 4


@dataclass(slots=True)
class OnnxGraph:
    """A graph under construction. Values are named by strings."""

    folder: Path
    """Folder below which the stored arrays lie."""

    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    kept: dict[str, Array] = field(default_factory=dict)
    """Large arrays that ONNX Runtime shares with us instead of copying them."""

    _count: int = 0

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        *,
        num_outputs: int = 1,
        contrib: bool = False,
        **attributes: Any,
    ) -> list[str]:
        """Add a node and return the names of its outputs."""
        self._count += 1
        outputs = [f"{op}_{self._count}_{i}" for i in range(num_outputs)]
        domain = _CONTRIB if contrib else ""
        self.nodes.append(helper.make_node(op, list(inputs), outputs, domain=domain, **attributes))
        return outputs

    def add_input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """Add an input of the graph."""
        self.inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))
        return name

    def add_output(self, value: str, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Make a value an output of the graph."""
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))

    def name_output(self, value: str, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Make an output of the last node one of the graph, without a copy: it may be bound to a buffer."""
        node = self.nodes[-1]
        node.output[list(node.output).index(value)] = name
        self.outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], list(shape)))

    def constant(self, name: str, array: Array) -> str:
        """Add a small initializer, copied into the graph."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def shared(self, name: str, array: Array) -> str:
        """Add a large initializer, which stays where it is."""
        self.kept[name] = array
        self._external(name, "float32", array.shape, location="shared", offset=0, length=array.nbytes)
        return name

    def stored(self, name: str, array: StoredArray) -> str:
        """Add an initializer that lies in a file."""
        location = os.path.relpath(array.path, self.folder)
        self._external(
            name, array.dtype, array.shape, location=location, offset=array.offset, length=array.length
        )
        return name

    def _external(
        self, name: str, dtype: str, shape: Sequence[int], *, location: str, offset: int, length: int
    ) -> None:
        tensor = TensorProto(name=name, data_type=_TYPES[dtype], dims=list(shape))
        tensor.raw_data = b""
        external_data_helper.set_external_data(tensor, location, offset=offset, length=length)
        tensor.ClearField("raw_data")
        self.initializers.append(tensor)

    def matmul(self, value: str, name: str, arrays: dict[str, StoredArray], *, inputs: int) -> str:
        """Add the product of `value` with a quantized matrix."""
        group_size = stored_group_size(arrays)
        groups = groups_of(inputs, group_size)
        behind = arrays["scales"].shape[1] - groups
        if behind:  # corrections, see `QuantizedTensor`
            value = self._with_sums(value, name, group_size, zeros=behind * group_size - groups)
            inputs += behind * group_size
        names = [self.stored(f"{name}.{part}", array) for part, array in arrays.items()]
        return self.add(
            "MatMulNBits",
            [value, *names],
            contrib=True,
            K=inputs,
            N=arrays["packed"].shape[0],
            bits=stored_bits(arrays),
            block_size=group_size,
            accuracy_level=_ACCURACY_INT8,
        )[0]

    def _with_sums(self, value: str, name: str, group_size: int, *, zeros: int) -> str:
        """Return `value` with the sums of its groups behind it, and so many zeros."""
        apart = self.constant(f"{name}.groups", np.array([0, 0, -1, group_size], dtype=np.int64))
        axis = self.constant(f"{name}.axis", np.array([3], dtype=np.int64))
        sums = self.add("ReduceSum", [*self.add("Reshape", [value, apart]), axis], keepdims=0)
        filled = self.constant(f"{name}.zeros", np.array([0, 0, 0, 0, 0, zeros], dtype=np.int64))
        return self.add("Concat", [value, *self.add("Pad", [*sums, filled])], axis=2)[0]

    def session(self, *, num_threads: int) -> onnxruntime.InferenceSession:
        """Return the graph, ready to run."""
        graph = helper.make_graph(self.nodes, "span", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # What a step needs beside the weights is shared among the graphs of a span, and given back.
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(_WATCH_US))
        # A node must not burn a core while it waits for the next step.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self.folder)
        )
        if self.kept:
            # Packing would hold a second copy of every matrix.
            options.add_session_config_entry("session.disable_prepacking", "1")
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self.kept.values()]
            options.add_external_initializers(list(self.kept), values)
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
