/* Live pages. One stream a browser rings; each page then fetches what it shows, with its own rights.

   This file runs twice: as a shared worker, which keeps the one stream of all pages of a browser,
   and in each page. A browser without shared workers has one stream a page. */
"use strict";

(() => {
  const SILENCE_MS = 12000; // the server beats every 5 s
  const GAP_MS = 250; // at most four fetches a second
  const ECHO_MS = 10000; // figures that no bell announces, such as ages
  const jitter = (ms) => ms * (0.5 + Math.random());

  /* Keep a stream open and report `live`, `lost`, `ended` and the topics that ring. */
  class Source {
    constructor(url, report) {
      this.url = url;
      this.report = report;
      this.state = "connecting";
      this.failures = 0;
      this.open();
      setInterval(() => {
        if (this.stream && Date.now() - this.heardAt > SILENCE_MS) this.fail();
      }, 2000);
    }

    open() {
      this.heardAt = Date.now();
      this.stream = new EventSource(this.url);
      const on = (name, act) =>
        this.stream.addEventListener(name, () => {
          this.heardAt = Date.now();
          this.failures = 0;
          act();
        });
      on("beat", () => this.become("live", true));
      on("listening", () => this.become("live"));
      on("lost", () => this.become("lost"));
      on("ended", () => {
        this.close();
        this.become("ended");
      });
      for (const topic of ["orders", "breaks", "accounts"]) {
        on(topic, () => this.report({ topic }));
      }
      this.stream.onerror = () => this.fail();
    }

    close() {
      this.stream.close();
      this.stream = null;
    }

    fail() {
      if (!this.stream) return;
      this.close();
      this.become("lost");
      const pause = jitter(Math.min(1000 * 2 ** this.failures, 20000));
      this.failures += 1;
      setTimeout(() => this.stream || this.open(), pause);
    }

    become(state, isBeat = false) {
      if (state !== this.state || isBeat) this.report({ state, isBeat });
      this.state = state;
    }

    revive() {
      if (this.state === "ended" && !this.stream) this.open();
    }
  }

  if (typeof document === "undefined") {
    const ports = new Set();
    let source = null;
    self.onconnect = (event) => {
      const port = event.ports[0];
      port.onmessage = ({ data }) => {
        if (data.leave) {
          ports.delete(port);
          return;
        }
        ports.add(port);
        if (source) {
          source.revive();
          port.postMessage({ state: source.state });
        } else {
          source = new Source(data.url, (news) => ports.forEach((one) => one.postMessage(news)));
        }
      };
    };
    return;
  }

  const listen = (mark, hear) => {
    const url = new URL(mark.dataset.stream, location.href).href;
    if (typeof SharedWorker === "undefined") {
      new Source(url, hear);
      return;
    }
    const worker = new SharedWorker(mark.dataset.script, { name: "desk-live" });
    worker.port.onmessage = ({ data }) => hear(data);
    worker.port.postMessage({ url });
    addEventListener("pagehide", () => worker.port.postMessage({ leave: true }));
    addEventListener("pageshow", (event) => event.persisted && worker.port.postMessage({ url }));
  };

  class LivePage {
    constructor(mark) {
      this.mark = mark;
      this.state = "connecting";
      this.dirty = new Set();
      this.knownAt = new Date(); // the page itself was just made
      this.startedAt = 0;
      this.fetchedAt = new Map();
      listen(mark, (news) => this.hear(news));
      document.addEventListener("visibilitychange", () => this.work());
      document.addEventListener("focusout", () => setTimeout(() => this.work()));
      setInterval(() => this.ring(null), ECHO_MS);
    }

    regions() {
      return document.querySelectorAll("[data-live][id]");
    }

    hear({ state, topic, isBeat }) {
      if (topic) this.ring(topic);
      if (!state) return;
      const was = this.state;
      this.state = state;
      if (state === "live" && was !== "live") this.ring(null); // bells may have been missed
      if (isBeat && !this.dirty.size) this.knownAt = new Date();
      this.show();
    }

    ring(topic) {
      if (!topic) this.isFull = true;
      for (const region of this.regions()) {
        if (!topic || region.dataset.live.split(" ").includes(topic)) this.dirty.add(region.id);
      }
      this.work();
    }

    mayFetch() {
      return this.state === "live" && !document.hidden;
    }

    /* Return a region that waits for fresh content. One with `data-live-pause` waits longer. */
    next() {
      const waiting = [...this.dirty].map((id) => document.getElementById(id)).filter((one) => one && !isInUse(one));
      const rest = (one) => (this.fetchedAt.get(one.id) ?? -1e9) + Number(one.dataset.livePause || 0) - performance.now();
      const due = waiting.find((one) => rest(one) <= 0);
      if (!due && waiting.length) setTimeout(() => this.work(), Math.max(50, Math.min(...waiting.map(rest))));
      return due;
    }

    /* Fetch the regions one by one. A slow server is asked less often. */
    async work() {
      if (this.isBusy || !this.mayFetch()) return;
      this.isBusy = true;
      let pause = GAP_MS;
      while (this.dirty.size && this.mayFetch()) {
        const region = this.next();
        if (!region) break;
        await sleep(this.startedAt + pause - performance.now());
        // One fetch serves all regions of an address.
        const url = addressOf(region);
        const together = [...this.regions()].filter((one) => addressOf(one) === url && !isInUse(one));
        this.startedAt = performance.now();
        for (const one of together) {
          this.dirty.delete(one.id);
          this.fetchedAt.set(one.id, this.startedAt);
        }
        const isDone = await this.fetch(url, together);
        if (!isDone) together.forEach((one) => this.dirty.add(one.id));
        pause = Math.max(GAP_MS, isDone ? 2 * (performance.now() - this.startedAt) : jitter(3000));
        if (isDone && !this.dirty.size && this.state === "live") this.knownAt = new Date();
        this.show();
      }
      this.isBusy = false;
    }

    async fetch(url, regions) {
      // After a bell, a page that hasn't changed may say so. Ages change without a bell.
      const version = this.isFull ? "" : regions.find((one) => one.dataset.liveVersion)?.dataset.liveVersion;
      this.isFull = false;
      try {
        const answer = await fetch(url, {
          // No act of the person, so it doesn't keep an idle session alive.
          headers: { "HX-Request": "true", ...(version && { "X-Desk-Version": version }) },
          cache: "no-store",
          signal: AbortSignal.timeout(15000),
        });
        if (answer.redirected && new URL(answer.url).pathname.includes("/login/")) {
          this.state = "ended";
          return true;
        }
        if (answer.status === 204) return true;
        if (!answer.ok) return false;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const region of regions) {
          const fresh = page.getElementById(region.id);
          if (fresh) swap(region, fresh);
        }
        return true;
      } catch {
        return false;
      }
    }

    show() {
      const isOld = Date.now() - this.knownAt > 3 * ECHO_MS;
      const shown = this.state === "lost" || (this.state === "live" && isOld) ? "stale" : this.state;
      if (this.mark.dataset.state !== shown) this.mark.dataset.state = shown;
      const iso = this.knownAt.toISOString();
      for (const time of this.mark.querySelectorAll("time")) {
        time.dateTime = iso;
        time.textContent = iso.slice(11, 19);
      }
    }
  }

  const sleep = (ms) => new Promise((done) => setTimeout(done, Math.max(0, ms)));

  const addressOf = (region) => region.dataset.liveUrl || location.href.split("#")[0];

  /* A person is typing in it. */
  const isInUse = (region) =>
    region.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), select, textarea");

  /* Replace the content, and keep what the person opened, ticked and focused. */
  const swap = (region, fresh) => {
    const key = (one) => one.dataset.key || one.querySelector("summary")?.textContent;
    const open = new Set([...region.querySelectorAll("details[open]")].map(key));
    const ticked = new Set([...region.querySelectorAll("input[type=checkbox]:checked")].map((one) => one.name + one.value));
    const focused = region.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    for (const one of fresh.querySelectorAll("details")) if (open.has(key(one))) one.open = true;
    for (const one of fresh.querySelectorAll("input[type=checkbox]")) if (ticked.has(one.name + one.value)) one.checked = true;
    region.dispatchEvent(new CustomEvent("desk:before-swap", { bubbles: true, detail: { fresh } }));
    if (fresh.dataset.liveVersion) region.dataset.liveVersion = fresh.dataset.liveVersion;
    region.replaceChildren(...fresh.childNodes);
    if (focused) region.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    if (window.htmx) window.htmx.process(region);
    region.dispatchEvent(new CustomEvent("desk:swapped", { bubbles: true }));
  };

  document.addEventListener("DOMContentLoaded", () => {
    const mark = document.getElementById("desk-live");
    if (mark) window.deskLive = new LivePage(mark);
  });
})();
