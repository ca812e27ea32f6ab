"use strict";
// Search over every unit of the atlas, on every page. The data are loaded when the field is first used.
(() => {
  const MAX_HITS = 40;
  const root = document.documentElement.dataset.root;
  const find = document.getElementById("find");
  const query = document.getElementById("query");
  const panel = document.getElementById("found");
  const list = document.getElementById("hits");
  const count = document.getElementById("count");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  let loading;
  const load = () => {
    loading ??= new Promise((resolve, reject) => {
      const script = make("script", { src: `${root}search.js` });
      script.addEventListener("load", () => resolve(unpack(window.NEURON_ATLAS_SEARCH || [])));
      script.addEventListener("error", reject);
      document.head.append(script);
    });
    return loading;
  };
  const unpack = (layers) => {
    const units = [];
    for (const layer of layers) {
      const about = `${layer.title} ${layer.name}`.toLowerCase();
      let index = 0;
      for (const [start, end] of layer.units) {
        for (let unit = start; unit < end; unit += 1) {
          const label = layer.labels[unit] || "";
          units.push({ layer, unit, number: String(unit), label, seed: layer.best[index], words: label.toLowerCase(), about });
          index += 1;
        }
      }
    }
    return units;
  };

  // "layer4/412" and "layer4:412" mean what "layer4 412" means.
  const tokens = (text) =>
    text.toLowerCase().split(/[\s/:,]+/).filter((token) => token && token !== "unit" && token !== "layer");
  const matches = (entry, token, numeric) =>
    entry.words.includes(token) || (numeric ? entry.number === token : entry.about.includes(token));
  const rank = ({ words }, text) => (words === text ? 0 : words.startsWith(text) ? 1 : words.includes(text) ? 2 : words ? 3 : 4);
  const search = (units, text) => {
    const wanted = tokens(text).map((token) => [token, /^\d+$/.test(token)]);
    if (!wanted.length) return [];
    const whole = text.toLowerCase().trim();
    const found = units.filter((entry) => wanted.every(([token, numeric]) => matches(entry, token, numeric)));
    const ranks = new Map(found.map((entry, index) => [entry, rank(entry, whole) * found.length + index]));
    return found.sort((a, b) => ranks.get(a) - ranks.get(b));
  };
  const href = ({ layer, unit }) => `${root}${layer.folder}/${unit}.html`;
  const src = ({ layer, unit, seed }) => `${root}${layer.folder}/img/${unit}-s${seed}${layer.crop ? "-rf" : ""}.webp`;
  const name = ({ label, unit }) => label.split(",")[0].trim() || `unit ${unit}`;

  const hit = (entry, index) => {
    const frame = make("span", { class: entry.seed < 0 ? "f dead" : "f" });
    if (entry.seed < 0) frame.append("dead");
    else frame.append(make("img", { class: "whole", src: src(entry), alt: "", loading: "lazy" }));
    const about = `${entry.layer.title}${entry.label ? `, unit ${entry.unit}` : ""}`;
    const link = make("a", { href: href(entry), tabindex: "-1" }, frame, make("span", {}, make("b", {}, name(entry)), make("i", {}, about)));
    const item = make("li", { role: "option", id: `hit-${index}`, "aria-selected": "false" }, link);
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      choose(entry);
    });
    return item;
  };

  let shown = [];
  let active = -1;
  const activate = (index) => {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = index;
    const item = list.children[active];
    if (item) {
      item.setAttribute("aria-selected", "true");
      item.scrollIntoView({ block: "nearest" });
      query.setAttribute("aria-activedescendant", item.id);
    } else query.removeAttribute("aria-activedescendant");
  };
  const open = (state) => {
    panel.hidden = !state;
    query.setAttribute("aria-expanded", String(state && shown.length > 0));
    if (!state) activate(-1);
  };
  const choose = (entry) => {
    const address = `${entry.layer.folder}/${entry.unit}`;
    const event = new CustomEvent("choose-unit", { cancelable: true, detail: address });
    if (!document.dispatchEvent(event)) {
      query.value = "";
      open(false);
    } else location.href = href(entry);
  };
  const show = async () => {
    const text = query.value.trim();
    if (!text) {
      shown = [];
      list.replaceChildren();
      count.textContent = "";
      open(false);
      return;
    }
    let units;
    try {
      units = await load();
    } catch {
      count.textContent = "The search data (search.js) could not be loaded.";
      open(true);
      return;
    }
    if (query.value.trim() !== text) return;
    const start = performance.now();
    const found = search(units, text);
    shown = found.slice(0, MAX_HITS);
    active = -1;
    list.replaceChildren(...shown.map(hit));
    panel.dataset.searchMs = String(Math.round(performance.now() - start));
    const number = `${found.length.toLocaleString("en")} ${found.length === 1 ? "unit" : "units"}`;
    if (!found.length) count.textContent = "Nothing found; try a part of a name, a layer, or a unit's number.";
    else count.textContent = found.length > MAX_HITS ? `${number}, the first ${MAX_HITS} shown` : number;
    open(true);
    if (shown.length) activate(0);
  };
  query.addEventListener("focus", () => {
    load().catch(() => {});
    if (query.value.trim()) show();
  });
  query.addEventListener("input", show);
  query.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && shown.length) {
      event.preventDefault();
      activate((active + step + shown.length) % shown.length);
    } else if (event.key === "Enter" && shown[active]) {
      event.preventDefault();
      choose(shown[active]);
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (panel.hidden) query.blur();
      open(false);
    }
  });
  document.addEventListener("pointerdown", (event) => {
    if (!find.contains(event.target)) open(false);
  });
  find.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !find.contains(event.relatedTarget)) open(false);
  });
  document.getElementById("random").addEventListener("click", async () => {
    const units = await load();
    const live = units.filter(({ seed }) => seed >= 0);
    const pool = live.length ? live : units;
    if (pool.length) choose(pool[Math.floor(Math.random() * pool.length)]);
  });
  find.hidden = false;
})();
