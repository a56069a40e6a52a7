"""The chat: a conversation with the swarm through the node on this computer."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input, Markdown, Static
from textual.worker import Worker

from gridnode.control.client import ControlClient
from gridnode.control.schema import AnswerEvent, Delta, Finished, Rerouted, Started
from gridnode.errors import BadInput, GridError
from gridnode_dashboard.chat_widgets import ChatHeader, ChatInput
from gridnode_dashboard.conversation import SETTINGS, Conversation, read_conversation
from gridnode_dashboard.following import StatusChanged, follow
from gridnode_dashboard.formatting import format_route, plain

HELP = f"""/model NAME · /system TEXT · /set {"|".join(SETTINGS)} VALUE · /route
/save FILE · /load FILE · /retry · /copy · /clear · /quit
Esc cancels the answer; up and down bring back earlier lines"""


class ChatApp(App[None]):
    """Shows a conversation. Closing it cancels the answer that is being written."""

    CSS = """
    #talk { padding: 0 1; }
    .question { margin: 1 0 0 0; text-style: bold; color: $accent; }
    .note { color: $text-muted; }
    .error { color: $error; }
    #away { background: $warning; color: $text; padding: 0 1; display: none; height: auto; }
    #question { dock: bottom; }
    Markdown { margin: 0; padding: 0; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel_answer", "Cancel the answer", priority=True),
        Binding("r", "look_again", "Retry"),
        Binding("ctrl+c", "quit", show=False, priority=True),
    ]

    def __init__(self, client: ControlClient, conversation: Conversation) -> None:
        super().__init__()
        self.conversation = conversation
        self._client = client
        self._hurry = asyncio.Event()
        self._answering: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield ChatHeader()
        yield Static(id="away", markup=False)
        yield VerticalScroll(id="talk", can_focus=False)
        yield ChatInput()

    def on_mount(self) -> None:
        """Begin to follow the node."""
        self.query_one("#talk").anchor()
        self.query_one(ChatInput).focus()
        self.run_worker(follow(self._client, self.post_message, self._hurry), name="follow")

    def on_status_changed(self, message: StatusChanged) -> None:
        """Show the model and its context, or how to start a node."""
        away, line, header = self.query_one("#away", Static), self.query_one(ChatInput), self._header
        away.display = message.status is None
        if message.status is None:
            away.update(f"{plain(message.problem)}\nWaiting for it; r looks again, Ctrl-C quits.")
            line.disabled = True
            return
        if line.disabled:
            line.disabled = False
            line.focus()
        wanted = self.conversation.model
        for model in message.status.models:
            if not wanted or model.name == wanted or model.manifest.startswith(wanted):
                header.model, header.limit_tokens = model.name, model.context_tokens
                if not self._is_answering:
                    header.route = plain(model.route)
                return
        header.model, header.limit_tokens, header.route = wanted, 0, ""

    @property
    def _header(self) -> ChatHeader:
        return self.query_one(ChatHeader)

    @property
    def _is_answering(self) -> bool:
        return self._answering is not None and not self._answering.is_finished

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask, or carry out a command."""
        text = event.value.strip()
        if not text:
            return
        if self._is_answering:
            self.note("an answer is being written; Esc cancels it")
            return
        line = self.query_one(ChatInput)
        line.remember(text)
        line.value = ""
        if not text.startswith("/"):
            self.ask(text)
            return
        try:
            self._command(*text[1:].partition(" ")[::2])
        except GridError as exc:
            self.note(str(exc), "error")
        except OSError as exc:
            self.note(f"{exc.strerror}: {exc.filename}; name another file", "error")

    def ask(self, text: str) -> None:
        """Put a question and show its answer as it comes."""
        self.conversation.ask(text)
        self.note(text, "question")
        self._answering = self.run_worker(self._answer(), name="answer", exit_on_error=True)

    def note(self, text: str, kind: str = "note") -> None:
        """Add a line to the conversation on the screen; `kind` is its style."""
        prefix = {"question": "> ", "error": "! "}.get(kind, "· ")
        self.query_one("#talk").mount(Static(prefix + plain(text), classes=kind, markup=False))

    async def _answer(self) -> None:
        parts: list[str] = []
        shown = Markdown(open_links=False)
        await self.query_one("#talk").mount(shown)
        stream = Markdown.get_stream(shown)
        began_s, num_tokens = 0.0, 0
        try:
            async with aclosing(self._client.run(self.conversation.request())) as events:
                async for event in events:
                    self._show_event(event)
                    if isinstance(event, Delta):
                        now_s = asyncio.get_running_loop().time()
                        began_s = began_s or now_s
                        num_tokens += len(event.token_ids)
                        self._header.used_tokens += len(event.token_ids)
                        if now_s > began_s:
                            self._header.tokens_per_s = (num_tokens - 1) / (now_s - began_s)
                        parts.append(plain(event.text))
                        if event.text:
                            await stream.write(parts[-1])
        except GridError as exc:
            self.note(str(exc) + ("" if parts else "; /retry asks again"), "error")
        finally:
            self.conversation.answered("".join(parts))
            await stream.stop()

    def _show_event(self, event: AnswerEvent) -> None:
        if isinstance(event, Started | Rerouted):
            self._header.route = format_route(event.route)
        if isinstance(event, Started):
            self._header.used_tokens = event.prompt_tokens
        elif isinstance(event, Rerouted):
            self.note(f"a hop was lost, rerouted: {format_route(event.route)}")
        elif isinstance(event, Finished):
            self._header.tokens_per_s = event.decode_tokens_per_s
            if event.reason == "length":
                self.note(f"cut at {event.completion_tokens} tokens; /set max_tokens VALUE allows more")

    def action_cancel_answer(self) -> None:
        """Cancel the answer: its leases are freed on every hop."""
        if self._answering is not None and self._is_answering:
            self._answering.cancel()
            self.note("cancelled")

    def action_look_again(self) -> None:
        """Look for the node at once."""
        self._hurry.set()

    def _command(self, name: str, argument: str) -> None:
        argument = argument.strip()
        carry_out = getattr(self, f"_command_{name}", None)
        if carry_out is None:
            raise BadInput(f"there is no command /{name}; /help lists them")
        carry_out(argument)

    def _command_help(self, _: str) -> None:
        self.note(HELP)

    def _command_quit(self, _: str) -> None:
        self.exit()

    def _command_model(self, name: str) -> None:
        self.conversation.model = name
        self._hurry.set()
        self.note(f"model: {name or 'the only one of the swarm'}")

    def _command_system(self, text: str) -> None:
        self.conversation.system = text
        self.note(f"system: {text or 'none'}")

    def _command_set(self, argument: str) -> None:
        name, _, value = argument.partition(" ")
        self.conversation.set(name, value.strip())
        self.note(f"{name} = {value.strip()}")

    def _command_route(self, _: str) -> None:
        self.note(self._header.route or "no route: 'gridnode status' shows which blocks are missing")

    def _command_save(self, name: str) -> None:
        path = _file(name)
        path.write_bytes(self.conversation.to_json())
        self.note(f"saved {len(self.conversation.messages)} messages to {path}")

    def _command_load(self, name: str) -> None:
        loaded = read_conversation(_file(name).read_bytes())
        self._command_clear("")
        self.conversation = loaded
        for turn in loaded.messages:
            if turn.role == "user":
                self.note(turn.content, "question")
            else:
                self.query_one("#talk").mount(Markdown(plain(turn.content), open_links=False))
        self.note(f"loaded {len(loaded.messages)} messages")

    def _command_retry(self, _: str) -> None:
        question = self.conversation.take_back_question() or self._last_question()
        if not question:
            raise BadInput("there is no question to ask again")
        self.ask(question)

    def _last_question(self) -> str:
        """Return a question that got no answer: it is on the screen, not in the conversation."""
        found = [str(shown.content) for shown in self.query(".question").results(Static)]
        return found[-1].removeprefix("> ") if found else ""

    def _command_copy(self, _: str) -> None:
        self.copy_to_clipboard(self.conversation.last_answer())
        self.note("the last answer is copied, if this terminal allows it")

    def _command_clear(self, _: str) -> None:
        self.conversation.messages.clear()
        self.query_one("#talk").remove_children()
        self._header.used_tokens = 0


def _file(name: str) -> Path:
    if not name:
        raise BadInput("a file name is missing; write '/save FILE' or '/load FILE'")
    return Path(name).expanduser()
