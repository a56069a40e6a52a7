/** Following the node: asks for its status again and again, and notices when it is away and back. */

const PAUSE_S = 3;
// While the node is away the pause grows to this: a laptop may sleep next to a stopped node for days.
const MAX_PAUSE_S = 15;
const DEADLINE_S = 10;

/**
 * Tells its listeners by events: `status` with `detail.status` (as `GET /api/v1/status`), and `away` with
 * `detail.problem` and `detail.pauseS`, the seconds until the next try.
 */
export class NodeWatch extends EventTarget {
  #timer = 0;
  #pauseS = PAUSE_S;
  #headers;
  #isAsking = false;

  /** @param headers Returns the headers of a request. */
  constructor({ headers = () => ({}) } = {}) {
    super();
    this.#headers = headers;
  }

  /** Begin to follow the node; a page that nobody looks at asks nothing. */
  start() {
    addEventListener("online", () => this.lookNow());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.lookNow();
    });
    this.lookNow();
  }

  /** Ask at once. */
  async lookNow() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    clearTimeout(this.#timer);
    try {
      await this.#look();
    } finally {
      this.#isAsking = false;
      if (!document.hidden) this.#timer = setTimeout(() => this.lookNow(), this.#pauseS * 1000);
    }
  }

  async #look() {
    let status;
    try {
      status = await this.#ask();
    } catch (error) {
      this.#pauseS = Math.min(this.#pauseS * 1.5, MAX_PAUSE_S);
      this.#tell("away", { problem: error.message, needsKey: error.needsKey ?? false, pauseS: this.#pauseS });
      return;
    }
    this.#pauseS = PAUSE_S;
    this.#tell("status", { status });
  }

  async #ask() {
    const signal = AbortSignal.timeout(DEADLINE_S * 1000);
    const response = await fetch("/api/v1/status", { signal, cache: "no-store", headers: this.#headers() });
    if (response.ok) return response.json();
    const said = await response.json().catch(() => null);
    const error = new Error(said?.error?.message ?? `the node answered with status ${response.status}`);
    throw Object.assign(error, { needsKey: response.status === 401 || response.status === 403 });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
