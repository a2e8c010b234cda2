/* Says on every page that somebody waits at an attended door, while the page is looked at: a hidden one holds no connection. */
"use strict";

(() => {
  const badge = document.getElementById("waiting-badge");
  const said = document.getElementById("waiting-said");
  if (!badge || !said || document.querySelector("[data-attended]")) return;

  let stream = null;
  let waiting = new Set();
  const show = () => {
    const before = Number(badge.textContent);
    badge.textContent = String(waiting.size);
    badge.hidden = !waiting.size;
    if (waiting.size > before) said.textContent = `${said.dataset.text} ${waiting.size}`;
    else if (!waiting.size) said.textContent = "";
  };
  const open = () => {
    stream?.close();
    stream = new EventSource(said.dataset.waiting);
    const on = (kind, act) =>
      stream.addEventListener(kind, (event) => {
        act(JSON.parse(event.data));
        show();
      });
    on("attended_pending", ({ pending }) => (waiting = new Set(pending)));
    on("attended", ({ id, pending }) => (pending ? waiting.add(id) : waiting.delete(id)));
    stream.addEventListener("missed", open);
  };
  const close = () => {
    stream?.close();
    stream = null;
  };
  const look = () => {
    if (document.hidden) close();
    else if (!stream || stream.readyState === EventSource.CLOSED) open();
  };
  document.addEventListener("visibilitychange", look);
  addEventListener("pagehide", close);
  addEventListener("pageshow", look);
  setInterval(look, 5000);
})();
