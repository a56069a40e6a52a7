"""The command `gridnode` as a process: exit codes, streams, and how fast it starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gridnode import __version__

COMMANDS = ("up", "run", "status", "demo", "version")


def gridnode(
    *arguments: str, env: dict[str, str] | None = None, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run the command line with `text` on its standard input."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("GRIDNODE_")}
    return subprocess.run(
        [sys.executable, "-m", "gridnode", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        env=variables | {"COLUMNS": "100"} | (env or {}),
        check=False,
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def test_without_arguments_it_explains_itself_and_starts_nothing() -> None:
    result = gridnode()
    assert "Usage" in result.stdout + result.stderr
    assert all(command in result.stdout + result.stderr for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str) -> None:
    result = gridnode(command, "--help")
    assert result.returncode == 0
    assert "Examples" in result.stdout
    assert f"gridnode {command}" in result.stdout


def test_version_is_that_of_the_package() -> None:
    assert gridnode("version").stdout == f"gridnode {__version__}\n"
    assert json.loads(gridnode("version", "--json").stdout)["version"] == __version__


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nothing"], "nothing"),
        (["up", "--blocks", "10"], "write it like 0:10"),
        (["up", "--blocks", "9:3"], "9:3"),
        (["up", "--memory", "lots"], "2GiB"),
        (["up", "--join", "example.org"], "192.0.2.7"),
        (["up", "--name", "x" * 65], "64 characters"),
        (["status", "--api", "nowhere:x"], "192.0.2.7:7337"),
        (["run"], "prompt is empty"),
        (["run", "Hello", "--temperature", "-1"], "temperature must be in"),
        (["run", "Hello", "--raw", "--system", "Be kind"], "--raw"),
        (["tune", "data.jsonl", "--model", "any", "--learning-rate", "0"], "above 0, got 0"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_how_to_write_it(arguments: list[str], part: str) -> None:
    result = gridnode(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    # The box around usage errors breaks lines.
    assert part.replace(" ", "") in "".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["run", "Hello"]])
def test_without_a_node_it_ends_with_3_and_says_what_to_start(arguments: list[str]) -> None:
    result = gridnode(*arguments, "--api", f"127.0.0.1:{free_port()}")
    assert result.returncode == 3
    assert result.stdout == ""
    assert "gridnode up" in result.stderr
    assert len(result.stderr.splitlines()) <= 2


def test_the_environment_is_read() -> None:
    port = free_port()
    result = gridnode("status", env={"GRIDNODE_API_ADDRESS": f"127.0.0.1:{port}"})
    assert f"127.0.0.1:{port}" in result.stderr


def test_tracebacks_are_shown_on_request_only() -> None:
    arguments = ("status", "--api", f"127.0.0.1:{free_port()}")
    assert "Traceback" not in gridnode(*arguments).stderr
    assert "Traceback" in gridnode(*arguments, "--log-level", "debug").stderr


def test_no_color_is_respected() -> None:
    result = gridnode("--help", env={"NO_COLOR": "1", "FORCE_COLOR": ""})
    assert "\x1b[3" not in result.stdout


def test_a_door_that_is_taken_names_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        api = f"127.0.0.1:{holder.getsockname()[1]}"
        result = gridnode("up", "--api", api, "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path))
    assert result.returncode == 1
    assert str(os.getpid()) in result.stderr
    assert "--api" in result.stderr


def test_a_quic_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{holder.getsockname()[1]}"
        result = gridnode("up", "--api", "127.0.0.1:0", "--listen", listen, "--state-dir", str(tmp_path))
    assert result.returncode == 1
    assert listen.split(":")[1] in result.stderr


def test_a_model_that_is_not_there_ends_the_node(tmp_path: Path) -> None:
    local = ("--api", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path))
    result = gridnode("up", "--model", "/nowhere/model.gguf", *local)
    assert result.returncode == 1
    assert "/nowhere/model.gguf" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["version", "status", "--help"])
def test_light_commands_load_nothing_heavy(command: str) -> None:
    arguments = ["gridnode", command, *(["--api", f"127.0.0.1:{free_port()}"] if command == "status" else [])]
    code = (
        f"import sys; sys.argv = {arguments!r}\n"
        "from gridnode.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = ['torch', 'transformers', 'onnxruntime', 'aioquic', 'uvicorn', 'textual', 'cryptography']\n"
        "heavy += ['numpy', 'httpx', 'tomlkit', 'asyncio'] if sys.argv[1] != 'status' else []\n"
        "print('loaded:', [name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "loaded: []" in result.stdout


@pytest.mark.parametrize("command", ["chat", "top"])
def test_what_needs_a_terminal_says_so_and_what_programs_use(command: str) -> None:
    result = gridnode(command)
    assert result.returncode == 2
    assert "needs a terminal" in result.stderr
    assert "gridnode run" in result.stderr or "gridnode status --json" in result.stderr
