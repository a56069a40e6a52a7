"""The wheel that every package is made from."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", directory, ROOT], check=True, timeout=120
    )
    [built] = directory.glob("gridnode-*.whl")
    return built


@pytest.fixture(scope="session")
def libraries() -> Path:
    """Where the libraries lie that the tests run with: fetching torch anew would take minutes."""
    return Path(sysconfig.get_path("purelib"))


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """The environment without what leads Python to this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
