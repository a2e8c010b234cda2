"use strict";

// Asks for the card that was held last, which also tells the hub that this page is shown; goes back to the start by itself.
const page = document.body.dataset;
const away = document.getElementById("away");
const broken = document.getElementById("broken");
const ready = document.getElementById("ready");
const left = document.querySelector("progress");
let missed = 0;

async function ask() {
  try {
    const answer = await fetch("/kiosk/tap", { cache: "no-store", signal: AbortSignal.timeout(4000) });
    if (answer.status === 404) {
      location.replace("/kiosk");
      return;
    }
    if (!answer.ok) throw new Error(answer.status);
    const told = await answer.json();
    missed = 0;
    away.hidden = true;
    if (broken) {
      broken.hidden = told.works;
      ready.hidden = !told.works;
    }
    if (told.tap && told.tap !== page.tap && told.tap !== sessionStorage.getItem("tap")) {
      sessionStorage.setItem("tap", told.tap);
      const chosen = page.screen === "start" && page.language; // what the last visitor chose is not the next one's
      location.replace(`/kiosk/visits/${told.tap}${chosen ? `?language=${chosen}` : ""}`);
      return;
    }
  } catch {
    missed += 1;
    away.hidden = missed < 2;
  }
  setTimeout(ask, 700);
}

function begin() {
  if (left) left.value = left.max;
}

function pass() {
  left.value -= 1;
  if (left.value <= 0) location.replace("/kiosk");
}

ask();
if (left) {
  setInterval(pass, 1000);
  for (const kind of ["pointerdown", "keydown", "change"]) addEventListener(kind, begin);
}
document.getElementById("print")?.addEventListener("click", () => print());
for (const form of document.forms) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
  });
}
addEventListener("contextmenu", (event) => event.preventDefault());
