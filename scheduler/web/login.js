// Who are you: a token is sent once, and a cookie that no script can read stands for it from then on.

import { h, fill, api, problemBox } from "./lib.js";

export function login(why, done) {
  const token = h("input", { type: "password", name: "token", required: true, autocomplete: "current-password", spellcheck: "false" });
  const wrong = h("div");
  const button = h("button", { type: "submit", class: "main" }, "Log in");
  const form = h("form", { class: "card", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const session = await api("/session", { method: "POST", body: { token: token.value.trim() } });
      token.value = "";
      done(session);
    } catch (problem) {
      fill(wrong, problemBox(problem));
      token.select();
    } finally {
      button.disabled = false;
    }
  } },
    h("h1", {}, "Log in"), h("p", { class: "lead" }, why),
    h("label", { class: "field" }, h("span", {}, "Token"), h("span", { class: "soft small" }, "An admin of the farm makes one: framewake tokens add NAME --role artist"), token),
    wrong, button);
  setTimeout(() => token.focus());
  return form;
}
