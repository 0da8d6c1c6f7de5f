// A job by form, made from what its function asks for: checked and estimated while it is filled in; the same as a file and as a
// command.

import { h, fill, api, action, bytes, card, copy, cut, empty, money, noAnswer, note, number, part, Problem, problemOf, prose, seconds } from "./lib.js";
import { yaml } from "./yaml.js";

/** Pieces of an upload; the scheduler takes 16 MiB. */
const PIECE = 8 * 1024 * 1024;
/** The browser hashes a file as a whole, in memory. */
const FILE_MAX = 1024 * 1024 * 1024;
/** How often a piece is tried again after the connection broke, each time after twice as long. */
const TRIES = 6;
const PAUSE_MS = 500;
/** How long the scheduler is waited for that says when to come back, without any piece getting through. */
const WAIT_MS_MAX = 5 * 60_000;
/** Functions that can be chosen. */
const FUNCTIONS = 500;
/** The form is checked when nobody has typed for so long. */
const CHECK_AFTER_MS = 400;
/** Parts of a form that are about the same field. */
const longest = (pointers, field) => pointers.filter((pointer) => field === pointer || field.startsWith(`${pointer}/`)).sort((a, b) => b.length - a.length)[0];

export async function show({ main, upkeep, title, go }) {
  title("Submit a job");
  main.append(h("h1", {}, "Submit a job"));
  const page = await api(`/functions?limit=${FUNCTIONS}`, { signal: upkeep.signal });
  const newest = page.items.filter((item) => item.newest);
  if (!newest.length) {
    main.append(empty("No function is registered yet, so there is nothing that could render.", h("pre", {}, "framewake functions add samples/functions/blender.yaml")));
    return;
  }
  const wished = new URLSearchParams(location.search).get("function");
  /** By what each is about: its input, where its fault is said, and whether somebody was there. */
  const fields = new Map();
  const place = h("div");
  const files = [];
  const list = h("ul", { class: "small" });
  /** What parameters that name a file may say. */
  const places = h("datalist", { id: "places" });
  let scenes = [];
  const shown = h("pre", { tabindex: "0", role: "group", "aria-label": "The job as a file" });
  const typed = h("pre", { tabindex: "0", role: "group", "aria-label": "The job as a command" });
  const other = h("div", { role: "alert" });
  const forecast = h("div", { "aria-live": "polite" });
  const choice = h("select", { name: "function", onchange: () => draw() }, newest.map((item) => h("option", { value: item.name, selected: item.name === wished }, item.name)));

  function field(pointer, text, input, hint = "") {
    const id = `fault-${fields.size}`;
    const fault = h("span", { class: "fault", id });
    const one = { input, fault, text, touched: false, filled: false };
    fields.set(pointer, one);
    input.setAttribute("aria-describedby", id);
    input.addEventListener("input", () => {
      one.touched = true;
      one.filled = true;
      changed();
    });
    input.addEventListener("blur", () => { if (input.value) one.touched = true; });
    return h("label", { class: "field" }, h("span", {}, text), hint && h("span", { class: "soft small" }, hint), input, fault);
  }

  function say(pointer, reason) {
    const one = fields.get(pointer);
    const { input, fault } = one;
    // Read aloud when it changes, and only then.
    if ((one.reason ?? "") !== reason) fill(fault, prose(reason));
    one.reason = reason;
    if (reason) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  /** The job; with digests, or for a file, which names paths. */
  let read = () => ({});
  /** The form of a function; what was filled in by somebody stays where this one asks for it, too. */
  function draw() {
    const kept = new Map([...fields].filter(([, one]) => one.filled && one.input.value && one.input.type !== "file").map(([pointer, { input }]) => [pointer, input.value]));
    fields.clear();
    const { spec } = newest.find((item) => item.name === choice.value);
    const name = h("input", { required: true, value: `${spec.name} ${new Date().toISOString().slice(0, 10)}` });
    const project = h("input", { placeholder: "default" });
    const priority = h("input", { type: "number", min: 0, max: 100, placeholder: "50" });
    const frames = h("input", { placeholder: "1-240", value: "1-12" });
    // As the scheduler has it, which refuses a step whose pictures nobody would keep.
    const keeps = spec.driver.kind !== "command" || spec.driver.writes || /\{outputs?\}/.test(JSON.stringify(spec.driver));
    const output = h("input", { placeholder: "frames/{frame:04}.png", value: keeps ? "frames/{frame:04}.png" : "" });
    const given = Object.entries(spec.parameters ?? {}).map(([key, one]) => [key, one, control(one)]);
    const upload = h("input", { type: "file", multiple: true, onchange: () => { add(upload.files); upload.value = ""; } });
    const folder = h("input", { type: "file", webkitdirectory: true, onchange: () => { add(folder.files); folder.value = ""; } });
    scenes = given.filter(([, one]) => one.type === "input").map(([, , input]) => input);
    fill(place,
      spec.description && h("p", { class: "soft" }, spec.description),
      field("/name", "Name", name), field("/project", "Project", project), field("/priority", "Priority", priority, "0 (last) to 100 (first) within the project"),
      field("/steps/0/frames", "Frames", frames, "1-240, 1-240x2 or 10,20,30-40; empty: one single task"),
      field("/steps/0/output", "Outputs", output, keeps ? "Name of each output" : "Name of each output; empty: the program leaves nothing behind"),
      field("/steps/0/inputs", "Files", upload, "Scenes and textures; they are hashed here, and only what the farm lacks is sent"),
      field("/steps/0/inputs/folder", "Folder", folder, "As a folder of textures: each file keeps its place in it"), list, places,
      given.map(([key, one, input]) => field(`/steps/0/parameters/${key}`, key, input, one.description)));
    for (const [pointer, one] of fields) {
      if (!kept.has(pointer)) continue;
      const was = one.input.value;
      one.input.value = kept.get(pointer);
      // Another list may not have it, nor a number take it.
      if (one.input.value) one.touched = one.filled = true;
      else one.input.value = was;
    }
    nameAlone();
    read = (asFile = false) => ({
      name: name.value,
      ...(project.value ? { project: project.value } : {}),
      ...(priority.value ? { priority: Number(priority.value) } : {}),
      steps: [{
        name: "render", function: choice.value,
        ...(frames.value ? { frames: frames.value } : {}), ...(output.value ? { output: output.value } : {}),
        ...(files.length ? { inputs: files.map((one) => (asFile ? pathOf(one) : { digest: one.digest, as: one.as.value })) } : {}),
        ...(() => {
          const set = given.map(([key, one, input]) => [key, valueOf(one, input)]).filter(([, value]) => value !== undefined);
          return set.length ? { parameters: Object.fromEntries(set) } : {};
        })(),
      }],
    });
    changed();
  }

  function control(one) {
    const preset = one.default === undefined || one.default === null;
    if (one.type === "boolean") return h("select", {}, h("option", { value: "" }, preset ? "choose" : `default (${one.default})`), h("option", { value: "true" }, "yes"), h("option", { value: "false" }, "no"));
    if (one.choices?.length) return h("select", {}, h("option", { value: "" }, preset ? "choose" : `default (${one.default})`), one.choices.map((name) => h("option", { value: name }, name)));
    const numeric = one.type === "integer" || one.type === "number";
    if (one.type === "input") return h("input", { list: "places", placeholder: "which of the files" });
    return h("input", {
      type: numeric ? "number" : "text", step: one.type === "integer" ? 1 : "any", min: one.minimum, max: one.maximum,
      placeholder: preset ? (one.type === "words" ? "words, with commas between" : "must be set") : String(one.default),
    });
  }

  function valueOf(one, input) {
    if (input.value === "") return undefined;
    if (one.type === "boolean") return input.value === "true";
    if (one.type === "integer" || one.type === "number") return Number(input.value);
    if (one.type === "words") return input.value.split(",").map((word) => word.trim());
    return input.value;
  }

  /** Shows the job as a file, and has it checked in a moment. */
  let waiting = null;
  function changed() {
    fill(places, files.map((one) => h("option", { value: one.as.value })));
    const text = yaml(read(true));
    shown.textContent = text;
    typed.textContent = ["framewake submit - --wait", " <<'JOB'\n", text, "JOB\n"].join("");
    clearTimeout(waiting);
    waiting = setTimeout(() => check().catch((problem) => {
      if (problem.name !== "AbortError") fill(forecast, h("p", { class: "soft small" }, prose(problem.message)));
    }), CHECK_AFTER_MS);
  }
  upkeep.onEnd(() => clearTimeout(waiting));

  /** The scheduler says what is wrong, and what the job will take; nothing is stored by that. */
  let asked = 0;
  async function check() {
    if (files.some((one) => !one.digest)) return; // It is checked once they are hashed.
    asked += 1;
    const mine = asked;
    let faults = [];
    let estimate = null;
    try {
      estimate = await api("/estimates", { method: "POST", body: read(), signal: upkeep.signal });
    } catch (problem) {
      if (!problem.faults?.length) throw problem;
      faults = problem.faults;
    }
    if (mine !== asked) return; // Somebody typed meanwhile.
    const left = tell(faults, false);
    if (estimate) fill(forecast, told(estimate));
    else fill(forecast, h("p", { class: "soft small" }, left.length ? `What it takes is told once this is filled in: ${left.join(", ")}.` : "What it takes is told once the form is right."));
  }

  /** Says each fault at its field; of fields where nobody was yet only if `all`. Gives the names of those. */
  function tell(faults, all) {
    const said = new Map();
    const untouched = new Set();
    fill(other);
    for (const fault of faults) {
      const at = longest([...fields.keys()], fault.field);
      if (!at) other.append(h("p", { class: "fault" }, prose(`${fault.field}: ${fault.reason}`)));
      else if (all || fields.get(at).touched) said.set(at, fault.reason);
      else untouched.add(fields.get(at).text);
    }
    for (const pointer of fields.keys()) say(pointer, said.get(pointer) ?? "");
    return [...untouched];
  }

  function add(chosen) {
    for (const file of chosen) {
      // Of a folder that was chosen this has its name too. Hidden files in it are of editors and file managers.
      const path = file.webkitRelativePath || file.name;
      if (path !== file.name && path.split("/").some((name) => name.startsWith("."))) continue;
      const as = h("input", { value: path, "aria-label": `Where the step finds ${path}`, oninput: changed });
      const one = { file, path, as, digest: null, said: h("span", { class: "soft", role: "status" }), bar: h("progress", { max: 1, value: 0, hidden: true, "aria-label": `How much of ${file.name} is there` }) };
      files.push(one);
      one.line = h("li", {}, `${file.name} (${bytes(file.size)}) as `, as, " ", one.bar, " ", one.said, " ", h("button", { type: "button", class: "quiet small", "aria-label": `Leave out ${file.name}`, onclick: () => {
        files.splice(files.indexOf(one), 1);
        const near = (one.line.nextElementSibling ?? one.line.previousElementSibling)?.querySelector("button") ?? fields.get("/steps/0/inputs").input;
        one.line.remove();
        near.focus();
        changed();
      } }, "leave out"));
      list.append(one.line);
      hashed(one).then(changed).catch((problem) => fill(one.said, prose(problem.message)));
    }
    fields.get("/steps/0/inputs").touched = true;
    nameAlone();
    changed();
  }

  /** The only file that was chosen by itself, and the only parameter that can mean it. */
  function nameAlone() {
    const alone = files.filter((one) => one.path === one.file.name);
    if (alone.length === 1 && scenes.length === 1 && !scenes[0].value) scenes[0].value = alone[0].as.value;
  }

  /** As a job file names it, which lies beside the files. */
  const pathOf = ({ path, file, as }) => ({ path, ...(as.value === file.name ? {} : { as: as.value }) });

  /** The one that is hashed now; those after it wait, for each lies in memory as a whole. */
  let hashing = Promise.resolve();
  function hashed(one) {
    if (!one.hashing) {
      one.said.textContent = "waits to be hashed";
      // It may have been left out meanwhile.
      one.hashing = hashing.then(() => (files.includes(one) && !upkeep.signal.aborted ? hash(one) : undefined));
      hashing = one.hashing.catch(() => { one.hashing = null; });
    }
    return one.hashing;
  }

  async function hash(one) {
    if (!crypto.subtle) throw new Problem({ title: "Files can be sent from here only over HTTPS or on this machine", hint: "Use `framewake submit`, which has no such limit." }, 400);
    if (one.file.size > FILE_MAX) throw new Problem({ title: `${one.file.name} is larger than the ${bytes(FILE_MAX)} that a browser can hash`, hint: "Use `framewake submit`, which has no such limit." }, 400);
    one.said.textContent = "is being hashed";
    const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", await one.file.arrayBuffer()));
    one.digest = [...sum].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    one.said.textContent = "";
  }

  /** Sends what the farm lacks of a file, from where it was left: before a broken connection, or on another day. */
  async function send(one) {
    await hashed(one);
    if (!one.digest) return;
    let tries = 0;
    let waited = 0;
    one.bar.hidden = false;
    for (;;) {
      try {
        let { received_bytes: at, complete } = await api(`/inputs/${one.digest}`, { signal: upkeep.signal });
        while (!complete) {
          one.bar.value = at / Math.max(1, one.file.size);
          one.said.textContent = `${bytes(at)} of ${bytes(one.file.size)}`;
          const answer = await fetch(`/v1/inputs/${one.digest}?offset=${at}&size=${one.file.size}`, {
            method: "PATCH", headers: { "content-type": "application/octet-stream" }, body: one.file.slice(at, at + PIECE), signal: upkeep.signal,
          });
          const text = await answer.text();
          if (!answer.ok) throw problemOf(answer, text);
          ({ received_bytes: at, complete } = JSON.parse(text));
          tries = 0;
          waited = 0;
        }
        one.bar.value = 1;
        one.said.textContent = "is there";
        return;
      } catch (problem) {
        if (problem.name === "AbortError") throw problem;
        const known = problem instanceof Problem ? problem : noAnswer();
        // It says when to come back.
        if (known.passes && known.after !== null && waited < WAIT_MS_MAX) {
          const wait = Math.max(PAUSE_MS, known.again());
          waited += wait;
          await pause(one, wait, [prose(known.message), `: waits ${seconds(wait / 1000)}, and goes on`]);
          continue;
        }
        // No answer, or one of a proxy: what arrived is kept. Or another window sends the same, and it goes on where that one is.
        const elsewhere = known.status === 409;
        if (!(known.passes || elsewhere) || tries >= TRIES) throw problem instanceof Problem ? problem : new Problem({ title: `${one.file.name} could not be sent: the connection breaks`, hint: "Press Submit again: it goes on from where it was." }, 0);
        await pause(one, PAUSE_MS * 2 ** tries, elsewhere ? "somebody else sends it too: goes on from there" : "the connection broke: trying again");
        tries += 1;
      }
    }
  }

  async function pause(one, ms, why) {
    fill(one.said, why);
    await new Promise((later) => { setTimeout(later, ms); });
    upkeep.signal.throwIfAborted();
  }

  // One key for one form: pressed twice, or again after a lost answer, it is one job.
  const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16)).join("");
  let key = newKey();
  const submit = action("Submit", async () => {
    clearTimeout(waiting);
    asked += 1;
    fill(other);
    try {
      for (const one of files) await send(one);
      const made = await api("/jobs", { method: "POST", body: read(), headers: { "idempotency-key": key } });
      note(`${number(made.tasks)} tasks are on their way.`);
      go(`/jobs/${part(made.id)}`);
    } catch (problem) {
      // Refused, it was not stored; without an answer nobody knows, and the same key makes asking again harmless.
      if (problem.status >= 400 && problem.status < 500) key = newKey();
      if (!problem.faults?.length) throw problem;
      tell(problem.faults, true);
      fields.forEach((one) => { one.touched = true; });
      note("Something in the form can't be used.", { bad: true });
      [...fields.values()].find((one) => one.input.ariaInvalid === "true")?.input.focus();
    }
  }, { class: "main" });
  const copies = (text, from) => action(text, () => copy(from.textContent));

  main.append(h("div", { class: "grid" },
    card("", h("form", { novalidate: true, onsubmit: (event) => { event.preventDefault(); submit.click(); } }, h("label", { class: "field" }, h("span", {}, "Function"), choice), cut(page, `The first ${FUNCTIONS} versions by name can be chosen; framewake submit takes all.`), place, other,
      h("section", { "aria-label": "Estimate" }, forecast), submit)),
    card("The same as a file", h("p", { class: "soft small" }, "Save it as job.yaml beside its files, and"),
      h("pre", {}, "framewake submit job.yaml --wait"), h("p", {}), shown, h("p", {}, copies("Copy as YAML", shown)),
      h("h2", {}, "The same as a command"), typed, h("p", {}, copies("Copy as command line", typed)))));
  draw();
}

const range = (span) => {
  const [low, high] = [seconds(span.low / 1000), seconds(span.high / 1000)];
  return low === high ? low : `${low} – ${high}`;
};
const amount = (span) => {
  const [low, high] = [money([span.low]), money([span.high])];
  return low === high ? low : `${low} – ${high}`;
};

/** What the job will take: nine of ten runs end within the range. */
function told(estimate) {
  const head = h("h2", {}, `${number(estimate.tasks)} ${estimate.tasks === 1 ? "frame" : "frames"}: what it takes`);
  if (estimate.unknown_steps.length === estimate.steps.length) {
    return [head, h("p", { class: "soft small" }, "Nothing like it was rendered here yet, so nothing is known. To measure a few frames first: framewake estimate job.yaml --probe 3")];
  }
  return [head, h("table", {}, h("thead", {}, h("tr", {}, ["Workers", "Time", "Cost"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, estimate.options.map((one) => h("tr", {},
      h("td", {}, number(one.workers), one.pool && h("span", { class: "soft small" }, ` in ${one.pool}`)), h("td", {}, range(one.time_ms)),
      h("td", {}, one.cost.length ? one.cost.map(amount).join(" + ") : "price unknown"))))),
  estimate.outputs && h("p", { class: "soft small" }, `Outputs: ${bytes(estimate.outputs.low_bytes)} – ${bytes(estimate.outputs.high_bytes)}.`),
  h("p", { class: "soft small" }, `From ${number(estimate.steps.reduce((sum, step) => sum + (step.basis?.tasks ?? 0), 0))} frames of this scene; nine of ten jobs end within their range.`)];
}
