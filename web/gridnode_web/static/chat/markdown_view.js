/**
 * Markdown that strangers' computers wrote, shown while it grows.
 *
 * Two walls: HTML in the text is shown as text, and what the parser makes of the rest goes through DOMPurify
 * with a closed list of elements. Nothing is ever loaded: pictures become links, so that an answer cannot
 * call home by being looked at.
 */
import DOMPurify from "../vendor/purify.es.mjs";
import { Marked } from "../vendor/marked.esm.js";

// The parser needs time in the square of some texts ("a.a.a.", 5 s for this many), and a stack as deep as a
// text is nested. Such a text is shown as it stands.
const MAX_MARKDOWN_CHARACTERS = 60_000;
const MAX_PARSING_MS = 300;

const ELEMENTS =
  "a blockquote br code del em h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul".split(" ");
const ATTRIBUTES = ["align", "class", "href", "start", "title"];
const LANGUAGE_CLASS = /^language-[\w+#.-]{1,32}$/;
const LINK = /^(https?:|mailto:)/i;

const escaped = document.createElement("p");

function escape(text) {
  escaped.textContent = text;
  return escaped.innerHTML.replaceAll('"', "&quot;");
}

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escape(text),
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    // The page and the turn have headings of their own above those of an answer.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

/** Shows a growing text in `element`; only the blocks that changed are made anew. */
export class MarkdownView {
  #element;
  #sources = [];
  #isPlain = false;

  constructor(element) {
    this.#element = element;
  }

  /**
   * Show `text`. `isComplete` makes everything anew: a link may be defined behind its first use, and once
   * the parser may take its time.
   */
  show(text, { isComplete = false } = {}) {
    this.#isPlain &&= !isComplete;
    this.#isPlain ||= text.length > MAX_MARKDOWN_CHARACTERS || !this.#render(text, isComplete);
    if (this.#isPlain) this.#element.replaceChildren(plainText(text));
  }

  /** Returns whether the parser coped with the text. */
  #render(text, isComplete) {
    const startedAt = performance.now();
    try {
      this.#renderBlocks(text, isComplete);
    } catch (error) {
      if (error instanceof RangeError) return false; // the stack is full
      throw error;
    }
    return isComplete || performance.now() - startedAt < MAX_PARSING_MS;
  }

  #renderBlocks(text, isComplete) {
    const tokens = marked.lexer(text);
    const { links } = tokens;
    const { children } = this.#element;
    const blocks = tokens.filter((token) => token.type !== "space" && token.type !== "def");
    blocks.forEach((token, i) => {
      if (!isComplete && this.#sources[i] === token.raw && children[i]) return;
      const block = renderBlock(Object.assign([token], { links }));
      if (children[i]) children[i].replaceWith(block);
      else this.#element.append(block);
      this.#sources[i] = token.raw;
    });
    this.#sources.length = blocks.length;
    while (children.length > blocks.length) children[blocks.length].remove();
  }
}

function renderBlock(tokens) {
  const block = document.createElement("div");
  block.append(sanitized(marked.parser(tokens)));
  return block;
}

/** Return `html` as a fragment of harmless elements. */
export function sanitized(html) {
  const fragment = DOMPurify.sanitize(html, {
    ALLOWED_TAGS: ELEMENTS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_ARIA_ATTR: false,
    ALLOW_DATA_ATTR: false,
    ALLOWED_URI_REGEXP: LINK,
    ADD_URI_SAFE_ATTR: ["align", "start"], // every other value must look like a link
    RETURN_DOM_FRAGMENT: true,
  });
  for (const element of fragment.querySelectorAll("[class]")) {
    if (!LANGUAGE_CLASS.test(element.className)) element.removeAttribute("class");
  }
  for (const link of fragment.querySelectorAll("a")) guardLink(link);
  for (const table of fragment.querySelectorAll("table")) makeScrollable(table);
  for (const pre of fragment.querySelectorAll("pre")) dressCode(pre);
  return fragment;
}

/** A link leads where its title says, and the page behind it learns nothing of this one. */
function guardLink(link) {
  if (!link.hasAttribute("href")) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
  link.title = link.href;
}

function makeScrollable(table) {
  const frame = document.createElement("div");
  frame.className = "table-frame";
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", "Table");
  table.replaceWith(frame);
  frame.append(table);
}

function dressCode(pre) {
  const language = pre.querySelector("code")?.className.replace(/^language-/, "") ?? "";
  const frame = document.createElement("div");
  frame.className = "code-frame";
  const bar = document.createElement("div");
  bar.className = "code-bar";
  const label = document.createElement("span");
  label.textContent = language || "text";
  const copy = document.createElement("button");
  copy.type = "button";
  copy.className = "quiet";
  copy.dataset.action = "copy-code";
  copy.textContent = "Copy";
  bar.append(label, copy);
  pre.tabIndex = 0; // reachable by keyboard, because it scrolls
  pre.replaceWith(frame);
  frame.append(bar, pre);
}

function plainText(text) {
  const block = document.createElement("div");
  block.className = "plain";
  block.textContent = text;
  return block;
}
