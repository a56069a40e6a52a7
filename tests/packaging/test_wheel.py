"""The wheel, installed where nothing of the checkout is near: what `pipx install` does."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gridnode

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(wheel: Path, libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `gridnode` of a new environment; its libraries are those that the tests run with."""
    environment = tmp_path_factory.mktemp("pipx") / "gridnode"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index"]
    subprocess.run([*install, "--no-deps", wheel], check=True, timeout=120)
    [site_packages] = environment.glob("lib/python3*/site-packages")
    (site_packages / "libraries.pth").write_text(f"{libraries}\n")
    return environment / "bin" / "gridnode"


def test_the_installed_command_is_the_one_of_the_wheel(
    installed: Path, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    def ask(*arguments: str) -> str:
        command = [installed, *arguments]
        return subprocess.run(
            command,
            env=clean_environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    assert ask("version") == f"gridnode {gridnode.__version__}\n"
    assert "Run large language models" in ask("--help")
    python = [installed.parent / "python", "-c", "import gridnode; print(gridnode.__file__)"]
    found = subprocess.run(
        python, env=clean_environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert Path(found.strip()).is_relative_to(installed.parents[1])


def test_a_service_can_be_installed_from_the_wheel(
    installed: Path, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    command = [installed, "service", "install", "--root", tmp_path]
    subprocess.run(command, env=clean_environment, cwd=tmp_path, timeout=60, check=True)
    unit = (tmp_path / "etc" / "systemd" / "system" / "gridnode.service").read_text()
    assert f"ExecStart={installed} up\n" in unit


def test_the_wheel_holds_everything_that_is_no_code(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"gridnode/systemd/{path.name}" for path in (ROOT / "systemd").iterdir()}
    web = ROOT / "web"
    expected |= {
        path.relative_to(web).as_posix()
        for part in ("static", "templates")
        for path in (web / "gridnode_web" / part).rglob("*")
        if path.is_file()
    }
    expected |= {f"gridnode-{gridnode.__version__}.dist-info/licenses/LICENSE"}
    expected |= {"gridnode/py.typed", "gridnode_web/py.typed", "gridnode_dashboard/py.typed"}
    assert len(expected) > 20
    assert not expected - held
    # What others wrote comes with the licence that they gave it.
    vendored = [name for name in held if "/vendor/" in name]
    assert any("LICENSE" in Path(name).name.upper() for name in vendored)


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    metadata = f"gridnode-{gridnode.__version__}.dist-info"
    assert tops == {"gridnode", "gridnode_dashboard", "gridnode_web", metadata}
