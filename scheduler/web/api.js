// The REST interface, as its own description says it: every address, what it takes and what it answers.

import { h, fill, api, empty, prose, table } from "./lib.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

const typeName = (reference) => reference.slice(reference.lastIndexOf("/") + 1);
const typePlace = (name) => `type-${name}`;

/** Leads there without the page being made anew, which following a link to a place in it would be taken for. */
function typeLink(name) {
  const address = `#${typePlace(name)}`;
  return h("a", { href: address, onclick: (event) => {
    event.preventDefault();
    history.pushState(null, "", address);
    dispatchEvent(new Event("hashchange"));
  } }, name);
}

/** What a schema says of a value, with links to the types it is made of. */
function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return typeLink(typeName(schema.$ref));
  const variants = schema.oneOf ?? schema.anyOf ?? schema.allOf;
  if (variants) return variants.filter((one) => one.type !== "null").flatMap((one, at) => (at ? [" or ", kind(one)] : [kind(one)]));
  if (schema.enum) return h("span", { class: "mono" }, schema.enum.join(" | "));
  const type = [schema.type].flat().filter((one) => one && one !== "null").join(" or ") || "anything";
  if (type === "array") return ["list of ", kind(schema.items)];
  if (type === "object" && schema.additionalProperties?.type !== undefined) return ["map of ", kind(schema.additionalProperties)];
  if (type === "object" && schema.additionalProperties?.$ref) return ["map of ", kind(schema.additionalProperties)];
  return type;
}

function says(schema) {
  const inner = (schema.oneOf ?? schema.anyOf ?? schema.allOf ?? []).map((one) => one.description);
  return [schema.description, ...inner].filter(Boolean).join(" ");
}

function fields(name, schema) {
  const needed = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {});
  return rows.length ? table(`Fields of ${name}`, [
    ["Field", ([field]) => h("span", { class: "mono" }, field)],
    ["Type", ([, one]) => kind(one)],
    ["", ([field]) => (needed.has(field) ? "always there" : "")],
    ["", ([, one]) => prose(says(one))],
  ], rows) : null;
}

function typeBody(name, schema) {
  const variants = (schema.oneOf ?? schema.anyOf ?? schema.allOf ?? []);
  return [
    schema.description && h("p", {}, prose(schema.description)),
    schema.pattern && h("p", {}, "Text that fits ", h("span", { class: "mono" }, schema.pattern)),
    schema.enum && h("p", { class: "mono" }, schema.enum.join(" | ")),
    fields(name, schema),
    variants.length > 0 && h("ul", {}, variants.map((one) => h("li", {}, one.properties ? [prose(one.description), fields(name, one)] : kind(one)))),
  ];
}

function bodies(content) {
  return Object.entries(content ?? {}).flatMap(([media, { schema }], at) => [at ? "; " : "", h("span", { class: "mono" }, media), " ", kind(schema)]);
}

function operationBody(operation) {
  const { parameters = [], requestBody, responses } = operation;
  return [
    operation.description && h("p", {}, prose(operation.description)),
    parameters.length > 0 && table("Parameters", [
      ["Parameter", (one) => [h("span", { class: "mono" }, one.name), " ", h("span", { class: "soft small" }, `in ${one.in}`)]],
      ["Type", (one) => kind(one.schema)], ["", (one) => (one.required ? "must be there" : "")], ["", (one) => prose(one.description)],
    ], parameters),
    requestBody && h("p", {}, h("strong", {}, "Body: "), requestBody.description && [prose(requestBody.description), ": "], bodies(requestBody.content)),
    table("Answers", [
      ["Answer", ([status]) => (status === "default" ? "else" : status)], ["", ([, one]) => prose(one.description)], ["Body", ([, one]) => bodies(one.content)],
    ], Object.entries(responses)),
  ];
}

/** Details that are made when they are first opened: a page of everything at once would have tens of thousands of elements. */
function lazily(place, summary, body) {
  const content = h("div");
  const details = h("details", { id: place, ontoggle: () => {
    if (details.open && !content.childNodes.length) fill(content, ...body());
  } }, h("summary", {}, summary), content);
  return details;
}

export async function show({ main, upkeep, title }) {
  title("REST");
  const found = h("div", { class: "addresses" });
  const search = h("input", { type: "search", name: "search", autocomplete: "off", spellcheck: "false" });
  main.append(h("h1", {}, "REST"),
    h("p", { class: "lead" }, "Every address of this scheduler, from its own ", h("a", { href: "/v1/openapi.json" }, "description (OpenAPI 3.1)"), "."),
    h("label", { class: "field" }, h("span", {}, "Find"), search), found);
  const description = await api("/openapi.json", { signal: upkeep.signal });
  const operations = Object.entries(description.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method: method.toUpperCase(), ...item[method] })));

  function draw() {
    const wanted = search.value.trim().toLowerCase();
    const fits = (...texts) => !wanted || texts.some((text) => text?.toLowerCase().includes(wanted));
    const groups = description.tags.map((tag) => {
      const own = operations.filter((one) => one.tags[0] === tag.name && fits(one.path, one.summary, one.method, tag.name));
      return own.length > 0 && h("section", { class: "card" }, h("h2", {}, tag.name), h("p", { class: "soft" }, prose(tag.description)),
        own.map((one) => lazily(one.operationId, [h("span", { class: "mono" }, `${one.method} ${one.path}`), " ", prose(one.summary)], () => operationBody(one))));
    }).filter(Boolean);
    const types = Object.entries(description.components.schemas).filter(([name, schema]) => fits(name, schema.description));
    fill(found, ...groups,
      types.length > 0 && h("section", { class: "card" }, h("h2", {}, "Types"),
        types.map(([name, schema]) => lazily(typePlace(name), name, () => typeBody(name, schema)))),
      !groups.length && !types.length && empty("Nothing is called so."));
  }

  /** A link within the page leads to what it names, opened, also where the search hides it. */
  function follow() {
    const wanted = decodeURIComponent(location.hash.slice(1));
    if (!wanted) return;
    if (!document.getElementById(wanted) && search.value) {
      search.value = "";
      draw();
    }
    const details = document.getElementById(wanted);
    if (!details) return;
    details.open = true;
    details.scrollIntoView();
    details.querySelector("summary").focus({ preventScroll: true });
  }

  search.addEventListener("input", draw);
  addEventListener("hashchange", follow);
  upkeep.onEnd(() => removeEventListener("hashchange", follow));
  draw();
  follow();
}
