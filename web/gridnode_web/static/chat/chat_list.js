/** The saved chats at the side; a drawer where the window is narrow. */
import { MAX_CHATS } from "./chat_store.js";

const NARROW = matchMedia("(max-width: 56rem)");

/** What people do with a chat is told by `onAction(action, id)`: `open`, `export` or `delete`. */
export class ChatList {
  #panel = document.getElementById("chats");
  #list = document.getElementById("chat-list");
  #kept = document.getElementById("kept");
  #opener = document.getElementById("open-chats");
  #shade = document.getElementById("shade");

  constructor({ onAction }) {
    this.#list.addEventListener("click", ({ target }) => {
      const button = target.closest("button[data-action]");
      if (!button) return;
      if (button.dataset.action === "open") this.close();
      onAction(button.dataset.action, button.closest("li").dataset.id);
    });
    this.#opener.addEventListener("click", () => this.#open());
    this.#shade.addEventListener("click", () => this.close());
    document.getElementById("close-chats").addEventListener("click", () => this.close());
    this.#panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.#isOpen) return;
      event.stopPropagation(); // it closes the drawer, and does not stop an answer
      this.close();
    });
    NARROW.addEventListener("change", () => this.#setOpen(false));
    this.#setOpen(false);
  }

  /** Show the chats, newest first, and which of them is open. */
  show(summaries, openId) {
    this.#list.replaceChildren(...summaries.map((summary) => item(summary, openId)));
    document.getElementById("delete-all").disabled = summaries.length === 0;
    this.#kept.textContent = summaries.length
      ? `${summaries.length} of ${MAX_CHATS} chats kept in this browser` +
        (summaries.length >= MAX_CHATS ? "; a new one replaces the oldest" : "")
      : "Chats are kept in this browser, nowhere else.";
  }

  /** Say why nothing is kept. */
  showProblem(text) {
    this.#kept.textContent = text;
    document.getElementById("delete-all").disabled = true;
  }

  /** Close the drawer; in a wide window there is none. */
  close() {
    if (!this.#isOpen) return;
    this.#setOpen(false);
    this.#opener.focus();
  }

  get #isOpen() {
    return this.#panel.classList.contains("open");
  }

  #open() {
    this.#setOpen(true);
    this.#panel.querySelector("button").focus();
  }

  #setOpen(isOpen) {
    this.#panel.classList.toggle("open", isOpen);
    this.#panel.inert = NARROW.matches && !isOpen;
    this.#shade.hidden = !isOpen;
    this.#opener.setAttribute("aria-expanded", String(isOpen));
  }
}

function item({ id, title }, openId) {
  const element = document.getElementById("chat-item").content.firstElementChild.cloneNode(true);
  element.dataset.id = id;
  const name = title || "New chat";
  const [open, save, remove] = element.querySelectorAll("button");
  open.textContent = name;
  open.title = name;
  if (id === openId) open.setAttribute("aria-current", "true");
  save.setAttribute("aria-label", `Export “${name}”`);
  save.title = "Export";
  remove.setAttribute("aria-label", `Delete “${name}”`);
  remove.title = "Delete";
  return element;
}
