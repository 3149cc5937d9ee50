"use strict";
/* The timelines and the steps of witnesses. Everything shown is set as text, never as markup. */
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const svg = (name, attributes, parent) => {
    const element = document.createElementNS(SVG, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (parent) parent.append(element);
    return element;
  };
  const html = (name, attributes, parent, text) => {
    const element = document.createElement(name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    if (parent) parent.append(element);
    return element;
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const short = (text, most) => { const whole = String(text); return whole.length > most ? whole.slice(0, most - 1) + "…" : whole; };
  const ms = (us) => {
    const value = us / 1000, size = Math.abs(value);
    return value.toLocaleString("en", { maximumFractionDigits: size >= 100 ? 1 : size >= 1 ? 2 : 3 }) + " ms";
  };
  const LEAST = 20; /* microseconds: the shortest time that the view shows */
  const MOST_JOINS = 60; /* more lines would hide the bars that they join */

  class Timeline {
    constructor(box) {
      this.box = box;
      this.name = box.dataset.name;
      const data = JSON.parse(document.getElementById(box.dataset.timeline).textContent);
      this.data = data;
      this.bars = data.bars.map(([lane, start, span, version, row, polls, outcome = "OK", state = "", tries = 1, tenant = 1], at) =>
        ({ at, lane, start, end: span < 0 ? Infinity : start + span, version, row, polls, outcome, state, tries, tenant, kinds: [], marks: [] }));
      const lanes = data.workers.length;
      this.polls = data.polls.map(([consumer, start, span, number, rows, before, after], at) =>
        ({ at, lane: lanes + consumer, consumer, start, end: start + span, number, rows, before, after, marks: [] }));
      this.marks = data.marks.map(([kind, bars, polls], at) => ({ at, kind, bars: bars.map((b) => this.bars[b]), polls: polls.map((p) => this.polls[p]) }));
      for (const mark of this.marks) {
        for (const bar of mark.bars) { if (!bar.kinds.includes(mark.kind)) bar.kinds.push(mark.kind); bar.marks.push(mark); }
        for (const poll of mark.polls) poll.marks.push(mark);
      }
      this.byPoll = new Map();
      for (const bar of this.bars) bar.polls.forEach((number, consumer) => {
        if (number === null) return;
        const key = consumer + ":" + number;
        if (!this.byPoll.has(key)) this.byPoll.set(key, []);
        this.byPoll.get(key).push(bar);
      });
      this.items = [...this.bars, ...this.polls];
      this.lanes = [...data.workers.map((w) => "worker " + w), ...data.consumers];
      this.workers = lanes;
      this.low = data.windows[0][0];
      this.high = data.windows[data.windows.length - 1][1];
      for (const item of this.items) if (Number.isFinite(item.end)) this.high = Math.max(this.high, item.end);
      const margin = (this.high - this.low) * 0.02 + 5;
      this.low = Math.max(this.low - margin, Math.min(this.low, 0)); this.high += margin;
      this.texts = [...box.parentElement.querySelectorAll(".listed tbody tr td:last-child")].map((cell) => cell.textContent);
      this.kind = "";
      this.selected = null;
      this.focused = null;
      this.build();
      this.view = [this.low, this.high];
      if (this.marks.length) this.choose(this.marks[0], true); else { this.say(); this.layout(); }
      new ResizeObserver(() => { if (this.width !== this.box.clientWidth) this.layout(); }).observe(box);
    }

    build() {
      const box = this.box;
      for (const still of box.querySelectorAll(".still")) still.remove();
      const buttons = html("div", { class: "bar-of-buttons" }, box);
      const button = (text, label, act, extra) => {
        const control = html("button", { type: "button", class: extra || "", ...(label === text ? {} : { "aria-label": label }) }, buttons, text);
        control.addEventListener("click", act);
        return control;
      };
      this.buttons = [];
      if (this.marks.length) {
        this.buttons = [
          button("First anomaly", "First anomaly", () => this.go(0), "main"),
          button("‹ Previous", "Previous anomaly", () => this.go("back")),
          button("Next ›", "Next anomaly", () => this.go("on")),
        ];
        const kinds = [...new Set(this.marks.map((mark) => mark.kind))];
        if (kinds.length > 1) {
          const select = html("select", { "aria-label": "Which anomalies" }, buttons);
          html("option", { value: "" }, select, "all kinds (" + this.marks.length + ")");
          for (const kind of kinds) html("option", { value: kind }, select, kind + " (" + this.marks.filter((m) => m.kind === kind).length + ")");
          select.addEventListener("change", () => { this.kind = select.value; this.go(0); });
        }
      }
      html("span", { class: "apart" }, buttons);
      button("−", "Zoom out", () => this.zoom(2));
      button("+", "Zoom in", () => this.zoom(0.5));
      button("All", "Show all of the excerpt", () => this.look(this.low, this.high));
      this.said = html("p", { class: "said", "aria-live": "polite" }, box);
      this.overview = svg("svg", { class: "overview", "aria-hidden": "true", preserveAspectRatio: "none" }, box);
      this.chart = svg("svg", { class: "chart", tabindex: "0", role: "application", "aria-roledescription": "timeline",
        "aria-label": "Timeline of " + this.name + ": " + this.bars.length + " operations, " + this.marks.length + " anomalies. Arrow keys go from operation to operation, n and p from anomaly to anomaly, plus and minus zoom, 0 shows all." }, box);
      this.tip = html("div", { class: "tip", role: "tooltip", hidden: "" }, box);
      this.aloud = html("p", { class: "away", "aria-live": "polite" }, box);
      html("p", { class: "hint keys" }, box, "Drag to move, Ctrl and wheel to zoom, point at a bar for its row. Keys: arrows, n and p, + and −, 0.");
      this.listen();
    }

    /* Places and patterns. Each timeline has its own ids, because a pattern in a closed timeline cannot be used by another. */
    pattern(name) { return "url(#" + this.box.dataset.timeline + "-" + name + ")"; }
    x(time) { return this.gutter + (time - this.view[0]) / (this.view[1] - this.view[0]) * (this.width - this.gutter - 8); }
    time(x) { return this.view[0] + (x - this.gutter) / (this.width - this.gutter - 8) * (this.view[1] - this.view[0]); }
    y(lane) { return 30 + lane * this.step + (lane >= this.workers ? 10 : 0); }

    layout() {
      this.width = Math.max(this.box.clientWidth || 1000, 280);
      const narrow = this.width < 560;
      this.step = this.lanes.length <= 14 ? 30 : this.lanes.length <= 24 ? 22 : 15;
      this.thick = Math.min(this.step - 4, 22);
      this.gutter = narrow ? 62 : 104;
      this.names = this.lanes.map((name, lane) => narrow && lane < this.workers ? "w " + this.data.workers[lane] : short(name, narrow ? 6 : 13));
      this.height = this.y(this.lanes.length - 1) + this.step + 4;
      this.chart.setAttribute("viewBox", "0 0 " + this.width + " " + this.height);
      this.draw();
    }

    draw() {
      if (!this.width) return;
      const { chart, width, height } = this;
      const id = this.box.dataset.timeline;
      const parts = document.createDocumentFragment();
      const defs = svg("defs", {}, parts);
      const clip = svg("clipPath", { id: id + "-lanes" }, defs);
      svg("rect", { x: this.gutter - 2, y: 0, width: width - this.gutter - 5, height }, clip);
      const pattern = (name, size, path, turn) => svg("path", { d: path }, svg("pattern", { class: name, id: id + "-" + name, width: size, height: size, patternUnits: "userSpaceOnUse", ...(turn ? { patternTransform: "rotate(" + turn + ")" } : {}) }, defs));
      pattern("hatch", 7, "M0 0V7", 45); pattern("crossed", 9, "M1 1L8 8M8 1L1 8"); pattern("left-out", 6, "M0 0V6", -45);
      this.lanes.forEach((_, lane) => {
        svg("rect", { class: "lane", x: this.gutter, y: this.y(lane) + (this.step - this.thick) / 2 - 1, width: width - this.gutter - 8, height: this.thick + 2, rx: 2 }, parts);
        svg("text", { class: "soft", x: this.gutter - 10, y: this.y(lane) + this.step / 2 + 4, "text-anchor": "end" }, parts).textContent = this.names[lane];
      });
      this.ticks(parts);
      const inside = svg("g", { "clip-path": this.pattern("lanes") }, parts);
      this.gaps(inside);
      const shown = this.items.filter((item) => item.end >= this.view[0] && item.start <= this.view[1]);
      for (const item of shown) this.piece(item, inside);
      this.joins(inside);
      chart.replaceChildren(parts);
      this.drawOverview();
    }

    ticks(parent) {
      const span = this.view[1] - this.view[0];
      const least = span / Math.max(2, Math.floor((this.width - this.gutter) / 110));
      const power = 10 ** Math.floor(Math.log10(least));
      const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= least);
      for (let tick = Math.ceil(this.view[0] / step) * step; tick <= this.view[1]; tick += step) {
        const x = this.x(tick);
        svg("path", { class: "tick", d: "M" + x + " 22V" + (this.height - 2) }, parent);
        const edge = x > this.width - 40 ? "end" : "middle";
        svg("text", { class: "soft", x, y: 15, "text-anchor": edge }, parent).textContent = ms(Math.round(tick * 10) / 10);
      }
    }

    gaps(parent) {
      const windows = this.data.windows;
      const between = [];
      for (let at = 1; at < windows.length; at++) between.push([windows[at - 1][1], windows[at][0]]);
      for (const [from, to] of between) {
        if (to < this.view[0] || from > this.view[1]) continue;
        const x = this.x(from), wide = this.x(to) - x;
        svg("title", {}, svg("rect", { fill: this.pattern("left-out"), x, y: 22, width: wide, height: this.height - 24 }, parent)).textContent = "left out";
        if (wide > 90) svg("text", { class: "soft", x: clamp(x + wide / 2, this.gutter + 40, this.width - 48), y: this.height / 2, "text-anchor": "middle" }, parent).textContent = "left out";
      }
    }

    piece(item, parent) {
      const poll = item.consumer !== undefined;
      const x = Math.max(this.x(item.start), -50), end = Math.min(this.x(item.end), this.width + 50);
      const wide = Math.max(end - x, poll ? 4 : 2.5);
      const y = this.y(item.lane) + (this.step - this.thick) / 2;
      const chosen = this.selected && (this.selected.bars.includes(item) || this.selected.polls.includes(item));
      const classes = ["piece", ...(poll ? ["poll"] : [item.outcome.toLowerCase(), ...item.kinds])];
      if (chosen) classes.push("chosen");
      else if (this.selected) classes.push("dim");
      if (this.focused === item) classes.push("at");
      const group = svg("g", { class: classes.join(" "), "data-item": (poll ? "p" : "b") + item.at }, parent);
      svg("rect", { class: "body", x, y, width: wide, height: this.thick, rx: 3 }, group);
      const over = poll ? "" : item.outcome === "FAIL" ? "crossed" : item.kinds.includes("duplicates") ? "hatch" : "";
      if (over) svg("rect", { class: "over", fill: this.pattern(over), x, y, width: wide, height: this.thick, rx: 3 }, group);
      if (poll || item.version === null || this.thick < 14) return;
      const left = Math.max(x, this.gutter), room = Math.min(x + wide, this.width - 8) - left - 6;
      const label = short(item.version, 14);
      const whole = "version " + label;
      const text = whole.length * 7.2 < room ? whole : label.length * 7.2 < room ? label : "";
      if (text) svg("text", { x: left + room / 2 + 3, y: y + this.thick / 2 }, group).textContent = text;
    }

    joins(parent) {
      if (this.selected) {
        for (const mark of new Set(this.selected.bars.flatMap((bar) => bar.marks))) this.join(mark, parent, mark === this.selected ? "" : " faint");
        return;
      }
      const visible = this.marks.filter((mark) => mark.bars.some((bar) => bar.end >= this.view[0] && bar.start <= this.view[1]));
      if (visible.length <= MOST_JOINS) for (const mark of visible) this.join(mark, parent, " faint");
    }

    join(mark, parent, faint) {
      const middle = (item) => this.y(item.lane) + this.step / 2;
      const link = (x1, y1, x2, y2, kind) => {
        const sign = Math.sign(y2 - y1) || 1, half = this.thick / 2;
        const top = y1 + sign * half, low = y2 - sign * half, bow = (low - top) / 2;
        svg("path", { class: "join " + kind + faint, d: "M" + x1 + " " + top + "C" + x1 + " " + (top + bow) + " " + x2 + " " + (low - bow) + " " + x2 + " " + low }, parent);
      };
      const end = (item) => this.x(Math.min(item.end, this.high));
      if (mark.kind === "duplicates") {
        const bars = [...mark.bars].sort((a, b) => a.lane - b.lane || a.start - b.start);
        for (let at = 1; at < bars.length; at++) link(end(bars[at - 1]), middle(bars[at - 1]), end(bars[at]), middle(bars[at]), "duplicates");
      } else {
        for (const bar of mark.bars) for (const poll of mark.polls)
          link(end(bar), middle(bar), this.x((poll.start + poll.end) / 2), middle(poll), mark.kind === "missed" ? "missed" : "duplicates");
      }
    }

    drawOverview() {
      const width = this.width, height = 40;
      const whole = [Math.min(0, this.low), Math.max(this.data.end, this.high)];
      this.whole = whole;
      const x = (time) => (time - whole[0]) / (whole[1] - whole[0]) * width;
      const parts = document.createDocumentFragment();
      svg("rect", { class: "lane", x: 0, y: 0, width, height, rx: 4 }, parts);
      if (this.data.pace) {
        const [interval, commits] = this.data.pace, most = Math.max(...commits, 1);
        let path = "M0 " + height;
        commits.forEach((count, at) => { path += "L" + x(at * interval) + " " + (height - count / most * (height - 8)) + "H" + Math.min(x((at + 1) * interval), width); });
        svg("path", { class: "commits", d: path + "V" + height + "Z" }, parts);
      }
      for (const [from, to] of this.data.windows) svg("rect", { class: "window", x: x(from), y: 0, width: Math.max(x(to) - x(from), 3), height }, parts);
      if (this.selected) svg("path", { class: "anomaly", d: "M" + x(this.selected.bars[0].start) + " 0V" + height }, parts);
      svg("rect", { class: "view", x: Math.max(x(this.view[0]), 1), y: 1, width: clamp(x(this.view[1]) - x(this.view[0]), 3, width - 2), height: height - 2, rx: 3 }, parts);
      this.overview.setAttribute("viewBox", "0 0 " + width + " " + height);
      this.overview.replaceChildren(parts);
    }

    /* The view: which part of the excerpt is shown */
    look(from, to) {
      const span = clamp(to - from, LEAST, this.high - this.low);
      const start = clamp(from, this.low, this.high - span);
      this.view = [start, start + span];
      this.hide();
      this.schedule();
    }
    schedule() {
      if (this.waiting) return;
      this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
    }
    zoom(by, around) {
      const [from, to] = this.view, middle = around === undefined ? (from + to) / 2 : around;
      this.look(middle - (middle - from) * by, middle + (to - middle) * by);
    }
    pan(share) { const span = this.view[1] - this.view[0]; this.look(this.view[0] + span * share, this.view[1] + span * share); }

    listed() { return this.kind ? this.marks.filter((mark) => mark.kind === this.kind) : this.marks; }
    go(where) {
      const listed = this.listed();
      if (!listed.length) return;
      const at = listed.indexOf(this.selected);
      const to = where === 0 || at < 0 ? 0 : clamp(at + (where === "on" ? 1 : -1), 0, listed.length - 1);
      this.choose(listed[to]);
    }
    choose(mark, first) {
      this.selected = mark;
      this.focused = null;
      const items = [...mark.bars, ...mark.polls];
      const from = Math.min(...items.map((item) => item.start));
      const to = Math.max(...items.map((item) => Number.isFinite(item.end) ? item.end : item.start + 1000));
      const around = Math.max((to - from) * 0.35, 60);
      this.look(from - around, to + around);
      this.say();
      if (first) this.layout();
    }
    clear() {
      this.selected = this.focused = null;
      this.hide();
      this.say();
      this.schedule();
    }
    say() {
      this.said.replaceChildren();
      const listed = this.listed(), at = listed.indexOf(this.selected);
      if (this.buttons.length) {
        this.buttons[1].disabled = at <= 0;
        this.buttons[2].disabled = at === listed.length - 1;
      }
      if (!this.selected) {
        const elsewhere = this.data.unmarked.length ? "Found in the run, but not among these operations: " + this.data.unmarked.join(", ") + "." : "No anomaly among these operations.";
        this.said.textContent = this.marks.length ? this.marks.length + " anomalies among these operations." : elsewhere;
        return;
      }
      html("b", {}, this.said, (at + 1) + " of " + listed.length + " here, " + this.selected.kind + ":");
      const text = this.texts[this.selected.at];
      this.said.append(" ", text === undefined ? this.selected.bars.slice(0, 3).map((bar) => this.tell(bar)[0]).join("; ") + "." : text + ".");
    }

    /* The lines that describe an operation or a poll */
    tell(item) {
      if (item.consumer !== undefined) {
        const rows = (this.byPoll.get(item.consumer + ":" + item.number) || []).map((bar) => bar.row);
        const said = ["poll " + item.number + " of '" + short(this.data.consumers[item.consumer], 40) + "' delivered " + item.rows + (item.rows === 1 ? " row" : " rows")];
        if (rows.length) said.push("row" + (rows.length > 1 ? "s " : " ") + rows.slice(0, 12).join(", ") + (rows.length > 12 || item.rows > rows.length ? " …" : ""));
        if (item.after !== null) said.push("cursor " + (item.before === null ? "start" : short(item.before, 40)) + " → " + short(item.after, 40));
        said.push(ms(item.start) + " to " + ms(item.end));
        return said;
      }
      const who = "worker " + this.data.workers[item.lane];
      const what = { OK: " committed", FAIL: " was refused" + (item.state ? " (" + item.state + ")" : "") }[item.outcome] || " got no answer";
      const said = [who + what + (item.version === null ? "" : (item.outcome === "OK" ? " version " : ", wanting version ") + short(item.version, 40)) + (item.row === null ? "" : " in row " + item.row)];
      item.polls.forEach((number, consumer) => {
        const name = this.data.consumers.length > 1 ? " of '" + short(this.data.consumers[consumer], 20) + "'" : "";
        if (number !== null) said.push("delivered by poll " + number + name);
      });
      if (item.kinds.includes("missed")) said.push(item.polls.every((number) => number === null) ? "never delivered" : "never delivered to every consumer");
      const duplicates = item.marks.filter((mark) => mark.kind === "duplicates").flatMap((mark) => mark.bars).filter((bar) => bar !== item);
      if (duplicates.length) said.push("same version: row" + (duplicates.length > 1 ? "s " : " ") + duplicates.slice(0, 8).map((bar) => bar.row).join(", ") + (duplicates.length > 8 ? " …" : ""));
      if (item.tenant !== 1) said.push("tenant " + item.tenant);
      if (item.tries > 1) said.push(item.tries + " tries");
      said.push(ms(item.start) + " to " + (Number.isFinite(item.end) ? ms(item.end) + ", " + ms(item.end - item.start) + " long" : "no end"));
      return said;
    }
    show(item, x, y) {
      this.tip.replaceChildren();
      const kinds = item.kinds || [];
      if (kinds.length) html("p", { class: "kind" }, this.tip, kinds.join(", "));
      for (const line of this.tell(item)) html("p", {}, this.tip, line);
      this.tip.hidden = false;
      const box = this.box.getBoundingClientRect(), tip = this.tip.getBoundingClientRect();
      const below = y + 16 + tip.height < innerHeight;
      this.tip.style.left = clamp(x - box.left + 12, 0, Math.max(box.width - tip.width, 0)) + "px";
      this.tip.style.top = (below ? y - box.top + 16 : y - box.top - tip.height - 12) + "px";
    }
    hide() { this.tip.hidden = true; }
    itemOf(target) {
      const group = target.closest && target.closest("[data-item]");
      if (!group) return null;
      const at = Number(group.dataset.item.slice(1));
      return group.dataset.item[0] === "p" ? this.polls[at] : this.bars[at];
    }

    /* Pointer, wheel, keys */
    listen() {
      const chart = this.chart, pointers = new Map();
      let moved = false;
      const spot = (event) => (event.clientX - chart.getBoundingClientRect().left) * this.width / chart.getBoundingClientRect().width;
      chart.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, spot(event)); moved = false; });
      chart.addEventListener("pointermove", (event) => {
        const x = spot(event), before = pointers.get(event.pointerId);
        if (before === undefined) {
          const item = this.itemOf(event.target);
          if (item) this.show(item, event.clientX, event.clientY); else this.hide();
          return;
        }
        if (!moved && Math.abs(x - before) < 4) return;
        if (!moved) { moved = true; chart.setPointerCapture(event.pointerId); chart.classList.add("dragging"); }
        pointers.set(event.pointerId, x);
        const other = [...pointers].find(([id]) => id !== event.pointerId);
        if (other) {
          const by = Math.abs(before - other[1]) / Math.max(Math.abs(x - other[1]), 1);
          this.zoom(clamp(by, 0.5, 2), this.time((x + other[1]) / 2));
        } else {
          const shift = this.time(before) - this.time(x);
          this.look(this.view[0] + shift, this.view[1] + shift);
        }
      });
      const done = (event) => { pointers.delete(event.pointerId); chart.classList.remove("dragging"); };
      chart.addEventListener("pointerup", done);
      chart.addEventListener("pointercancel", done);
      chart.addEventListener("pointerleave", () => this.hide());
      chart.addEventListener("click", (event) => {
        const item = this.itemOf(event.target);
        if (moved) return;
        if (!item) { this.clear(); return; }
        this.focused = item;
        if (item.marks.length && !item.marks.includes(this.selected)) { this.selected = item.marks[0]; this.say(); }
        this.draw();
        this.show(item, event.clientX, event.clientY);
      });
      chart.addEventListener("dblclick", (event) => this.zoom(0.5, this.time(spot(event))));
      chart.addEventListener("wheel", (event) => {
        if (event.ctrlKey || event.metaKey) { event.preventDefault(); this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.time(spot(event))); }
        else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) { event.preventDefault(); this.pan((event.deltaX || event.deltaY) / this.width); }
      }, { passive: false });
      chart.addEventListener("blur", () => { if (this.focused) { this.focused = null; this.draw(); } this.hide(); });
      chart.addEventListener("keydown", (event) => {
        if (event.altKey || event.ctrlKey || event.metaKey) return;
        const acts = {
          ArrowRight: () => this.step_(1), ArrowLeft: () => this.step_(-1), ArrowDown: () => this.across(1), ArrowUp: () => this.across(-1),
          n: () => this.go("on"), p: () => this.go("back"), Home: () => this.go(0), "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2),
          "0": () => this.look(this.low, this.high), PageDown: () => this.pan(0.8), PageUp: () => this.pan(-0.8), Escape: () => this.clear(),
        };
        if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
      });
      const jump = (event) => {
        const box = this.overview.getBoundingClientRect(), span = this.view[1] - this.view[0];
        const time = this.whole[0] + (event.clientX - box.left) / box.width * (this.whole[1] - this.whole[0]);
        this.look(time - span / 2, time + span / 2);
      };
      this.overview.addEventListener("pointerdown", (event) => { this.overview.setPointerCapture(event.pointerId); jump(event); });
      this.overview.addEventListener("pointermove", (event) => { if (event.buttons) jump(event); });
    }
    begin() {
      if (this.focused) return this.focused;
      if (this.selected) return this.selected.bars[0];
      return this.items.find((item) => item.end >= this.view[0]) || this.items[0];
    }
    inLane(lane) { return this.items.filter((item) => item.lane === lane).sort((a, b) => a.start - b.start); }
    step_(by) {
      if (!this.focused) return this.focus(this.begin());
      const lane = this.inLane(this.focused.lane);
      this.focus(lane[clamp(lane.indexOf(this.focused) + by, 0, lane.length - 1)]);
    }
    across(by) {
      if (!this.focused) return this.focus(this.begin());
      const from = this.focused;
      for (let lane = from.lane + by; lane >= 0 && lane < this.lanes.length; lane += by) {
        const near = this.inLane(lane).sort((a, b) => Math.abs(a.start - from.start) - Math.abs(b.start - from.start))[0];
        if (near) return this.focus(near);
      }
    }
    focus(item) {
      this.focused = item;
      const [from, to] = this.view, span = to - from;
      if (item.start < from || item.start > to - span * 0.1) this.view = [clamp(item.start - span * 0.3, this.low, Math.max(this.low, this.high - span)), 0], this.view[1] = this.view[0] + span;
      this.draw();
      this.aloud.textContent = [...(item.kinds || []), ...this.tell(item)].join(", ");
      const drawn = this.chart.querySelector(".at .body");
      if (drawn) { const box = drawn.getBoundingClientRect(); this.show(item, Math.max(box.left, this.chart.getBoundingClientRect().left + this.gutter), box.bottom - 6); }
    }
  }

  /* A witness, step by step: the rows after the present one are blank. */
  const stepper = (details) => {
    const rows = [...details.querySelectorAll(".lanes tbody tr")];
    const heads = [...details.querySelectorAll(".lanes thead th")].map((cell) => cell.textContent.trim());
    let at = rows.length;
    const buttons = document.createElement("div");
    buttons.className = "bar-of-buttons";
    details.querySelector("summary").after(buttons);
    const controls = [["Start over", () => 1, "main"], ["‹ Back", () => at - 1], ["Forward ›", () => at + 1], ["To the end", () => rows.length]].map(([text, where, extra]) => {
      const button = html("button", { type: "button", class: extra || "" }, buttons, text);
      button.addEventListener("click", () => go(where()));
      return button;
    });
    const said = html("span", { class: "count", "aria-live": "polite" }, buttons);
    const go = (to, quiet) => {
      at = clamp(to, 1, rows.length);
      rows.forEach((row, index) => {
        row.classList.toggle("later", index >= at);
        row.classList.toggle("now", !quiet && index === at - 1);
        if (index >= at) row.setAttribute("aria-hidden", "true"); else row.removeAttribute("aria-hidden");
        if (!quiet && index === at - 1) row.setAttribute("aria-current", "step"); else row.removeAttribute("aria-current");
      });
      controls[1].disabled = at === 1;
      controls[2].disabled = controls[3].disabled = at === rows.length;
      said.replaceChildren("step " + at + " of " + rows.length);
      if (quiet) return;
      const cells = [...rows[at - 1].cells].map((cell, index) => index && cell.textContent.trim() ? heads[index] + ": " + cell.textContent.trim() : "").filter(Boolean);
      html("span", { class: "away" }, said, " " + cells.join(". "));
      rows[at - 1].scrollIntoView({ block: "nearest" });
    };
    details.addEventListener("keydown", (event) => {
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 1, End: rows.length }[event.key];
      if (to === undefined || event.altKey || event.ctrlKey || event.metaKey || event.target.closest(".scroll")) return;
      event.preventDefault();
      go(to);
    });
    go(rows.length, true);
  };

  const timelines = new Map();
  const mount = (box) => { if (!timelines.has(box)) timelines.set(box, new Timeline(box)); };
  for (const details of document.querySelectorAll("details.run")) {
    if (details.dataset.steps !== undefined) { stepper(details); continue; }
    const open = () => { if (details.open) details.querySelectorAll("[data-timeline]").forEach(mount); };
    details.addEventListener("toggle", open);
    open();
  }
  /* A link opens the part that it leads into. Browsers do that, but those of some years ago do not. */
  const reveal = () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (const part of document.querySelectorAll("details:not([open])")) if (part.contains(target)) part.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  reveal();
  const parts = [...document.querySelectorAll("details.file")];
  if (parts.length) {
    const all = html("button", { type: "button" }, html("li", {}, document.querySelector(".fixed ul")), "Open all parts");
    all.addEventListener("click", () => {
      const open = parts.some((part) => !part.open);
      for (const part of parts) part.open = open;
      all.textContent = open ? "Close all parts" : "Open all parts";
    });
  }
  /* On paper nothing can be opened. */
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details.run, details.file, details.long")) details.open = true;
    for (const box of document.querySelectorAll("[data-timeline]")) mount(box);
  });
})();
