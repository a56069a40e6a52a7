"""Tokenizers and chat templates: of the model served here, or fetched from a peer that serves it.

With them any node answers, also one that could not hold a single block.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from gridnode.core.ids import ModelId, PeerId, short
from gridnode.core.swarm import SwarmState
from gridnode.engine.text import TextCodec, load_text_codec
from gridnode.errors import BadCheckpoint, GridError, NoCapacity, ProtocolError
from gridnode.net.transport import Stream
from gridnode.node.links import Links
from gridnode.node.uplink import Uplink
from gridnode.paths import cache_dir
from gridnode.units import KIB, format_bytes
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import (
    MAX_TEXT_BYTES,
    FileEntry,
    FilePiece,
    FindText,
    Refused,
    TextFound,
    decode_message,
    expect_message,
)

logger = logging.getLogger("gridnode.node.text")

# What a tokenizer and a template consist of; the last one is there if all are.
TEXT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "config.json",
)
# A piece of a file in one frame: sessions on the same connection wait for no more than this.
PIECE_BYTES = 256 * KIB
# Each takes some tens of megabytes.
MAX_CODECS = 4
FETCH_TIMEOUT_S = 60.0


class TextLibrary:
    """The text sides of the swarm's models.

    Args:
        swarm: Returns the swarm as it is now.
        uplink: What files for others wait for.
    """

    def __init__(self, me: PeerId, links: Links, *, swarm: Callable[[], SwarmState], uplink: Uplink) -> None:
        self._me = me
        self._uplink = uplink
        self._links = links
        self._swarm = swarm
        self._codecs: OrderedDict[ModelId, TextCodec] = OrderedDict()
        self._own: tuple[ModelId, Path] | None = None
        self._fetching = asyncio.Lock()

    def own(self, model: ModelId, directory: Path) -> None:
        """Take the files of the model that is served here from `directory`, and give them to peers."""
        self._own = (model, directory)

    async def codec(self, model: ModelId) -> TextCodec:
        """Return the text side of `model`.

        Raises:
            NoCapacity: no peer that serves it gives its tokenizer now.
            BadCheckpoint: the files of the model that is served here cannot be read.
        """
        async with self._fetching:
            codec = self._codecs.get(model)
            if codec is None:
                codec = self._codecs[model] = await self._load(model)
                if len(self._codecs) > MAX_CODECS:
                    self._codecs.popitem(last=False)
            self._codecs.move_to_end(model)
            return codec

    async def serve(self, stream: Stream, request: FindText) -> None:
        """Answer a peer that asks for the files of a model."""
        if self._own is None or self._own[0].manifest != request.manifest:
            error = NoCapacity("this node has no tokenizer of that model")
            await stream.send(encode_message(Refused(code=error.code, text=str(error))))
        else:
            files = await asyncio.to_thread(_read_files, self._own[1])
            entries = tuple(FileEntry(name=name, num_bytes=len(data)) for name, data in files.items())
            await stream.send(encode_message(TextFound(files=entries)))
            for data in files.values():
                for start in range(0, len(data), PIECE_BYTES):
                    piece = data[start : start + PIECE_BYTES]
                    await self._uplink.wait_turn(stream.connection.peer_id, len(piece))
                    await stream.send(encode_message(FilePiece(), piece))
        stream.finish()

    async def _load(self, model: ModelId) -> TextCodec:
        if self._own is not None and self._own[0] == model:
            return await asyncio.to_thread(load_text_codec, self._own[1])
        directory = cache_dir() / "text-of-peers" / model.manifest
        if (directory / TEXT_FILES[-1]).exists():
            try:
                return await asyncio.to_thread(load_text_codec, directory, is_foreign=True)
            except BadCheckpoint as exc:  # a disk was full, or somebody has changed a file
                logger.warning("the tokenizer of %s is fetched again: %s", model.name, exc)
        return await self._fetch(model, directory)

    async def _fetch(self, model: ModelId, directory: Path) -> TextCodec:
        """Return the text side of `model` from the first peer whose files can be read, and keep them."""
        last = "nobody else serves it"
        for announcement in self._swarm().serving(model):
            if announcement.peer_id == self._me:
                continue
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_S):
                    files = await self._ask(announcement.peer_id, model)
                return await asyncio.to_thread(_keep_files, files, directory)
            except (GridError, TimeoutError) as exc:
                last = f"node {short(announcement.peer_id)}: {str(exc) or 'no answer'}"
                logger.info("cannot fetch the tokenizer of %s: %s", model.name, last)
        raise NoCapacity(
            f"this node has no tokenizer of {model.name} yet, and cannot fetch it ({last}); "
            "try again in a moment"
        )

    async def _ask(self, peer_id: PeerId, model: ModelId) -> dict[str, bytes]:
        addresses = self._swarm().peers[peer_id].announcement.addresses
        connection = await self._links.connect(peer_id, addresses)
        stream = await connection.open_lane()
        try:
            await stream.send(encode_message(FindText(manifest=model.manifest)))
            return await _receive_files(stream)
        finally:
            stream.reset()


async def _receive_files(stream: Stream) -> dict[str, bytes]:
    frame = await stream.receive()
    found = decode_message(frame) if frame is not None else None
    if isinstance(found, Refused):
        raise NoCapacity(found.text)
    entries = expect_message(frame, TextFound).files
    if sum(entry.num_bytes for entry in entries) > MAX_TEXT_BYTES:
        raise ProtocolError(f"a tokenizer of more than {format_bytes(MAX_TEXT_BYTES)} is not taken")
    files: dict[str, bytes] = {}
    for entry in entries:
        data = bytearray()
        while len(data) < entry.num_bytes:
            frame = await stream.receive()
            expect_message(frame, FilePiece)
            data += frame.body if frame is not None else b""
        if len(data) != entry.num_bytes:
            raise ProtocolError(f"file {entry.name!r} came with more bytes than were told")
        if entry.name in TEXT_FILES:  # others would be written to names that a peer chooses
            files[entry.name] = bytes(data)
    if not {TEXT_FILES[0], TEXT_FILES[-1]} <= files.keys():
        raise ProtocolError("a tokenizer came without its main files")
    return files


def _keep_files(files: Mapping[str, bytes], directory: Path) -> TextCodec:
    """Return the text side that `files` are, and put them into `directory` for the next time.

    Raises:
        BadCheckpoint: they are none; nothing is kept then, so that another peer can be asked.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetched-") as scratch:
        fetched = Path(scratch) / directory.name
        fetched.mkdir()
        for name, data in files.items():
            (fetched / name).write_bytes(data)
        codec = load_text_codec(fetched, is_foreign=True)
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(OSError):  # another node of this computer was faster
            fetched.rename(directory)
    return codec


def _read_files(directory: Path) -> dict[str, bytes]:
    files = {name: (directory / name).read_bytes() for name in TEXT_FILES if (directory / name).exists()}
    total_bytes = sum(map(len, files.values()))
    if total_bytes > MAX_TEXT_BYTES:
        raise BadCheckpoint(
            f"the tokenizer in {directory} has {format_bytes(total_bytes)}, at most "
            f"{format_bytes(MAX_TEXT_BYTES)} are sent"
        )
    return files
