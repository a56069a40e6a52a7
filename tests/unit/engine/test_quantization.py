import gguf
import numpy as np
import pytest

from gridnode.core.models import QuantFormat
from gridnode.engine.gguf_groups import groups_of_tensor
from gridnode.engine.quantization import QuantizedTensor, carry, quantize

WEIGHT = np.random.default_rng(0).standard_normal((48, 160)).astype(np.float32)
WIDE = np.random.default_rng(0).standard_normal((48, 640)).astype(np.float32)


def error(restored: np.ndarray, weight: np.ndarray = WEIGHT) -> float:
    """Return the root mean square error relative to that of the weights."""
    return float(np.sqrt(((restored - weight) ** 2).mean() / (weight**2).mean()))


@pytest.mark.parametrize(
    ("quantization", "group_size", "bound"),
    [(QuantFormat.INT8, 32, 0.006), (QuantFormat.INT4, 32, 0.095), (QuantFormat.INT4_G128, 128, 0.125)],
)
def test_values_come_back_within_their_bits(quantization: QuantFormat, group_size: int, bound: float) -> None:
    tensor = quantize(WIDE, quantization)
    assert tensor.group_size == group_size
    assert error(tensor.dequantize(), WIDE) < bound


def test_inputs_that_do_not_fill_groups_of_128_come_in_smaller_ones() -> None:
    assert WEIGHT.shape[1] % 128
    found, expected = (quantize(WEIGHT, each) for each in (QuantFormat.INT4_G128, QuantFormat.INT4))
    assert found.group_size == 32
    assert np.array_equal(found.dequantize(), expected.dequantize())


def test_the_bytes_are_those_of_the_bits_and_the_scales() -> None:
    tensor = quantize(WEIGHT, QuantFormat.INT4)
    # The corrections of five groups fit into one; two more make the number one that is computed fast.
    assert tensor.packed.shape == (48, 5 + 1 + 2, 16)
    assert tensor.num_bytes == 48 * 8 * (16 + 4 + 1)
    large = quantize(WIDE, QuantFormat.INT4_G128)
    assert large.packed.shape == (48, 5 + 1, 64)
    assert large.num_bytes == 48 * 6 * (64 + 4 + 1)


def test_rows_of_zeros_stand_beside_others() -> None:
    """As an expert that is not used, or rows that fill up a matrix: a chunk of rows may have nothing else."""
    weight = np.random.default_rng(0).standard_normal((256, 4096)).astype(np.float32)
    weight[128:] = 0.0
    restored = quantize(weight, QuantFormat.INT4).dequantize()
    assert not restored[128:].any()
    assert error(restored[:128], weight[:128]) < 0.1


def test_the_first_of_two_values_is_the_low_half() -> None:
    tensor = quantize(WEIGHT, QuantFormat.INT4)
    values = tensor.values()
    assert np.array_equal(tensor.packed[..., 0] & 0x0F, values[..., 0])
    assert np.array_equal(tensor.packed[..., 0] >> 4, values[..., 1])


def carried(weight: np.ndarray, kind: gguf.GGMLQuantizationType) -> tuple[QuantizedTensor, np.ndarray]:
    """Return a weight that a GGUF file holds in 4 bits, carried over, and what the file says it is."""
    data = gguf.quantize(weight, kind)
    tensor = gguf.ReaderTensor(
        "weight", kind, np.array(weight.shape[::-1]), weight.size, data.nbytes, 0, data, None
    )
    groups = groups_of_tensor(tensor)
    assert groups is not None
    return carry(groups), gguf.dequantize(data, kind)


def test_q4_0_is_carried_over_to_the_bit() -> None:
    tensor, expected = carried(WEIGHT, gguf.GGMLQuantizationType.Q4_0)
    assert np.array_equal(tensor.dequantize(), expected)
    assert tensor.packed.shape == (48, 5, 16)  # its offsets are whole steps: nothing is to be corrected


def test_q4_1_is_carried_over_within_a_thirtieth_of_a_step() -> None:
    tensor, expected = carried(WEIGHT, gguf.GGMLQuantizationType.Q4_1)
    steps = (WEIGHT.reshape(48, 5, 32).max(axis=-1) - WEIGHT.reshape(48, 5, 32).min(axis=-1)) / 15
    differences = np.abs(tensor.dequantize() - expected).reshape(48, 5, 32).max(axis=-1)
    assert (differences < steps.max() / 29).all()
    assert error(tensor.dequantize(), expected) < 0.1 * error(expected)


def test_q4_k_is_read_as_its_package_reads_it() -> None:
    kind = gguf.GGMLQuantizationType.Q4_K  # which the package cannot write
    blocks = np.random.default_rng(2).integers(0, 256, (6, 144), dtype=np.uint8)
    blocks[:, :4] = np.array([0.01, 0.02], dtype=np.float16).view(np.uint8)
    expected = gguf.dequantize(blocks, kind).reshape(3, 512)
    tensor = gguf.ReaderTensor("weight", kind, np.array([512, 3]), 1536, 864, 0, blocks.reshape(3, -1), None)
    groups = groups_of_tensor(tensor)
    assert groups is not None
    restored = groups.values * groups.scales[..., None] + groups.offsets[..., None]
    assert restored.reshape(3, 512) == pytest.approx(expected, abs=1e-6)


def test_other_kinds_of_a_file_are_not_carried_over() -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    data = gguf.quantize(WEIGHT, kind)
    assert (
        groups_of_tensor(gguf.ReaderTensor("weight", kind, np.array([160, 48]), 7680, 0, 0, data, None))
        is None
    )


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
    assert error(searched, heavy) < 0.95 * error(plain, heavy)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="no groups"):
        quantize(WEIGHT, QuantFormat.NONE)
