"""What a span takes in memory, measured in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gridnode.core.models import QuantFormat
from gridnode.core.placement import block_bytes
from gridnode.engine.locate import open_checkpoint
from gridnode.units import MIB, format_bytes

pytestmark = [
    pytest.mark.smollm,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc"),
]

PROGRAM = """
import ctypes, json, sys
from pathlib import Path
import psutil
import gridnode.engine.select
from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.locate import open_checkpoint

location, start, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
quantization, executor = QuantFormat(sys.argv[4]), sys.argv[5]
checkpoint = open_checkpoint(location)
checkpoint.read("model.norm.weight")

def load(span):
    if executor == "torch":
        from gridnode.engine.torch_span import TorchSpan
        return TorchSpan(checkpoint, span, quantization=quantization)
    from gridnode.engine.onnx_span import OnnxSpan
    return OnnxSpan(checkpoint, span, quantization=quantization, max_positions=64, num_threads=1)

load(Span(5, 6))  # imports the classes of the family, starts the libraries' threads
# glibc keeps what was freed: it would hide as much of what the next span takes.
getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)
before = psutil.Process().memory_info().rss
Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far, proc(5)
span = load(Span(start, end))
after = psutil.Process().memory_info()
# Not ru_maxrss: across an exec it remembers the memory of the process that started this one.
status = Path("/proc/self/status").read_text()
peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024
# The pages of the checkpoint's memory map are the system's cache, not ours.
mapped = sum(
    m.rss for m in psutil.Process().memory_maps() if m.path == location or m.path.endswith(".safetensors")
)
print(json.dumps({"before": before, "span": after.rss - before - mapped, "peak": peak - before - mapped}))
"""


def measure(
    model: Path, start: int, end: int, quantization: str = "none", executor: str = "torch"
) -> dict[str, int]:
    """Return the bytes that loading a span added, and the peak while loading."""
    command = [sys.executable, "-c", PROGRAM, str(model), str(start), str(end), quantization, executor]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_a_third_of_the_blocks_takes_a_third_of_the_memory(
    demo_model_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = measure(demo_model_path, 0, 30)
    parts = {span: measure(demo_model_path, *span) for span in [(0, 10), (10, 20), (20, 30)]}
    with capsys.disabled():
        print("\nresident memory of spans of SmolLM2-135M, float32 (imports and runtime not counted):")
        print(f"  blocks 0:30 with embeddings and head  {format_bytes(whole['span'])}")
        for (start, end), found in parts.items():
            share = found["span"] / whole["span"]
            print(f"  blocks {start}:{end}  {format_bytes(found['span'])}  {share:.0%}")
    # Ten blocks are 35 M of 135 M values; the ends hold the embeddings or the head too, 28 M.
    assert 0.22 < parts[10, 20]["span"] / whole["span"] < 0.34
    for end in ((0, 10), (20, 30)):
        assert 0.35 < parts[end]["span"] / whole["span"] < 0.55


def test_loading_holds_no_second_copy(demo_model_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measure(demo_model_path, 10, 20)
    with capsys.disabled():
        print(f"\nloading blocks 10:20: {format_bytes(found['span'])}, peak {format_bytes(found['peak'])}")
    # Ten blocks of this model are small: one dequantized tensor at a time counts beside them.
    assert found["peak"] < 1.3 * found["span"] + 16 * MIB


@pytest.mark.parametrize(
    ("quantization", "executor"), [("int8", "torch"), ("int8", "onnx"), ("int4", "onnx")]
)
def test_quantized_blocks_are_mapped_from_the_disk_and_take_what_was_planned(
    demo_model_path: Path,
    quantization: str,
    executor: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    facts = open_checkpoint(str(demo_model_path)).facts
    planned = 10 * block_bytes(facts, QuantFormat(quantization), bytes_per_value=4)
    first = measure(demo_model_path, 10, 20, quantization, executor)
    files = list((tmp_path / "gridnode" / "blocks").rglob("*.safetensors"))
    span_bytes = sum(file.stat().st_size for file in files) * 10 // len(files)
    again = measure(demo_model_path, 10, 20, quantization, executor)
    with capsys.disabled():
        print(f"\nloading blocks 10:20, {quantization}, {executor}: {format_bytes(span_bytes)} of weights")
        print(f"  planned: {format_bytes(planned)}")
        for when, found in (("quantized first", first), ("from the disk", again)):
            print(
                f"  {when}: {format_bytes(max(0, found['span']))}, peak {format_bytes(max(0, found['peak']))}"
            )
    assert first["peak"] < 1.3 * span_bytes
    assert again["peak"] < 1.3 * span_bytes
    if executor == "torch":
        assert again["span"] < 0.3 * span_bytes
    else:  # ONNX Runtime packs them for the processor, and lets the map go
        assert 0.8 * planned < again["span"] < 1.05 * planned
