// The log of an attempt: live while it runs, searched, and nothing in it is taken for more than text.

import { looking, released } from "./hold.js";
import { AGAIN_MS, h, fill, api, number, part, problemBox, problemOf, query } from "./lib.js";

/** Most text that is kept on the page; what came before is dropped, and that is said. */
const TEXT_MAX = 2 * 1024 * 1024;
/** Most places that are marked. */
const MARKS_MAX = 1000;
/** Colors and moves of a terminal (ECMA-48), and the titles some programs set. */
// eslint-disable-next-line no-control-regex
const TERMINAL = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])/g;
/** One of them that has begun and may go on, or half of an end of line. */
// eslint-disable-next-line no-control-regex
const BEGUN = /(?:\r|\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[ -/]*))$/;
/** Longest one that is waited for; none is so long but a title that never ends. */
const BEGUN_MAX = 1024;
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

/** Makes plain text of what a terminal would be sent, piece by piece, wherever it was cut. */
export class Plain {
  begun = "";

  /** The text of what is whole by now. */
  more(piece) {
    const text = this.begun + piece;
    const at = text.search(BEGUN);
    const whole = at < 0 || text.length - at > BEGUN_MAX ? text.length : at;
    this.begun = text.slice(whole);
    return text.slice(0, whole).replace(TERMINAL, "").replace(/\r\n?/g, "\n").replace(UNSEEN, "");
  }
}

/** A text in pieces, with what is searched for marked in it, whatever its case. */
function marked(text, wanted) {
  const lower = text.toLowerCase();
  // A few letters get longer by that; then nothing is where it was.
  if (lower.length !== text.length) return [text];
  const pieces = [];
  let from = 0;
  for (let count = 0; count < MARKS_MAX; count += 1) {
    const at = lower.indexOf(wanted, from);
    if (at < 0) break;
    const end = at + wanted.length;
    pieces.push(text.slice(from, at), h("mark", {}, text.slice(at, end)));
    from = end;
  }
  return [...pieces, text.slice(from)];
}

/** The log of one attempt; it ends with the page or when another is opened. */
export function logOf(job, attempt, running, upkeep) {
  const text = h("pre", { class: "log", tabindex: "0", role: "group", "aria-label": `Log of attempt ${attempt}` });
  const said = h("span", { class: "soft small", role: "status" });
  const search = h("input", { type: "search", placeholder: "Only lines with …", "aria-label": "Search the log", oninput: () => { anew = true; draw(); } });
  const follow = h("input", { type: "checkbox", checked: true, onchange: () => draw() });
  let stopper = new AbortController();
  /** Closed, by who looked at it. */
  let left = false;
  /** Where somebody was who does not follow it, until it is as long again. */
  let stood = null;
  let whole = "";
  let dropped = false;
  let over = false;
  let drawn = false;
  /** What is not put behind the rest yet, and whether the rest must be drawn anew. */
  let fresh = "";
  let anew = true;
  let broken = false;
  let timer = null;

  function draw() {
    if (drawn) return;
    drawn = true;
    released().then(() => requestAnimationFrame(() => {
      drawn = false;
      const wanted = search.value.toLowerCase();
      const lines = wanted ? whole.split("\n").filter((line) => line.toLowerCase().includes(wanted)) : null;
      // What stands there already stays as it is: somebody may have marked it.
      if (lines) fill(text, marked(lines.join("\n"), wanted));
      else if (anew || !whole) fill(text, whole || (over ? "The log is empty." : ""));
      else if (fresh) text.firstChild.appendData(fresh);
      anew = Boolean(lines) || !whole;
      fresh = "";
      said.textContent = [broken && "the connection broke: it is read again by itself", dropped && "the beginning is left out here: download it", lines && `${number(lines.length)} ${lines.length === 1 ? "line" : "lines"}`].filter(Boolean).join(" · ");
      if (follow.checked) text.scrollTop = text.scrollHeight;
      else if (stood !== null && text.scrollHeight - text.clientHeight >= stood) {
        text.scrollTop = stood;
        stood = null;
      }
    }));
  }

  async function read() {
    const { signal } = stopper;
    const answer = await fetch(`/v1/jobs/${part(job)}/attempts/${part(attempt)}/log${running ? "?follow=true" : ""}`, { signal });
    if (!answer.ok) {
      fill(text, problemBox(problemOf(answer, await answer.text())));
      return;
    }
    const lines = new Plain();
    const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let first = true;
    broken = false;
    for (;;) {
      const { value, done } = await pieces.read();
      if (signal.aborted) return;
      if (done) break;
      // What stood there from before stays until there is something to put in its place.
      if (first) [whole, dropped, first, anew] = ["", false, false, true];
      const more = lines.more(value);
      whole += more;
      fresh += more;
      if (whole.length > TEXT_MAX) {
        whole = whole.slice(whole.indexOf("\n", whole.length - TEXT_MAX) + 1);
        dropped = true;
        anew = true;
      }
      draw();
    }
    // A scheduler that stops ends what it sends, too.
    if (running && await runsYet(signal)) throw new Error("The log ends before the attempt does.");
    over = true;
    draw();
  }
  async function runsYet(signal) {
    const [chunk, tried] = attempt.split(".").map(Number);
    const { items: [found] } = await api(`/jobs/${part(job)}/attempts${query({ cursor: `${chunk}.${tried - 1}`, limit: 1 })}`, { signal });
    return found?.attempt === attempt && found.outcome === "running";
  }
  const begin = () => read().catch((problem) => {
    if (problem.name === "AbortError") return;
    broken = true;
    draw();
    timer = setTimeout(seen, AGAIN_MS);
  });

  /** A log that is followed takes one of the few connections that a browser has: it gives it back while nobody looks. */
  const seen = () => {
    clearTimeout(timer);
    if (over || left || !(running || broken)) return;
    stopper.abort();
    if (!looking()) return;
    stood = follow.checked ? null : text.scrollTop;
    stopper = new AbortController();
    begin();
  };
  const end = () => {
    left = true;
    clearTimeout(timer);
    stopper.abort();
    removeEventListener("looking", seen);
  };
  addEventListener("looking", seen);
  upkeep.onEnd(end);
  begin();

  const element = h("div", {},
    h("div", { class: "row between" },
      h("div", { class: "row" }, search, h("label", { class: "row small" }, follow, "keep to the end")),
      h("div", { class: "row" }, said, h("a", { href: `/v1/jobs/${part(job)}/attempts/${part(attempt)}/log`, download: `${attempt}.log` }, "Download"))),
    text);
  return { element, text, end };
}
