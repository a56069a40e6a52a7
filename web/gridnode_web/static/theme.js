// Before the first paint, so that no page flashes in the other theme. Without a choice, the system's counts.
try {
  const chosen = localStorage.getItem("gridnode.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be refused; the system's theme is good, too.
}
