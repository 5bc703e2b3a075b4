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
  async copyFrom(id, buttonId) {
    const from = getHtmlElement(id), label = getHtmlElement(buttonId).querySelector(".block") ?? getHtmlElement(buttonId);
    const before = label.textContent;
    try {
      await navigator.clipboard.writeText(from.textContent);
      label.textContent = "Copied";
    } catch {  // a page that is not served securely has no clipboard
      getSelection().selectAllChildren(from);
      label.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { label.textContent = before; }, 1500);
  },
});
