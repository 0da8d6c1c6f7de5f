// What was paid, and what for.

import { h, fill, api, card, empty, figures, may, money, query, seconds, words } from "./lib.js";

const KEYS = ["project", "function", "pool", "day", "cause", "gpu"];
/** Rows that are drawn; those that cost most. */
const ROWS = 200;
const REFRESH_MS = 10_000;
// What a row without a name is about.
const NOBODY = { gpu: "none: workers without a GPU", pool: "not known: workers that people started, and what was counted before pools were" };

export async function show({ main, upkeep, title }) {
  title("Cost");
  const asked = new URLSearchParams(location.search);
  const today = new Date().toISOString().slice(0, 10);
  const sums = h("div", { class: "card" });
  const lines = h("div");
  const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); search(); }, onchange: () => search() },
    h("label", {}, "From ", h("input", { type: "date", name: "from", value: asked.get("from") ?? `${today.slice(0, 8)}01` })),
    h("label", {}, "to ", h("input", { type: "date", name: "to", value: asked.get("to") ?? today })),
    h("label", {}, "by ", h("select", { name: "by" }, KEYS.map((key) => h("option", { value: key, selected: (asked.get("by") ?? "project") === key }, key)))),
    h("label", {}, "project ", h("input", { name: "project", placeholder: "all", value: asked.get("project") ?? "" })));
  main.append(h("h1", {}, "Cost"), h("p", { class: "lead" }, "Every paid moment of every worker, by what it went to."), h("div", { class: "card" }, form), sums, card("", lines),
    h("p", { class: "soft small" }, "What workers are paid by is told under ", h("a", { href: "/settings" }, "Settings"), may("operator", { farm: true }) ? ", where prices and budgets are set too." : "."));
  /** What was asked for by somebody, not what is half typed. */
  let values = {};
  function search() {
    values = Object.fromEntries(new FormData(form));
    history.replaceState(null, "", `/cost${query(values)}`);
    look(true);
  }
  let drawn = "";
  const look = upkeep.part([sums, lines], async () => {
    const costs = await api(`/costs${query(values)}`, { signal: upkeep.signal });
    // What somebody marks to copy it stays marked while nothing changes.
    const is = JSON.stringify([values, costs]);
    if (is === drawn && lines.firstChild) return;
    drawn = is;
    fill(sums, figures([["Paid", money(costs.cost)], ["Worker time", seconds(costs.time_us / 1e6)], ["Useful", `${Math.round(costs.efficiency_permille / 10)} %`]]),
      ...(costs.unknown_us > 0 ? [h("p", { class: "soft" }, `${seconds(costs.unknown_us / 1e6)} have no price: unknown, and in no amount.`)] : []));
    const most = costs.rows.reduce((top, row) => Math.max(top, row.time_us), 1);
    const key = values.by;
    const rows = key === "day" ? costs.rows : costs.rows.toSorted((a, b) => b.time_us - a.time_us);
    fill(lines, rows.length ? h("div", { class: "bars" }, (key === "day" ? rows.slice(-ROWS) : rows.slice(0, ROWS)).map((row) => {
      const line = h("i");
      line.style.width = `${(100 * row.time_us) / most}%`;
      return h("div", { class: "line" }, h("span", {}, key === "cause" ? words(row.cause) : row[key] || (NOBODY[key] ?? "nobody: workers that did nothing")), line, h("span", { class: "small soft" }, `${seconds(row.time_us / 1e6)} ${row.cost.length ? money(row.cost) : "price unknown"}`));
    })) : empty("No worker was paid on these days. Choose others, or submit a job."),
    rows.length > ROWS && h("p", { class: "soft small" }, key === "day" ? `The last ${ROWS} days of ${rows.length}.` : `The ${ROWS} of ${rows.length} that took most.`));
  }, REFRESH_MS);
  search();
}
