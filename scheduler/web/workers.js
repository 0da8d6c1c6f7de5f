// Workers as they are now, and the machines and GPUs that they run on.

import { h, fill, api, action, card, command, empty, may, note, number, part, state, table, when } from "./lib.js";

const PAGE = 100;

export async function show({ main, upkeep, title }) {
  title("Workers");
  const rows = h("div");
  const places = h("div");
  let cursor = "";
  main.append(h("h1", {}, "Workers"), h("p", { class: "lead" }, "They come when there is work, and leave by themselves."),
    card("", rows), card("Machines and GPUs", places));
  const load = async () => {
    const page = await api(`/workers?limit=${PAGE}${cursor && `&cursor=${part(cursor)}`}`, { signal: upkeep.signal });
    fill(rows, page.items.length ? h("div", {}, table("Workers", [
      ["Worker", (worker) => h("span", { class: "mono" }, worker.id)],
      ["Function", (worker) => worker.function],
      ["State", (worker) => [state(worker.state), h("div", { class: "soft small" }, "since ", when(worker.since))]],
      ["Does", (worker) => worker.job && [h("a", { href: `/jobs/${part(worker.job)}` }, "job"), ` ${Math.round(worker.permille / 10)} %`, h("div", { class: "soft small" }, worker.note)]],
      ["Machine", (worker) => [worker.host, worker.gpus.map((gpu) => h("div", { class: "soft small mono" }, gpu))]],
      ["Heard", (worker) => when(worker.seen_at)],
    ], page.items), h("div", { class: "row" },
      cursor && h("button", { type: "button", onclick: () => { cursor = ""; load(); } }, "First"),
      page.next && h("button", { type: "button", onclick: () => { cursor = page.next; load(); } }, "More")))
      : empty("No workers: there is nothing to do. A submitted job wakes some.", command("framewake submit samples/jobs/povray.yaml --wait")));
  };
  upkeep.every(1000, load);
  upkeep.every(10_000, async () => {
    const page = await api("/places?limit=200", { signal: upkeep.signal });
    fill(places, page.items.length ? table("Machines and GPUs", [
      ["Place", (place) => h("span", { class: "mono" }, place.name)], ["State", (place) => [state(place.state), place.reason && h("div", { class: "soft small" }, place.reason)]],
      ["Workers", (place) => number(place.workers), "number"], ["Until", (place) => place.until && when(place.until)],
      ["", (place) => place.state === "set_aside" && may("operator", { farm: true }) && action("It is mended", async () => {
        await api(`/places/${part(place.name)}/restore`, { method: "POST" });
        note(`${place.name} gets work again.`);
      })],
    ], page.items) : empty("No machine is known yet."));
  });
}
