"use strict";
/* A line above everything that is wider than the screen. Without it, a shade at the edge says that there is more. */
(() => {
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) target.previousElementSibling.hidden = target.scrollWidth <= target.clientWidth + 1;
  });
  for (const box of document.querySelectorAll(".scroll")) {
    const said = document.createElement("p");
    said.className = "hint sideways";
    said.setAttribute("aria-hidden", "true");
    said.textContent = "There is more to the right: scroll sideways →";
    said.hidden = true;
    box.before(said);
    watch.observe(box);
  }
})();
