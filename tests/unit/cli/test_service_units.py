from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridnode.cli import service_units
from gridnode.cli.app import create_app
from gridnode.cli.service_units import first_in_a_home, install_unit, uninstall_unit, unit_text
from gridnode.cli.services import Service
from gridnode.errors import BadInput

UNITS = Path(__file__).parents[3] / "systemd"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.mark.parametrize("user", [False, True])
def test_the_unit_starts_this_installation(user: bool) -> None:
    assert f"\nExecStart={sys.executable} -m gridnode up\n" in unit_text(Service.NODE, user=user)


def test_the_script_is_started_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "with space" / "gridnode"
    script.parent.mkdir()
    script.touch()
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert f"\nExecStart='{script}' up\n" in unit_text(Service.NODE, user=False)


def test_installing_and_removing_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install_unit(Service.NODE, user=False, start=True, root=str(tmp_path))
    unit = tmp_path / "etc/systemd/system/gridnode.service"
    assert unit.read_text() == unit_text(Service.NODE, user=False)
    uninstall_unit(Service.NODE, user=False, root=str(tmp_path))
    assert not unit.exists()
    with pytest.raises(BadInput, match="no service is installed"):
        uninstall_unit(Service.NODE, user=False, root=str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/ada/.config")
    install_unit(Service.NODE, user=True, start=True, root=str(tmp_path))
    assert (tmp_path / "home/ada/.config/systemd/user/gridnode.service").exists()


@pytest.mark.parametrize("service", [Service.RELAY, Service.MONITOR])
def test_a_relay_and_a_monitor_are_installed_beside_the_node(service: Service, tmp_path: Path) -> None:
    install_unit(service, user=False, start=True, root=str(tmp_path))
    unit = tmp_path / f"etc/systemd/system/gridnode-{service}.service"
    assert f"\nExecStart={sys.executable} -m gridnode {service}" in unit.read_text()
    uninstall_unit(service, user=False, root=str(tmp_path))
    assert not unit.exists()
    with pytest.raises(BadInput, match="leave --user out"):
        install_unit(service, user=True, start=True, root=str(tmp_path))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What would have been written on this computer, where systemd does not run meanwhile."""
    paths: list[Path] = []
    monkeypatch.setattr(service_units, "write_atomically", lambda path, _: paths.append(path))
    monkeypatch.setattr(service_units.shutil, "which", lambda _: None)
    return paths


@pytest.mark.parametrize("service", Service)
def test_a_program_in_a_home_is_no_service_of_the_computer(
    service: Service, written: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/home/ada/gridnode/.venv/bin/python")
    refused = CliRunner().invoke(create_app(), ["service", "install", service])
    assert (refused.exit_code, written) == (2, [])
    assert "/home/ada/gridnode/.venv/bin/python lies in a home" in refused.stderr
    assert "sudo pipx install --global gridnode" in refused.stderr
    assert ("or give --user" in refused.stderr) == (service is Service.NODE)


def test_a_program_in_a_home_is_a_service_of_its_owner(
    written: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/home/ada/gridnode/.venv/bin/python")
    with pytest.raises(BadInput, match="systemd does not run on this computer"):
        install_unit(Service.NODE, user=True, start=True, root="")
    assert len(written) == 1


def test_a_link_from_elsewhere_leads_into_a_home_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_units, "_HOMES", (tmp_path / "home",))
    (tmp_path / "elsewhere/ada").mkdir(parents=True)
    link = tmp_path / "gridnode"
    link.symlink_to(tmp_path / "home/ada/gridnode")
    assert first_in_a_home([tmp_path / "homely", link]) == link
    (tmp_path / "home").symlink_to(tmp_path / "elsewhere")
    assert first_in_a_home([tmp_path / "elsewhere/ada"]) == tmp_path / "elsewhere/ada"
    assert first_in_a_home([Path("/opt/gridnode/bin/gridnode")]) is None


@needs_systemd
@pytest.mark.parametrize(
    ("service", "user"), [(Service.NODE, True), *((service, False) for service in Service)]
)
def test_systemd_finds_nothing_wrong_with_the_unit(
    tmp_path: Path, service: Service, user: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    unit = tmp_path / "gridnode.service"
    unit.write_text(unit_text(service, user=user))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(["--user"] if user else []), str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", ["gridnode.service", "gridnode-monitor.service", "gridnode-relay.service"])
def test_little_is_exposed(name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=25", str(UNITS / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout[-300:]
