"""Who is let into a private swarm, over real QUIC on loopback."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from neighbours import LOOPBACK, Neighbour, neighbour
from waiting import until
from wire_samples import SERVING

from gridnode.config.swarm_file import SwarmFile
from gridnode.core.addresses import Address
from gridnode.core.announcements import PeerState
from gridnode.core.grants import Use, make_ticket
from gridnode.core.invitation import Invitation
from gridnode.core.swarm_pass import NONCE_BYTES, Challenge, SwarmPass
from gridnode.core.swarm_secret import SwarmKey
from gridnode.errors import GridError, PeerLost, SwarmRefused
from gridnode.net.identity import Identity
from gridnode.net.quic import QuicTransport
from gridnode.node import admission
from gridnode.wire.codec import encode_message
from gridnode.wire.messages import Announce, Hello, OpenNews, Prove, Refused, decode_message, expect_message

NOW_S = int(time.time())
HOUR_S = 3600
KEY = SwarmKey(seed=bytes(range(32)), made_s=NOW_S - HOUR_S, older_until_s=NOW_S - HOUR_S)
NEW = SwarmKey(seed=bytes(range(1, 33)), made_s=NOW_S, older_until_s=NOW_S + HOUR_S)
OTHER = SwarmKey(seed=bytes(32), made_s=NOW_S - HOUR_S, older_until_s=NOW_S - HOUR_S)
MEMBER = SwarmPass(name="grandma", keys=(KEY,))
STRANGER = SwarmPass(name="grandma", keys=(OTHER,))


def guest(use: Use = Use.CHAT, *, until_s: int = NOW_S + HOUR_S, key: SwarmKey = KEY) -> SwarmPass:
    return SwarmPass(name="grandma", ticket=make_ticket(key, bytes(range(50, 82)), use=use, until_s=until_s))


@pytest.fixture(autouse=True)
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "LOOK_INTERVAL_S", 0.05)


@asynccontextmanager
async def stranger() -> AsyncIterator[QuicTransport]:
    """Yield the transport of somebody who says only what the test says."""
    transport = QuicTransport(Identity.generate(), LOOPBACK)
    try:
        yield transport
    finally:
        await transport.aclose()


def serves(node: Neighbour, other: Neighbour) -> bool:
    peer = node.membership.swarm.peers.get(other.peer_id)
    return peer is not None and peer.announcement.serving is not None


def test_members_and_guests_meet() -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER) as a,
            neighbour(None, swarm=MEMBER, join=(a.address,)) as b,
            neighbour(None, swarm=guest(), join=(a.address,)) as c,
        ):
            for node, others in ((a, (b, c)), (b, (a, c)), (c, (a, b))):
                await node.membership.wait_until(node.knows(*others))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("theirs", "at_home", "at_the_door"),
    [
        (STRANGER, "has another swarm key than this one", "has another swarm key than this one"),
        (
            SwarmPass(name="home"),
            "belongs to a private swarm, and this one has no key",
            "belongs to the public swarm 'home'",
        ),
        (
            guest(until_s=NOW_S - 60),
            "refuses this node: the invitation expired at",
            "the invitation expired at",
        ),
        (guest(key=OTHER), "has another swarm key", "has another swarm key"),
    ],
    ids=["wrong key", "no key", "expired invitation", "invitation of others"],
)
def test_who_has_no_key_is_refused_in_clear_words_on_both_sides(
    theirs: SwarmPass, at_home: str, at_the_door: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER) as a,
            neighbour(None, swarm=theirs) as b,
        ):
            with pytest.raises(SwarmRefused) as refused:
                await b.links.join(a.address)
            assert at_home in str(refused.value)
            # Whom to route to is known from announcements: then somebody else may answer instead.
            with pytest.raises(PeerLost, match=r"swarm|invitation"):
                await b.links.connect(a.peer_id, [a.address])
            await until(lambda: at_the_door in caplog.text)
            assert a.membership.swarm.peers.keys() == {a.peer_id}
            assert b.membership.swarm.peers.keys() == {b.peer_id}
            assert not a.links.connections()
            assert not b.links.connections()

    with caplog.at_level("WARNING", logger="gridnode"):
        asyncio.run(scenario())


def test_a_stranger_sees_no_announcements_and_no_names() -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER, serving=SERVING) as a,
            stranger() as me,
        ):
            link = await me.dial(a.address, peer_id=None, timeout_s=5)
            stream = await link.open_stream()
            # What everybody can hear on the LAN, or from a relay: but no key.
            ids = MEMBER.ids("link", now_s=NOW_S)
            mine = Hello(protocol=1, version="x", swarm="", swarm_ids=ids, nonce=bytes(NONCE_BYTES))
            await stream.send(encode_message(mine))
            hello = expect_message(await stream.receive(), Hello)
            assert (hello.swarm, hello.swarm_ids) == ("", ids)
            challenge = Challenge(prover=me.peer_id, verifier=a.peer_id, nonce=hello.nonce)
            forged = STRANGER.prove(challenge, public_key=OTHER.public_key)
            await stream.send(encode_message(Prove(proof=replace(forged, swarm=ids[0]))))
            refused = expect_message(await stream.receive(), Refused)
            assert "not made with the swarm key" in refused.text
            assert "grandma" not in refused.text
            assert await stream.receive() is None
            await link.wait_closed()

    asyncio.run(scenario())


@pytest.mark.parametrize("first", [OpenNews(), Announce(announcements=())])
def test_nothing_is_answered_before_the_proof(first: OpenNews | Announce) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(30), neighbour(None, swarm=MEMBER) as a, stranger() as me:
            link = await me.dial(a.address, peer_id=None, timeout_s=5)
            stream = await link.open_stream()
            await stream.send(encode_message(first))
            with pytest.raises(GridError):
                assert await stream.receive() is None
            await link.wait_closed()

    asyncio.run(scenario())


def test_who_says_nothing_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "HANDSHAKE_TIMEOUT_S", 0.2)

    async def scenario() -> None:
        async with asyncio.timeout(30), neighbour(None, swarm=MEMBER) as a, stranger() as me:
            link = await me.dial(a.address, peer_id=None, timeout_s=5)
            await link.wait_closed()

    asyncio.run(scenario())


def test_a_relayed_proof_convinces_nobody() -> None:
    """Somebody between two members may pass their words on, and gets in nowhere."""

    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER) as a,
            stranger() as middle,
            neighbour(None, swarm=MEMBER) as b,
        ):
            joining = asyncio.create_task(b.links.join(middle.address))
            from_b = await (await middle.accept()).accept_stream()
            to_a = await (await middle.dial(a.address, peer_id=None, timeout_s=5)).open_stream()
            said = []
            for source, target in ((from_b, to_a), (to_a, from_b), (from_b, to_a), (to_a, from_b)):
                frame = await source.receive()
                assert frame is not None
                said.append(type(decode_message(frame)))
                await target.send(frame)
            assert said == [Hello, Hello, Prove, Refused]
            with pytest.raises(SwarmRefused):
                await joining
            assert not a.links.connections()

    asyncio.run(scenario())


def test_an_invitation_leads_into_the_swarm_by_the_first_address_that_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        nobody = Address("127.0.0.1", 9)
        async with asyncio.timeout(60), neighbour(None, swarm=MEMBER) as b:
            async with (
                neighbour(None, swarm=MEMBER) as a,
                neighbour(None, swarm=MEMBER, invited_by=(nobody, a.address, b.address)) as c,
            ):
                await c.membership.wait_until(c.knows(a))
                assert b.peer_id not in c.links.connections(), "one is enough"
                assert "nobody of the invitation" not in caplog.text
            async with neighbour(None, swarm=MEMBER, invited_by=(nobody,)):
                await until(lambda: "nobody of the invitation to this swarm lets this node in" in caplog.text)

    with caplog.at_level("WARNING", logger="gridnode"):
        asyncio.run(scenario())


def test_an_invitation_that_ends_takes_the_link_with_it() -> None:
    wall = [float(NOW_S)]

    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER, wall_s=lambda: wall[0]) as a,
            neighbour(None, swarm=guest(until_s=NOW_S + 60), wall_s=lambda: wall[0]) as c,
        ):
            await c.links.join(a.address)
            await c.membership.wait_until(c.knows(a))
            wall[0] += 61
            await until(lambda: not a.links.connections() and not c.links.connections())
            with pytest.raises(SwarmRefused, match="expired"):
                await c.links.join(a.address)

    asyncio.run(scenario())


def test_the_blocks_of_who_may_only_chat_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER, serving=SERVING) as a,
            neighbour(None, swarm=guest(), serving=SERVING, join=(a.address,)) as c,
            neighbour(None, swarm=guest(Use.SERVE), serving=SERVING, join=(a.address,)) as d,
        ):
            await until(lambda: serves(c, a) and serves(a, d) and serves(c, d))
            await until(lambda: "invited to chat only, and announces blocks" in caplog.text)
            assert c.peer_id not in a.membership.swarm.peers
            assert c.peer_id not in d.membership.swarm.peers

    with caplog.at_level("WARNING", logger="gridnode"):
        asyncio.run(scenario())


def test_who_may_only_chat_speaks_for_nobody_else() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(30), neighbour(None, swarm=STRANGER, serving=SERVING) as x:
            await x.membership.wait_until(x.knows())
            smuggled, _ = x.membership._signed[x.peer_id]
            async with (
                neighbour(None, swarm=MEMBER) as a,
                neighbour(None, swarm=guest(), join=(a.address,)) as c,
            ):
                await a.membership.wait_until(a.knows(c))
                for outbox in c.membership._outboxes:
                    outbox.put(smuggled, asyncio.get_running_loop().time())
                c.state = PeerState.PAUSED
                c.membership.announce()
                await until(
                    lambda: a.membership.swarm.peers[c.peer_id].announcement.state is PeerState.PAUSED
                )
                assert x.peer_id not in a.membership.swarm.peers

    asyncio.run(scenario())


def test_a_new_key_reaches_every_member_and_no_guest(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "abd"]

    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER, state_dir=files[0]) as a,
            neighbour(None, swarm=MEMBER, state_dir=files[1], join=(a.address,)) as b,
            neighbour(None, swarm=guest(Use.SERVE), join=(a.address,)) as c,
        ):
            await a.membership.wait_until(a.knows(b, c))
            links = {*a.links.connections().values()}
            # As another process does: 'gridnode invite --rotate'.
            SwarmFile(files[0]).write(Invitation(swarm=MEMBER.with_key(NEW)))
            await until(lambda: b.admission.swarm.keys == (NEW, KEY))
            kept = SwarmFile(files[1]).read()
            assert kept is not None
            assert kept.swarm.keys == (NEW, KEY)
            assert c.admission.swarm == guest(Use.SERVE)
            # Nobody had to dial again, and links count under the new key.
            assert {*a.links.connections().values()} == links
            proven = a.admission._standings
            await until(lambda: proven[a.links.connections()[b.peer_id]].public_key == NEW.public_key)
            # Who slept meanwhile follows when it wakes up.
            async with neighbour(None, swarm=MEMBER, state_dir=files[2], join=(b.address,)) as d:
                await until(lambda: d.admission.swarm.keys == (NEW, KEY))

    asyncio.run(scenario())


def test_behind_the_grace_period_the_old_key_opens_nothing(tmp_path: Path) -> None:
    wall = [float(NOW_S)]

    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER.with_key(NEW), wall_s=lambda: wall[0]) as a,
            neighbour(None, swarm=guest(until_s=NOW_S + 9 * HOUR_S), wall_s=lambda: wall[0]) as c,
            neighbour(None, swarm=MEMBER, wall_s=lambda: wall[0], state_dir=tmp_path) as b,
        ):
            await c.links.join(a.address)
            wall[0] = NEW.older_until_s
            await until(lambda: not a.links.connections())
            for old in (b, c):
                with pytest.raises(SwarmRefused, match="another swarm key"):
                    await old.links.join(a.address)
            assert b.admission.swarm == MEMBER, "nobody tells the new key any more"

    asyncio.run(scenario())


def test_without_a_grace_period_nobody_is_told_and_links_end(tmp_path: Path) -> None:
    at_once = replace(NEW, older_until_s=NEW.made_s)

    async def scenario() -> None:
        async with (
            asyncio.timeout(30),
            neighbour(None, swarm=MEMBER, state_dir=tmp_path / "a") as a,
            neighbour(None, swarm=MEMBER, state_dir=tmp_path / "b") as b,
        ):
            await b.links.join(a.address)
            SwarmFile(tmp_path / "a").write(Invitation(swarm=MEMBER.with_key(at_once)))
            await until(lambda: not a.links.connections() and not b.links.connections())
            assert b.admission.swarm == MEMBER

    asyncio.run(scenario())
