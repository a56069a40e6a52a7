"""What is given away holds no secret."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from ailing import HEALTHY
from fake_node import STATUS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gridnode.cli.doctor import bundle
from gridnode.cli.doctor.bundle import known_secrets, pack_bundle, write_bundle
from gridnode.cli.doctor.examination import Facts, diagnose
from gridnode.cli.doctor.redaction import Redactor
from gridnode.cli.doctor.swarm import Visit
from gridnode.config.layers import Given, merge, to_node_config
from gridnode.control.keys import new_secret
from gridnode.core.addresses import Address
from gridnode.core.invitation import Invitation, to_link
from gridnode.core.swarm_pass import SwarmPass
from gridnode.errors import BadInput
from gridnode.logs import LOG_FILE, JsonFormatter

# Names are not made of what stands in every report.
NAMES = st.text("qxzäß\"'\\ 数", min_size=5, max_size=12).map(lambda text: f"Q{text}z")
HOSTS = st.text("qxz", min_size=4, max_size=9).map(lambda text: f"{text}q.example.net")
IPV4 = st.ip_addresses(v=4, network="10.0.0.0/8").map(str) | st.ip_addresses(
    v=4, network="192.168.0.0/16"
).map(str)
IPV6 = st.ip_addresses(v=6, network="2001:db8::/32").map(str)
PEERS = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=52, max_size=52)


def unpack(data: bytes) -> Mapping[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def log_line(message: str, logger: str = "gridnode.node.links", level: int = logging.INFO) -> str:
    return JsonFormatter().format(logging.LogRecord(logger, level, "", 0, message, None, None))


@given(name=NAMES, other=NAMES, swarm=NAMES, host=HOSTS, ipv4=IPV4, ipv6=IPV6, peer=PEERS)
@example(
    name="Qz' \"\\z",
    other="Qquite z",
    swarm="Qswarmz",
    host="qqqqq.example.net",
    ipv4="10.0.0.1",
    ipv6="2001:db8::1",
    peer="a" * 51 + "2",
)
@settings(max_examples=60, deadline=None)
def test_no_secret_is_in_a_bundle(
    name: str, other: str, swarm: str, host: str, ipv4: str, ipv6: str, peer: str
) -> None:
    key = new_secret()
    values = merge(
        {
            "node.name": Given(name, "flag", "--name"),
            "swarm.name": Given(swarm, "environment", "GRIDNODE_SWARM_NAME"),
            "swarm.join": Given((Address(ipv4, 7338), Address(ipv6, 7338)), "user file", "f:3"),
            "api.hosts": Given((host,), "flag", "--api-host"),
            "api.origins": Given((f"https://{host}:8443",), "flag", "--api-origin"),
        }
    )
    visits = (Visit(address=Address(ipv6, 7338), is_joined=True, problem=f"{ipv4}: it answers as {other}"),)
    stranger = replace(
        STATUS.peers[0],
        is_self=False,
        peer_id=peer,
        short=peer[:8],
        public_name=other,
        address=f"{ipv4}:7338",
    )
    facts: Facts = replace(
        HEALTHY,
        config=to_node_config(values),
        swarm=replace(
            HEALTHY.swarm,
            swarm=SwarmPass(name=swarm),
            visits=visits,
            status=replace(STATUS, public_name=name, swarm=swarm, peers=(STATUS.peers[0], stranger)),
        ),
    )
    lines = [
        log_line(f"node {peer[:8]} at {ipv4}:7338 belongs to swarm {swarm!r}, this one to {swarm!r}"),
        log_line(f"cannot join [{ipv6}]:7338: {name} <{host}> said {key}", level=logging.WARNING),
        log_line(f"peer {peer[:8]} joined: {other}", "gridnode.node.membership"),
        log_line(f'0123abcd asked: "my name is {other}, my key {key}"', "gridnode.node.prompts"),
        log_line(f"what {name} and {json.dumps(other)} said")[:-9],
        "not JSON: " + name,
    ]
    secrets = known_secrets(facts, {"GRIDNODE_API_KEY": key})
    files = unpack(pack_bundle(diagnose(facts), facts, values, lines, Redactor(secrets)))
    assert set(files) == {"report.txt", "report.json", "config.toml", "log.jsonl", "status.json"}
    for file, text in files.items():
        for secret in (name, other, swarm, host, ipv4, ipv6, peer, peer[:8], key):
            assert secret not in text, file
            assert json.dumps(secret, ensure_ascii=False)[1:-1] not in text, file
    json.loads(files["report.json"])
    assert files["log.jsonl"].count("\n") == 2


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("at 192.168.1.7:7338 and [2001:db8::7]:7338", "at <address 1>:7338 and [<address 2>]:7338"),
        ("192.168.1.7 is 192.168.1.7", "<address 1> is <address 1>"),
        ("fe80::1%eth0, ::ffff:10.1.2.3", "<address 1>, <address 2>"),
        ("127.0.0.1, 0.0.0.0 and ::1 stay", "127.0.0.1, 0.0.0.0 and ::1 stay"),
        ("2026-11-21T08:45:12.123+00:00", "2026-11-21T08:45:12.123+00:00"),
        (
            "blocks 0:18 of 36, gridnode 0.1.0, torch 2.9.1+cpu",
            "blocks 0:18 of 36, gridnode 0.1.0, torch 2.9.1+cpu",
        ),
        ("peer abcdefgh left, checksum ok", "peer <node 1> left, checksum ok"),
        ("to beo2rurn", "to <node 1>"),
        ("gn-abcdefghijklmnop hf_AbCdEfGhIj", "<key 1> <key 2>"),
        ("from ada.l@example.org at 00:1b:44:11:3a:b7", "from <mail 1> at <address 1>"),
        ("ADA's canada", "<name 1>'s canada"),
        ("ada:bad:cafe", "<name 1>:bad:cafe"),
        ("Ada Lovelace", "<name 1>"),
        ("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----", "<key 1>"),
    ],
)
def test_secrets_become_words(text: str, redacted: str) -> None:
    assert Redactor({"name": ["Ada", "", "Ada Lovelace"]})(text) == redacted


def test_placeholders_are_no_secrets_of_others() -> None:
    assert Redactor({"name": ["host"], "host": ["name"]})("name host") == "<host 1> <name 1>"


def test_the_file_is_for_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LOG_FILE).write_text(log_line("ready") + "\n")
    facts = replace(HEALTHY, config=replace(HEALTHY.config, state_dir=tmp_path))
    file = tmp_path / "report.zip"
    monkeypatch.setattr(bundle, "MAX_LOG_LINES", 5)
    write_bundle(file, diagnose(facts), facts, merge())
    assert file.stat().st_mode & 0o777 == 0o600
    files = unpack(file.read_bytes())
    assert '"ready"' in files["log.jsonl"]
    assert "Ready to serve 18 blocks" in files["report.txt"]
    with pytest.raises(BadInput, match="cannot write"):
        write_bundle(tmp_path / LOG_FILE / "x.zip", diagnose(facts), facts, merge())


def test_an_invitation_is_a_secret_wherever_it_stands() -> None:
    link = to_link(Invitation(swarm=SwarmPass(name="home"), addresses=(Address("192.0.2.7", 7338),)))
    assert Redactor({})(f"cannot join {link} now") == "cannot join <key 1> now"
