/** The line above the conversation: model, route, tokens per second and how much of the context is used. */
import { formatRate, formatRoute, formatTokens, shortName } from "./figures.js";

// Above this share the meter changes its colour: the next answer may not fit.
const HIGH_SHARE = 0.85;

/** `onChoose(model)` is told when a person chooses another model. */
export class StatusBar {
  #select = document.getElementById("model");
  #route = document.getElementById("route");
  #rate = document.getElementById("rate");
  #context = document.getElementById("context");
  #meter = document.getElementById("context-meter");
  #contextText = document.getElementById("context-text");
  #shown = "";

  constructor({ onChoose }) {
    this.#select.addEventListener("change", () => onChoose(this.#select.value));
  }

  /** Offer `models` (see `withKeys`); `chosen` is the name of one, also of one that is gone. */
  showModels(models, chosen) {
    const options = models.map((model) => ({ value: model.key, text: modelText(model) }));
    if (chosen && !options.some(({ value }) => value === chosen)) {
      options.unshift({ value: chosen, text: `${shortName(chosen)} (not served now)` });
    }
    if (!options.length) options.push({ value: "", text: "no model yet" });
    const state = JSON.stringify([options, chosen]);
    if (state === this.#shown) return; // an open list must not be made anew under the pointer
    this.#shown = state;
    this.#select.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
    this.#select.value = chosen || options[0].value;
    this.#select.disabled = options.length < 2 && !models.length;
  }

  /** Show the figures of an answer, or of the route that the next one would take. */
  showFigures({ route, tokensPerS, usedTokens, limitTokens }) {
    const text = typeof route === "string" ? route : formatRoute(route);
    this.#route.textContent = text;
    this.#route.title = text;
    this.#rate.textContent = tokensPerS ? formatRate(tokensPerS) : "";
    this.#context.hidden = !limitTokens;
    if (!limitTokens) return;
    this.#meter.max = limitTokens;
    this.#meter.high = limitTokens * HIGH_SHARE;
    this.#meter.optimum = 0;
    this.#meter.value = usedTokens;
    this.#contextText.textContent = `${formatTokens(usedTokens)} / ${formatTokens(limitTokens)}`;
    this.#context.title = `${usedTokens} of ${limitTokens} tokens of context used`;
  }
}

/**
 * Return `models` (of the node's status) each with its `key`, which names it in a request: its name, or its
 * manifest hash if others have the same name.
 */
export function withKeys(models) {
  const numNamed = new Map();
  for (const { name } of models) numNamed.set(name, (numNamed.get(name) ?? 0) + 1);
  return models.map((model) => ({ ...model, key: numNamed.get(model.name) > 1 ? model.manifest : model.name }));
}

function modelText({ name, manifest, route }) {
  const shown = shortName(name.split("/").at(-1)) || manifest.slice(0, 8);
  return route ? shown : `${shown} (blocks missing)`;
}
