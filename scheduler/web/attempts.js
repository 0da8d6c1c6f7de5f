// The attempts of a job, newest first, page by page: who tried what, on which GPU, how it ended.

import { h, fill, api, empty, number, part, query, seconds, state, table, when, words } from "./lib.js";

const PAGE = 25;
/** Of these nobody has counted what they said. */
const UNCOUNTED = ["running", "lost", "canceled"];

/** The list; `log(attempt, running)` opens a log. `load()` asks anew for what is shown. */
export function attemptsOf(job, upkeep, log) {
  const element = h("div");
  let cursor = "";
  const load = upkeep.part(element, async () => {
    const page = await api(`/jobs/${part(job)}/attempts${query({ order: "newest", cursor, limit: PAGE })}`, { signal: upkeep.signal });
    const to = (place) => () => {
      cursor = place;
      load(true);
    };
    fill(element, page.items.length || cursor ? h("div", {}, table("Attempts", [
      ["Attempt", (one) => h("span", { class: "mono" }, one.attempt)],
      ["Frames", (one) => [`${one.step} `, one.frames]],
      ["Worker", (one) => [h("span", { class: "mono" }, one.worker), one.device && h("div", { class: "soft small" }, one.device)]],
      ["Outcome", (one) => [state(one.outcome), one.verdict && h("div", { class: "fault" }, words(one.verdict)), one.reason && h("div", { class: "soft small" }, one.reason)]],
      ["Done", (one) => number(one.done), "number"], ["Failed", (one) => number(one.failed), "number"],
      ["Began", (one) => when(one.started_at)],
      ["Took", (one) => (one.ended_at ? seconds((new Date(one.ended_at) - new Date(one.started_at)) / 1000) : ""), "number"],
      ["", (one) => (one.has_log || UNCOUNTED.includes(one.outcome)) && h("button", { type: "button", "aria-label": `Log of attempt ${one.attempt}`, onclick: () => log(one.attempt, one.outcome === "running") }, "Log")],
    ], page.items), h("div", { class: "row" },
      cursor && h("button", { type: "button", onclick: to("") }, "Newest attempts"),
      page.next && h("button", { type: "button", onclick: to(page.next) }, "Older attempts"))) : empty("No attempt yet. What keeps it from one is told beside the steps."));
  });
  return { element, load };
}
