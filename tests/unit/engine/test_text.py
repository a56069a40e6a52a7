import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from gridnode.engine.gguf_checkpoint import GgufCheckpoint
from gridnode.engine.gguf_text import export_text
from gridnode.engine.text import TextCodec, load_text_codec
from gridnode.errors import BadCheckpoint, BadInput

TEXTS = ["Hello, world!", "Grüße an alle 😀🤝", "日本語 text", "a  b\n\n\tc 123456", "<|end|> inside"]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2+2? 😀"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "Sure?"},
]


def check_equal(codec: TextCodec, reference: PreTrainedTokenizerFast) -> None:
    for text in TEXTS:
        assert codec.encode(text) == reference(text)["input_ids"]
        assert codec.decode(codec.encode(text)) == reference.decode(
            reference(text)["input_ids"], skip_special_tokens=True
        )
    for messages in (MESSAGES[-1:], MESSAGES):
        prompt = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert codec.render_chat(messages) == prompt
        assert codec.encode_chat(messages) == reference(prompt, add_special_tokens=False)["input_ids"]


def test_tokens_and_chats_are_those_of_transformers(tiny_llama: Path) -> None:
    check_equal(load_text_codec(tiny_llama), AutoTokenizer.from_pretrained(tiny_llama))


@pytest.mark.smollm
def test_tokens_and_chats_of_the_demo_model_are_those_of_transformers(
    demo_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = export_text(GgufCheckpoint(demo_model_path))
    reference = AutoTokenizer.from_pretrained(demo_model_path.parent, gguf_file=demo_model_path.name)
    codec = load_text_codec(directory)
    check_equal(codec, reference)
    assert codec.stop_ids == {reference.eos_token_id}
    assert export_text(GgufCheckpoint(demo_model_path)) == directory


def test_streamed_text_is_whole_characters_and_adds_up(tiny_llama: Path) -> None:
    codec = load_text_codec(tiny_llama)
    for text in TEXTS:
        token_ids = codec.encode(text)
        decoder = codec.stream_decoder()
        pieces = [decoder.push(token_id) for token_id in token_ids]
        assert "".join(pieces) == codec.decode(token_ids)
        assert "\ufffd" not in "".join(pieces)


def test_every_end_that_the_files_name_stops(tiny_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    (copy / "generation_config.json").write_text('{"eos_token_id": [7, 9]}')
    assert load_text_codec(copy).stop_ids == {7, 9, 256}


def test_lengths_that_a_file_carries_cut_and_pad_nothing(tiny_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(copy / "tokenizer.json"))
    check_equal(load_text_codec(copy), AutoTokenizer.from_pretrained(copy))


def test_random_tokens_never_break_a_stream(tiny_llama: Path) -> None:
    codec = load_text_codec(tiny_llama)
    chosen = np.random.default_rng(0).integers(0, 260, (50, 60))
    for row in chosen:
        decoder = codec.stream_decoder()
        pieces = [decoder.push(int(token_id)) for token_id in row]
        assert codec.decode(row.tolist()).startswith("".join(pieces))


BYTE_FALLBACK = [*(f"<0x{byte:02X}>" for byte in range(256)), "a", "b"]


@pytest.fixture
def codec_of_bytes(tmp_path: Path) -> TextCodec:
    """As those of Llama 2, Mistral, Gemma and Phi 3: bytes that are no text stand for themselves."""
    vocabulary = {token: token_id for token_id, token in enumerate(BYTE_FALLBACK)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return load_text_codec(tmp_path)


def test_random_bytes_never_break_a_stream(codec_of_bytes: TextCodec) -> None:
    for row in np.random.default_rng(0).integers(0, len(BYTE_FALLBACK), (200, 40)):
        decoder = codec_of_bytes.stream_decoder()
        for token_id in row:
            decoder.push(int(token_id))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"\xe4\xbd\xa0a", "\u4f60a"),
        (b"\xe4\xbd\xa0\xffa", "\u4f60"),
        (b"\xe4\xb8\xb8\xf0\xb8a", "\u4e38"),
    ],
)
def test_a_stream_goes_on_behind_bytes_that_are_no_text(
    codec_of_bytes: TextCodec, text: bytes, told: str
) -> None:
    decoder = codec_of_bytes.stream_decoder()
    ids = [BYTE_FALLBACK.index(chr(byte)) if byte < 128 else byte for byte in text]
    found = "".join(map(decoder.push, ids)) + decoder.push(BYTE_FALLBACK.index("b"))
    assert found.startswith(told)
    assert found.endswith("ab")


def test_templates_of_older_files_are_found(tiny_llama: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llama, tmp_path / "copy"))
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    expected = load_text_codec(tiny_llama).render_chat(MESSAGES)
    for setting in (
        template,
        [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}],
    ):
        settings = {"chat_template": setting, "eos_token": {"content": "<|end|>"}}
        (copy / "tokenizer_config.json").write_text(json.dumps(settings))
        assert load_text_codec(copy).render_chat(MESSAGES) == expected
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(BadInput, match=r"no chat template.*--raw"):
        load_text_codec(copy).encode_chat(MESSAGES)


def test_a_damaged_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json"):
        load_text_codec(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json"):
        load_text_codec(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", b"\xff\xfe"),
        ("config.json", b'{"eos_token_id": [[1]]}'),
        ("config.json", b'{"eos_token_id": 1.5}'),
        ("config.json", b"[" * 100_000),
    ],
)
def test_nonsense_beside_a_tokenizer_is_named(
    tiny_llama: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    """Peers send these files."""
    shutil.copytree(tiny_llama, tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadCheckpoint, match="tokenizer"):
        load_text_codec(tmp_path)
