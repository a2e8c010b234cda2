/* Shows who passes at a post for seconds each, and asks whoever watches whether they are still there. Keeps nothing. */
"use strict";

(() => {
  const page = document.getElementById("post");
  if (!page) return;

  const [list, nobody, said, asked, left, here, problem, missed, over, doors, again, state] = [
    "passing", "post-nobody", "post-said", "post-asked", "asked-left", "post-here", "asked-problem",
    "post-missed", "post-over", "post-doors", "open-again", "link-state",
  ].map((id) => document.getElementById(id));
  const watches = list !== null;
  const ahead = Date.parse(page.dataset.now) - Date.now(); // the hub's clock counts
  const most = 6;
  const title = document.title;

  const parse = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html; // rendered and escaped by the hub
    return holder.content.firstElementChild;
  };

  /* -- who passes */
  const drop = (item) => {
    if (!item.isConnected) return;
    const focused = item.contains(document.activeElement);
    item.querySelector("img")?.removeAttribute("src");
    item.remove();
    list.hidden = !list.children.length;
    nobody.hidden = !list.hidden;
    if (list.hidden) said.textContent = "";
    if (focused) document.getElementById("passing-title").focus();
  };
  const wipe = () => watches && [...list.children].forEach(drop);
  const onLook = (look) => {
    const item = parse(look.html);
    list.prepend(item);
    list.hidden = false;
    nobody.hidden = true;
    while (list.children.length > most) drop(list.lastElementChild);
    said.textContent = look.said;
    setTimeout(() => drop(item), look.shown_s * 1000);
  };

  /* -- are you still there: shown, said, and heard from across a room */
  let sound = null;
  const wake = () => (sound ??= new AudioContext()).resume().catch(() => {});
  const chime = () => {
    if (sound?.state !== "running") return;
    const at = sound.currentTime;
    for (const [index, pitch] of [784, 784].entries()) {
      const tone = sound.createOscillator();
      const level = sound.createGain();
      tone.frequency.value = pitch;
      level.gain.setValueAtTime(0.3, at + index * 0.25);
      level.gain.exponentialRampToValueAtTime(0.001, at + index * 0.25 + 0.2);
      tone.connect(level).connect(sound.destination);
      tone.start(at + index * 0.25);
      tone.stop(at + index * 0.25 + 0.21);
    }
  };
  let askAt = Infinity;
  let within = 0;
  let rungAt = 0;
  const tick = () => {
    const now = Date.now() + ahead;
    const isAsked = now >= askAt && over.hidden;
    if (isAsked && asked.hidden) {
      asked.hidden = false;
      here.querySelector("button").focus();
    } else if (!isAsked) asked.hidden = true;
    document.title = isAsked ? `(!) ${title}` : title;
    if (!isAsked) return;
    left.textContent = String(Math.max(0, Math.ceil((askAt - now) / 1000 + within)));
    if (Date.now() - rungAt > 5000) {
      rungAt = Date.now();
      chime();
      if (navigator.userActivation?.hasBeenActive) navigator.vibrate?.([200, 100, 200]);
    }
  };
  const onStanding = (standing) => {
    if (doors.dataset.shown !== standing.html) {
      doors.dataset.shown = standing.html;
      doors.replaceChildren(parse(standing.html));
    }
    if (!watches) return;
    again.hidden = !standing.can_open_again;
    askAt = standing.ask_at ? Date.parse(standing.ask_at) : Infinity;
    within = standing.within_s;
    tick();
  };
  const confirm = async (event) => {
    event.preventDefault();
    problem.hidden = true;
    try {
      const sent = await fetch(here.action, {
        method: "POST",
        body: new URLSearchParams(new FormData(here)),
        redirect: "manual",
        signal: AbortSignal.timeout(8000),
      });
      if (sent.type !== "opaqueredirect") return location.reload();
      askAt = Infinity; // until the hub says when it asks next
      tick();
      document.getElementById("passing-title").focus();
    } catch {
      problem.hidden = false;
    }
  };

  /* -- the stream: a connection that says nothing for longer than the hub ever does is none */
  const showState = (name) => {
    for (const each of state.children) each.hidden = each.dataset.state !== name;
  };
  let stream = null;
  let heardAt = 0;
  const end = (why) => {
    stream.close();
    stream = null;
    if (!watches) return location.reload();
    wipe();
    over.hidden = false;
    state.hidden = true;
    nobody.hidden = true;
    for (const each of over.querySelectorAll("[data-why]")) each.hidden = each.dataset.why !== why;
    tick();
  };
  const open = () => {
    stream?.close();
    heardAt = Date.now();
    stream = new EventSource(page.dataset.stream);
    const on = (kind, act) =>
      stream.addEventListener(kind, (event) => {
        heardAt = Date.now();
        act(JSON.parse(event.data));
      });
    stream.onerror = () => showState("waiting");
    on("beat", () => showState("live"));
    on("standing", (standing) => (showState("live"), onStanding(standing)));
    on("look", onLook);
    on("missed", () => watches && (missed.hidden = false));
    on("changed", () => location.reload());
    on("over", (data) => end(data.why));
  };

  const watch = async () => {
    if (!stream || (stream.readyState !== EventSource.CLOSED && Date.now() - heardAt < 15000)) return;
    showState("waiting");
    try {
      const alive = await fetch(location.pathname, { redirect: "manual", signal: AbortSignal.timeout(5000) });
      if (alive.type === "opaqueredirect") return showState("ended");
    } catch {
      return; /* tried again at the next turn */
    }
    if (stream) open();
  };
  setInterval(watch, 2000);

  if (watches) {
    here.addEventListener("submit", confirm);
    addEventListener("pointerdown", wake, { once: true });
    addEventListener("keydown", wake, { once: true });
    wake();
    setInterval(tick, 500);
  }
  addEventListener("pagehide", () => {
    stream?.close();
    wipe();
  });
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  open();
})();
