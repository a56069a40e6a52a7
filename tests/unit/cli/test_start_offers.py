"""What the chat offers to start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gridnode.cli import start_offers as module
from gridnode.cli.start_offers import SMALL_HUB_MODEL, start_offers
from gridnode.core.addresses import Address

HERE = Address("127.0.0.1", 7337)


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRIDNODE_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.delenv("GRIDNODE_SERVE_MODEL", raising=False)


def test_the_model_of_the_demo_is_offered_if_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installed_model", lambda: "/models/small.gguf")
    (offer,) = start_offers("", HERE)
    assert "small, which is installed here" in offer.label
    assert offer.command[:6] == (sys.executable, "-m", "gridnode", "up", "--model", "/models/small.gguf")
    assert offer.command[6:] == ("--api", "127.0.0.1:7337", "--stop-with-stdin")
    assert start_offers("small", HERE) == (offer,)


def test_without_it_a_small_one_from_the_hub_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_installed_model", lambda: "")
    (offer,) = start_offers("", HERE)
    assert "270 MB" in offer.label
    assert SMALL_HUB_MODEL in offer.command


def test_a_named_model_comes_before_the_configured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRIDNODE_SERVE_MODEL", "org/configured")
    (configured,) = start_offers("", HERE)
    assert "org/configured" in configured.label
    assert "--model" not in configured.command
    (named,) = start_offers("org/other", HERE)
    assert "org/other" in named.command


def test_nothing_can_be_started_on_another_computer() -> None:
    assert start_offers("", Address("192.0.2.1", 7337)) == ()
