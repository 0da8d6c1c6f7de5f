// What all pages use: elements made without markup in strings, requests, live events, and words for numbers.

/** An element; attributes by name, `on…` are listeners, children are elements or text. Nothing is ever read as markup. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  return fill(element, ...children);
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

/**
 * Puts these in the place of what is in an element; what is false, null or undefined is left out. Who stood on a button with
 * the keyboard stands on the one in its place.
 */
export function fill(element, ...children) {
  const stood = element.contains(document.activeElement) ? [...element.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement) : -1;
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  reachWide(element);
  if (stood >= 0) element.querySelectorAll(FOCUSABLE)[stood]?.focus({ preventScroll: true });
  return element;
}

/** What is larger than its place is moved by the arrow keys once it is reached. */
function reachWide(element) {
  for (const box of element.querySelectorAll(".scroll")) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
  }
}
addEventListener("resize", () => reachWide(document));

/** A refusal of the scheduler (RFC 9457), or a scheduler that does not answer. */
export class Problem extends Error {
  constructor(body, status) {
    super(body.detail || body.title || `status ${status}`);
    this.status = status;
    this.hint = body.hint || "";
    this.faults = body.faults || [];
    this.request = body.request_id || "";
  }
}

/** Who this page is for; null while nobody has logged in where one must. */
let session = { tokens: false, who: null };
const ROLES = ["viewer", "artist", "operator", "admin"];

export const whoAsks = () => session;
export function known(as) {
  session = as;
}

/** Whether this role may be taken; `farm`: for what is not of one project. What is hidden here, the scheduler refuses. */
export function may(role, { farm = false } = {}) {
  const { who } = session;
  return Boolean(who) && ROLES.indexOf(who.role) >= ROLES.indexOf(role) && !(farm && who.project);
}

/** Somebody must log in, or log in again. */
export function unknown() {
  dispatchEvent(new Event("unknown"));
}

export async function api(path, { method = "GET", body, signal, headers = {} } = {}) {
  const options = { method, signal, headers: { accept: "application/json", ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(`/v1${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "The scheduler does not answer", hint: "Is it running? This page tries again by itself." }, 0);
  }
  const text = await answer.text();
  let read = {};
  try {
    read = text ? JSON.parse(text) : {};
  } catch {
    read = { title: text.slice(0, 300) };
  }
  if (answer.status === 401 && path !== "/session") unknown();
  if (!answer.ok) throw new Problem(read, answer.status);
  return read;
}

/** Names in addresses. */
export const part = encodeURIComponent;

export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return set.length ? "?" + new URLSearchParams(set) : "";
}

/** Says something in the corner for a while; what failed stays longer. */
export function note(text, { bad = false, hint = "" } = {}) {
  const box = h("div", { class: bad ? "note bad" : "note" }, h("p", {}, text), hint && h("p", { class: "soft small" }, hint));
  document.getElementById("notes").append(box);
  setTimeout(() => box.remove(), bad ? 12_000 : 5_000);
}

export function noteProblem(problem) {
  note(problem.message, { bad: true, hint: problem.hint });
}

/** Where a part of a page would be: what went wrong, and what to try. */
export function problemBox(problem) {
  return h("div", { role: "alert" }, h("p", { class: "fault" }, problem.message), (problem.faults ?? []).map((fault) => h("p", { class: "fault" }, `${fault.field}: ${fault.reason}`)),
    problem.hint && h("p", { class: "soft" }, problem.hint));
}

/** A question in front of the page; null: it was left by Escape or its second button. */
function question(text, yes, input) {
  return new Promise((resolve) => {
    let answer = null;
    const before = document.activeElement;
    const box = h("dialog", { "aria-label": text }, h("form", { onsubmit: (event) => {
      event.preventDefault();
      answer = input ? input.value : "";
      box.close();
    } }, input ? h("label", { class: "field" }, h("span", {}, text), input) : h("p", {}, text),
    h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, yes), h("button", { type: "button", onclick: () => box.close() }, "Leave it"))));
    box.addEventListener("close", () => {
      box.remove();
      // What was stood on may have been drawn anew meanwhile.
      (before?.isConnected ? before : document.getElementById("main")).focus({ preventScroll: true });
      resolve(answer);
    });
    document.getElementById("main").append(box);
    box.showModal();
    input?.select();
  });
}

/** Whether something that can't be taken back is to be done. */
export const sure = async (text, yes) => (await question(text, yes)) !== null;

/** A value for something; null: none. */
export const asked = (text, attributes, yes = "Set it") => question(text, yes, h("input", { required: true, ...attributes }));

/**
 * A page's upkeep: what it polls, follows and listens to ends with it. Nothing is asked while nobody looks.
 */
export class Upkeep {
  constructor() {
    this.ends = [];
    this.stopper = new AbortController();
  }
  get signal() {
    return this.stopper.signal;
  }
  onEnd(end) {
    this.ends.push(end);
  }
  end() {
    this.stopper.abort();
    this.ends.forEach((end) => end());
  }
  /** Calls `work` now and then every so often, never twice at once. */
  every(ms, work) {
    let timer = null;
    let busy = false;
    const turn = async () => {
      if (busy || document.hidden || this.signal.aborted) return;
      busy = true;
      try {
        await work();
        connected(true);
      } catch (error) {
        if (error.name !== "AbortError") {
          if (error.status === 0) connected(false);
          else if (!(error instanceof Problem)) throw error;
        }
      } finally {
        busy = false;
      }
    };
    turn();
    timer = setInterval(turn, ms);
    const seen = () => turn();
    document.addEventListener("visibilitychange", seen);
    this.onEnd(() => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", seen);
    });
    return turn;
  }
  /** Follows events; the browser connects again by itself and goes on where it was. */
  follow(path, kinds, heard) {
    const source = new EventSource(`/v1${path}`);
    for (const kind of kinds) source.addEventListener(kind, (event) => heard(JSON.parse(event.data), source));
    source.addEventListener("open", () => connected(true));
    source.addEventListener("error", () => {
      connected(false);
      // It was refused, and does not try again: the session may be over.
      if (source.readyState === EventSource.CLOSED) api("/session").then((as) => as.tokens && !as.who && unknown()).catch(() => {});
    });
    this.onEnd(() => source.close());
    return source;
  }
}

export function connected(is) {
  const link = document.getElementById("link");
  link.textContent = is ? "live" : "no connection: trying again";
  link.classList.toggle("away", !is);
}

/** At most once in so many milliseconds, and once more after the last call. */
export function calmly(ms, work) {
  let timer = null;
  let last = 0;
  return () => {
    if (timer !== null) return;
    const wait = Math.max(0, last + ms - performance.now());
    timer = setTimeout(() => {
      timer = null;
      last = performance.now();
      work();
    }, wait);
  };
}

const NUMBER = new Intl.NumberFormat("en");
export const number = (value) => NUMBER.format(value);
export const words = (state) => String(state).replaceAll("_", " ");

export function seconds(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at === 0 ? value : value.toFixed(1)} ${units[at]}`;
}

/** Times come as text or as milliseconds. */
export const moment = (at) => new Date(at);

export function ago(at) {
  const passed = (Date.now() - moment(at)) / 1000;
  return passed < 0 ? `in ${seconds(-passed)}` : passed < 1 ? "now" : `${seconds(passed)} ago`;
}

export function when(at) {
  const date = moment(at);
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, ago(at));
}

export const state = (name) => h("span", { class: `state ${name}` }, words(name));

export function bar(tasks) {
  const share = (count) => `${tasks.total ? (100 * count) / tasks.total : 0}%`;
  const piece = (kind) => {
    const element = h("i", { class: kind });
    element.style.width = share(tasks[kind]);
    return element;
  };
  return h("div", { class: "bar", role: "img", "aria-label": `${tasks.done} of ${tasks.total} done, ${tasks.failed} failed` }, piece("done"), piece("failed"), piece("open"));
}

export const money = (amounts) => {
  const list = Array.isArray(amounts) ? amounts : amounts ? [amounts] : [];
  return list.length ? list.map(amount).join(" + ") : "–";
};

/** `0.7068USD`, as the scheduler writes amounts. */
function amount(text) {
  const read = /^([0-9.]+)\s*([A-Z]{3})$/.exec(String(text));
  if (!read) return String(text);
  const value = Number(read[1]);
  return new Intl.NumberFormat("en", { style: "currency", currency: read[2], maximumFractionDigits: value < 1 ? 4 : 2 }).format(value);
}

/**
 * A table; `columns` are [title, cell of an item, class, what to sort by]. A column without a title has buttons or remarks that
 * speak for themselves. `sort` has the title it is sorted `by`, whether `down`, and what is called when another is chosen.
 */
export function table(caption, columns, items, sort = null) {
  const key = sort && columns.find(([title]) => title === sort.by)?.[3];
  if (key) {
    const way = sort.down ? -1 : 1;
    items = items.toSorted((a, b) => (key(a) < key(b) ? -way : key(a) > key(b) ? way : 0));
  }
  const head = ([title, , kind, by]) => {
    if (!title) return h("td");
    const is = sort && sort.by === title;
    const order = is ? (sort.down ? "descending" : "ascending") : null;
    return h("th", { scope: "col", class: kind, "aria-sort": order },
      sort && by ? h("button", { type: "button", class: "sort", onclick: () => sort.change(title, is && !sort.down) }, title, is ? (sort.down ? " ▾" : " ▴") : "") : title);
  };
  return h("div", { class: "scroll", role: "group", "aria-label": caption },
    h("table", {},
      h("caption", { class: "skip" }, caption),
      h("thead", {}, h("tr", {}, columns.map(head))),
      h("tbody", {}, items.map((item) => h("tr", {}, columns.map(([, cell, kind]) => h("td", { class: kind }, cell(item))))))));
}

export const empty = (text, ...more) => h("div", { class: "empty" }, h("p", {}, text), ...more);
export const command = (text) => h("pre", {}, text);
export const card = (title, ...content) => h("section", { class: "card" }, title && h("h2", {}, title), ...content);

export function figures(pairs) {
  return h("dl", { class: "figures" }, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** A button that does something with the scheduler, once at a time. */
export function action(text, work, attributes = {}) {
  // Not disabled: who stands on it with the keyboard would fall off.
  const button = h("button", { type: "button", ...attributes, onclick: async () => {
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    try {
      await work();
    } catch (problem) {
      if (problem.name !== "AbortError") noteProblem(problem);
    } finally {
      button.ariaDisabled = null;
    }
  } }, text);
  return button;
}
