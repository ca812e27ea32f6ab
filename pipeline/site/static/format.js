"use strict";
// How a value of a column is written; kinds are those of pipeline/site/panels.py.
window.NEURON_ATLAS_FORMAT = (value, kind) => {
  if (value === null || value === undefined) return "\u2013";
  if (typeof value === "string") return value;
  if (kind === "yesno" || typeof value === "boolean") return value ? "yes" : "no";
  if (kind === "percent") return `${(100 * value).toPrecision(3).replace(/\.?0+$/, "")}\u202f%`;
  if (kind === "percentile") return value.toFixed(1);
  if (kind === "count") return value.toLocaleString("en");
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(4).replace("-", "\u2212");
};
