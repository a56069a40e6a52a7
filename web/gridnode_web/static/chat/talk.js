/** The turns of the branch that is shown, kept at their newest line while somebody reads there. */
import { TurnView } from "./turn_view.js";

// Less than a line and a half from the end counts as being there.
const NEAR_END_PX = 36;

/** The scrolling middle of the page. `turn-action` events bubble through its element. */
export class Talk {
  #scroll = document.getElementById("scroll");
  #turns = document.getElementById("turns");
  #welcome = document.getElementById("welcome");
  #newest = document.getElementById("newest");
  #views = new Map();
  #follows = true;

  constructor() {
    this.element = this.#turns;
    this.#scroll.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    this.#newest.addEventListener("click", () => {
      this.toEnd();
      this.#scroll.focus();
    });
    // Who changes an earlier question reads there, not at the end.
    this.#turns.addEventListener("focusin", ({ target }) => {
      if (target.closest(".edit")) this.#follows = false;
    });
    new ResizeObserver(() => this.#stay()).observe(this.#turns);
  }

  /** Show the branch of `conversation` that it has chosen. */
  show(conversation, { isBusy }) {
    const path = conversation.path();
    const views = new Map();
    for (const turn of path) {
      const view = this.#views.get(turn.id);
      views.set(turn.id, view?.turn === turn ? view : new TurnView(turn));
    }
    this.#views = views;
    this.#place([...views.values()].map((view) => view.element));
    for (const [id, view] of views) view.update({ versions: conversation.versions(id), isBusy });
    this.#welcome.hidden = path.length > 0;
    this.#stay();
  }

  /** Show anew what an answer has become; nothing happens if its branch is not shown. */
  refresh(conversation, turn, { isBusy }) {
    this.#views.get(turn.id)?.update({ versions: conversation.versions(turn.id), isBusy });
  }

  /** The view of a turn that is shown, if it is. */
  view(id) {
    return this.#views.get(id);
  }

  /** Go to the newest line and stay there. */
  toEnd() {
    this.#follows = true;
    this.#stay();
  }

  /** Change the elements only where they differ, so that focus, selection and open fields stay. */
  #place(elements) {
    const { children } = this.#turns;
    elements.forEach((element, i) => {
      if (children[i] !== element) this.#turns.insertBefore(element, children[i] ?? null);
    });
    while (children.length > elements.length) this.#turns.lastElementChild.remove();
  }

  #stay() {
    if (this.#follows) this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#newest.hidden = this.#isAtEnd();
  }

  #onScroll() {
    this.#follows = this.#isAtEnd();
    this.#newest.hidden = this.#follows;
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroll;
    return scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
  }
}
