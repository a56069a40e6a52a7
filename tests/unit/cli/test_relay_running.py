"""What `gridnode relay --json` prints is what the document says."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from gridnode.net.relay_counters import RelayCounters

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"
ANY_PORT = "127.0.0.1:0"


def test_events_of_a_relay_are_documented(tmp_path: Path) -> None:
    options = ("--listen", ANY_PORT, "--metrics", ANY_PORT, "--state-dir", str(tmp_path), "--json")
    command = [sys.executable, "-m", "gridnode", "relay", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as relay:
        assert relay.stdout is not None
        listening = json.loads(relay.stdout.readline())
        relay.send_signal(signal.SIGTERM)
        counters = json.loads(relay.communicate(timeout=60)[0])
    assert (listening.pop("event"), counters.pop("event")) == ("listening", "counters")
    assert counters.keys() == {field.name for field in dataclasses.fields(RelayCounters)}
    [told] = re.findall(r"^`gridnode relay --json` prints .*?\n\n", DOCUMENT.read_text(), flags=re.M | re.S)
    assert {"listening", *listening, "counters"} == set(re.findall(r"`(\w+)`", told))
    assert "[RelayCounters](#relaycounters)" in told
