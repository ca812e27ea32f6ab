"use strict";
// Keys of every page. Left and right (or the brackets) follow the page's previous and next link, Escape its parent.
(() => {
  const follow = (role) => {
    const link = document.querySelector(`a[data-key="${role}"]`);
    if (link) location.href = link.href;
    return Boolean(link);
  };
  const press = (id) => () => {
    const button = document.getElementById(id);
    if (!button || button.closest("[hidden]")) return false;
    button.click();
    return true;
  };
  const search = () => {
    const query = document.getElementById("query");
    query.focus();
    query.select();
    return true;
  };
  const actions = {
    ArrowLeft: () => follow("prev"),
    ArrowRight: () => follow("next"),
    "[": () => follow("prev"),
    "]": () => follow("next"),
    Escape: () => follow("up"),
    c: () => follow("compare"),
    r: press("random"),
    "/": search,
  };
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
    if (event.target instanceof Element && event.target.closest("input, select, textarea, [contenteditable]")) return;
    const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    if (sideways && event.target instanceof Element && event.target.closest(".scroll")) return;
    if (actions[event.key]?.()) event.preventDefault();
  });
})();
