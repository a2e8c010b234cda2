/* Passkeys: asks the hub what to sign, the browser to sign it, and sends the answer back. */
"use strict";

(() => {
  const place = document.querySelector("[data-passkey]");
  if (!place) return;
  const button = place.querySelector("button");
  const alert = place.querySelector("[role=alert]");
  const csrf = place.dataset.csrf;
  if (!window.PublicKeyCredential) {
    place.hidden = true;
    return;
  }

  const toBytes = (text) =>
    Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (each) => each.charCodeAt(0));
  const toText = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer)))
      .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  const send = async (address, body) => {
    const headers = { "Content-Type": "application/json" };
    if (csrf) headers["X-CSRF-Token"] = csrf;
    const answer = await fetch(address, { method: "POST", headers, body: JSON.stringify(body) });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.problem || place.dataset.failed);
    return said;
  };

  const asked = (options) => {
    options.challenge = toBytes(options.challenge);
    if (options.user) options.user.id = toBytes(options.user.id);
    for (const list of [options.excludeCredentials, options.allowCredentials])
      for (const each of list || []) each.id = toBytes(each.id);
    return { publicKey: options };
  };

  const answered = (credential) => {
    const response = {};
    for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"])
      if (credential.response[name]) response[name] = toText(credential.response[name]);
    return { id: credential.id, rawId: toText(credential.rawId), type: credential.type, response };
  };

  button.addEventListener("click", async () => {
    button.disabled = true;
    alert.hidden = true;
    try {
      const options = asked(await send(`${place.dataset.passkey}/options`, {}));
      const making = Boolean(options.publicKey.user);
      const credential = making
        ? await navigator.credentials.create(options)
        : await navigator.credentials.get(options);
      const body = { answer: answered(credential) };
      if (making) body.name = place.querySelector("input").value;
      else body.next = place.dataset.next;
      location.assign((await send(place.dataset.passkey, body)).next);
    } catch (error) {
      // A DOMException is the browser's own, in no language of ours.
      alert.textContent = error instanceof DOMException ? place.dataset.failed : error.message;
      alert.hidden = false;
      button.disabled = false;
    }
  });
})();
