"""Write `gridnode.json`, the dashboard for Grafana: which figures it shows, and how, stands here.

python packaging/grafana/make.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parent / "gridnode.json"

# Grafana's grid has 24 columns.
_COLUMNS = 24
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# A relay that runs alone tells no figures of a node.
_SCRAPED = '{__name__=~"gridnode_info|gridnode_relay_nodes"}'
_CHOSEN = 'instance=~"$instance"'

# Row, panel, unit, kind, width, [(query, legend)]; `@` stands for the chosen nodes.
_PANELS: list[tuple[str, str, str, str, int, list[tuple[str, str]]]] = [
    (
        "Swarm",
        "Nodes by state",
        "short",
        "timeseries",
        8,
        [("sum by (state) (gridnode_nodes{@})", "{{state}}")],
    ),
    (
        "Swarm",
        "Copies of the least served block",
        "short",
        "timeseries",
        8,
        [("min by (model) (gridnode_model_replicas_min{@})", "{{model}}")],
    ),
    (
        "Swarm",
        "Blocks that nobody serves",
        "short",
        "timeseries",
        8,
        [("max by (model) (gridnode_model_missing_blocks{@})", "{{model}}")],
    ),
    (
        "Swarm",
        "Blocks held, by state of their nodes",
        "short",
        "timeseries",
        8,
        [("max by (model, state) (gridnode_model_served_blocks{@})", "{{model}} {{state}}")],
    ),
    (
        "Swarm",
        "Nodes by model and state",
        "short",
        "timeseries",
        8,
        [("max by (model, state) (gridnode_model_nodes{@})", "{{model}} {{state}}")],
    ),
    (
        "Swarm",
        "Tokens per second through one block",
        "short",
        "timeseries",
        8,
        [("max by (model, stat) (gridnode_model_decode_tokens_per_second{@})", "{{model}} {{stat}}")],
    ),
    (
        "Swarm",
        "Blocks of each model",
        "short",
        "stat",
        8,
        [("max by (model) (gridnode_model_blocks{@})", "{{model}}")],
    ),
    (
        "Swarm",
        "Versions",
        "short",
        "timeseries",
        8,
        [("max by (version) (gridnode_node_versions{@})", "{{version}}")],
    ),
    (
        "Swarm",
        "What is scraped",
        "short",
        "stat",
        8,
        [("gridnode_info{@}", "{{instance}}: {{version}}, swarm {{swarm}}")],
    ),
    (
        "Nodes",
        "Tokens computed per second",
        "short",
        "timeseries",
        8,
        [("rate(gridnode_computed_tokens_total{@}[$__rate_interval])", "{{instance}} {{kind}}")],
    ),
    (
        "Nodes",
        "KV cache in use",
        "percentunit",
        "timeseries",
        8,
        [("1 - gridnode_cache_free_tokens{@} / (gridnode_cache_tokens{@} > 0)", "{{instance}}")],
    ),
    (
        "Nodes",
        "Sessions and answers",
        "short",
        "timeseries",
        8,
        [
            ("gridnode_sessions{@}", "{{instance}} sessions"),
            ("gridnode_answers{@}", "{{instance}} answers"),
            ("gridnode_answers_waiting{@}", "{{instance}} waiting"),
        ],
    ),
    (
        "Nodes",
        "Memory of the engine worker",
        "bytes",
        "timeseries",
        8,
        [("gridnode_engine_resident_bytes{@}", "{{instance}}")],
    ),
    (
        "Nodes",
        "Engine: ready, paused",
        "short",
        "timeseries",
        8,
        [("gridnode_engine_ready{@}", "{{instance}} ready"), ("gridnode_paused{@}", "{{instance}} paused")],
    ),
    (
        "Nodes",
        "Restarts of the engine worker in an hour",
        "short",
        "timeseries",
        4,
        [("increase(gridnode_engine_restarts_total{@}[1h])", "{{instance}}")],
    ),
    ("Nodes", "Up", "s", "stat", 4, [("gridnode_uptime_seconds{@}", "{{instance}}")]),
    (
        "Links",
        "Round-trip times, percentiles",
        "s",
        "timeseries",
        12,
        [("gridnode_link_rtt_seconds{@}", "{{instance}} p{{pct}}")],
    ),
    (
        "Links",
        "Other nodes by path",
        "short",
        "timeseries",
        12,
        [("gridnode_links{@}", "{{instance}} {{path}}")],
    ),
    (
        "Links",
        "Streams and tasks",
        "short",
        "timeseries",
        12,
        [("gridnode_streams{@}", "{{instance}} streams"), ("gridnode_tasks{@}", "{{instance}} tasks")],
    ),
    (
        "Relays",
        "Registered nodes",
        "short",
        "timeseries",
        8,
        [("gridnode_relay_nodes{@}", "{{instance}} {{by}}")],
    ),
    (
        "Relays",
        "Bytes forwarded per second",
        "Bps",
        "timeseries",
        8,
        [("rate(gridnode_relay_forwarded_bytes_total{@}[$__rate_interval])", "{{instance}} {{by}}")],
    ),
    (
        "Relays",
        "Packets forwarded per second",
        "pps",
        "timeseries",
        8,
        [("rate(gridnode_relay_forwarded_packets_total{@}[$__rate_interval])", "{{instance}} {{by}}")],
    ),
    (
        "Relays",
        "Packets dropped per second",
        "pps",
        "timeseries",
        8,
        [("rate(gridnode_relay_dropped_packets_total{@}[$__rate_interval])", "{{instance}} {{reason}}")],
    ),
    (
        "Relays",
        "Registrations in an hour",
        "short",
        "timeseries",
        8,
        [("increase(gridnode_relay_registrations_total{@}[1h])", "{{instance}}")],
    ),
    (
        "Relays",
        "Refused in an hour",
        "short",
        "timeseries",
        8,
        [("increase(gridnode_relay_refused_total{@}[1h])", "{{instance}} {{limit}}")],
    ),
]
_HEIGHT = 8


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "title": "gridnode",
        "uid": "gridnode",
        "description": "Swarms of gridnode, from /metrics of one node or several.",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasource(), _instances()]},
        "panels": list(_panels()),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _instances() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Node",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": f"label_values({_SCRAPED}, instance)", "refId": "instance"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    x, y, row, number = 0, 0, "", 0
    for in_row, title, unit, kind, width, queries in _PANELS:
        if in_row != row:
            y += _HEIGHT if row else 0
            row, x, number = in_row, 0, number + 1
            yield {"id": number, "type": "row", "title": row, "gridPos": _place(0, y, _COLUMNS, 1)}
            y += 1
        elif x + width > _COLUMNS:
            x, y = 0, y + _HEIGHT
        number += 1
        yield {
            "id": number,
            "type": kind,
            "title": title,
            "datasource": _DATASOURCE,
            "gridPos": _place(x, y, width, _HEIGHT),
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + i), "expr": query.replace("@", _CHOSEN), "legendFormat": legend}
                for i, (query, legend) in enumerate(queries)
            ],
        }
        x += width


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def text() -> str:
    """Return the file's contents."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    DASHBOARD.write_text(text())
