/* The key `!` opens the stop page, about the order of the page if it shows one. On the stop page, ask
   the exchange again until nothing is open. */
"use strict";

(() => {
  const isTyping = (target) => target.isContentEditable || target.matches("input, textarea, select");

  document.addEventListener("keydown", (event) => {
    if (event.key !== "!" || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    const link = document.querySelector("[data-stop-link]") || document.querySelector('a[href$="/admin/stop/"]');
    if (link) location.href = link.href;
  });

  const PAUSE_MS = 700;
  const AFTER_FAILURE_MS = 3000;

  const askAgain = async () => {
    const form = document.querySelector("[data-ask-again]");
    if (!form) return;
    let pause = PAUSE_MS;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new FormData(form), cache: "no-store" });
      if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("desk-proof");
      document.getElementById("desk-proof").replaceWith(fresh);
    } catch {
      pause = AFTER_FAILURE_MS;
    }
    setTimeout(askAgain, pause);
  };
  document.addEventListener("DOMContentLoaded", askAgain);
})();
