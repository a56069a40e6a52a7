/** The dialog with the system prompt and the sampling of the chat that is open. */
import { FIELDS, problem, readSettings, stopTexts } from "./settings.js";

/** Edits a copy; `onChange({system, settings})` is told when the dialog closes and all is well. */
export class SettingsForm {
  #dialog = document.getElementById("settings");
  #form = document.getElementById("settings-form");
  #system = document.getElementById("system");
  #stop = document.getElementById("stop-texts");
  #onChange;

  constructor({ onChange }) {
    this.#onChange = onChange;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#finish();
    });
    this.#form.addEventListener("input", ({ target }) => {
      if (target.name in FIELDS) this.#check(target.name);
    });
    // Esc leaves the dialog with what is in it, unless a number is wrong.
    this.#dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.#finish();
    });
    this.#dialog.addEventListener("click", ({ target }) => {
      if (target === this.#dialog) this.#finish(); // beside the form
    });
    document.getElementById("close-settings").addEventListener("click", () => this.#finish());
    document.getElementById("reset-settings").addEventListener("click", () => this.#fill(readSettings({})));
  }

  /** Open the dialog with these settings. */
  open({ system, settings }) {
    this.#system.value = system;
    this.#fill(settings);
    this.#dialog.showModal();
    this.#system.focus();
  }

  #fill(settings) {
    for (const name of Object.keys(FIELDS)) {
      this.#input(name).value = settings[name] ?? "";
      this.#check(name);
    }
    this.#stop.value = settings.stop.join("\n");
  }

  #finish() {
    const wrong = Object.keys(FIELDS).filter((name) => !this.#check(name));
    if (wrong.length) {
      this.#input(wrong[0]).focus();
      return;
    }
    const settings = { stop: stopTexts(this.#stop.value) };
    for (const name of Object.keys(FIELDS)) settings[name] = this.#value(name);
    this.#dialog.close();
    this.#onChange({ system: this.#system.value, settings });
  }

  #check(name) {
    const input = this.#input(name);
    // The browser gives an empty value for what is no number at all.
    const text = input.validity.badInput ? "this is not a number" : problem(name, this.#value(name));
    document.getElementById(`${name}-problem`).textContent = text;
    input.setAttribute("aria-invalid", String(text !== ""));
    return text === "";
  }

  #value(name) {
    const { value } = this.#input(name);
    return value === "" ? null : Number(value);
  }

  #input(name) {
    return document.getElementById(name);
  }
}
