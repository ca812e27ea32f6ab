"use strict";
// Units side by side. The fragment of the address lists them: layer/FOLDER/UNIT, separated by commas.
(() => {
  const table = document.getElementById("comparison");
  const nothing = document.getElementById("nothing");
  const actions = document.getElementById("actions");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const form = window.NEURON_ATLAS_FORMAT;

  const loading = new Map();
  const load = (folder) => {
    if (!loading.has(folder)) {
      loading.set(
        folder,
        new Promise((resolve) => {
          const script = make("script", { src: `${folder}/data.js` });
          script.addEventListener("load", () => resolve(window.NEURON_ATLAS_LAYERS?.[folder]));
          script.addEventListener("error", () => resolve(undefined));
          document.head.append(script);
        }),
      );
    }
    return loading.get(folder);
  };
  const chosen = () =>
    decodeURIComponent(location.hash.slice(1))
      .split(",")
      .filter((address) => /^layer\/[a-z0-9~_-][a-z0-9~_.-]*\/\d+$/.test(address));
  const choose = (addresses) => {
    location.hash = addresses.join(",");
  };
  const find = async (address) => {
    const [, folder, number] = /^(layer\/[^/]+)\/(\d+)$/.exec(address);
    const layer = await load(folder);
    const unit = Number(number);
    let index = 0;
    for (const [start, end] of layer?.units || []) {
      if (unit >= start && unit < end) return { address, folder, layer, unit, index: index + unit - start };
      index += end - start;
    }
    return { address, missing: true };
  };

  const picture = ({ folder, layer, unit }, seed, size) => {
    const src = `${folder}/img/${unit}-s${seed}${layer.crop ? "-rf" : ""}.webp`;
    return make("img", { src, width: size, height: size, alt: `Unit ${unit} of ${layer.title}, seed ${seed}` });
  };
  const head = (found) => {
    const remove = make("button", { type: "button", class: "plain", "aria-label": `Remove unit ${found.unit ?? ""} from the comparison` }, "\u00d7");
    remove.addEventListener("click", () => choose(chosen().filter((address) => address !== found.address)));
    if (found.missing) return make("th", { scope: "col" }, make("span", {}, `${found.address} is not in this atlas`), remove);
    const label = found.layer.labels[found.unit];
    const name = label ? label.split(",")[0].trim() : `unit ${found.unit}`;
    const link = make("a", { href: `${found.folder}/${found.unit}.html` }, name);
    const about = make("small", {}, `${found.layer.title}${label ? `, unit ${found.unit}` : ""}`);
    return make("th", { scope: "col" }, make("span", {}, link, about), remove);
  };
  const row = (title, units, cell, description = "") => {
    const name = make("th", { scope: "row" }, title);
    if (description) name.title = description;
    return make("tr", {}, name, ...units.map((unit) => make("td", {}, unit.missing ? "" : cell(unit))));
  };

  const draw = async () => {
    const addresses = chosen();
    nothing.hidden = addresses.length > 0;
    actions.hidden = table.hidden = addresses.length === 0;
    const units = await Promise.all(addresses.map(find));
    if (addresses.join() !== chosen().join()) return;
    const columns = new Map();
    for (const { layer } of units) for (const column of layer?.columns || []) columns.set(column.key, column);
    const value = (key) => (unit) => {
      const column = unit.layer.columns.find((other) => other.key === key);
      return column ? form(column.values[unit.index], column.form) : "\u2013";
    };
    const seeds = ({ layer, unit }) => layer.other_seeds[unit] || layer.seeds;
    const best = (unit) => {
      const seed = unit.layer.best[unit.index];
      return seed < 0 ? make("span", { class: "f dead" }, "dead") : picture(unit, seed, 256);
    };
    const others = (unit) => {
      const rest = seeds(unit).filter((seed) => seed !== unit.layer.best[unit.index]);
      return make("span", { class: "minis" }, ...rest.map((seed) => picture(unit, seed, 72)));
    };
    const several = units.some((unit) => !unit.missing && seeds(unit).length > 1);
    table.replaceChildren(
      make("thead", {}, make("tr", {}, make("td"), ...units.map(head))),
      make(
        "tbody",
        {},
        row("picture", units, best),
        ...(several ? [row("other seeds", units, others)] : []),
        row("layer", units, ({ folder, layer }) => make("a", { href: `${folder}/index.html` }, layer.title)),
        ...Array.from(columns.values(), ({ key, title, description }) => row(title, units, value(key), description)),
      ),
    );
  };
  document.addEventListener("choose-unit", (event) => {
    event.preventDefault();
    if (!chosen().includes(event.detail)) choose([...chosen(), event.detail]);
  });
  document.getElementById("clear").addEventListener("click", () => choose([]));
  addEventListener("hashchange", draw);
  draw();
})();
