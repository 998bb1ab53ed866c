"use strict";
// Draw each chart when it becomes visible, and show the chosen one of several runs. All tables are shown without scripts.
(function () {
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const onDark = {"#1a1a1a": "#e8e8e8", "#e4e4e4": "#3c3c3c"};  // text and lines; bars keep their colours
  let written = document.getElementById("figures").textContent;
  for (const [light, other] of Object.entries(dark ? onDark : {})) {
    written = written.replaceAll(`"${light}"`, `"${other}"`);
  }
  document.documentElement.toggleAttribute("data-dark", dark);
  const figures = JSON.parse(written);
  const drawn = new Set();

  function draw(within) {
    for (const place of within.querySelectorAll("[data-figure]")) {
      if (!drawn.has(place.id) && place.offsetParent !== null) {
        drawn.add(place.id);
        Bokeh.embed.embed_item(figures[place.id]).then(
          () => { place.dataset.drawn = ""; },
          error => { place.textContent = `This chart could not be drawn: ${error}`; },
        );
      }
    }
  }

  const tabs = [...document.querySelectorAll("[role=tab]")];

  function choose(tab) {
    for (const other of tabs) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
    }
    draw(document);
  }

  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", event => {
      const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (by) {
        const next = tabs[(i + by + tabs.length) % tabs.length];
        choose(next);
        next.focus();
      }
    });
  });
  if (tabs.length) {
    choose(tabs.find(tab => tab.hasAttribute("data-chosen")) || tabs[0]);
  }
  draw(document);
  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => draw(details));
  }
})();
