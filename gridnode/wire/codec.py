"""Typed messages in frames: frozen dataclasses whose annotations carry their limits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Generic, TypeVar

import msgspec

from gridnode.errors import ProtocolError
from gridnode.wire.frames import Frame
from gridnode.wire.tensors import TensorHeader


class TypedMessage:
    """Base of the dataclasses that travel: they name their frame type."""

    __slots__ = ()
    type: ClassVar[int]


M = TypeVar("M", bound=TypedMessage)


def encode_message(message: TypedMessage, body: bytes | bytearray | memoryview = b"") -> Frame:
    """Return the frame that carries `message`."""
    return Frame(message.type, msgspec.to_builtins(message, builtin_types=(bytes,)), body)


class MessageCodec(Generic[M]):
    """Reads the messages of one protocol. Fields that this version does not know are ignored."""

    def __init__(self, classes: Iterable[type[M]]) -> None:
        self._classes = {int(cls.type): cls for cls in classes}

    def decode(self, frame: Frame) -> M:
        """Return what `frame` means; its body is checked against the tensor header, if it has one.

        Raises:
            ProtocolError: the type is unknown, or a field is missing or out of its limits.
        """
        cls = self._classes.get(frame.type)
        if cls is None:
            raise ProtocolError(f"unknown message type 0x{frame.type:02x}")
        try:
            message = msgspec.convert(frame.header, cls)
        # ValueError comes from the checks of our own records, such as Span.
        except (msgspec.ValidationError, ValueError) as exc:
            raise ProtocolError(f"bad {cls.__name__}: {exc}") from exc
        tensor = getattr(message, "tensor", None)
        if isinstance(tensor, TensorHeader):
            behind_bytes = getattr(message, "behind_bytes", 0)
            tensor.check_body(memoryview(frame.body)[: max(len(frame.body) - behind_bytes, 0)])
        return message
