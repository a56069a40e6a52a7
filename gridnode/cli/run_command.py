"""`gridnode run`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gridnode.cli.answer_options import (
    AdapterOption,
    AllowOption,
    BlockOption,
    HomeOption,
    MaxTokensOption,
    PrivateOption,
    RawOption,
    RepetitionPenaltyOption,
    RouteOption,
    SeedOption,
    StopOption,
    SystemOption,
    TemperatureOption,
    TopKOption,
    TopPOption,
)
from gridnode.cli.options import ApiOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API
from gridnode.errors import BadInput


def run(
    model_or_prompt: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Name of the model; leave it out if the swarm has one."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to ask; '-' or a pipe reads standard input.")
    ] = None,
    max_tokens: MaxTokensOption = None,
    stop: StopOption = None,
    system: SystemOption = None,
    raw: RawOption = False,
    adapter: AdapterOption = "",
    temperature: TemperatureOption = None,
    top_k: TopKOption = None,
    top_p: TopPOption = None,
    repetition_penalty: RepetitionPenaltyOption = None,
    seed: SeedOption = None,
    route: RouteOption = None,
    allow: AllowOption = None,
    block: BlockOption = None,
    private: PrivateOption = False,
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events, one JSON object a line.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print route, times and bytes to stderr.")] = False,
    api: ApiOption = DEFAULT_API,
    log_level: LogLevelOption = LogLevel.WARNING,
) -> None:
    """Ask the swarm and print the answer while it comes. Ctrl-C cancels it.

    [bold]Examples[/]

      gridnode run "What is the capital of France?"
      gridnode run SmolLM2-135M-Instruct "Tell me a joke" --temperature 0.8 --stats
      gridnode run --raw --max-tokens 20 "Once upon a time"
      git diff | gridnode run -
      gridnode run --private --home 7lvwnbwxrkbkp3xq "Something that is nobody's business"
    """
    import asyncio

    from gridnode.cli.asking import Question, answer
    from gridnode.logs import configure_logging

    configure_logging(log_level)
    model, text = _model_and_prompt(model_or_prompt, prompt)
    question = Question(
        model=model,
        text=text,
        system=_readable(system or ""),
        raw=raw,
        adapter=adapter,
        max_tokens=max_tokens,
        stop=tuple(map(_readable, stop or ())),
        sampling={
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "repetition_penalty": repetition_penalty,
            "seed": seed,
        },
        routing={
            "route": tuple(route or ()),
            "allow": tuple(allow or ()),
            "block": tuple(block or ()),
            "private": private,
            "home": tuple(home or ()),
        },
    )
    asyncio.run(answer(question, api, as_json=as_json, stats=stats))


def _model_and_prompt(first: str | None, second: str | None) -> tuple[str, str]:
    """Return the model's name, empty if not given, and the prompt; read standard input if asked to."""
    model, prompt = (first, second) if second is not None else ("", first)
    if prompt is None and sys.stdin.isatty():
        raise BadInput("there is nothing to ask; write 'gridnode run \"a question\"', or pipe text into it")
    if prompt is None or prompt == "-":
        text = sys.stdin.buffer.read().decode(errors="replace")
    else:
        text = _readable(prompt)
    if not text.strip():
        raise BadInput("the prompt is empty; write 'gridnode run \"a question\"'")
    return _readable(model or ""), text


def _readable(argument: str) -> str:
    """Return an argument with a mark for what is not UTF-8: Python hides such bytes as half surrogate pairs,
    which no JSON can carry on."""
    return argument.encode(errors="surrogateescape").decode(errors="replace")
