/** The line in which people write. */

/** `onAsk(text)`, `onStop()`, and `onEditLast()` for the arrow up in an empty line. */
export class Composer {
  #form = document.getElementById("composer");
  #field = document.getElementById("question");
  #send = document.getElementById("send");
  #stop = document.getElementById("stop");
  #canSend = false;

  constructor({ onAsk, onStop, onEditLast }) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.#field.value.trim();
      if (!text || !this.#canSend) return;
      this.#field.value = "";
      this.#grow();
      onAsk(text);
    });
    this.#stop.addEventListener("click", () => {
      onStop();
      this.focus();
    });
    this.#field.addEventListener("input", () => this.#grow());
    this.#field.addEventListener("keydown", (event) => {
      // An Enter that ends the composition of a character is not meant for us.
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && sendsByEnter()) {
        event.preventDefault();
        this.#form.requestSubmit();
      }
      if (event.key === "ArrowUp" && this.#field.value === "") {
        event.preventDefault();
        onEditLast();
      }
    });
  }

  /** Show whether a question can be sent, or a running answer stopped. */
  show({ isBusy, canAsk }) {
    const hadFocus = document.activeElement === this.#stop;
    this.#canSend = canAsk && !isBusy;
    this.#send.hidden = isBusy;
    this.#send.disabled = !this.#canSend;
    this.#stop.hidden = !isBusy;
    if (hadFocus && !isBusy) this.focus();
  }

  /** Put the cursor into the line. */
  focus() {
    this.#field.focus();
  }

  /** As high as its text; the style sheet has the limit. */
  #grow() {
    this.#field.style.height = "auto";
    this.#field.style.height = `${this.#field.scrollHeight + 2}px`;
  }
}

/** On a phone Enter begins a line: its keyboard has no Shift+Enter. */
function sendsByEnter() {
  return !matchMedia("(pointer: coarse) and (hover: none)").matches;
}
