// How long something takes yet, from how much of it was done lately.

/** What was done in so long tells the pace, once that is long enough. */
const PACE_MS = 120_000;
const PACE_MS_MIN = 10_000;
/** How much sooner and later it may be over than that pace says. */
const SOONEST = 0.8;
const LATEST = 1.3;

export class Pace {
  seen = [];

  /** What comes now has a pace of its own. */
  forget() {
    this.seen = [];
  }

  /** So many are done as of now, in milliseconds. */
  see(now, done) {
    if (this.seen.at(-1)?.done !== done) this.seen.push({ at: now, done });
    while (this.seen.length > 2 && now - this.seen[1].at > PACE_MS) this.seen.shift();
  }

  /** Seconds until so many more are done, at the least and at the most; null: it is not known yet. */
  left(now, count) {
    const [first] = this.seen;
    const done = this.seen.at(-1).done - first.done;
    if (now - first.at <= PACE_MS_MIN || done <= 0) return null;
    const rest = (count * (now - first.at)) / 1000 / done;
    return [rest * SOONEST, rest * LATEST];
  }
}
