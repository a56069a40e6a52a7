/** Chats as files: out of the browser, and into it. */
import { fromSaved, MAX_FILE_CHARACTERS, toSaved } from "./saved_chat.js";

/** Offer a chat as a file. */
export function exportChat(conversation) {
  const json = JSON.stringify(toSaved(conversation), null, 2);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([json], { type: "application/json" }));
  link.download = `${fileName(conversation.title)}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Return the chat in a file; rejects with words for a person if there is none. */
export async function importChat(file) {
  if (file.size > MAX_FILE_CHARACTERS) throw new Error("it is longer than a chat can be");
  const text = await file.text();
  let saved;
  try {
    saved = JSON.parse(text);
  } catch {
    throw new Error("it is not JSON");
  }
  return fromSaved(saved);
}

function fileName(title) {
  const name = title
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 40);
  return `gridnode-chat-${name || "empty"}`;
}
