"use strict";
// Sorts and filters the gallery of a layer.
(() => {
  const gallery = document.getElementById("gallery");
  if (!gallery) return;
  const sort = document.getElementById("sort");
  const filter = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const words = new Intl.Collator("en", { sensitivity: "base", numeric: true });
  const units = Array.from(gallery.children, (item) => {
    const { unit, activation, label = "", pre } = item.dataset;
    const text = [label, unit, activation === undefined ? "dead" : "", pre ? "pre-activation" : ""];
    return {
      item,
      unit: Number(unit),
      activation: activation === undefined ? -Infinity : Number(activation),
      group: activation === undefined ? 2 : pre ? 1 : 0,
      label,
      text: text.join(" ").toLowerCase(),
    };
  });
  const byIndex = (a, b) => a.unit - b.unit;
  const orders = {
    index: byIndex,
    // The dead come last, and before them those whose number is of another kind.
    activation: (a, b) => a.group - b.group || (a.activation === b.activation ? byIndex(a, b) : b.activation - a.activation),
    label: (a, b) => Number(!a.label) - Number(!b.label) || words.compare(a.label, b.label) || byIndex(a, b),
  };

  const applySort = () => {
    units.sort(orders[sort.value] || byIndex);
    gallery.append(...units.map(({ item }) => item));
  };
  const applyFilter = () => {
    const wanted = filter.value.trim().toLowerCase();
    const matches = /^\d+$/.test(wanted)
      ? ({ unit, label }) => String(unit) === wanted || label.toLowerCase().includes(wanted)
      : ({ text }) => text.includes(wanted);
    let count = 0;
    for (const unit of units) {
      unit.item.hidden = !matches(unit);
      count += Number(!unit.item.hidden);
    }
    shown.textContent = count === units.length ? `${count} shown` : `${count} of ${units.length} shown`;
  };

  sort.addEventListener("change", applySort);
  filter.addEventListener("input", applyFilter);
  document.getElementById("controls").hidden = false;
  if (sort.value !== "index") applySort();
  if (filter.value) applyFilter();
})();
