// What was paid, what for, and by which prices.

import { h, fill, api, card, command, empty, figures, money, query, seconds, table, words } from "./lib.js";

const KEYS = ["project", "function", "pool", "day", "cause", "gpu"];
// What a row without a name is about.
const NOBODY = { pool: "not known: workers that people started, and what was counted before pools were" };

export async function show({ main, upkeep, title }) {
  title("Cost");
  const asked = new URLSearchParams(location.search);
  const today = new Date().toISOString().slice(0, 10);
  const sums = h("div", { class: "card" });
  const lines = h("div");
  const prices = h("div");
  const form = h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); load(); }, onchange: () => load() },
    h("label", {}, "From ", h("input", { type: "date", name: "from", value: asked.get("from") ?? `${today.slice(0, 8)}01` })),
    h("label", {}, "to ", h("input", { type: "date", name: "to", value: asked.get("to") ?? today })),
    h("label", {}, "by ", h("select", { name: "by" }, KEYS.map((key) => h("option", { value: key, selected: (asked.get("by") ?? "project") === key }, key)))),
    h("label", {}, "project ", h("input", { name: "project", placeholder: "all", value: asked.get("project") ?? "" })));
  main.append(h("h1", {}, "Cost"), h("p", { class: "lead" }, "Every paid moment of every worker, by what it went to."), h("div", { class: "card" }, form), sums, card("", lines), card("Prices that workers are paid by", prices));

  async function load() {
    const values = Object.fromEntries(new FormData(form));
    history.replaceState(null, "", `/cost${query(values)}`);
    const costs = await api(`/costs${query(values)}`, { signal: upkeep.signal });
    fill(sums, figures([["Paid", money(costs.cost)], ["Worker time", seconds(costs.time_us / 1e6)], ["Useful", `${Math.round(costs.efficiency_permille / 10)} %`]]),
      ...(costs.unknown_us > 0 ? [h("p", { class: "soft" }, `${seconds(costs.unknown_us / 1e6)} have no price: unknown, and in no amount.`)] : []));
    const most = costs.rows.reduce((top, row) => Math.max(top, row.time_us), 1);
    const key = values.by;
    const rows = key === "day" ? costs.rows : costs.rows.toSorted((a, b) => b.time_us - a.time_us);
    fill(lines, rows.length ? h("div", { class: "bars" }, rows.map((row) => {
      const line = h("i");
      line.style.width = `${(100 * row.time_us) / most}%`;
      return h("div", { class: "line" }, h("span", {}, words(row[key] || (NOBODY[key] ?? "nobody: workers that did nothing"))), line, h("span", { class: "small soft" }, `${seconds(row.time_us / 1e6)} ${row.cost.length ? money(row.cost) : "price unknown"}`));
    })) : empty("No worker was paid on these days."));
  }
  await load();
  const paid = await api("/paid-by?limit=200", { signal: upkeep.signal });
  fill(prices, paid.items.length ? table("Prices", [
    ["For", (item) => item.paid_for], ["An hour", (item) => money([item.price.an_hour]), "number"], ["Since", (item) => item.since], ["Market", (item) => item.price.market],
    ["From", (item) => [item.price.provider, " ", item.price.instance_type, item.price.source && h("div", { class: "soft small" }, item.price.source)]],
  ], paid.items) : empty("No price is set, so what workers cost is unknown.", command("framewake prices set gpu:L4 0.71USD")));
}
