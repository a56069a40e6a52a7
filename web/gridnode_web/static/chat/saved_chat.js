/**
 * A chat as JSON, and back. What comes back may be a file from a stranger: everything is checked, cut to
 * its limit or refused, and unknown fields are left out. Pure.
 */
import { AnswerState, Conversation, MAX_TURNS, ROOT } from "./conversation.js";
import { readSettings } from "./settings.js";

const FORMAT = "gridnode-chat";
const VERSION = 1;

// The door takes prompts of 16 Mi characters; a longer file is not one of our chats.
export const MAX_FILE_CHARACTERS = 32 * 1024 * 1024;
const MAX_CONTENT_CHARACTERS = 4 * 1024 * 1024;
const MAX_NAME_CHARACTERS = 512;
const MAX_NOTES = 32;
const MAX_HOPS = 256;
const ID = /^[a-z0-9]{1,32}$/;

/** Return `conversation` as a value that JSON and IndexedDB can hold. */
export function toSaved(conversation) {
  const { id, title, createdAt, changedAt, model, system, settings, leaf, turns } = conversation;
  return structuredClone({
    format: FORMAT,
    version: VERSION,
    ...{ id, title, createdAt, changedAt, model, system, settings, leaf, turns },
  });
}

/**
 * Return the conversation that `saved` holds.
 *
 * @throws {Error} it is something else; the text says what and is for people.
 */
export function fromSaved(saved) {
  if (saved?.format !== FORMAT) throw new Error("this is not a chat that gridnode saved");
  if (saved.version !== VERSION) throw new Error(`the chat has version ${saved.version}; this page reads ${VERSION}`);
  const conversation = new Conversation({
    id: identifier(saved.id),
    now: time(saved.createdAt),
    model: text(saved.model, MAX_NAME_CHARACTERS),
    system: text(saved.system, MAX_CONTENT_CHARACTERS),
    settings: readSettings(saved.settings),
  });
  if (!Array.isArray(saved.turns)) throw new Error("the chat has no turns");
  if (saved.turns.length > MAX_TURNS) throw new Error(`the chat has more than ${MAX_TURNS} turns`);
  for (const turn of saved.turns) addTurn(conversation, turn);
  conversation.choose(saved.leaf);
  conversation.changedAt = time(saved.changedAt);
  return conversation;
}

function addTurn(conversation, turn) {
  const parent = turn?.parent === ROOT ? ROOT : identifier(turn?.parent);
  const expected = conversation.turn(parent)?.role === "user" ? "assistant" : "user";
  if (turn.role !== expected) throw new Error("the turns of the chat do not alternate");
  conversation.add({
    id: identifier(turn.id),
    parent,
    role: expected,
    content: text(turn.content, MAX_CONTENT_CHARACTERS),
    answer: expected === "assistant" ? readAnswer(turn.answer ?? {}) : null,
  });
}

function readAnswer(answer) {
  // A page that was closed in the middle of an answer saved it as being written.
  const known = [AnswerState.DONE, AnswerState.FAILED];
  const state = known.includes(answer.state) ? answer.state : AnswerState.STOPPED;
  const error = answer.error ?? {};
  return {
    state,
    model: text(answer.model, MAX_NAME_CHARACTERS),
    route: list(answer.route, MAX_HOPS).map((hop) => ({
      name: text(hop?.name, MAX_NAME_CHARACTERS),
      start: count(hop?.start),
      end: count(hop?.end),
    })),
    reason: text(answer.reason, MAX_NAME_CHARACTERS),
    waiting: "",
    limitTokens: count(answer.limitTokens),
    promptTokens: count(answer.promptTokens),
    completionTokens: count(answer.completionTokens),
    tokensPerS: number(answer.tokensPerS),
    ttftS: number(answer.ttftS),
    notes: list(answer.notes, MAX_NOTES).map((note) => text(note, MAX_NAME_CHARACTERS)),
    error:
      state === AnswerState.FAILED
        ? { code: text(error.code, MAX_NAME_CHARACTERS), message: text(error.message, MAX_CONTENT_CHARACTERS) }
        : null,
  };
}

function identifier(value) {
  if (typeof value !== "string" || !ID.test(value)) throw new Error("the chat has a turn without a proper id");
  return value;
}

const text = (value, limit) => (typeof value === "string" ? value.slice(0, limit) : "");
const list = (value, limit) => (Array.isArray(value) ? value.slice(0, limit) : []);
const number = (value) => (Number.isFinite(value) && value >= 0 ? value : 0);
const count = (value) => Math.floor(number(value));
const time = (value) => (Number.isFinite(value) ? value : 0);
