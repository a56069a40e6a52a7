// A long table of which the node sends a window of rows: empty space stands for the others, and scrolling
// into it asks for the rows there.
const MARGIN_ROWS = 10;

let start = null;
let want = () => {};

function parts() {
  const box = document.getElementById("rows");
  if (!box) return null;
  const rows = box.querySelectorAll("tbody:not(.space) > tr");
  const [above, below] = box.querySelectorAll("tbody.space");
  return {
    box,
    above,
    below,
    first: Number(box.dataset.first),
    total: Number(box.dataset.total),
    count: rows.length,
    height: rows.length ? rows[0].getBoundingClientRect().height : 0,
  };
}

// The row that the window should begin with; null leaves it to the address of the page.
export function windowStart() {
  return start;
}

export function fitWindow() {
  const { above, below, first, total, count, height } = parts() ?? {};
  if (!above) return;
  const space = (body, rows) => {
    body.firstElementChild.style.height = `${rows * height}px`;
    body.hidden = rows === 0;
  };
  space(above, first);
  space(below, total - first - count);
  const pager = document.getElementById("pager");
  if (pager) pager.hidden = true;
}

function look() {
  const { box, first, total, count, height } = parts() ?? {};
  if (!height || count === total) return;
  const top = Math.floor(box.scrollTop / height);
  const bottom = top + Math.ceil(box.clientHeight / height);
  const isCovered =
    (first === 0 || top >= first + MARGIN_ROWS) &&
    (first + count === total || bottom <= first + count - MARGIN_ROWS);
  if (isCovered) return;
  const next = Math.max(0, Math.min(top - Math.floor((count - (bottom - top)) / 2), total - count));
  if (next === start) return;
  start = next;
  want();
}

export function onWindowWanted(callback) {
  want = callback;
  document.getElementById("rows")?.addEventListener("scroll", look, { passive: true });
}
