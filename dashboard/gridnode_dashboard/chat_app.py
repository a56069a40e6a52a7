"""The chat: a conversation with the swarm through the node on this computer."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Markdown, OptionList, Static
from textual.worker import Worker

from gridnode.control.answer_schema import AnswerEvent, Delta, Finished, HopStatus, Rerouted, Started, Waiting
from gridnode.control.client import ControlClient
from gridnode.control.readiness import readiness
from gridnode.control.status_schema import ModelStatus, NodeStatus
from gridnode.errors import GridError
from gridnode.units import format_seconds
from gridnode_dashboard.answer_view import AnswerView
from gridnode_dashboard.chat_commands import COMMANDS, carry_out, find_model
from gridnode_dashboard.chat_widgets import ChatHeader, ChatHint, ChatInput
from gridnode_dashboard.conversation import Conversation
from gridnode_dashboard.following import StatusChanged, follow
from gridnode_dashboard.formatting import format_route, plain
from gridnode_dashboard.input_history import InputHistory
from gridnode_dashboard.live_speed import LiveSpeed
from gridnode_dashboard.starting import NodeStarter

# Every question, answer and note costs time whenever the screen is laid out; the conversation keeps all.
MAX_SHOWN_PARTS = 400
PREFIXES = {"question": "> ", "error": "! "}
COMPLETIONS = tuple(f"/{name}{' ' if command.argument else ''}" for name, command in COMMANDS.items())


class ChatApp(App[None]):
    """Shows a conversation. Closing it cancels the answer that is being written.

    Args:
        history: Earlier lines; None keeps those of this conversation only.
        starter: What to offer if no node answers; None offers nothing.
    """

    CSS = """
    #talk { padding: 0 1; scrollbar-size: 0 1; }
    .question { margin: 1 0 0 0; text-style: bold; color: $accent; }
    .note { color: $text-muted; }
    .error { color: $text-error; }
    .reroute { color: $text-warning; }
    #away { background: $warning-muted; color: $text-warning; padding: 0 1; display: none; height: auto; }
    #offers { display: none; height: auto; max-height: 8; border: none; padding: 0 1; }
    Markdown { margin: 0; padding: 0; }
    """
    TITLE = "gridnode chat"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel_answer", "Cancel the answer", priority=True),
        Binding("ctrl+c", "interrupt", show=False, priority=True),
        Binding("r", "look_again", "Look again", show=False),
    ]

    def __init__(
        self,
        client: ControlClient,
        conversation: Conversation,
        *,
        history: InputHistory | None = None,
        starter: NodeStarter | None = None,
    ) -> None:
        super().__init__()
        self.conversation = conversation
        self.models: tuple[ModelStatus, ...] = ()
        self.hops: tuple[HopStatus, ...] = ()
        self._client = client
        self._history = history or InputHistory()
        self._starter = starter or NodeStarter()
        self._hurry = asyncio.Event()
        self._status: NodeStatus | None = None
        self._answering: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield ChatHeader()
        yield Static(id="away", markup=False)
        yield OptionList(*(plain(offer.label) for offer in self._starter.offers), id="offers", markup=False)
        yield VerticalScroll(id="talk", can_focus=False)
        yield ChatInput(self._history, completions=COMPLETIONS)
        yield ChatHint()

    def on_mount(self) -> None:
        """Begin to follow the node."""
        self.query_one("#talk").anchor()
        self.query_one(ChatInput).focus()
        self.run_worker(follow(self._client, self.post_message, self._hurry), name="follow")

    @property
    def _header(self) -> ChatHeader:
        return self.query_one(ChatHeader)

    @property
    def is_answering(self) -> bool:
        """Whether an answer is being written."""
        return self._answering is not None and not self._answering.is_finished

    def on_status_changed(self, message: StatusChanged) -> None:
        """Show the model and its context, what the node is busy with, or how to start one."""
        if not self.is_running:
            return  # the screen is being taken down
        self._status = message.status
        self._show_absence(message)
        if message.status is None:
            return
        self.models = message.status.models
        header, wanted = self._header, self.conversation.model
        model = find_model(self.models, wanted)
        header.model = model.name if model else wanted
        if model is None or not self.is_answering:
            header.limit_tokens = model.context_tokens if model else 0
            header.route = plain(model.route) if model else ""

    def _show_absence(self, message: StatusChanged) -> None:
        away, offers, line = self.query_one("#away"), self.query_one(OptionList), self.query_one(ChatInput)
        assert isinstance(away, Static)
        ready = readiness(message.status) if message.status else None
        away.display = ready is None or not ready.ready
        is_offering = message.is_absent and bool(self._starter.offers) and not self._starter.is_running
        if is_offering and not offers.display:
            offers.display = True
            offers.highlighted = 0
            offers.focus()
        offers.display = is_offering
        line.disabled = ready is None
        if ready is not None:
            away.update(f"{plain(ready.reason)} …")
            if self.focused is None or self.focused is offers:
                line.focus()
        elif message.is_absent and self._starter.is_running:
            away.update("Starting a node; it runs as long as this chat …")
        else:
            choice = "Start one? Enter does, " if is_offering else "Waiting for it; "
            away.update(f"{plain(message.problem)}\n{choice}r looks again, Ctrl-C leaves.")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Start the node that was chosen."""
        self.run_worker(self._start(event.option_index), name="start")

    async def _start(self, index: int) -> None:
        try:
            await self._starter.run(self._starter.offers[index])
        except GridError as exc:
            self.note(str(exc), "error")
            self.look_again()

    def on_chat_input_submitted(self, event: ChatInput.Submitted) -> None:
        """Ask, or carry out a command; what cannot be done yet stays in the line."""
        text = event.text.strip()
        if not text:
            return
        if self.is_answering:
            self.notify("An answer is being written; Esc cancels it.", timeout=2)
            return
        if not text.startswith("/") and (problem := self._missing()):
            self.notify(problem, title="Not yet", timeout=3, markup=False)
            return
        self.query_one(ChatInput).take()
        self.query_one("#talk").anchor()
        if not text.startswith("/"):
            self.ask(text)
            return
        try:
            carry_out(self, text)
        except GridError as exc:
            self.note(str(exc), "error")

    def _missing(self) -> str:
        """Return why nothing can be asked at the moment, or an empty text."""
        if self._status is None:
            return ""  # not looked yet; without a node the line is closed
        model, ready = find_model(self.models, self.conversation.model), readiness(self._status)
        return "" if ready.ready or (model and model.route) else plain(ready.reason)

    def ask(self, text: str) -> None:
        """Put a question and show its answer as it comes."""
        self.conversation.ask(text)
        self.hops = ()
        self.query_one(ChatHint).text = ChatHint.IDLE
        self.note(text, "question")
        self._answering = self.run_worker(self._answer(), name="answer")

    def note(self, text: str, kind: str = "note") -> None:
        """Add a line to the conversation on the screen; `kind` is its style."""
        shown = PREFIXES.get(kind, "") + plain(text)
        talk = self.query_one("#talk")
        talk.mount(Static(shown, classes=kind, markup=False))
        if len(talk.children) > MAX_SHOWN_PARTS:
            talk.remove_children(talk.children[: -MAX_SHOWN_PARTS // 2])

    async def _answer(self) -> None:
        speed, shown, hint = LiveSpeed(), AnswerView(), self.query_one(ChatHint)
        hint.doing = "reading the question"
        await self.query_one("#talk").mount(shown)
        request = self.conversation.request(secrets.randbelow(2**32))
        try:
            async with aclosing(self._client.run(request)) as events:
                async for event in events:
                    self._show_event(event)
                    if isinstance(event, Delta):
                        self._header.tokens_per_s = speed.note(len(event.token_ids), self._now())
                        self._header.used_tokens += len(event.token_ids)
                        await shown.write(event.text)
                        doing = "thinking" if shown.is_thinking else "writing"
                        hint.doing = f"{doing}, {speed.num_tokens} tokens"
        except GridError as exc:
            self.note(str(exc) + ("" if shown.said else "; /retry asks again"), "error")
            self.look_again()
        finally:
            hint.doing = ""
            try:
                await shown.stop()
            finally:  # cancelled once more, or the screen is gone: two questions in a row break templates
                self.conversation.answered(shown.said)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _show_event(self, event: AnswerEvent) -> None:
        header = self._header
        if isinstance(event, Started | Rerouted):
            self.hops = event.route
            header.route = format_route(event.route)
        if isinstance(event, Waiting):
            before = f"{event.position} in line before this: " if event.position else "waiting: "
            self.query_one(ChatHint).doing = f"{before}{plain(event.text)}"
        elif isinstance(event, Started):
            header.used_tokens = event.prompt_tokens
            header.tokens_per_s = 0.0
            self.query_one(ChatHint).doing = f"reading {event.prompt_tokens} tokens"
        elif isinstance(event, Rerouted):
            self.note(f"── a hop was lost, the answer goes on: {format_route(event.route)} ──", "reroute")
        elif isinstance(event, Finished):
            self._show_end(event)

    def _show_end(self, event: Finished) -> None:
        self.hops = event.route
        self._header.tokens_per_s = event.decode_tokens_per_s
        reroutes = f", {event.reroutes} reroutes" if event.reroutes else ""
        first = f"first after {format_seconds(event.ttft_s)}"
        self.query_one(ChatHint).text = f"{event.completion_tokens} tokens, {first}{reroutes} · /help"
        if event.reason == "length":
            self.note(f"cut at {event.completion_tokens} tokens; /set max_tokens VALUE allows more")

    def action_cancel_answer(self) -> None:
        """Cancel the answer: its leases are freed on every hop."""
        if self._answering is not None and self.is_answering and not self._answering.is_cancelled:
            self._answering.cancel()
            self.note("cancelled")

    def action_interrupt(self) -> None:
        """Copy what is selected, as people expect of Ctrl-C; else cancel the answer; else leave."""
        selected = self.screen.get_selected_text() or self.query_one(ChatInput).selected_text
        if selected:
            self.copy_to_clipboard(selected)
            self.screen.clear_selection()
            self.notify("Copied.", timeout=1)
        elif self.is_answering:
            self.action_cancel_answer()
        else:
            self.exit()

    def action_look_again(self) -> None:
        """Look for the node at once."""
        self.look_again()

    def look_again(self) -> None:
        """Look for the node at once."""
        self._hurry.set()

    def action_scroll_talk(self, pages: int) -> None:
        """Scroll the conversation; at its end it follows the answer again."""
        talk = self.query_one("#talk")
        if pages < 0:
            talk.scroll_page_up()
        else:
            talk.scroll_page_down()

    def show_conversation(self) -> None:
        """Show the conversation as it is now, and nothing else."""
        talk = self.query_one("#talk")
        talk.remove_children()
        for turn in self.conversation.messages:
            if turn.role == "user":
                self.note(turn.content, "question")
            else:
                talk.mount(Markdown(plain(turn.content), open_links=False))
        self._header.used_tokens = 0
