from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models

from gridnode.core.models import QuantFormat
from gridnode.core.spans import Span
from gridnode.engine.locate import open_checkpoint
from gridnode.engine.requests import EngineConfig
from gridnode.engine.select import choose_dtype, choose_executor
from gridnode.errors import BadInput

CONFIG = EngineConfig(location="", span=Span(0, 4), quantization=QuantFormat.INT8)


def test_quantized_weights_of_known_families_take_the_fast_path(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_llama))
    assert choose_executor(CONFIG, checkpoint) == "onnx"
    assert choose_executor(replace(CONFIG, quantization=QuantFormat.NONE), checkpoint) == "torch"
    assert choose_executor(replace(CONFIG, dtype="bfloat16"), checkpoint) == "torch"
    assert choose_executor(replace(CONFIG, executor="torch"), checkpoint) == "torch"


def test_other_families_fall_back_unless_the_fast_path_is_forced(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_models.make_model(tmp_path / "olmo2", "olmo2")))
    assert choose_executor(CONFIG, checkpoint) == "torch"
    with pytest.raises(BadInput, match=r"onnx cannot run .*'olmo2'.*; use auto or torch"):
        choose_executor(replace(CONFIG, executor="onnx"), checkpoint)


def test_graphics_cards_take_the_reference(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_llama))
    assert choose_executor(replace(CONFIG, device="cuda"), checkpoint) == "torch"
    with pytest.raises(BadInput, match="it computes on cpu only, not on cuda; use auto or torch"):
        choose_executor(replace(CONFIG, device="cuda", executor="onnx"), checkpoint)


def test_processors_are_not_asked_for_float16(tiny_llama: Path) -> None:
    with pytest.raises(BadInput, match="processors do not compute in float16"):
        choose_executor(replace(CONFIG, dtype="float16"), open_checkpoint(str(tiny_llama)))


def test_other_devices_compute_in_16_bits(tiny_llama: Path) -> None:
    assert choose_dtype(replace(CONFIG, device="xpu"), open_checkpoint(str(tiny_llama))) == "bfloat16"


def test_half_precision_stays_half_only_without_quantization(tiny_llama: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_llama))
    plain = replace(CONFIG, quantization=QuantFormat.NONE)
    assert choose_dtype(plain, checkpoint) == "float32"
    checkpoint.config["dtype"] = "bfloat16"
    assert choose_dtype(plain, checkpoint) == "bfloat16"
    assert choose_dtype(CONFIG, checkpoint) == "float32"
    assert choose_dtype(replace(CONFIG, dtype="bfloat16"), checkpoint) == "bfloat16"
