"use strict";
// Where the atlas is served, the citation names the page's address.
(() => {
  const place = document.getElementById("permalink");
  if (place && /^https?:$/.test(location.protocol)) place.textContent = location.origin + location.pathname;
})();
