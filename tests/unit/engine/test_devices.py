"""Devices by name: what is not here is said to be missing, and what is free is what nobody uses."""

import platform
import sys

import psutil
import pytest
import torch

from gridnode.config import NodeConfig
from gridnode.core.models import DeviceName
from gridnode.engine import devices
from gridnode.engine.devices import check_device, free_bytes, half_dtype
from gridnode.errors import BadInput
from gridnode.node.balancer import memory_budget_bytes

MISSING: list[DeviceName] = [
    name
    for name in ("cuda", "mps", "xpu")
    if not (torch.backends.mps if name == "mps" else getattr(torch, name)).is_available()
]


@pytest.mark.parametrize("device", MISSING)
def test_a_device_that_is_not_here_is_refused_with_what_it_needs(device: DeviceName) -> None:
    with pytest.raises(BadInput, match=f"there is no device '{device}' on this computer.*or use cpu"):
        check_device(device)


def test_memory_is_planned_from_what_is_free_not_from_the_total() -> None:
    check_device("cpu")
    assert 0 < free_bytes("cpu") < psutil.virtual_memory().total


@pytest.mark.skipif("cuda" not in MISSING, reason="a graphics card is here")
def test_a_node_hears_that_its_device_is_missing_without_importing_torch() -> None:
    with pytest.raises(BadInput, match="there is no device 'cuda' on this computer"):
        memory_budget_bytes(NodeConfig(device="cuda"))
    assert memory_budget_bytes(NodeConfig(device="cuda", memory_bytes=7)) == 7


@pytest.mark.parametrize(
    ("macos", "dtype"), [("13.6", "float16"), ("14.0", "bfloat16"), ("15.1.1", "bfloat16"), ("", "float16")]
)
def test_macs_compute_in_bfloat16_from_macos_14_on(
    macos: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "mac_ver", lambda: (macos, ("", "", ""), ""))
    assert half_dtype("mps") == dtype


def test_the_probe_prints_the_free_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert devices.main(["cpu"]) == 0
    assert int(capsys.readouterr().out) > 0
    assert sys.modules["torch"]  # of this test, not of the node
