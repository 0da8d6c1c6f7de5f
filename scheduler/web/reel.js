// The outputs of a step, in the order of their frames: a bounded window onto them, however many there are.

import { api, part, query } from "./lib.js";

/** Outputs asked for at once. */
const PAGE = 200;
/** Outputs held; past it the first are let go. */
const HELD_MAX = 1000;

/** The task that renders a frame, in a set as `1-240`, `1-240x2` or `10,20,30-40`; null where none does. */
export function taskOf(frames, frame) {
  let before = 0;
  for (const piece of frames.split(",")) {
    const read = /^(-?\d+)(?:-(-?\d+))?(?:x(\d+))?$/.exec(piece.trim());
    if (!read) return null;
    const first = Number(read[1]);
    const last = read[2] === undefined ? first : Number(read[2]);
    const pace = read[3] === undefined ? 1 : Number(read[3]);
    const at = (frame - first) / pace;
    if (frame <= last && at >= 0 && Number.isInteger(at)) return before + at;
    before += Math.floor((last - first) / pace) + 1;
  }
  return null;
}

export class Reel {
  /** `at` is the number of the step among the job's. */
  constructor(job, step, at, signal) {
    this.job = job;
    this.step = step;
    this.at = at;
    this.signal = signal;
    this.forget();
  }

  /** New outputs may have come: what is held is asked for again. */
  forget() {
    /** Every output of the tasks from `from` to before `until` is among the items. */
    this.held = { items: [], from: 0, until: 0 };
  }

  /** Where the bytes of an output are; they never change under this address. */
  address(output, what = "") {
    return `/v1/jobs/${part(this.job)}/outputs/${part(this.step.name)}/${output.task}${what}?of=${output.sha256}`;
  }

  async page(task, limit) {
    const cursor = task > 0 ? `${this.at}.${task - 1}` : "";
    return api(`/jobs/${part(this.job)}/outputs${query({ step: this.step.name, cursor, limit })}`, { signal: this.signal });
  }

  /** The outputs from a task on, in order. */
  async list(task, limit) {
    return (await this.page(task, limit)).items;
  }

  /** The last outputs before a task, in order; and whether there are others before them. */
  async listBefore(task, limit) {
    const { items, next } = await api(`/jobs/${part(this.job)}/outputs${query({ step: this.step.name, order: "last", cursor: `${this.at}.${task}`, limit })}`, { signal: this.signal });
    return { items: items.toReversed(), more: Boolean(next) };
  }

  /** The first output from a task on, as far as is known without asking; `undefined` is not known, null is none. */
  known(task) {
    const { items, from, until } = this.held;
    if (task < from || task >= until) return undefined;
    return items.find((output) => output.task >= task) ?? (until === Infinity ? null : undefined);
  }

  /** The first output from a task on, or null. */
  async first(task) {
    const known = this.known(task);
    if (known !== undefined) return known;
    // Goes on where the window ends, if that is where it looks.
    const { held } = this;
    const goesOn = held.until > 0 && task >= held.from && task <= held.until;
    const begin = goesOn ? held.until : Math.max(0, task);
    const { items, next } = await this.page(begin, PAGE);
    const until = next ? items.at(-1).task + 1 : Infinity;
    // Unless it was forgotten meanwhile.
    if (goesOn && this.held === held) {
      const all = [...held.items, ...items];
      const kept = all.slice(-HELD_MAX);
      this.held = { items: kept, from: kept.length < all.length ? kept[0].task : held.from, until };
    } else this.held = { items, from: begin, until };
    return this.held.items.find((output) => output.task >= task) ?? null;
  }

  /** The last output before a task, or null. */
  async before(task) {
    const { held } = this;
    if (task > held.from && task <= held.until) {
      const known = held.items.findLast((output) => output.task < task);
      if (known || held.from === 0) return known ?? null;
    }
    const { items, more } = await this.listBefore(task, PAGE);
    this.held = { items, from: more ? items[0].task : 0, until: task };
    return items.at(-1) ?? null;
  }
}
