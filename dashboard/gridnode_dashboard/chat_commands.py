"""The chat's commands: what a line that begins with a slash does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gridnode.control.answer_schema import HopStatus
from gridnode.control.status_schema import ModelStatus
from gridnode.errors import BadInput, reason
from gridnode.paths import write_atomically
from gridnode.units import format_bytes
from gridnode_dashboard.conversation import Conversation, read_conversation
from gridnode_dashboard.formatting import format_milliseconds, format_tokens, plain, short_name

# A conversation that fills the longest contexts is some megabytes; anything beyond is another file.
MAX_CONVERSATION_BYTES = 64 * 1024 * 1024


class Talk(Protocol):
    """What commands work on: the chat's screen."""

    conversation: Conversation
    models: tuple[ModelStatus, ...]
    """What the swarm serves, as it was seen last."""

    hops: tuple[HopStatus, ...]
    """The route of the last answer, with its figures if it was finished."""

    def note(self, text: str, kind: str = "note") -> None:
        """Add a line to the screen."""
        ...

    def ask(self, text: str) -> None:
        """Put a question."""
        ...

    def show_conversation(self) -> None:
        """Show the conversation as it is now, and nothing else."""
        ...

    def look_again(self) -> None:
        """Look at the node at once."""
        ...

    def copy_to_clipboard(self, text: str) -> None:
        """Copy through the terminal."""
        ...

    def exit(self) -> None:
        """Leave the chat."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    argument: str
    meaning: str
    carry_out: Callable[[Talk, str], None]


def carry_out(talk: Talk, line: str) -> None:
    """Carry out `line`, which begins with a slash.

    Raises:
        BadInput: there is no such command, or it does not work like that.
    """
    name, _, argument = line.removeprefix("/").partition(" ")
    if name not in COMMANDS:
        raise BadInput(f"there is no command /{name}; /help lists them")
    try:
        COMMANDS[name].carry_out(talk, argument.strip())
    except OSError as exc:
        raise BadInput(f"{reason(exc)}: {argument.strip()}; name another file") from exc


def _help(talk: Talk, _: str) -> None:
    usages = [f"/{name} {command.argument}".strip() for name, command in COMMANDS.items()]
    width = max(map(len, usages))
    pairs = zip(usages, COMMANDS.values(), strict=True)
    lines = [f"{usage:<{width}}  {command.meaning}" for usage, command in pairs]
    keys = {"Esc": "cancels the answer", "Ctrl-C": "copies what is selected, cancels, or leaves"}
    talk.note("\n".join([*lines, *(f"{key:<{width}}  {meaning}" for key, meaning in keys.items())]))


def _quit(talk: Talk, _: str) -> None:
    talk.exit()


def _model(talk: Talk, name: str) -> None:
    if not name:
        talk.note(_describe_models(talk.models, talk.conversation.model))
        return
    found = find_model(talk.models, name)
    if found is None:
        raise BadInput(f"nobody serves {name!r}; /model lists what there is")
    talk.conversation.model = found.name
    talk.look_again()
    talk.note(f"model: {short_name(found.name)}")


def _describe_models(models: Sequence[ModelStatus], wanted: str) -> str:
    if not models:
        return "no model is served yet"
    present = find_model(models, wanted)
    lines = [
        f"{'*' if model is present else ' '} {short_name(model.name)}  "
        + (
            f"context {format_tokens(model.context_tokens)}"
            if model.route
            else "no route: blocks are missing"
        )
        for model in models
    ]
    return "\n".join([*lines, "/model NAME takes another one"])


def find_model(models: Sequence[ModelStatus], wanted: str) -> ModelStatus | None:
    """Return the model that `wanted` names: its name, the start of its name or manifest; empty: the first
    one with a route."""
    if not wanted:
        return next((model for model in models if model.route), models[0] if models else None)
    exact = [model for model in models if wanted in (model.name, model.manifest)]
    lowered = wanted.lower()
    close = [m for m in models if m.name.lower().startswith(lowered) or m.manifest.startswith(lowered)]
    return next(iter(exact + close), None)


def _system(talk: Talk, text: str) -> None:
    talk.conversation.system = text
    talk.note(f"system: {text or 'none'}")


def _set(talk: Talk, argument: str) -> None:
    name, _, value = argument.partition(" ")
    if name:
        talk.conversation.set(name, value.strip())
    settings = talk.conversation.settings()
    talk.note(" · ".join(f"{key} {value}" for key, value in settings.items() if name in ("", key)))


def _route(talk: Talk, _: str) -> None:
    if not talk.hops:
        talk.note("no answer yet, so no route; the line at the top shows where the next question would go")
        return
    talk.note(
        "\n".join(["  node      blocks     link   compute  in all  sent a step  name", *_hops(talk.hops)])
    )


def _hops(hops: Sequence[HopStatus]) -> list[str]:
    return [
        f"{i + 1} {plain(hop.short):<9} {f'{hop.start}:{hop.end}':<7}"
        f"{format_milliseconds(hop.rtt_s):>5} ms"
        f"{format_milliseconds(hop.compute_s if hop.steps else None):>7} ms"
        f"{format_milliseconds(hop.hop_s if hop.steps else None):>5} ms"
        f"{format_bytes(hop.sent_bytes):>12}  {short_name(hop.public_name)}"
        for i, hop in enumerate(hops)
    ]


def _save(talk: Talk, name: str) -> None:
    path = _file(name)
    if path.exists():
        _read_file(path)  # somebody's only copy of something else must not be lost by a slip
    write_atomically(path, talk.conversation.to_json(), mode=0o600)  # what somebody said is nobody else's
    talk.note(f"saved {len(talk.conversation.messages)} messages to {path}")


def _load(talk: Talk, name: str) -> None:
    path = _file(name)
    talk.conversation = _read_file(path)
    talk.show_conversation()
    talk.note(f"loaded {len(talk.conversation.messages)} messages from {path}")


def _read_file(path: Path) -> Conversation:
    if path.stat().st_size > MAX_CONVERSATION_BYTES:
        raise BadInput(f"{path} has {format_bytes(path.stat().st_size)}: this is not a saved conversation")
    return read_conversation(path.read_bytes())


def _file(name: str) -> Path:
    if not name:
        raise BadInput("a file name is missing; write '/save FILE' or '/load FILE'")
    if "\0" in name:
        raise BadInput("no file has a NUL in its name; name another file")
    try:
        return Path(name).expanduser()
    except RuntimeError as exc:
        raise BadInput(f"{name} begins with the home of a user who is not known; write './{name}'") from exc


def _retry(talk: Talk, _: str) -> None:
    question = talk.conversation.take_back_question()
    if not question:
        raise BadInput("there is no question to ask again")
    talk.show_conversation()
    talk.ask(question)


def _copy(talk: Talk, _: str) -> None:
    answer = talk.conversation.last_answer()
    if not answer:
        raise BadInput("there is no answer to copy yet")
    talk.copy_to_clipboard(answer)
    talk.note(f"copied {len(answer)} characters, if this terminal allows it (OSC 52)")


def _clear(talk: Talk, _: str) -> None:
    talk.conversation.messages.clear()
    talk.show_conversation()


COMMANDS = {
    "model": Command("[NAME]", "lists the models, or takes another one", _model),
    "system": Command("TEXT", "sets the instruction before the conversation", _system),
    "set": Command("[NAME VALUE]", "shows or changes temperature, top_p, max_tokens, seed ...", _set),
    "route": Command("", "shows the hops of the last answer and what they did", _route),
    "save": Command("FILE", "keeps the conversation", _save),
    "load": Command("FILE", "brings one back", _load),
    "retry": Command("", "asks the last question again", _retry),
    "copy": Command("", "copies the last answer", _copy),
    "clear": Command("", "begins a new conversation", _clear),
    "help": Command("", "shows this", _help),
    "quit": Command("", "leaves", _quit),
}
