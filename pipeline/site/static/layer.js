"use strict";
// A layer's gallery: sorting, filtering, a range of the histogram, arrow keys, and a larger view of the unit pointed at.
(() => {
  const gallery = document.getElementById("gallery");
  const data = Object.values(window.NEURON_ATLAS_LAYERS || {})[0];
  if (!gallery || !data) return;
  const controls = Object.fromEntries(["sort", "turn", "which", "filter", "range", "shown"].map((id) => [id, document.getElementById(id)]));
  const words = new Intl.Collator("en", { sensitivity: "base", numeric: true });

  const numbers = data.units.flatMap(([start, end]) => Array.from({ length: end - start }, (_, index) => start + index));
  const columns = new Map(data.columns.map((column) => [column.key, column]));
  const pre = new Set(data.pre);
  const units = Array.from(gallery.children, (item, index) => {
    const unit = numbers[index];
    const label = data.labels[unit] || "";
    const link = item.firstElementChild;
    return { index, unit, label, item, link, caption: link.lastElementChild, usual: link.lastElementChild.textContent, words: label.toLowerCase(), seed: data.best[index], pre: pre.has(unit) };
  });
  const alone = new Map(units.map((unit) => [unit.link, unit]));

  const form = window.NEURON_ATLAS_FORMAT;

  // Units without a value come last, whichever way round; those whose number is of another kind just before them.
  const order = () => {
    const key = controls.sort.value;
    const turn = controls.turn.getAttribute("aria-pressed") === "true" ? -1 : 1;
    if (key === "unit") return (a, b) => turn * (a.unit - b.unit);
    if (key === "label") {
      return (a, b) => Number(!a.label) - Number(!b.label) || turn * words.compare(a.label, b.label) || a.unit - b.unit;
    }
    const { values, sort } = columns.get(key);
    const sign = (sort === "low" ? 1 : -1) * turn;
    const group = (unit) => (values[unit.index] === null ? 2 : key === "activation" && unit.pre ? 1 : 0);
    return (a, b) => {
      const between = group(a) - group(b);
      if (between || values[a.index] === null) return between || a.unit - b.unit;
      return sign * (Number(values[a.index]) - Number(values[b.index])) || a.unit - b.unit;
    };
  };
  let sequence = units;
  const arrange = () => {
    sequence = [...units].sort(order());
    gallery.append(...sequence.map(({ item }) => item));
    const column = columns.get(controls.sort.value);
    for (const unit of units) {
      unit.caption.textContent = column && column.key !== "activation" ? form(column.values[unit.index], column.form) : unit.usual;
    }
  };

  let range = null;
  const changed = columns.get("change");
  const kinds = {
    all: () => true,
    live: ({ seed }) => seed >= 0,
    dead: ({ seed }) => seed < 0,
    labelled: ({ label }) => Boolean(label),
    pre: (unit) => unit.pre,
    changed: ({ index }) => changed && changed.values[index] !== null,
  };
  const sift = () => {
    const wanted = controls.filter.value.trim().toLowerCase();
    const numeric = /^\d+$/.test(wanted);
    const kind = kinds[controls.which.value] || kinds.all;
    const activations = columns.get("activation").values;
    let count = 0;
    for (const unit of units) {
      const value = activations[unit.index];
      const inside = !range || (value !== null && !unit.pre && value >= range[0] && value <= range[1]);
      const named = !wanted || unit.words.includes(wanted) || (numeric ? String(unit.unit) === wanted : false);
      unit.item.hidden = !(inside && named && kind(unit));
      count += Number(!unit.item.hidden);
    }
    controls.shown.textContent = count === units.length ? `${count.toLocaleString("en")} shown` : `${count.toLocaleString("en")} of ${units.length.toLocaleString("en")} shown`;
    reach(sequence.find(({ item }) => !item.hidden));
  };

  // One stop for the Tab key; arrows move among the units.
  let current = null;
  const reach = (unit) => {
    if (current) current.link.tabIndex = -1;
    current = unit || null;
    if (current) current.link.tabIndex = 0;
  };
  const visible = () => sequence.filter(({ item }) => !item.hidden);
  const rowLength = () => Math.max(1, getComputedStyle(gallery).gridTemplateColumns.split(" ").length);
  gallery.addEventListener("focusin", (event) => {
    const unit = alone.get(event.target.closest("a"));
    if (unit) reach(unit);
  });
  gallery.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const list = visible();
    const at = list.indexOf(alone.get(event.target.closest("a")));
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -rowLength(), ArrowDown: rowLength(), Home: -at, End: list.length - 1 - at };
    if (at < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const next = list[at + steps[event.key]];
    if (next) next.link.focus();
  });

  // The larger view.
  const preview = document.getElementById("preview");
  const picture = Object.assign(new Image(256, 256), { alt: "" });
  const text = document.createElement("p");
  const about = (unit) => {
    const rows = data.columns.filter(({ values }) => values[unit.index] !== null).map(({ title, form: kind, values }) => `${title} ${form(values[unit.index], kind)}`);
    return rows.slice(0, 6).join(" \u00b7 ");
  };
  let timer = 0;
  const place = (link) => {
    const box = link.getBoundingClientRect();
    const [width, height] = [preview.offsetWidth, preview.offsetHeight];
    const right = box.right + 12 + width <= document.documentElement.clientWidth;
    preview.style.left = `${Math.max(8, right ? box.right + 12 : box.left - 12 - width)}px`;
    preview.style.top = `${Math.max(8, Math.min(box.top - 20, innerHeight - height - 8))}px`;
  };
  const hide = () => {
    clearTimeout(timer);
    preview.hidden = true;
  };
  const enlarge = (link) => {
    clearTimeout(timer);
    const unit = alone.get(link);
    if (!unit || unit.seed < 0 || innerWidth < 700) return hide();
    const show = () => {
      picture.src = `img/${unit.unit}-s${unit.seed}${data.crop ? "-rf" : ""}.webp`;
      text.replaceChildren(Object.assign(document.createElement("b"), { textContent: unit.label || `unit ${unit.unit}` }), document.createElement("br"), about(unit));
      if (!preview.firstChild) preview.append(picture, text);
      preview.hidden = false;
      place(link);
    };
    timer = setTimeout(show, preview.hidden ? 180 : 30);
  };
  const pointed = (event) => event.target.closest("a");
  if (matchMedia("(hover: hover)").matches) {
    gallery.addEventListener("pointerover", (event) => (pointed(event) ? enlarge(pointed(event)) : hide()));
    gallery.addEventListener("pointerleave", hide);
  }
  gallery.addEventListener("focusin", (event) => event.target.matches(":focus-visible") && enlarge(pointed(event)));
  gallery.addEventListener("focusout", hide);
  addEventListener("scroll", hide, { passive: true });

  // A bar of the histogram narrows the gallery to its range.
  const unrange = () => {
    range = null;
    controls.range.hidden = true;
    document.querySelector("#spread .chosen")?.classList.remove("chosen");
    sift();
  };
  for (const bar of document.querySelectorAll("#spread rect[data-low]")) {
    bar.addEventListener("click", () => {
      const again = bar.classList.contains("chosen");
      unrange();
      if (again) return;
      range = [Number(bar.dataset.low), Number(bar.dataset.high)];
      bar.classList.add("chosen");
      controls.range.textContent = `activation ${form(range[0])} to ${form(range[1])} \u00d7`;
      controls.range.title = "Show all activations again";
      controls.range.hidden = false;
      sift();
    });
  }
  controls.range.addEventListener("click", unrange);

  controls.sort.addEventListener("change", arrange);
  controls.turn.addEventListener("click", () => {
    controls.turn.setAttribute("aria-pressed", String(controls.turn.getAttribute("aria-pressed") !== "true"));
    arrange();
  });
  controls.which.addEventListener("change", sift);
  controls.filter.addEventListener("input", sift);
  const asked = new URLSearchParams(location.search);
  for (const [key, select] of [["sort", controls.sort], ["show", controls.which]]) {
    if (Array.from(select.options).some(({ value }) => value === asked.get(key))) select.value = asked.get(key);
  }
  document.getElementById("controls").hidden = false;
  for (const { link } of units) link.tabIndex = -1;
  if (controls.sort.value !== "unit") arrange();
  sift();
})();
