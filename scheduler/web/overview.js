// What goes on: what runs, what waits and why, workers and GPUs, spending, errors, what comes next.

import { h, fill, api, bar, bytes, card, command, empty, figures, hide, may, money, number, part, prose, state, table, when, words } from "./lib.js";
import { way } from "./workers.js";

/** More often than once a second, so that it is once a second also where an answer takes a while. */
const REFRESH_MS = 700;
const SLOW_MS = 15_000;
const DUE = 6;
const STATES = ["busy", "idle", "starting", "draining"];

export async function show({ main, upkeep, title }) {
  title("Overview");
  const counts = h("div", { class: "card" });
  const [running, waiting, workers, gpus, spent, errors, next] = Array.from({ length: 7 }, () => h("div"));
  const starting = h("section", { class: "card", hidden: true });
  main.append(
    h("h1", {}, "Overview"), h("p", { class: "lead" }, "The farm as it is now."),
    counts,
    h("div", { class: "grid dense" },
      card("Running", running), card("Waiting, and why", waiting), card("Workers", workers), starting, card("GPUs", gpus),
      h("section", { class: "card wide" }, h("h2", {}, "Errors of the last hour"), errors), card("Paid today", spent), card("Next by schedule", next)));

  const get = (path) => api(path, { signal: upkeep.signal });
  let known = null;
  upkeep.every(REFRESH_MS, [counts, running, waiting, workers, starting, gpus, errors], async () => {
    const farm = await get("/overview");
    // Whether there is anything that could render is asked once, and again while there is not.
    known ||= farm.functions.length > 0 || (await get("/functions?limit=1")).items.length > 0;
    drawCounts(counts, farm);
    fill(running, farm.running.newest.length ? jobs(farm.running) : nothing(farm.queued.count));
    fill(waiting, farm.waiting.length ? h("ul", {}, farm.waiting.map((job) => h("li", {},
      h("a", { href: `/jobs/${part(job.id)}` }, job.name), `: ${number(job.tasks)} frames`,
      job.reasons.map((reason) => h("div", { class: "soft small" }, prose(reason)))))) : empty("Nothing waits."));
    drawWorkers(workers, farm, known);
    hide(starting, farm.starting.length === 0);
    if (farm.starting.length) fill(starting, h("h2", {}, "On their way"), onTheirWay(farm));
    fill(gpus, farm.gpus.length ? graphics(farm.gpus) : empty("No worker has told of a GPU. They tell by NVIDIA's driver, as soon as they are there."));
    fill(errors, farm.errors.length || farm.tries.length ? [failed(farm), tried(farm)] : empty("Nothing failed in the last hour."));
  });
  upkeep.every(SLOW_MS, spent, async () => {
    const today = new Date().toISOString().slice(0, 10);
    const costs = await get(`/costs?from=${today}&to=${today}&by=cause`);
    fill(spent, costs.time_us > 0
      ? h("div", {}, figures([["Paid", money(costs.cost)], ["Useful", `${Math.round(costs.efficiency_permille / 10)} %`]]),
        costs.unknown_us > 0 && h("p", { class: "soft small" }, "Some workers have no price: what they cost is unknown, not 0. ", h("a", { href: "/settings" }, "Set prices")))
      : empty("No worker was paid today."));
  });
  upkeep.every(SLOW_MS, next, async () => {
    const due = (await get(`/schedules?order=due&limit=${DUE}`)).items.filter((item) => item.next);
    fill(next, due.length ? table("Schedules by next due time", [
      ["Schedule", (item) => h("a", { href: "/schedules" }, item.name)], ["Due", (item) => when(item.next)], ["State", (item) => state(item.state)],
    ], due) : empty("No schedule is due.", command("framewake schedules add samples/schedules/nightly.yaml")));
  });
}

const counted = (jobs) => number(jobs.count) + (jobs.more ? "+" : "");

function drawCounts(place, farm) {
  const sum = STATES.reduce((total, name) => total + farm.workers[name], 0);
  fill(place, figures([
    ["Jobs running", counted(farm.running)], ["Jobs queued", counted(farm.queued)], ...(farm.paused.count ? [["Jobs paused", counted(farm.paused)]] : []),
    ["Frames to go in those below", number(farm.running.newest.reduce((total, job) => total + job.tasks.waiting + job.tasks.open, 0))],
    ["Workers", number(sum)], ...STATES.map((name) => [words(name)[0].toUpperCase() + name.slice(1), number(farm.workers[name])]),
  ]));
}

function jobs(running) {
  return [table("Jobs that run", [
    ["Job", (job) => h("a", { href: `/jobs/${part(job.id)}` }, job.name)],
    ["Project", (job) => job.project],
    ["Progress", (job) => [bar(job.tasks), h("div", { class: "soft small" }, `${number(job.tasks.done)} of ${number(job.tasks.total)}`)]],
  ], running.newest),
  running.count > running.newest.length && h("p", { class: "small" }, h("a", { href: "/jobs?state=running" }, `All ${counted(running)}`))];
}

function nothing(queued) {
  return queued
    ? empty("Nothing runs yet; see what waits, and why.")
    : empty("Nothing runs. Submit a job here, or from a terminal:", command("framewake submit samples/jobs/povray.yaml --wait"), may("artist") && h("p", {}, h("a", { href: "/submit", class: "button" }, "Submit a job")));
}

function drawWorkers(place, farm, known) {
  if (!known) {
    fill(place, empty("No function is registered yet.", command("framewake functions add samples/functions/blender.yaml")));
    return;
  }
  const rows = farm.functions.flatMap((one) => (one.pools.length ? one.pools : [{ workers: Object.fromEntries(STATES.map((name) => [name, 0])) }]).map((pool, at) => ({ ...pool, of: one, first: at === 0 })));
  fill(place, rows.length ? [table("Workers by function, pool and state", [
    ["Function", (row) => row.first && [h("a", { href: `/workers?function=${part(row.of.function)}` }, row.of.function), row.of.reasons.map((reason) => h("div", { class: "soft small" }, prose(reason)))]],
    ["Pool", (row) => row.pool ?? ""],
    ["There", (row) => crowd(row.workers)],
    ["Wanted", (row) => row.first && number(row.of.wanted), "number"],
  ], rows), farm.functions_left_out > 0 && h("p", { class: "small" }, h("a", { href: "/functions" }, `and ${farm.functions_left_out} functions more`))]
    : empty("No workers: there is nothing to do. They come when a job is submitted, and leave by themselves."));
}

/** Workers by state: a bar, and the same in words. */
function crowd(workers) {
  const told = STATES.filter((name) => workers[name] > 0);
  const all = told.reduce((sum, name) => sum + workers[name], 0);
  const text = told.map((name) => `${number(workers[name])} ${name}`).join(", ") || "none";
  return [h("div", { class: "bar", role: "img", "aria-label": text }, told.map((name) => {
    const piece = h("i", { class: name });
    piece.style.width = `${(100 * workers[name]) / all}%`;
    return piece;
  })), h("div", { class: "soft small" }, text)];
}

function onTheirWay(farm) {
  return [table("Workers on their way", [
    ["Worker", (worker) => [h("span", { class: "mono" }, worker.id), h("div", { class: "soft small" }, worker.pool ? `${worker.function} in ${worker.pool}` : worker.function)]],
    ["So far", (worker) => way(worker)],
  ], farm.starting), farm.workers.starting > farm.starting.length && h("p", { class: "soft small" }, `Those that have waited longest, of ${number(farm.workers.starting)}.`)];
}

function graphics(gpus) {
  return table("GPUs by model", [
    ["Model", (one) => one.model],
    ["Working", (one) => `${number(one.working)} of ${number(one.count)}`, "number"],
    ["Busy", (one) => (one.busy_percent === undefined ? "–" : `${one.busy_percent} %`), "number"],
    ["Memory", (one) => (one.memory_total_bytes ? `${bytes(one.memory_used_bytes ?? 0)} of ${bytes(one.memory_total_bytes)}` : "–"), "number"],
    ["Power", (one) => (one.power_milliwatts === undefined ? "–" : `${number(Math.round(one.power_milliwatts / 1000))} W`), "number"],
  ], gpus);
}

function failed(farm) {
  if (!farm.errors.length) return h("p", {}, "No frame has failed for good.");
  return [table("Frames that failed for good in the last hour", [
    ["Job", (error) => [h("a", { href: `/jobs/${part(error.job)}#failures` }, error.job_name), h("div", { class: "soft small" }, error.step)]],
    ["Why", (error) => [h("span", { class: "fault" }, words(error.verdict)), h("div", { class: "soft small" }, error.message)]],
    ["Frames", (error) => number(error.tasks), "number"], ["Last", (error) => when(error.at)],
  ], farm.errors), farm.errors_more && h("p", { class: "soft small" }, "More failed than is counted here.")];
}

/** What failed and was tried again, too: a farm that is ill shows it here first. */
function tried(farm) {
  return farm.tries.length > 0 && [h("h3", {}, "Every try that failed, by cause"), table("Tries that failed in the last hour, by function and cause", [
    ["Why", (one) => [h("span", { class: "fault" }, one.verdict ? words(one.verdict) : "worker lost"), h("div", { class: "soft small" }, one.message)]],
    ["Function", (one) => one.function], ["Tries", (one) => number(one.tries), "number"],
    ["Last", (one) => [when(one.at), h("div", { class: "small" }, h("a", { href: `/jobs/${part(one.job)}#log-${part(one.attempt)}` }, `log of ${one.attempt}`), h("span", { class: "soft" }, ` in ${one.job_name}`))]],
  ], farm.tries), farm.tries_more && h("p", { class: "soft small" }, "There are more causes than these.")];
}
