// Keys of the lists: j and k walk through the rows, Enter opens, x selects, Esc leaves.
// The theme has "/" for the search box and Ctrl+K for the palette.
(function () {
  "use strict";
  let current = -1;

  function rows() {
    return Array.from(document.querySelectorAll("#result_list .desk-row"));
  }

  function isTyping(event) {
    const where = event.target;
    return where.isContentEditable || /^(INPUT|TEXTAREA|SELECT|BUTTON|SUMMARY)$/.test(where.tagName);
  }

  function choose(index) {
    const all = rows();
    if (!all.length) return;
    current = Math.max(0, Math.min(all.length - 1, index));
    all.forEach((row, number) => row.classList.toggle("desk-row-current", number === current));
    all[current].scrollIntoView({ block: "nearest" });
    const link = all[current].querySelector("a");
    if (link) link.focus({ preventScroll: true });
  }

  function leave() {
    rows().forEach((row) => row.classList.remove("desk-row-current"));
    current = -1;
    document.querySelectorAll(".desk-tool[open]").forEach((tool) => tool.removeAttribute("open"));
    if (document.activeElement) document.activeElement.blur();
  }

  document.addEventListener("keydown", function (event) {
    if (event.key === "Escape") return leave();
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    if (event.key === "j") choose(current + 1);
    else if (event.key === "k") choose(current < 0 ? 0 : current - 1);
    else if (event.key === "x" && current >= 0) {
      const box = rows()[current].querySelector("input.action-select");
      if (box) box.click();
    } else return;
    event.preventDefault();
  });

  // The palette marks its best match, so Enter opens it. An Enter that comes before the results of
  // the text waits for them. Results of an earlier text are never opened.
  const PALETTE = "search-input-command";
  let answered = null;
  let waiting = null;

  function press(input, keys) {
    input.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...keys }));
  }

  document.addEventListener("keydown", function (event) {
    const input = event.target;
    if (input.id !== PALETTE) return;
    waiting = null;
    if (event.key !== "Enter") return;
    const isHistory = !input.value.trim();
    const isReady = isHistory
      ? document.querySelector("#command-history li.active")
      : input.value === answered && document.querySelector("#command-results-list a");
    if (isReady) return;
    event.preventDefault();
    event.stopPropagation();
    if (!isHistory) waiting = { key: "Enter", ctrlKey: event.ctrlKey, metaKey: event.metaKey };
  }, true);

  // A title that is the text, then one that starts with it, then the first result. The theme puts
  // its own results before ours, so the order of the list doesn't say it.
  function bestMatch(text) {
    const links = Array.from(document.querySelectorAll("#command-results-list a"));
    const titles = links.map((link) => link.dataset.title.toLowerCase());
    const whole = titles.indexOf(text);
    return Math.max(0, whole < 0 ? titles.findIndex((title) => title.startsWith(text)) : whole);
  }

  document.addEventListener("htmx:after-swap", function (event) {
    const input = document.getElementById(PALETTE);
    if (!input || event.target.id !== "command-results") return;
    answered = event.detail.requestConfig.parameters.s;
    const enter = waiting;
    const best = bestMatch(answered.trim().toLowerCase());
    for (let step = 0; step <= best; step += 1) press(input, { key: "ArrowDown" });
    if (!enter) return;
    if (answered === input.value) press(input, enter);
    else waiting = enter;
  });

  // One open tool at a time, and a click elsewhere closes it.
  document.addEventListener("click", function (event) {
    document.querySelectorAll(".desk-tool[open]").forEach((tool) => {
      if (!tool.contains(event.target)) tool.removeAttribute("open");
    });
  });

  // The person's zone, for the times of the next page.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) {
    document.cookie = "desk_zone=" + encodeURIComponent(zone) + "; path=/; max-age=31536000; samesite=lax";
  }
})();
