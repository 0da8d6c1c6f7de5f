// One job: how far it is, every frame of it, its pictures, who tried what, the logs, the cost.

import { h, fill, foothold, hide, api, action, asked, bar, bytes, calmly, card, copy, empty, figures, may, money, note, number, part, prose, query, seconds, state, sure, table, when, words } from "./lib.js";
import { looking } from "./hold.js";
import { Strip, frameOf } from "./strip.js";
import { Viewer } from "./viewer.js";
import { logOf } from "./log.js";
import { attemptsOf } from "./attempts.js";
import { outputsOf } from "./outputs.js";
import { Pace } from "./pace.js";
import { yaml } from "./yaml.js";

const KINDS = ["job_state", "step_state", "attempt_started", "tasks_done", "task_failed", "attempt_ended", "progress"];
const OVER = ["succeeded", "failed", "canceled"];
/** Failed frames that are listed, at first and at most: a page of the farm, which is as many as can be tried again by name. */
const FAILURES = 20;
const FAILURES_MAX = 1000;
/** How often a long list of them is drawn anew: each may have pages of words. */
const FAILURES_MS = 10_000;
/** How often parts that many events change are drawn anew. */
const REDRAW_MS = 1000;

export async function show({ main, upkeep, title, names }) {
  const [id] = names;
  const base = `/jobs/${part(id)}`;
  const get = (path) => api(`${base}${path}`, { signal: upkeep.signal });
  let job = await get("");
  title(job.name);

  const head = h("div");
  /** Of a failed job, why, where it is seen first. */
  const why = h("div");
  const progress = h("div", { class: "card" });
  const reasons = h("div");
  const steps = h("div");
  const attempts = h("div");
  const failures = h("div");
  const costs = h("div");
  const outputs = outputsOf(id, upkeep, () => OVER.includes(job.state));
  const allOutputs = h("details", { ontoggle: () => allOutputs.open && outputs.load() }, h("summary", {}, "Outputs, to download"), outputs.element);
  const about = h("div", { class: "soft small", role: "status" });
  const file = h("pre", { tabindex: "0", role: "group", "aria-label": "Job file" });
  const lookAtFile = upkeep.part(file, async () => { file.textContent = yaml(await get("/spec")); });
  let strip = null;
  let viewer = null;
  let shownStep = null;
  upkeep.onEnd(() => strip?.end());
  const stripPlace = h("div");
  const viewerPlace = h("div");
  const stepChoice = h("div", { class: "row steps", role: "group", "aria-label": "Steps" });

  main.append(head, why, progress,
    card("Frames", stepChoice, stripPlace, about),
    card("Pictures", viewerPlace), card("Steps", steps, reasons),
    h("section", { class: "card", id: "failures", hidden: true }, h("h2", {}, "Frames that failed"), failures),
    card("Attempts and logs", attempts),
    h("section", { class: "card" }, allOutputs),
    h("div", { class: "grid" }, card("Cost", costs),
      h("section", { class: "card" }, h("details", { ontoggle: (event) => event.target.open && !file.textContent && lookAtFile() },
        h("summary", {}, "Job file, as it was accepted"), file,
      // What is shown, without a further wait: browsers let a page copy only at once.
      h("p", {}, action("Copy as YAML", async () => copy(file.textContent || yaml(await get("/spec")))))))));

  const change = (what, said) => async () => {
    await api(`${base}/${what}`, { method: "POST" });
    note(said);
    await refresh();
  };

  function drawHead() {
    const over = OVER.includes(job.state);
    const mine = may("artist");
    fill(head, 
      h("p", { class: "small" }, h("a", { href: "/jobs" }, "Jobs"), " / ", h("span", { class: "mono" }, job.id)),
      h("div", { class: "row between" },
        h("h1", {}, job.name),
        h("div", { class: "row" },
          mine && !over && (job.state === "paused"
            ? action("Resume", change("resume", "The job goes on."))
            : action("Pause", change("pause", "Paused: what runs is finished, nothing new begins."))),
          mine && job.tasks.failed > 0 && action("Retry failed", change("retry", "The failed frames are tried again.")),
          mine && !over && action("Priority …", async () => {
            const priority = await asked("Priority within the project, 0 to 100", { type: "number", min: 0, max: 100, value: job.priority });
            if (priority === null) return;
            await api(base, { method: "PATCH", body: { priority: Number(priority) } });
            note("The priority is set.");
            await refresh();
          }),
          mine && !over && action("Cancel", async () => {
            if (await sure(`Cancel ${job.name}? What runs is stopped.`, "Cancel it")) await change("cancel", "Canceled.")();
          }, { class: "danger" }))),
      h("p", { class: "lead" }, state(job.state), ` · project ${job.project} · priority ${job.priority} · submitted `, when(job.submitted_at), job.submitted_by && [" by ", h("a", { href: `/jobs${query({ by: job.submitted_by })}` }, job.submitted_by)],
        job.finished_at && [" · ended ", when(job.finished_at)], Object.entries(job.labels).map(([name, value]) => ` · ${name}=${value}`)));
  }

  function drawProgress() {
    const { tasks } = job;
    // While it is paused nothing is left to wait for; it has another pace afterwards.
    const still = OVER.includes(job.state) || job.state === "paused";
    if (still) pace.forget();
    const begun = (Date.now() - new Date(job.submitted_at)) / 1000;
    const took = job.finished_at ? (new Date(job.finished_at) - new Date(job.submitted_at)) / 1000 : begun;
    fill(progress, bar(tasks), h("p", {}), figures([
      ["Done", `${number(tasks.done)} of ${number(tasks.total)}`], ["Open", number(tasks.open)], ["Waiting", number(tasks.waiting)], ["Failed", number(tasks.failed)],
      ...(tasks.canceled > 0 ? [["Canceled", number(tasks.canceled)]] : []),
      ["Time", seconds(took)], ...(still ? [] : [["Left", eta()]]),
    ]));
  }

  /**
   * A range, from the pace of the last minutes; before there is one, from measured seconds a frame and how many are tried at once,
   * of which at most a page is known.
   */
  function eta() {
    const now = performance.now();
    const { done, failed, total } = job.tasks;
    pace.see(now, done);
    const rest = pace.left(now, total - done - failed);
    if (rest) return rest.map(seconds).join(" – ");
    const step = job.steps.find((one) => one.state === "running" && one.task_s);
    if (!step?.running_attempts) return "not known yet";
    const measured = ((step.tasks.total - step.tasks.done - step.tasks.failed) * step.task_s) / step.running_attempts;
    return `${seconds(measured * 0.7)} – ${seconds(measured * 1.5)}`;
  }
  const pace = new Pace();

  function drawSteps() {
    fill(steps, table("Steps", [
      ["Step", (step) => [step.name, h("div", { class: "soft small" }, step.function)]],
      ["State", (step) => state(step.state)],
      ["After", (step) => step.after.join(", ")],
      ["Progress", (step) => [bar(step.tasks), h("div", { class: "soft small" }, `${number(step.tasks.done)} of ${number(step.tasks.total)}`)]],
      ["A frame", (step) => seconds(step.task_s ?? undefined), "number"],
      ["Load", (step) => seconds(step.load_s ?? undefined), "number"],
    ], job.steps));
    fill(stepChoice, ...(job.steps.length > 1 ? job.steps.map((step) => h("button", {
      type: "button", "aria-pressed": String(step.name === shownStep), class: step.name === shownStep ? "main" : "", onclick: () => showStep(step.name),
    }, step.name)) : []));
  }

  async function showStep(name) {
    shownStep = name;
    const at = job.steps.findIndex((step) => step.name === name);
    const step = job.steps[at];
    strip?.end();
    viewer?.stop();
    chosen = null;
    fill(about);
    strip = new Strip(id, step, (task) => {
      chosen = { at, step, task };
      lookAtFrame(true);
    });
    viewer = new Viewer(id, step, at, upkeep);
    fill(stripPlace, strip.element);
    fill(viewerPlace, viewer.element);
    drawSteps();
    await Promise.all([lookAtMap(true), lookAtPictures(true)]);
  }
  const lookAtMap = upkeep.part(stripPlace, async () => {
    await strip.load(upkeep.signal);
    // A refusal took it away.
    if (!strip.element.isConnected) fill(stripPlace, strip.element);
  });
  const lookAtPictures = upkeep.part(viewerPlace, async () => {
    await viewer.refresh();
    if (!viewer.element.isConnected) fill(viewerPlace, viewer.element);
  });

  /** The frame of the strip that somebody chose, and what is said of it. */
  let chosen = null;
  const lookAtFrame = upkeep.part(about, async () => {
    if (!chosen) return;
    const { at, step, task, said } = chosen;
    const page = await get(`/tasks?step=${part(step.name)}&cursor=${at}.${task}&limit=1`);
    const found = page.items[0];
    if (!found || chosen?.task !== task || chosen.step !== step) return;
    // Read aloud when it changes, and only then.
    const is = `${found.state} ${found.failure?.attempt}`;
    if (is === said) return;
    chosen.said = is;
    fill(about, `Frame ${number(frameOf(step.frames, task))}: `, state(found.state), found.failure ? ` – ${words(found.failure.verdict)}: ${found.failure.message} ` : " ",
      found.failure ? h("button", { type: "button", onclick: () => openLog(found.failure.attempt, false) }, "Log of the last attempt") : "",
      found.state === "failed" && may("artist") && action("Retry this frame", () => retryThese(found.step, [found.frame])));
    if (found.state === "done" && said === undefined) await viewer.open(task);
  });

  let log = null;
  /** To where the log was opened from. */
  let back = null;
  const logPlace = h("div");
  attempts.append(logPlace);
  function openLog(attempt, running) {
    log?.end();
    back = foothold(document.body);
    log = logOf(id, attempt, running, upkeep);
    fill(logPlace, h("div", { class: "row between" }, h("h3", {}, `Log of attempt ${attempt}`),
      h("button", { type: "button", onclick: () => { log.end(); fill(logPlace); back(); } }, "Close")), log.element);
    logPlace.scrollIntoView({ block: "nearest" });
    log.text.focus({ preventScroll: true });
  }
  const tried = attemptsOf(id, upkeep, openLog);
  attempts.append(tried.element);

  /** Frames of a step, by their numbers; of them only those are tried again that have failed. */
  async function retryThese(step, frames) {
    await api(`${base}/retry`, { method: "POST", body: { step, frames: frames.join(",") } });
    picked.clear();
    note(frames.length === 1 ? `Frame ${number(frames[0])} is tried again.` : `${number(frames.length)} frames are tried again.`);
    await refresh();
  }
  /** Failed frames that somebody picked, by step. */
  const picked = new Map();
  let listed = FAILURES;

  const lookAtFailures = upkeep.part(failures, async () => {
    hide(failures.parentElement, job.tasks.failed === 0);
    if (failures.parentElement.hidden) {
      fill(why);
      return;
    }
    const page = await get(`/tasks?state=failed&limit=${listed}`);
    drawWhy(page.items.find((task) => task.failure));
    const key = (task) => `${task.step} ${task.frame}`;
    for (const name of picked.keys()) if (!page.items.some((task) => key(task) === name)) picked.delete(name);
    const again = h("div", { class: "row" });
    const offer = () => fill(again, picked.size > 0 && action(`Retry these ${picked.size}`, async () => {
      const steps = Map.groupBy(picked.values(), (task) => task.step);
      for (const [step, tasks] of steps) await retryThese(step, tasks.map((task) => task.frame));
    }));
    offer();
    fill(failures, again, table("Frames that failed", [
      ["", (task) => may("artist") && h("input", { type: "checkbox", "aria-label": `Choose frame ${task.frame} of ${task.step}`, checked: picked.has(key(task)), onchange: (event) => {
        if (event.target.checked) picked.set(key(task), task);
        else picked.delete(key(task));
        offer();
      } })],
      ["Frame", (task) => `${task.step} ${number(task.frame)}`], ["Why", (task) => task.failure ? [state("failed"), ` ${words(task.failure.verdict)}`] : ""],
      ["What was said", (task) => [task.failure?.message, task.failure?.evidence && h("pre", {}, task.failure.evidence)]],
      ["", (task) => task.failure && h("button", { type: "button", "aria-label": `Log of frame ${task.frame}`, onclick: () => openLog(task.failure.attempt, false) }, "Log")],
    ], page.items), page.next && h("div", { class: "row" }, h("span", { class: "soft small" }, `The first ${number(listed)} of ${number(job.tasks.failed)}.`),
      listed < FAILURES_MAX && h("button", { type: "button", onclick: () => {
        listed = Math.min(5 * listed, FAILURES_MAX);
        lookAtFailures();
      } }, "Show more")));
  });

  const lookAtManyFailures = calmly(FAILURES_MS, () => lookAtFailures());

  function drawWhy(task) {
    const more = job.tasks.failed - 1;
    fill(why, job.state === "failed" && task && h("section", { class: "card why", "aria-label": "Why it failed" },
      h("p", {}, `Frame ${number(task.frame)} of ${task.step} failed`, more > 0 && `, and ${number(more)} more`, ": ", h("span", { class: "fault" }, task.failure.message)),
      task.failure.evidence && h("pre", {}, task.failure.evidence),
      h("div", { class: "row" }, h("button", { type: "button", onclick: () => openLog(task.failure.attempt, false) }, "Log of this frame"),
        h("button", { type: "button", onclick: () => stand(failures.parentElement) }, "All frames that failed"))));
  }
  function stand(section) {
    section.tabIndex = -1;
    section.focus({ preventScroll: true });
    section.scrollIntoView();
  }

  const lookAtCost = upkeep.part(costs, async () => {
    const cost = await get("/cost?frames=5");
    if (cost.time_us === 0) {
      fill(costs, empty("Nothing was paid for this job yet."));
      return;
    }
    const most = cost.causes.reduce((top, cause) => Math.max(top, cause.time_us), 1);
    fill(costs, figures([["Paid", money(cost.cost)], ["Worker time", seconds(cost.time_us / 1e6)], ["Useful", `${Math.round(cost.efficiency_permille / 10)} %`],
      ["A frame", cost.frames_done && cost.cost.length === 1 ? `${seconds(cost.time_us / 1e6 / cost.frames_done)}` : "–"], ["Stored", bytes(cost.stored.size_bytes)]]),
    h("div", { class: "bars" }, cost.causes.map((cause) => {
      const line = h("i");
      line.style.width = `${(100 * cause.time_us) / most}%`;
      return h("div", { class: "line" }, h("span", {}, words(cause.cause)), line, h("span", { class: "small soft" }, `${seconds(cause.time_us / 1e6)} ${cause.cost.length ? money(cause.cost) : ""}`));
    })),
    cost.pools.length > 1 && h("p", { class: "small soft" }, "By pool: ", cost.pools.map((pool) => `${pool.pool || "not known"} ${seconds(pool.time_us / 1e6)} ${pool.cost.length ? money(pool.cost) : "price unknown"}`).join(" · ")),
    cost.unknown_us > 0 && h("p", { class: "soft small" }, "Some workers have no price: what they cost is unknown, not 0. ", h("a", { href: "/settings" }, "Set prices")));
  });

  const lookAtReasons = upkeep.part(reasons, async () => {
    const explained = OVER.includes(job.state) ? { steps: [] } : await get("/explain");
    const said = explained.steps.filter((step) => step.reasons.length);
    fill(reasons, ...said.map((step) => h("div", {}, h("p", { class: "small" }, `${step.step} waits, because:`), h("ul", { class: "small soft" }, step.reasons.map((reason) => h("li", {}, prose(reason)))))));
  });

  const refresh = upkeep.part([head, progress, steps], async () => {
    job = await get("");
    drawHead();
    drawProgress();
    drawSteps();
    if (OVER.includes(job.state)) {
      source?.close();
      source = null;
    } else follow();
    // The first pictures may have come at any moment since the page was opened.
    const step = job.steps.find((one) => one.name === shownStep);
    if (viewer && step && (step.tasks.done !== viewer.step.tasks.done || step.state !== viewer.step.state)) {
      viewer.step = step;
      lookAtPictures();
    }
    await Promise.all([tried.load(), listed > FAILURES ? lookAtManyFailures() : lookAtFailures(), lookAtCost(), lookAtReasons(), lookAtFrame(), allOutputs.open && outputs.load()]);
    drawProgress();
  });

  const redrawMap = calmly(REDRAW_MS, () => lookAtMap());
  const redrawAll = calmly(REDRAW_MS, () => refresh());
  const now = h("p", { class: "soft small", "aria-live": "off" });
  progress.after(now);
  /** Follows the job until it is over, and again when it is tried again. */
  let source = null;
  function follow() {
    if (source) return;
    source = upkeep.follow(progress, `${base}/events?after=${Number.MAX_SAFE_INTEGER}`, KINDS, (event) => {
      if (event.event === "progress") {
        now.textContent = `${event.step} ${event.frame}: ${Math.round(event.permille / 10)} % ${event.note}`;
        return;
      }
      if (event.event === "tasks_done" && event.step === shownStep) redrawMap();
      redrawAll();
      if (event.event === "job_state" && OVER.includes(event.state)) {
        source?.close(); // It would connect again and again to a stream that is over.
        source = null;
        fill(now, `The job ${words(event.state)} `, when(event.at), ".");
        redrawMap();
      }
      // What happened between the last look and now was told to nobody.
    }, () => { redrawMap(); redrawAll(); });
  }
  drawHead();
  drawProgress();
  await showStep(job.steps[0].name);
  await refresh();
  // A link to a log: it goes on while its attempt does.
  const linked = /^#log-(\d+\.\d+)$/.exec(location.hash);
  if (linked) openLog(linked[1], true);
  else if (location.hash === "#failures") failures.parentElement.scrollIntoView();
  // Of a job that is over nothing is told any more; somebody may have tried it again.
  const lookAgain = upkeep.part([head], async () => {
    if ((await get("")).state !== job.state) await refresh();
  });
  const told = setInterval(() => {
    if (!looking()) return;
    if (OVER.includes(job.state)) {
      lookAgain();
      return;
    }
    drawProgress();
    lookAtReasons();
    lookAtCost();
  }, 10_000);
  upkeep.onEnd(() => clearInterval(told));
}
