// A formula wider than its page scrolls; whoever has no mouse must reach it.
function reachable() {
  for (const formula of document.querySelectorAll("div.math")) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}
addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reachable));
addEventListener("resize", reachable);

// The index of the search is large, so it comes when the search is opened. Sphinx keeps a question until it is there.
document.getElementById("pst-search-dialog")?.addEventListener("focusin", () => {
  const index = document.createElement("script");
  index.src = document.documentElement.dataset.content_root + "searchindex.js";
  document.head.append(index);
}, { once: true });
