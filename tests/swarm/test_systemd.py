"""The service under a real systemd: this system booted once more, in a container over a throw-away layer.

`systemd-nspawn` starts it without a network; `tests/swarm/systemd/driver.sh` runs inside and writes down what
it saw.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = [pytest.mark.swarm, pytest.mark.netlab]

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "systemd"
PATIENCE_S = 300
# Debian's Python, because homes are hidden from the service, and with them other Pythons.
PYTHON = Path("/usr/bin/python3")
BOOT = """
set -e
mount -t tmpfs -o size=1g,mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
units="$1/root/etc/systemd/system"
install -d "$units"
install -m 644 "$2"/gridnode-test.* "$units"
shift 2
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --boot "$@"
"""


def missing() -> str:
    """Return what this test lacks here; empty if nothing."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("unshare", "systemd-nspawn", "dbus-daemon", "curl"):
        if shutil.which(tool) is None:
            return f"needs {tool}"
    command = [str(PYTHON), "-c", "import sys; print(*sys.version_info[:2])"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    if found != [str(part) for part in sys.version_info[:2]]:
        return f"needs the libraries of the Python in {PYTHON}"
    return ""


@pytest.fixture(scope="module")
def seen(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the driver wrote down, by the names of its files."""
    if why := missing():
        pytest.skip(why)
    layer, told = tmp_path_factory.mktemp("layer"), tmp_path_factory.mktemp("told")
    shutil.copytree(tiny_llama, told / "model", copy_function=shutil.copyfile)
    for path in (told / "model", *(told / "model").iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)  # the service is nobody's friend
    binds = {
        ROOT: "/srv/gridnode",
        Path(sysconfig.get_path("purelib")): "/srv/libraries",
        told / "model": "/srv/model",
        SCRIPTS: "/srv/test",
    }
    command = ["unshare", "--mount", "--propagation", "private", "bash", "-c", BOOT, "bash", layer, SCRIPTS]
    command += [f"--directory={layer}/root", f"--bind={told}:/srv/told"]
    command += [f"--bind-ro={source}:{target}" for source, target in binds.items()]
    done = subprocess.run(
        [*map(str, command), "systemd.unit=gridnode-test.target"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    found = {path.name: path.read_text() for path in told.iterdir() if path.is_file()}
    assert "end" in found, f"{found}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return found


def properties(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_start_returns_when_the_blocks_are_served(seen: dict[str, str]) -> None:
    started = properties(seen["started"])
    assert (started["ActiveState"], started["SubState"]) == ("active", "running")
    assert started["StatusText"].startswith("serving blocks 0:4 of 4 of model, 0 sessions")
    assert json.loads(seen["ready"])["ready"]


def test_it_runs_as_a_user_of_its_own_and_sees_no_homes(seen: dict[str, str]) -> None:
    user, state = seen["user"].split()
    assert user == "gridnode"
    assert state == "700"  # of its directory


def test_the_journal_has_fields(seen: dict[str, str]) -> None:
    [first, *_] = [json.loads(line) for line in seen["journal"].splitlines()]
    assert first["LOGGER"].startswith("gridnode.")
    assert first["PRIORITY"] == "6"
    assert first["_SYSTEMD_UNIT"] == "gridnode.service"


def test_a_reload_takes_over_what_is_live(seen: dict[str, str]) -> None:
    assert json.loads(seen["reloaded"])["public_name"] == "Bo"


def test_the_doctor_knows_the_service(seen: dict[str, str]) -> None:
    findings = {finding["check"]: finding for finding in json.loads(seen["doctor"])["findings"]}
    assert findings["service"]["state"] == "ok"
    assert findings["watchdog"]["state"] == "ok"


def test_a_node_that_hangs_or_dies_is_started_again(seen: dict[str, str]) -> None:
    hung, died = properties(seen["hung"]), properties(seen["died"])
    assert hung["NRestarts"] == "1"
    assert "Watchdog timeout" in seen["watchdog"]
    assert died["NRestarts"] == "2"
    assert died["StatusText"].startswith("serving blocks 0:4 of 4")


def test_stopping_is_gentle_and_keeps_the_identity(seen: dict[str, str]) -> None:
    stopped = properties(seen["stopped"])
    assert (stopped["ActiveState"], stopped["Result"]) == ("inactive", "success")
    assert "identity.pem" in seen["kept"]
    assert "LoadState=not-found" in seen["removed"]
