from __future__ import annotations

import httpx
import pytest
from doors import with_door
from fake_node import FakeNode

from gridnode.control.petals.form import MAX_FIELDS
from gridnode.errors import CacheFull, ContextFull, GridError, ModelUnknown

VALUES = {"model": "tiny", "inputs": "the capital", "max_new_tokens": "5"}
PATH = "/api/v1/generate"
FORM = {"content-type": "multipart/form-data; boundary=b"}


def test_values_may_stand_anywhere() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        parts = {name: (None, value) for name, value in VALUES.items()}
        heads = {name: f"Content-Disposition: form-data; name={name}" for name in VALUES}
        unquoted = "".join(part(heads[name], value) for name, value in VALUES.items()) + "--b--\r\n"
        answers = [
            await http.post(PATH, data=VALUES),
            await http.post(PATH, params=VALUES),
            await http.post(PATH, json=VALUES | {"max_new_tokens": 5}),
            await http.post(PATH, files=parts),
            await http.post(PATH, content=unquoted.encode(), headers=FORM),
            await http.post(PATH, params={"max_new_tokens": 9, "model": "tiny"}, data=VALUES),
        ]
        for answer in answers:
            assert answer.json() == {"ok": True, "outputs": "Paris."}

    with_door(node, act)
    assert {(asked.model, asked.prompt, asked.max_tokens) for asked in node.requests} == {
        ("tiny", "the capital", 5)
    }
    assert all(asked.sampling.is_greedy for asked in node.requests)


def test_numbers_as_text_choose_the_tokens() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        values = {"do_sample": "1", "temperature": "0.6", "top_k": "7", "top_p": "0.9"}
        await http.post(PATH, data=VALUES | values | {"repetition_penalty": "1.2"})

    with_door(node, act)
    sampling = node.requests[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.6, 7, 0.9)
    assert sampling.repetition_penalty == 1.2


def test_max_length_counts_the_inputs_too() -> None:
    node = FakeNode()

    async def act(http: httpx.AsyncClient) -> None:
        prompt_tokens = len("the capital")
        values = {"inputs": "the capital"}
        await http.post(PATH, data=values | {"max_length": str(prompt_tokens + 4)})
        full = await http.post(PATH, data=values | {"max_length": str(prompt_tokens)})
        assert full.status_code == 400
        assert full.json()["traceback"].startswith("Maximum length exceeded: ")
        assert str(prompt_tokens) in full.json()["traceback"]

    with_door(node, act)
    assert [asked.max_tokens for asked in node.requests] == [4]


@pytest.mark.parametrize(
    ("error", "status", "begins"),
    [
        (ContextFull(9001, 8192), 400, "Maximum length exceeded: "),
        (CacheFull(900, 100), 503, "attention cache is full: "),
        (ModelUnknown("nobody serves it"), 404, "nobody serves it"),
    ],
)
def test_errors_are_told_as_petals_did(error: GridError, status: int, begins: str) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post(PATH, data=VALUES)
        assert (response.status_code, response.json()["ok"]) == (status, False)
        assert response.json()["traceback"].startswith(begins)
        assert ("retry-after" in response.headers) == (status == 503)

    with_door(FakeNode(error=error), act)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"inputs": "x"}, "max_new_tokens"),
        ({"inputs": "x", "max_new_tokens": "1", "max_length": "5"}, "max_length"),
        ({"max_new_tokens": "1"}, "inputs"),
        ({"inputs": "x", "max_new_tokens": "many"}, "$.max_new_tokens"),
        ({"inputs": "x", "max_new_tokens": "1", "top_p": "0"}, "$.top_p"),
    ],
)
def test_bad_values_are_named(values: dict[str, str], part: str) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post(PATH, data=values)
        assert response.status_code == 400
        assert part in response.json()["traceback"]

    with_door(FakeNode(), act)


def test_bodies_that_are_no_form_are_refused() -> None:
    async def act(http: httpx.AsyncClient) -> None:
        for kind in ("text/plain", "multipart/form-data"):
            response = await http.post(PATH, content=b"hello", headers={"content-type": kind})
            assert response.status_code == 400

    with_door(FakeNode(), act)


def part(head: str, content: str = "x") -> str:
    return f"--b\r\n{head}\r\n\r\n{content}\r\n"


NAMED = 'Content-Disposition: form-data; name="inputs"'


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (part(NAMED), "no end is found behind 1 parts"),
        (part(NAMED) * (MAX_FIELDS + 1) + "--b--", f"no end is found behind {MAX_FIELDS + 1} parts"),
        (
            part("Content-Disposition: form-data; " + "a=b; " * 300 + 'name="x"') + "--b--",
            "part 1 has no name",
        ),
        (part(f'Content-Disposition: form-data; name="{"(" * 900}') + "--b--", "part 1 has no name"),
        (part("Content-Type: text/plain") + "--b--", "part 1 has no name within 1024 bytes"),
        (part('Content-Disposition: form-data; filename="inputs"') + "--b--", "part 1 has no name"),
        ("\r\n" * 1000, "no end is found behind 0 parts"),
    ],
)
def test_forms_that_cannot_be_read_are_refused_with_a_reason(body: str, why: str) -> None:
    async def act(http: httpx.AsyncClient) -> None:
        response = await http.post(PATH, content=body.encode(), headers=FORM)
        assert response.status_code == 400
        assert why in response.json()["traceback"]

    with_door(FakeNode(), act)
