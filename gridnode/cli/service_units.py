"""The units of systemd: written for this installation, enabled and removed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import gridnode
from gridnode.cli.services import Service
from gridnode.cli.showing import stderr
from gridnode.errors import BadInput
from gridnode.paths import write_atomically

_USER_SOURCE = "gridnode-user.service"
# What `ProtectHome=yes` hides from the units of the computer.
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))


def unit_source(name: str) -> str:
    """Return the unit file `name` as it ships: in the package, or beside it in a checkout."""
    package = Path(gridnode.__file__).parent
    for directory in (package / "systemd", package.parent / "systemd"):
        if (directory / name).exists():
            return (directory / name).read_text(encoding="utf-8")
    raise BadInput(f"this installation of gridnode lacks {name}; install it again")


def unit_text(service: Service, *, user: bool) -> str:
    """Return the unit for this installation: the command that runs now is the one that it starts."""
    if user and service is not Service.NODE:
        raise BadInput(f"a {service} runs for the whole computer; leave --user out")
    source = unit_source(_USER_SOURCE if user else f"{service.unit}.service")
    command = shlex.join(_command())
    return re.sub(r"^ExecStart=/usr/bin/gridnode", lambda _: f"ExecStart={command}", source, flags=re.M)


def first_in_a_home(paths: Iterable[Path]) -> Path | None:
    """Return the first path in a home, by its name or by where its links lead; None if there is none."""
    # Some systems keep homes elsewhere, and have a link in their place.
    homes = {*_HOMES, *(home.resolve() for home in _HOMES)}
    for path in paths:
        places = path.absolute(), path.resolve()
        if any(place.is_relative_to(home) for place in places for home in homes):
            return path
    return None


def install_unit(service: Service, *, user: bool, start: bool, root: str) -> None:
    """Write the unit, and let systemd read, enable and start it.

    Args:
        root: Directory that stands for `/`; nothing is started then.

    Raises:
        BadInput: there is no systemd, or it refuses, or this needs root, or the service could not see the
            program.
    """
    path, text = _unit_path(service, user=user, root=root), unit_text(service, user=user)
    if not user and not root:  # another computer has other homes
        _refuse_homes(service)
    try:
        write_atomically(path, text.encode())
    except PermissionError as exc:
        raise BadInput(f"{path} cannot be written: run it with sudo, or give --user") from exc
    stderr().print(f"written  {path}", highlight=False)
    if root:
        return
    _systemctl("daemon-reload", user=user)
    if start:
        # It is ready once the blocks are served, which may take as long as fetching a model.
        _systemctl("enable", "--now", "--no-block", service.unit, user=user)
    scope = " --user" if user else ""
    stderr().print(
        f"started  systemctl{scope} status {service.unit}"
        if start
        else f"start    systemctl{scope} enable --now {service.unit}",
        highlight=False,
    )
    if user and start:
        stderr().print(
            "         to let it run while you are logged out: loginctl enable-linger", highlight=False
        )


def uninstall_unit(service: Service, *, user: bool, root: str) -> None:
    """Stop, disable and remove the unit.

    Raises:
        BadInput: it is not installed, or systemd refuses, or this needs root.
    """
    path = _unit_path(service, user=user, root=root)
    if not path.exists():
        raise BadInput(
            f"no service is installed at {path}; is it {'the one without' if user else 'yours:'} --user?"
        )
    if not root:
        _systemctl("disable", "--now", service.unit, user=user)
    try:
        path.unlink()
    except PermissionError as exc:
        raise BadInput(f"{path} cannot be removed: run it with sudo") from exc
    if not root:
        _systemctl("daemon-reload", user=user)
    stderr().print(f"removed  {path}", highlight=False)


def _refuse_homes(service: Service) -> None:
    """Raise `BadInput` if what runs now lies where the unit of the computer sees nothing."""
    program, *_ = _command()
    hidden = first_in_a_home([Path(program), Path(sys.executable), Path(gridnode.__file__)])
    if hidden is None:
        return
    alone = ", or give --user" if service is Service.NODE else ""
    raise BadInput(
        f"{hidden} lies in a home, where a service of the computer sees nothing: install gridnode outside of "
        "homes, by the package for Debian or 'sudo pipx install --global gridnode', and run this command of "
        f"that installation{alone}"
    )


def _command() -> list[str]:
    """Return what starts gridnode from anywhere: its script, or the interpreter that runs now."""
    script = Path(sys.argv[0])
    if script.name == "gridnode" and script.exists():
        return [str(script.absolute())]
    return [sys.executable, "-m", "gridnode"]


def _unit_path(service: Service, *, user: bool, root: str) -> Path:
    if user:
        config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        directory = config / "systemd" / "user"
    else:
        directory = Path("/etc/systemd/system")
    if root:
        directory = Path(root) / directory.relative_to("/")
    return directory / f"{service.unit}.service"


def _systemctl(*arguments: str, user: bool) -> None:
    systemctl = shutil.which("systemctl")
    if systemctl is None or not Path("/run/systemd/system").exists():
        raise BadInput(
            "systemd does not run on this computer; start 'gridnode up' by its own service manager"
        )
    command = [systemctl, *(["--user"] if user else []), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise BadInput(f"'{shlex.join(command)}' failed: {reason}")
