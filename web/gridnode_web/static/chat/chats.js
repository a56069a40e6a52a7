/** The chat that is open, the answers that are being written (also in chats that are not), and their saving. */
import { Answering, emptyAnswer } from "./answering.js";
import { Conversation } from "./conversation.js";
import { readSettings, requestFields } from "./settings.js";

// A browser that ends without a word loses at most this much of an answer.
const SAVE_PAUSE_S = 2;
// How long an answer waits in line if the swarm has no room; a person presses Stop before that.
const MAX_WAIT_S = 600;

/**
 * Tells its listeners by events: `change` (show everything anew), `answer` with `detail.turn` and
 * `detail.conversation` (an answer grew), `ended` likewise, and `unsaved` with `detail.problem`.
 *
 * @param store A `ChatStore`, or null where the browser keeps nothing.
 */
export class Chats extends EventTarget {
  #store;
  #running = new Map();
  #saving = new Map();

  constructor({ store }) {
    super();
    this.#store = store;
    this.current = new Conversation({ id: newId(), now: Date.now(), settings: readSettings({}) });
    store?.addEventListener("change", ({ detail }) => this.#onStoreChange(detail));
  }

  /** Whether an answer of `conversation` is being written. */
  isBusy(conversation = this.current) {
    return this.#running.has(conversation.id);
  }

  /** Open an empty chat with the model and the settings of the one that was open. */
  begin() {
    const { model, system, settings } = this.current;
    this.#show(new Conversation({ id: newId(), now: Date.now(), model, system, settings }));
  }

  /** Open a chat that is kept; returns whether there is one. Rejects if it cannot be read. */
  async open(id) {
    const found = this.#running.get(id)?.conversation ?? (await this.#store?.load(id));
    if (found) this.#show(found);
    return Boolean(found);
  }

  /** Add a chat from a file and open it, beside one of the same id. */
  adopt(conversation) {
    conversation.id = newId();
    conversation.changedAt = Date.now();
    this.#show(conversation);
    this.#save(conversation);
  }

  /** Ask a question behind the branch that is shown. */
  ask(text) {
    this.#askAt(this.current.parentOfNext(), text);
  }

  /** Ask another question in the place of `id`: both stay as versions. */
  edit(id, text) {
    this.#askAt(this.current.turn(id).parent, text);
  }

  /** Answer again: beside the answer `id`, or the question `id` anew. */
  again(id) {
    if (!this.#takes(1)) return;
    const turn = this.current.turn(id);
    this.#answer(turn.role === "user" ? turn.id : turn.parent);
  }

  /** Show the version before (-1) or behind (1) the turn `id`; returns the turn that is shown then. */
  turnOver(id, direction) {
    const versions = this.current.versions(id);
    const wanted = versions[versions.findIndex((turn) => turn.id === id) + direction];
    if (!wanted) return this.current.turn(id);
    this.current.choose(wanted.id);
    this.#changed(this.current);
    return wanted;
  }

  /** End the answer of the chat that is open; its leases are freed on every hop. */
  stop() {
    this.#running.get(this.current.id)?.answering.stop();
  }

  /** Give the open chat other settings, a system prompt or a model. */
  configure(changes) {
    Object.assign(this.current, changes);
    this.#changed(this.current);
  }

  /** Forget a chat; one that is open makes room for an empty one. */
  async remove(id) {
    this.#forget(id);
    await this.#store.remove(id);
    if (id === this.current.id) this.begin();
  }

  /** Forget every chat. */
  async clear() {
    for (const id of this.#running.keys()) this.#forget(id);
    await this.#store.clear();
    this.begin();
  }

  /** Keep what is being written, because the page is being closed. */
  saveAtOnce() {
    for (const { conversation } of this.#running.values()) this.#store?.saveAtOnce(conversation);
  }

  #askAt(parent, text) {
    if (!this.#takes(2)) return; // its answer is a turn, too
    const question = this.current.add({ id: newId(), parent, role: "user", content: text });
    this.#answer(question.id);
  }

  /** Whether the open chat takes `numTurns` more now; people are told of one that is full. */
  #takes(numTurns) {
    if (this.isBusy()) return false;
    if (this.current.freeTurns >= numTurns) return true;
    this.#tell("unsaved", { problem: "This chat is as long as a chat can be; begin a new one." });
    return false;
  }

  async #answer(questionId) {
    const conversation = this.current;
    const { model, settings } = conversation;
    const turn = conversation.add({
      ...{ id: newId(), parent: questionId, role: "assistant", answer: emptyAnswer(model) },
    });
    const answering = new Answering({ turn });
    this.#running.set(conversation.id, { conversation, answering });
    this.#changed(conversation);
    const request = {
      model,
      messages: conversation.messages(questionId),
      max_wait_s: MAX_WAIT_S,
      ...requestFields(settings, randomSeed()),
    };
    const onChange = () => {
      this.#tell("answer", { conversation, turn });
      this.#saveSoon(conversation);
    };
    await answering.run(request, onChange);
    // Forgotten in the meantime? Then nobody asks for its end.
    if (this.#running.get(conversation.id)?.answering !== answering) return;
    this.#running.delete(conversation.id);
    this.#tell("ended", { conversation, turn });
    this.#changed(conversation);
  }

  #show(conversation) {
    this.current = conversation;
    this.#tell("change");
  }

  #changed(conversation) {
    conversation.changedAt = Date.now();
    this.#tell("change");
    if (conversation.turns.length) this.#save(conversation);
  }

  #forget(id) {
    const running = this.#running.get(id);
    this.#running.delete(id);
    running?.answering.stop();
    clearTimeout(this.#saving.get(id));
    this.#saving.delete(id);
  }

  #saveSoon(conversation) {
    const { id } = conversation;
    if (this.#saving.has(id)) return;
    const timer = setTimeout(() => this.#save(conversation), SAVE_PAUSE_S * 1000);
    this.#saving.set(id, timer);
  }

  async #save(conversation) {
    clearTimeout(this.#saving.get(conversation.id));
    this.#saving.delete(conversation.id);
    try {
      await this.#store?.save(conversation);
    } catch (error) {
      this.#tell("unsaved", { problem: `This chat is not saved: ${error.message}` });
    }
  }

  /** Another window changed a chat: the open one is read again; one that is written here takes the news. */
  async #onStoreChange({ id, isOwn }) {
    const running = this.#running.get(id)?.conversation;
    if (!isOwn && (running || id === this.current.id)) {
      const found = await this.#store.load(id).catch(() => null);
      if (found && running) running.adopt(found);
      else if (found && this.current.id === id && !this.isBusy()) {
        found.choose(this.current.leaf);
        this.current = found;
      }
    }
    this.#tell("change");
  }

  #tell(type, detail = {}) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// `crypto.randomUUID` is missing in pages of plain HTTP from elsewhere than loopback.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];
