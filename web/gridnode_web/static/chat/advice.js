/** What to do about an error, by its code. Pure. */

const ADVICE = {
  bad_input: "Change the question or the settings and ask again.",
  cache_full: "The nodes are busy with other sessions. Try again in a moment, or allow fewer new tokens in Settings.",
  connection_closed: "Start the node again with “gridnode up”, then try again.",
  context_full: "Edit an earlier question to continue from there, or begin a new chat.",
  engine_failed: "Try again; if it happens again, the log of that node says more.",
  engine_lost: "The node is starting its engine again. Try again in a moment.",
  internal: "Try again; if it happens again, the node’s log says more.",
  key_refused: "Reload this page to show the node a key; what was asked is saved.",
  model_unknown: "Choose another model above, or start a node that serves it.",
  no_capacity: "Try again in a moment, or add a node with “gridnode up”.",
  no_route: "Start a node for the missing blocks, or choose another model above.",
  not_running: "What was written so far is kept. Try again when the node is back.",
  peer_lost: "Nobody else served the blocks of the lost node in time. Try again in a moment.",
  peer_refused: "Try again: another route may have room.",
  rate_limited: "This key has asked for as much as it may for now. Try again in a minute.",
  timeout: "Try again: another route may be faster.",
  wrong_span: "The nodes are moving blocks. Try again in a moment.",
};

/** Return one sentence that says what to do about an error with `code`. */
export function adviceFor(code) {
  return ADVICE[code] ?? ADVICE.internal;
}
