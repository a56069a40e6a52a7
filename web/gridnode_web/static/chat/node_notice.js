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

  /** The node does not answer, or not to us. */
  showAway({ problem, needsKey, pauseS }) {
    this.#isProblem = false;
    const text = needsKey
      ? `The node asks for a key: ${problem}. Reload this page to show it one; what was asked is saved.`
      : `The node at ${location.host} does not answer (${problem}). Start it with “gridnode up”; ` +
        `this page looks again every ${Math.round(pauseS)} s and keeps what you wrote.`;
    this.#show(text, "Look now");
  }

  /** The node answers: say what its swarm lacks, if anything. */
  showModels(found) {
    const text = lack(found);
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
export function lack({ models, ready, reason }) {
  if (models.some((model) => model.route)) return "";
  if (!models.length) {
    return `No model to ask yet: ${reason}. A node serves one with “gridnode up --model MODEL”.`;
  }
  const { name, gaps, num_blocks } = models[0];
  if (!ready || !gaps.length) return `${shortName(name)} has no route yet: ${reason}.`;
  const missing = gaps.map(([start, end]) => `${start}:${end}`);
  return (
    `Blocks ${missing.join(", ")} of 0:${num_blocks} of ${shortName(name)} are served by nobody. ` +
    `Start a node for them with “gridnode up --model ${asArgument(name)} --blocks ${missing[0]}”.`
  );
}

/** A stranger chose the name; nobody should paste more than a name into a shell. */
function asArgument(name) {
  return /^[\w./-]+$/.test(name) ? name : "MODEL";
}
