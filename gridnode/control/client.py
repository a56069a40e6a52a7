"""The door from outside: what the command line and the user interfaces use to speak to a node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from gridnode.config import DEFAULT_API
from gridnode.control.answer_schema import (
    AnswerEvent,
    Embedded,
    EmbedRequest,
    Failed,
    Finished,
    GenerateRequest,
)
from gridnode.control.client_key import client_key
from gridnode.control.door_errors import ErrorAnswer, ErrorBody, restore_error
from gridnode.control.readiness import Readiness
from gridnode.control.score_schema import Scored, ScoreRequest
from gridnode.control.server_sent import EventReader
from gridnode.control.status_schema import NodeStatus, PauseRequest, Reachable
from gridnode.core.addresses import Address, at_home, is_unspecified
from gridnode.errors import NotRunning, PeerLost, ProtocolError

# A node answers from memory; on a loaded machine its loop may be late.
REQUEST_TIMEOUT_S = 10.0
# Between two events a node sends comments every 10 s; silence beyond this is a dead node.
STREAM_SILENCE_S = 45.0
POLL_INTERVAL_S = 0.2

T = TypeVar("T")


class ControlClient:
    """Speaks to the node whose door is at `address`. An asynchronous context manager.

    Args:
        key: What other computers show at the door; None takes it from the environment.

    Raises:
        BadInput: the environment names a key that cannot be read.
    """

    def __init__(self, address: Address = DEFAULT_API, *, key: str | None = None) -> None:
        # A node that listens everywhere is told so by 0.0.0.0, which is nowhere to connect to.
        self.address = at_home(address) if is_unspecified(address) else address
        key = client_key(os.environ) if key is None else key
        # trust_env=False: a proxy from the environment must not see what stays on this machine.
        self._http = httpx.AsyncClient(
            base_url=f"http://{self.address}",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=REQUEST_TIMEOUT_S,
            trust_env=False,
            verify=False,  # there is no TLS; loading certificates for it would take 20 to 60 ms
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections. Safe to call more than once."""
        await self._http.aclose()

    async def status(self) -> NodeStatus:
        """Return what the node is doing. Cancelling is safe.

        Raises:
            NotRunning: no node answers.
            GridError: the node answered with an error.
        """
        async with self._open("GET", "/api/v1/status") as response:
            return _decode(await self._checked(response), NodeStatus)

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Return a vector for each text. Cancelling cancels the work.

        Raises:
            NotRunning: no node answers.
            GridError: as `NodeControl.embed`.
        """
        async with self._open("POST", "/api/v1/embed", msgspec.json.encode(request)) as response:
            return _decode(await self._checked(response), Embedded)

    async def score(self, request: ScoreRequest) -> Scored:
        """Return how probable texts are. Cancelling cancels the work.

        Raises:
            NotRunning: no node answers.
            GridError: as `NodeControl.score`.
        """
        async with self._open("POST", "/api/v1/score", msgspec.json.encode(request)) as response:
            return _decode(await self._checked(response), Scored)

    async def pause(self, request: PauseRequest) -> NodeStatus:
        """Let the node serve no blocks for a while; return its new status.

        Raises:
            NotRunning: no node answers.
            GridError: the node answered with an error.
        """
        async with self._open("POST", "/api/v1/pause", msgspec.json.encode(request)) as response:
            return _decode(await self._checked(response), NodeStatus)

    async def resume(self) -> NodeStatus:
        """Let the node serve blocks again; return its new status.

        Raises:
            NotRunning: no node answers.
            GridError: the node answered with an error.
        """
        async with self._open("POST", "/api/v1/resume") as response:
            return _decode(await self._checked(response), NodeStatus)

    async def reach(self, peer_id: str) -> Reachable:
        """Let the node ping a peer, by its full id. Cancelling is safe.

        Raises:
            NotRunning: no node answers.
            GridError: the node answered with an error.
        """
        async with self._open("GET", f"/api/v1/is_reachable/{peer_id}") as response:
            return _decode(await self._checked(response), Reachable)

    async def readiness(self) -> Readiness:
        """Return whether the node does what it is there for. Cancelling is safe.

        Raises:
            NotRunning: no node answers.
        """
        async with self._open("GET", "/ready") as response:
            return _decode(await response.aread(), Readiness)

    async def wait_ready(self, *, timeout_s: float) -> Readiness:
        """Wait until the node is ready, or for `timeout_s`; return the last answer. Cancelling is safe.

        Raises:
            NotRunning: no node answers at the end.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            try:
                found = await self.readiness()
                if found.ready or loop.time() >= deadline:
                    return found
            except NotRunning:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(POLL_INTERVAL_S)

    async def run(self, request: GenerateRequest) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of the answer to `request`. Closing the generator cancels the answer.

        Raises:
            NotRunning: no node answers.
            PeerLost: the node went away in the middle of the answer.
            GridError: what ended the answer, as `NodeControl.generate`.
        """
        async with self._open("POST", "/api/v1/run", msgspec.json.encode(request)) as response:
            if response.status_code != 200:
                await self._checked(response)
            async with aclosing(_events(response)) as events:
                async for event in events:
                    yield event

    @asynccontextmanager
    async def _open(self, method: str, path: str, body: bytes | None = None) -> AsyncIterator[httpx.Response]:
        # Only an answer may be silent for long.
        timeout = httpx.Timeout(REQUEST_TIMEOUT_S, read=STREAM_SILENCE_S if body else REQUEST_TIMEOUT_S)
        try:
            async with self._http.stream(method, path, content=body, timeout=timeout) as response:
                yield response
        except httpx.ConnectError as exc:
            raise NotRunning(
                f"no node answers at http://{self.address}; start one with 'gridnode up', "
                "or name its door with --api ADDRESS"
            ) from exc
        except httpx.TimeoutException as exc:
            raise PeerLost(
                f"the node at http://{self.address} is silent; 'gridnode status' says more"
            ) from exc
        except httpx.TransportError as exc:
            raise PeerLost(f"the node at http://{self.address} went away: {exc}") from exc

    async def _checked(self, response: httpx.Response) -> bytes:
        """Return the body of a good answer, raise what another one says."""
        body = await response.aread()
        if response.status_code == 200:
            return body
        try:
            error = msgspec.json.decode(body, type=ErrorAnswer).error
        except msgspec.DecodeError as exc:
            raise ProtocolError(
                f"what answers at http://{self.address} is not gridnode (HTTP {response.status_code}); "
                "name the node's door with --api ADDRESS"
            ) from exc
        raise restore_error(error)


def _decode(body: bytes, record: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=record)
    except msgspec.DecodeError as exc:
        raise ProtocolError(
            f"the answer is not that of a gridnode of this version: {exc}; "
            "name the node's door with --api ADDRESS"
        ) from exc


async def _events(response: httpx.Response) -> AsyncGenerator[AnswerEvent, None]:
    reader = EventReader()
    async for line in response.aiter_lines():
        event = reader.receive_line(line)
        if isinstance(event, Failed):
            raise restore_error(ErrorBody(code=event.code, message=event.text))
        if event is not None:
            yield event
            if isinstance(event, Finished):
                return
    raise PeerLost("the answer broke off: the node closed the stream before its end")
