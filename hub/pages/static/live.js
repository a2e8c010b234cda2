/* Keeps a page current: what the server renders arrives as events and takes its place. */
"use strict";

(() => {
  const page = document.querySelector("[data-stream]");
  if (!page) return;

  const state = document.getElementById("link-state");
  const taps = document.getElementById("taps");
  const said = document.getElementById("announcement");
  const pause = document.getElementById("pause");
  const shown = 60;
  let held = null; // what arrives while paused

  const parse = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html; // rendered and escaped by the hub
    return holder.content.firstElementChild;
  };

  const showState = (name) => {
    if (!state) return;
    for (const each of state.children) each.hidden = each.dataset.state !== name;
  };

  const showTap = (html) => {
    const item = parse(html);
    if (!item || document.getElementById(item.id)) return;
    document.getElementById("no-taps")?.remove();
    item.classList.add("fresh");
    taps.prepend(item);
    while (taps.children.length > shown) taps.lastElementChild.remove();
    if (said && item.dataset.announce) said.textContent = item.dataset.announce;
  };

  const replace = (html) => {
    const fresh = parse(html);
    const old = fresh && document.getElementById(fresh.id);
    if (old && old.outerHTML !== fresh.outerHTML) old.replaceWith(fresh);
    else if (fresh && !old && page.dataset.list) document.getElementById(page.dataset.list)?.append(fresh);
  };

  let refreshing = null;
  const refresh = () => {
    const part = page.querySelector("[data-part]");
    if (!part || refreshing) return;
    refreshing = setTimeout(async () => {
      refreshing = null;
      try {
        const answer = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
        if (answer.ok && !answer.redirected) replace(await answer.text());
      } catch {
        /* the stream reconnects and brings it again */
      }
    }, 150);
  };

  const stream = new EventSource(page.dataset.stream);
  stream.onopen = () => showState("live");
  stream.onerror = () => showState(stream.readyState === EventSource.CLOSED ? "ended" : "waiting");
  stream.addEventListener("tap", (event) => {
    if (!taps) return;
    const html = JSON.parse(event.data).html;
    if (!held) return showTap(html);
    held.push(html);
    if (held.length > shown) held.shift();
  });
  stream.addEventListener("door", (event) => {
    replace(JSON.parse(event.data).html);
    refresh();
  });
  stream.addEventListener("confirmation", refresh);
  stream.addEventListener("missed", () => {
    setTimeout(() => location.reload(), 500 + Math.random() * 4000);
  });

  pause?.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") === "true";
    pause.setAttribute("aria-pressed", String(!paused));
    if (paused) {
      const waiting = held;
      held = null;
      waiting.forEach(showTap);
    } else {
      held = [];
    }
  });

  addEventListener("pagehide", () => stream.close());
})();
