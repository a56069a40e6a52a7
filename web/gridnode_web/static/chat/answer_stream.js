/** Asking the node and reading its answer: server-sent events (WHATWG HTML, section 9.2) over `fetch`. */

// The node sends a comment every 10 s; three missing ones mean that the connection is dead.
const MAX_SILENCE_S = 35;

/** The answer ended with an error of the node, or the node could not be reached. */
export class AnswerError extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

/** Turns pieces of a stream into the events that they complete. */
export class EventParser {
  #rest = "";
  #data = "";

  /** Return the events that `piece` completes; comments and what cannot be read are left out. */
  push(piece) {
    const lines = (this.#rest + piece).split("\n");
    this.#rest = lines.pop();
    return lines.map((line) => this.#receiveLine(line.replace(/\r$/, ""))).filter(Boolean);
  }

  #receiveLine(line) {
    if (line.startsWith("data:")) this.#data += line.slice(5);
    if (line !== "" || this.#data === "") return null;
    const data = this.#data;
    this.#data = "";
    return JSON.parse(data);
  }
}

/**
 * Yield the events of the answer to `request` (`POST /api/v1/run`).
 *
 * Aborting `signal` closes the connection, and with it the session: its leases are freed on every hop.
 *
 * @throws {AnswerError} what ended the answer; `AbortError` if `signal` did.
 */
export async function* streamAnswer(request, { signal }) {
  const response = await post(request, signal);
  const parser = new EventParser();
  let isFinished = false;
  for await (const piece of pieces(response.body, signal)) {
    for (const event of parser.push(piece)) {
      if (event.event === "failed") throw new AnswerError({ code: event.code, message: event.text });
      isFinished ||= event.event === "finished";
      yield event;
    }
  }
  if (!isFinished) throw lost("the node ended its answer in the middle");
}

async function post(request, signal) {
  let response;
  try {
    response = await fetch("/api/v1/run", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
      signal,
    });
  } catch {
    signal.throwIfAborted();
    throw lost("the node does not answer");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const said = await response.json().catch(() => null);
  const { code, message } = said?.error ?? {};
  return new AnswerError({
    code: code ?? "internal",
    message: message ?? `the node answered with status ${response.status} and no reason`,
  });
}

/** Yield the text of `body` as it comes; whatever ends it early closes the connection. */
async function* pieces(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await withinSilence(reader.read());
      if (done) return;
      yield value;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof AnswerError ? error : lost("the connection to the node broke in the middle of the answer");
  } finally {
    reader.cancel().catch(() => {}); // it may have ended already
  }
}

async function withinSilence(promise) {
  let timer;
  const silence = new Promise((_, reject) => {
    const error = lost(`the node said nothing for ${MAX_SILENCE_S} s`);
    timer = setTimeout(() => reject(error), MAX_SILENCE_S * 1000);
  });
  try {
    return await Promise.race([promise, silence]);
  } finally {
    clearTimeout(timer);
  }
}

const lost = (message) => new AnswerError({ code: "not_running", message });
