"""The table of endpoints and clients says what ran, no more."""

from __future__ import annotations

from client_table import table


def test_each_cell_says_what_its_tests_did() -> None:
    outcomes = {
        ("openai", "POST /v1/chat/completions"): ["passed", "passed"],
        ("curl", "POST /v1/chat/completions"): ["passed", "failed"],
        ("litellm", "GET /v1/models"): ["skipped"],
    }
    assert [line.split() for line in table(outcomes)] == [
        ["endpoint", "curl", "litellm", "openai"],
        ["POST", "/v1/chat/completions", "1", "FAILED", "-", "2", "ok"],
        ["GET", "/v1/models", "-", "skipped", "-"],
    ]
