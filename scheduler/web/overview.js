// What goes on: what runs, what waits and why, workers, spending, errors, what comes next.

import { h, fill, api, bar, card, command, empty, figures, may, money, number, part, state, table, when, words } from "./lib.js";

/** Jobs whose reasons to wait are asked for. */
const EXPLAINED = 5;
const LISTED = 12;
const REFRESH_MS = 1000;

export async function show({ main, upkeep, title }) {
  title("Overview");
  const counts = h("div", { class: "card" });
  const running = h("div");
  const waiting = h("div");
  const workers = h("div");
  const spent = h("div");
  const errors = h("div");
  const next = h("div");
  main.append(
    h("h1", {}, "Overview"), h("p", { class: "lead" }, "The farm as it is now."),
    counts,
    h("div", { class: "grid" },
      card("Running", running), card("Waiting, and why", waiting), card("Workers", workers),
      card("Paid today", spent), card("Failed lately", errors), card("Next by schedule", next)));

  const get = (path) => api(path, { signal: upkeep.signal });
  upkeep.every(REFRESH_MS, async () => {
    const [runs, queued, failed, functions] = await Promise.all([
      get(`/jobs?state=running&limit=${LISTED}`), get(`/jobs?state=queued&limit=${LISTED}`),
      get(`/jobs?state=failed&limit=${LISTED}`), get("/functions?limit=200"),
    ]);
    const newest = functions.items.filter((item) => item.newest || item.workers.present + item.workers.starting > 0);
    const sum = (name) => newest.reduce((total, item) => total + item.workers[name], 0);
    const frames = runs.items.reduce((total, job) => total + job.tasks.waiting + job.tasks.open, 0);
    fill(counts, figures([
      ["Jobs running", number(runs.items.length) + (runs.next ? "+" : "")], ["Jobs queued", number(queued.items.length) + (queued.next ? "+" : "")],
      ["Frames to go in these", number(frames)], ["Workers", number(sum("present"))], ["Starting", number(sum("starting"))], ["Wanted", number(sum("wanted"))],
    ]));
    fill(running, runs.items.length ? list(runs.items) : nothing(queued.items.length));
    fill(workers, newest.length ? table("Workers by function", [
      ["Function", (item) => h("a", { href: "/functions" }, `${item.name}@${item.version}`)],
      ["There", (item) => number(item.workers.present), "number"], ["Starting", (item) => number(item.workers.starting), "number"],
      ["Wanted", (item) => number(item.workers.wanted), "number"],
      ["", (item) => item.workers.reasons.map((reason) => h("div", { class: "soft small" }, reason))],
    ], newest) : empty("No function is registered yet.", command("framewake functions add samples/functions/blender.yaml")));
    fill(errors, failed.items.length ? table("Jobs that failed", [
      ["Job", (job) => h("a", { href: `/jobs/${part(job.id)}` }, job.name)],
      ["Failed frames", (job) => number(job.tasks.failed), "number"], ["Ended", (job) => job.finished_at && when(job.finished_at)],
    ], failed.items.slice(0, 6)) : empty("Nothing failed."));
    const held = [...queued.items, ...runs.items.filter((job) => job.tasks.waiting > 0)].slice(0, EXPLAINED);
    const reasons = await Promise.all(held.map((job) => get(`/jobs/${part(job.id)}/explain`).catch(() => null)));
    fill(waiting, held.length ? h("ul", {}, held.map((job, at) => h("li", {},
      h("a", { href: `/jobs/${part(job.id)}` }, job.name), `: ${number(job.tasks.waiting)} frames`,
      (reasons[at]?.steps ?? []).flatMap((step) => step.reasons).map((reason) => h("div", { class: "soft small" }, reason))))) : empty("Nothing waits."));
  });
  upkeep.every(15_000, async () => {
    const today = new Date().toISOString().slice(0, 10);
    const [costs, schedules] = await Promise.all([
      get(`/costs?from=${today}&to=${today}&by=cause`).catch(() => null), get("/schedules?limit=100").catch(() => null),
    ]);
    fill(spent, costs && costs.time_us > 0
      ? h("div", {}, figures([["Paid", money(costs.cost)], ["Useful", `${Math.round(costs.efficiency_permille / 10)} %`]]),
        costs.unknown_us > 0 && h("p", { class: "soft small" }, "Some workers have no price: what they cost is unknown, not 0. ", h("a", { href: "/cost" }, "Cost")))
      : empty("No worker was paid today."));
    const due = (schedules?.items ?? []).filter((item) => item.next).sort((a, b) => (a.next < b.next ? -1 : 1)).slice(0, 6);
    fill(next, due.length ? table("Schedules by next due time", [
      ["Schedule", (item) => h("a", { href: "/schedules" }, item.name)], ["Due", (item) => when(item.next)], ["State", (item) => state(item.state)],
    ], due) : empty("No schedule is due.", command("framewake schedules add samples/schedules/nightly.yaml")));
  });
}

function list(jobs) {
  return table("Jobs that run", [
    ["Job", (job) => h("a", { href: `/jobs/${part(job.id)}` }, job.name)],
    ["Project", (job) => words(job.project)],
    ["Progress", (job) => [bar(job.tasks), h("div", { class: "soft small" }, `${number(job.tasks.done)} of ${number(job.tasks.total)}`)]],
  ], jobs);
}

function nothing(queued) {
  return queued
    ? empty("Nothing runs yet; see what waits, and why.")
    : empty("Nothing runs. Submit a job here, or from a terminal:", command("framewake submit samples/jobs/povray.yaml --wait"), may("artist") && h("p", {}, h("a", { href: "/submit", class: "button" }, "Submit a job")));
}
