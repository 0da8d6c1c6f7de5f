// What an operator sets: who may do what, shares and budgets of projects, prices, who is told of what.

import { h, fill, api, action, asked, card, command, cut, empty, may, money, note, number, part, problemBox, state, sure, table, when, words } from "./lib.js";
import { sessions } from "./sessions.js";
import { tokens } from "./tokens.js";

const PAGE = 200;
/** Of notifications that were given up. */
const DEAD = 20;
const OCCASIONS = [["succeeded", "a job succeeded"], ["failed", "a job failed"], ["first_error", "a first frame failed"], ["late", "a run is late"], ["missed", "a due time was missed"], ["budget", "a budget is going"]];

export async function show({ main, upkeep, title }) {
  title("Settings");
  const operates = may("operator", { farm: true });
  fill(main, h("h1", {}, "Settings"), h("p", { class: "lead" }, "Who may do what, who gets how much, what it costs, and who is told."),
    may("admin") && card("Tokens", tokens(upkeep)),
    may("admin") && card("Logged in to the pages", sessions(upkeep)),
    card("Projects: shares and budgets", projects(upkeep, operates)),
    card("Prices", prices(upkeep, operates)),
    may("operator") && card("Notifications", targets(upkeep, operates)));
}

/** A form in a line, whose faults stand under it. */
function line(fields, text, work) {
  const wrong = h("div");
  const form = h("form", { class: "row bottom", onsubmit: async (event) => {
    event.preventDefault();
    fill(wrong);
    try {
      await work();
      form.reset();
    } catch (problem) {
      fill(wrong, problemBox(problem));
    }
  } }, fields, h("button", { type: "submit" }, text));
  return [form, wrong];
}

const field = (text, input) => h("label", { class: "field" }, h("span", {}, text), input);

function projects(upkeep, operates) {
  const rows = h("div");
  const load = upkeep.every(10_000, rows, async () => {
    const [page, budgets] = await Promise.all([api(`/projects?limit=${PAGE}`, { signal: upkeep.signal }), api(`/budgets?limit=${PAGE}`, { signal: upkeep.signal })]);
    const all = page.items.reduce((sum, one) => sum + one.weight, 0);
    const names = new Set(page.items.map((one) => one.name));
    // A budget may be set before the first job.
    const more = budgets.items.map((one) => one.project).filter((name) => !names.has(name));
    const items = [...page.items, ...[...new Set(more)].map((name) => ({ name, weight: 1 }))];
    const of = (project, period) => budgets.items.find((one) => one.project === project.name && one.period === period);
    fill(rows, items.length ? table("Projects", [
      ["Project", (one) => one.name],
      ["Weight", (one) => [number(one.weight), all > 0 && h("span", { class: "soft small" }, ` ${Math.round((100 * one.weight) / all)} % if all want work`)], "number"],
      ["A month", (one) => budget(of(one, "month"), load, operates)],
      ["In all", (one) => budget(of(one, "total"), load, operates)],
      ["", (one) => operates && action("Weight …", async () => {
        const given = await asked(`Weight of ${one.name}: its share of the workers beside other projects, 1 to 1000`, { value: one.weight, type: "number", min: 1, max: 1000 });
        if (given === null) return;
        await api(`/projects/${part(one.name)}`, { method: "PUT", body: { weight: Number(given) } });
        note(`${one.name} weighs ${given}.`);
        await load();
      }, { "aria-label": `Weight of ${one.name}` })],
    ], items) : empty("No project yet: the first job of one makes it. Its share can be set before:", command("framewake projects set film --weight 2")),
    cut(page, `The first ${PAGE} by name are shown; framewake projects has all.`), cut(budgets, `Of the budgets the first ${PAGE} are known here; framewake budgets has all.`));
  });
  if (!operates) return [rows];
  const project = h("input", { required: true, placeholder: "film", autocomplete: "off" });
  const period = h("select", {}, h("option", { value: "month" }, "each month"), h("option", { value: "total" }, "in all"));
  const limit = h("input", { required: true, placeholder: "500 USD", autocomplete: "off" });
  const atLimit = h("select", {}, h("option", { value: "hold" }, "hold its jobs"), h("option", { value: "finish" }, "finish what runs"), h("option", { value: "warn" }, "only warn"));
  return [rows, line([field("Project", project), field("May cost", limit), field("Period", period), field("At the limit", atLimit)], "Set a budget", async () => {
    const stored = await api(`/budgets/${part(project.value.trim())}/${period.value}`, { method: "PUT", body: { limit: limit.value.trim(), at_limit: atLimit.value } });
    note(`${stored.project} may cost ${money([stored.limit])} ${period.value === "month" ? "a month" : "in all"}.`, { hint: (stored.warnings ?? []).join(" ") });
    await load();
  })];
}

function budget(one, load, operates) {
  if (!one) return h("span", { class: "soft" }, "no limit");
  return [`${money([one.spent])} of ${money([one.limit])} `, one.held ? state("held") : one.standing !== "fine" && state(one.standing),
    operates && action("Remove", async () => {
      if (!await sure(`Let ${one.project} go on without this budget?`, "Remove it")) return;
      await api(`/budgets/${part(one.project)}/${one.period}`, { method: "DELETE" });
      await load();
    }, { class: "quiet small", "aria-label": `Remove the budget of ${one.project}` })];
}

function prices(upkeep, operates) {
  const rows = h("div");
  const load = upkeep.every(30_000, rows, async () => {
    const paid = await api(`/paid-by?limit=${PAGE}`, { signal: upkeep.signal });
    fill(rows, paid.items.length ? table("Prices that workers are paid by", [
      ["For", (one) => one.paid_for], ["An hour", (one) => money([one.price.an_hour]), "number"], ["Since", (one) => one.since], ["Market", (one) => one.price.market],
      ["From", (one) => [one.price.provider, " ", one.price.instance_type, one.price.source && h("div", { class: "soft small" }, one.price.source)]],
    ], paid.items) : empty("No price is set, so what workers cost is unknown, and no budget can be kept.", command("framewake prices set gpu:L4 0.71USD")),
    cut(paid, `The first ${PAGE} are shown; framewake prices has all.`));
  });
  if (!operates) return [rows];
  const what = h("input", { required: true, placeholder: "any, gpu:L4, pool:cloud", autocomplete: "off" });
  const amount = h("input", { required: true, placeholder: "0.71 USD", autocomplete: "off" });
  return [rows, line([field("For", what), field("An hour costs", amount)], "Set a price", async () => {
    await api(`/paid-by/${part(what.value.trim())}`, { method: "PUT", body: { own: amount.value.trim() } });
    note(`${what.value.trim()} costs ${amount.value.trim()} an hour from today on.`);
    await load();
  })];
}

function targets(upkeep, operates) {
  const rows = h("div");
  const tried = h("div", { role: "status" });
  const load = upkeep.every(10_000, rows, async () => {
    const page = await api(`/notifications/targets?limit=${PAGE}`, { signal: upkeep.signal });
    fill(rows, page.items.length ? table("Who is told", [
      ["Name", (one) => [one.name, one.project && h("div", { class: "soft small" }, `of project ${one.project}`)]],
      ["By", (one) => [one.way, h("div", { class: "soft small mono" }, one.address)]],
      ["Of", (one) => (one.on.length ? one.on.map(words).join(", ") : "what jobs ask for")],
      ["Delivered", (one) => [one.delivered_at ? when(one.delivered_at) : "never", one.waiting > 0 && h("div", { class: "soft small" }, `${number(one.waiting)} wait`), one.dead > 0 && h("div", { class: "fault" }, `${number(one.dead)} given up`)]],
      ["", (one) => one.failure && h("div", { class: "fault" }, one.failure)],
      ["", (one) => h("div", { class: "row" }, action("Test", async () => {
        const answer = await api(`/notifications/targets/${part(one.name)}/test`, { method: "POST" });
        fill(tried, answer.delivered ? h("p", {}, `${one.name} was told.`) : h("p", { class: "fault" }, `${one.name} was not told: ${answer.reason}`));
      }, { "aria-label": `Test ${one.name}` }), action("Remove", async () => {
        if (!await sure(`Remove ${one.name}, with everything that waits for it?`, "Remove it")) return;
        await api(`/notifications/targets/${part(one.name)}`, { method: "DELETE" });
        await load();
      }, { class: "danger", "aria-label": `Remove ${one.name}` }))],
    ], page.items) : empty("Nobody is told of anything yet. Add a chat or an address below, or from a terminal:", command("framewake notify add bus --nats --on failed,late")),
    cut(page, `The first ${PAGE} by name are shown; framewake notify has all.`));
  });

  const dead = h("div");
  const loadDead = upkeep.part(dead, async () => {
    const page = await api(`/notifications/dead?limit=${DEAD}`, { signal: upkeep.signal });
    fill(dead, page.items.length > 0 && [h("h3", {}, "Given up"), table("Notifications that were given up", [
      ["For", (one) => one.target], ["Made", (one) => when(one.made_at)], ["Tries", (one) => number(one.tries), "number"], ["Why", (one) => h("span", { class: "fault" }, one.reason)],
      ["", (one) => action("Send again", async () => {
        await api(`/notifications/dead/${part(one.id)}/resend`, { method: "POST" });
        note("It is tried again.");
        await loadDead();
      }, { "aria-label": `Send again to ${one.target}` })],
    ], page.items), cut(page, `The first ${DEAD} are shown.`)]);
  }, 10_000);
  if (operates) loadDead();

  const name = h("input", { required: true, placeholder: "artists", autocomplete: "off" });
  const way = h("select", { onchange: () => draw() }, [["slack", "Slack and the like"], ["webhook", "a signed webhook"], ["mail", "mail"], ["nats", "a subject of NATS"]].map(([value, text]) => h("option", { value }, text)));
  const project = h("input", { placeholder: "all projects", autocomplete: "off" });
  const on = OCCASIONS.map(([value, text]) => [value, h("input", { type: "checkbox", checked: value === "failed" }), text]);
  const address = h("span", { class: "row bottom" });
  let inputs = {};
  function draw() {
    inputs = {
      slack: { url: h("input", { required: true, type: "password", placeholder: "https://hooks.…", autocomplete: "off" }) },
      webhook: { url: h("input", { required: true, type: "password", placeholder: "https://host/path", autocomplete: "off" }), secret: h("input", { required: true, type: "password", placeholder: "whsec_…", autocomplete: "off" }) },
      mail: { to: h("input", { required: true, placeholder: "farm@example.org", autocomplete: "off" }) },
      nats: {},
    }[way.value];
    fill(address, Object.entries(inputs).map(([key, input]) => field({ url: "Address", secret: "Secret", to: "To" }[key], input)));
  }
  draw();
  const form = line([field("Name", name), field("By", way), address, field("Project", project),
    h("fieldset", { class: "row" }, h("legend", {}, "Told when"), on.map(([, box, text]) => h("label", { class: "small" }, box, " ", text)))], "Add", async () => {
    const given = Object.fromEntries(Object.entries(inputs).map(([key, input]) => [key, key === "to" ? input.value.split(",").map((one) => one.trim()) : input.value.trim()]));
    const body = { name: name.value.trim(), way: { kind: way.value, ...given }, on: on.filter(([, box]) => box.checked).map(([value]) => value) };
    if (project.value.trim()) body.project = project.value.trim();
    await api("/notifications/targets", { method: "POST", body });
    note(`${body.name} is told from now on.`, { hint: "Test says whether it arrives." });
    await load();
    setTimeout(draw);
  });
  return [rows, tried, form, dead];
}
