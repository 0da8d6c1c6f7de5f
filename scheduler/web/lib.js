// What all pages use: elements made without markup in strings, requests, live events, and words for numbers.

import { looking, marking, released } from "./hold.js";

/** An element; attributes by name, `on…` are listeners, children are elements or text. Nothing is ever read as markup. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled" || name === "open") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...those(children));
  return element;
}

/** What is there of these children; what is false, null or undefined is left out. */
const those = (children) => children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex='0']";

/** Each with what it is known by when it is drawn anew; `data-key` tells those apart whose names are the same. */
function marks(list) {
  const seen = new Map();
  return list.map((one) => {
    const name = [one.tagName, one.type, one.getAttribute("aria-label") ?? one.labels?.[0]?.textContent ?? one.textContent, one.getAttribute("href"),
      one.closest("[data-key]")?.dataset.key].join("\n");
    const nth = seen.get(name) ?? 0;
    seen.set(name, nth + 1);
    return `${nth} ${name}`;
  });
}

/** Goes to the first of these that can be stood on; whether there is one. */
const stand = (places) => places.some((one) => {
  one.focus({ preventScroll: true });
  return document.activeElement === one;
});

/** Whether somebody sees where they stand, or saw it before the page was as long as it is now. */
let inSight = false;
let tall = 0;
const inWindow = (one) => {
  const { top, bottom } = one.getBoundingClientRect();
  return bottom > 0 && top < innerHeight;
};

/** Has the window follow what somebody stands on with the keyboard, where the page has put it out of their sight. */
function keepInSight() {
  const at = document.activeElement;
  if (inSight && at?.matches(":focus-visible") && !inWindow(at)) at.scrollIntoView({ block: "nearest" });
}
// Whoever goes somewhere is led there; whoever then moves the window elsewhere wants to be there.
addEventListener("focusin", () => { inSight = true; });
addEventListener("scroll", () => {
  if (document.body.offsetHeight === tall && document.activeElement) inSight = inWindow(document.activeElement);
}, { passive: true });
// Browsers hold a page still while it grows above, but not at its upper end, nor where what they held on to is drawn anew.
new ResizeObserver(() => {
  tall = document.body.offsetHeight;
  keepInSight();
}).observe(document.body);

/** Goes to what is before a place in the same part of the page, or to that part: one reads on from there. */
function standBefore(place) {
  for (let part = place; part; part = part.parentElement) {
    if (!part.matches(".card, dialog, header, main, [tabindex]")) continue;
    const before = [...part.querySelectorAll(FOCUSABLE)].filter((one) => one.compareDocumentPosition(place) === Node.DOCUMENT_POSITION_FOLLOWING);
    if (stand(before.reverse())) return;
    if (!part.hasAttribute("tabindex")) part.tabIndex = -1;
    if (stand([part])) return;
  }
}

/**
 * Remembers where somebody stands with the keyboard within an element. Gives what puts them there again after it was drawn anew:
 * onto the same thing wherever it is now, or, if it is gone, onto what is in its place.
 */
export function foothold(element) {
  const at = document.activeElement;
  if (!at || at === element || !element.contains(at)) return () => {};
  const before = [...element.querySelectorAll(FOCUSABLE)];
  const index = before.indexOf(at);
  const mark = marks(before)[index];
  const was = inSight;
  return () => {
    if (document.activeElement === at) return;
    const now = [...element.querySelectorAll(FOCUSABLE)];
    const same = now[marks(now).indexOf(mark)];
    const near = index < 0 ? [] : [...now.slice(index), ...now.slice(0, index).reverse()];
    if (!stand([at, ...(same ? [same] : []), ...near])) standBefore(element);
    inSight = was;
    keepInSight();
  };
}

/** Takes a part of a page away, or shows it. */
export function hide(element, is) {
  const stood = is && element.contains(document.activeElement);
  element.hidden = is;
  if (stood) standBefore(element);
}

/**
 * Puts these in the place of what is in an element. Who stood somewhere in it with the keyboard stands there again; what was pushed
 * aside, and what was marked, stays so.
 */
export function fill(element, ...children) {
  const back = foothold(element);
  const mark = marking(element);
  const boxes = [...element.querySelectorAll(".scroll")];
  const pushed = boxes.some((box) => box.scrollLeft || box.scrollTop) ? marks(boxes).map((mark, at) => [mark, boxes[at].scrollLeft, boxes[at].scrollTop]) : [];
  element.replaceChildren(...those(children));
  reachWide(element);
  if (pushed.length) {
    const now = [...element.querySelectorAll(".scroll")];
    const names = marks(now);
    for (const [name, left, top] of pushed) now[names.indexOf(name)]?.scrollTo(left, top);
  }
  back();
  mark();
  return element;
}

/** What is larger than its place is moved by the arrow keys once it is reached. */
function reachWide(element) {
  for (const box of element.querySelectorAll(".scroll")) {
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
  }
}
addEventListener("resize", () => reachWide(document));

/** When that is asked again which was not told, unless the scheduler says when; and the longest that a page waits if it does. */
export const AGAIN_MS = 3000;
const AGAIN_MS_MAX = 60_000;

/** A refusal of the scheduler (RFC 9457), or a scheduler that does not answer. */
export class Problem extends Error {
  /** `after`: seconds after which it may be asked again, as text; null: nobody said. */
  constructor(body, status, after = null) {
    super(body.detail || body.title || `status ${status}`);
    this.status = status;
    this.hint = body.hint || "";
    this.faults = body.faults || [];
    this.request = body.request_id || "";
    this.after = after;
  }
  /** Whether it is over by itself. */
  get passes() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
  /** In how many milliseconds that is asked again which is asked every `ms`; infinite: not before somebody asks. */
  again(ms = Infinity) {
    const told = this.after === null ? NaN : Number(this.after) * 1000;
    if (this.passes && told >= 0) return Math.min(told, AGAIN_MS_MAX);
    if (this.status === 0) return Math.min(ms, AGAIN_MS);
    return this.passes ? AGAIN_MS : Math.max(ms, AGAIN_MS);
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
    throw noAnswer();
  }
  const text = await answer.text();
  if (answer.status === 401 && path !== "/session") unknown();
  // What is drawn from it is not drawn under somebody's finger.
  await released();
  signal?.throwIfAborted();
  if (!answer.ok) throw problemOf(answer, text);
  return text ? JSON.parse(text) : {};
}

export const noAnswer = () => new Problem({ title: "The scheduler does not answer", hint: "Is it running? This page tries again by itself." }, 0);

/** What an answer refuses, with its text. */
export function problemOf(answer, text) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    // Not the scheduler's words.
    body = { title: `Something before the scheduler answers with status ${answer.status}`, hint: "Is there a proxy, and does it reach the scheduler?" };
  }
  return new Problem(body, answer.status, answer.headers.get("retry-after"));
}

/** Names in addresses. */
export const part = encodeURIComponent;

export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return set.length ? "?" + new URLSearchParams(set) : "";
}

/** Says something in the corner for a while; what failed stays longer. */
export function note(text, { bad = false, hint = "", list = [] } = {}) {
  const box = h("div", { class: bad ? "note bad" : "note" }, h("p", {}, prose(text)), list.length > 0 && h("ul", { class: "small" }, list.map((one) => h("li", {}, prose(one)))),
    hint && h("p", { class: "soft small" }, prose(hint)));
  document.getElementById("notes").append(box);
  setTimeout(() => box.remove(), bad ? 12_000 : 5_000);
}

/** Puts a text where it can be pasted from. A page that came without HTTPS from another machine must do it by a field. */
export async function copy(text) {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else {
    const stood = document.activeElement;
    const field = h("textarea", { class: "skip", value: text });
    document.getElementById("main").append(field);
    field.select();
    const is = document.execCommand("copy");
    field.remove();
    stood?.focus({ preventScroll: true });
    if (!is) throw new Problem({ title: "The browser does not let this page copy", hint: "Mark the text and copy it by the browser's own menu." }, 400);
  }
  note("Copied.");
}

export function noteProblem(problem) {
  if (problem.name !== "AbortError") note(problem.message, { bad: true, hint: problem.hint });
}

/** Where a part of a page would be: what went wrong, and what to try. */
export function problemBox(problem) {
  return h("div", { role: "alert" }, h("p", { class: "fault" }, prose(problem.message)), (problem.faults ?? []).map((fault) => h("p", { class: "fault" }, prose(`${fault.field}: ${fault.reason}`))),
    problem.hint && h("p", { class: "soft" }, prose(problem.hint)));
}

/** A question in front of the page; null: it was left by Escape or its second button. */
function question(text, yes, input) {
  return new Promise((resolve) => {
    let answer = null;
    const back = foothold(document.body);
    const box = h("dialog", { "aria-label": text }, h("form", { onsubmit: (event) => {
      event.preventDefault();
      answer = input ? input.value : "";
      box.close();
    } }, input ? h("label", { class: "field" }, h("span", {}, text), input) : h("p", {}, text),
    h("div", { class: "row" }, h("button", { type: "submit", class: "main" }, yes), h("button", { type: "button", onclick: () => box.close() }, "Leave it"))));
    box.addEventListener("close", () => {
      box.remove();
      back();
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

/** What is not told now, of all that is on the page. */
const refused = new Set();

/**
 * What was not told, said before the places that it would have filled. What they have from before stays, and is marked as old.
 */
class Refusal {
  constructor(places) {
    this.places = places;
    this.box = h("div", { class: "refused" });
    this.toldAt = null;
  }
  /** `other`: it was not asked for before, so that what stands there is about something else. */
  say(problem, other) {
    if (other) {
      this.places.forEach((place) => fill(place));
      this.toldAt = null;
    }
    refused.add(this);
    this.places.forEach((place) => place.classList.toggle("old", this.toldAt !== null));
    // Read aloud once, not each time that it is asked again; and the head of the page has the word where nothing answers.
    const words = [problem.message, problem.hint, this.toldAt].join("\n");
    if (problem.status === 0 && this.toldAt !== null) this.box.remove();
    else if (words !== this.words || !this.box.isConnected) {
      this.words = words;
      fill(this.box, problemBox(problem),
        problem.passes && problem.status !== 0 && h("p", { class: "soft" }, "It is asked for again by itself."),
        this.toldAt && h("p", {}, `What stands below is old: it was told at ${new Date(this.toldAt).toLocaleTimeString()}.`));
      this.places[0].before(this.box);
    }
    sayLink();
  }
  told() {
    this.toldAt = Date.now();
    this.box.remove();
    this.places.forEach((place) => place.classList.remove("old"));
    this.forget();
  }
  forget() {
    refused.delete(this);
    sayLink();
  }
}

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
  /** The page as a whole is not told. */
  lacks(problem) {
    const whole = new Refusal([]);
    refused.add(whole);
    connected(problem.status !== 0);
    this.onEnd(() => whole.forget());
  }
  end() {
    this.stopper.abort();
    this.ends.forEach((end) => end());
  }
  /**
   * A part of the page: `place`, or several, which `work` asks for and fills. Gives what does it, never twice at once, and says
   * before the place what was refused. Called with `true`, something else is asked for than before.
   */
  part(place, work, ms = Infinity) {
    const refusal = new Refusal([place].flat());
    let timer = null;
    let running = null;
    let wanted = false;
    let due = Number.isFinite(ms);
    let other = false;
    const later = (wait) => {
      clearTimeout(timer);
      due = Number.isFinite(wait);
      if (due && !this.signal.aborted) timer = setTimeout(seen, wait);
    };
    const once = async () => {
      const begun = performance.now();
      try {
        await work();
        refusal.told();
        connected(true);
        return ms - ((performance.now() - begun) % ms);
      } catch (error) {
        if (error.name === "AbortError" || this.signal.aborted) return ms;
        if (!(error instanceof Problem)) throw error;
        refusal.say(error, other);
        connected(error.status !== 0);
        return error.again(ms);
      }
    };
    const turns = async () => {
      let wait = ms;
      try {
        do {
          wanted = false;
          wait = await once();
        } while (wanted && !this.signal.aborted);
      } finally {
        running = null;
        other = false;
        later(wait);
      }
    };
    /** Done when it is told, as of now. */
    const look = (anew = false) => {
      if (this.signal.aborted) return Promise.resolve();
      other ||= anew === true;
      wanted = true;
      running ??= turns();
      return running;
    };
    const seen = () => { if (due && looking() && !running) look(); };
    addEventListener("looking", seen);
    this.onEnd(() => {
      clearTimeout(timer);
      removeEventListener("looking", seen);
      refusal.forget();
    });
    return look;
  }
  /** A part that is asked for now, and then every so often. */
  every(ms, place, work) {
    const look = this.part(place, work, ms);
    if (looking()) look();
    return look;
  }
  /**
   * Follows events while somebody looks, for browsers give all pages of a host few connections together. The browser connects again
   * by itself and goes on where it was; whoever comes back begins anew. What is refused is said before `place`. `opened` is told
   * whether it begins anew.
   */
  follow(place, path, kinds, heard, opened = () => {}) {
    const refusal = new Refusal([place]);
    let source = null;
    let last = null;
    let timer = null;
    let over = false;
    const begin = () => {
      clearTimeout(timer);
      source?.close();
      if (over || !looking()) return;
      const from = last === null ? path : `${path.split("?")[0]}?after=${last}`;
      let anew = last === null;
      source = new EventSource(`/v1${from}`);
      for (const kind of kinds) source.addEventListener(kind, (event) => {
        last = event.lastEventId || last;
        heard(JSON.parse(event.data));
      });
      source.addEventListener("open", () => {
        connected(true);
        refusal.told();
        opened(anew);
        anew = false;
      });
      source.addEventListener("error", () => {
        connected(false);
        if (source.readyState === EventSource.CLOSED && !over) ask(from);
      });
    };
    /** It was refused and the browser does not try again: asks why, which the browser does not tell. */
    const ask = async (from) => {
      let wait = AGAIN_MS;
      try {
        const answer = await fetch(`/v1${from}`, { signal: this.signal, headers: { accept: "text/event-stream" } });
        if (answer.ok) await answer.body.cancel();
        else if (answer.status === 401) return unknown();
        else throw problemOf(answer, await answer.text());
      } catch (error) {
        if (error.name === "AbortError" || over) return;
        const problem = error instanceof Problem ? error : noAnswer();
        connected(problem.status !== 0);
        refusal.say(problem, false);
        wait = problem.again(AGAIN_MS);
      }
      if (!over) timer = setTimeout(begin, wait);
    };
    const seen = () => {
      if (!looking()) {
        clearTimeout(timer);
        source?.close();
        source = null;
        last = null;
      } else if (!source) begin();
    };
    const close = () => {
      over = true;
      clearTimeout(timer);
      removeEventListener("looking", seen);
      source?.close();
      refusal.box.remove();
      refusal.forget();
    };
    addEventListener("looking", seen);
    begin();
    this.onEnd(close);
    return { close };
  }
}

let away = false;
export function connected(is) {
  away = !is;
  sayLink();
}

function sayLink() {
  const link = document.getElementById("link");
  const words = away ? "no connection: trying again" : !looking() ? "held still" : refused.size ? "not all of this is live" : "live";
  if (link.textContent !== words) link.textContent = words;
  link.classList.toggle("away", away || refused.size > 0);
}

addEventListener("looking", sayLink);

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
  if (value < 59.5) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(value / 60);
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

/** How often it is told anew how long ago something was. */
const TICK_MS = 1000;

export function ago(at) {
  const passed = (Date.now() - moment(at)) / 1000;
  return passed < 0 ? `in ${seconds(-passed)}` : passed < 1 ? "now" : `${seconds(passed)} ago`;
}

export function when(at) {
  const date = moment(at);
  return h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, ago(at));
}

/** What is said to be so long ago goes on being older, wherever it stands and whether or not anything else happens. */
setInterval(() => {
  if (!looking()) return;
  for (const one of document.querySelectorAll("time")) {
    const words = ago(one.dateTime);
    // The text itself is changed, not another put in its place: somebody may have marked it.
    if (one.textContent !== words) one.firstChild.data = words;
  }
}, TICK_MS);

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
      h("tbody", {}, items.map((item) => h("tr", { "data-key": item.id ?? item.name }, columns.map(([, cell, kind]) => h("td", { class: kind }, cell(item))))))));
}

/** A sentence of the scheduler's: what it has between backquotes is code. */
export const prose = (text) => String(text ?? "").split(/`([^`]+)`/).map((piece, at) => (at % 2 ? h("code", {}, piece) : piece));

/** Under a list of which there is more than a page. */
export const cut = (page, text) => page.next && h("p", { class: "soft small" }, text);
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
      noteProblem(problem);
    } finally {
      button.ariaDisabled = null;
    }
  } }, text);
  return button;
}
