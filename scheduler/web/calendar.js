// The next four weeks of all schedules, a field a day.

import { h, api, part } from "./lib.js";

const WEEKS = 4;
/** Schedules that are drawn, due times of each that are asked for, and those that are named in a day. */
const SCHEDULES = 20;
const TIMES = 200;
const NAMED = 4;
const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const day = (date) => `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;

/** Whose days and times these are: the browser's, whatever zones the schedules have. */
export const zone = () => `${Intl.DateTimeFormat().resolvedOptions().timeZone}, the zone of this browser`;

/** Days are the browser's; each run says its time there. */
export async function calendar(schedules, signal) {
  const first = new Date();
  first.setHours(0, 0, 0, 0);
  const monday = new Date(first);
  monday.setDate(first.getDate() - ((first.getDay() + 6) % 7));
  const last = new Date(monday);
  last.setDate(monday.getDate() + 7 * WEEKS);
  const due = schedules.filter((item) => item.next).sort((a, b) => (a.next < b.next ? -1 : 1));
  const drawn = due.slice(0, SCHEDULES);
  const dues = await Promise.all(drawn.map((item) => api(`/schedules/${part(item.name)}/next?count=${TIMES}`, { signal })));
  const runs = new Map();
  let cut = null;
  dues.forEach(({ times }, at) => {
    for (const { due } of times) {
      const date = new Date(due);
      const list = runs.get(day(date)) ?? [];
      list.push({ name: drawn[at].name, date });
      runs.set(day(date), list);
    }
    // Of one that is due every minute not all of the four weeks is known.
    if (times.length === TIMES) {
      const until = new Date(times.at(-1).due);
      if (until < last && (!cut || until < cut.until)) cut = { name: drawn[at].name, until };
    }
  });
  const fields = Array.from({ length: 7 * WEEKS }, (_, at) => {
    const date = new Date(monday);
    date.setDate(monday.getDate() + at);
    const here = (runs.get(day(date)) ?? []).sort((a, b) => a.date - b.date);
    const clock = (time) => time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    return h("li", { class: day(date) === day(first) ? "today" : null, "aria-current": day(date) === day(first) ? "date" : null },
      h("span", { class: "soft" }, `${DAYS[at % 7].slice(0, 3)} ${date.getDate()}.${date.getMonth() + 1}.`),
      here.length > 0 && h("ul", {}, here.slice(0, NAMED).map((run) => h("li", {}, `${clock(run.date)} ${run.name}`)), here.length > NAMED && h("li", { class: "soft" }, `and ${here.length - NAMED} more`)));
  });
  return h("div", {}, h("div", { class: "scroll", role: "group", "aria-label": "Calendar" }, h("ol", { class: "calendar", "aria-label": "The next four weeks" }, fields)),
    cut && h("p", { class: "soft small" }, `Of ${cut.name} the next ${TIMES} runs are drawn, up to ${cut.until.toLocaleString()}.`),
    due.length > SCHEDULES && h("p", { class: "soft small" }, `The ${SCHEDULES} of ${due.length} schedules that are due first are drawn.`));
}
