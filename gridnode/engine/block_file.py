"""One file of quantized matrices: safetensors, written and mapped without a copy of it in memory."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gridnode.engine.executor import Array
from gridnode.paths import replacing

_DTYPES = {"U8": "uint8", "F32": "float32"}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
# The format wants the data to begin at a multiple of this.
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class StoredArray:
    """One array inside a file of the cache."""

    path: Path
    offset: int
    length: int
    dtype: str
    """`uint8` or `float32`."""

    shape: tuple[int, ...]

    def mapped(self) -> Array:
        """Return the array as a memory map: its pages are the system's, shared by all who read them."""
        # Copy on write: torch wants arrays that could be written to; nobody does.
        return np.memmap(self.path, self.dtype, mode="c", offset=self.offset, shape=self.shape)


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays of `uint8` and `float32` to a file that is there as a whole or not at all."""
    # Wide values first: no array has to begin in the middle of a value.
    ordered = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, object] = {}
    offset = 0
    for name, array in ordered:
        end = offset + array.nbytes
        record = {"dtype": _NAMES[array.dtype.name], "shape": array.shape, "data_offsets": [offset, end]}
        header[name] = record
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    with replacing(path) as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for _, array in ordered:
            file.write(np.ascontiguousarray(array).data)


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """Return where the arrays of a file lie.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError, struct.error: it is not such a file.
    """
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        if header_bytes > path.stat().st_size:
            raise ValueError(f"{path} has no header of {header_bytes} bytes")
        header = json.loads(file.read(header_bytes))
    return {
        name: StoredArray(
            path,
            8 + header_bytes + record["data_offsets"][0],
            record["data_offsets"][1] - record["data_offsets"][0],
            _DTYPES[record["dtype"]],
            tuple(record["shape"]),
        )
        for name, record in header.items()
        if name != "__metadata__"
    }


def is_whole(path: Path) -> bool:
    """Return whether a file is there, can be read, and ends where its header says.

    A crash of the computer, or a disk that was full, leaves other files. Every byte of them would take
    seconds to check at every start.
    """
    try:
        stored = stored_arrays(path)
        end = max((array.offset + array.length for array in stored.values()), default=0)
        return path.stat().st_size == end
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return False
