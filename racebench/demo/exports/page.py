"""Export as a page with step controls: one file that loads nothing.

Without its script, and on paper, the page has every step. Text from a scenario or a server is only
ever text between tags; the script contains none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from racebench.demo import sql_layout
from racebench.demo.frames import Frame, Lane, Line, Mark, State, Table
from racebench.demo.recording import Recording

_WORDS = {State.NOW: "now", State.DONE: "done", State.WAITS: "waits", State.REFUSED: "refused", State.AHEAD: ""}
_SIGNS = {State.NOW: "►", State.DONE: "✓", State.WAITS: "‖", State.REFUSED: "✗"}
_SEVERE = (Mark.DUPLICATE, Mark.MISSED)

#: The browser loads nothing, whatever the page contains.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #16181d; --line: #b9bec8; --soft: #eef0f4; --bad: #b00020;
  --good: #0a6b2d; --wait: #7a2ea0; --now: #ffe9a8; --now-ink: #16181d; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181d; --ink: #e9ebf0; --line: #4a5160; --soft: #22262f;
  --bad: #ff8a8a; --good: #7ee2a0; --wait: #d9a6f5; --now: #6b5410; --now-ink: #fff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 80rem; background: var(--ground); color: var(--ink);
  font: 1.05rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 0; }
h3 { font-size: 1rem; margin: 0 0 .4rem; }
nav { display: none; position: sticky; top: 0; background: var(--ground); padding: .5rem 0; gap: .5rem; flex-wrap: wrap;
  align-items: center; border-bottom: 1px solid var(--line); z-index: 1; }
.stepping nav { display: flex; }
button { font: inherit; padding: .4rem .9rem; border: 1px solid var(--line); border-radius: .4rem;
  background: var(--soft); color: inherit; cursor: pointer; }
button:focus-visible { outline: 3px solid var(--wait); } button:disabled { opacity: .5; cursor: default; }
.frame { padding: .75rem 0 1.5rem; border-bottom: 1px solid var(--line); }
.stepping .frame { border: 0; } .stepping .frame:not(.shown) { display: none; }
.sentence { font-size: 1.3rem; font-weight: 600; min-height: 2.9em; margin: .5rem 0; }
.anomaly { color: var(--bad); } .clean { color: var(--good); }
.lanes { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .75rem; }
.lane { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem; min-width: 0; }
.lane.active { border-width: 2px; border-color: var(--ink); }
ol { list-style: none; margin: 0; padding: 0; }
ol li { position: relative; padding: .15rem .3rem .15rem 1.55rem; border-radius: .3rem; }
footer code { overflow-wrap: anywhere; }
code { font: .92rem/1.35 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.now { background: var(--now); color: var(--now-ink); font-weight: 600; }
.waits { outline: 2px dashed var(--wait); } .refused { outline: 2px solid var(--bad); }
.mark { position: absolute; left: .35rem; font-weight: 700; } .answer { display: block; }
.waits .mark { color: var(--wait); }
.refused .mark, .severe { color: var(--bad); font-weight: 700; }
.state { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: .75rem; margin-top: .75rem; }
table { border-collapse: collapse; } caption { text-align: left; font-weight: 600; white-space: nowrap; }
th, td { text-align: left; padding: .15rem .8rem .15rem 0; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; } aside { border-left: 4px solid var(--line); padding-left: .75rem; margin-top: .75rem; }
@media screen and (max-width: 40rem) { .keys { display: none; } .sentence { min-height: 0; font-size: 1.15rem; }
  .stepping .frame:has(.active, .anomaly, .clean) .lane:not(.active) li:not(.waits) { display: none; }
  .stepping .frame:has(.active, .anomaly, .clean) .lane:not(.active) h3 { margin: 0; } }
@media print { nav { display: none !important; }
  .frame, .stepping .frame:not(.shown) { display: block; break-inside: avoid; } }
"""

_SCRIPT = """
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
"""


def render(recording: Recording) -> str:
    """The page."""
    frames = "\n".join("".join(_frame(frame, recording)) for frame in recording.frames)
    again = "".join(f"<li><code>{escape(command)}</code></li>" for command in recording.commands)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(recording.title)}</title>
<style>{_STYLE}</style>
</head>
<body data-pace="{recording.pace:g}">
<h1>{escape(recording.title)}</h1>
<nav aria-label="Steps"><button id="back" type="button">Back</button><button id="next" type="button">Next</button>
<button id="play" type="button" aria-pressed="false">Play</button><span id="place"></span>
<span class="keys">Keys: → or space, ←, Home, End</span></nav>
<main aria-live="polite">
{frames}
</main>
<footer><p>Every step ran on a real PostgreSQL. To show it again, step by step:</p><ul>{again}</ul></footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _frame(frame: Frame, recording: Recording) -> Iterator[str]:
    part = f"part {frame.part + 1}: " if len(recording.schedules) > 1 else ""
    where = f"step {frame.number} of {recording.steps(frame.part)}" if frame.number else "the start"
    where = "the end" if frame.ended else where
    kind = "" if not frame.ended else " anomaly" if frame.anomalies else " clean"
    yield f'<section class="frame"><h2>{escape(f"{part}{frame.heading}, {where}")}</h2>'
    yield f'<p class="sentence{kind}">{escape(frame.sentence)}</p>'
    if frame.ended:
        verdict = escape(("Anomaly: " if frame.anomalies else "") + frame.verdict)
        yield f'<p class="{kind.strip()}"><strong>{verdict}</strong></p>'
    yield '<div class="lanes">' + "".join(map(_lane, frame.lanes)) + "</div>"
    yield '<div class="state">' + "".join(map(_table, frame.tables)) + _consumer(frame) + "</div>"
    if recording.notes and frame.note:
        yield f"<aside><strong>Notes:</strong> {escape(frame.note)}</aside>"
    yield "</section>"


def _lane(lane: Lane) -> str:
    active = " active" if lane.active else ""
    lines = "".join(_line(line, lane) for line in lane.lines)
    return f'<section class="lane{active}"><h3>{escape(lane.heading)}</h3><ol>{lines}</ol></section>'


def _line(line: Line, lane: Lane) -> str:
    word = _WORDS[line.state]
    sql = "\n".join(sql_layout.clauses(line.text))
    mark = f'<span class="mark" role="img" aria-label="{word}">{_SIGNS[line.state]}</span> ' if word else ""
    answer = lane.status if line.state is State.WAITS else f"→ {line.answer}" if line.answer else ""
    answered = f'<span class="answer"><code>{escape(answer)}</code></span>' if answer else ""
    return f'<li class="{word or "ahead"}">{mark}<code>{escape(sql)}</code>{answered}</li>'


def _table(table: Table) -> str:
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in (*table.columns, ""))
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.cells) + f"<td>{_marks(row.marks)}</td></tr>"
        for row in table.rows
    )
    caption = f"<caption>{escape(table.title)}</caption>"
    return f'<div class="wide"><table>{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'


def _marks(marks: tuple[Mark, ...]) -> str:
    return ", ".join(f'<span class="severe">{mark.value}</span>' if mark in _SEVERE else mark.value for mark in marks)


def _consumer(frame: Frame) -> str:
    if frame.consumer is None:
        return ""
    return (
        f"<div><strong>{escape(f'Consumer {frame.consumer.name}')}</strong><br>"
        f"{escape(f'cursor at {frame.consumer.cursor}')}<br>{escape(frame.consumer.summary)}</div>"
    )
