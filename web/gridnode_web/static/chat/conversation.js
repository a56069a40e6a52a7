/**
 * A conversation as a tree of turns: editing a question or asking again adds a version beside the old one.
 *
 * Pure: no page, no clock, no randomness. Turns stand in the order of their making, a parent before its
 * children; `leaf` is the last turn of the branch that is shown.
 */

/** Parent of the first turns. */
export const ROOT = "";

/** What became of an answer. */
export const AnswerState = Object.freeze({
  WRITING: "writing",
  DONE: "done",
  STOPPED: "stopped",
  FAILED: "failed",
});

// A page with more turns than this is slow to show and slower to read; a new chat costs nothing.
export const MAX_TURNS = 2000;
const MAX_TITLE_CHARACTERS = 60;

/** One chat: its turns, its system prompt, and how its next answer is chosen. */
export class Conversation {
  #turns = new Map();
  #childrenOf = new Map();

  constructor({ id, now, model = "", system = "", settings = {} }) {
    this.id = id;
    this.createdAt = now;
    this.changedAt = now;
    this.model = model;
    this.system = system;
    this.settings = settings;
    this.leaf = ROOT;
  }

  /** All turns of all branches, parents first. */
  get turns() {
    return [...this.#turns.values()];
  }

  /** How many turns it takes yet. */
  get freeTurns() {
    return MAX_TURNS - this.#turns.size;
  }

  /** The first question on one short line; empty without one. */
  get title() {
    const first = this.path()[0];
    const line = (first?.content ?? "").replace(/\s+/g, " ").trim();
    return line.length > MAX_TITLE_CHARACTERS ? `${line.slice(0, MAX_TITLE_CHARACTERS - 1)}…` : line;
  }

  turn(id) {
    return this.#turns.get(id);
  }

  /** Add a turn behind `parent` and show the branch that ends with it. */
  add({ id, parent, role, content = "", answer = null }) {
    if (parent !== ROOT && !this.#turns.has(parent)) throw new Error(`no turn ${parent} to follow`);
    if (this.#turns.has(id)) throw new Error(`there is a turn ${id} already`);
    const turn = { id, parent, role, content, answer };
    this.#insert(turn);
    this.leaf = id;
    return turn;
  }

  /** The turns from the first one to `id`, by default those that are shown. */
  path(id = this.leaf) {
    const found = [];
    for (let turn = this.#turns.get(id); turn; turn = this.#turns.get(turn.parent)) found.push(turn);
    return found.reverse();
  }

  /** The turn itself and those that stand in its place, in the order of their making. */
  versions(id) {
    const { parent } = this.#turns.get(id);
    return this.#children(parent);
  }

  /** Show the branch through `id`: below it, always the newest version. An unknown turn changes nothing. */
  choose(id) {
    for (let turn = this.#turns.get(id); turn; turn = this.#children(turn.id).at(-1)) this.leaf = turn.id;
  }

  /**
   * Where the next question belongs: behind the branch that is shown. A question whose answer never began
   * is replaced, because chat templates want turns to alternate.
   */
  parentOfNext() {
    const last = this.#turns.get(this.leaf);
    if (!last) return ROOT;
    if (last.role === "user") return last.parent;
    return last.content ? last.id : this.#turns.get(last.parent).parent;
  }

  /** What the model reads to answer `question`: the system prompt and the branch down to that turn. */
  messages(question) {
    const system = this.system.trim() ? [{ role: "system", content: this.system }] : [];
    const turns = this.path(question).map(({ role, content }) => ({ role, content }));
    return [...system, ...turns];
  }

  /** Take over the turns that `other`, the same chat of another window, has and this one lacks, up to the limit. */
  adopt(other) {
    for (const turn of other.turns) {
      if (this.freeTurns === 0) return;
      if (!this.#turns.has(turn.id)) this.#insert(turn);
    }
  }

  #insert(turn) {
    this.#turns.set(turn.id, turn);
    this.#childrenOf.set(turn.parent, [...this.#children(turn.parent), turn]);
  }

  #children(parent) {
    return this.#childrenOf.get(parent) ?? [];
  }
}
