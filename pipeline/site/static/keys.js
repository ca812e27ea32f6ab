"use strict";
// Left and right follow the page's previous and next link; Escape, and Up where the page cannot scroll up, follow its parent.
(() => {
  const follow = (role) => {
    const link = document.querySelector(`a[data-key="${role}"]`);
    if (link) location.href = link.href;
    return Boolean(link);
  };
  const typing = (element) => element instanceof Element && element.closest("input, select, textarea, [contenteditable]");

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || event.repeat) return;
    if (typing(event.target)) return;
    const role = {
      ArrowLeft: "prev",
      ArrowRight: "next",
      Escape: "up",
      ArrowUp: window.scrollY <= 0 ? "up" : undefined,
    }[event.key];
    if (role && follow(role)) event.preventDefault();
  });
})();
