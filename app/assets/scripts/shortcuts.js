// Esc stops an answer, / goes to the search field or the composer.
function typing(target) {
  return target.closest?.("input, textarea, select, [contenteditable]");
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.isComposing) return;
  const dialogOpen = root.querySelector("dialog[open], .menu:popover-open");
  if (event.key === "Escape" && !dialogOpen && answering()) {
    event.preventDefault();
    stopAnswer();
  } else if (event.key === "/" && !dialogOpen && !typing(event.target) && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    draft.focus();
  }
});
