"use strict";
// Units side by side. The fragment of the address lists them: layer/FOLDER/UNIT, separated by commas; those of another
// atlas are NAME!layer/FOLDER/UNIT; without a UNIT it is a whole layer, which compare-layers.js draws. Only atlases that
// the page itself names are known: their scripts are run.
(() => {
  const table = document.getElementById("comparison");
  const part = document.getElementById("units-part");
  const nothing = document.getElementById("nothing");
  const actions = document.getElementById("actions");
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const form = window.NEURON_ATLAS_FORMAT;

  const select = document.getElementById("others");
  const others = new Map();
  for (const option of select?.options || []) {
    if (option.value) others.set(option.value, { title: option.text, href: `${option.dataset.href}/` });
  }
  const here = { title: "", href: "" };

  const loading = new Map();
  const load = (atlas, folder) => {
    const place = `${atlas.href}${folder}`;
    if (!loading.has(place)) {
      loading.set(
        place,
        new Promise((resolve) => {
          const script = make("script", { src: `${place}/data.js` });
          // Two atlases use one name for a layer; a script's load event comes before the next script runs.
          script.addEventListener("load", () => {
            const layer = window.NEURON_ATLAS_LAYERS?.[folder];
            if (layer) delete window.NEURON_ATLAS_LAYERS[folder];
            resolve(layer);
          });
          script.addEventListener("error", () => resolve(undefined));
          document.head.append(script);
        }),
      );
    }
    return loading.get(place);
  };
  const ADDRESS = /^(?:([a-z0-9._-]+)!)?(layer\/[a-z0-9~_-][a-z0-9~_.-]*)(?:\/(\d+))?$/;
  const chosen = () =>
    decodeURIComponent(location.hash.slice(1))
      .split(",")
      .filter((address) => ADDRESS.test(address));
  const choose = (addresses) => {
    location.hash = addresses.join(",");
  };
  const find = async (address) => {
    const [, name, inside, number] = ADDRESS.exec(address);
    const atlas = name ? others.get(name) : here;
    const layer = atlas && (await load(atlas, inside));
    const folder = `${atlas?.href}${inside}`;
    if (number === undefined) return layer ? { address, atlas, folder: `${atlas.href}${inside}`, layer } : { address, missing: true, whole: true };
    const unit = Number(number);
    let index = 0;
    for (const [start, end] of layer?.units || []) {
      if (unit >= start && unit < end) return { address, atlas, folder, layer, unit, index: index + unit - start };
      index += end - start;
    }
    return { address, missing: true };
  };

  const picture = ({ folder, layer, unit }, seed, size) => {
    const src = `${folder}/img/${unit}-s${seed}${layer.crop ? "-rf" : ""}.webp`;
    return make("img", { src, width: size, height: size, alt: `Unit ${unit} of ${layer.title}, seed ${seed}` });
  };
  const head = (found) => {
    const what = found.missing ? found.address : found.unit === undefined ? `layer ${found.layer.title}` : `unit ${found.unit}`;
    const remove = make("button", { type: "button", class: "plain", "aria-label": `Remove ${what} from the comparison` }, "\u00d7");
    remove.addEventListener("click", () => choose(chosen().filter((address) => address !== found.address)));
    if (found.missing) return make("th", { scope: "col" }, make("span", {}, `${found.address} is not in this atlas`), remove);
    const of = found.atlas.title ? [make("small", {}, found.atlas.title)] : [];
    if (found.unit === undefined) {
      return make("th", { scope: "col" }, make("span", {}, make("a", { href: `${found.folder}/index.html` }, found.layer.title), ...of), remove);
    }
    const label = found.layer.labels[found.unit];
    const name = label ? label.split(",")[0].trim() : `unit ${found.unit}`;
    const link = make("a", { href: `${found.folder}/${found.unit}.html` }, name);
    const about = make("small", {}, `${found.layer.title}${label ? `, unit ${found.unit}` : ""}`);
    if (found.atlas.title) about.append(make("br"), found.atlas.title);
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
    document.getElementById("clear").hidden = addresses.length === 0;
    const all = await Promise.all(addresses.map(find));
    if (addresses.join() !== chosen().join()) return;
    const layers = all.filter(({ layer, unit, whole }) => whole || (layer && unit === undefined));
    const units = all.filter((found) => !layers.includes(found));
    part.hidden = units.length === 0;
    document.dispatchEvent(new CustomEvent("compare-layers", { detail: { layers, make, form, head } }));
    if (!units.length) return;
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
    const told = Array.from(columns.values()).filter(({ key }) => units.some(({ layer, index }) => (layer?.columns.find((other) => other.key === key)?.values[index] ?? null) !== null));
    const lowered = (unit) => (unit.layer.columns.find(({ key }) => key === "lowest")?.values[unit.index] ?? null) !== null;
    const lowest = (unit) => {
      const { folder, layer, unit: number } = unit;
      const src = `${folder}/img/${number}-low${layer.crop ? "-rf" : ""}.webp`;
      return lowered(unit) ? make("img", { src, width: 256, height: 256, alt: `What lowers unit ${number} of ${layer.title} most` }) : "\u2013";
    };
    const several = units.some((unit) => !unit.missing && seeds(unit).length > 1);
    table.replaceChildren(
      make("thead", {}, make("tr", {}, make("td"), ...units.map(head))),
      make(
        "tbody",
        {},
        row("picture", units, best),
        ...(several ? [row("other seeds", units, others)] : []),
        ...(units.some((unit) => !unit.missing && lowered(unit)) ? [row("lowers it most", units, lowest)] : []),
        row("layer", units, ({ folder, layer }) => make("a", { href: `${folder}/index.html` }, layer.title)),
        ...told.map(({ key, title, description }) => row(title, units, value(key), description)),
      ),
    );
  };
  document.addEventListener("choose-unit", (event) => {
    event.preventDefault();
    if (!chosen().includes(event.detail)) choose([...chosen(), event.detail]);
  });
  document.getElementById("add")?.addEventListener("click", () => {
    const names = select.value ? [select.value] : [...others.keys()];
    const own = chosen().filter((address) => !address.includes("!"));
    const more = own.flatMap((address) => names.map((name) => `${name}!${address}`));
    choose([...new Set([...chosen(), ...more])]);
  });
  document.getElementById("clear").addEventListener("click", () => choose([]));
  document.getElementById("add-layer")?.addEventListener("click", () => {
    choose([...new Set([...chosen(), document.getElementById("layers").value])]);
  });
  actions.hidden = false;
  addEventListener("hashchange", draw);
  draw();
})();
