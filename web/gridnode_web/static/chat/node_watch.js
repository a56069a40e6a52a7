/** Following the node: asks again and again which models there are, and notices when it is away and back. */

const PAUSE_S = 3;
// While the node is away the pause grows to this: a laptop may sleep next to a stopped node for days.
const MAX_PAUSE_S = 15;
const DEADLINE_S = 10;

/**
 * Tells its listeners by events: `models` with the answer of `GET /chat/models` as `detail`, and `away`
 * with `detail.problem`, `detail.needsKey` and `detail.pauseS`, the seconds until the next try.
 */
export class NodeWatch extends EventTarget {
  #timer = 0;
  #pauseS = PAUSE_S;
  #isAsking = false;

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
      this.#tell("models", await ask());
      this.#pauseS = PAUSE_S;
    } catch (error) {
      this.#pauseS = Math.min(this.#pauseS * 1.5, MAX_PAUSE_S);
      const { message: problem, needsKey = false } = error;
      this.#tell("away", { problem, needsKey, pauseS: this.#pauseS });
    }
    this.#isAsking = false;
    if (!document.hidden) this.#timer = setTimeout(() => this.lookNow(), this.#pauseS * 1000);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

async function ask() {
  const signal = AbortSignal.timeout(DEADLINE_S * 1000);
  const response = await fetch("/chat/models", { signal, cache: "no-store" }).catch(() => {
    throw new Error(signal.aborted ? `no word for ${DEADLINE_S} s` : "no connection");
  });
  if (response.ok) return response.json();
  const said = await response.json().catch(() => null);
  const error = new Error(said?.error?.message ?? `the node answered with status ${response.status}`);
  throw Object.assign(error, { needsKey: response.status === 401 || response.status === 403 });
}
