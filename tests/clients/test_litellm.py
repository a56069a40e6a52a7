"""LiteLLM against real nodes with the demo model.

It wants an older client of OpenAI and some hundred megabytes beside, so that it lives in an environment
of its own: `make litellm`.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from served_swarm import ServedSwarm

PYTHON = Path(__file__).parents[2] / ".venv-litellm" / "bin" / "python"

pytestmark = [
    pytest.mark.swarm,
    pytest.mark.smollm,
    pytest.mark.skipif(not PYTHON.exists(), reason="LiteLLM is not installed: make litellm"),
]

# Prints one JSON object: what each of LiteLLM's calls brought.
SCRIPT = """
import json, sys
import litellm

asked = json.loads(sys.argv[1])
model = {"model": "openai/" + asked["model"], "api_base": asked["url"] + "/v1", "api_key": "none"}
question = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
greedy = {**model, "temperature": 0, "max_tokens": 12, "num_retries": 0}
whole = litellm.completion(**greedy, **question)
stream = litellm.completion(**greedy, **question, stream=True, stream_options={"include_usage": True})
chunks = list(stream)
try:
    litellm.completion(**greedy, messages=[{"role": "user", "content": "word " * 3000}])
    refusal = ""
except litellm.ContextWindowExceededError as exc:
    refusal = str(exc)
greedy["model"] = "text-completion-openai/" + asked["model"]
text = litellm.text_completion(**greedy, prompt="One,")
vectors = litellm.embedding(**model, input=["a cat", "a dog"])
dialects = {"ollama_chat": "", "anthropic": "", "petals": "/api/v1/generate"}
others = {
    name: litellm.completion(
        model=f"{name}/{asked['model']}", api_base=asked["url"] + path, api_key="none", temperature=0,
        max_tokens=12, num_retries=0, messages=[{
            "role": "user",
            # Petals continues the words as they stand.
            "content": "The capital of France is" if path else question["messages"][0]["content"],
        }],
    ).choices[0].message.content
    for name, path in dialects.items()
}
print(json.dumps({
    "whole": whole.choices[0].message.content,
    "stream": "".join(chunk.choices[0].delta.content or "" for chunk in chunks),
    "usage": [whole.usage.total_tokens, chunks[-1].usage.total_tokens],
    "refusal": refusal,
    "text": text.choices[0].text,
    "vectors": len(vectors.data),
    "others": others,
}))
"""


@pytest.fixture(scope="module")
def said(demo_swarm: ServedSwarm) -> Any:
    [model] = demo_swarm.run(models(demo_swarm))
    asked = json.dumps({"url": demo_swarm.url, "model": model})
    # It would ask the Internet for prices, and proxies for this computer.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [PYTHON, "-c", SCRIPT, asked],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


async def models(swarm: ServedSwarm) -> list[str]:
    return [model.name for model in swarm.swarm.nodes[0].status().models]


@pytest.mark.client("litellm", "POST /v1/chat/completions")
def test_chats_are_the_same_whole_and_in_chunks(said: Any) -> None:
    assert "Paris" in said["whole"]
    assert said["stream"] == said["whole"]
    assert said["usage"][0] == said["usage"][1]


@pytest.mark.client("litellm", "POST /v1/chat/completions")
def test_too_long_a_prompt_is_known_as_that(said: Any) -> None:
    assert "2048 tokens" in said["refusal"]


@pytest.mark.client("litellm", "POST /v1/completions")
@pytest.mark.client("litellm", "POST /v1/embeddings")
def test_texts_and_vectors_come(said: Any) -> None:
    assert said["text"]
    assert said["vectors"] == 2


@pytest.mark.client("litellm", "POST /api/chat")
@pytest.mark.client("litellm", "POST /v1/messages")
def test_other_dialects_say_the_same(said: Any) -> None:
    assert said["others"]["ollama_chat"] == said["whole"]
    assert said["others"]["anthropic"] == said["whole"]


@pytest.mark.client("litellm", "POST /api/v1/generate")
def test_the_form_of_petals_continues_a_text(said: Any) -> None:
    assert "Paris" in said["others"]["petals"]
