"use strict";
// Search over all units, a random unit, and the facts of the run.
(() => {
  const MAX_HITS = 24;
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  const units = [];
  for (const layer of window.NEURON_ATLAS_SEARCH || []) {
    const dead = new Set(layer.dead);
    const about = `${layer.title} ${layer.name}`.toLowerCase();
    for (const [start, end] of layer.units) {
      for (let unit = start; unit < end; unit += 1) {
        const label = layer.labels[unit] || "";
        units.push({ layer, unit, label, dead: dead.has(unit), words: label.toLowerCase(), about });
      }
    }
  }
  const href = ({ layer, unit }) => `${layer.folder}/${unit}.html`;
  const src = ({ layer, unit }) => `${layer.folder}/img/${unit}-s${layer.seeds[unit] ?? layer.seed}${layer.crop ? "-rf" : ""}.png`;

  const matches = (entry, token) =>
    entry.words.includes(token) || (/^\d+$/.test(token) ? String(entry.unit) === token : entry.about.includes(token));
  const rank = ({ words }, query) => {
    if (!words) return 3;
    if (words.startsWith(query)) return 0;
    return words.includes(query) ? 1 : 2;
  };
  const search = (query) => {
    const tokens = query.split(/\s+/).filter((token) => token && token !== "unit" && token !== "layer");
    const found = tokens.length ? units.filter((entry) => tokens.every((token) => matches(entry, token))) : [];
    return found
      .map((entry, index) => ({ entry, index, rank: rank(entry, query) }))
      .sort((a, b) => a.rank - b.rank || a.index - b.index)
      .map(({ entry }) => entry);
  };
  const hit = (entry) => {
    const { layer, unit, label, dead } = entry;
    const name = label.split(",")[0].trim();
    const frame = make("span", { class: "frame" });
    if (dead) frame.append(make("span", { class: "epitaph" }, "dead: no gradient"));
    else frame.append(make("img", { src: src(entry), alt: "", width: "64", height: "64", loading: "lazy" }));
    const caption = make(
      "span",
      { class: "caption" },
      make("span", { class: "name" }, name || `unit ${unit}`),
      make("span", { class: "numbers" }, make("span", {}, name ? `unit ${unit}` : ""), make("span", {}, layer.title)),
    );
    const link = make("a", { class: dead ? "tile tomb" : "tile", href: href(entry) }, frame, caption);
    if (label) link.title = label;
    return make("li", {}, link);
  };

  const query = document.getElementById("query");
  const hits = document.getElementById("hits");
  const status = document.getElementById("found");
  const show = () => {
    const wanted = query.value.trim().toLowerCase();
    const found = wanted ? search(wanted) : [];
    hits.replaceChildren(...found.slice(0, MAX_HITS).map(hit));
    const count = `${found.length} ${found.length === 1 ? "unit" : "units"} found`;
    if (!wanted) status.textContent = "";
    else if (!found.length) status.textContent = "Nothing found; try a part of a label, a layer's name, or a unit's number.";
    else status.textContent = found.length > MAX_HITS ? `${count}, the first ${MAX_HITS} shown` : count;
  };
  query.addEventListener("input", show);
  document.getElementById("random").addEventListener("click", () => {
    const live = units.filter(({ dead }) => !dead);
    const pool = live.length ? live : units;
    if (pool.length) location.href = href(pool[Math.floor(Math.random() * pool.length)]);
  });
  document.getElementById("find").hidden = !units.length;
  if (query.value) show();

  const duration = (seconds) => {
    if (seconds < 60) return `${seconds} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const run = document.getElementById("run");
  for (const [key, value] of Object.entries(window.NEURON_ATLAS_RUN || {})) {
    if (value === null || value === "") continue;
    const seconds = key.endsWith("_s") && typeof value === "number";
    const name = (seconds ? key.slice(0, -2) : key).replaceAll("_", " ");
    const text = seconds ? duration(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
    run.append(make("div", {}, make("dt", {}, name), make("dd", {}, text)));
  }
})();
