/* One frame at a time, by buttons and keys. Without it the page has all frames, one below the other. */
(function () {
  var frames = Array.prototype.slice.call(document.querySelectorAll(".frame"));
  var back = document.getElementById("back"), next = document.getElementById("next"), at = 0;
  var play = document.getElementById("play"), place = document.getElementById("place"), timer = null;
  function show(to) {
    at = Math.max(0, Math.min(frames.length - 1, to));
    frames.forEach(function (frame, number) { frame.classList.toggle("shown", number === at); });
    place.textContent = (at + 1) + " of " + frames.length;
    back.disabled = at === 0; next.disabled = at === frames.length - 1;
    try { history.replaceState(null, "", "#" + (at + 1)); } catch (problem) { /* a sandboxed page has no history */ }
    if (next.disabled) { stop(); }
  }
  function stop() {
    clearInterval(timer); timer = null; play.textContent = "Play"; play.setAttribute("aria-pressed", "false");
  }
  play.onclick = function () {
    if (timer) { stop(); return; }
    if (at === frames.length - 1) { show(0); }
    play.textContent = "Stop"; play.setAttribute("aria-pressed", "true");
    timer = setInterval(function () { show(at + 1); }, 1000 * Number(document.body.dataset.pace));
  };
  back.onclick = function () { stop(); show(at - 1); };
  next.onclick = function () { stop(); show(at + 1); };
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    var steps = { ArrowRight: 1, PageDown: 1, " ": 1, ArrowLeft: -1, PageUp: -1, b: -1 };
    if (event.key === " " && event.target.tagName === "BUTTON") { return; }
    if (event.key in steps) { stop(); show(at + steps[event.key]); event.preventDefault(); }
    if (event.key === "Home") { stop(); show(0); event.preventDefault(); }
    if (event.key === "End") { stop(); show(frames.length - 1); event.preventDefault(); }
  });
  window.addEventListener("hashchange", function () { show(Number(location.hash.slice(1)) - 1 || 0); });
  document.body.classList.add("stepping");
  show(Number(location.hash.slice(1)) - 1 || 0);
})();
