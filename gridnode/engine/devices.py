"""Devices that compute, by name: whether they are here, what is free on them, and their data types.

`python -m gridnode.engine.devices cuda` prints the free bytes: the node asks in a process of its own, because
it never imports torch. Only the CPU was run here; what is said of `cuda`, `mps` and `xpu` follows the
documentation of torch and was not run.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

import psutil

from gridnode.core.models import DeviceName
from gridnode.errors import BadInput

_HOW_TO_GET = {
    "cuda": "install torch with CUDA, and a driver for it",
    "mps": "it needs a Mac with Apple silicon and macOS 12.3 or later",
    "xpu": "install torch with XPU, and a driver for it",
}
# The first macOS whose Metal computes in bfloat16.
_BFLOAT16_MACOS = 14


def check_device(device: DeviceName) -> None:
    """Do nothing if `device` is here.

    Raises:
        BadInput: it is not; the message says what it needs.
    """
    import torch

    if device == "cpu":
        return
    backend: Any = torch.backends.mps if device == "mps" else getattr(torch, device)
    if not backend.is_available():
        raise BadInput(
            f"there is no device {device!r} on this computer that torch {torch.__version__} can use; "
            f"{_HOW_TO_GET[device]}, or use cpu"
        )


def half_dtype(device: DeviceName) -> str:
    """Return the type of 16 bits that `device` computes well in: `bfloat16`, or `float16` if it must be."""
    if device == "mps":
        version = platform.mac_ver()[0]
        return "bfloat16" if version and int(version.split(".")[0]) >= _BFLOAT16_MACOS else "float16"
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16"


def free_bytes(device: DeviceName) -> int:
    """Return the bytes that nobody uses now: never what the device has in total.

    Raises:
        BadInput: there is no such device.
    """
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    check_device(device)
    import torch

    if device == "mps":  # its memory is the computer's; Metal says how much of it one process should take
        mine = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return min(int(mine), int(psutil.virtual_memory().available))
    module: Any = getattr(torch, device)
    free, _total = module.mem_get_info()
    return int(free)


def main(arguments: list[str]) -> int:
    """Print the free bytes of the device that is named; return the exit status."""
    try:
        sys.stdout.write(f"{free_bytes(arguments[0])}\n")  # type: ignore[arg-type] # from our own node
    except BadInput as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
