// All frames of a step in one strip, whatever their number: each column stands for one frame or for many.

import { h, api, number, part, query, seconds } from "./lib.js";

const COLUMNS_MAX = 1200;
/** Heights of the strip and of the chart, and what the chart leaves above the longest bar for its words. */
const STATES_HIGH = 44;
const TIMES_HIGH = 80;
const TIMES_HEAD = 18;

/** The frame that a task renders, from a set as `1-240`, `1-240x2` or `10,20,30-40`. */
export function frameOf(frames, task) {
  for (const piece of frames.split(",")) {
    const read = /^(-?\d+)(?:-(-?\d+))?(?:x(\d+))?$/.exec(piece.trim());
    if (!read) return task;
    const first = Number(read[1]);
    const last = read[2] === undefined ? first : Number(read[2]);
    const pace = read[3] === undefined ? 1 : Number(read[3]);
    const count = Math.floor((last - first) / pace) + 1;
    if (task < count) return first + task * pace;
    task -= count;
  }
  return task;
}

/** The strip of a step, with a chart of frame times; `choose(task)` is called when somebody points at a frame. */
export class Strip {
  constructor(job, step, choose) {
    this.job = job;
    this.step = step;
    this.choose = choose;
    this.task = 0;
    this.states = h("canvas");
    this.times = h("canvas", { class: "times" });
    this.said = h("div", { class: "soft small", "aria-hidden": "true" });
    this.slider = h("div", {
      class: "strip", role: "slider", tabindex: "0", "aria-label": `Frames of step ${step.name}`, "aria-valuemin": 0,
      "aria-valuemax": Math.max(0, step.tasks.total - 1), "aria-valuenow": 0,
      onkeydown: (event) => this.key(event),
    }, this.states);
    for (const canvas of [this.states, this.times]) {
      canvas.addEventListener("click", (event) => this.pick(this.at(event)));
      canvas.addEventListener("pointermove", (event) => { this.said.textContent = this.words(this.at(event)); });
    }
    this.element = h("div", {}, this.slider, this.times, this.said,
      h("div", { class: "legend" }, ["done", "open", "failed"].map((name) => h("span", { class: `state ${name}` }, name)), h("span", { class: "state" }, "waiting"),
        (this.note = h("span"))));
    addEventListener("theme", this.onTheme = () => this.draw());
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.states);
  }

  end() {
    removeEventListener("theme", this.onTheme);
    this.watch.disconnect();
  }

  async load(signal) {
    const columns = Math.min(COLUMNS_MAX, this.step.tasks.total);
    this.map = await api(`/jobs/${part(this.job)}/steps/${part(this.step.name)}/map${query({ columns })}`, { signal });
    this.draw();
  }

  at(event) {
    const box = this.states.getBoundingClientRect();
    const share = Math.min(0.999999, Math.max(0, (event.clientX - box.left) / box.width));
    return Math.floor(share * this.step.tasks.total);
  }

  pick(task) {
    this.task = Math.min(this.step.tasks.total - 1, Math.max(0, task));
    this.slider.setAttribute("aria-valuenow", this.task);
    this.slider.setAttribute("aria-valuetext", this.words(this.task));
    this.said.textContent = this.words(this.task);
    this.draw();
    this.choose(this.task);
  }

  key(event) {
    const leap = Math.max(1, Math.round(this.step.tasks.total / 20));
    const to = { ArrowLeft: this.task - 1, ArrowRight: this.task + 1, PageDown: this.task + leap, PageUp: this.task - leap, Home: 0, End: this.step.tasks.total - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.pick(to);
  }

  words(task) {
    const frame = `frame ${number(frameOf(this.step.frames, task))}`;
    if (!this.map) return frame;
    const at = this.bucket(task);
    const { done, failed, open, size, mean_ms: mean } = this.map;
    const time = mean[at] === null ? "" : `, ${seconds(mean[at] / 1000)}`;
    if (size[at] === 1) {
      return `${frame}: ${done[at] ? "done" : failed[at] ? "failed" : open[at] ? "open" : "waiting"}${time}`;
    }
    return `${frame} and ${number(size[at] - 1)} beside it: ${number(done[at])} done, ${number(failed[at])} failed, ${number(open[at])} open${time && `${time} a frame`}`;
  }

  bucket(task) {
    return Math.min(this.map.size.length - 1, Math.floor((task * this.map.size.length) / this.map.total));
  }

  draw() {
    if (!this.map) return;
    const looks = getComputedStyle(document.documentElement);
    const color = (name) => looks.getPropertyValue(`--${name}`);
    // Colors are resolved by an element, since they may be `light-dark(…)`.
    const resolved = (name) => {
      this.said.style.color = color(name);
      const value = getComputedStyle(this.said).color;
      this.said.style.color = "";
      return value;
    };
    const { done, failed, open, size, mean_ms: mean, max_ms: max } = this.map;
    const count = size.length;
    // Drawn in the screen's own dots.
    const scale = devicePixelRatio;
    const width = Math.max(1, Math.round(this.states.clientWidth * scale));
    const high = Math.round(STATES_HIGH * scale);
    Object.assign(this.states, { width, height: high });
    const paint = this.states.getContext("2d");
    const colors = { done: resolved("done"), failed: resolved("failed"), open: resolved("open"), text: resolved("text"), time: resolved("soft"), line: resolved("line"), card: resolved("card") };
    const gap = width / count > 6 * scale ? Math.round(scale) : 0;
    const column = (at) => {
      const left = Math.floor((at * width) / count);
      return [left, Math.max(1, Math.floor(((at + 1) * width) / count) - left - gap)];
    };
    for (let at = 0; at < count; at += 1) {
      const [left, wide] = column(at);
      let top = high;
      for (const [amount, kind] of [[done[at], "done"], [open[at], "open"], [failed[at], "failed"]]) {
        // A single failed frame among many is seen all the same.
        const tall = amount ? Math.max((kind === "failed" ? 6 : 2) * scale, (high * amount) / size[at]) : 0;
        top -= tall;
        paint.fillStyle = colors[kind];
        paint.fillRect(left, Math.max(0, top), wide, tall);
      }
    }
    paint.fillStyle = colors.text;
    paint.fillRect(Math.floor((this.task * width) / this.map.total), 0, Math.max(2 * scale, gap * 2), high);

    const known = max.filter((value) => value !== null);
    this.times.hidden = known.length < 2;
    this.note.textContent = this.map.sampled ? "times: of one frame in each column" : "";
    if (this.times.hidden) return;
    Object.assign(this.times, { width, height: Math.round(TIMES_HIGH * scale) });
    const chart = this.times.getContext("2d");
    chart.scale(1, scale);
    const longest = known.reduce((most, value) => Math.max(most, value), 1);
    const axis = (TIMES_HIGH - TIMES_HEAD) / longest;
    for (let at = 0; at < count; at += 1) {
      if (mean[at] === null) continue;
      const [left, wide] = column(at);
      chart.globalAlpha = 0.35;
      chart.fillStyle = colors.time;
      chart.fillRect(left, TIMES_HIGH - max[at] * axis, wide, max[at] * axis);
      chart.globalAlpha = 1;
      chart.fillRect(left, TIMES_HIGH - mean[at] * axis, wide, mean[at] * axis);
    }
    chart.setTransform(scale, 0, 0, scale, 0, 0);
    chart.font = "12px system-ui";
    for (const [share, words] of [[1, `longest ${seconds(longest / 1000)}`], [0.5, seconds(longest / 2000)]]) {
      const top = TIMES_HIGH - longest * share * axis;
      chart.fillStyle = colors.line;
      chart.fillRect(0, top, width / scale, 1);
      // Read also where bars are behind it.
      chart.fillStyle = colors.card;
      chart.fillRect(0, top - 16, chart.measureText(words).width + 5, 16);
      chart.fillStyle = colors.text;
      chart.fillText(words, 2, top - 4);
    }
    this.times.setAttribute("role", "img");
    this.times.setAttribute("aria-label", `Seconds a frame; the longest took ${seconds(longest / 1000)}`);
  }
}
