// Pictures of frames: as the browser shows them, or light of OpenEXR files, painted with an exposure. What is loaded is bounded.

import { h, problemBox } from "./lib.js";

const SHOWN = /\.(png|jpe?g|gif|webp|avif)$/i;
const PLAYED = /\.(mp4|webm|mov|m4v)$/i;
const LIGHT = /\.exr$/i;

/** Pixels kept loaded, of four bytes each, so 32 MiB: four frames of 1920×1080, or nine previews of 1280×720. */
export const PIXELS_MAX = 8 << 20;
/** Kept all the same: two that are compared, and those that come next. */
const KEPT_MIN = 4;
/** Previews' memory that is kept to be used again. */
const SPARE_MAX = 4;
/** Most pixels of a file that the browser is asked to show itself, 512 MiB decoded: panoramas of 16384×8192 are no more. */
const SHOWN_PIXELS_MAX = 128 << 20;
/** Largest preview that workers make. */
const SIDE_MAX = 1280;

/** What a page does with a file of this name. */
export function kindOf(name) {
  return SHOWN.test(name) ? "shown" : LIGHT.test(name) ? "light" : PLAYED.test(name) ? "played" : "other";
}

/** Pictures that are loaded, the most lately used last. */
export class Pictures {
  constructor(signal) {
    this.signal = signal;
    this.loaded = new Map();
    this.held = [];
    this.spare = new Spare();
  }

  /** These are looked at or waited for, and not let go, however large they are. */
  hold(pictures) {
    this.held = pictures;
  }

  /** The picture of an output of a reel; it begins to load. */
  get(reel, output) {
    const key = `${reel.job} ${reel.at} ${output.task} ${output.sha256}`;
    let picture = this.loaded.get(key);
    this.loaded.delete(key);
    picture ??= new Picture(reel, output, this.signal, this.spare);
    // One that failed is tried again when it is asked for again.
    if (!picture.problem || picture.kind === "other") this.loaded.set(key, picture);
    let pixels = 0;
    let count = 0;
    for (const [each, other] of [...this.loaded].reverse()) {
      pixels += other.pixels;
      count += 1;
      if (pixels <= PIXELS_MAX || count <= KEPT_MIN || this.held.includes(other)) continue;
      this.loaded.delete(each);
      if (other.light) this.spare.give(other.light.memory);
    }
    return picture;
  }
}

/** Memory of previews that were let go, for those that come: else a flip-book leaves some megabytes behind with each frame. */
class Spare {
  memory = [];

  take(size) {
    const at = this.memory.findIndex((each) => each.length === size);
    return at < 0 ? new Uint8Array(size) : this.memory.splice(at, 1)[0];
  }

  give(memory) {
    this.memory.push(memory);
    if (this.memory.length > SPARE_MAX) this.memory.shift();
  }
}

class Picture {
  constructor(reel, output, signal, spare) {
    this.kind = kindOf(output.name);
    this.output = output;
    this.words = `Frame ${output.frame} of ${reel.step.name}`;
    this.address = reel.address(output);
    this.ready = false;
    this.problem = null;
    /** Width and height of what is shown. */
    this.sides = [output.width, output.height];
    if (this.kind === "light") {
      const share = Math.min(1, SIDE_MAX / Math.max(1, ...this.sides));
      this.sides = this.sides.map((side) => Math.max(1, Math.floor(side * share)));
      this.coming = this.readLight(reel.address(output, "/preview"), signal, spare);
    } else if (this.kind === "shown" && this.sides[0] * this.sides[1] > SHOWN_PIXELS_MAX) {
      this.coming = Promise.reject(new Error(`${output.name} has ${this.sides.join("×")} pixels, more than a page shows: download it.`));
      // Nothing of it is loaded.
      this.sides = [0, 0];
    } else if (this.kind === "shown") {
      this.image = h("img", { src: this.address, alt: this.words });
      this.coming = this.image.decode().catch(() => { throw new Error("The picture can't be loaded, or the browser can't read it."); });
    } else this.coming = Promise.resolve();
    this.pixels = this.sides[0] * this.sides[1];
    this.coming = this.coming.then(() => { this.ready = true; }, (problem) => { this.problem = problem; });
  }

  async readLight(address, signal, spare) {
    const answer = await fetch(address, { signal });
    if (!answer.ok) {
      const read = await answer.json().catch(() => ({}));
      throw Object.assign(new Error(read.detail ?? "The preview can't be loaded."), { hint: read.hint ?? "" });
    }
    this.light = await unpack(new Uint8Array(await answer.arrayBuffer()), spare);
    this.sides = [this.light.width, this.light.height];
  }

  /** An element that shows it, for who looks with this exposure: if it is painted, on this canvas. */
  element(tone, canvas) {
    if (this.problem) return problemBox(this.problem);
    // The one that is loaded is shown at once; where it is shown already, another is made.
    if (this.kind === "shown") return this.image.isConnected ? h("img", { src: this.address, alt: this.words }) : this.image;
    if (this.kind === "played") return h("video", { src: this.address, controls: true, loop: true, "aria-label": this.output.name });
    if (this.kind === "light") {
      canvas.setAttribute("aria-label", this.words);
      const [width, height] = this.sides;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      this.paint(canvas, tone);
      return canvas;
    }
    return h("p", {}, `${this.output.name} is of a kind that browsers don't show: download it.`);
  }

  paint(canvas, tone) {
    const { width, height, texels } = this.light;
    const brush = canvas.getContext("2d");
    const image = easel(brush, width, height);
    const { data } = image;
    const table = tone.table();
    for (let at = 0; at < texels.length; at += 4) {
      const exponent = texels[at + 3] << 8;
      data[at] = table[exponent | texels[at]];
      data[at + 1] = table[exponent | texels[at + 1]];
      data[at + 2] = table[exponent | texels[at + 2]];
      data[at + 3] = 255;
    }
    brush.putImageData(image, 0, 0);
  }
}

let painted = null;

/** Where pixels are painted before they are shown. One for all: a flip-book would leave one of some megabytes behind with each frame. */
function easel(brush, width, height) {
  if (painted?.width !== width || painted.height !== height) painted = brush.createImageData(width, height);
  return painted;
}

/** How light becomes color: so many stops brighter, and white at once or softly. */
export class Tone {
  constructor() {
    this.stops = 0;
    this.soft = false;
  }

  set(stops, soft) {
    this.stops = stops;
    this.soft = soft;
    this.made = null;
  }

  /** The color for each exponent and byte. */
  table() {
    if (this.made) return this.made;
    this.made = new Uint8ClampedArray(1 << 16);
    for (let exponent = 1; exponent < 256; exponent += 1) {
      const unit = 2 ** (exponent - 136 + this.stops);
      for (let byte = 1; byte < 256; byte += 1) this.made[(exponent << 8) | byte] = 255 * srgb(this.soften(byte * unit));
    }
    return this.made;
  }

  /** From half of white on it comes nearer to white, and never there. */
  soften(light) {
    return this.soft && light > 0.5 ? 1 - 0.5 * Math.exp(1 - 2 * light) : light;
  }
}

function srgb(light) {
  return light <= 0.0031308 ? 12.92 * light : 1.055 * Math.min(1, light) ** (1 / 2.4) - 0.055;
}

/**
 * Reads a preview: a PNG of which the fourth channel is no transparency but an exponent. A canvas would multiply the others with
 * it, and some browsers change what is read from a canvas, so it is read here.
 */
async function unpack(file, spare) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let [width, height] = [0, 0];
  const packed = [];
  for (let at = 8; at + 12 <= file.length; ) {
    const size = view.getUint32(at);
    const kind = String.fromCharCode(...file.subarray(at + 4, at + 8));
    if (kind === "IHDR") {
      [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      const [bits, color, , , interlaced] = file.subarray(at + 16, at + 21);
      if (bits !== 8 || color !== 6 || interlaced) throw new Error("The preview is of a kind that no worker makes.");
    } else if (kind === "IDAT") packed.push(file.subarray(at + 8, at + 8 + size));
    at += size + 12;
  }
  if (!width || !height || width > SIDE_MAX || height > SIDE_MAX) throw new Error(`The preview has ${width}×${height} pixels.`);
  const memory = spare.take(height * (1 + width * 4));
  await inflate(packed, memory);
  return { width, height, memory, texels: unfilter(memory, width * 4, height) };
}

/** Fills `bytes` with what is packed in these parts, neither more nor less. */
async function inflate(parts, bytes) {
  const stream = new DecompressionStream("deflate");
  const reader = stream.readable.getReader();
  const writer = stream.writable.getWriter();
  // What fails here fails where it is read, too.
  const written = Promise.all([...parts.map((each) => writer.write(each)), writer.close()]).catch(() => {});
  let filled = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length > bytes.length) throw new Error("The preview has more than its pixels.");
    bytes.set(value, filled);
    filled += value.length;
  }
  await written;
  if (filled < bytes.length) throw new Error("The preview is cut off.");
}

/**
 * Each line of a PNG says how its bytes were foretold from those to the left and above; what is written is what was left to say.
 * The texels take the place of the lines: each is a byte or more before what it is made of.
 */
function unfilter(lines, wide, height) {
  const texels = lines.subarray(0, wide * height);
  let above = new Uint8Array(wide);
  for (let line = 0; line < height; line += 1) {
    const begin = line * (wide + 1);
    const foretell = FILTERS[lines[begin]];
    if (!foretell) throw new Error("The preview is of a kind that no worker makes.");
    const now = texels.subarray(line * wide, (line + 1) * wide);
    for (let x = 0; x < wide; x += 1) {
      now[x] = lines[begin + 1 + x] + (x < 4 ? foretell(0, above[x], 0) : foretell(now[x - 4], above[x], above[x - 4]));
    }
    above = now;
  }
  return texels;
}

const FILTERS = [() => 0, (left) => left, (left, above) => above, (left, above) => (left + above) >> 1, nearest];

/** Of the three, the one nearest to what they foretell together (Paeth). */
function nearest(left, above, corner) {
  const all = left + above - corner;
  const [toLeft, toAbove, toCorner] = [Math.abs(all - left), Math.abs(all - above), Math.abs(all - corner)];
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}
