"""Play what Homebrew does with the formula, on any computer, in a scratch prefix.

    python packaging/homebrew/play.py PREFIX --wheel WHEEL --libraries DIRECTORY

The directory of libraries (a site-packages with torch) stands for the formula pytorch and, since nothing is
fetched or built, for the resources too. What is played is read from gridnode.rb: the link to pytorch, the
template of the configuration, and the command, variables and directory of the service.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FORMULA = Path(__file__).parent / "gridnode.rb"
# Importing the modules of a node takes seconds on slow computers.
ANSWER_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """Where Homebrew puts things, by the names that formulae have for it."""

    root: Path

    @property
    def libexec(self) -> Path:
        """The virtual environment."""
        return self.root / "Cellar" / "gridnode" / "libexec"

    def path(self, expression: str) -> Path:
        """Return the path that an expression of Ruby like `etc/"gridnode/config.toml"` names."""
        base, *rest = expression.split("/", 1)
        directory = {"opt_bin": self.root / "opt" / "gridnode" / "bin"}.get(base, self.root / base)
        return directory.joinpath(*(part.strip('"') for part in rest))


def found(pattern: str, text: str) -> str:
    """Return what the group of a pattern matches in the formula.

    Raises:
        ValueError: the formula has nothing like it; this program has to learn its new form.
    """
    match = re.search(pattern, text, flags=re.M | re.S)
    if match is None:
        raise ValueError(f"{FORMULA.name} has nothing like {pattern}")
    return match[1]


def install(formula: str, prefix: Prefix, *, wheel: Path, libraries: Path) -> None:
    """Do what `def install` does."""
    (prefix.root / "home").mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix.libexec], check=True)
    python = prefix.libexec / "bin" / "python"
    [site_packages] = prefix.libexec.glob("lib/python3*/site-packages")
    link = site_packages / found(r'site_packages/"([\w-]+\.pth)"\)\.write', formula)
    link.write_text(f"{libraries}\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)

    opt_bin = prefix.path("opt_bin")
    opt_bin.mkdir(parents=True)
    (opt_bin / "gridnode").symlink_to(prefix.libexec / "bin" / "gridnode")
    template = found(r'^    template = "(.*?)"$', formula)
    done = subprocess.run([python, "-c", template], env=environment(prefix), capture_output=True, check=True)
    config = prefix.path('etc/"gridnode/config.toml"')
    config.parent.mkdir(parents=True)
    config.write_bytes(done.stdout)
    for directory in re.findall(r"^    \((.*?)\)\.mkpath$", formula, flags=re.M):
        prefix.path(directory).mkdir(parents=True)


def environment(prefix: Prefix) -> dict[str, str]:
    """Return the environment with a home in the prefix, without what leads Python or gridnode elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not name.startswith(("GRIDNODE_", "XDG_"))
    }
    return {**kept, "HOME": str(prefix.root / "home")}


def run_service(formula: str, prefix: Prefix) -> int:
    """Start the service as launchd would, on free ports; stop it once it answers; return its exit code."""
    service = found(r"^  service do\n(.*?)^  end", formula)
    program, *arguments = (word.strip() for word in found(r"run \[(.*?)\]", service).split(","))
    command = [str(prefix.path(program.replace('"', ""))), *(word.strip('"') for word in arguments)]
    variables = {
        name: str(prefix.path(value))
        for name, value in re.findall(
            r'(\w+): (\w+/"[^"]+")', found(r"environment_variables (.*?)$", service)
        )
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        api = f"127.0.0.1:{free.getsockname()[1]}"
    log = prefix.path(found(r"^    log_path (.*?)$", service))
    log.parent.mkdir(parents=True)
    # Another node may run here; two of them share no ports.
    apart = {
        "GRIDNODE_API_ADDRESS": api,
        "GRIDNODE_SWARM_LISTEN": "127.0.0.1:0",
        "GRIDNODE_SWARM_MDNS": "false",
    }
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command,
            env={**environment(prefix), **apart, **variables},
            cwd=prefix.path(found(r"working_dir (.*?)$", service)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        ) as process,
    ):
        try:
            wait_for_answer(process, f"http://{api}/health")
            process.send_signal(signal.SIGTERM)
            return process.wait(timeout=STOP_TIMEOUT_S)
        finally:
            process.kill()


def wait_for_answer(process: subprocess.Popen[bytes], url: str) -> None:
    """Return once `url` is answered.

    Raises:
        RuntimeError: the process ended before, or the time is up.
    """
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.URLError as exc:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service does not answer at {url}") from exc
        time.sleep(0.1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, run the command, run the service; return the exit code of the service."""
    parser = argparse.ArgumentParser(description="Play what Homebrew does with the formula.")
    parser.add_argument("prefix", type=Path, help="directory that does not exist yet")
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--libraries", type=Path, required=True)
    options = parser.parse_args(arguments)
    formula = FORMULA.read_text()
    prefix = Prefix(root=options.prefix.absolute())
    install(formula, prefix, wheel=options.wheel, libraries=options.libraries.absolute())
    # The first commands of `test do`; the service stands for the node that it starts.
    for command in re.findall(r'shell_output\("#\{bin\}/(.*?)"\)', formula):
        name, *words = command.split()
        subprocess.run([prefix.path("opt_bin") / name, *words], env=environment(prefix), check=True)
    try:
        code = run_service(formula, prefix)
    except RuntimeError as exc:
        print(exc, file=sys.stderr)
        print((prefix.root / "var" / "log" / "gridnode.log").read_text(), file=sys.stderr)
        return 1
    print(f"the service answered, and ended with exit code {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
