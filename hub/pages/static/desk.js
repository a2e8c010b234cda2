/* Shows who holds a card to this desk's reader, for as long as the hub says, and keeps nothing of it. */
"use strict";

(() => {
  const desk = document.getElementById("desk");
  if (!desk) return;

  const [place, waiting, tools, left, said, reader, missed, over, state] = [
    "desk-place", "desk-waiting", "desk-tools", "desk-left", "desk-said", "desk-reader", "desk-missed", "desk-over", "link-state",
  ].map((id) => document.getElementById(id));

  let until = 0;
  let ticking = null;

  const wipe = () => {
    clearInterval(ticking);
    for (const image of place.querySelectorAll("img")) image.removeAttribute("src");
    place.replaceChildren();
    said.textContent = "";
    tools.hidden = true;
    waiting.hidden = false;
  };

  const tick = () => {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    if (seconds <= 0) wipe();
    else left.textContent = String(seconds);
  };

  const onLook = (event) => {
    const look = JSON.parse(event.data);
    wipe();
    missed.hidden = true;
    const holder = document.createElement("template");
    holder.innerHTML = look.html; // rendered and escaped by the hub
    place.replaceChildren(holder.content);
    said.textContent = look.said;
    waiting.hidden = true;
    tools.hidden = false;
    until = Date.now() + look.shown_s * 1000;
    tick();
    ticking = setInterval(tick, 250);
  };

  const showState = (name) => {
    for (const each of state.children) each.hidden = each.dataset.state !== name;
  };

  const stream = new EventSource(desk.dataset.stream);
  const end = (why) => {
    stream.close();
    wipe();
    waiting.hidden = true;
    state.hidden = true;
    over.hidden = false;
    for (const each of over.querySelectorAll("[data-why]")) each.hidden = each.dataset.why !== why;
  };
  stream.onopen = () => showState("live");
  stream.onerror = () => (stream.readyState === EventSource.CLOSED ? end("ended") : showState("waiting"));
  stream.addEventListener("look", onLook);
  stream.addEventListener("reader", (event) => (reader.hidden = JSON.parse(event.data).heard));
  stream.addEventListener("missed", () => (missed.hidden = false));
  stream.addEventListener("over", (event) => end(JSON.parse(event.data).why));

  document.getElementById("desk-clear").addEventListener("click", () => {
    wipe();
    desk.focus();
  });
  addEventListener("keydown", (event) => event.key === "Escape" && wipe());
  document.addEventListener("visibilitychange", () => ticking && until && tick());
  addEventListener("pagehide", () => {
    stream.close();
    wipe();
  });
  addEventListener("pageshow", (event) => event.persisted && location.reload());
})();
