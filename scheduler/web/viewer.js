// The outputs of a step: one at a time, beside each other in time as a flip-book, or as a video.

import { h, fill, api, bytes, number, part, query, seconds } from "./lib.js";

const PAGE = 200;
/** Pictures kept loaded around the one that is shown. */
const LOADED_MAX = 32;
const SHOWN = /\.(png|jpe?g|gif|webp|avif|svg)$/i;
const PLAYED = /\.(mp4|webm|mov|m4v)$/i;

export class Viewer {
  /** `at` is the number of the step among the job's. */
  constructor(job, step, at, upkeep) {
    this.job = job;
    this.step = step;
    this.at = at;
    this.upkeep = upkeep;
    this.outputs = [];
    this.position = 0;
    this.playing = null;
    this.pictures = new Map();
    this.stage = h("div", { class: "stage" });
    this.words = h("div", { class: "row between small soft" });
    this.fps = h("input", { type: "number", min: 1, max: 60, value: 12, "aria-label": "Pictures a second" });
    this.play = h("button", { type: "button", onclick: () => this.toggle() }, "Play");
    const go = (by) => () => { this.stop(); this.show(this.position + by); };
    this.controls = h("div", { class: "row" },
      h("button", { type: "button", onclick: go(-1), "aria-label": "Previous frame" }, "◀"), this.play,
      h("button", { type: "button", onclick: go(1), "aria-label": "Next frame" }, "▶"), this.fps, h("span", { class: "small soft" }, "pictures a second"));
    this.element = h("div", { class: "viewer" }, this.stage, this.controls, this.words);
    upkeep.onEnd(() => this.stop());
    this.stage.append(h("p", { class: "soft" }, "No output yet."));
  }

  /** Shows the output of a task, or of the first after it that has one. */
  async open(task) {
    this.stop();
    this.outputs = [];
    await this.more(task);
    this.show(0);
  }

  async more(from) {
    const cursor = from > 0 ? `${this.at}.${from - 1}` : "";
    const page = await api(`/jobs/${part(this.job)}/outputs${query({ step: this.step.name, cursor, limit: PAGE })}`, { signal: this.upkeep.signal });
    const last = this.outputs.at(-1)?.task ?? -1;
    this.outputs.push(...page.items.filter((output) => output.task > last));
    this.complete = !page.next;
  }

  address(output) {
    return `/v1/jobs/${part(this.job)}/outputs/${part(this.step.name)}/${output.task}`;
  }

  picture(output) {
    let picture = this.pictures.get(output.task);
    if (!picture) {
      picture = h("img", { src: this.address(output), alt: `Frame ${output.frame} of ${this.step.name}` });
      this.pictures.set(output.task, picture);
      if (this.pictures.size > LOADED_MAX) this.pictures.delete(this.pictures.keys().next().value);
    }
    return picture;
  }

  show(position) {
    if (!this.outputs.length) return;
    this.position = Math.min(this.outputs.length - 1, Math.max(0, position));
    const output = this.outputs[this.position];
    const address = this.address(output);
    const download = h("a", { href: address, download: output.name.split("/").pop() }, "Download");
    if (SHOWN.test(output.name)) fill(this.stage, this.picture(output));
    else if (PLAYED.test(output.name)) fill(this.stage, h("video", { src: address, controls: true, loop: true, "aria-label": output.name }));
    else fill(this.stage, h("p", {}, `${output.name} is of a kind that browsers don't show. `, download));
    this.controls.hidden = !SHOWN.test(output.name);
    fill(this.words, 
      h("span", {}, `frame ${number(output.frame)} · ${output.name} · ${output.width}×${output.height} · ${bytes(output.size_bytes)} · ${seconds(output.elapsed_ms / 1000)} on ${output.device || "an unknown device"}`),
      h("span", { class: "row" }, download, h("span", { class: "mono", title: "SHA-256" }, output.sha256.slice(0, 12))));
    for (const next of this.outputs.slice(this.position + 1, this.position + 6)) if (SHOWN.test(next.name)) this.picture(next);
    if (!this.complete && this.position > this.outputs.length - 20 && !this.fetching) {
      this.fetching = this.more(this.outputs.at(-1).task + 1).catch(() => {}).finally(() => { this.fetching = null; });
    }
  }

  toggle() {
    if (this.playing) {
      this.stop();
      return;
    }
    this.play.textContent = "Pause";
    const turn = () => {
      const next = this.outputs[this.position + 1];
      // Waits for a picture that is not there yet instead of passing over it.
      if (!next || this.picture(next).complete) this.show(next ? this.position + 1 : 0);
      this.playing = setTimeout(turn, 1000 / Math.min(60, Math.max(1, Number(this.fps.value) || 12)));
    };
    this.playing = setTimeout(turn, 0);
  }

  stop() {
    clearTimeout(this.playing);
    this.playing = null;
    this.play.textContent = "Play";
  }
}
