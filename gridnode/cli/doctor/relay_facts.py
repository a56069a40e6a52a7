"""Registering with relays for a moment, under a name that is kept nowhere and for no swarm."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gridnode.cli.doctor.relays import RelayVisit
from gridnode.core.addresses import Address, is_loopback
from gridnode.core.relays import Relay, is_virtual, parse_relay
from gridnode.errors import GridError
from gridnode.net.identity import Identity
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.relay_link import RelayLink, resolve

# UDP, and TCP when that does not get through.
_VISIT_TIMEOUT_S = 10.0
# A relay tells where it sees us right after it has taken us.
_OBSERVED_TIMEOUT_S = 1.0


async def visit_relays(relays: Sequence[str]) -> tuple[RelayVisit, ...]:
    """Return what came of visiting each of `relays`, all at once. Cancelling is safe.

    All are visited from one socket, as a node would: what ports they see tells the kind of router.
    """
    identity = Identity.generate()
    sockets: dict[Address, tuple[QuicTransport, PathRouter]] = {}
    try:
        visits = (_visit(parse_relay(relay), identity, sockets) for relay in relays)
        return tuple(await asyncio.gather(*visits))
    finally:
        for transport, router in sockets.values():
            router.close()
            await transport.aclose()


async def _visit(
    relay: Relay, identity: Identity, sockets: dict[Address, tuple[QuicTransport, PathRouter]]
) -> RelayVisit:
    try:
        address = await resolve(relay)
        wildcard = "::" if ":" in address.host else "0.0.0.0"
        bind = Address("127.0.0.1" if is_loopback(address) and wildcard == "0.0.0.0" else wildcard, 0)
        if bind not in sockets:
            made = QuicTransport(identity, bind)
            sockets[bind] = made, PathRouter(made.endpoint, identity.peer_id)
    except GridError as exc:
        return RelayVisit(place=relay.place, problem=str(exc))
    transport, router = sockets[bind]
    changed = asyncio.Event()
    link = RelayLink(
        relay,
        transport,
        router,
        tags=tuple,  # for no swarm
        on_members=lambda route, peers: None,
        on_change=changed.set,
        is_alone=lambda: False,
    )
    registering = asyncio.create_task(link.run(), name="relay")
    try:
        return await _look(link, changed)
    finally:
        registering.cancel()
        await asyncio.wait([registering])


async def _look(link: RelayLink, changed: asyncio.Event) -> RelayVisit:
    place = link.relay.place
    try:
        async with asyncio.timeout(_VISIT_TIMEOUT_S):
            await link.wait_settled()
    except TimeoutError:
        return RelayVisit(place=place, problem=f"it did not answer within {_VISIT_TIMEOUT_S:g} s")
    if link.route is None:
        return RelayVisit(place=place, problem=link.problem or "it ended the registration")
    if is_virtual(link.route.destination[0]):
        return RelayVisit(place=place, rtt_s=link.rtt_s, by_tcp=True)
    try:
        async with asyncio.timeout(_OBSERVED_TIMEOUT_S):
            while link.observed is None:
                changed.clear()
                await changed.wait()
    except TimeoutError:
        pass  # it need not tell
    return RelayVisit(place=place, rtt_s=link.rtt_s, observed=link.observed)
