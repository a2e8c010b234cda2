/* Keeps a page current: what the server renders arrives as events and takes its place. */
"use strict";

(() => {
  const page = document.querySelector("[data-stream], [data-look]");
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
    filter();
    const alike = [...taps.children].filter((each) => each.hidden === item.hidden);
    for (const each of alike.slice(shown)) each.remove();
    if (said && item.dataset.announce) said.textContent = item.dataset.announce;
  };

  /* What somebody is typing or has the focus on stays theirs. */
  const put = (fresh, old) => {
    const active = old.contains(document.activeElement) ? document.activeElement : null;
    const href = active?.getAttribute("href");
    const form = old.querySelector("form");
    const typed = form && (form.contains(active) || [...form.querySelectorAll("input[type=text]")].some((each) => each.value));
    if (typed) fresh.querySelector("form")?.replaceWith(form);
    old.replaceWith(fresh);
    if (active && typed) active.focus();
    else if (href) [...fresh.querySelectorAll("a")].find((each) => each.getAttribute("href") === href)?.focus();
  };

  const replace = (html) => {
    const fresh = parse(html);
    const old = fresh && document.getElementById(fresh.id);
    if (old && old.outerHTML !== fresh.outerHTML) put(fresh, old);
    else if (fresh && !old && page.dataset.list) document.getElementById(page.dataset.list)?.append(fresh);
    if (fresh) filter();
  };

  /* -- ages: by the hub's clock, in the page's language */
  const ahead = page.dataset.now ? Date.parse(page.dataset.now) - Date.now() : 0;
  const spoken = new Intl.RelativeTimeFormat(document.documentElement.lang, { style: "short" });
  const units = [["year", 31536000], ["month", 2592000], ["week", 604800], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const showAges = () => {
    for (const each of document.querySelectorAll(".age[data-at]")) {
      const passed = Math.max(1, (Date.now() + ahead - Date.parse(each.dataset.at)) / 1000);
      const [unit, length] = units.find(([, size]) => passed >= size);
      const text = spoken.format(-Math.floor(passed / length), unit);
      if (each.textContent !== text) each.textContent = text;
    }
  };
  setInterval(showAges, 10000);

  /* -- alarms */
  const alarms = document.getElementById("alarm-list");
  const filters = { door: document.getElementById("filter-door"), kind: document.getElementById("filter-kind") };

  const filter = () => {
    if (!alarms) return;
    const { door, kind } = { door: filters.door.value, kind: filters.kind.value };
    for (const each of page.querySelectorAll("[data-doors]"))
      each.hidden =
        Boolean(door && !each.dataset.doors.split(" ").includes(door)) ||
        Boolean(kind && each.dataset.kind && each.dataset.kind !== kind);
    const all = [...alarms.children];
    const hidden = all.filter((each) => each.hidden).length;
    const notice = document.getElementById("filtered");
    notice.hidden = !hidden;
    notice.textContent = `${notice.dataset.text} ${hidden}`;
    document.getElementById("no-alarms").hidden = all.length > 0;
    const standing = all.filter((each) => each.classList.contains("standing")).length;
    const count = document.getElementById("alarm-count");
    count.hidden = !all.length;
    count.textContent = String(all.length);
    count.classList.toggle("standing", standing > 0);
    document.title = document.title.replace(/^(\(\d+\) )?/, standing ? `(${standing}) ` : "");
  };

  const before = (a, b) => a.dataset.rank < b.dataset.rank || (a.dataset.rank === b.dataset.rank && a.dataset.since > b.dataset.since);

  const sign = (item) => {
    const token = document.querySelector("input[name=csrf_token]");
    const form = item.querySelector("form");
    if (form && token && !form.querySelector("[name=csrf_token]")) form.prepend(token.cloneNode());
  };

  let sound = null;
  const soundButton = document.getElementById("sound");
  const soundWanted = () => localStorage.getItem("drempel-sound") !== "off";
  const showSound = () => {
    const on = soundWanted() && sound?.state === "running";
    soundButton.setAttribute("aria-pressed", String(on));
    const text = soundButton.querySelector("[data-on]");
    text.textContent = on ? text.dataset.on : text.dataset.off;
  };
  const wake = () => {
    sound ??= new AudioContext();
    sound.onstatechange = showSound;
    if (soundWanted()) sound.resume().then(showSound);
  };
  const beep = () => {
    const at = sound.currentTime;
    for (const [index, pitch] of [880, 660, 880].entries()) {
      const tone = sound.createOscillator();
      const level = sound.createGain();
      tone.frequency.value = pitch;
      level.gain.setValueAtTime(0.25, at + index * 0.25);
      level.gain.exponentialRampToValueAtTime(0.001, at + index * 0.25 + 0.22);
      tone.connect(level).connect(sound.destination);
      tone.start(at + index * 0.25);
      tone.stop(at + index * 0.25 + 0.23);
    }
  };

  /* Each alarm, and each time it comes back, sounds and is said once, also over reloads of this page. */
  const rung = new Set(JSON.parse(sessionStorage.getItem("drempel-rung") || "[]"));
  const ring = (item) => {
    const which = item.dataset.ring;
    if (!which || rung.has(which)) return;
    rung.add(which);
    sessionStorage.setItem("drempel-rung", JSON.stringify([...rung].slice(-500)));
    document.getElementById("alarm-said").textContent = item.dataset.announce;
    alarms.dataset.rung = String(Number(alarms.dataset.rung || 0) + 1);
    if (soundWanted() && sound?.state === "running") beep();
  };

  const showAlarm = (html) => {
    const item = parse(html);
    if (!item) return;
    sign(item);
    const old = document.getElementById(item.id);
    const focused = old?.contains(document.activeElement);
    if (item.classList.contains("closed")) {
      old?.remove();
      if (focused) document.getElementById("alarms").focus();
    } else {
      if (old) put(item, old);
      if (!old || !alarms.contains(document.activeElement)) {
        const next = [...alarms.children].find((each) => each !== item && before(item, each));
        alarms.insertBefore(item, next || null);
      }
      ring(item);
    }
    filter();
  };

  const onAlarm = (event) => {
    if (alarms) showAlarm(JSON.parse(event.data).html);
  };

  const onAlarms = (event) => {
    if (!alarms) return;
    const open = new Set(JSON.parse(event.data).open.map((id) => `alarm-${id}`));
    for (const each of [...alarms.children]) if (!open.has(each.id)) each.remove();
    filter();
  };

  const onSubmit = async (event) => {
    const form = event.target.closest(".alarm-form");
    if (!form) return;
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual" });
      if (answer.type !== "opaqueredirect") throw new Error(String(answer.status));
      form.querySelector("[name=note]").value = "";
      document.getElementById("alarms").focus(); // the stream brings what has become of it
    } catch {
      form.submit();
    }
    button.disabled = false;
  };

  if (alarms) {
    soundButton.hidden = false;
    document.getElementById("filter-show").hidden = true; // a choice takes effect at once
    const asked = new URLSearchParams(location.search);
    for (const [name, select] of Object.entries(filters)) {
      if (asked.get(name)) select.value = asked.get(name);
      if (select.selectedIndex < 0) select.value = "";
      select.addEventListener("change", () => {
        const address = new URL(location.href);
        if (select.value) address.searchParams.set(name, select.value);
        else address.searchParams.delete(name);
        history.replaceState(null, "", address);
        filter();
      });
    }
    for (const each of alarms.children) sign(each);
    filter();
    wake();
    showSound();
    for (const each of alarms.children) ring(each);
    alarms.addEventListener("submit", onSubmit);
    soundButton.addEventListener("click", () => {
      const on = soundButton.getAttribute("aria-pressed") === "true";
      localStorage.setItem("drempel-sound", on ? "off" : "on");
      if (on) sound.suspend().then(showSound);
      else sound.resume().then(() => (showSound(), beep()));
    });
    addEventListener("pointerdown", wake, { once: true });
    addEventListener("keydown", wake, { once: true });
  }

  let refreshing = null;
  const refresh = () => {
    const part = page.querySelector("[data-part]");
    if (!part || refreshing) return;
    refreshing = setTimeout(async () => {
      refreshing = null;
      try {
        const answer = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
        if (!answer.ok || answer.redirected) return;
        const parts = document.createElement("template");
        parts.innerHTML = await answer.text();
        for (const each of parts.content.children) replace(each.outerHTML);
      } catch {
        /* the stream reconnects and brings it again */
      }
    }, 150);
  };

  const onTap = (event) => {
    last = event.lastEventId;
    if (!taps) {
      if (page.querySelector("[data-part][data-taps]")) refresh();
      return;
    }
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

  /* What is over at a time, and not by an event. */
  setInterval(() => document.hidden || !page.querySelector("[data-part] [data-open]") || refresh(), 10000);

  /* Who may not see what happens at doors has no stream; their page looks again for the one part that they may see. */
  if ("look" in page.dataset) {
    setInterval(() => document.hidden || refresh(), 2000);
    return;
  }

  /* Only a page that can be seen, or that has to sound, holds a connection: browsers allow few to one host. */
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
    stream.addEventListener("alarm", onAlarm);
    stream.addEventListener("alarms", onAlarms);
    stream.addEventListener("confirmation", refresh);
    stream.addEventListener("missed", onMissed);
  };
  const close = () => {
    stream?.close();
    stream = null;
  };
  const follow = () => {
    if (document.hidden && !("stay" in page.dataset)) close();
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
