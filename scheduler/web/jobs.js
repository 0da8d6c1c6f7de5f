// All jobs, newest first: searched, filtered, many at once.

import { h, fill, api, action, bar, calmly, empty, command, may, note, number, part, query, state, table, when } from "./lib.js";

const PAGE = 50;
const STATES = ["queued", "running", "paused", "succeeded", "failed", "canceled"];
const KINDS = ["job_state", "tasks_done", "task_failed"];
/** What can be done to many jobs at once. */
const BULK = [["Pause", "pause"], ["Resume", "resume"], ["Retry failed", "retry"], ["Cancel", "cancel"]];

export async function show({ main, upkeep, title, go }) {
  title("Jobs");
  const asked = new URLSearchParams(location.search);
  const rows = h("div", { class: "card" });
  const chosen = new Set();
  const bulk = h("div", { class: "row" });
  let cursor = asked.get("cursor") ?? "";

  const filter = h("form", { class: "row", role: "search", onsubmit: (event) => {
    event.preventDefault();
    cursor = "";
    remember();
    load();
  } },
    h("label", {}, h("span", { class: "skip" }, "Name"), h("input", { name: "name", type: "search", placeholder: "Name begins with …", value: asked.get("name") ?? "" })),
    h("label", {}, h("span", { class: "skip" }, "Project"), h("input", { name: "project", placeholder: "Project", value: asked.get("project") ?? "" })),
    h("label", {}, h("span", { class: "skip" }, "State"), h("select", { name: "state" },
      h("option", { value: "" }, "Any state"), STATES.map((name) => h("option", { value: name, selected: asked.get("state") === name }, name)))),
    h("button", { type: "submit" }, "Search"));
  const wanted = () => query({ ...Object.fromEntries(new FormData(filter)), cursor });
  const remember = () => history.replaceState(null, "", `/jobs${wanted()}`);

  main.append(
    h("div", { class: "row between" }, h("h1", {}, "Jobs"), may("artist") && h("a", { class: "button", href: "/submit" }, "Submit a job")),
    h("div", { class: "card row between" }, filter, bulk), rows);

  function showBulk() {
    fill(bulk, chosen.size ? h("span", {}, `${chosen.size} chosen`) : "", ...(chosen.size ? BULK.map(([text, what]) => action(text, async () => {
      if (what === "cancel" && !confirm(`Cancel ${chosen.size} jobs? What runs is stopped.`)) return;
      const outcomes = await Promise.allSettled([...chosen].map((id) => api(`/jobs/${part(id)}/${what}`, { method: "POST" })));
      const refused = outcomes.filter((outcome) => outcome.status === "rejected");
      note(`${text}: ${outcomes.length - refused.length} of ${outcomes.length} jobs`, { bad: refused.length > 0, hint: refused[0]?.reason.message ?? "" });
      chosen.clear();
      showBulk();
      load();
    }, what === "cancel" ? { class: "danger" } : {})) : []));
  }

  async function load() {
    const page = await api(`/jobs${wanted()}${wanted() ? "&" : "?"}limit=${PAGE}`, { signal: upkeep.signal });
    if (!page.items.length) {
      fill(rows, empty("No such jobs.", command("framewake submit samples/jobs/povray.yaml --wait")));
      return;
    }
    fill(rows, table("Jobs", [
      ["", (job) => may("artist") && h("input", { type: "checkbox", "aria-label": `Choose ${job.name}`, checked: chosen.has(job.id), onchange: (event) => {
        if (event.target.checked) chosen.add(job.id);
        else chosen.delete(job.id);
        showBulk();
      } })],
      ["Job", (job) => [h("a", { href: `/jobs/${part(job.id)}` }, job.name), h("div", { class: "soft small mono" }, job.id)]],
      ["Project", (job) => job.project],
      ["State", (job) => state(job.state)],
      ["Progress", (job) => [bar(job.tasks), h("div", { class: "soft small" }, `${number(job.tasks.done)} of ${number(job.tasks.total)}`, job.tasks.failed ? `, ${number(job.tasks.failed)} failed` : "")]],
      ["Priority", (job) => number(job.priority), "number"],
      ["Submitted", (job) => when(job.submitted_at)],
    ], page.items), h("div", { class: "row" },
      cursor && h("button", { type: "button", onclick: () => { cursor = ""; remember(); load(); } }, "Newest"),
      page.next && h("button", { type: "button", onclick: () => { cursor = page.next; remember(); load(); } }, "Older")));
  }

  const again = calmly(1000, () => load().catch(() => {}));
  const last = Number.MAX_SAFE_INTEGER; // From now on: past every event there is.
  upkeep.follow(`/events?after=${last}`, KINDS, again);
  upkeep.every(30_000, load);
}
