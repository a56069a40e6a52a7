/** The clipboard, with a word about whether it took the text. */

const SHOWN_S = 1.5;

/** Copy `text`; `button` says so for a moment, to eyes and to screen readers. */
export async function copyText(text, button) {
  const isCopied = await write(text);
  const spoken = document.getElementById("spoken");
  spoken.textContent = isCopied ? "Copied" : "The browser refused to copy";
  button.classList.add(isCopied ? "worked" : "refused");
  setTimeout(() => button.classList.remove("worked", "refused"), SHOWN_S * 1000);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeOldWay(text);
  }
}

/** Browsers offer the clipboard to pages of loopback and HTTPS only; a node on a LAN is neither. */
function writeOldWay(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  const focused = document.activeElement;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  focused?.focus();
  return isCopied;
}
