// Who are you: a token is sent once, and a cookie that no script can read stands for it from then on.

import { h, fill, api, part, problemBox, query, whoAsks } from "./lib.js";

/** Why a login at the provider came to nothing; what is more the scheduler's log has. */
const REFUSED = {
  away: "The provider of identities does not answer. Try again later, or use a token.",
  settings: "The provider of identities is not set up as this farm expects: whoever looks after the farm finds why in its log.",
  stale: "That login was begun too long ago, or in another browser. Begin again.",
  refused: "The provider did not let you in.",
  token: "What the provider said of you could not be trusted: whoever looks after the farm finds why in its log.",
  group: "You are in no group that may come in: ask whoever looks after the farm.",
};

/** Where people log in with the account that they have anyway. */
function provider() {
  const { login_with: name } = whoAsks();
  if (!name) return null;
  const code = new URLSearchParams(location.search).get("login");
  const to = location.pathname + query({ ...Object.fromEntries(new URLSearchParams(location.search)), login: "" }) + location.hash;
  return [
    Object.hasOwn(REFUSED, code ?? "") && h("p", { class: "fault", role: "alert" }, REFUSED[code]),
    h("p", {}, h("a", { class: "button", href: `/v1/session/oidc?to=${part(to)}` }, `Log in with ${name}`)),
    h("p", { class: "soft" }, "Or with a token:"),
  ];
}

export function login(why, done) {
  const token = h("input", { type: "password", name: "token", required: true, autocomplete: "current-password", spellcheck: "false" });
  const wrong = h("div");
  const button = h("button", { type: "submit", class: "main" }, "Log in");
  const form = h("form", { class: "card login", onsubmit: async (event) => {
    event.preventDefault();
    // Not disabled: who stands on it with the keyboard would fall off.
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    try {
      const session = await api("/session", { method: "POST", body: { token: token.value.trim() } });
      token.value = "";
      done(session);
    } catch (problem) {
      fill(wrong, problemBox(problem));
      token.focus();
      token.select();
    } finally {
      button.ariaDisabled = null;
    }
  } },
    h("h1", {}, "Log in"), h("p", { class: "lead" }, why), provider(),
    h("label", { class: "field" }, h("span", {}, "Token"), h("span", { class: "soft small" }, "An admin of the farm makes one: framewake tokens add NAME --role artist"), token),
    wrong, button);
  setTimeout(() => token.focus());
  return form;
}
