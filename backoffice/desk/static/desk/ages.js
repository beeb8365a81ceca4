/* Age the figures of a list, which isn't fetched again: an old one must not look new. */
"use strict";

(() => {
  const FRESH_SECONDS = 60;
  const loadedAt = Date.now(); // goes on while the computer sleeps
  const units = [["day", 86400], ["hour", 3600], ["minute", 60]];

  const words = (seconds) => {
    const [unit, length] = units.find(([, length]) => seconds >= length);
    const options = { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 0 };
    return new Intl.NumberFormat(document.documentElement.lang, options).format(Math.floor(seconds / length));
  };

  setInterval(() => {
    const passed = (Date.now() - loadedAt) / 1000;
    for (const mark of document.querySelectorAll("small[data-age]")) {
      const seconds = Number(mark.dataset.age) + passed;
      if (seconds > FRESH_SECONDS) mark.textContent = words(seconds);
    }
  }, 10000);
})();
