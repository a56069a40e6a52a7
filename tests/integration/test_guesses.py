"""Ways that are found by chance: the sockets of one side, and the guesses of the other, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import psutil
import pytest
from nodes import LOOPBACK
from waiting import until

from gridnode.core.addresses import Address
from gridnode.errors import GridError, PeerLost
from gridnode.net.carrier import PathKind
from gridnode.net.clock import now_s
from gridnode.net.guess_sockets import GUESS_SOCKETS
from gridnode.net.identity import Identity
from gridnode.net.path_router import PathRouter
from gridnode.net.quic import QuicTransport
from gridnode.net.virtual_peer import DirectRoute, VirtualPeer
from gridnode.node.path_talk import PathTalk
from gridnode.node.port_guessing import PortGuessing
from gridnode.wire.frames import Frame
from gridnode.wire.relay_messages import PathOffer, decode_relay_message
from gridnode.wire.relay_packets import make_probe


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main()

    asyncio.run(limited())


class Side:
    """A node with one peer that it knows no way to."""

    def __init__(self) -> None:
        self.identity = Identity.generate()
        self.transport = QuicTransport(self.identity, LOOPBACK)
        # Routers are everywhere but on loopback: addresses are said to be changed, so that ways are punched.
        self.router = PathRouter(self.transport.endpoint, self.transport.peer_id, is_translated=lambda: True)

    def peer(self, other: Side) -> VirtualPeer:
        return self.router.peer(other.transport.peer_id)

    @property
    def address(self) -> Address:
        return self.transport.address


@contextlib.asynccontextmanager
async def two_sides() -> AsyncIterator[tuple[Side, Side]]:
    """Yield the side that is guessed at, and the one that guesses; both know each other's secrets."""
    sides = Side(), Side()
    for one, other in (sides, sides[::-1]):
        one.peer(other).accept_offer(other.peer(one).paths.secret, ())
    try:
        yield sides
    finally:
        for side in sides:
            side.router.close()
            await side.transport.aclose()


def udp_ports() -> set[int]:
    """Return the UDP ports that this process holds."""
    return {found.laddr.port for found in psutil.Process().net_connections("udp4")}


async def guess_right(guessed: Side, guessing: Side) -> tuple[VirtualPeer, int]:
    """Let the first guess be true; return the peer that guessed, and the port that it found."""
    before = udp_ports()
    peer = guessed.peer(guessing)
    peer.expect_guesses(tuple(guessing.address), hops=None)
    [port, *_] = udp_ports() - before
    guessing.peer(guessed).guess(tuple(guessed.address), [port])
    await until(lambda: peer.paths.has_direct)
    return peer, port


def descriptors() -> int:
    return psutil.Process().num_fds()


def test_a_guess_finds_a_socket_and_only_that_one_stays_open_and_carries_a_connection() -> None:
    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            before, descriptors_before = udp_ports(), descriptors()
            found = guessed.peer(guessing).expect_guesses(tuple(guessing.address), hops=None)
            opened = udp_ports() - before
            assert len(opened) == GUESS_SOCKETS
            guessing.peer(guessed).guess(tuple(guessed.address), sorted(opened)[100:103])
            await asyncio.wait_for(found.wait(), 10)
            assert len(udp_ports() - before) == 1, "the others are closed at once"
            assert descriptors() == descriptors_before + 1
            for side, other in ((guessed, guessing), (guessing, guessed)):
                await until(lambda side=side, other=other: side.peer(other).paths.has_direct)
                assert side.peer(other).kind is PathKind.PUNCHED
            guessed.peer(guessing).end_guesses()

            near = await guessing.transport.dial(
                guessing.peer(guessed).address, peer_id=guessed.transport.peer_id, timeout_s=5
            )
            far = await guessed.transport.accept()
            assert near.path is far.path is PathKind.PUNCHED
            assert near.address.port in opened
            assert far.address == guessing.address
            for one, other in ((near, far), (far, near)):
                stream = await one.open_stream()
                await stream.send(Frame(0x10, {}, bytes(300_000)))
                received = await (await other.accept_stream()).receive()
                assert received is not None
                assert len(received.body) == 300_000
            guessed.router.close()
            assert udp_ports() == before

    run(main)


def test_guesses_that_find_nothing_leave_nothing_open() -> None:
    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            before = descriptors()
            peer = guessed.peer(guessing)
            found = peer.expect_guesses(tuple(guessing.address), hops=4)
            again = peer.expect_guesses(tuple(guessing.address), hops=4)
            assert descriptors() == before + GUESS_SOCKETS, "never more than once"
            peer.end_guesses()
            assert descriptors() == before
            assert not found.is_set()
            assert not again.is_set()
            assert not peer.paths.paths()

    run(main)


def test_strangers_find_nothing_whatever_they_send() -> None:
    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            before = udp_ports()
            peer = guessed.peer(guessing)
            found = peer.expect_guesses(tuple(guessing.address), hops=None)
            [port, *_] = opened = udp_ports() - before
            tag = guessing.peer(guessed).paths.guess()[2:10]
            forged = make_probe(is_answer=False, tag=tag, number=1, secret=bytes(16))
            true = guessing.peer(guessed).paths.guess()
            for data in (b"\x0f", b"\x0fP", bytes([0xC0] * 1200), forged):
                guessing.transport.endpoint.send_raw(data, ("127.0.0.1", port))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(true, ("127.0.0.1", port))  # from an address that is not the peer's
            await asyncio.sleep(0)
            guessing.peer(guessed).guess(("127.0.0.1", 0), [max(opened)])
            await asyncio.wait_for(found.wait(), 10)
            await until(lambda: peer.paths.has_direct)
            assert udp_ports() - before == {max(opened)}, "the socket of the first true guess"

    run(main)


def test_a_better_way_closes_the_socket_that_was_found() -> None:
    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            before = udp_ports()
            peer, _ = await guess_right(guessed, guessing)
            assert peer.kind is PathKind.PUNCHED
            secret = guessing.peer(guessed).paths.secret
            peer.accept_offer(secret, [guessing.address.host])  # an own address of the peer is no punched way
            peer.punch([tuple(guessing.address)])
            await until(lambda: peer.kind is PathKind.DIRECT)
            await until(lambda: udp_ports() == before)

    run(main)


def test_a_peer_that_died_is_left_alone_once_its_connection_ended_and_is_reached_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gridnode.net.paths.GIVE_UP_S", 0.3)

    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            peer, port = await guess_right(guessed, guessing)
            await guessing.transport.dial(
                guessing.peer(guessed).address, peer_id=guessed.transport.peer_id, timeout_s=5
            )
            connection = await guessed.transport.accept()
            guessing.transport.endpoint.vanish()
            peer.doubt()
            await until(lambda: peer.paths.is_hopeless(now=now_s()))
            assert port in udp_ports(), "the connection waits for its peer"
            connection.abandon(PeerLost("the peer was silent for too long"))
            await until(lambda: port not in udp_ports())
            assert not peer.paths.is_in_doubt

            back = QuicTransport(guessing.identity, LOOPBACK)
            peer.paths.add(DirectRoute(tuple(back.address)), PathKind.PUNCHED)
            again = await guessed.transport.dial(peer.address, peer_id=back.peer_id, timeout_s=5)
            await again.ping()
            await back.aclose()

    run(main)


def test_no_more_sockets_are_opened_than_the_process_can_spare() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            before = descriptors()
            resource.setrlimit(resource.RLIMIT_NOFILE, (before + 40, hard))
            guessed.peer(guessing).expect_guesses(tuple(guessing.address), hops=4)
            assert before + 15 <= descriptors() <= before + 20
            guessed.peer(guessing).end_guesses()
            assert descriptors() == before

    try:
        run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Where relays are said to see two nodes: one at two ports, where nobody is, and one at its own.
SYMMETRIC = (Address("127.0.0.1", 1), Address("127.0.0.1", 2))


@contextlib.asynccontextmanager
async def talking(
    guessed: Side, guessing: Side, *, guessed_leads: bool, are_allowed: tuple[bool, bool]
) -> AsyncIterator[None]:
    """Let both sides talk about the ways between them, over a connection that is none of these."""
    # A router would let no probe of this socket through.
    guessed.transport.endpoint.send_raw = lambda *_, **__: None  # type: ignore[method-assign]
    changed = asyncio.Event()

    def talk(side: Side, other: Side, observed: tuple[Address, ...], is_allowed: bool) -> PathTalk:
        return PathTalk(
            side.peer(other),
            side.transport.endpoint,
            own=lambda: (),
            observed=lambda: observed,
            changed=lambda: changed,
            guessing=PortGuessing(is_allowed=is_allowed),
        )

    talks = (
        talk(guessed, guessing, SYMMETRIC, are_allowed[0]),
        talk(guessing, guessed, (guessing.address,), are_allowed[1]),
    )
    (leader, follower), (leading, following) = (talks, (guessed, guessing))
    if not guessed_leads:
        leader, follower, leading, following = follower, leader, following, leading
    near = await leading.transport.dial(following.address, peer_id=following.transport.peer_id, timeout_s=5)
    far = await following.transport.accept()

    async def lead() -> None:
        await leader.lead(await near.open_stream())

    async def follow() -> None:
        stream = await far.accept_stream()
        frame = await stream.receive()
        assert frame is not None
        offer = decode_relay_message(frame)
        assert isinstance(offer, PathOffer)
        await follower.follow(stream, offer)

    tasks = [asyncio.create_task(lead()), asyncio.create_task(follow())]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def a_round() -> None:
    """Wait for the end of what the side that was dialled does in a round."""

    def is_under_way() -> bool:
        return any(task.get_name() == "round" for task in asyncio.all_tasks())

    await until(is_under_way)
    await until(lambda: not is_under_way())


@pytest.fixture
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let guesses begin soon, and among the ports that this computer gives."""
    monkeypatch.setattr("gridnode.node.path_talk.ROUND_S", 0.2)
    monkeypatch.setattr("gridnode.node.port_guessing.GUESSED_PORTS", range(32768, 61000))


@pytest.mark.usefixtures("short_rounds")
@pytest.mark.parametrize("guessed_leads", [True, False], ids=["symmetric leads", "easy leads"])
def test_where_both_users_allow_it_a_port_is_guessed_whoever_dialled(guessed_leads: bool) -> None:
    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            before = descriptors()
            async with talking(guessed, guessing, guessed_leads=guessed_leads, are_allowed=(True, True)):
                await until(lambda: guessed.peer(guessing).paths.has_direct)
                await until(lambda: guessing.peer(guessed).paths.has_direct)
            assert guessed.peer(guessing).kind is guessing.peer(guessed).kind is PathKind.PUNCHED
            assert descriptors() == before + 1

    run(main)


@pytest.mark.usefixtures("short_rounds")
def test_a_port_is_guessed_over_the_connection_that_remains_of_two() -> None:
    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            for one, other in ((guessed, guessing), (guessing, guessed)):
                # Probes have just been sent, for a connection that has ended since.
                one.peer(other).followed_at = asyncio.get_running_loop().time()
            async with talking(guessed, guessing, guessed_leads=False, are_allowed=(True, True)):
                await until(lambda: guessed.peer(guessing).paths.has_direct)

    run(main)


@pytest.mark.usefixtures("short_rounds")
@pytest.mark.parametrize("are_allowed", [(True, False), (False, True)])
def test_where_one_user_does_not_allow_it_nobody_guesses(
    are_allowed: tuple[bool, bool], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            before = descriptors()
            async with talking(guessed, guessing, guessed_leads=False, are_allowed=are_allowed):
                await a_round()
                assert descriptors() == before
            assert not guessing.peer(guessed).paths.has_direct

    run(main)
    assert "guess" not in caplog.text


@pytest.mark.usefixtures("short_rounds")
def test_on_a_metered_network_nobody_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridnode.node.port_guessing.is_metered", lambda: True)

    async def main() -> None:
        async with two_sides() as (guessed, guessing):
            before = descriptors()
            async with talking(guessed, guessing, guessed_leads=False, are_allowed=(True, True)):
                await a_round()
                assert descriptors() <= before + 2  # of the thread that asked
            assert not guessing.peer(guessed).paths.has_direct

    run(main)


def test_guesses_for_two_peers_take_turns() -> None:
    async def main() -> None:
        guessing = PortGuessing(is_allowed=True)
        async with two_sides() as (guessed, first), two_sides() as (_, second):
            guessed.peer(second).accept_offer(bytes(16), ())
            before = descriptors()
            asked: list[str] = []

            async def ask(name: str) -> None:
                asked.append(name)
                assert descriptors() <= before + GUESS_SOCKETS + 2
                raise GridError("the stream broke")

            outcomes = await asyncio.gather(
                *(
                    guessing.be_guessed(
                        guessed.peer(side),
                        tuple(side.address),
                        is_first=True,
                        ask=lambda name=name: ask(name),
                    )
                    for name, side in (("first", first), ("second", second))
                ),
                return_exceptions=True,
            )
            assert [type(each) for each in outcomes] == [GridError, GridError]
            assert asked == ["first", "second"]
            assert descriptors() <= before + 2

    run(main)
