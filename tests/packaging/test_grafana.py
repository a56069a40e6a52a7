"""The dashboard for Grafana shows figures that there are, and all of them."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from fake_node import FakeNode
from fake_swarm import small_swarm

from gridnode.control.metrics import render_metrics

FOLDER = Path(__file__).parents[2] / "packaging" / "grafana"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("grafana_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def queries() -> list[str]:
    panels = json.loads((FOLDER / "gridnode.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def told() -> dict[str, set[str]]:
    """Return the names of all samples of a node, each with its labels."""
    found: dict[str, set[str]] = {}
    for line in render_metrics(FakeNode(current=small_swarm())).decode().splitlines():
        sample = re.match(r"(gridnode\w*)(?:\{(.*)\})? ", line)
        if sample:
            found.setdefault(sample[1], set()).update(re.findall(r"(\w+)=\"", sample[2] or ""))
    return found


def test_the_dashboard_is_the_one_that_is_written_down(make: ModuleType) -> None:
    written = (FOLDER / "gridnode.json").read_text()
    assert written == make.text(), "run python packaging/grafana/make.py"


def test_every_figure_of_the_dashboard_is_told_and_none_is_left_out() -> None:
    shown = {name for query in queries() for name in re.findall(r"gridnode_\w+", query)}
    # What prometheus_client adds to counters is no figure of ours.
    assert shown == {name for name in told() if not name.endswith("_created")}


def test_every_label_that_a_query_or_a_legend_names_is_told() -> None:
    figures = told()
    for panel in json.loads((FOLDER / "gridnode.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            names = re.findall(r"gridnode_\w+", target["expr"])
            labels = set().union(*(figures[name] for name in names)) | {"instance"}
            grouped = {
                label
                for found in re.findall(r"by \(([^)]*)\)", target["expr"])
                for label in found.split(", ")
            }
            assert grouped | set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    panels = json.loads((FOLDER / "gridnode.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
