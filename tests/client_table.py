"""A table of endpoints and real clients, printed behind the tests: each cell comes from tests that ran.

A test says what it shows, once per cell:

    @pytest.mark.client("openai", "POST /v1/chat/completions")
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import pytest

PROPERTY = "client_table"
Cell = tuple[str, str]
"""A client and an endpoint."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "client(name, endpoint): shows that a real client uses an endpoint")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Properties travel with the reports, also from the processes of xdist.
    for item in items:
        for marker in item.iter_markers("client"):
            item.user_properties.append((PROPERTY, list(marker.args)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    outcomes: dict[Cell, list[str]] = defaultdict(list)
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", ()):
                if name == PROPERTY:
                    outcomes[value[0], value[1]].append(outcome)
    if outcomes:
        terminalreporter.section("endpoints and real clients (numbers of tests)")
        for line in table(outcomes):
            terminalreporter.write_line(line)


def table(outcomes: Mapping[Cell, Iterable[str]]) -> list[str]:
    """Return the lines of the table: one row for each endpoint, one column for each client."""
    clients = sorted({client for client, _ in outcomes})
    endpoints = sorted({endpoint for _, endpoint in outcomes}, key=lambda name: name.split(" ")[-1])
    rows = [["endpoint", *clients]]
    for endpoint in endpoints:
        rows.append([endpoint, *(describe(list(outcomes.get((client, endpoint), ()))) for client in clients)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def describe(outcomes: list[str]) -> str:
    """Return what one cell says: failures are never hidden behind what passed."""
    passed = outcomes.count("passed")
    if broken := outcomes.count("failed") + outcomes.count("error"):
        return f"{broken} FAILED"
    if passed:
        return f"{passed} ok"
    return "skipped" if outcomes else "-"
