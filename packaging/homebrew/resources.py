"""Write the resources of the Homebrew formula.

    python packaging/homebrew/resources.py lock                # into pylock.toml (takes uv), then:
    python packaging/homebrew/resources.py write               # from pylock.toml into gridnode.rb
    python packaging/homebrew/resources.py release SDIST URL   # what the formula installs

The lock has the form of PEP 751. Whatever package index answers, it must name the files of the Python
Package Index themselves, because that is where Homebrew fetches them.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).parent
FORMULA = HERE / "gridnode.rb"
LOCK = HERE / "pylock.toml"
PROJECT = HERE.parents[1] / "pyproject.toml"

PYTHON = "3.13"
MACOS = "14.0"  # the oldest that the formula allows; onnxruntime has no builds for older ones

PROVIDED = frozenset({"torch", "numpy"})
"""What formulae of Homebrew bring."""

AS_WHEELS = frozenset({"onnx"})
"""What has sources that download others to build, beside what has no sources at all."""

_FILES_HOST = "files.pythonhosted.org"
_BEGIN = "  # Written by resources.py.\n"
_END = "  # End of what resources.py writes.\n"


def resources(lock: Mapping[str, Any]) -> str:
    """Return the resource blocks for the packages of a lock. Pure.

    Raises:
        ValueError: a package has no file that can be installed, or it lies elsewhere than it should.
    """
    blocks = []
    for package in lock["packages"]:
        name = package["name"]
        if name in PROVIDED:
            continue
        file = package.get("sdist")
        using = ""
        if file is None or name in AS_WHEELS:
            wheels: Sequence[Mapping[str, Any]] = package.get("wheels", ())
            if len(wheels) != 1:
                raise ValueError(f"{name} has {len(wheels)} wheels for this platform instead of one")
            [file] = wheels
            # Homebrew would unpack it like any other archive.
            using = ", using: :nounzip"
        url, sha256 = file["url"], file["hashes"]["sha256"]
        if urlsplit(url).hostname != _FILES_HOST:
            raise ValueError(f"{name} is to come from {_FILES_HOST}, not from {url}")
        blocks.append(f'  resource "{name}" do\n    url "{url}"{using}\n    sha256 "{sha256}"\n  end\n')
    return "\n".join(blocks)


def with_resources(formula: str, written: str) -> str:
    """Return a formula with its resource blocks replaced. Pure."""
    before, _, rest = formula.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{written}{_END}{after}"


def with_release(formula: str, *, url: str, sha256: str) -> str:
    """Return a formula that installs the release at `url`. Pure."""
    formula = re.sub(r'^  url ".*"$', f'  url "{url}"', formula, count=1, flags=re.M)
    return re.sub(r'^  sha256 ".*"$', f'  sha256 "{sha256}"', formula, count=1, flags=re.M)


def resolve() -> None:
    """Write the lock anew: the newest versions that fit Apple's own processors."""
    dependencies = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    wanted = [line for line in dependencies if re.split(r"[^\w-]", line)[0] not in PROVIDED]
    options = [
        "--python-version",
        PYTHON,
        "--python-platform",
        "aarch64-apple-darwin",
        "--format",
        "pylock.toml",
    ]
    subprocess.run(
        [
            "uv",
            "pip",
            "compile",
            "-",
            "--upgrade",
            "--quiet",
            "--no-header",
            "--no-annotate",
            *options,
            "-o",
            LOCK,
        ],
        env={**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS},
        input="\n".join(wanted),
        text=True,
        check=True,
    )


def main(arguments: Sequence[str]) -> int:
    """Do what the first argument says; return the exit code."""
    match arguments:
        case ["lock"]:
            resolve()
        case ["write"]:
            pass
        case ["release", sdist, url]:
            sha256 = hashlib.sha256(Path(sdist).read_bytes()).hexdigest()
            FORMULA.write_text(with_release(FORMULA.read_text(), url=url, sha256=sha256))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    lock = tomllib.loads(LOCK.read_text())
    FORMULA.write_text(with_resources(FORMULA.read_text(), resources(lock)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
