/** The line that says what is wrong with the node or the swarm, and what to do. */
import { shortName } from "./figures.js";

/** `onRetry()` is called by its button. A problem of this page stays until it is dismissed. */
export class NodeNotice {
  #line = document.getElementById("notice");
  #text = document.getElementById("notice-text");
  #button = document.getElementById("notice-action");
  #onRetry;
  #isProblem = false;

  constructor({ onRetry }) {
    this.#onRetry = onRetry;
    this.#button.addEventListener("click", () => this.#act());
  }

  /** The node does not answer. */
  showAway({ problem, pauseS }) {
    this.#isProblem = false;
    this.#show(
      `The node at ${location.host} does not answer (${problem}). Start it with “gridnode up”; ` +
        `this page looks again every ${Math.round(pauseS)} s and keeps what you wrote.`,
      "Look now",
    );
  }

  /** The node answers: say what its swarm lacks, if anything. */
  showStatus(status) {
    const text = lack(status);
    if (text) {
      this.#isProblem = false;
      this.#show(text, "");
    } else if (!this.#isProblem) this.#line.hidden = true;
  }

  /** Something of this page failed. */
  showProblem(text) {
    this.#isProblem = true;
    this.#show(text, "Dismiss");
  }

  #show(text, action) {
    // A status line that is set anew is read out anew.
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#button.hidden = !action;
    this.#button.textContent = action;
    this.#line.hidden = false;
  }

  #act() {
    if (!this.#isProblem) {
      this.#onRetry();
      return;
    }
    this.#isProblem = false;
    this.#line.hidden = true;
  }
}

/** Return what keeps every model of the swarm from answering, and what to do; empty if one answers. */
export function lack({ models, engine }) {
  if (models.some((model) => model.route)) return "";
  if (engine.state === "loading" || engine.state === "starting") {
    return `The node is loading its blocks, ${engine.loaded_blocks} of ${engine.wanted_blocks} done.`;
  }
  if (!models.length) {
    return "Nobody in the swarm serves a model yet. Start a node with “gridnode up --model MODEL”.";
  }
  const { name, gaps, num_blocks } = models[0];
  const missing = gaps.map(([start, end]) => `${start}:${end}`);
  if (!missing.length) return `No route for ${shortName(name)} yet; its nodes are still joining.`;
  return (
    `Blocks ${missing.join(", ")} of 0:${num_blocks} of ${shortName(name)} are served by nobody. ` +
    `Start a node for them with “gridnode up --model ${shortName(name)} --blocks ${missing[0]}”.`
  );
}
