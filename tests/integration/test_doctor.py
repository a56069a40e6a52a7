"""The doctor in front of a computer and a swarm that are really broken, as far as that can be had cheaply."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_hub import REPOSITORY, running_hub, use_hub
from nodes import running_swarm

from gridnode.cli.doctor.examination import Facts, diagnose, examine
from gridnode.cli.doctor.findings import Diagnosis, Finding, State
from gridnode.cli.doctor.swarm_facts import call_on
from gridnode.cli.state_lock import state_lock
from gridnode.config import NodeConfig
from gridnode.config.swarm_file import SwarmFile
from gridnode.core.addresses import Address
from gridnode.core.invitation import Invitation
from gridnode.core.models import QuantFormat
from gridnode.core.placement import ENGINE_OVERHEAD_BYTES, block_bytes
from gridnode.core.spans import Span
from gridnode.core.swarm_pass import SwarmPass
from gridnode.core.swarm_secret import SwarmKey
from gridnode.engine.block_cache import blocks_dir
from gridnode.engine.locate import open_checkpoint
from gridnode.net.identity import IDENTITY_FILE, Identity, load_or_create_identity
from gridnode.net.relay_limits import RelayLimits
from gridnode.net.relay_service import RelayService
from gridnode.node.node import Node
from gridnode.units import MIB, TIB, format_bytes
from gridnode.wire.messages import PROTOCOL_VERSION

HOUR_S = 3600.0


@pytest.fixture
def config(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NodeConfig:
    """What 'gridnode up' would be told; nothing of it leaves this computer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRIDNODE_API_KEY", raising=False)
    return NodeConfig(
        model=str(tiny_llama),
        listen=Address("127.0.0.1", 0),
        api=Address("127.0.0.1", 0),
        mdns=False,
        threads=1,
        state_dir=tmp_path / "state",
    )


@pytest.fixture
def taken(request: pytest.FixtureRequest) -> Iterator[Address]:
    """A port that this process holds: of the kind of socket that the test names."""
    with socket.socket(socket.AF_INET, request.param) as sock:
        sock.bind(("127.0.0.1", 0))
        if request.param == socket.SOCK_STREAM:
            sock.listen()
        yield Address(*sock.getsockname())


def doctor(config: NodeConfig, **changes: Any) -> Diagnosis:
    return diagnose(asyncio.run(examine(replace(config, **changes))))


def failure(diagnosis: Diagnosis) -> Finding:
    """Return the only failure."""
    [found] = [finding for finding in diagnosis.findings if finding.state is State.FAIL]
    assert found.mend
    assert found.check in diagnosis.verdict
    return found


def said(diagnosis: Diagnosis, check: str) -> Finding:
    return next(finding for finding in diagnosis.findings if finding.check == check)


def test_before_the_first_start_all_is_well(config: NodeConfig) -> None:
    found = doctor(config)
    assert not found.fails
    assert found.verdict.startswith("Ready to serve 4 blocks of tiny-llama (0:4 of 4); no other computer")


@pytest.mark.parametrize("taken", [socket.SOCK_DGRAM], indirect=True)
def test_who_holds_the_udp_port_is_named(config: NodeConfig, taken: Address) -> None:
    found = failure(doctor(config, listen=taken))
    assert found.check == "udp port"
    assert f"process {os.getpid()}" in found.measured
    assert found.mend == "gridnode up --listen 127.0.0.1:0"


@pytest.mark.parametrize("taken", [socket.SOCK_STREAM], indirect=True)
def test_a_door_that_something_else_holds(
    config: NodeConfig, taken: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gridnode.control.client.REQUEST_TIMEOUT_S", 0.1)  # it never says a word
    checks = {finding.check for finding in doctor(config, api=taken).findings if finding.state is State.FAIL}
    assert checks == {"door", "node"}


def test_who_holds_the_state_directory_is_named(config: NodeConfig) -> None:
    with state_lock(config.state_dir):
        found = failure(doctor(config))
    assert found.check == "state directory"
    assert found.mend == f"kill {os.getpid()}"


def test_a_state_directory_that_cannot_be(config: NodeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = failure(doctor(config, state_dir=tmp_path / "file"))
    assert found.check == "state directory"
    assert "cannot write" in found.measured


def test_an_identity_that_others_may_read(config: NodeConfig) -> None:
    load_or_create_identity(config.state_dir)
    (config.state_dir / IDENTITY_FILE).chmod(0o644)
    found = failure(doctor(config))
    assert found.check == "state directory"
    assert "0644" in found.measured
    assert found.mend == f"chmod 600 {config.state_dir}/identity.pem"


def test_a_checkpoint_that_was_cut_off(config: NodeConfig, tmp_path: Path, tiny_llama: Path) -> None:
    shutil.copytree(tiny_llama, tmp_path / "cut")
    os.truncate(tmp_path / "cut" / "model.safetensors", 1000)
    found = failure(doctor(config, model=str(tmp_path / "cut")))
    assert found.check == "model"
    assert "cannot read" in found.measured


def test_quantized_blocks_that_were_cut_off(config: NodeConfig, tiny_llama: Path) -> None:
    directory = blocks_dir() / open_checkpoint(str(tiny_llama)).model_id.manifest
    directory.mkdir(parents=True)
    (directory / "block-0-int8-g32-v1.safetensors").write_bytes(b"x" * 100)
    found = said(doctor(config), "block cache")
    assert found.state is State.WARN
    assert "block-0" in found.measured
    assert found.mend == f"rm -r {directory}"


def test_memory_for_not_even_one_block(config: NodeConfig) -> None:
    found = failure(doctor(config, memory_bytes=100 * MIB))
    assert found.check == "blocks"
    assert "the budget is 100 MiB" in found.measured


def test_more_memory_than_there_is(config: NodeConfig) -> None:
    found = failure(doctor(config, memory_bytes=100 * TIB))
    assert found.check == "memory"
    assert "this node may use 100 TiB" in found.measured
    assert found.mend == "gridnode config unset limits.memory"


def test_an_executor_that_does_not_know_the_family(config: NodeConfig) -> None:
    found = failure(doctor(config, executor="onnx", dtype="bfloat16"))
    assert found.check == "executor"


def test_nobody_at_the_address_to_join(config: NodeConfig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = Address(*free.getsockname())
    found = failure(doctor(config, join=(address,)))
    assert found.check == "join"
    assert found.mend == "gridnode doctor network  # at 127.0.0.1"


def test_a_relay_that_answers_and_one_that_is_gone(config: NodeConfig) -> None:
    async def scenario() -> None:
        relay = RelayService(Identity.generate(), Address("127.0.0.1", 0), RelayLimits())
        serving = asyncio.create_task(relay.run())
        address = relay.address
        using = replace(config, relay=(str(address),))
        found = said(diagnose(await examine(using)), "relay")
        assert found.state is State.OK
        assert f"the relay at {address} answers in " in found.measured
        assert "sees this computer at 127.0.0.1:" in found.measured
        assert not relay.server.counters.nodes
        serving.cancel()
        await asyncio.wait([serving])
        gone = failure(diagnose(await examine(using)))
        assert gone.check == "relay"
        assert gone.mend == f"gridnode relay --listen 0.0.0.0:{address.port}  # at 127.0.0.1"

    asyncio.run(scenario())


def test_the_key_of_another_swarm(config: NodeConfig, tmp_path: Path) -> None:
    def keep_key(state_dir: Path, letter: bytes) -> None:
        key = SwarmKey(seed=letter * 32, made_s=1, older_until_s=1)
        SwarmFile(state_dir).write(Invitation(swarm=SwarmPass(name="home", keys=(key,))))

    async def scenario() -> None:
        keep_key(tmp_path / "theirs", b"t")
        node = Node(replace(config, model="", state_dir=tmp_path / "theirs"))
        listening = asyncio.Event()
        running = asyncio.create_task(node.run(on_listening=listening.set))
        await listening.wait()
        joining = replace(config, join=(node.address,))
        try:
            keep_key(config.state_dir, b"t")
            assert not diagnose(await examine(joining)).fails
            keep_key(config.state_dir, b"o")
            wrong = failure(diagnose(await examine(joining)))
            assert wrong.check == "swarm key"
            assert "wrong key: " in wrong.measured
            assert "has another swarm key than this one" in wrong.measured
            assert wrong.mend == "gridnode join -  # with what 'gridnode invite' prints there"
        finally:
            running.cancel()
            await asyncio.wait([running])

    asyncio.run(scenario())


def test_what_the_hub_still_has_to_give(
    config: NodeConfig, tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub(tiny_llama) as hub:
        use_hub(hub, tmp_path, monkeypatch)
        found = doctor(config, model=REPOSITORY)
        size = format_bytes((tiny_llama / "model.safetensors").stat().st_size)
        assert said(found, "model").measured.endswith(f"are not here: the start fetches {size}")
        assert said(found, "model").mend == f"gridnode pull {REPOSITORY}"
        assert f"up to {size} wanted" in said(found, "model disk").measured
        assert not [name for name in hub.downloaded if name.endswith(".safetensors")]


def test_a_real_swarm_is_called_on(
    config: NodeConfig, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions, clocks and names are those that came over the wire; the plan fills the gap of the swarm."""
    facts = open_checkpoint(str(tiny_llama)).facts
    block = block_bytes(facts, QuantFormat.INT8, bytes_per_value=4)
    kv = facts.kv_bytes_per_token(1, bytes_per_value=4) * config.cache_tokens
    ends = max(facts.embed_params, facts.head_params) * 4
    two_blocks = ENGINE_OVERHEAD_BYTES + ends + 2 * (block + kv)

    async def scenario() -> None:
        async with running_swarm(tiny_llama, [Span(0, 2)]) as swarm:
            [node] = swarm.nodes
            joining = replace(config, join=(node.address,), memory_bytes=two_blocks)
            found = await examine(joining)
            diagnosis = diagnose(found)
            assert not diagnosis.fails
            assert diagnosis.verdict.startswith("Ready to serve 2 blocks of tiny-llama (2:4 of 4)")
            assert said(diagnosis, "gaps").mend == "gridnode up --model tiny-llama --blocks 2:4"
            assert said(diagnosis, "clock").measured == "agrees with 1 other node"
            assert len(node.swarm.peers) == 1, "nobody is announced"

            await clock_is_an_hour_off(found, node.address)
            wrong = failure(diagnose(await examine(replace(joining, swarm="elsewhere"))))
            assert "belongs to swarm 'home', this node to 'elsewhere'" in wrong.measured

            monkeypatch.setattr("gridnode.node.handshake.__version__", "0.9.9")
            skew = said(diagnose(await examine(joining)), "versions")
            assert skew.state is State.WARN
            assert "others run 0.9.9" in skew.measured
            monkeypatch.setattr("gridnode.node.handshake.PROTOCOL_VERSION", PROTOCOL_VERSION + 2)
            foreign = failure(diagnose(await examine(joining)))
            assert foreign.check == "versions"
            assert f"others speak protocol {PROTOCOL_VERSION + 2}" in foreign.measured
            assert foreign.mend == "pipx upgrade gridnode"

    async def clock_is_an_hour_off(found: Facts, address: Address) -> None:
        visit = await call_on(
            address, swarm=SwarmPass(name="home"), is_joined=True, wall_s=lambda: time.time() - HOUR_S
        )
        assert visit.clock_offset_s == pytest.approx(HOUR_S, abs=60.0)
        machine = replace(found.machine, clock_offsets_s=(visit.clock_offset_s,))
        clock = failure(diagnose(replace(found, machine=machine)))
        assert clock.measured == "60 min behind 1 other node; swarms allow 5 min"
        assert clock.mend == "sudo timedatectl set-ntp true"

    asyncio.run(scenario())
