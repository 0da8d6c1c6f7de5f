// Schedules: what is due when, what became of it, and the usual actions.

import { h, fill, api, action, card, command, cut, empty, may, note, number, part, state, table, when } from "./lib.js";
import { calendar, zone } from "./calendar.js";

const PAGE = 200;

export async function show({ main, upkeep, title }) {
  title("Schedules");
  const rows = h("div");
  const detail = h("div");
  const days = h("div");
  let drawn = "";
  let items = [];
  const lookAhead = upkeep.part(days, async () => fill(days, await calendar(items, upkeep.signal)));
  /** The one whose dues and runs are shown, by its name. */
  let chosen = null;
  const lookAtOne = upkeep.part(detail, async () => {
    if (chosen) await showOne(chosen);
    else fill(detail);
  });
  main.append(h("h1", {}, "Schedules"), h("p", { class: "lead" }, "Jobs that are made by themselves, at the time of day of a zone."), card("", rows), detail, h("section", { class: "card", hidden: true }, h("h2", {}, "The next four weeks ", h("span", { class: "soft small" }, `days and times of ${zone()}`)), days));
  const load = upkeep.every(5000, rows, async () => {
    const page = await api(`/schedules?limit=${PAGE}`, { signal: upkeep.signal });
    // Dues are asked for anew once a run was due or a schedule changed.
    const is = page.items.map((item) => `${item.name} ${item.next} ${item.state} ${item.spec.cron}`).join("\n");
    if (is !== drawn) {
      drawn = is;
      days.parentElement.hidden = page.items.length === 0;
      items = page.items;
      lookAhead();
    }
    const change = (item, what, said) => action(what[0].toUpperCase() + what.slice(1), async () => {
      await api(`/schedules/${part(item.name)}/${what}`, { method: "POST" });
      note(said);
      await load();
    }, { "aria-label": `${what[0].toUpperCase() + what.slice(1)} ${item.name}` });
    fill(rows, page.items.length ? table("Schedules", [
      ["Schedule", (item) => h("button", { type: "button", class: "quiet", onclick: () => choose(item.name) }, item.name)],
      ["When", (item) => [h("span", { class: "mono" }, item.spec.cron), h("div", { class: "soft small" }, item.reading)]],
      ["Next", (item) => item.next && when(item.next)],
      ["State", (item) => [state(item.state), item.late > 0 && h("div", { class: "fault" }, `${item.late} runs late`)]],
      ["Runs", (item) => number(item.runs), "number"],
      ["", (item) => h("div", { class: "row" }, may("operator") && (item.state === "paused" ? change(item, "resume", `${item.name} goes on.`) : change(item, "pause", `${item.name} is paused.`)), may("artist") && change(item, "run", `${item.name} runs now.`))],
    ], page.items) : empty("There is no schedule yet.", command("framewake schedules add samples/schedules/nightly.yaml")),
    cut(page, `The first ${PAGE} by name are shown; framewake schedules has all.`));
    if (!page.items.some((item) => item.name === chosen)) chosen = null;
    await lookAtOne();
  });

  async function choose(name) {
    chosen = name;
    await lookAtOne(true);
    detail.scrollIntoView({ block: "nearest" });
  }

  async function showOne(name) {
    const [next, runs] = await Promise.all([
      api(`/schedules/${part(name)}/next?count=10`, { signal: upkeep.signal }), api(`/schedules/${part(name)}/runs?limit=50`, { signal: upkeep.signal }),
    ]);
    fill(detail, h("div", { class: "grid" },
      card(`Next runs of ${name}`, next.times.length ? h("ol", {}, next.times.map((time) => h("li", {}, time.local))) : empty("It is never due again.")),
      card("What became of its due times", runs.items.length ? table("Runs", [
        ["Due", (run) => when(run.due)], ["State", (run) => [state(run.job_state ?? run.state), run.reason && h("div", { class: "soft small" }, run.reason), (run.late_start || run.late_finish) && h("div", { class: "fault" }, run.late_start ? "had not begun by its deadline" : "was not over by its deadline")]],
        ["Job", (run) => run.job && h("a", { href: `/jobs/${part(run.job)}` }, run.number ? `run ${run.number}` : "job")],
      ], runs.items) : empty("It was not due yet."))));
  }
}
