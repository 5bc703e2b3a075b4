// What jobs and networks add to dashboard.js.
"use strict";
Object.assign(window.edgelut, {
  // A log stays at its end, unless its reader has scrolled back.
  toEnd(id) {
    const log = getHtmlElement(id);
    if (!log) return;
    const near = log.dataset.seen === undefined || log.scrollHeight - log.scrollTop - log.clientHeight < 120;
    log.dataset.seen = "1";
    if (near) log.scrollTop = log.scrollHeight;
  },
  async copy(text, button) {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select the text and press Ctrl+C";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  },
});
