"use strict";
// The facts of the run that published this atlas.
(() => {
  const make = (tag, ...children) => {
    const element = document.createElement(tag);
    element.append(...children);
    return element;
  };
  const duration = (seconds) => {
    if (seconds < 60) return `${seconds} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const facts = window.NEURON_ATLAS_RUN || {};
  const run = document.getElementById("run");
  for (const [key, value] of Object.entries(facts)) {
    if (value === null || value === "") continue;
    const seconds = key.endsWith("_s") && typeof value === "number";
    const name = (seconds ? key.slice(0, -2) : key).replaceAll("_", " ");
    const text = seconds ? duration(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
    run.append(make("div", make("dt", name), make("dd", text)));
  }
  const when = document.getElementById("when");
  if (typeof facts.date === "string" && /^\d{4}-\d\d-\d\d/.test(facts.date)) {
    const day = new Date(`${facts.date.slice(0, 10)}T12:00:00Z`);
    when.append("built ", make("b", day.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" })));
    when.hidden = false;
  }
})();
