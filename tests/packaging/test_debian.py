"""The Debian package: built, installed by dpkg into a root of its own, run, and removed again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gridnode

DEBIAN = Path(__file__).parents[2] / "packaging" / "debian"
UNITS = sorted(
    path.stem for path in (DEBIAN.parents[1] / "systemd").glob("*.service") if "user" not in path.stem
)

pytestmark = [
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="dpkg wants root to install, also into a scratch root"),
]


@pytest.fixture(scope="module")
def package(wheel: Path, libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package without its libraries: those that the tests run with stand for them."""
    output = tmp_path_factory.mktemp("debian")
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(libraries)}
    subprocess.run(
        [DEBIAN / "build.sh", wheel, output, "--no-deps", "--no-index"],
        env=environment,
        check=True,
        timeout=120,
    )
    [built] = output.glob("*.deb")
    return built


def dpkg(root: Path, *arguments: str | Path) -> None:
    """Run dpkg on a scratch root; its scripts run outside, because nothing could run inside."""
    database = root / "var" / "lib" / "dpkg"
    (database / "updates").mkdir(parents=True, exist_ok=True)
    (database / "info").mkdir(exist_ok=True)
    for name in ("status", "available"):
        (database / name).touch()
    forced = ["--force-depends", "--force-script-chrootless"]
    done = subprocess.run(
        ["dpkg", *forced, f"--root={root}", f"--log={root}/dpkg.log", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def root(package: Path, tmp_path: Path) -> Path:
    """A root that holds this package and nothing else."""
    root = tmp_path / "root"
    dpkg(root, "-i", package)
    return root


def test_it_is_built_from_the_wheel_for_this_python(package: Path) -> None:
    fields = subprocess.run(
        ["dpkg-deb", "--field", package], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "Package: gridnode\n" in fields
    assert f"Version: {gridnode.__version__}\n" in fields
    major, minor = sys.version_info[:2]
    assert f"Depends: python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})\n" in fields


def test_everything_is_where_debian_looks_for_it(root: Path) -> None:
    service = (root / "usr/lib/systemd/system/gridnode.service").read_text()
    assert "ExecStart=/usr/bin/gridnode up\n" in service
    assert (root / "usr/bin/gridnode").readlink() == Path("/opt/gridnode/bin/gridnode")
    for path in (
        "usr/lib/systemd/system/gridnode-monitor.service",
        "usr/lib/systemd/system/gridnode-relay.service",
        "usr/lib/systemd/user/gridnode.service",
        "usr/lib/sysusers.d/gridnode.conf",
        "usr/lib/tmpfiles.d/gridnode.conf",
        "usr/share/doc/gridnode/copyright",
    ):
        assert (root / path).is_file()
    if shutil.which("systemd-sysusers"):
        assert "gridnode:" in (root / "etc/passwd").read_text()


def test_nothing_in_it_remembers_where_it_was_built(root: Path) -> None:
    scripts = [path for path in (root / "opt/gridnode/bin").iterdir() if not path.is_symlink()]
    assert (root / "opt/gridnode/bin/gridnode").read_text().startswith("#!/opt/gridnode/bin/python")
    for path in [*scripts, root / "opt/gridnode/pyvenv.cfg"]:
        assert "/tmp" not in path.read_text(), path


def test_the_command_runs_where_it_is_installed(root: Path, libraries: Path) -> None:
    if Path(sys.base_prefix).is_relative_to("/opt") or libraries.is_relative_to("/opt"):
        pytest.skip("this Python lives in /opt, which the test hides")
    [site_packages] = root.glob("opt/gridnode/lib/python3*/site-packages")
    (site_packages / "libraries.pth").write_text(f"{libraries}\n")
    # In a mount namespace of its own, so that /opt of this computer stays as it is.
    script = 'mount --bind "$1/opt" /opt || exit 77; cd /; shift; exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", root, root / "usr/bin/gridnode"]
    environment = {
        "PATH": os.environ["PATH"],
        "GRIDNODE_CONFIG": str(root / "etc/gridnode/config.toml"),
    }

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    done = ask("version")
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("this computer does not let the tests mount anything")
    assert (done.stdout, done.stderr) == (f"gridnode {gridnode.__version__}\n", "")
    # The configuration that it brings is one that it can read, and changes nothing.
    shown = ask("config", "show", "--origin")
    assert shown.returncode == 0, shown.stderr
    assert "default" in shown.stdout
    assert "file" not in {
        line.rpartition("#")[2].split()[0] for line in shown.stdout.splitlines() if "#" in line
    }


def test_removing_keeps_what_a_person_wrote_and_purging_does_not(root: Path, package: Path) -> None:
    config = root / "etc/gridnode/config.toml"
    config.write_text('[node]\nname = "Ada"\n')
    kept = [root / "var" / kind / "private" / unit for kind in ("lib", "cache") for unit in UNITS]
    for directory in kept:
        directory.mkdir(parents=True)
        (directory / "identity.key").touch()
        directory.parents[1].joinpath(directory.name).symlink_to(directory)
    dpkg(root, "-i", "--force-confold", package)
    assert "Ada" in config.read_text()
    dpkg(root, "--remove", "gridnode")
    assert not (root / "usr/bin/gridnode").is_symlink()
    assert config.exists()
    assert all((directory / "identity.key").exists() for directory in kept)
    dpkg(root, "--purge", "gridnode")
    assert not config.exists()
    assert not [*root.glob("var/*/gridnode*"), *root.glob("var/*/private/gridnode*")]


def run_script(name: str, *arguments: str, directory: Path, systemctl_fails: bool = False) -> list[str]:
    """Run a script of the package as dpkg does; return what it asks a systemd that only takes notes."""
    notes, tools = directory / "notes", directory / "tools"
    tools.mkdir()
    for tool in ("systemctl", "systemd-sysusers", "systemd-tmpfiles"):
        fails = tool == "systemctl" and systemctl_fails and "case $1 in *restart) exit 1 ;; esac"
        (tools / tool).write_text(f'#!/bin/sh\necho "{tool} $*" >>{notes}\n{fails or ""}\n')
        (tools / tool).chmod(0o755)
    # In a mount namespace of its own, where a systemd seems to run.
    script = 'mount -t tmpfs none /run && mkdir -p /run/systemd/system || exit 77; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", DEBIAN / name, *arguments],
        env={"PATH": f"{tools}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("this computer does not let the tests mount anything")
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("systemctl ") for line in notes.read_text().splitlines() if "systemctl" in line]


def test_removing_stops_everything_and_enables_nothing_that_is_gone(tmp_path: Path) -> None:
    [asked] = run_script("prerm", "remove", directory=tmp_path)
    assert asked.startswith("disable --now ")
    assert set(asked.split()[2:]) == {f"{unit}.service" for unit in UNITS}


def test_an_upgrade_neither_waits_for_a_node_nor_fails_with_it(tmp_path: Path) -> None:
    reload, restart = run_script("postinst", "configure", "0.0.9", directory=tmp_path, systemctl_fails=True)
    assert reload == "daemon-reload"
    assert restart.startswith("try-restart --no-block ")
    assert set(restart.split()[2:]) == {f"{unit}.service" for unit in UNITS}
