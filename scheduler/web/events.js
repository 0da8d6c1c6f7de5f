// What happens on the farm as it happens, and who changed what.

import { released } from "./hold.js";
import { h, fill, api, card, command, empty, may, number, part, query, table, when, words } from "./lib.js";

/** Events that are shown; older ones go. */
const SHOWN_MAX = 200;
const PAGE = 50;
/** Names of jobs that are asked for together, those that are asked for one by one at a time, and those that are kept. */
const NAMES = 200;
const NAMES_SINGLY = 20;
const NAMES_MAX = 4000;
/** Kinds, and the words for choosing some. Progress comes too often to be read. */
const KINDS = { job_state: "jobs", step_state: "steps", task_failed: "failures", attempt_started: "attempts", attempt_ended: "attempts", tasks_done: "frames", run_late: "late runs" };
const CHOICES = ["jobs", "steps", "failures", "attempts", "frames", "late runs"];
const AT_FIRST = new Set(["jobs", "failures", "late runs"]);

export async function show({ main, upkeep, title }) {
  title("Events");
  fill(main, h("h1", {}, "Events"), h("p", { class: "lead" }, "What happens, as it happens, and who changed what."), feed(upkeep), may("operator") && changes(upkeep));
}

function feed(upkeep) {
  const chosen = new Set(AT_FIRST);
  const kept = [];
  const list = h("ol", { class: "feed", tabindex: "0", "aria-label": "Events, newest first" });
  const nothing = h("div");
  let drawn = null;
  /** Whether what happened before was told. */
  let told = false;
  const hold = h("input", { type: "checkbox" });
  /** What was known when somebody began to hold it. */
  let held = null;
  function draw() {
    if (drawn !== null) return;
    // A farm at work tells hundreds a second: they are drawn when a picture is due, not one by one.
    drawn = setTimeout(async () => {
      await released();
      drawn = null;
      const shown = (held ?? kept).filter((event) => chosen.has(KINDS[event.event])).slice(-SHOWN_MAX).reverse();
      fill(list, shown.map((event) => line(event, names.of(event.job))));
      names.ask();
      fill(nothing, told && !shown.length && empty("Nothing of this kind happened lately. Submit a job and it will:", command("framewake submit samples/jobs/povray.yaml --wait")));
    }, 250);
  }
  const names = new Names(upkeep, draw);
  upkeep.follow(list, `/events?last=${SHOWN_MAX * 5}`, Object.keys(KINDS), (event) => {
    kept.push(event);
    if (kept.length > SHOWN_MAX * 10) kept.splice(0, SHOWN_MAX * 5);
    draw();
  }, (anew) => {
    // It is told from before again.
    if (anew) kept.length = 0;
    told = true;
    draw();
  });
  upkeep.onEnd(() => clearTimeout(drawn));
  hold.addEventListener("change", () => {
    held = hold.checked ? [...kept] : null;
    draw();
  });
  return card("What happens",
    h("fieldset", { class: "row" }, h("legend", {}, "Shown"), CHOICES.map((name) => h("label", { class: "small" }, h("input", { type: "checkbox", checked: chosen.has(name), onchange: (event) => {
      if (event.target.checked) chosen.add(name);
      else chosen.delete(name);
      draw();
    } }), ` ${name}`)), h("label", { class: "small" }, hold, " hold still")),
    nothing, list);
}

/** Names of the jobs that events are about, which tell their numbers alone. */
class Names {
  constructor(upkeep, learned) {
    this.upkeep = upkeep;
    this.learned = learned;
    /** By id; null: it is not known, and is asked for. Those that nobody has any more have none. */
    this.known = new Map();
    this.asking = false;
  }

  of(job) {
    if (!this.known.has(job)) this.known.set(job, null);
    return this.known.get(job);
  }

  /** Asks for those that were wanted and are not known: the newest jobs together, others one by one. */
  async ask() {
    const wanted = [...this.known].filter(([, name]) => name === null).map(([job]) => job);
    if (this.asking || !wanted.length) return;
    this.asking = true;
    try {
      const get = (path) => api(path, { signal: this.upkeep.signal });
      if (wanted.length > 1) for (const job of (await get(`/jobs?limit=${NAMES}`)).items) this.known.set(job.id, job.name);
      for (const job of wanted.filter((one) => this.known.get(one) === null).slice(0, NAMES_SINGLY)) {
        const name = await get(`/jobs/${part(job)}`).then((found) => found.name, (problem) => {
          if (problem.passes || problem.name === "AbortError") throw problem;
          return "";
        });
        this.known.set(job, name);
      }
      for (const job of this.known.keys()) {
        if (this.known.size <= NAMES_MAX) break;
        this.known.delete(job);
      }
      this.learned();
    } catch {
      // They are asked for again with the next event; until then the number says which it is.
    } finally {
      this.asking = false;
    }
  }
}

function line(event, name) {
  return h("li", { "data-key": `${event.event} ${event.at}` }, when(event.at), h("div", {}, h("a", { href: `/jobs/${part(event.job)}`, title: event.job }, name || "job"), h("span", { class: "mono soft" }, ` …${event.job.slice(-6)}`), told(event), event.message && h("div", { class: "soft small" }, event.message)));
}

function told(event) {
  switch (event.event) {
    case "job_state": return ` is ${words(event.state)}`;
    case "step_state": return `: step ${event.step} is ${words(event.state)}`;
    case "task_failed": return `: frame ${event.frame} of ${event.step} failed (${words(event.verdict)})${event.again ? ", and is tried again" : ""}`;
    case "attempt_started": return `: ${event.worker} began frames ${event.frames} of ${event.step}`;
    case "attempt_ended": return `: attempt ${event.attempt} at ${event.step} ${words(event.outcome)}${event.reason ? `: ${event.reason}` : ""}`;
    case "tasks_done": return `: ${event.step} has ${number(event.tasks.done)} of ${number(event.tasks.total)} done`;
    case "run_late": return `: a run of ${event.schedule} misses its deadline to ${event.deadline}`;
    default: return words(event.event);
  }
}

/** What was before or after; of a long one a part is seen. */
const noted = (name, text) => text && h("div", { class: "scroll clip", role: "group", "aria-label": name }, h("pre", { class: "small" }, text));

/** Changes that people made, page by page. */
function changes(upkeep) {
  const rows = h("div");
  const who = h("input", { type: "search", placeholder: "anybody", autocomplete: "off" });
  const action = h("input", { type: "search", placeholder: "job., token.add", autocomplete: "off" });
  let cursor = "";
  /** What is searched for: what was typed when somebody said so. */
  let wanted = {};
  const search = () => {
    cursor = "";
    wanted = { who: who.value.trim(), action: action.value.trim() };
    look(true);
  };
  const look = upkeep.every(5000, rows, async () => {
    const page = await api(`/audit${query({ ...wanted, cursor, limit: PAGE })}`, { signal: upkeep.signal });
    const to = (place) => () => { cursor = place; look(true); };
    fill(rows, page.items.length ? table("Changes, newest first", [
      ["When", (change) => when(change.at)], ["Who", (change) => [change.who, h("div", { class: "soft small" }, `from ${change.from}`)]],
      ["What", (change) => [words(change.action), h("div", { class: "soft small mono" }, change.subject)]],
      ["Project", (change) => change.project ?? ""],
      ["Before", (change) => noted("Before", change.before)], ["After", (change) => noted("After", change.after)],
    ], page.items) : empty("No such change was made.", command("framewake audit")),
    h("div", { class: "row" }, cursor && h("button", { type: "button", onclick: to("") }, "Newest"), page.next && h("button", { type: "button", onclick: to(page.next) }, "Older")));
  });
  return card("Who changed what", h("form", { class: "row bottom", role: "search", onsubmit: (event) => { event.preventDefault(); search(); } },
    h("label", { class: "field" }, h("span", {}, "Who"), who), h("label", { class: "field" }, h("span", {}, "What begins with"), action), h("button", { type: "submit" }, "Search")), rows);
}
