"use strict";

// The browser's own printing works without this; the button saves the way through its menu.
const print = document.getElementById("print");
print.hidden = false;
print.addEventListener("click", () => window.print());
