// The outputs of a job as a list, to be downloaded.

import { h, fill, api, bytes, empty, number, part, query, seconds, table, when } from "./lib.js";

const PAGE = 25;

/** The list; `load()` asks anew for the page that is shown, `over()` says whether no more outputs come. */
export function outputsOf(job, upkeep, over) {
  const element = h("div");
  /** Cursors of the pages before. */
  let before = [];
  let cursor = "";
  const load = upkeep.part(element, async () => {
    const page = await api(`/jobs/${part(job)}/outputs${query({ cursor, limit: PAGE })}`, { signal: upkeep.signal });
    const to = (place, back) => () => {
      before = back;
      cursor = place;
      load(true);
    };
    const address = (output) => `/v1/jobs/${part(job)}/outputs/${part(output.step)}/${output.task}`;
    fill(element, page.items.length ? h("div", {}, table("Outputs", [
      ["Output", (output) => h("a", { href: address(output), download: output.name.split("/").pop() }, output.name)],
      ["Frame", (output) => [`${output.step} `, number(output.frame)]],
      ["Size", (output) => [bytes(output.size_bytes), output.width > 0 && h("div", { class: "soft small" }, `${output.width}×${output.height}`)], "number"],
      ["Took", (output) => seconds(output.elapsed_ms / 1000), "number"],
      ["On", (output) => [output.device || "not known", output.gpu?.vram_peak_bytes && h("div", { class: "soft small" }, `${bytes(output.gpu.vram_peak_bytes)} of its memory`)]],
      ["SHA-256", (output) => h("span", { class: "mono", title: output.sha256 }, output.sha256.slice(0, 12))],
      ["Stored", (output) => when(output.at)],
    ], page.items), h("div", { class: "row" },
      before.length > 0 && h("button", { type: "button", onclick: to(before.at(-1), before.slice(0, -1)) }, "Before"),
      page.next && h("button", { type: "button", onclick: to(page.next, [...before, cursor]) }, "Next"),
      h("span", { class: "soft small" }, `All at once: framewake fetch ${job}`))) : empty(over() ? "This job made no output." : "No output yet."));
  });
  return { element, load };
}
