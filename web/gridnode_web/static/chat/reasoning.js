/** Models that think aloud put it between `<think>` and `</think>` before their answer. Pure. */

const OPENING = /^\s*<think>/;
const CLOSING = "</think>";

/** Return what a model thought and what it says; `isThinking` while the thought has no end yet. */
export function splitReasoning(content) {
  const opening = OPENING.exec(content);
  if (!opening) return { reasoning: "", answer: content, isThinking: false };
  const inside = content.slice(opening[0].length);
  const end = inside.indexOf(CLOSING);
  if (end < 0) return { reasoning: inside.trim(), answer: "", isThinking: true };
  return {
    reasoning: inside.slice(0, end).trim(),
    answer: inside.slice(end + CLOSING.length).trimStart(),
    isThinking: false,
  };
}
