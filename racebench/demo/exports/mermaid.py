"""Export as a Mermaid sequence diagram: what each session sent and got, and which session waited.

Source: mermaid.js.org, "Sequence diagrams": `;` and a line's end end a message, `#` begins an entity, as in `#59;`.
"""

from __future__ import annotations

from collections.abc import Iterator

from racebench.demo.frames import Frame
from racebench.demo.recording import Recording

_LONGEST = 70
_ENTITIES = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "&": "#amp;", '"': "#quot;", "%": "#37;"}


def escape(text: str) -> str:
    """Escape text so that Mermaid reads no syntax in it; long text is cut."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    escaped = "".join(_ENTITIES.get(char, char) for char in text)
    for word in ("style", "classDef"):  # after these words Mermaid reads the `;` of an entity as the end of a color
        escaped = escaped.replace(word, f"#{ord(word[0])};{word[1:]}")
    return escaped


def render(recording: Recording) -> str:
    """The diagram; the parts follow each other."""
    lanes = max((frame.lanes for frame in recording.frames), key=len)
    lines = ["sequenceDiagram", f"    title: {escape(recording.title)}"]
    lines += [f"    participant {lane.name} as {escape(lane.title)}" for lane in lanes]
    lines.append("    participant db as PostgreSQL")
    for frames in recording.parts:
        span = f"{lanes[0].name},db"
        lines.append(f"    Note over {span}: {escape(frames[0].heading)}")
        for frame in frames:
            lines += [f"    {line}" for line in _step(frame)]
        verdict = f"ANOMALY: {frames[-1].verdict}" if frames[-1].anomalies else frames[-1].verdict
        lines.append(f"    Note over {span}: {escape(verdict)}")
    return "\n".join([*lines, ""])


def _step(frame: Frame) -> Iterator[str]:
    step = frame.step
    if step is None:
        return
    name = f"s{step.session}"
    yield f"{name}->>db: {escape(step.sent)}"
    if step.waits_for:
        status = next(lane.status for lane in frame.lanes if lane.name == name)
        yield f"Note over {name}: {escape(status)}"
    elif step.answer:
        yield f"db-->>{name}: {escape(step.answer)}"
    for resumed in step.resumed:
        answer = f": {resumed.answer}" if resumed.answer else ""
        yield f"db-->>s{resumed.session}: goes on{escape(answer)}"
