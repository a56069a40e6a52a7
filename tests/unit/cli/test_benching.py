"""`gridnode bench quality` prints one record, or one table."""

import importlib.util
import json
from pathlib import Path

import pytest

from gridnode.cli.benching import bench_quality


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_way_to_compute_the_model_is_told(tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_quality(str(tiny_llama), num_tokens=100, as_json=True)
    printed = capsys.readouterr()
    record = json.loads(printed.out)
    assert record["num_tokens"] == 100
    ways = [(r["quantization"], r["executor"], r["kv"]) for r in record["results"]]
    assert ways == [
        ("none", "torch", "auto"),
        *[(q, e, kv) for q in ("int8", "int4", "int4-g128") for e, kv in QUANTIZED_WAYS],
        *NF4_WAYS,
    ]
    assert record["results"][0]["perplexity_change"] == 0
    assert all(result["kl_divergence"] > 0 for result in record["results"][1:])
    assert "unquantized first" in printed.err


QUANTIZED_WAYS = [("torch", "auto"), ("onnx", "auto"), ("onnx", "int8")]
NF4_WAYS = [("nf4", "torch", "auto")] if importlib.util.find_spec("bitsandbytes") else []


def test_people_get_a_table(tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench_quality(str(tiny_llama), num_tokens=70, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[0].split()) == ("WEIGHTS KEYS, VALUES EXECUTOR PERPLEXITY CHANGE KL SAME CHOICE")
    assert len(lines) == 11 + len(NF4_WAYS)
