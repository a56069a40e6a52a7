/** Numbers and names as short text for a person. Pure. */

const MAX_NAME_CHARACTERS = 32;

/** Return a number of tokens as on a meter: `812`, `3.1k`, `8k`. */
export function formatTokens(numTokens) {
  if (numTokens < 1000) return String(numTokens);
  return `${(numTokens / 1000).toFixed(1).replace(/\.0$/, "")}k`;
}

/** Return tokens per second: one decimal below 100. */
export function formatRate(tokensPerS) {
  return `${tokensPerS < 100 ? tokensPerS.toFixed(1) : Math.round(tokensPerS)} tokens/s`;
}

/** Return a name that a stranger chose as one short line without control or direction characters. */
export function shortName(name) {
  const line = name
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, " ")
    .replace(/\s+/g, " ")
    .trim();
  return line.length > MAX_NAME_CHARACTERS ? `${line.slice(0, MAX_NAME_CHARACTERS - 1)}…` : line;
}

/** Return the hops of a route in an event of the node: their names and blocks. */
export function hopsOf(route) {
  return route.map(({ public_name, short, start, end }) => ({ name: shortName(public_name) || short, start, end }));
}

/** Return a route on one line: `Ada 0:10 → Bo 10:30`. */
export function formatRoute(hops) {
  return hops.map(({ name, start, end }) => `${name} ${start}:${end}`).join(" → ");
}

/** Return what an answer cost, on one line. */
export function formatAnswer({ completionTokens, tokensPerS, ttftS }) {
  const parts = [`${completionTokens} ${completionTokens === 1 ? "token" : "tokens"}`];
  if (tokensPerS) parts.push(formatRate(tokensPerS));
  if (ttftS) parts.push(`first after ${ttftS < 10 ? ttftS.toFixed(1) : Math.round(ttftS)} s`);
  return parts.join(" · ");
}
