/* The page of one order: copy its message, draw the market around it, and keep its tables live. */
"use strict";

(() => {
  const copy = async (button) => {
    const text = button.parentElement.querySelector("[data-copy-source]").textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = button.dataset.done;
    } catch {
      // Without the right to the clipboard, select the text for the person.
      getSelection().selectAllChildren(button.parentElement.querySelector("[data-copy-source]"));
    }
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });

  const draw = (place, data) => {
    const isDark = document.documentElement.classList.contains("dark");
    const text = isDark ? "#a3a3a3" : "#525252";
    const line = isDark ? "rgba(255,255,255,.08)" : "rgba(0,0,0,.08)";
    const { createChart, createSeriesMarkers, CandlestickSeries } = LightweightCharts;
    const chart = createChart(place, {
      autoSize: true,
      layout: { background: { color: "transparent" }, textColor: text, attributionLogo: true },
      grid: { vertLines: { color: line }, horzLines: { color: line } },
      timeScale: { timeVisible: true, secondsVisible: true },
    });
    // Rising candles are hollow, so that color isn't all that tells them apart.
    const series = chart.addSeries(CandlestickSeries, {
      upColor: "transparent", downColor: "#b91c1c", borderUpColor: "#15803d", borderDownColor: "#b91c1c",
      wickUpColor: "#15803d", wickDownColor: "#b91c1c",
    });
    const numbers = (row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, Number(value)]));
    series.setData(data.candles.map(numbers));
    const times = data.candles.map((row) => row.time);
    const candleOf = (time) => times.filter((one) => one <= time).pop() ?? times[0];
    createSeriesMarkers(
      series,
      data.fills.map((fill) => ({
        time: candleOf(fill.time),
        position: fill.side === "BUY" ? "belowBar" : "aboveBar",
        shape: fill.side === "BUY" ? "arrowUp" : "arrowDown",
        color: isDark ? "#818cf8" : "#4f46e5",
        text: data.fills.length > 8 ? "" : fill.text,
      })),
    );
    for (const { price, title } of data.lines) {
      series.createPriceLine({ price: Number(price), title, color: isDark ? "#fbbf24" : "#b45309", lineStyle: 2 });
    }
    chart.timeScale().fitContent();
  };

  const showPrices = async (place) => {
    try {
      const answer = await fetch(place.dataset.prices, { cache: "no-store" });
      const data = await answer.json();
      if (data.error || !data.candles.length) throw new Error(data.error || place.dataset.empty);
      draw(place, data);
    } catch (error) {
      place.classList.add("desk-empty-chart");
      place.textContent = error.message;
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("order_form");
    if (form) {
      form.dataset.live = "orders";
      form.dataset.livePause = "1000";
    }
    const place = document.getElementById("desk-prices");
    if (place) showPrices(place);
  });
})();
