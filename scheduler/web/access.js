// Who may do what, and who changed what.

import { h, fill, api, action, card, command, empty, may, note, part, table, when, words } from "./lib.js";

const PAGE = 100;

export async function show({ main, upkeep, title }) {
  title("Access");
  const tokens = h("div");
  const changes = h("div");
  main.append(h("h1", {}, "Access"), h("p", { class: "lead" }, "Who may do what, and who changed what."),
    may("admin") && card("Tokens", tokens), card("Changes", changes));

  async function loadTokens() {
    const page = await api(`/tokens?limit=${PAGE}`, { signal: upkeep.signal });
    fill(tokens, page.items.length ? table("Tokens", [
      ["Name", (token) => [token.name, h("div", { class: "soft small mono" }, token.id)]],
      ["Role", (token) => token.role], ["Project", (token) => token.project ?? "all"],
      ["Made", (token) => [when(token.made_at), h("div", { class: "soft small" }, `by ${token.made_by}`)]],
      ["Used", (token) => token.used_at ? when(token.used_at) : "never"], ["Expires", (token) => token.expires_at ? when(token.expires_at) : "never"],
      ["", (token) => action("Revoke", async () => {
        if (!confirm(`Revoke the token of ${token.name}? It opens nothing any more.`)) return;
        await api(`/tokens/${part(token.id)}`, { method: "DELETE" });
        note(`The token of ${token.name} opens nothing any more.`);
        await loadTokens();
      }, { class: "danger" })],
    ], page.items) : empty("Nobody has a token.", command("framewake tokens add jane --role artist --project film")),
    page.next && h("p", { class: "soft small" }, `The first ${PAGE} are shown; framewake tokens has all.`));
  }

  async function loadChanges() {
    const page = await api(`/audit?limit=${PAGE}`, { signal: upkeep.signal });
    fill(changes, page.items.length ? table("Changes, newest first", [
      ["When", (change) => when(change.at)], ["Who", (change) => [change.who, h("div", { class: "soft small" }, `from ${change.from}`)]],
      ["What", (change) => [words(change.action), h("div", { class: "soft small mono" }, change.subject)]],
      ["Before", (change) => change.before && h("pre", { class: "small" }, change.before)], ["After", (change) => change.after && h("pre", { class: "small" }, change.after)],
    ], page.items) : empty("Nothing was changed yet."),
    page.next && h("p", { class: "soft small" }, `The newest ${PAGE} are shown; framewake audit has more.`));
  }

  if (may("admin")) upkeep.every(10_000, loadTokens);
  upkeep.every(5000, loadChanges);
}
