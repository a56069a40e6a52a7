/** One turn on the page. It shows what it is given; what people do with it bubbles up as `turn-action`. */
import { adviceFor } from "./advice.js";
import { AnswerState } from "./conversation.js";
import { copyText } from "./copying.js";
import { formatAnswer, formatRoute, formatTokens } from "./figures.js";
import { MarkdownView } from "./markdown_view.js";
import { splitReasoning } from "./reasoning.js";

/** A turn's element, made from the template of its role. */
export class TurnView {
  #markdown = null;
  #reasoning = null;
  #shown = { content: "", isComplete: false };

  constructor(turn) {
    this.turn = turn;
    const template = document.getElementById(turn.role === "user" ? "question-turn" : "answer-turn");
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.addEventListener("click", (event) => this.#onClick(event));
    if (turn.role === "user") this.#prepareEditing();
    else {
      this.#markdown = new MarkdownView(this.#find(".body"));
      this.#reasoning = new MarkdownView(this.#find(".reasoning .markdown"));
    }
  }

  /**
   * Show the turn as it is now.
   *
   * @param versions The turns that can stand in its place.
   * @param isBusy Whether an answer of this chat is being written: no other can be asked for.
   */
  update({ versions, isBusy }) {
    const which = versions.indexOf(this.turn);
    this.#find(".versions").hidden = versions.length < 2;
    this.#find(".which").textContent = `${which + 1}/${versions.length}`;
    this.#find("[data-action=previous]").disabled = which === 0;
    this.#find("[data-action=next]").disabled = which === versions.length - 1;
    for (const button of this.element.querySelectorAll("[data-action=again], [data-action=edit]")) {
      button.disabled = isBusy;
    }
    if (this.turn.role === "user") this.#find(".body").textContent = this.turn.content;
    else this.#showAnswer();
  }

  /** Open the field in which the question can be changed. */
  beginEdit() {
    const field = this.#find(".edit textarea");
    field.value = this.turn.content;
    this.#setEditing(true);
    field.focus();
  }

  /** Put the focus on a button; on its neighbour if it cannot take it. */
  focusButton(action) {
    const other = { previous: "next", next: "previous" }[action];
    const wanted = [action, other].map((name) => this.#find(`[data-action=${name}]`));
    wanted.find((button) => button && !button.disabled)?.focus();
  }

  #showAnswer() {
    const { content, answer } = this.turn;
    const isWriting = answer.state === AnswerState.WRITING;
    this.element.classList.toggle("writing", isWriting);
    this.element.setAttribute("aria-busy", String(isWriting));
    this.#showText(content, !isWriting);
    const progress = this.#find(".progress");
    progress.textContent = isWriting && !content ? describeWait(answer) : "";
    this.#showNotes(describeEnd(answer, content));
    this.#showProblem(answer);
    const cost = this.#find(".cost");
    cost.textContent = answer.completionTokens && !isWriting ? formatAnswer(answer) : "";
    cost.title = formatRoute(answer.route);
    this.#find("[data-action=copy]").hidden = !content;
    this.#find(".foot").hidden = isWriting;
  }

  #showText(content, isComplete) {
    if (this.#shown.content === content && this.#shown.isComplete === isComplete) return;
    this.#shown = { content, isComplete };
    const { reasoning, answer, isThinking } = splitReasoning(content);
    const details = this.#find(".reasoning");
    details.hidden = !reasoning;
    details.firstElementChild.textContent = isThinking && !isComplete ? "Reasoning …" : "Reasoning";
    this.#reasoning.show(reasoning, { isComplete });
    this.#markdown.show(answer, { isComplete });
  }

  #showNotes(notes) {
    const list = this.#find(".notes");
    list.hidden = notes.length === 0;
    list.replaceChildren(
      ...notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })),
    );
  }

  #showProblem({ state, error }) {
    const problem = this.#find(".problem");
    problem.hidden = state !== AnswerState.FAILED;
    this.#find(".foot [data-action=again]").hidden = !problem.hidden; // the problem has its own
    if (problem.hidden) return;
    this.#find(".what").textContent = error.message;
    this.#find(".advice").textContent = adviceFor(error.code);
  }

  #prepareEditing() {
    const form = this.#find(".edit");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = form.querySelector("textarea").value.trim();
      if (!text) return;
      this.#setEditing(false);
      this.#act("edited", text);
    });
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      if (event.key !== "Escape") return;
      event.stopPropagation();
      this.#cancelEdit();
    });
  }

  #cancelEdit() {
    this.#setEditing(false);
    this.focusButton("edit");
  }

  #setEditing(isEditing) {
    this.#find(".edit").hidden = !isEditing;
    this.#find(".body").hidden = isEditing;
    this.#find(".foot").hidden = isEditing;
  }

  #onClick(event) {
    const button = event.target.closest("button[data-action]");
    switch (button?.dataset.action) {
      case undefined:
        return;
      case "copy":
        return void copyText(splitReasoning(this.turn.content).answer, button);
      case "copy-code":
        return void copyText(button.closest(".code-frame").querySelector("pre").textContent, button);
      case "edit":
        return this.beginEdit();
      case "cancel-edit":
        return this.#cancelEdit();
      default:
        this.#act(button.dataset.action);
    }
  }

  #act(action, text = "") {
    const detail = { action, id: this.turn.id, text };
    this.element.dispatchEvent(new CustomEvent("turn-action", { bubbles: true, detail }));
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }
}

/** Return what the answer is waiting for, while it has no word yet. */
export function describeWait({ route, promptTokens, waiting }) {
  if (waiting) return waiting;
  if (!route.length) return "Opening a session on every hop …";
  return `${formatRoute(route)} is reading ${formatTokens(promptTokens)} tokens …`;
}

/** Return the thin lines under an answer: reroutes, and why it ends where it does. */
export function describeEnd({ notes, state, reason, completionTokens }, content) {
  const lines = [...notes];
  if (state === AnswerState.STOPPED) lines.push(content ? "Stopped here" : "Stopped before the first word");
  if (reason === "length") lines.push(`Cut at ${completionTokens} tokens; Settings allow more`);
  if (state === AnswerState.DONE && !content) lines.push("The model ended its answer before the first word");
  return lines;
}
