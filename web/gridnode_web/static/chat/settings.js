/** How an answer is chosen: the fields of the form, their ranges, and the request that they make. Pure. */

/** Every number with the range that the door takes; `null` stands for "left open". */
export const FIELDS = Object.freeze({
  temperature: { initial: 0.7, min: 0, max: 100, whole: false },
  top_p: { initial: 0.95, min: 0.01, max: 1, whole: false },
  top_k: { initial: 0, min: 0, max: 1_000_000, whole: true },
  repetition_penalty: { initial: 1, min: 0.01, max: 100, whole: false },
  // 2^53 - 1: beyond it JavaScript's numbers skip some.
  seed: { initial: null, min: 0, max: Number.MAX_SAFE_INTEGER, whole: true },
  max_tokens: { initial: 1024, min: 1, max: 1_000_000, whole: true },
});

// Limits of the door (`MAX_STOP_TEXTS` and the length of each).
const MAX_STOP_TEXTS = 16;
const MAX_STOP_CHARACTERS = 256;

/** Return settings with every field: those of `given` that are in range, else the initial ones. */
export function readSettings(given) {
  const settings = { stop: readStop(given?.stop) };
  for (const [name, field] of Object.entries(FIELDS)) {
    const value = given?.[name];
    settings[name] = problem(name, value) === "" ? value : field.initial;
  }
  return settings;
}

/** Return why `value` cannot stand for `name`, in words for a person; empty if it can. */
export function problem(name, value) {
  const { initial, min, max, whole } = FIELDS[name];
  if (value === null && initial === null) return "";
  if (typeof value !== "number" || !Number.isFinite(value)) return "a number is missing";
  if (whole && !Number.isInteger(value)) return `${value} is not a whole number`;
  return value < min || value > max ? `${value} is outside ${min} to ${max}` : "";
}

/** Return the stop texts of a text field: one a line, at most as many as the door takes. */
export function stopTexts(lines) {
  return readStop(lines.split("\n"));
}

/** Return what `POST /api/v1/run` takes besides model and messages; `randomSeed` is used if none is set. */
export function requestFields(settings, randomSeed) {
  const { stop, max_tokens, seed, ...sampling } = settings;
  return { max_tokens, stop, sampling: { ...sampling, seed: seed ?? randomSeed } };
}

function readStop(texts) {
  const given = Array.isArray(texts) ? texts.filter((text) => typeof text === "string" && text !== "") : [];
  return given.map((text) => text.slice(0, MAX_STOP_CHARACTERS)).slice(0, MAX_STOP_TEXTS);
}
