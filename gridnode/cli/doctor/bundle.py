"""What is shown to whoever helps: the report, the configuration and the end of the log, without secrets."""

from __future__ import annotations

import getpass
import io
import json
import os
import socket
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gridnode.cli.doctor.examination import Facts
from gridnode.cli.doctor.findings import Diagnosis
from gridnode.cli.doctor.redaction import Redactor
from gridnode.cli.doctor.report import report
from gridnode.cli.log_reading import last_lines, log_file
from gridnode.config import DEFAULT_SWARM
from gridnode.config.layers import Given, Layer
from gridnode.config.rendering import as_toml
from gridnode.config.settings import settings
from gridnode.control.client_key import client_key
from gridnode.errors import BadInput, NotRunning
from gridnode.logs import LogLevel
from gridnode.paths import write_atomically

# Half a day of a node that is asked all the time.
MAX_LOG_LINES = 2000
# What people ask and answer, if their log has it.
_PRIVATE_LOGGER = "gridnode.node.prompts"
# Who comes is told there with the name that it gave itself.
_NAMING_LOGGER = "gridnode.node.membership"
_NAME_FIELDS = ("public_name", "swarm", "api_hosts", "api_origins")
# Names of accounts that say nothing about anybody.
_COMMON_ACCOUNTS = frozenset({"root", "gridnode"})


def write_bundle(path: Path, diagnosis: Diagnosis, facts: Facts, values: Layer) -> None:
    """Write the ZIP file at `path`, readable by its owner.

    Args:
        values: The configuration with its origins.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        lines = last_lines(log_file(facts.config.state_dir), MAX_LOG_LINES, least=LogLevel.DEBUG)
    except (NotRunning, OSError):
        lines = []
    redactor = Redactor(known_secrets(facts, os.environ))
    data = pack_bundle(diagnosis, facts, values, lines, redactor)
    try:
        write_atomically(path, data, mode=0o600)
    except OSError as exc:
        raise BadInput(f"cannot write {path}: {exc.strerror or exc}") from exc


def pack_bundle(
    diagnosis: Diagnosis, facts: Facts, values: Layer, log_lines: Iterable[str], redactor: Redactor
) -> bytes:
    """Return the ZIP file. Pure."""
    status = msgspec.to_builtins(facts.swarm.status)
    files = {
        "report.txt": redactor(report(diagnosis).plain),
        "report.json": _json(redactor.document(msgspec.to_builtins(diagnosis))),
        "config.toml": redactor(as_toml(_without_names(values, redactor), with_origins=True)),
        "log.jsonl": "".join(f"{line}\n" for line in _log(log_lines, redactor)),
        **({"status.json": _json(redactor.document(status))} if status else {}),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def known_secrets(facts: Facts, environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the secrets of this computer and its swarm that have no form of their own."""
    config, status = facts.config, facts.swarm.status
    heard = [announcement for visit in facts.swarm.visits for announcement in visit.announcements]
    peers = status.peers if status else ()
    swarms = {config.swarm, facts.swarm.swarm.name, *(visit.swarm for visit in facts.swarm.visits)}
    host = socket.gethostname()
    return {
        "name": [
            config.public_name,
            *(announcement.public_name for announcement in heard),
            *(peer.public_name for peer in peers),
        ],
        "swarm": sorted(swarms - {DEFAULT_SWARM, ""}),
        "node": [peer.short for peer in peers],
        "host": [
            *(name for name in (host, host.partition(".")[0]) if name != "localhost"),
            *config.api_hosts,
            *(origin.partition("://")[2].partition(":")[0] for origin in config.api_origins),
        ],
        "home": [home for home in (str(Path.home()),) if home != "/"],
        "user": sorted({_account()} - _COMMON_ACCOUNTS),
        "key": [_key(environ), environ.get("HF_TOKEN", "")],
    }


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""  # a container's user without a name


def _key(environ: Mapping[str, str]) -> str:
    try:
        return client_key(environ)
    except BadInput:
        return ""


def _without_names(values: Layer, redactor: Redactor) -> dict[str, Given]:
    """Return the configuration with names replaced before TOML puts them in quotes."""
    names = {name for name, setting in settings().items() if setting.field in _NAME_FIELDS}
    return {
        name: Given(_redacted(given.value, redactor), given.origin, given.where) if name in names else given
        for name, given in values.items()
    }


def _redacted(value: Any, redactor: Redactor) -> Any:
    return tuple(map(redactor, value)) if isinstance(value, tuple) else redactor(value)


def _log(lines: Iterable[str], redactor: Redactor) -> Iterable[str]:
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # half a line of a full disk may hold half a name
        if not isinstance(record, dict) or record.get("logger") == _PRIVATE_LOGGER:
            continue
        if record.get("logger") == _NAMING_LOGGER and record.get("level") == "info":
            continue
        yield json.dumps(redactor.document(record), ensure_ascii=False)


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)
