// Functions: the renderers that can be woken, their versions and pools, and why each has the workers it has.

import { h, fill, api, bytes, command, cut, empty, figures, money, number, part, problemBox, prose, seconds, state, table, when, words } from "./lib.js";

const REFRESH_MS = 3000;
/** Versions that are shown. */
const PAGE = 500;

/** What was found in its image, where images are scanned. */
function scanOf({ scan }) {
  if (!scan) return null;
  const counts = ["critical", "high", "medium", "low", "unknown"].filter((one) => scan.found[one]).map((one) => `${number(scan.found[one])} ${one}`);
  return [
    h("div", {}, scan.state === "passed" ? null : state(scan.state), h("span", { class: "soft small" }, ` scan: ${counts.join(", ") || "nothing found"}`)),
    scan.worst?.length > 0 && h("ul", { class: "small" }, scan.worst.map((one) => h("li", {}, `${one.severity}: ${one.id} in ${one.place}`, one.title ? `, ${one.title}` : null))),
  ];
}

export async function show({ main, upkeep, title }) {
  title("Functions");
  const place = h("div");
  const opened = new Set();
  main.append(h("h1", {}, "Functions"), h("p", { class: "lead" }, "A function is a renderer, packaged to run from zero. Versions never change; old ones are drained."), place);
  const look = upkeep.every(REFRESH_MS, place, async () => {
    const page = await api(`/functions?limit=${PAGE}`, { signal: upkeep.signal });
    const names = Map.groupBy(page.items, (item) => item.name);
    // What is opened is asked for; what is closed costs nothing.
    const decisions = new Map(await Promise.all([...opened].filter((key) => key.startsWith("scaling ")).map(async (key) => {
      const name = key.slice("scaling ".length);
      return [name, await api(`/functions/${part(name)}/scaling`, { signal: upkeep.signal }).catch((problem) => problem)];
    })));
    const folded = (key, text, content) => h("details", { open: opened.has(key), ontoggle: (event) => {
      if (event.target.open === opened.has(key)) return;
      if (event.target.open) opened.add(key);
      else opened.delete(key);
      // At once, not at the next turn.
      if (event.target.open && key.startsWith("scaling ")) look();
    } }, h("summary", {}, text), content);
    fill(place, names.size ? [...names].map(([name, versions]) => {
      const newest = versions.find((item) => item.newest) ?? versions[0];
      const { spec, workers } = newest;
      return h("section", { class: "card", "data-key": name },
        h("div", { class: "row between" }, h("h2", {}, `${name}@${newest.version}`), h("a", { class: "button", href: `/submit?function=${part(name)}`, "aria-label": `Submit a job of ${name}` }, "Submit a job")),
        spec.description && h("p", {}, spec.description),
        h("p", { class: "soft small" }, [
          spec.image ? `image ${spec.image}` : "no image: it runs where its program is", spec.resources.gpus ? `${spec.resources.gpus} GPU` : "no GPU", spec.resources.gpu_memory && `of ${spec.resources.gpu_memory}`,
          spec.scaling.pools?.length ? `in pools ${spec.scaling.pools.join(", ")}` : "in any pool that fits",
          `at most ${spec.scaling.max} workers`, spec.scaling.linger && `leaves after ${spec.scaling.linger} without work`,
        ].filter(Boolean).join(" · ")),
        h("p", {}, `${number(workers.present)} workers there, ${number(workers.starting)} starting, ${number(workers.wanted)} wanted, ${number(workers.started_total)} started so far`),
        workers.reasons.map((reason) => h("p", { class: "soft" }, prose(reason))),
        versions.filter((item) => item.version > newest.version).map((item) => h("p", { class: "fault" }, `@${item.version} is not active: `, prose(item.scan?.reason))),
        folded(`scaling ${name}`, "Why so many workers", opened.has(`scaling ${name}`) && decision(decisions.get(name))),
        folded(`spec ${name}`, "Parameters and versions", [
          Object.keys(spec.parameters ?? {}).length ? table("Parameters", [
            ["Parameter", ([key]) => h("span", { class: "mono" }, key)], ["Type", ([, one]) => one.type], ["Default", ([, one]) => (one.default === undefined || one.default === null ? "must be set" : String(one.default))], ["", ([, one]) => one.description],
          ], Object.entries(spec.parameters)) : h("p", { class: "soft" }, "It has no parameters."),
          table("Versions", [["Version", (item) => `@${item.version}`], ["Image", (item) => item.spec.image ?? ""], ["Added", (item) => when(item.added_at)], ["Workers", (item) => number(item.workers.present), "number"], ["", (item) => [item.newest && state("active"), scanOf(item)]]], versions.toReversed())]));
    }) : h("div", { class: "card" }, empty("No function is registered yet.", command("framewake functions add samples/functions/blender.yaml"))), cut(page, `The first ${PAGE} versions by name are shown; framewake functions has all.`));
  });
}

/** The decision how many workers there should be, and everything that went into it. */
function decision(scaling) {
  if (!scaling) return h("p", { class: "soft" }, "is being asked …");
  if (scaling instanceof Error) return problemBox(scaling);
  const known = (value, say) => (value === undefined || value === null ? "not known" : say(value));
  return h("div", {},
    h("p", {}, prose(scaling.because)),
    figures([
      ["Wanted", number(scaling.wanted)], ["Busy", number(scaling.busy)], ["Idle", number(scaling.idle)], ["Starting", number(scaling.starting)], ["Leaving", number(scaling.leaving)], ["Kept", number(scaling.kept)],
      ["Frames to go", number(scaling.tasks)], ["Work in them", known(scaling.work_s, seconds)], ["A frame", known(scaling.task_s, seconds)], ["Load", known(scaling.load_s, seconds)], ["Start", known(scaling.start_s, seconds)],
      ["Cheapest number", known(scaling.optimum, (value) => value.toFixed(1))], ["Limit", number(scaling.limit)], ["Paid for by budgets", known(scaling.paid_for, number)],
      ["Waits without work", seconds(scaling.linger_s)], ["An hour of waiting is worth", scaling.waiting ? money([scaling.waiting]) : `${scaling.waiting_worth} worker hours`],
    ]),
    scaling.pools.length > 0 && table("Pools, in the order in which they are tried", [
      ["Pool", (pool) => [pool.pool, pool.gpu && h("div", { class: "soft small" }, pool.gpu)]],
      ["Workers", (pool) => `${number(pool.workers)} of ${number(pool.workers_max)}`, "number"], ["Slots taken", (pool) => `${number(pool.slots_taken)} of ${number(pool.slots)}`, "number"],
      ["An hour", (pool) => (pool.price ? money([pool.price]) : "unknown"), "number"], ["A start", (pool) => [known(pool.start_p50_s, seconds), pool.start_p95_s && h("div", { class: "soft small" }, `19 of 20 within ${seconds(pool.start_p95_s)}`)], "number"],
      ["", (pool) => pool.passed_over && h("span", { class: "soft" }, prose(pool.passed_over))],
    ], scaling.pools),
    scaling.unfit.map((pool) => h("p", { class: "soft small" }, `Not in ${pool.pool}: `, prose(pool.reason))),
    scaling.coming.length > 0 && table("On their way", [["Worker", (one) => h("span", { class: "mono" }, one.worker)], ["Pool", (one) => one.pool ?? ""], ["Asked for", (one) => when(one.asked_at)], ["So far", (one) => [words(one.step), one.waits && h("div", { class: "fault" }, prose(one.waits))]]], scaling.coming),
    scaling.runs.length > 0 && table("Called before runs are due", [["Schedule", (run) => run.schedule], ["Due", (run) => when(run.due)], ["Called", (run) => when(run.called_at)], ["Workers", (run) => number(run.workers), "number"]], scaling.runs));
}
