// The outputs of a step: one at a time, beside another, in time as a flip-book, or as a video.

import { h, fill, hide, api, bytes, noteProblem, number, part, seconds } from "./lib.js";
import { PIXELS_MAX, Pictures, Tone, kindOf } from "./picture.js";
import { Reel, taskOf } from "./reel.js";
import { Thumbs } from "./thumbs.js";

/** Pictures that are loaded before they are shown. */
const AHEAD = 5;
/** Stops that the exposure goes either way; a preview has light for more. */
const STOPS_MAX = 6;
/** States of a step in which no more outputs come. */
const OVER = ["succeeded", "failed", "canceled"];
const LOOKS = [["one", "One picture"], ["beside", "Side by side"], ["wipe", "Wipe"], ["difference", "Difference"]];

let viewers = 0;

export class Viewer {
  /** `at` is the number of the step among the job's. */
  constructor(job, step, at, upkeep) {
    this.job = job;
    this.step = step;
    this.upkeep = upkeep;
    this.reel = new Reel(job, step, at, upkeep.signal);
    this.pictures = new Pictures(upkeep.signal);
    this.tone = new Tone();
    this.output = null;
    /** Pictures that are seen, those that were asked for last, and what they are painted on. */
    this.shown = [];
    this.wanted = [];
    this.canvases = [0, 1].map(() => h("canvas", { role: "img" }));
    this.playing = null;
    this.look = "one";
    /** What it is compared with: a reel, and a task of it, or none for the same frame. */
    this.other = null;
    this.thumbs = new Thumbs(this.reel, (task) => this.open(task).catch(noteProblem));
    this.build();
    upkeep.onEnd(() => this.stop());
  }

  get empty() {
    return this.output === null;
  }

  build() {
    const button = (text, pressed, more = {}) => h("button", { type: "button", onclick: pressed, ...more }, text);
    const keys = `viewer-keys-${(viewers += 1)}`;
    this.stage = h("div", { class: "stage one", tabindex: "0", role: "group", "aria-label": `Picture of ${this.step.name}`, "aria-describedby": keys,
      onkeydown: (event) => this.key(event), onpointerdown: (event) => this.drag(event), onpointermove: (event) => this.drag(event),
      ondragstart: (event) => event.preventDefault() });
    this.said = h("span", { role: "status" });
    this.more = h("span", { class: "row" });
    this.words = h("div", { class: "row between small soft" }, this.said, this.more);
    this.play = button("Play", () => this.toggle());
    this.fps = h("input", { type: "number", min: 1, max: 60, value: 12, "aria-label": "Pictures a second" });
    this.loop = h("input", { type: "checkbox", checked: true });
    this.zoom = button("Actual pixels", () => this.setZoom(!this.stage.classList.contains("actual")), { "aria-pressed": "false" });
    this.controls = h("div", { class: "row", hidden: true },
      button("◀", () => this.stepBy(-1), { "aria-label": "Previous frame" }), this.play, button("▶", () => this.stepBy(1), { "aria-label": "Next frame" }),
      this.fps, h("span", { class: "small soft" }, "pictures a second"), h("label", { class: "row small" }, this.loop, "again and again"), this.zoom);

    this.stops = h("input", { type: "range", min: -STOPS_MAX, max: STOPS_MAX, step: 0.25, value: 0, oninput: () => this.expose(Number(this.stops.value)) });
    this.stopsSaid = h("span", { class: "small" });
    this.soft = h("input", { type: "checkbox", onchange: () => this.expose(this.tone.stops) });
    this.exposure = h("div", { class: "row", hidden: true }, h("label", { class: "row small grow" }, "Exposure", this.stops), this.stopsSaid,
      button("Reset", () => this.expose(0), { "aria-label": "Reset the exposure" }), h("label", { class: "row small" }, this.soft, "soft highlights"));

    this.looks = h("select", { onchange: () => this.setLook(this.looks.value) }, LOOKS.map(([value, text]) => h("option", { value }, text)));
    this.otherFrame = h("input", { type: "number", placeholder: "same", class: "short", onchange: () => this.compare() });
    this.otherJob = h("input", { value: this.job, class: "mono", spellcheck: "false", onchange: () => this.compare() });
    this.share = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "Where one picture ends and the other begins", oninput: () => this.wipe() });
    this.gain = h("select", { "aria-label": "How much stronger the difference is shown", onchange: () => this.wipe() },
      [1, 4, 16, 64].map((times) => h("option", { value: times }, `× ${times}`)));
    this.with = h("span", { class: "row grow", hidden: true }, h("label", { class: "row small" }, "with frame", this.otherFrame),
      h("label", { class: "row small" }, "of job", this.otherJob), this.share, this.gain);
    this.comparing = h("div", { class: "row", hidden: true }, h("label", { class: "row small" }, "Compare", this.looks), this.with);

    this.element = h("div", { class: "viewer" }, this.stage, this.controls, this.exposure, this.comparing, this.words,
      h("p", { class: "small soft", id: keys }, "Keys on the picture: ← → or , . frames, Home and End, Space plays, + and − exposure, 0 resets it, z pixels as they are, c compares."),
      this.thumbs.element);
    this.expose(0);
    this.wipe();
  }

  /** Shows the output of a task, or of the first after it that has one. */
  async open(task) {
    this.stop();
    const output = await this.reel.first(task);
    if (output) await this.show(output);
  }

  /** New outputs have come. */
  async refresh() {
    this.reel.forget();
    this.other?.reel.forget();
    if (!this.empty) {
      await this.thumbs.refresh();
      return;
    }
    await this.open(0);
    if (this.empty) fill(this.stage, h("p", { class: "soft" }, OVER.includes(this.step.state) ? "This step made no output." : "No output yet."));
  }

  async show(output) {
    this.output = output;
    const wanted = [this.pictures.get(this.reel, output)];
    this.wanted = wanted;
    this.pictures.hold([...this.shown, ...wanted]);
    const second = this.look === "one" ? null : await this.second(output);
    // Another one was asked for meanwhile, or another to compare with, or the page is left.
    const late = () => this.wanted !== wanted || this.upkeep.signal.aborted;
    if (late()) return;
    if (second) wanted.push(second);
    this.pictures.hold([...this.shown, ...wanted]);
    await Promise.all(wanted.map((picture) => picture.coming));
    if (late()) return;
    this.shown = wanted;
    this.pictures.hold(wanted);
    this.draw();
    this.ahead(output.task);
    if (!this.playing) await this.thumbs.mark(output.task);
  }

  /** The picture that it is compared with. */
  async second(output) {
    const { reel, task } = this.other;
    const wanted = task ?? taskOf(reel.step.frames, output.frame);
    const found = wanted === null ? null : await reel.first(wanted);
    return found && found.task === wanted ? this.pictures.get(reel, found) : null;
  }

  draw() {
    const [picture] = this.shown;
    const { output } = picture;
    const still = picture.kind === "shown" || picture.kind === "light";
    hide(this.controls, !still);
    hide(this.comparing, !still);
    hide(this.exposure, !this.shown.some((each) => each.kind === "light"));
    fill(this.stage, this.shown.map((each, at) => h("div", { class: "side" }, each.element(this.tone, this.canvases[at]))),
      this.look !== "one" && this.shown.length < 2 && h("p", { class: "side soft" }, "There is no such frame to compare with."));
    const address = this.reel.address(output);
    const about = [`frame ${number(output.frame)}`, output.name, `${output.width}×${output.height}`, bytes(output.size_bytes),
      `${seconds(output.elapsed_ms / 1000)} on ${output.device || "an unknown device"}`];
    if (picture.kind === "light" && picture.sides[0] < output.width) about.push(`shown at ${picture.sides.join("×")}`);
    this.said.setAttribute("aria-live", this.playing ? "off" : "polite");
    this.said.textContent = about.join(" · ");
    fill(this.more, h("a", { href: address, download: output.name.split("/").pop() }, "Download"),
      h("span", { class: "mono", title: "SHA-256" }, output.sha256.slice(0, 12)));
  }

  /** Loads what comes next, as far as it is known. */
  ahead(task) {
    let next = task + 1;
    let pixels = 0;
    // Half of what is kept is for what was.
    for (let count = 0; count < AHEAD && pixels < PIXELS_MAX / 2; count += 1) {
      const output = this.reel.known(next);
      if (!output) break;
      if (["shown", "light"].includes(kindOf(output.name))) pixels += this.pictures.get(this.reel, output).pixels;
      // The same frame of another job goes along.
      const same = this.look !== "one" && this.other?.task === null ? taskOf(this.other.reel.step.frames, output.frame) : null;
      const beside = same === null ? null : this.other.reel.known(same);
      if (beside?.task === same) pixels += this.pictures.get(this.other.reel, beside).pixels;
      next = output.task + 1;
    }
  }

  async stepBy(by) {
    this.stop();
    await this.move(by).catch(noteProblem);
  }

  async move(by) {
    if (this.empty) return;
    const { task } = this.output;
    const output = by > 0 ? await this.reel.first(task + 1) : await this.reel.before(task);
    if (output) await this.show(output);
  }

  toggle() {
    if (this.playing) {
      this.stop();
      return;
    }
    if (this.empty) return;
    this.play.textContent = "Pause";
    const playing = { timer: null };
    this.playing = playing;
    const turn = async () => {
      const begun = performance.now();
      try {
        const next = (await this.reel.first(this.output.task + 1)) ?? (this.loop.checked ? await this.reel.first(0) : null);
        if (this.playing !== playing) return;
        if (!next) {
          this.stop();
          return;
        }
        // Waits for a picture that is not there yet instead of passing over it.
        await this.show(next);
      } catch (problem) {
        this.stop();
        noteProblem(problem);
        return;
      }
      if (this.playing !== playing) return;
      const pause = 1000 / Math.min(60, Math.max(1, Number(this.fps.value) || 12));
      playing.timer = setTimeout(turn, Math.max(0, pause - (performance.now() - begun)));
    };
    turn();
  }

  stop() {
    if (!this.playing) return;
    clearTimeout(this.playing.timer);
    this.playing = null;
    this.play.textContent = "Play";
    if (this.output && !this.upkeep.signal.aborted) this.thumbs.mark(this.output.task).catch(noteProblem);
  }

  expose(stops) {
    const bounded = Math.min(STOPS_MAX, Math.max(-STOPS_MAX, stops));
    this.tone.set(bounded, this.soft.checked);
    this.stops.value = bounded;
    const said = `${bounded > 0 ? "+" : bounded < 0 ? "−" : ""}${Math.abs(bounded).toFixed(2)} stops`;
    this.stopsSaid.textContent = said;
    this.stops.setAttribute("aria-valuetext", said);
    this.shown.forEach((picture, at) => picture.light && picture.paint(this.canvases[at], this.tone));
  }

  setZoom(actual) {
    this.stage.classList.toggle("actual", actual);
    this.zoom.setAttribute("aria-pressed", String(actual));
  }

  setLook(look) {
    const begins = this.look === "one" && look !== "one";
    this.look = look;
    this.looks.value = look;
    this.stage.className = `stage ${look}${this.zoom.getAttribute("aria-pressed") === "true" ? " actual" : ""}`;
    this.with.hidden = look === "one";
    this.share.hidden = look !== "wipe";
    this.gain.hidden = look !== "difference";
    // The frame at hand is held, so that the next one that is looked at is beside it.
    if (begins && this.otherJob.value === this.job) this.otherFrame.value = this.output?.frame ?? "";
    this.wipe();
    return this.compare();
  }

  /** Reads with what it is compared, and shows it. */
  async compare() {
    if (this.empty) return;
    try {
      const job = this.otherJob.value.trim() || this.job;
      // With a window of its own: one frame may stay while the others go far.
      const reel = this.other?.reel.job === job ? this.other.reel : await this.reelOf(job);
      const frame = this.otherFrame.value.trim();
      const task = frame === "" ? null : taskOf(reel.step.frames, Number(frame));
      this.other = { reel, task: frame !== "" && task === null ? -1 : task };
      await this.show(this.output);
    } catch (problem) {
      noteProblem(problem);
    }
  }

  /** The step of this name of a job, or its first. */
  async reelOf(job) {
    const { steps } = await api(`/jobs/${part(job)}`, { signal: this.upkeep.signal });
    const at = Math.max(0, steps.findIndex((step) => step.name === this.step.name));
    return new Reel(job, steps[at], at, this.upkeep.signal);
  }

  wipe() {
    this.stage.style.setProperty("--share", `${this.share.value}%`);
    this.stage.style.setProperty("--gain", this.gain.value);
  }

  /** The border between two pictures follows the pointer. */
  drag(event) {
    if (this.look !== "wipe" || !(event.buttons & 1)) return;
    const { left, width } = this.stage.getBoundingClientRect();
    this.share.value = (100 * (event.clientX - left)) / width;
    this.wipe();
  }

  key(event) {
    if (event.target !== this.stage || event.ctrlKey || event.altKey || event.metaKey || this.empty) return;
    const actual = this.stage.classList.contains("actual");
    const next = LOOKS[(LOOKS.findIndex(([look]) => look === this.look) + 1) % LOOKS.length][0];
    const done = {
      ",": () => this.stepBy(-1),
      ".": () => this.stepBy(1),
      // Pixels as they are may need to be moved.
      ...(actual ? {} : { ArrowLeft: () => this.stepBy(-1), ArrowRight: () => this.stepBy(1) }),
      Home: () => this.open(0),
      End: () => this.reel.before(this.step.tasks.total).then((last) => last && this.show(last)),
      " ": () => this.toggle(),
      "+": () => this.expose(this.tone.stops + 0.25),
      "=": () => this.expose(this.tone.stops + 0.25),
      "-": () => this.expose(this.tone.stops - 0.25),
      0: () => this.expose(0),
      z: () => this.setZoom(!actual),
      c: () => this.setLook(next),
    }[event.key];
    if (!done) return;
    event.preventDefault();
    Promise.resolve(done()).catch(noteProblem);
  }
}
