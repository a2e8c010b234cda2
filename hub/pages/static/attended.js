/* Rings for who waits at a door, and sends one answer for each. What the server renders takes its place. */
"use strict";

(() => {
  const page = document.querySelector("[data-attended]");
  if (!page) return;

  const list = document.getElementById("requests");
  const ends = document.getElementById("ends");
  const heading = document.getElementById("waiting-title");
  const said = document.getElementById("announcement");
  const token = document.querySelector("input[name=csrf_token]").value;
  const ahead = Date.parse(page.dataset.now) - Date.now(); // the hub's clock counts
  const title = document.title;

  const parse = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html; // rendered and escaped by the hub
    return holder.content.firstElementChild;
  };
  const rings = () => [...list.querySelectorAll("[data-rings]")];

  /* -- sound, vibration, the title: for as long as somebody waits and nobody answered */
  let sound = null;
  const soundButton = document.getElementById("sound");
  const wanted = () => localStorage.getItem("drempel-ring") !== "off";
  const sounds = () => wanted() && sound?.state === "running";
  const pressed = (button, on) => {
    button.setAttribute("aria-pressed", String(on));
    const text = button.querySelector("[data-on]");
    text.textContent = on ? text.dataset.on : text.dataset.off;
  };
  const showSound = () => pressed(soundButton, sounds());
  const wake = () => {
    sound ??= new AudioContext();
    sound.onstatechange = showSound;
    if (wanted()) sound.resume().then(showSound);
  };
  const chime = () => {
    const at = sound.currentTime;
    for (const [index, pitch] of [659, 523, 659, 523].entries()) {
      const tone = sound.createOscillator();
      const level = sound.createGain();
      tone.frequency.value = pitch;
      level.gain.setValueAtTime(0.3, at + index * 0.3);
      level.gain.exponentialRampToValueAtTime(0.001, at + index * 0.3 + 0.28);
      tone.connect(level).connect(sound.destination);
      tone.start(at + index * 0.3);
      tone.stop(at + index * 0.3 + 0.29);
    }
  };
  const every = 3000;
  let rungAt = 0;
  const ring = () => {
    if (!rings().length || Date.now() - rungAt < every) return;
    rungAt = Date.now();
    page.dataset.rung = String(Number(page.dataset.rung || 0) + 1);
    if (sounds()) chime();
    if (wanted() && navigator.userActivation?.hasBeenActive) navigator.vibrate?.([200, 100, 200]);
  };
  soundButton.addEventListener("click", () => {
    const on = sounds();
    localStorage.setItem("drempel-ring", on ? "off" : "on");
    if (on) sound.suspend().then(showSound);
    else {
      sound ??= new AudioContext();
      sound.resume().then(() => (showSound(), chime()));
    }
  });
  addEventListener("pointerdown", wake, { once: true });
  addEventListener("keydown", wake, { once: true });

  /* -- the list */
  let current = null;
  let currentSince = 0;
  const arrange = () => {
    const waiting = rings();
    if (waiting[0] !== current) {
      current = waiting[0] ?? null;
      currentSince = Date.now();
    }
    for (const each of list.children) each.classList.toggle("current", each === current);
    document.getElementById("nobody").hidden = list.children.length > 0;
    const count = document.getElementById("waiting-count");
    count.hidden = !waiting.length;
    count.textContent = String(waiting.length);
    document.title = waiting.length ? `(${waiting.length}) ${title}` : title;
    if (waiting.length) navigator.setAppBadge?.(waiting.length).catch(() => {});
    else navigator.clearAppBadge?.().catch(() => {});
    ring();
  };

  const take = (item) => {
    const focused = item.contains(document.activeElement);
    item.remove();
    if (focused) heading.focus();
  };

  const show = ({ id, pending, html }) => {
    const fresh = parse(html);
    const old = document.getElementById(fresh.id);
    if (!pending) {
      const known = old?.parentElement === list;
      if (old) take(old);
      ends.prepend(fresh);
      while (ends.children.length > Number(ends.dataset.most)) ends.lastElementChild.remove();
      if (known) said.textContent = fresh.dataset.announce;
    } else if (old?.parentElement === list) {
      const unblurred = old.querySelector(".unblur")?.checked;
      const focused = old.contains(document.activeElement);
      const name = document.activeElement?.value;
      const photo = old.querySelector("img");
      if (photo) fresh.querySelector("img")?.replaceWith(photo);
      old.replaceWith(fresh);
      if (unblurred && fresh.querySelector(".unblur")) fresh.querySelector(".unblur").checked = true;
      if (focused) (fresh.querySelector(`button[value="${name}"]`) ?? heading).focus();
      if (!("rings" in fresh.dataset)) said.textContent = fresh.dataset.announce;
    } else {
      old?.remove();
      list.append(fresh);
      said.textContent = `${page.dataset.waits}: ${fresh.dataset.announce}`;
    }
    tick();
    arrange();
  };

  const keep = ({ pending }) => {
    const still = new Set(pending.map((id) => `request-${id}`));
    for (const each of [...list.children]) if (!still.has(each.id)) take(each);
    arrange();
  };

  const tick = () => {
    for (const each of rings()) {
      const left = Math.ceil((Date.parse(each.dataset.expires) - Date.now() - ahead) / 1000);
      const shown = Math.max(0, left);
      each.querySelector(".countdown").textContent = `${shown} s`;
      each.querySelector("progress").value = shown;
      if (left < 1) delete each.dataset.rings; // its end is on its way
    }
    arrange();
  };
  setInterval(tick, 500);

  /* -- answers: one request, one answer; what was not sent is said */
  const answer = async (item, verdict) => {
    const buttons = [...item.querySelectorAll(".request-form button")];
    const problem = item.querySelector(".request-problem");
    const tell = (text) => {
      problem.textContent = text;
      problem.hidden = false;
    };
    if (!buttons.length || buttons[0].disabled) return;
    for (const each of buttons) each.disabled = true;
    problem.hidden = true;
    const id = item.id.slice("request-".length);
    try {
      const sent = await fetch(`/api/v1/attended/${id}/answer`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-CSRF-Token": token },
        body: JSON.stringify({ answer: verdict }),
        signal: AbortSignal.timeout(8000),
      });
      if (sent.status === 409) return tell(page.dataset.late); // the stream says who, what and when
      if (sent.status === 401) return location.reload();
      if (!sent.ok) throw new Error(String(sent.status));
    } catch {
      tell(page.dataset.unsent);
      for (const each of buttons) each.disabled = false;
    }
  };
  list.addEventListener("submit", (event) => {
    event.preventDefault();
    answer(event.target.closest(".request"), event.submitter.value);
  });

  /* A and R answer the request that is marked, but not one that took its place a moment ago. */
  const keysButton = document.getElementById("keys");
  const keysOn = () => localStorage.getItem("drempel-keys") !== "off";
  const showKeys = () => {
    pressed(keysButton, keysOn());
    page.classList.toggle("keys", keysOn());
  };
  keysButton.addEventListener("click", () => {
    localStorage.setItem("drempel-keys", keysOn() ? "off" : "on");
    showKeys();
  });
  const meant = { a: "grant", r: "refuse" };
  addEventListener("keydown", (event) => {
    const verdict = meant[event.key.toLowerCase()];
    const typing = event.target.closest?.("input:not(.unblur), select, textarea");
    if (!verdict || typing || event.repeat || event.ctrlKey || event.altKey || event.metaKey || !keysOn()) return;
    const chosen = event.target.closest?.("[data-rings]") ?? current;
    if (!chosen || (chosen === current && Date.now() - currentSince < 700)) return;
    event.preventDefault();
    answer(chosen, verdict);
  });

  /* -- doors that are not heard */
  const silent = document.getElementById("silent");
  const doors = document.getElementById("silent-doors");
  const hear = ({ id, name, online }) => {
    const known = [...doors.children].find((each) => each.dataset.door === id);
    if (online) known?.remove();
    else if (!known) {
      const shown = document.createElement("bdi");
      shown.dataset.door = id;
      shown.textContent = name;
      doors.append(shown);
    }
    silent.hidden = !doors.children.length;
  };

  /* -- the stream: a connection that says nothing for longer than the hub ever does is none */
  const state = document.getElementById("link-state");
  const showState = (name) => {
    for (const each of state.children) each.hidden = each.dataset.state !== name;
  };
  let stream = null;
  let heardAt = Date.now();
  const on = (kind, act) => {
    stream.addEventListener(kind, (event) => {
      heardAt = Date.now();
      act(JSON.parse(event.data));
    });
  };
  const open = () => {
    stream?.close();
    heardAt = Date.now();
    stream = new EventSource(page.dataset.attended);
    stream.onopen = () => (heardAt = Date.now());
    stream.onerror = () => showState("waiting");
    on("attended_pending", (data) => (showState("live"), keep(data)));
    on("attended", show);
    on("door", hear);
    on("missed", open);
    on("beat", () => showState("live"));
  };
  const watch = async () => {
    const closed = stream.readyState === EventSource.CLOSED;
    if (!closed && Date.now() - heardAt < 40000) return;
    showState("waiting");
    try {
      const alive = await fetch("/attended", { redirect: "manual", signal: AbortSignal.timeout(5000) });
      if (alive.type === "opaqueredirect") return showState("ended");
    } catch {
      return; /* tried again at the next turn */
    }
    open();
  };
  setInterval(watch, 2000);
  addEventListener("pagehide", () => stream?.close());
  addEventListener("pageshow", (event) => event.persisted && open());
  addEventListener("visibilitychange", () => !document.hidden && watch());

  document.getElementById("attended-tools").hidden = false;
  wake();
  showSound();
  showKeys();
  tick();
  open();
})();
