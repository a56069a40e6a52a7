/** Chats kept in this browser (IndexedDB), the oldest given up when there are too many. */
import { fromSaved, toSaved } from "./saved_chat.js";

// A list longer than this is no longer looked through; at a usual 20 kB a chat it is 4 MB.
export const MAX_CHATS = 200;

const DATABASE = "gridnode-chat";
const CHATS = "chats";
// Titles and times alone, so that the list does not read every chat.
const SUMMARIES = "summaries";

/** The saved chats. Windows of the same browser share them; each hears of what the others change. */
export class ChatStore extends EventTarget {
  #database;
  #channel = new BroadcastChannel(DATABASE);

  constructor(database) {
    super();
    this.#database = database;
    this.#channel.onmessage = ({ data }) => this.#tell(data);
  }

  /** Open the store; rejects where the browser lets pages keep nothing. */
  static async open() {
    const opening = indexedDB.open(DATABASE, 1);
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore(CHATS, { keyPath: "id" });
      opening.result.createObjectStore(SUMMARIES, { keyPath: "id" });
    };
    return new ChatStore(await done(opening));
  }

  /** Return `{id, title, changedAt}` of every chat, the newest first. */
  async list() {
    const found = await done(this.#stores("readonly")[SUMMARIES].getAll());
    return found.sort((a, b) => b.changedAt - a.changedAt);
  }

  /** Return a chat, or null if it is not kept (any more); rejects if what is kept cannot be read. */
  async load(id) {
    const saved = await done(this.#stores("readonly")[CHATS].get(id));
    return saved ? fromSaved(saved) : null;
  }

  /** Keep a chat with what other windows added to it; the oldest ones beyond the limit go. */
  async save(conversation) {
    const stores = this.#stores("readwrite");
    const before = await done(stores[CHATS].get(conversation.id));
    if (before) conversation.adopt(fromSaved(before));
    put(stores, conversation);
    const summaries = await done(stores[SUMMARIES].getAll());
    summaries.sort((a, b) => b.changedAt - a.changedAt);
    for (const old of summaries.slice(MAX_CHATS)) remove(stores, old.id);
    await committed(stores);
    this.#publish({ id: conversation.id });
  }

  /** Keep a chat as it is, while the page is being closed: nothing here waits for an answer. */
  saveAtOnce(conversation) {
    const stores = this.#stores("readwrite");
    put(stores, conversation);
    stores.transaction.commit();
  }

  /** Forget a chat. */
  async remove(id) {
    const stores = this.#stores("readwrite");
    remove(stores, id);
    await committed(stores);
    this.#publish({ id });
  }

  /** Forget every chat. */
  async clear() {
    const stores = this.#stores("readwrite");
    stores[CHATS].clear();
    stores[SUMMARIES].clear();
    await committed(stores);
    this.#publish({ id: "" });
  }

  #stores(mode) {
    const transaction = this.#database.transaction([CHATS, SUMMARIES], mode);
    return {
      transaction,
      [CHATS]: transaction.objectStore(CHATS),
      [SUMMARIES]: transaction.objectStore(SUMMARIES),
    };
  }

  #publish(change) {
    this.#channel.postMessage(change);
    this.#tell(change, true);
  }

  #tell({ id }, isOwn = false) {
    this.dispatchEvent(new CustomEvent("change", { detail: { id, isOwn } }));
  }
}

function put(stores, conversation) {
  const { id, title, changedAt } = conversation;
  stores[CHATS].put(toSaved(conversation));
  stores[SUMMARIES].put({ id, title, changedAt });
}

function remove(stores, id) {
  stores[CHATS].delete(id);
  stores[SUMMARIES].delete(id);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function committed({ transaction }) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onerror = transaction.onabort = () => reject(transaction.error);
  });
}
