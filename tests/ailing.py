"""Facts of a healthy computer, for tests that break one of them."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

from gridnode.cli.doctor.examination import Facts, diagnose
from gridnode.cli.doctor.findings import Diagnosis, Finding, State
from gridnode.cli.doctor.machine import Disk, MachineFacts, StateDir
from gridnode.cli.doctor.mapping import MappingFacts
from gridnode.cli.doctor.model import ModelFacts
from gridnode.cli.doctor.network import Attempt, NetworkFacts
from gridnode.cli.doctor.service import ServiceFacts
from gridnode.cli.doctor.swarm import SwarmFacts
from gridnode.config import NodeConfig
from gridnode.core.addresses import Address
from gridnode.core.spans import Span
from gridnode.core.swarm_pass import SwarmPass
from gridnode.units import GIB, MIB

LISTEN = Address("0.0.0.0", 7338)
BLOCKED = Attempt(host="192.168.1.7", problem="No route to host", error_number=errno.EHOSTUNREACH)

HEALTHY = Facts(
    config=NodeConfig(),
    machine=MachineFacts(
        config_problem="",
        python="3.11.7",
        packages={"torch": "2.9", "transformers": "5.0", "onnxruntime": "1.23"},
        cores=8,
        threads=None,
        total_memory_bytes=16 * GIB,
        free_memory_bytes=8 * GIB,
        budget_bytes=6 * GIB,
        disks=(
            Disk(
                check="cache disk",
                path=Path("/c"),
                free_bytes=90 * GIB,
                wanted_bytes=2 * GIB,
                mend="gridnode list",
            ),
        ),
        state_dir=StateDir(path=Path("/s")),
        running_pid=None,
        clock_offsets_s=(),
        is_clock_synchronized=True,
        platform="linux",
    ),
    network=NetworkFacts(
        listen=LISTEN,
        udp_port_problem="",
        door=Address("127.0.0.1", 7337),
        door_problem="",
        running_pid=None,
        echoes=(Attempt(host="127.0.0.1", rtt_s=3e-5),),
        addresses=(Address("192.168.1.7", 7338),),
        ipv6_hosts=(),
        ignored_interfaces=("docker0",),
        mdns=True,
        multicasts=(Attempt(host="192.168.1.7"),),
        platform="linux",
    ),
    mapping=MappingFacts(unasked="no router is asked"),
    swarm=SwarmFacts(status=None, door_problem="", swarm=SwarmPass(name="home"), version="0.1.0", visits=()),
    model=ModelFacts(
        location="/models/Qwen3",
        name="Qwen3",
        family="qwen3",
        num_blocks=36,
        executor="onnx",
        span=Span(0, 18),
        span_bytes=2 * GIB + 400 * MIB,
    ),
    service=ServiceFacts(has_systemd=False),
)


def broken(part: str, **changes: Any) -> Diagnosis:
    """Return what the doctor says of a healthy computer with these facts changed."""
    return diagnose(replace(HEALTHY, **{part: replace(getattr(HEALTHY, part), **changes)}))


def the_one(diagnosis: Diagnosis, state: State) -> Finding:
    """Return the only finding that is not fine; everybody who is told of a problem is told a command."""
    [found] = [finding for finding in diagnosis.findings if finding.state is not State.OK]
    assert found.state is state
    assert found.mend
    return found
