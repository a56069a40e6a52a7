"""Several computers on this one: network namespaces, joined by bridges. Needs root and `ip` (iproute2)."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_NUMBERS = itertools.count()


def why_not() -> str:
    """Return why no namespaces can be made here; empty if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    for command in ("ip", "curl"):
        if shutil.which(command) is None:
            return f"the command {command} is missing"
    probe = f"gridnode-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", probe], capture_output=True, check=False)
    return made.stderr.strip()


class NetworkLab:
    """Switches and hosts; a context manager that leaves nothing behind."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._prefix = f"gridnode-{os.getpid()}-{next(_NUMBERS)}"
        self._namespaces: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for namespace in self._namespaces:
            found = subprocess.run(
                ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False
            )
            for pid in found.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", namespace], check=False)

    def switch(self, name: str) -> str:
        """Return the namespace of a new switch."""
        namespace = self.namespace(name)
        # A bridge that snoops on multicast without a querier would swallow mDNS after some minutes.
        ip("-n", namespace, "link", "add", "bridge", "type", "bridge", "mcast_snooping", "0")
        ip("-n", namespace, "link", "set", "bridge", "up")
        return namespace

    def host(self, name: str, **links: tuple[str, str]) -> Host:
        """Return a new computer. `eth0=(switch, "192.168.7.1/24")` names an interface and where it leads."""
        host = Host(name, self.namespace(name), self._directory / name)
        for interface, (switch, address) in links.items():
            host.plug(interface, switch, address)
        return host

    def namespace(self, name: str) -> str:
        """Return a new namespace with its loopback interface up."""
        namespace = f"{self._prefix}-{name}"
        self._namespaces.append(namespace)
        ip("netns", "add", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
        return namespace


class Host:
    """One computer of the lab, with directories of its own."""

    def __init__(self, name: str, namespace: str, home: Path) -> None:
        self.name = name
        self.namespace = namespace
        self.home = home

    def plug(self, interface: str, switch: str, address: str) -> None:
        """Lead `interface` to a switch."""
        port = f"{self.name}-{interface}"
        ip(
            "link",
            "add",
            interface,
            "netns",
            self.namespace,
            "type",
            "veth",
            "peer",
            "name",
            port,
            "netns",
            switch,
        )
        ip("-n", switch, "link", "set", port, "master", "bridge", "up")
        # Looking for somebody else with this IPv6 address would take a second or two.
        self.ip("addr", "add", address, "dev", interface, *(["nodad"] if ":" in address else []))
        self.ip("link", "set", interface, "up")

    def ip(self, *arguments: str) -> None:
        """Run `ip` here."""
        ip("-n", self.namespace, *arguments)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs another one here."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def environment(self) -> dict[str, str]:
        """Return variables that keep the files of this computer apart from those of others."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("GRIDNODE_", "XDG_"))}
        xdg = {
            f"XDG_{kind}_HOME": str(self.home / kind.lower()) for kind in ("CONFIG", "DATA", "CACHE", "STATE")
        }
        return {**kept, **xdg, "HOME": str(self.home), "OMP_NUM_THREADS": "1"}

    def gridnode(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run the command `gridnode` here to its end."""
        return subprocess.run(
            self.command(sys.executable, "-m", "gridnode", *arguments),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @contextlib.contextmanager
    def up(self, *arguments: str) -> Iterator[RunningNode]:
        """Start a node here; it is stopped gently at the end, unless it ended before."""
        self.home.mkdir(parents=True, exist_ok=True)
        log = self.home / "log.txt"
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                self.command(
                    sys.executable, "-m", "gridnode", "up", "--json", "--log-level", "info", *arguments
                ),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        with process:
            try:
                yield RunningNode(self, process, log)
            finally:
                process.terminate()
                try:
                    process.wait(timeout=20)
                finally:
                    process.kill()


class RunningNode:
    """A node on a host of the lab."""

    def __init__(self, host: Host, process: subprocess.Popen[str], log: Path) -> None:
        self.host = host
        self.process = process
        self._log = log
        self.peer_id = ""

    def log(self) -> str:
        """Return what it logged so far."""
        return self._log.read_text()

    def wait_listening(self) -> None:
        """Wait until its ports are open."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log()
        self.peer_id = json.loads(line)["peer_id"]

    def status(self) -> dict[str, Any]:
        """Return its status, from its door."""
        found = subprocess.run(
            self.host.command("curl", "-s", "--max-time", "5", "http://127.0.0.1:7337/api/v1/status"),
            capture_output=True,
            check=False,
        )
        assert found.returncode == 0, self.log()
        status: dict[str, Any] = json.loads(found.stdout)
        return status

    @contextlib.contextmanager
    def asking(self, max_tokens: int) -> Iterator[Iterator[list[int]]]:
        """Ask this node; yield the token ids of the answer as they come."""
        question = {"prompt": "Hello", "max_tokens": max_tokens, "ignore_eos": True}
        curl = (
            "curl",
            "-sN",
            "--max-time",
            "120",
            "-d",
            json.dumps(question),
            "http://127.0.0.1:7337/api/v1/run",
        )
        process = subprocess.Popen(self.host.command(*curl), stdout=subprocess.PIPE, text=True)

        def token_ids() -> Iterator[list[int]]:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("data:"):
                    event = json.loads(line.removeprefix("data:"))
                    assert event["event"] != "failed", (event, self.log())
                    if event["event"] == "delta":
                        yield event["token_ids"]

        with process:
            try:
                yield token_ids()
            finally:
                process.kill()

    def peers(self) -> dict[str, dict[str, Any]]:
        """Return the other nodes of its swarm, by id."""
        return {peer["peer_id"]: peer for peer in self.status()["peers"] if not peer["is_self"]}

    def sees(self, *others: RunningNode) -> bool:
        """Return whether it is linked to exactly `others`."""
        peers = self.peers()
        return peers.keys() == {other.peer_id for other in others} and all(
            peer["path"] != "none" for peer in peers.values()
        )


def ip(*arguments: str) -> None:
    """Run `ip`; what it says stands in the error."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
