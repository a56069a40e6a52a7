// Keeps a page as it would be if it were loaded now. The node says that something changed; the page is
// asked for again, as anybody without scripts would, and only what differs is put in place.
import { Idiomorph } from "./vendor/idiomorph.esm.js";
import { windowStart, fitWindow, onWindowWanted } from "./rows.js";

const MIN_INTERVAL_MS = 500; // between two loads of the page
const MAX_SHARE = 1 / 8; // of the time spent loading: a busy node is asked less often
const PATIENCE_MS = 1500; // a node that is asked to restart is back by then, and nobody need know

const banner = document.getElementById("offline");
let loading = false;
let wanted = false;
let lastSeen = new Date();
let silence = null;
let events = null;

function address() {
  const url = new URL(location.href);
  const first = windowStart();
  if (first !== null) url.searchParams.set("from", first);
  return url;
}

async function refresh() {
  wanted = true;
  if (loading) return;
  loading = true;
  try {
    while (wanted) {
      wanted = false;
      const began = performance.now();
      const response = await fetch(address(), { cache: "no-store" });
      if (response.headers.get("content-type")?.startsWith("text/html")) show(await response.text());
      const pause = Math.max(MIN_INTERVAL_MS, (performance.now() - began) / MAX_SHARE);
      await new Promise((done) => setTimeout(done, pause));
    }
  } catch {
    // The node went away in the middle; the stream of events says so, and says when it is back.
  } finally {
    loading = false;
  }
}

function show(html) {
  const next = new DOMParser().parseFromString(html, "text/html").getElementById("main");
  if (!next) return;
  Idiomorph.morph(document.getElementById("main"), next.innerHTML, {
    morphStyle: "innerHTML",
    ignoreActiveValue: true,
    callbacks: {
      // What a reader opened stays open.
      beforeAttributeUpdated: (name, node) => !(name === "open" && node.tagName === "DETAILS"),
    },
  });
  fitWindow();
}

function online() {
  clearTimeout(silence);
  silence = null;
  banner.hidden = true;
  lastSeen = new Date();
}

function offline(why, then) {
  if (silence !== null) return;
  const since = lastSeen;
  silence = setTimeout(() => {
    banner.textContent = `${why}. What you see is from ${since.toLocaleTimeString()}; ${then}.`;
    banner.hidden = false;
  }, PATIENCE_MS);
}

function listen() {
  if (events) return;
  events = new EventSource("/api/v1/events?brief=1");
  events.addEventListener("changed", () => {
    online();
    refresh();
  });
  events.addEventListener("error", () => {
    // A node that answers with an error ends the stream for good; ask again later.
    if (events?.readyState === EventSource.CLOSED) {
      offline(
        "The node keeps no more pages fresh now, or asks for a key",
        "reload this page, or wait until it goes on by itself",
      );
      events = null;
      setTimeout(listen, 3000);
    } else {
      offline("The node does not answer", "this page goes on by itself when the node is back");
    }
  });
}

// Browsers keep six connections to a node: pages that nobody looks at give theirs back.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    events?.close();
    events = null;
  } else {
    listen();
  }
});

for (const form of document.querySelectorAll("[data-live-form]")) {
  let pause = null;
  form.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      const url = new URL(form.action);
      for (const [name, value] of new FormData(form)) if (value) url.searchParams.set(name, value);
      history.replaceState(null, "", url);
      refresh();
    }, 150);
  });
}

onWindowWanted(refresh);
fitWindow();
listen();
