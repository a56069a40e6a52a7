"""`gridnode run`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gridnode.cli.options import ApiOption, LogLevel, LogLevelOption
from gridnode.config import DEFAULT_API
from gridnode.errors import BadInput

_ANSWER = "The answer"
_CHOICE = "Choosing tokens"
_NODES = "Choosing nodes (by public name, or the beginning of an id; may be repeated)"


def run(
    model_or_prompt: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="Name of the model; leave it out if the swarm has one."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to ask; '-' or a pipe reads standard input.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="New tokens at most.", rich_help_panel=_ANSWER)
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="Text that ends the answer; may be repeated.", rich_help_panel=_ANSWER),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="Instruction before the conversation.", rich_help_panel=_ANSWER)
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="Continue the text as it stands: no chat template.", rich_help_panel=_ANSWER
        ),
    ] = False,
    adapter: Annotated[
        str,
        typer.Option(
            help="LoRA adapter; only nodes that host it compute.", show_default=False, rich_help_panel=_ANSWER
        ),
    ] = "",
    temperature: Annotated[
        float | None,
        typer.Option(help="0 takes the most probable token, higher is freer.", rich_help_panel=_CHOICE),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Keep the K most probable tokens.", rich_help_panel=_CHOICE)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Keep tokens up to this probability.", rich_help_panel=_CHOICE)
    ] = None,
    repetition_penalty: Annotated[
        float | None, typer.Option(help="Above 1 avoids repeating.", rich_help_panel=_CHOICE)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Same seed, same answer; random if left out.", rich_help_panel=_CHOICE),
    ] = None,
    route: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help="The nodes of the route, in their order.", rich_help_panel=_NODES),
    ] = None,
    allow: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="Use these nodes only.", rich_help_panel=_NODES)
    ] = None,
    block: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="Do not use these nodes.", rich_help_panel=_NODES)
    ] = None,
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            help="Compute the first and the last block at home, on this node or those of --home, or refuse.",
            rich_help_panel=_NODES,
        ),
    ] = False,
    home: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="A node of yours, by at least 16 characters of its id; for --private.",
            rich_help_panel=_NODES,
        ),
    ] = None,
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
        system=system or "",
        raw=raw,
        adapter=adapter,
        max_tokens=max_tokens,
        stop=tuple(stop or ()),
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
    text = sys.stdin.read() if prompt in (None, "-") else prompt
    if not text or not text.strip():
        raise BadInput("the prompt is empty; write 'gridnode run \"a question\"'")
    return model or "", text
