// All jobs: searched, filtered, sorted, page by page, many at once.

import { h, fill, api, action, asked, bar, calmly, command, empty, may, note, number, part, query, state, sure, table, when, whoAsks } from "./lib.js";

const PAGE = 50;
const STATES = ["queued", "running", "paused", "succeeded", "failed", "canceled"];
const KINDS = ["job_state", "tasks_done", "task_failed"];
/** Of those that refuse what is done to many, how many are named. */
const TOLD_MAX = 5;
/** What can be done to many jobs at once. */
const BULK = [["Pause", "pause"], ["Resume", "resume"], ["Retry failed", "retry"], ["Cancel", "cancel"]];

export async function show({ main, upkeep, title }) {
  title("Jobs");
  const given = new URLSearchParams(location.search);
  const rows = h("div", { class: "card" });
  /** Names by id. */
  const chosen = new Map();
  const bulk = h("div", { class: "row", role: "group", "aria-label": "With the chosen jobs" });
  let cursor = given.get("cursor") ?? "";
  /** Cursors of the pages that one came by, which the browser keeps with this one. */
  let before = history.state?.before ?? [];
  // Those of a page; the farm itself gives jobs by their age alone.
  const sort = { by: null, down: false, change: (by, down) => { Object.assign(sort, { by, down }); draw(); } };
  let page = { items: [] };

  const me = whoAsks().who?.name;
  // Oneself, and whom a link names.
  const by = [...new Set([me, given.get("by")])].filter(Boolean);
  const filter = h("form", { class: "row", role: "search", onsubmit: (event) => {
    event.preventDefault();
    read();
    goTo("", []);
  }, onchange: (event) => event.target.form.requestSubmit() },
    h("label", {}, h("span", { class: "skip" }, "Name"), h("input", { name: "name", type: "search", placeholder: "Name has …", value: given.get("name") ?? "" })),
    h("label", {}, h("span", { class: "skip" }, "Project"), h("input", { name: "project", placeholder: "Project", value: given.get("project") ?? "" })),
    h("label", {}, h("span", { class: "skip" }, "Label"), h("input", { name: "label", placeholder: "Label: shot=010", value: given.get("label") ?? "" })),
    h("label", {}, h("span", { class: "skip" }, "State"), h("select", { name: "state" },
      h("option", { value: "" }, "Any state"), STATES.map((name) => h("option", { value: name, selected: given.get("state") === name }, name)))),
    h("label", {}, h("span", { class: "skip" }, "Submitted by"), h("select", { name: "by" },
      h("option", { value: "" }, "By anybody"), by.map((name) => h("option", { value: name, selected: given.get("by") === name }, name === me ? "By me" : `By ${name}`)))),
    h("label", {}, h("span", { class: "skip" }, "Order"), h("select", { name: "order" },
      h("option", { value: "" }, "Newest first"), h("option", { value: "oldest", selected: given.get("order") === "oldest" }, "Oldest first"))),
    h("button", { type: "submit" }, "Search"));
  /** What was asked for by somebody, not what is half typed. */
  let searched = {};
  const wanted = () => query({ ...searched, cursor });
  const read = () => { searched = Object.fromEntries(new FormData(filter)); };
  function goTo(place, back) {
    cursor = place;
    before = back;
    history.replaceState({ before }, "", `/jobs${wanted()}`);
    look(true);
  }

  read();
  main.append(
    h("div", { class: "row between" }, h("h1", {}, "Jobs"), may("artist") && h("a", { class: "button", href: "/submit" }, "Submit a job")),
    h("div", { class: "card row between" }, filter, bulk), rows);

  /** Does it with each chosen job, and says with how many it could be done, and which refused and why. */
  async function each(text, work) {
    const names = [...chosen.values()];
    const outcomes = await Promise.allSettled([...chosen.keys()].map(work));
    const refused = outcomes.map(({ reason }, at) => reason && { name: names[at], reason }).filter(Boolean);
    const list = refused.slice(0, TOLD_MAX).map(({ name, reason }) => `${name}: ${reason.message}`);
    if (refused.length > TOLD_MAX) list.push(`and ${number(refused.length - TOLD_MAX)} more`);
    note(`${text}: ${number(outcomes.length - refused.length)} of ${number(outcomes.length)} jobs`, { bad: refused.length > 0, list, hint: refused[0]?.reason.hint ?? "" });
    chosen.clear();
    showBulk();
    await look();
  }

  function showBulk() {
    fill(bulk, chosen.size > 0 && [h("span", {}, `${chosen.size} chosen`),
      BULK.map(([text, what]) => action(text, async () => {
        if (what === "cancel" && !await sure(`Cancel ${chosen.size} jobs? What runs is stopped.`, "Cancel them")) return;
        await each(text, (id) => api(`/jobs/${part(id)}/${what}`, { method: "POST" }));
      }, what === "cancel" ? { class: "danger" } : {})),
      action("Priority …", async () => {
        const priority = await asked(`Priority of ${chosen.size} jobs within their projects, 0 to 100`, { type: "number", min: 0, max: 100, value: 50 });
        if (priority !== null) await each("Priority", (id) => api(`/jobs/${part(id)}`, { method: "PATCH", body: { priority: Number(priority) } }));
      })]);
  }

  const choose = (job, is) => {
    if (is) chosen.set(job.id, job.name);
    else chosen.delete(job.id);
    showBulk();
  };

  const turn = (text, place, back) => h("button", { type: "button", onclick: () => goTo(place, back) }, text);
  const toBefore = () => [turn("First page", "", []), before.length > 0 && turn("Previous page", before.at(-1), before.slice(0, -1))];

  function draw() {
    // Those of a later page may have changed their state meanwhile.
    if (!page.items.length && cursor) {
      fill(rows, empty("No more jobs of this kind.", h("div", { class: "row" }, toBefore())));
      return;
    }
    if (!page.items.length) {
      const any = Object.values(searched).some(Boolean);
      fill(rows, any ? empty("No such jobs. Search for less, or for another state.") : empty("No job yet. Submit the first one here, or from a terminal:", command("framewake submit samples/jobs/povray.yaml --wait")));
      return;
    }
    const all = page.items.every((job) => chosen.has(job.id));
    fill(rows, may("artist") && h("label", { class: "small" }, h("input", { type: "checkbox", checked: all, onchange: (event) => {
      page.items.forEach((job) => choose(job, event.target.checked));
      draw();
    } }), " choose all that are shown"), table("Jobs", [
      ["", (job) => may("artist") && h("input", { type: "checkbox", "aria-label": `Choose ${job.name}`, checked: chosen.has(job.id), onchange: (event) => choose(job, event.target.checked) })],
      ["Job", (job) => [h("a", { href: `/jobs/${part(job.id)}` }, job.name), h("div", { class: "soft small mono" }, job.id)], "", (job) => job.name.toLowerCase()],
      ["Project", (job) => job.project, "", (job) => job.project],
      ["State", (job) => state(job.state), "", (job) => STATES.indexOf(job.state)],
      ["Progress", (job) => [bar(job.tasks), h("div", { class: "soft small" }, `${number(job.tasks.done)} of ${number(job.tasks.total)}`, job.tasks.failed ? `, ${number(job.tasks.failed)} failed` : "")], "", (job) => job.tasks.done / Math.max(1, job.tasks.total)],
      ["Priority", (job) => number(job.priority), "number", (job) => job.priority],
      ["Submitted", (job) => [when(job.submitted_at), job.submitted_by && h("div", { class: "soft small" }, `by ${job.submitted_by}`)], "", (job) => job.submitted_at],
    ], page.items, sort), h("div", { class: "row" },
      cursor && toBefore(),
      page.next && turn("Next page", page.next, [...before, cursor]),
      sort.by && h("span", { class: "soft small" }, `The ${page.items.length} shown are sorted by ${sort.by.toLowerCase()}.`)));
  }

  const look = upkeep.part(rows, async () => {
    page = await api(`/jobs${wanted()}${wanted() ? "&" : "?"}limit=${PAGE}`, { signal: upkeep.signal });
    draw();
  }, 30_000);
  look();
  const again = calmly(1000, () => look());
  const last = Number.MAX_SAFE_INTEGER; // From now on: past every event there is.
  upkeep.follow(rows, `/events?after=${last}`, KINDS, again, again);
}
