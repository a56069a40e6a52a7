"""`GET /v1/models`."""

from __future__ import annotations

from dataclasses import replace

from door_calls import call
from fake_node import STATUS, FakeNode

[TINY] = STATUS.models


def test_models_tell_the_context_of_the_present_route() -> None:
    [model] = call(FakeNode(), "GET", "/v1/models").json()["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("tiny", "model", "gridnode")
    assert model["context_window"] == model["max_model_len"] == 8192
    assert model["gridnode"]["route"] == "aaaaaaaa 0:30"


def test_one_model_is_found_by_its_name_even_with_slashes() -> None:
    node = FakeNode(current=replace(STATUS, models=(replace(TINY, name="org/tiny"),)))
    assert call(node, "GET", "/v1/models/org/tiny").json()["id"] == "org/tiny"
    assert call(node, "GET", "/v1/models/org%2Ftiny").json()["id"] == "org/tiny"
    missing = call(node, "GET", "/v1/models/llama")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"
    assert "served now: org/tiny" in missing.json()["error"]["message"]


def test_models_of_one_name_are_told_apart_by_their_manifests() -> None:
    other = replace(TINY, manifest="0" * 64)
    node = FakeNode(current=replace(STATUS, models=(TINY, other)))
    ids = [model["id"] for model in call(node, "GET", "/v1/models").json()["data"]]
    assert ids == ["f" * 12, "0" * 12]
    assert call(node, "GET", f"/v1/models/{ids[1]}").json()["gridnode"]["manifest"] == "0" * 64
