"""The files for Docker: linted, checked against each other, and their node played without a container."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from waiting import eventually

from gridnode.config.settings import settings
from gridnode.config.sources import read_environment
from gridnode.core.addresses import Address
from gridnode.core.spans import Span
from gridnode.engine.locate import open_checkpoint

DOCKER = Path(__file__).parents[2] / "packaging" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def instructions(stage: str) -> list[tuple[str, str]]:
    """Return the instructions of a stage with their arguments, comments and continuations resolved."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    found = re.search(rf"^FROM \S+ AS {stage}$(.*?)(?=^FROM )", text, flags=re.M | re.S)
    assert found is not None
    lines = [line.split(maxsplit=1) for line in found[1].splitlines() if line.strip()]
    return [(name, arguments) for name, arguments in lines]


def environment_of(stage: str) -> dict[str, str]:
    """Return the variables that a stage sets."""
    words = [word for name, rest in instructions(stage) if name == "ENV" for word in shlex.split(rest)]
    return dict(word.split("=", 1) for word in words)


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(
        [hadolint, "--no-color", DOCKER / "Dockerfile"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_image_runs_without_root_and_keeps_what_it_writes_in_its_volume() -> None:
    node = instructions("node")
    assert ("USER", "7337") in node
    [volume] = [rest for name, rest in node if name == "VOLUME"]
    environment = environment_of("node")
    assert environment["XDG_STATE_HOME"] + "/gridnode" == volume
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME"):
        assert Path(environment[name]).is_relative_to(volume)
    # The demo model is put there by root; the node that serves it is not.
    assert [rest for name, rest in instructions("demo") if name == "USER"] == ["0", "7337"]


def test_what_gets_into_an_image_is_enough_for_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """The image is built from what Dockerfile.dockerignore leaves of a checkout, and from nothing else."""
    _, everything, *lines = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    assert everything == "*"
    for line in lines:
        left = DOCKER.parents[1] / line.removeprefix("!")
        if left.is_dir():
            shutil.copytree(left, tmp_path / left.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif line.startswith("!"):
            shutil.copy(left, tmp_path)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", tmp_path / "dist", tmp_path],
        check=True,
        timeout=120,
    )
    [built] = (tmp_path / "dist").iterdir()
    assert zipfile.ZipFile(built).namelist() == zipfile.ZipFile(wheel).namelist()


def test_the_images_bring_no_secrets() -> None:
    for name in [
        *environment_of("node"),
        *(name for one in SERVICES.values() for name in one["environment"]),
    ]:
        assert not re.search(r"TOKEN|SECRET|PASSWORD|_KEY$", name)


def test_the_compose_file_follows_the_specification() -> None:
    PyCompose.from_json(json.dumps(COMPOSE))
    with pytest.raises(ValueError, match="depend"):
        PyCompose.from_json(json.dumps({"services": {"node": {"image": "a", "depend_on": ["b"]}}}))


def test_the_three_nodes_hold_the_whole_model_and_know_the_first(demo_model_path: Path) -> None:
    given = {name: read_environment(service["environment"]) for name, service in SERVICES.items()}
    spans = [values["serve.blocks"].value for values in given.values()]
    assert all(isinstance(span, Span) for span in spans)
    assert spans[0].start == 0
    assert spans[-1].end == open_checkpoint(str(demo_model_path)).facts.num_blocks
    assert all(one.end == next_one.start for one, next_one in pairwise(spans))
    first, *others = SERVICES
    address = Address(SERVICES[first]["networks"]["swarm"]["ipv4_address"], 7338)
    assert all(given[name]["swarm.join"].value == (address,) for name in others)


def test_every_variable_is_a_setting_and_every_volume_and_network_declared() -> None:
    known = {setting.variable for setting in settings().values()}
    for environment in [environment_of("node"), *(service["environment"] for service in SERVICES.values())]:
        assert {name for name in environment if name.startswith("GRIDNODE_")} <= known
    volumes = [volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]]
    assert sorted(volumes) == sorted(COMPOSE["volumes"])
    assert {network for service in SERVICES.values() for network in service["networks"]} == set(
        COMPOSE["networks"]
    )


@pytest.mark.swarm
@pytest.mark.smollm
def test_the_nodes_of_the_compose_file_answer_together(demo_model_path: Path, tmp_path: Path) -> None:
    """Each service as a process: its variables, with addresses and a port of this computer alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with contextlib.ExitStack() as stack:
        nodes = []
        for name, service in SERVICES.items():
            own = Address(service["networks"]["swarm"]["ipv4_address"].replace("172.31.", "127.31."), port)
            variables = {
                **service["environment"],
                "GRIDNODE_SERVE_MODEL": str(demo_model_path),
                "GRIDNODE_SWARM_MDNS": "false",
                "GRIDNODE_SWARM_LISTEN": str(own),
                "GRIDNODE_API_ADDRESS": "127.0.0.1:0",
                "GRIDNODE_NODE_STATE_DIR": str(tmp_path / name),
                "GRIDNODE_LIMITS_THREADS": "1",
            }
            if "GRIDNODE_SWARM_JOIN" in variables:
                variables["GRIDNODE_SWARM_JOIN"] = (
                    variables["GRIDNODE_SWARM_JOIN"].replace("172.31.", "127.31.").replace("7338", str(port))
                )
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "gridnode", "up", "--json"],
                    env={**os.environ, **variables},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            stack.callback(process.kill)
            nodes.append(process)
        doors = [json.loads(node.stdout.readline())["api"] for node in nodes if node.stdout]
        for door in doors:
            eventually(lambda door=door: is_ready(door))
        ask = [sys.executable, "-m", "gridnode", "run", "--api", doors[0], "What is the capital of France?"]
        done = subprocess.run(ask, capture_output=True, text=True, timeout=120, check=False)
        assert "Paris" in done.stdout, done.stderr


def is_ready(door: str) -> bool:
    """Return whether the node with this door is ready, as its health check would find."""
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{door}/ready", timeout=30) as answer:
        return bool(answer.status == 200)
    return False


@pytest.mark.swarm
def test_the_command_of_the_image_becomes_healthy_and_ends_on_its_stop_signal(
    tiny_llama: Path, tmp_path: Path
) -> None:
    """What Docker would do with the image: its variables, its command, its health check, its stop."""
    node = dict(instructions("node"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {**os.environ, "GRIDNODE_SERVE_MODEL": str(tiny_llama), "GRIDNODE_LIMITS_THREADS": "1"}
    for name, value in environment_of("node").items():
        if name != "PATH":
            environment[name] = value.replace("/var/lib", str(tmp_path))
    # What a container has to itself, and this computer has not: its ports.
    environment["GRIDNODE_API_ADDRESS"] = f"127.0.0.1:{port}"
    environment["GRIDNODE_SWARM_LISTEN"] = "127.0.0.1:0"
    [gridnode] = json.loads(node["ENTRYPOINT"])
    assert gridnode == "gridnode"
    command = [sys.executable, "-m", gridnode, *json.loads(node["CMD"])]
    check = json.loads(node["HEALTHCHECK"].partition("CMD ")[2].replace("7337", port))
    check[0] = sys.executable

    def is_healthy() -> bool:
        return subprocess.run(check, stderr=subprocess.DEVNULL, timeout=30, check=False).returncode == 0

    assert not is_healthy()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            eventually(lambda: process.poll() is not None or is_healthy())
            process.send_signal(signal.Signals[node["STOPSIGNAL"]])
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert (tmp_path / "gridnode" / ".cache").is_dir()
    assert not list(Path(environment["HOME"]).glob(".local"))
