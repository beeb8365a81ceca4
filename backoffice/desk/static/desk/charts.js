/* Draw the desk's charts with uPlot from the numbers in the page, and again after each live update. */
"use strict";

(() => {
  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);
  const number = (value) => (value === null || value === undefined ? "–" : String(Math.round(value * 10) / 10));

  const palette = () => {
    const isDark = document.documentElement.classList.contains("dark");
    return {
      text: isDark ? "#a3a3a3" : "#525252",
      grid: isDark ? "rgba(255,255,255,.08)" : "rgba(0,0,0,.08)",
      // Told apart by shape and dash as well as by color.
      series: isDark ? ["#818cf8", "#4ade80", "#fbbf24"] : ["#4f46e5", "#15803d", "#b45309"],
    };
  };

  const options = (place, labels, colors) => {
    const kind = place.dataset.kind;
    const isBars = kind === "bars";
    const isDay = kind === "signed" || kind === "area";
    // Money may be negative, and its axis begins near its values.
    const signed = (_chart, low, high) => {
      const room = Math.max((high - low) * 0.1, Math.abs(high) * 0.001, 0.01);
      return [low - room, high + room];
    };
    const fromZero = (_chart, _low, high) => [0, Math.max(high * 1.1, 1)];
    // The first samples of a day would fill the width, and each mark would show the same minute.
    const atLeastAnHour = (_chart, low, high) => [low, Math.max(high, low + 3600)];
    const dashes = [[], [6, 4], [2, 3]];
    const axis = { stroke: colors.text, grid: { stroke: colors.grid, width: 1 }, ticks: { show: false }, font: "11px Inter, sans-serif" };
    return {
      width: place.clientWidth,
      height: 190,
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      legend: { live: true },
      scales: { x: { time: true, range: atLeastAnHour }, y: { range: kind === "signed" ? signed : fromZero } },
      axes: [
        { ...axis, values: (_chart, marks) => marks.map(clock), space: 60 },
        { ...axis, size: isDay ? 64 : 48, values: (_chart, marks) => marks.map(number) },
      ],
      series: [
        { label: "UTC", value: (_chart, at) => (at ? clock(at) : "–") },
        ...labels.map((label, rank) => ({
          label,
          stroke: colors.series[rank],
          width: 1.5,
          dash: isBars ? [] : dashes[rank],
          fill: (isBars && rank === 0) || kind === "area" ? colors.series[rank] + "44" : undefined,
          paths: isBars && rank === 0 ? uPlot.paths.bars({ size: [0.7, 12] }) : undefined,
          points: { show: !isBars && (!isDay || place.isShort), size: 4 },
          spanGaps: false,
          value: (_chart, value) => number(value),
        })),
      ],
    };
  };

  const draw = () => {
    const source = document.getElementById("desk-charts-data");
    if (!source || typeof uPlot === "undefined") return;
    const data = JSON.parse(source.textContent);
    const colors = palette();
    for (const place of document.querySelectorAll("[data-chart]")) {
      place.replaceChildren();
      if (!place.clientWidth || !data[place.dataset.chart]) continue;
      const labels = place.dataset.labels.split("|");
      place.isShort = data[place.dataset.chart][0].length < 40; // a line of one value would be invisible
      new uPlot(options(place, labels, colors), data[place.dataset.chart], place);
    }
  };

  let later;
  const drawSoon = () => {
    clearTimeout(later);
    later = setTimeout(draw, 150);
  };
  document.addEventListener("DOMContentLoaded", () => {
    draw();
    addEventListener("resize", drawSoon);
    new MutationObserver(drawSoon).observe(document.documentElement, { attributeFilter: ["class"] });
  });
  document.addEventListener("desk:swapped", (event) => event.target.id === "desk-charts" && draw());
})();
