/** The chat page: what people do becomes calls of `Chats`, what happens there is shown. */
import { ChatList } from "./chat_list.js";
import { ChatStore } from "./chat_store.js";
import { Chats } from "./chats.js";
import { Composer } from "./composer.js";
import { confirmed } from "./confirming.js";
import { formatAnswer } from "./figures.js";
import { exportChat, importChat } from "./chat_files.js";
import { NodeNotice } from "./node_notice.js";
import { NodeWatch } from "./node_watch.js";
import { SettingsForm } from "./settings_form.js";
import { StatusBar, withKeys } from "./status_bar.js";
import { Talk } from "./talk.js";

// Faster than this nobody reads; a token more often than every 60 ms is shown with its successors.
const REFRESH_PAUSE_S = 0.06;

const store = await ChatStore.open().catch(() => null);
const watch = new NodeWatch();
const chats = new Chats({ store });
const talk = new Talk();
const notice = new NodeNotice({ onRetry: () => watch.lookNow() });
const composer = new Composer({ onAsk: ask, onStop: () => chats.stop(), onEditLast: editLast });
const bar = new StatusBar({ onChoose: (model) => chats.configure({ model }) });
const settings = new SettingsForm({ onChange: (changes) => chats.configure(changes) });
const list = new ChatList({ onAction: onChatAction });
const spoken = document.getElementById("spoken");

let models = [];
let isAway = false;
let refreshTimer = 0;

function ask(text) {
  talk.toEnd();
  chats.ask(text);
}

function editLast() {
  const last = chats.current.path().findLast((turn) => turn.role === "user");
  if (last && !chats.isBusy()) talk.view(last.id).beginEdit();
}

function show() {
  const { current } = chats;
  const isBusy = chats.isBusy();
  talk.show(current, { isBusy });
  composer.show({ isBusy, canAsk: !isAway && models.length > 0 });
  showBar();
  document.title = `${current.title || "Chat"} · gridnode`;
  const hash = current.path().length ? `#${current.id}` : "";
  if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname);
  void showList();
}

async function showList() {
  if (store) list.show(await store.list(), chats.current.id);
  else list.showProblem("This browser lets the page keep nothing: chats are lost when it is closed.");
}

function showBar() {
  const { current } = chats;
  bar.showModels(models, current.model);
  const model = models.find(({ key }) => key === current.model);
  const last = current.path().findLast((turn) => turn.answer?.promptTokens);
  bar.showFigures({
    route: last ? last.answer.route : (model?.route ?? ""),
    tokensPerS: last?.answer.tokensPerS ?? 0,
    usedTokens: last ? last.answer.promptTokens + last.answer.completionTokens : 0,
    limitTokens: model?.context_tokens || last?.answer.limitTokens || 0,
  });
}

function onModels(found) {
  models = withKeys(found.models);
  if (isAway) spoken.textContent = "The node is back";
  isAway = false;
  notice.showModels(found);
  const first = models.find((model) => model.route) ?? models[0];
  // An empty chat asks whom there is; one with turns keeps its model.
  if (!chats.current.model && first) chats.configure({ model: first.key });
  composer.show({ isBusy: chats.isBusy(), canAsk: models.length > 0 });
  showBar();
}

function onAway(detail) {
  isAway = true;
  notice.showAway(detail);
  composer.show({ isBusy: chats.isBusy(), canAsk: false });
}

function onAnswer({ conversation, turn }) {
  refreshTimer ||= setTimeout(() => {
    refreshTimer = 0;
    if (conversation !== chats.current) return;
    talk.refresh(conversation, turn, { isBusy: chats.isBusy() });
    showBar();
  }, REFRESH_PAUSE_S * 1000);
}

function onEnded({ turn }) {
  const { state, error } = turn.answer;
  spoken.textContent =
    state === "failed" ? `No answer: ${error.message}` : `Answer ${state}, ${formatAnswer(turn.answer)}`;
  if (state === "failed") void watch.lookNow(); // the banner should not come seconds later
}

function onTurnAction({ action, id, text }) {
  if (action === "previous" || action === "next") {
    const shown = chats.turnOver(id, action === "next" ? 1 : -1);
    talk.view(shown.id)?.focusButton(action);
    return;
  }
  if (action === "edited") chats.edit(id, text);
  if (action === "again") chats.again(id);
  talk.toEnd();
  composer.focus();
}

async function onChatAction(action, id) {
  if (action === "open") await open(id);
  if (action === "export") await attempt(async () => exportChat(await store.load(id)), "This chat is not exported");
  if (action === "delete" && (await confirmed("Delete this chat? It cannot be brought back."))) {
    await chats.remove(id);
  }
}

async function open(id) {
  await attempt(async () => {
    if (await chats.open(id)) talk.toEnd();
  }, "This chat cannot be read");
}

async function takeFile(file) {
  await attempt(async () => chats.adopt(await importChat(file)), `“${file.name}” was not imported`);
}

async function attempt(action, complaint) {
  try {
    await action();
  } catch (error) {
    notice.showProblem(`${complaint}: ${error.message}`);
  }
}

function onClick(id, act) {
  document.getElementById(id).addEventListener("click", act);
}

chats.addEventListener("change", show);
chats.addEventListener("answer", ({ detail }) => onAnswer(detail));
chats.addEventListener("ended", ({ detail }) => onEnded(detail));
chats.addEventListener("unsaved", ({ detail }) => notice.showProblem(detail.problem));
watch.addEventListener("models", ({ detail }) => onModels(detail));
watch.addEventListener("away", ({ detail }) => onAway(detail));
talk.element.addEventListener("turn-action", ({ detail }) => onTurnAction(detail));
addEventListener("pagehide", () => chats.saveAtOnce());
addEventListener("hashchange", () => void open(location.hash.slice(1)));
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chats.isBusy() && !document.querySelector("dialog[open]")) chats.stop();
});

const fileInput = document.getElementById("import-file");
fileInput.addEventListener("change", () => {
  if (fileInput.files.length) void takeFile(fileInput.files[0]);
  fileInput.value = "";
});
onClick("import", () => fileInput.click());
onClick("new-chat", () => {
  chats.begin();
  list.close();
  composer.focus();
});
onClick("delete-all", async () => {
  if (await confirmed("Delete all chats? They cannot be brought back.")) await chats.clear();
});
onClick("open-settings", () => settings.open(chats.current));

const wanted = new URLSearchParams(location.search).get("model");
if (wanted) chats.configure({ model: wanted });
if (location.hash) await open(location.hash.slice(1));
show();
watch.start();
composer.focus();
