"""Gradients through blocks of the swarm: hop by hop, from the last to the first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math

import numpy as np

from gridnode.core.routing import Hop, Route
from gridnode.engine.arrays import to_array, to_parts
from gridnode.engine.executor import Array
from gridnode.engine.tuned_tensors import unpack_tuned
from gridnode.errors import ConnectionClosed, ErrorCode, GridError, PeerLost, PeerRefused, ProtocolError
from gridnode.node.blame import gone, nonsense, refused
from gridnode.node.block_call import BlockCall
from gridnode.node.hidden_session import HiddenSession, block_opener
from gridnode.node.lasting_session import FAILOVER_DEADLINE_S
from gridnode.node.model_access import ModelAccess
from gridnode.node.session_opener import is_survivable
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import Backward, Gradient, Refused, decode_message

logger = logging.getLogger("gridnode.node.gradients")

# The slowest useful hop, which may let others go first.
BACKWARD_TIMEOUT_S = 300.0


async def backward(
    models: ModelAccess, call: BlockCall, hidden: Array, gradient: Array
) -> tuple[Array, dict[str, Array]]:
    """Return the gradients with respect to `hidden`, which went into the blocks, and what was added to them.

    A hop that is lost is replaced, and everything computed again: the result is the same. If nobody
    serves its blocks, this waits for somebody who does.

    Args:
        hidden: `[batch, tokens, hidden_size]`, float32, at the positions from 0 on.
        gradient: That with respect to what came out, of the same shape.

    Raises:
        NoCapacity: no route has nodes that compute gradients.
        PeerRefused, PeerLost: a hop failed in a way that no other could mend.
    """
    opener = block_opener(models, call, max_tokens=hidden.shape[1])
    loop = asyncio.get_running_loop()
    deadline: float | None = None
    last: GridError | None = None
    while True:
        if models.is_loading(call):
            deadline = deadline or loop.time() + FAILOVER_DEADLINE_S
        route = await opener.find_route(deadline, last)
        try:
            return await _along(models, call, route, hidden, gradient)
        except (PeerRefused, PeerLost) as exc:
            now = loop.time()
            if not is_survivable(exc) or now >= (deadline or math.inf):
                raise
            if isinstance(exc, PeerRefused) and exc.reason is ErrorCode.NO_TRAINING:
                last = exc  # time changes nothing there
            else:
                deadline = deadline or now + FAILOVER_DEADLINE_S
            logger.info("%s; computing the gradient on another route", exc)
            opener.note_failure(exc)


async def _along(
    models: ModelAccess, call: BlockCall, route: Route, hidden: Array, gradient: Array
) -> tuple[Array, dict[str, Array]]:
    inputs = [hidden]
    for hop in route.hops[:-1]:
        session = HiddenSession(models, call.of(hop.span), max_tokens=hidden.shape[1])
        async with contextlib.aclosing(session):
            inputs.append(await session.step(inputs[-1]))
    of_added: dict[str, Array] = {}
    for hop, states in zip(reversed(route.hops), reversed(inputs), strict=True):
        gradient, of_hop = await _ask(models, call, hop, states, gradient)
        of_added |= of_hop
    return gradient, of_added


async def _ask(
    models: ModelAccess, call: BlockCall, hop: Hop, hidden: Array, gradient: Array
) -> tuple[Array, dict[str, Array]]:
    """Return the gradients of one hop."""
    each, body = to_parts(np.ascontiguousarray(hidden, dtype=np.float32))
    _, behind = to_parts(np.ascontiguousarray(gradient, dtype=np.float32))
    tuning, tensors = call.added.packed(hop.span)
    request = Backward(manifest=call.model.manifest, span=hop.span, each=each, tuning=tuning)
    peer = models.view().swarm.peers.get(hop.peer_id)
    try:
        async with asyncio.timeout(BACKWARD_TIMEOUT_S):
            addresses = peer.announcement.addresses if peer else ()
            connection = await models.links.connect(hop.peer_id, addresses)
            stream = await connection.open_lane()
            try:
                await stream.send(encode_message(request, body + behind + tensors))
                frame = await stream.receive()
                if frame is None:
                    raise PeerLost("it ended the stream without an answer")
                answer = decode_message(frame)
            finally:
                stream.reset()
    except TimeoutError as exc:
        raise gone(hop, f"no gradient in {BACKWARD_TIMEOUT_S:g} s") from exc
    except (PeerLost, ConnectionClosed) as exc:  # also a link that this node gives up
        raise gone(hop, exc) from exc
    except ProtocolError as exc:
        raise nonsense(hop, exc) from exc
    if isinstance(answer, Refused):
        raise refused(hop, answer)
    if not isinstance(answer, Gradient):
        raise nonsense(hop, f"{type(answer).__name__} came where Gradient was expected")
    if answer.tensor.shape != hidden.shape or len(frame.body) != answer.tensor.num_bytes + len(tensors):
        found = f"a gradient of shape {answer.tensor.shape}"
        raise nonsense(hop, f"{found} came where {hidden.shape} was expected")
    cut = answer.tensor.num_bytes
    result = to_array(answer.tensor, memoryview(frame.body)[:cut]).astype(np.float32)
    return result, unpack_tuned(tuning, memoryview(frame.body)[cut:])
