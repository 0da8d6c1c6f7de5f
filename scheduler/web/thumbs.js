// Thumbnails of a step's outputs, a page of them at a time, however many there are.

import { fill, h, noteProblem, number } from "./lib.js";
import { kindOf } from "./picture.js";

/** On one page: some lines of them, also on a phone. */
const THUMBS = 24;
/** What workers make thumbnails of. */
const PICTURE = /\.(png|jpe?g|exr)$/i;
/** Milliseconds until one that is not there is asked for again: a worker puts it into the store a moment after its frame. */
const AGAIN_MS = [1000, 4000, 15000];

export class Thumbs {
  /** `choose(task)` is called when somebody takes one. */
  constructor(reel, choose) {
    this.reel = reel;
    this.choose = choose;
    this.items = [];
    this.from = 0;
    this.turned = 0;
    this.place = h("div", { class: "thumbs", role: "group", "aria-label": "Thumbnails" });
    const turn = (by) => ({ target }) => {
      if (target.ariaDisabled !== "true") (by < 0 ? this.back() : this.show(this.items.at(-1).task + 1)).catch(noteProblem);
    };
    this.less = h("button", { type: "button", onclick: turn(-1) }, "Earlier frames");
    this.more = h("button", { type: "button", onclick: turn(1) }, "Later frames");
    this.said = h("span", { class: "small soft" });
    this.turns = h("div", { class: "row between", hidden: true }, this.less, this.said, this.more);
    this.element = h("div", {}, this.place, this.turns);
  }

  /** Shows the page that begins with the first output from a task on. */
  async show(task) {
    const turn = (this.turned += 1);
    const items = await this.reel.list(task, THUMBS + 1);
    // Another page was asked for meanwhile.
    if (turn !== this.turned) return;
    const before = this.items;
    this.next = items.length > THUMBS;
    this.items = items.slice(0, THUMBS);
    this.from = task;
    const same = before.length === this.items.length && before.every((output, at) => output.task === this.items[at].task);
    if (same) this.drawMark();
    else this.draw();
    this.drawTurns();
  }

  /** Shows the page before. */
  async back() {
    const { items, more } = await this.reel.listBefore(this.from, THUMBS);
    await this.show(more ? items[0].task : 0);
  }

  /** Shows which one is looked at, on a page of its own if need be. */
  async mark(task) {
    this.marked = task;
    const last = this.items.at(-1)?.task ?? -1;
    const here = task >= (this.items[0]?.task ?? 0) && task <= last;
    // One of the first stands among them: those before it may be done later.
    if (!here) await this.show(task < THUMBS ? 0 : task);
    else this.drawMark();
  }

  /** New outputs may have come: after those that are shown, or between them, where a frame took longer than the next ones. */
  async refresh() {
    const whole = this.items.length === THUMBS && this.items.at(-1).task === this.from + THUMBS - 1;
    if (!whole || !this.next) await this.show(this.from);
  }

  /** The thumbnail of an output; while it has none, the kind of its file. Of a video the browser shows the first frame itself. */
  picture(output) {
    if (kindOf(output.name) === "played") {
      return h("video", { src: this.reel.address(output), preload: "metadata", muted: true, "aria-hidden": "true" });
    }
    const dot = output.name.lastIndexOf(".");
    const none = h("span", { class: "none soft" }, dot < 0 ? "–" : output.name.slice(dot + 1, dot + 6));
    const again = PICTURE.test(output.name) ? [...AGAIN_MS] : [];
    const ask = (loading) => {
      const picture = h("img", { src: this.reel.address(output, "/thumbnail"), alt: "", loading });
      picture.addEventListener("load", () => none.replaceWith(picture));
      picture.addEventListener("error", () => {
        picture.replaceWith(none);
        // Nobody looks at it any more once another page is drawn.
        if (again.length) setTimeout(() => none.isConnected && ask("eager"), again.shift());
      });
      return picture;
    };
    return ask("lazy");
  }

  draw() {
    fill(this.place, this.items.map((output) => {
      const picture = this.picture(output);
      const button = h("button", { type: "button", class: "thumb", "aria-label": `Frame ${number(output.frame)}`, onclick: () => this.choose(output.task) },
        picture, h("span", { class: "small" }, number(output.frame)));
      button.dataset.task = output.task;
      return button;
    }));
    this.drawMark();
  }

  drawTurns() {
    const first = this.items[0];
    this.turns.hidden = !this.next && !(this.from > 0);
    // Not disabled: who stands on it with the keyboard would fall off.
    this.less.ariaDisabled = String(!(this.from > 0));
    this.more.ariaDisabled = String(!this.next);
    this.said.textContent = first ? `frames ${number(first.frame)} – ${number(this.items.at(-1).frame)}` : "";
  }

  drawMark() {
    for (const button of this.place.children) {
      if (Number(button.dataset.task) === this.marked) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }
}
