// The frame around the pages: which one an address means, how to get from one to the next, light or dark.

import { h, fill, api, Upkeep, Problem, known, may, noteProblem, problemBox, whoAsks } from "./lib.js";
import * as overview from "./overview.js";
import * as jobs from "./jobs.js";
import * as job from "./job.js";
import * as submit from "./submit.js";
import * as workers from "./workers.js";
import * as functions from "./functions.js";
import * as schedules from "./schedules.js";
import * as cost from "./cost.js";
import * as events from "./events.js";
import * as settings from "./settings.js";
import * as rest from "./api.js";
import { holdStill } from "./hold.js";
import { login } from "./login.js";

/** Title, address, page, and where to find it, who may use it; those without a title are reached from another. */
const PAGES = [
  ["Overview", /^\/$/, overview, "/"],
  ["Jobs", /^\/jobs$/, jobs, "/jobs"],
  ["", /^\/jobs\/([^/]+)$/, job, "/jobs"],
  ["Submit", /^\/submit$/, submit, "/submit", "artist"],
  ["Workers", /^\/workers$/, workers, "/workers"],
  ["Functions", /^\/functions$/, functions, "/functions"],
  ["Schedules", /^\/schedules$/, schedules, "/schedules"],
  ["Cost", /^\/cost$/, cost, "/cost"],
  ["Events", /^\/events$/, events, "/events"],
  ["Settings", /^\/settings$/, settings, "/settings"],
  ["REST", /^\/api$/, rest, "/api"],
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let upkeep = null;

/** Says who one is, and shows ways to what they may do. */
function greet() {
  const { tokens, who } = whoAsks();
  // Nothing is to be seen before somebody logs in.
  const shown = PAGES.filter(([title, , , , role]) => title && !(tokens && !who) && (!role || may(role)));
  fill(nav, shown.map(([title, , , address]) => h("a", { href: address }, title)));
  fill(document.getElementById("who"), tokens && who && [
    h("span", { class: "soft small", title: `token ${who.token}` }, `${who.name} · ${who.role}${who.project ? ` of ${who.project}` : ""}`),
    h("button", { type: "button", class: "quiet", onclick: () => logOut().catch(noteProblem) }, "Log out"),
  ]);
}

async function logOut() {
  const { go_on_at: further } = await api("/session", { method: "DELETE" });
  ask("You are logged out.");
  // At the provider too, which sends the browser back.
  if (further) location.assign(further);
}

let asking = false;
/** Asks who it is, in the place of the page. */
function ask(why) {
  if (asking) return;
  asking = true;
  upkeep?.end();
  known({ ...whoAsks(), tokens: true, who: null });
  greet();
  document.title = "Log in – Framewake";
  fill(main, login(why, (as) => {
    asking = false;
    known(as);
    greet();
    open(false);
  }));
}
addEventListener("unknown", () => ask("Your session is over: nobody used it for long, or it was taken back or has expired."));

async function begin() {
  try {
    known(await api("/session"));
  } catch (problem) {
    cantShow(problem, begin);
    return;
  }
  greet();
  const { tokens, who } = whoAsks();
  if (tokens && !who) ask("This farm asks who you are.");
  else open(true);
}

/** Says why, and tries again if it may pass. */
function cantShow(problem, again) {
  fill(main, h("h1", {}, "This page can't be shown"), h("div", { class: "refused" }, problemBox(problem)));
  if (!(problem instanceof Problem)) throw problem;
  upkeep ??= new Upkeep();
  upkeep.lacks(problem);
  const wait = problem.again();
  if (!Number.isFinite(wait)) return;
  main.append(h("p", { class: "soft" }, "It is tried again by itself."));
  const timer = setTimeout(() => {
    upkeep.end();
    again();
  }, wait);
  upkeep.onEnd(() => clearTimeout(timer));
}

function open(first) {
  // The address says where it goes on once somebody logged in.
  if (asking) return;
  upkeep?.end();
  hold(false);
  upkeep = new Upkeep();
  const path = location.pathname.replace(/\/+$/, "") || "/";
  const found = PAGES.find(([, address]) => address.test(path));
  for (const link of nav.children) {
    if (found && link.getAttribute("href") === found[3]) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  fill(main);
  const title = (text) => { document.title = `${text} – Framewake`; };
  if (found) {
    const page = found[2].show({ main, upkeep, title, names: found[1].exec(path).slice(1).map(decodeURIComponent), go });
    const { signal } = upkeep;
    Promise.resolve(page).catch((problem) => {
      if (problem.name === "AbortError" || signal.aborted) return;
      cantShow(problem, () => open(true));
    });
  } else {
    title("Not found");
    main.append(h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "/" }, "Overview")));
  }
  if (!first) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

/** To another page, without loading this one anew. */
function go(address) {
  history.pushState(null, "", address);
  open(false);
}

document.querySelector("a.skip").addEventListener("click", (event) => {
  // Followed, it would be taken for a way to another page, and what stands in a form would be gone.
  event.preventDefault();
  main.focus();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || link.hasAttribute("download") || link.target || link.pathname.startsWith("/v1/")) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
addEventListener("popstate", () => open(false));

const holding = document.getElementById("hold");
/** Whether what is on the page changes by itself. */
function hold(is) {
  holdStill(is);
  holding.setAttribute("aria-pressed", String(is));
}
holding.addEventListener("click", () => hold(holding.getAttribute("aria-pressed") !== "true"));

const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;
document.getElementById("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  dispatchEvent(new Event("theme"));
});

begin();
