"""The Homebrew formula: its syntax, its resources, and its steps played on this computer. No Mac is here."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gridnode

ROOT = Path(__file__).parents[2]
HOMEBREW = ROOT / "packaging" / "homebrew"
FORMULA = (HOMEBREW / "gridnode.rb").read_text()
LOCK: dict[str, Any] = tomllib.loads((HOMEBREW / "pylock.toml").read_text())


def program(name: str) -> ModuleType:
    """Return a program of the formula's directory, which is no package."""
    spec = importlib.util.spec_from_file_location(f"homebrew_{name}", HOMEBREW / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


resources = program("resources")


def test_ruby_reads_the_formula() -> None:
    ruby = shutil.which("ruby")
    if ruby is None:
        pytest.skip("ruby is not installed")
    done = subprocess.run(
        [ruby, "-wc", HOMEBREW / "gridnode.rb"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("Syntax OK\n", "")


def test_the_resources_are_those_of_the_lock() -> None:
    assert resources.with_resources(FORMULA, resources.resources(LOCK)) == FORMULA
    names = re.findall(r'^  resource "([^"]+)" do$', FORMULA, flags=re.M)
    assert len(names) == len(set(names)) > 40
    assert not {"torch", "numpy", "gridnode"} & set(names)


def test_the_lock_has_what_the_project_needs() -> None:
    locked = {package["name"]: package["version"] for package in LOCK["packages"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, project["dependencies"]):
        name = canonicalize_name(requirement.name)
        if name not in resources.PROVIDED:
            assert locked[name] in requirement.specifier, f"{requirement}: resources.py lock"


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ({"sdist": {"url": "https://mirror.example/a.tar.gz", "hashes": {"sha256": "0"}}}, "mirror.example"),
        ({"wheels": []}, "0 wheels"),
    ],
)
def test_what_homebrew_could_not_fetch_is_refused(package: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        resources.resources({"packages": [{"name": "a", **package}]})


def test_a_release_changes_its_own_address_and_hash_alone() -> None:
    released = resources.with_release(
        FORMULA, url="https://files.example/gridnode-9.tar.gz", sha256="ab" * 32
    )
    changed = [
        new for old, new in zip(FORMULA.splitlines(), released.splitlines(), strict=True) if old != new
    ]
    assert changed == ['  url "https://files.example/gridnode-9.tar.gz"', f'  sha256 "{"ab" * 32}"']


def test_the_formula_says_what_people_must_know() -> None:
    assert "Local Network" in FORMULA
    assert "sudo brew services start gridnode" in FORMULA
    for line in ('depends_on "pytorch"', "keep_alive successful_exit: false", "log_path", "free_port"):
        assert line in FORMULA


@pytest.mark.swarm
def test_its_steps_install_a_command_and_a_service_that_ends_when_told(
    wheel: Path, libraries: Path, tmp_path: Path
) -> None:
    prefix = tmp_path / "prefix"
    done = subprocess.run(
        [sys.executable, HOMEBREW / "play.py", prefix, "--wheel", wheel, "--libraries", libraries],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the service answered, and ended with exit code 0" in done.stdout
    assert f"gridnode {gridnode.__version__}\n" in done.stdout
    assert '"check":"packages","state":"ok"' in done.stdout
    log = (prefix / "var" / "log" / "gridnode.log").read_text()
    assert "Traceback" not in log
    assert (prefix / "etc" / "gridnode" / "config.toml").stat().st_size > 0
    # The service keeps what it makes with the person who runs it, where the commands look too.
    assert (prefix / "home" / ".local" / "state" / "gridnode").is_dir()
