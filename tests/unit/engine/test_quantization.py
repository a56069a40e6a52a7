import numpy as np
import pytest

from gridnode.core.models import QuantFormat
from gridnode.engine.quantization import quantize

WEIGHT = np.random.default_rng(0).standard_normal((48, 160)).astype(np.float32)


def error(restored: np.ndarray, weight: np.ndarray = WEIGHT) -> float:
    """Return the root mean square error relative to that of the weights."""
    return float(np.sqrt(((restored - weight) ** 2).mean() / (weight**2).mean()))


@pytest.mark.parametrize(
    ("quantization", "group_size", "bound"),
    [
        (QuantFormat.INT8, 32, 0.006),
        (QuantFormat.INT8, 128, 0.008),
        (QuantFormat.INT4, 16, 0.085),
        (QuantFormat.INT4, 32, 0.095),
        (QuantFormat.INT4, 128, 0.125),
    ],
)
def test_values_come_back_within_their_bits(quantization: QuantFormat, group_size: int, bound: float) -> None:
    assert error(quantize(WEIGHT, quantization, group_size=group_size).dequantize()) < bound


def test_the_bytes_are_those_of_the_bits_and_the_scales() -> None:
    tensor = quantize(WEIGHT, QuantFormat.INT4, group_size=32)
    assert tensor.packed.shape == (48, 5, 16)
    assert tensor.num_bytes == 48 * 160 // 2 + 48 * 5 * (4 + 1)


def test_the_first_of_two_values_is_the_low_half() -> None:
    tensor = quantize(WEIGHT, QuantFormat.INT4, group_size=32)
    values = tensor.values()
    assert np.array_equal(tensor.packed[..., 0] & 0x0F, values[..., 0])
    assert np.array_equal(tensor.packed[..., 0] >> 4, values[..., 1])


@pytest.mark.parametrize("quantization", [QuantFormat.INT8, QuantFormat.INT4])
def test_zero_stays_zero_and_padding_is_invisible(quantization: QuantFormat) -> None:
    weight = WEIGHT[:, :150].copy()
    weight[:, ::7] = 0.0
    weight[3] = 0.0
    restored = quantize(weight, quantization).dequantize()
    assert restored.shape == weight.shape
    assert not restored[weight == 0.0].any()


@pytest.mark.parametrize("quantization", [QuantFormat.INT8, QuantFormat.INT4])
def test_one_sided_groups_keep_their_sign(quantization: QuantFormat) -> None:
    for weight in (np.abs(WEIGHT) + 5.0, -np.abs(WEIGHT) - 5.0):
        assert error(quantize(weight, quantization).dequantize(), weight) < 0.06


def test_the_search_is_never_worse_than_plain_rounding() -> None:
    heavy = np.random.default_rng(1).standard_t(3, (64, 256)).astype(np.float32)
    grouped = heavy.reshape(64, -1, 32)
    low, high = np.minimum(grouped.min(-1), 0), np.maximum(grouped.max(-1), 0)
    scale = ((high - low) / 15)[..., None]
    zero = np.rint(-low[..., None] / scale)
    plain = ((np.clip(np.rint(grouped / scale) + zero, 0, 15) - zero) * scale).reshape(64, 256)
    searched = quantize(heavy, QuantFormat.INT4).dequantize()
    assert error(searched, heavy) < error(plain, heavy)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="no bits"):
        quantize(WEIGHT, QuantFormat.NONE)
    with pytest.raises(ValueError, match="power of two"):
        quantize(WEIGHT, QuantFormat.INT4, group_size=24)
