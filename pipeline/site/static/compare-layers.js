"use strict";
// Whole layers side by side: their figures, then their units in rows, unit by unit or rank by rank. The units of one layer
// in several atlases, unit by unit, are a film strip of them.
(() => {
  const ROWS = 40;
  const part = document.getElementById("layers-part");
  const table = document.getElementById("figures");
  const measured = document.getElementById("measured");
  const list = document.getElementById("lined");
  const lineup = document.getElementById("lineup");
  const more = document.getElementById("more");
  let shown = { layers: [] };
  let limit = ROWS;

  const numbers = (layer) => layer.units.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i));
  const column = (layer, key) => layer.columns.find((other) => other.key === key);
  const numeric = ({ form }) => form !== "text" && form !== "yesno";
  const median = (values) => {
    const known = values.filter((value) => typeof value === "number").sort((a, b) => a - b);
    return known.length ? known[Math.floor(known.length / 2)] : null;
  };

  // Every row: for each layer the index of the unit there, -1 where it has none. Units that all have come first.
  const byUnit = (layers) => {
    const places = layers.map(({ units }) => new Map(units.map((unit, index) => [unit, index])));
    const lacking = (unit) => places.filter((place) => !place.has(unit)).length;
    const every = [...new Set(layers.flatMap(({ units }) => units))].sort((a, b) => lacking(a) - lacking(b) || a - b);
    return every.map((unit) => ({ name: layers.map(({ layer }) => layer.labels[unit]).find(Boolean)?.split(",")[0] || `unit ${unit}`, cells: places.map((place) => place.get(unit) ?? -1) }));
  };
  const byDifference = (layers) => {
    const values = layers.map(({ layer }) => column(layer, "activation").values);
    const spread = ({ cells }) => {
      const found = cells.map((index, at) => (index < 0 ? null : values[at][index])).filter((value) => value !== null);
      const scale = Math.max(...found.map(Math.abs));
      return found.length > 1 && scale > 0 ? (Math.max(...found) - Math.min(...found)) / scale : -1;
    };
    return byUnit(layers).map((row) => ({ row, by: spread(row) })).sort((a, b) => b.by - a.by).map(({ row }) => row);
  };
  const byRank = (layers, key) => {
    const orders = layers.map(({ layer, units }) => {
      const of = column(layer, key);
      if (!of) return [];
      const sign = of.sort === "low" ? 1 : -1;
      const live = units.map((_, index) => index).filter((index) => of.values[index] !== null);
      return live.sort((a, b) => sign * (of.values[a] - of.values[b]));
    });
    const count = Math.max(0, ...orders.map(({ length }) => length));
    return Array.from({ length: count }, (_, rank) => ({ name: `rank ${rank + 1}`, cells: orders.map((order) => order[rank] ?? -1) }));
  };

  // In rows of units the atlas or the layer tells the pictures apart, in rows of ranks the unit.
  const named = ({ layer, atlas }) => atlas.title || (shown.layers.some((other) => other.atlas.title) ? "this atlas" : layer.title);
  const cell = (found, index, key, ranked, make, form) => {
    const { folder, layer, units } = found;
    if (index < 0) return make("span", { class: "tile absent" }, make("span", { class: "f" }), make("b", {}, "\u2013"));
    const side = layer.columns_in_sprite;
    const place = index % (side * side);
    const frame = make("span", { class: layer.best[index] < 0 ? "f dead" : "f" });
    if (layer.best[index] < 0) frame.append("dead");
    else {
      const src = `${folder}/grid/${Math.floor(index / (side * side))}.webp`;
      frame.append(make("img", { class: `x${place % side} y${Math.floor(place / side)}`, src, alt: "", loading: "lazy" }));
    }
    const unit = units[index];
    const of = column(layer, key) || column(layer, "activation");
    const name = ranked ? layer.labels[unit]?.split(",")[0] || `unit ${unit}` : named(found);
    const link = make("a", { class: "tile", href: `${folder}/${unit}.html`, title: name }, frame, make("b", {}, name), make("i", {}, form(of.values[index], of.form)));
    return make("span", { class: `n${side}` }, link);
  };

  const draw = () => {
    const { layers, missing, make, form, head } = shown;
    const ranked = !["unit", "differ"].includes(lineup.value);
    const rows = lineup.value === "unit" ? byUnit(layers) : lineup.value === "differ" ? byDifference(layers) : byRank(layers, lineup.value);
    const key = ranked ? lineup.value : "activation";
    const columns = new Map();
    for (const { layer } of layers) for (const one of layer.columns.filter(numeric)) columns.set(one.key, one);
    const fact = (title, text, description = "") => {
      const name = make("th", { scope: "row" }, title);
      if (description) name.title = description;
      return make("tr", {}, name, ...layers.map((found) => make("td", {}, text(found))), ...missing.map(() => make("td")));
    };
    const middle = ({ key: wanted, title, form: kind, description }) =>
      fact(`${title}, median`, ({ layer }) => form(median(column(layer, wanted)?.values || []), kind), description);
    const known = Array.from(columns.values()).filter(({ key: wanted }) => layers.some(({ layer }) => column(layer, wanted)?.values.some((value) => value !== null)));
    const ofStudies = known.filter(({ key: wanted }) => wanted.includes("."));
    table.replaceChildren(
      make("thead", {}, make("tr", {}, make("td"), ...layers.map(head), ...missing.map(head))),
      make(
        "tbody",
        {},
        fact("units", ({ units }) => units.length.toLocaleString("en")),
        fact("dead", ({ layer }) => layer.best.filter((seed) => seed < 0).length.toLocaleString("en")),
        ...known.filter((one) => !ofStudies.includes(one)).map(middle),
      ),
    );
    const names = layers.map(({ layer, atlas }) => make("th", { scope: "col" }, [layer.title, atlas.title].filter(Boolean).join(", ")));
    measured.replaceChildren(
      make("thead", {}, make("tr", {}, make("td"), ...names, ...missing.map(() => make("td")))),
      make("tbody", {}, ...ofStudies.map(middle)),
    );
    document.getElementById("medians").hidden = ofStudies.length === 0;
    list.replaceChildren(
      ...rows.slice(0, limit).map(({ name, cells }) =>
        make("li", {}, make("p", {}, name), make("div", {}, ...cells.map((index, at) => cell(layers[at], index, key, ranked, make, form)))),
      ),
    );
    more.hidden = rows.length <= limit;
    more.textContent = `Show more (${Math.min(limit, rows.length)} of ${rows.length.toLocaleString("en")})`;
  };

  const offer = ({ layers, make }) => {
    const before = lineup.value;
    const same = layers.length > 1 && new Set(layers.map(({ layer }) => layer.name)).size === 1;
    const columns = new Map();
    for (const { layer } of layers) for (const one of layer.columns) if (one.sort !== "none" && numeric(one)) columns.set(one.key, one.title);
    const options = [["unit", "unit by unit"], ...(layers.length > 1 ? [["differ", "unit by unit, most different first"]] : [])];
    for (const [key, title] of columns) options.push([key, `by rank of ${title}`]);
    lineup.replaceChildren(...options.map(([value, title]) => make("option", { value }, title)));
    const wanted = before && chosenByHand ? before : same ? "unit" : "activation";
    lineup.value = options.some(([value]) => value === wanted) ? wanted : "unit";
  };
  let chosenByHand = false;
  lineup.addEventListener("change", () => {
    chosenByHand = true;
    limit = ROWS;
    draw();
  });
  more.addEventListener("click", () => {
    limit += ROWS;
    draw();
  });
  document.addEventListener("compare-layers", ({ detail }) => {
    const missing = detail.layers.filter((found) => found.missing);
    const layers = detail.layers.filter((found) => !found.missing).map((found) => ({ ...found, units: numbers(found.layer) }));
    part.hidden = detail.layers.length === 0;
    if (part.hidden) return;
    shown = { ...detail, layers, missing };
    limit = ROWS;
    offer(shown);
    draw();
  });
})();
