// Who is logged in to the pages, and ending a session of somebody.

import { h, fill, api, action, empty, note, part, sure, table, when, whoAsks } from "./lib.js";

const PAGE = 100;

export function sessions(upkeep) {
  const list = h("div");
  const load = upkeep.every(10_000, list, async () => {
    const page = await api(`/sessions?limit=${PAGE}`, { signal: upkeep.signal });
    fill(list, page.items.length ? table("Sessions", [
      ["Who", (one) => [one.name, h("div", { class: "soft small mono" }, one.id)]],
      ["Role", (one) => `${one.role}${one.project ? ` of ${one.project}` : ""}`],
      ["By", (one) => (one.token ? ["a token", h("div", { class: "soft small mono" }, one.token)] : ["the provider of identities", one.called && h("div", { class: "soft small" }, `as ${one.called}`)])],
      ["Since", (one) => when(one.begun_at)], ["Used", (one) => (one.own ? "by this page" : when(one.used_at))], ["Ends", (one) => when(one.expires_at)],
      ["", (one) => action("End", async () => {
        const whose = one.own ? "your own session, on this page" : `the session of ${one.name}`;
        if (!await sure(`End ${whose}? Its pages show nothing any more, until somebody logs in again.`, "End it")) return;
        await api(`/sessions/${part(one.id)}`, { method: "DELETE" });
        note(`The session of ${one.name} is over.`);
        await load();
      }, { class: "danger", "aria-label": `End the session ${one.id} of ${one.name}` })],
    ], page.items) : empty(whoAsks().tokens ? "Nobody is logged in to the pages." : "Nobody has to log in here: this farm asks nobody who they are."),
    page.next && h("p", { class: "soft small" }, `The newest ${PAGE} are shown; framewake sessions has all.`));
  });
  return [list];
}
