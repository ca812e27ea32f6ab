"use strict";
// A unit's page: where the atlas is served, the citation names the address; and the film of the climb can be scrubbed.
(() => {
  const place = document.getElementById("permalink");
  if (place && /^https?:$/.test(location.protocol)) place.textContent = location.origin + location.pathname;
})();
(() => {
  const frames = Array.from(document.querySelectorAll("#frames > li"));
  if (!frames.length) return;
  const [scrub, told, play] = ["scrub", "told", "play"].map((id) => document.getElementById(id));
  const screen = document.querySelector("#screen > svg");
  const cursor = document.querySelector("#climb .cursor");
  const INTERVAL_MS = 350;
  const show = (index) => {
    const frame = frames[index];
    scrub.value = String(index);
    scrub.setAttribute("aria-valuetext", frame.dataset.told);
    told.textContent = frame.dataset.told;
    screen.setAttribute("viewBox", frame.querySelector("svg").getAttribute("viewBox"));
    for (const other of frames) other.classList.toggle("now", other === frame);
    if (cursor) cursor.setAttribute("transform", `translate(${frame.dataset.x} 0)`);
    cursor?.removeAttribute("hidden");
  };
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    let index = 0;
    show(0);
    play.textContent = "Stop";
    timer = setInterval(() => {
      index += 1;
      show(index);
      if (index === frames.length - 1) stop();
    }, INTERVAL_MS);
  });
  scrub.addEventListener("input", () => {
    stop();
    show(Number(scrub.value));
  });
  frames.forEach((frame, index) =>
    frame.addEventListener("click", () => {
      stop();
      show(index);
    }),
  );
  show(frames.length - 1);
  document.getElementById("scrubber").hidden = false;
})();
