/* Shows how far a card is, twice a second, until it is made or not. */
"use strict";

(() => {
  const [said, away, cancel, again] = ["issuing-said", "issuing-away", "issuing-cancel", "issuing-again"].map((id) => document.getElementById(id));
  const place = () => document.getElementById("issuing-progress");
  const every = 500;

  const put = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html; // rendered and escaped by the hub
    const fresh = holder.content.firstElementChild;
    const old = place();
    if (fresh?.id !== old.id || fresh.outerHTML === old.outerHTML) return;
    const step = fresh.querySelector("[aria-current]")?.textContent ?? "";
    if (fresh.dataset.said !== old.dataset.said || step) said.textContent = `${fresh.dataset.said} ${step}`.trim();
    old.replaceWith(fresh);
    if (cancel) cancel.hidden = !("cancel" in fresh.dataset);
    if (!("open" in fresh.dataset)) {
      again.hidden = fresh.dataset.state === "done";
      (fresh.querySelector("a.primary") ?? again.querySelector("button")).focus();
    }
  };

  const look = async () => {
    try {
      const answer = await fetch(place().dataset.part, { cache: "no-store", redirect: "manual" });
      if (answer.type === "opaqueredirect") return location.reload(); // signed out
      if (!answer.ok) throw new Error(String(answer.status));
      put(await answer.text());
      away.hidden = true;
    } catch {
      away.hidden = false;
    }
    if ("open" in place().dataset) setTimeout(look, every);
  };
  setTimeout(look, every);
})();
