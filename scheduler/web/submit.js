// A job by form, made from what its function asks for; the same as a file and as a command.

import { h, fill, api, action, bytes, card, empty, note, number, part, Problem } from "./lib.js";

/** Pieces of an upload; the scheduler takes 16 MiB. */
const PIECE = 8 * 1024 * 1024;
/** The browser hashes a file as a whole, in memory. */
const FILE_MAX = 1024 * 1024 * 1024;

export async function show({ main, upkeep, title, go }) {
  title("Submit a job");
  main.append(h("h1", {}, "Submit a job"));
  const page = await api("/functions?limit=500", { signal: upkeep.signal });
  const newest = page.items.filter((item) => item.newest);
  if (!newest.length) {
    main.append(empty("No function is registered yet, so there is nothing that could render.", h("pre", {}, "framewake functions add samples/functions/blender.yaml")));
    return;
  }
  const asked = new URLSearchParams(location.search).get("function");
  const faults = new Map();
  const fields = h("div");
  const files = [];
  const shown = h("pre", {});
  const other = h("div", { role: "alert" });
  const choice = h("select", { name: "function", onchange: () => draw() }, newest.map((item) => h("option", { value: item.name, selected: item.name === asked }, item.name)));

  function field(pointer, text, input, hint = "") {
    const fault = h("span", { class: "fault", role: "alert" });
    faults.set(pointer, fault);
    input.addEventListener("input", () => { fault.textContent = ""; preview(); });
    return h("label", { class: "field" }, h("span", {}, text), hint && h("span", { class: "soft small" }, hint), input, fault);
  }

  let read = () => ({});
  function draw() {
    faults.clear();
    const { spec } = newest.find((item) => item.name === choice.value);
    const name = h("input", { required: true, value: `${spec.name} ${new Date().toISOString().slice(0, 10)}` });
    const project = h("input", { placeholder: "default", pattern: "[a-z0-9][a-z0-9-]*" });
    const frames = h("input", { placeholder: "1-240", value: "1-12" });
    const output = h("input", { placeholder: "frames/{frame:04}.png", value: spec.rules === "generic" ? "" : "frames/{frame:04}.png" });
    const given = Object.entries(spec.parameters ?? {}).map(([key, one]) => [key, one, control(one)]);
    const upload = h("input", { type: "file", multiple: true, onchange: () => add([...upload.files]) });
    const list = h("ul");
    files.length = 0;
    function add(chosen) {
      for (const file of chosen) files.push({ file, digest: null });
      fill(list, ...files.map((one) => h("li", {}, `${one.file.name} (${bytes(one.file.size)}) `, (one.said = h("span", { class: "soft", role: "status" })))));
      preview();
    }
    fill(fields, 
      spec.description && h("p", { class: "soft" }, spec.description),
      field("/name", "Name", name), field("/project", "Project", project),
      field("/steps/0/frames", "Frames", frames, "1-240, 1-240x2 or 10,20,30-40; empty: one single task"),
      field("/steps/0/output", "Outputs", output, "Name of each output; empty: the program leaves nothing behind"),
      field("/steps/0/inputs", "Files", h("div", {}, upload, list), "Scenes and textures; they are hashed here, and only what the farm lacks is sent"),
      given.map(([key, one, input]) => field(`/steps/0/parameters/${key}`, key, input, one.description)));
    read = () => ({
      name: name.value,
      ...(project.value ? { project: project.value } : {}),
      steps: [{
        name: "render", function: choice.value,
        ...(frames.value ? { frames: frames.value } : {}), ...(output.value ? { output: output.value } : {}),
        ...(files.length ? { inputs: files.map((one) => ({ digest: one.digest ?? "sha256 of the file", as: one.file.name })) } : {}),
        ...(() => {
          const set = given.map(([key, one, input]) => [key, valueOf(one, input)]).filter(([, value]) => value !== undefined);
          return set.length ? { parameters: Object.fromEntries(set) } : {};
        })(),
      }],
    });
    preview();
  }

  function control(one) {
    if (one.type === "boolean") return h("select", {}, h("option", { value: "" }, one.default === undefined ? "choose" : `default (${one.default})`), h("option", { value: "true" }, "yes"), h("option", { value: "false" }, "no"));
    if (one.choices?.length) return h("select", {}, h("option", { value: "" }, one.default === undefined ? "choose" : `default (${one.default})`), one.choices.map((name) => h("option", { value: name }, name)));
    const numeric = one.type === "integer" || one.type === "number";
    return h("input", {
      type: numeric ? "number" : "text", step: one.type === "integer" ? 1 : "any", min: one.minimum, max: one.maximum,
      placeholder: one.default === undefined || one.default === null ? (one.type === "words" ? "words, with commas between" : "must be set") : String(one.default),
    });
  }

  function valueOf(one, input) {
    if (input.value === "") return undefined;
    if (one.type === "boolean") return input.value === "true";
    if (one.type === "integer" || one.type === "number") return Number(input.value);
    if (one.type === "words") return input.value.split(",").map((word) => word.trim());
    return input.value;
  }

  function preview() {
    shown.textContent = JSON.stringify(read(), null, 2);
  }

  async function send(one) {
    if (!crypto.subtle) throw new Problem({ title: "Files can be sent from here only over HTTPS or on this machine", hint: "Use `framewake submit`, which has no such limit." }, 400);
    if (one.file.size > FILE_MAX) throw new Problem({ title: `${one.file.name} is larger than the ${bytes(FILE_MAX)} that a browser can hash`, hint: "Use `framewake submit`, which has no such limit." }, 400);
    one.said.textContent = "is being hashed";
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await one.file.arrayBuffer()));
    one.digest = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    let { received_bytes: at, complete } = await api(`/inputs/${one.digest}`, { signal: upkeep.signal });
    while (!complete) {
      one.said.textContent = `${Math.round((100 * at) / Math.max(1, one.file.size))} %`;
      const answer = await fetch(`/v1/inputs/${one.digest}?offset=${at}&size=${one.file.size}`, {
        method: "PATCH", headers: { "content-type": "application/octet-stream" }, body: one.file.slice(at, at + PIECE), signal: upkeep.signal,
      });
      const told = await answer.json();
      if (!answer.ok) throw new Problem(told, answer.status);
      ({ received_bytes: at, complete } = told);
    }
    one.said.textContent = "is there";
  }

  // One key for one form: pressed twice, or again after a lost answer, it is one job.
  const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16)).join("");
  let key = newKey();
  const submit = action("Submit", async () => {
    fill(other);
    faults.forEach((fault) => { fault.textContent = ""; });
    try {
      for (const one of files.filter((file) => !file.digest)) await send(one);
      const made = await api("/jobs", { method: "POST", body: read(), headers: { "idempotency-key": key } });
      note(`${number(made.tasks)} tasks are on their way.`);
      go(`/jobs/${part(made.id)}`);
    } catch (problem) {
      // Refused, it was not stored; without an answer nobody knows, and the same key makes asking again harmless.
      if (problem.status >= 400 && problem.status < 500) key = newKey();
      for (const fault of problem.faults ?? []) {
        const at = [...faults.keys()].filter((pointer) => fault.field.startsWith(pointer)).sort((a, b) => b.length - a.length)[0];
        if (at) faults.get(at).textContent = fault.reason;
        else other.append(h("p", { class: "fault" }, `${fault.field}: ${fault.reason}`));
      }
      if (!problem.faults?.length) throw problem;
      note("Something in the form can't be used.", { bad: true });
    }
  }, { class: "main" });

  main.append(h("div", { class: "grid" },
    card("", h("form", { onsubmit: (event) => { event.preventDefault(); submit.click(); } }, h("label", { class: "field" }, h("span", {}, "Function"), choice), fields, other, submit)),
    card("The same as a file", h("p", { class: "soft small" }, "JSON is YAML: save it as job.yaml, name files by ", h("code", {}, "path"), " instead of ", h("code", {}, "digest"), ", and"),
      h("pre", {}, "framewake submit job.yaml --wait"), h("p", {}), shown,
      h("p", {}, action("Copy", async () => { await navigator.clipboard.writeText(shown.textContent); note("Copied."); })))));
  draw();
}
