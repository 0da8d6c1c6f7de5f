// What somebody has in hand while a page changes by itself: what they press, what they have marked, and whether it is to hold still.

/** A press that nobody tells the end of, as of a scrollbar, is over by then. */
const PRESS_MS_MAX = 10_000;

let down = false;
let begun = 0;
/** Those who wait until nothing is pressed. */
let waiting = [];

function settle() {
  if (down) return;
  const all = waiting;
  waiting = [];
  all.forEach((go) => go());
}

function release() {
  if (!down) return;
  down = false;
  // A click comes after its press is over, in the same turn of the browser.
  setTimeout(settle);
}

addEventListener("pointerdown", () => {
  down = true;
  begun = performance.now();
}, true);
for (const end of ["pointerup", "pointercancel", "dragend"]) addEventListener(end, release, true);
// A list to choose from may keep the release to itself. A field that is left by a press changes too, and that press goes on.
for (const end of ["change", "keydown"]) addEventListener(end, (event) => { if (event.target instanceof HTMLSelectElement) release(); }, true);
// Of the window, and not of what loses the focus by the press.
addEventListener("blur", (event) => { if (event.target === window) release(); });
addEventListener("pointermove", (event) => { if (!event.buttons) release(); }, { capture: true, passive: true });

/** Once nothing is pressed: what is drawn anew between a press and its release would not be clicked. */
export function released() {
  if (!down || performance.now() - begun > PRESS_MS_MAX) return Promise.resolve();
  return new Promise((go) => {
    waiting.push(go);
    setTimeout(() => {
      down &&= performance.now() - begun < PRESS_MS_MAX;
      settle();
    }, Math.max(0, begun + PRESS_MS_MAX - performance.now()));
  });
}

/** Where a node is below an element: the places on the way to it. */
function wayTo(element, node) {
  const way = [];
  for (let at = node; at !== element; at = at.parentNode) way.unshift([...at.parentNode.childNodes].indexOf(at));
  return way;
}

/** Remembers what is marked within an element. Gives what marks it again after it was drawn anew, if the same words stand there. */
export function marking(element) {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return () => {};
  const ends = [[selection.anchorNode, selection.anchorOffset], [selection.focusNode, selection.focusOffset]];
  if (!ends.some(([node]) => element.contains(node))) return () => {};
  const known = ends.map(([node, offset]) => ({ node, offset, words: node.textContent, way: element.contains(node) ? wayTo(element, node) : null }));
  return () => {
    const now = known.map(({ node, way }) => (way ? way.reduce((at, place) => at?.childNodes[place], element) : node));
    const fits = (node, at) => node?.textContent === known[at].words && known[at].offset <= (node.data ?? node.childNodes).length;
    if (!now.every(fits)) return;
    selection.setBaseAndExtent(now[0], known[0].offset, now[1], known[1].offset);
  };
}

let still = false;

/** Whether somebody looks at what changes: the page is in front, and they did not ask it to hold still. */
export const looking = () => !document.hidden && !still;

/** Has the page hold still, or go on. Who listens for `looking` is told, as where it comes to the front or goes behind. */
export function holdStill(is) {
  if (still === is) return;
  still = is;
  dispatchEvent(new Event("looking"));
}
document.addEventListener("visibilitychange", () => dispatchEvent(new Event("looking")));
