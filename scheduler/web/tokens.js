// Tokens: who may do what. A secret is shown once, when it is made.

import { h, fill, api, action, command, copy, cut, empty, note, part, problemBox, sure, table, when } from "./lib.js";

const PAGE = 100;
const ROLES = [["viewer", "looks"], ["artist", "submits and changes jobs"], ["operator", "looks after functions, prices, schedules"], ["admin", "makes tokens"]];

/** A list of tokens and a form for another one. */
export function tokens(upkeep) {
  const list = h("div");
  const made = h("div", { role: "status" });
  const wrong = h("div");

  const load = upkeep.every(10_000, list, async () => {
    const page = await api(`/tokens?limit=${PAGE}`, { signal: upkeep.signal });
    fill(list, page.items.length ? table("Tokens", [
      ["Name", (token) => [token.name, h("div", { class: "soft small mono" }, token.id)]],
      ["Role", (token) => token.role], ["Project", (token) => token.project ?? "all"],
      ["Made", (token) => [when(token.made_at), h("div", { class: "soft small" }, `by ${token.made_by}`)]],
      ["Used", (token) => (token.used_at ? when(token.used_at) : "never")], ["Expires", (token) => (token.expires_at ? when(token.expires_at) : "never")],
      ["", (token) => action("Revoke", async () => {
        if (!await sure(`Revoke the token of ${token.name}? It opens nothing any more, and its sessions end.`, "Revoke it")) return;
        await api(`/tokens/${part(token.id)}`, { method: "DELETE" });
        note(`The token of ${token.name} opens nothing any more.`);
        await load();
      }, { class: "danger", "aria-label": `Revoke ${token.name}` })],
    ], page.items) : empty("Nobody has a token. Make the first below, or from a terminal:", command("framewake tokens add jane --role artist --project film")),
    cut(page, `The first ${PAGE} are shown; framewake tokens has all.`));
  });

  const name = h("input", { required: true, placeholder: "jane", autocomplete: "off" });
  const role = h("select", {}, ROLES.map(([value, does]) => h("option", { value }, `${value} – ${does}`)));
  const project = h("input", { placeholder: "all projects", autocomplete: "off" });
  const lasts = h("input", { placeholder: "for ever", autocomplete: "off" });
  const form = h("form", { class: "row bottom", onsubmit: async (event) => {
    event.preventDefault();
    fill(wrong);
    try {
      const body = { name: name.value.trim(), role: role.value };
      if (project.value.trim()) body.project = project.value.trim();
      if (lasts.value.trim()) body.lasts = lasts.value.trim();
      const answer = await api("/tokens", { method: "POST", body });
      const secret = h("input", { class: "mono", readonly: true, value: answer.secret, "aria-label": `Token of ${answer.token.name}`, size: 60 });
      fill(made, h("p", {}, `The token of ${answer.token.name}. It is shown this once: copy it now.`),
        h("div", { class: "row" }, secret, action("Copy", () => copy(answer.secret)), action("Done", () => fill(made))));
      secret.select();
      form.reset();
      await load();
    } catch (problem) {
      fill(wrong, problemBox(problem));
    }
  } },
    h("label", { class: "field" }, h("span", {}, "Name"), name), h("label", { class: "field" }, h("span", {}, "Role"), role),
    h("label", { class: "field" }, h("span", {}, "Project"), project), h("label", { class: "field" }, h("span", {}, "Lasts"), lasts),
    h("button", { type: "submit" }, "Make a token"));
  return [list, form, wrong, made];
}
