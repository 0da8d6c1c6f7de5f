// Functions: the renderers that can be woken, their versions, and how many workers each has.

import { h, fill, api, command, empty, number, part, state, table, when } from "./lib.js";

export async function show({ main, upkeep, title }) {
  title("Functions");
  const place = h("div");
  main.append(h("h1", {}, "Functions"), h("p", { class: "lead" }, "A function is a renderer, packaged to run from zero. Versions never change; old ones are drained."), place);
  upkeep.every(3000, async () => {
    const page = await api("/functions?limit=500", { signal: upkeep.signal });
    const names = Map.groupBy(page.items, (item) => item.name);
    const opened = new Set([...place.querySelectorAll("details[open]")].map((details) => details.dataset.name));
    fill(place, ...(names.size ? [...names].map(([name, versions]) => {
      const newest = versions.find((item) => item.newest) ?? versions[0];
      const { spec, workers } = newest;
      return h("section", { class: "card" },
        h("div", { class: "row between" }, h("h2", {}, `${name}@${newest.version}`), h("a", { class: "button", href: `/submit?function=${part(name)}` }, "Submit a job")),
        spec.description && h("p", {}, spec.description),
        h("p", { class: "soft small" }, [
          spec.image && `image ${spec.image}`, spec.resources.gpus ? `${spec.resources.gpus} GPU` : "no GPU", spec.resources.gpu_memory && `of ${spec.resources.gpu_memory}`,
          `at most ${spec.scaling.max} workers`, `leaves after ${spec.scaling.linger} without work`,
        ].filter(Boolean).join(" · ")),
        h("p", {}, `${number(workers.present)} workers there, ${number(workers.starting)} starting, ${number(workers.wanted)} wanted, ${number(workers.started_total)} started so far`),
        workers.reasons.map((reason) => h("p", { class: "soft" }, reason)),
        h("details", { "data-name": name, open: opened.has(name) }, h("summary", {}, "Parameters and versions"),
          Object.keys(spec.parameters ?? {}).length ? table("Parameters", [
            ["Parameter", ([key]) => h("span", { class: "mono" }, key)], ["Type", ([, one]) => one.type], ["Default", ([, one]) => one.default === undefined || one.default === null ? "must be set" : String(one.default)], ["", ([, one]) => one.description],
          ], Object.entries(spec.parameters)) : h("p", { class: "soft" }, "It has no parameters."),
          table("Versions", [["Version", (item) => `@${item.version}`], ["Added", (item) => when(item.added_at)], ["Workers", (item) => number(item.workers.present), "number"], ["", (item) => item.newest && state("active")]], versions)));
    }) : [h("div", { class: "card" }, empty("No function is registered yet.", command("framewake functions add samples/functions/blender.yaml")))]));
  });
}
