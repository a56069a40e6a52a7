/** Writing one answer into its turn, event by event, until it is done, stopped or failed. */
import { AnswerError, streamAnswer } from "./answer_stream.js";
import { AnswerState } from "./conversation.js";
import { formatRoute, hopsOf } from "./figures.js";

// A route that changes more often than this in one answer has been described well enough.
const MAX_NOTES = 32;

/** Return the answer of a turn that is about to be written. */
export function emptyAnswer(model) {
  return {
    state: AnswerState.WRITING,
    model,
    waiting: "",
    route: [],
    limitTokens: 0,
    reason: "",
    promptTokens: 0,
    completionTokens: 0,
    tokensPerS: 0,
    ttftS: 0,
    notes: [],
    error: null,
  };
}

/** Asks the node for one answer. `stop` may be called at any time; `run` returns soon after. */
export class Answering {
  #abort = new AbortController();
  #now;
  #firstTokenAt = null;

  /**
   * @param now Returns seconds on a clock that never goes back.
   */
  constructor({ turn, now = () => performance.now() / 1000 }) {
    this.turn = turn;
    this.#now = now;
  }

  /** End the answer here: its leases are freed on every hop. */
  stop() {
    this.#abort.abort();
  }

  /** Write the answer to `request` into the turn; call `onChange()` after every event. Never throws. */
  async run(request, onChange) {
    const { answer } = this.turn;
    try {
      for await (const event of streamAnswer(request, { signal: this.#abort.signal })) {
        this.#apply(event);
        onChange();
      }
      answer.state = AnswerState.DONE;
    } catch (error) {
      this.#end(error);
    }
  }

  #end(error) {
    const { answer } = this.turn;
    if (this.#abort.signal.aborted) {
      answer.state = AnswerState.STOPPED;
      return;
    }
    answer.state = AnswerState.FAILED;
    const isOurs = error instanceof AnswerError;
    if (!isOurs) console.error(error);
    answer.error = { code: isOurs ? error.code : "internal", message: error.message };
  }

  #apply(event) {
    const { answer } = this.turn;
    switch (event.event) {
      case "waiting":
        if (answer.route.length === 0) {
          answer.waiting = describeLine(event);
        } else if (answer.notes.length < MAX_NOTES) {
          answer.notes.push(`Waiting for nodes: ${event.text}`);
        }
        break;
      case "started":
        answer.waiting = "";
        answer.route = hopsOf(event.route);
        answer.promptTokens = event.prompt_tokens;
        answer.limitTokens = event.context_limit_tokens ?? 0;
        break;
      case "delta":
        this.turn.content += event.text;
        this.#count(event.token_ids.length);
        break;
      case "rerouted":
        answer.route = hopsOf(event.route);
        if (answer.notes.length < MAX_NOTES) {
          answer.notes.push(`A node was lost; the answer went on along ${formatRoute(answer.route)}`);
        }
        break;
      case "finished":
        answer.route = hopsOf(event.route);
        answer.reason = event.reason;
        answer.completionTokens = event.completion_tokens;
        answer.tokensPerS = event.decode_tokens_per_s;
        answer.ttftS = event.ttft_s;
        break;
    }
  }

  #count(numTokens) {
    const { answer } = this.turn;
    answer.completionTokens += numTokens;
    this.#firstTokenAt ??= this.#now();
    const passedS = this.#now() - this.#firstTokenAt;
    if (passedS > 0) answer.tokensPerS = (answer.completionTokens - 1) / passedS;
  }
}

function describeLine({ position, text }) {
  const before = position ? `, behind ${position} other ${position === 1 ? "answer" : "answers"}` : "";
  return `Waiting for room${before}: ${text}`;
}
