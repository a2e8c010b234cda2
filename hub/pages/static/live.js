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

  const onTap = (event) => {
    last = event.lastEventId;
    if (!taps) return;
    const html = JSON.parse(event.data).html;
    if (!held) return showTap(html);
    held.push(html);
    if (held.length > shown) held.shift();
  };

  const onDoor = (event) => {
    replace(JSON.parse(event.data).html);
    refresh();
  };

  const onMissed = () => {
    if (page.querySelector("[data-part]")) refresh();
    else setTimeout(() => location.reload(), 500 + Math.random() * 4000);
  };

  /* Only a page that can be seen holds a connection: browsers allow few to one host. */
  let stream = null;
  let last = "";
  const open = () => {
    const address = new URL(page.dataset.stream, location.href);
    if (last) address.searchParams.set("after", last);
    stream = new EventSource(address);
    stream.onopen = () => showState("live");
    stream.onerror = () => showState(stream?.readyState === EventSource.CLOSED ? "ended" : "waiting");
    stream.addEventListener("tap", onTap);
    stream.addEventListener("door", onDoor);
    stream.addEventListener("confirmation", refresh);
    stream.addEventListener("missed", onMissed);
  };
  const close = () => {
    stream?.close();
    stream = null;
  };
  const follow = () => {
    if (document.hidden) close();
    else if (!stream) open();
  };
  follow();
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", close);
  addEventListener("pageshow", follow);

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
})();
