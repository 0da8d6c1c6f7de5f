// Workers as they are now, and the machines and GPUs that they run on.

import { h, fill, api, action, card, command, cut, empty, may, moment, note, number, part, prose, query, seconds, state, table, when, words } from "./lib.js";

const PAGE = 100;
const PLACES = 200;
const STATES = ["starting", "idle", "busy", "draining"];

export async function show({ main, upkeep, title }) {
  title("Workers");
  const rows = h("div");
  const places = h("div");
  let cursor = "";
  const given = new URLSearchParams(location.search);
  const filter = h("form", { class: "row", role: "search", onsubmit: (event) => { event.preventDefault(); search(); }, onchange: () => search() },
    h("label", {}, h("span", { class: "skip" }, "State"), h("select", { name: "state" }, h("option", { value: "" }, "Any state"),
      STATES.map((name) => h("option", { value: name, selected: given.get("state") === name }, name)))),
    h("label", {}, h("span", { class: "skip" }, "Function"), h("input", { name: "function", type: "search", placeholder: "Function", value: given.get("function") ?? "" })),
    h("label", {}, h("span", { class: "skip" }, "Pool"), h("input", { name: "pool", type: "search", placeholder: "Pool", value: given.get("pool") ?? "" })),
    h("button", { type: "submit" }, "Search"));
  /** What was asked for by somebody, not what is half typed. */
  let wanted = {};
  const read = () => { wanted = Object.fromEntries([...new FormData(filter)].filter(([, value]) => value)); };
  function search() {
    read();
    cursor = "";
    history.replaceState(null, "", `/workers${query(wanted)}`);
    look(true);
  }
  read();
  main.append(h("h1", {}, "Workers"), h("p", { class: "lead" }, "They come when there is work, and leave by themselves."),
    h("div", { class: "card" }, filter), card("", rows), card("Machines and GPUs", places));
  const look = upkeep.every(1000, rows, async () => {
    const page = await api(`/workers${query({ ...wanted, cursor, limit: PAGE })}`, { signal: upkeep.signal });
    const toFirst = () => h("button", { type: "button", onclick: () => { cursor = ""; look(true); } }, "First");
    fill(rows, page.items.length ? h("div", {}, table("Workers", [
      ["Worker", (worker) => h("span", { class: "mono" }, worker.id)],
      ["Function", (worker) => [worker.function, worker.pool && h("div", { class: "soft small" }, `in ${worker.pool}`)]],
      ["State", (worker) => [state(worker.state), h("div", { class: "soft small" }, "since ", when(worker.since))]],
      ["Start", way],
      ["Does", (worker) => worker.job && [h("a", { href: `/jobs/${part(worker.job)}` }, "job"), ` ${Math.round(worker.permille / 10)} %`, h("div", { class: "soft small" }, worker.note)]],
      ["Machine", (worker) => [worker.host, worker.gpus.map((gpu) => h("div", { class: "soft small mono" }, gpu))]],
      ["Heard", (worker) => when(worker.seen_at)],
    ], page.items), h("div", { class: "row" },
      cursor && toFirst(),
      page.next && h("button", { type: "button", onclick: () => { cursor = page.next; look(true); } }, "More")))
      : cursor ? empty("No more workers.", toFirst())
        : Object.keys(wanted).length ? empty("No such workers. Search for less, or for another state.")
          : empty("No workers: there is nothing to do. A submitted job wakes some.", command("framewake submit samples/jobs/povray.yaml --wait")));
  });
  const lookAtPlaces = upkeep.every(10_000, places, async () => {
    const page = await api(`/places?limit=${PLACES}`, { signal: upkeep.signal });
    // Where there are many, those that wait for somebody come first.
    const aside = page.next ? (await api(`/places?state=set_aside&limit=${PLACES}`, { signal: upkeep.signal })).items : [];
    const items = [...aside, ...page.items.filter((place) => !aside.some(({ name }) => name === place.name))];
    fill(places, items.length ? table("Machines and GPUs", [
      ["Place", (place) => h("span", { class: "mono" }, place.name)], ["State", (place) => [state(place.state), place.reason && h("div", { class: "soft small" }, place.reason)]],
      ["Workers", (place) => number(place.workers), "number"], ["Until", (place) => place.until && when(place.until)],
      ["", (place) => place.state === "set_aside" && may("operator", { farm: true }) && action("It is mended", async () => {
        await api(`/places/${part(place.name)}/restore`, { method: "POST" });
        note(`${place.name} gets work again.`);
        await lookAtPlaces();
      }, { "aria-label": `It is mended: ${place.name}` })],
    ], items) : empty("No machine is known yet."), cut(page, `The first ${PLACES} by name are shown${aside.length ? ", and before them those that are set aside" : ""}.`));
  });
}

/** What a worker's way to its first frame took; while it is on its way, a piece of a bar for each phase, and the same in words. */
export function way(worker) {
  if (worker.start_ms !== undefined) return seconds(worker.start_ms / 1000);
  const steps = worker.start ?? [];
  if (!steps.length) return worker.waits ? h("div", { class: "fault" }, prose(worker.waits)) : "";
  const phases = steps.slice(1).map((step) => ({ name: words(step.point), ms: step.took_ms }));
  const rest = Math.max(0, Date.now() - moment(steps.at(-1).at));
  const whole = Math.max(1, phases.reduce((sum, phase) => sum + phase.ms, rest));
  const piece = (ms, kind) => {
    const element = h("i", { class: kind });
    element.style.width = `${(100 * ms) / whole}%`;
    return element;
  };
  const told = `${phases.map((phase) => `${phase.name} ${seconds(phase.ms / 1000)}`).join(", ")}, and ${seconds(rest / 1000)} since`;
  return [
    h("div", { class: "bar way", role: "img", "aria-label": told }, phases.map((phase) => piece(phase.ms, "phase")), piece(rest, "rest")),
    h("div", { class: "soft small" }, told),
    worker.waits && h("div", { class: "fault" }, prose(worker.waits)),
  ];
}
