// The frame around the pages: which one an address means, how to get from one to the next, light or dark.

import { h, fill, Upkeep, Problem, problemBox, connected } from "./lib.js";
import * as overview from "./overview.js";
import * as jobs from "./jobs.js";
import * as job from "./job.js";
import * as submit from "./submit.js";
import * as workers from "./workers.js";
import * as functions from "./functions.js";
import * as schedules from "./schedules.js";
import * as cost from "./cost.js";

/** Title, address, page; those without a title are reached from another. */
const PAGES = [
  ["Overview", /^\/$/, overview, "/"],
  ["Jobs", /^\/jobs$/, jobs, "/jobs"],
  ["", /^\/jobs\/([^/]+)$/, job, "/jobs"],
  ["Submit", /^\/submit$/, submit, "/submit"],
  ["Workers", /^\/workers$/, workers, "/workers"],
  ["Functions", /^\/functions$/, functions, "/functions"],
  ["Schedules", /^\/schedules$/, schedules, "/schedules"],
  ["Cost", /^\/cost$/, cost, "/cost"],
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let upkeep = null;

for (const [title, , , address] of PAGES.filter(([title]) => title)) {
  nav.append(h("a", { href: address }, title));
}

function open(first) {
  upkeep?.end();
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
    Promise.resolve(page).catch((problem) => {
      if (problem.name === "AbortError") return;
      main.append(h("h1", {}, "This page can't be shown"), problemBox(problem));
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 0) connected(false);
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

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  if (!link || !plain || link.hasAttribute("download") || link.target || link.pathname.startsWith("/v1/")) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
addEventListener("popstate", () => open(false));

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

open(true);
