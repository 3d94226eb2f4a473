// @ts-check
/// <reference lib="dom" />
// A line chart that grows: SVG, so that style.css colours it in light and dark.

const NS = "http://www.w3.org/2000/svg";
const MARGIN = { left: 44, right: 12, top: 10, bottom: 24 };

/** Points kept of a curve; neighbours are merged when there are more. */
const MOST = 400;

/**
 * A curve: a name that is also its class in style.css.
 * @typedef {{ name: string, label: string }} Curve
 */

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {string} [text]
 */
function element(name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/**
 * Round numbers from 0 to about `max`, at most `count` steps apart.
 *
 * @param {number} max
 * @param {number} count
 */
function ticks(max, count) {
  const rough = max / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((f) => f * power >= rough) ?? 10);
  return Array.from({ length: Math.floor(max / step + 1e-9) + 1 }, (_, i) => i * step);
}

/** @param {number} n */
function short(n) {
  return n >= 1000 ? `${Number((n / 1000).toPrecision(3))}k` : String(Number(n.toPrecision(3)));
}

/** Curves over the number of images trained on. */
export class Chart {
  #svg;
  #readout;
  #curves;
  #format;
  #top;
  /** @type {Map<string, { x: number, y: number }[]>} */
  #points = new Map();
  /** @type {number | null} */
  #pointer = null;
  #asked = false;

  /**
   * @param {SVGSVGElement} svg
   * @param {HTMLElement} readout says the values under the pointer, else the last ones
   * @param {{ curves: readonly Curve[], format: (y: number) => string, top: number | null }} options
   *   `top` is the greatest y; null: that of the points
   */
  constructor(svg, readout, { curves, format, top }) {
    this.#svg = svg;
    this.#readout = readout;
    this.#curves = curves;
    this.#format = format;
    this.#top = top;
    this.clear();
    new ResizeObserver(() => this.#ask()).observe(svg);
    const point = (/** @type {PointerEvent} */ event) => {
      this.#pointer = event.clientX - svg.getBoundingClientRect().left;
      this.#ask();
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", () => {
      this.#pointer = null;
      this.#ask();
    });
  }

  /** Forgets all points. */
  clear() {
    for (const { name } of this.#curves) this.#points.set(name, []);
    this.#ask();
  }

  /**
   * Adds a point; what is no finite number has no place on the chart.
   *
   * @param {string} curve
   * @param {number} x
   * @param {number} y
   */
  add(curve, x, y) {
    if (!Number.isFinite(y)) return;
    const points = this.#points.get(curve) ?? [];
    points.push({ x, y });
    if (points.length >= MOST) {
      const half = [];
      for (let i = 0; i + 1 < points.length; i += 2) {
        const a = /** @type {{ x: number, y: number }} */ (points[i]);
        const b = /** @type {{ x: number, y: number }} */ (points[i + 1]);
        half.push({ x: b.x, y: (a.y + b.y) / 2 });
      }
      this.#points.set(curve, half);
    }
    this.#ask();
  }

  /** Draws at the next frame, once for all that has changed. */
  #ask() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#draw();
    });
  }

  #draw() {
    const { width, height } = this.#svg.getBoundingClientRect();
    const all = [...this.#points.values()].flat();
    const right = Math.max(1000, ...all.map((p) => p.x));
    const top = this.#top ??
      (all.length === 0 ? 2.5 : 1.05 * Math.max(0.1, ...all.map((p) => p.y)));
    const inner = {
      width: Math.max(1, width - MARGIN.left - MARGIN.right),
      height: Math.max(1, height - MARGIN.top - MARGIN.bottom),
    };
    const toX = (/** @type {number} */ x) => MARGIN.left + inner.width * x / right;
    const toY = (/** @type {number} */ y) => MARGIN.top + inner.height * (1 - y / top);
    const drawn = [];
    for (const y of ticks(top, 4)) {
      const at = toY(y);
      drawn.push(
        element("line", {
          class: y === 0 ? "axis" : "grid",
          x1: MARGIN.left,
          x2: width - MARGIN.right,
          y1: at,
          y2: at,
        }),
        element("text", { x: MARGIN.left - 8, y: at, class: "tick y" }, this.#format(y)),
      );
    }
    for (const x of ticks(right, inner.width < 360 ? 4 : 6)) {
      drawn.push(
        element("text", { x: toX(x), y: height - 6, class: "tick x" }, short(x)),
      );
    }
    for (const { name } of this.#curves) {
      const points = this.#points.get(name) ?? [];
      const path = points.map(({ x, y }) => `${toX(x).toFixed(1)},${toY(y).toFixed(1)}`);
      drawn.push(element("polyline", { class: `curve ${name}`, points: path.join(" ") }));
      const last = points.at(-1);
      if (last !== undefined) {
        drawn.push(
          element("circle", { class: `end ${name}`, cx: toX(last.x), cy: toY(last.y), r: 3.5 }),
        );
      }
    }
    const at = this.#pointer === null
      ? right
      : Math.max(0, right * (this.#pointer - MARGIN.left) / inner.width);
    if (this.#pointer !== null && all.length > 0) {
      const x = toX(Math.min(at, right));
      const ends = { x1: x, x2: x, y1: MARGIN.top, y2: height - MARGIN.bottom };
      drawn.push(element("line", { class: "cursor", ...ends }));
    }
    this.#svg.replaceChildren(...drawn);
    this.#say(at);
  }

  /**
   * Writes the values at `at` beside the names of the curves.
   *
   * @param {number} at
   */
  #say(at) {
    this.#readout.replaceChildren(...this.#curves.map(({ name, label }) => {
      const points = this.#points.get(name) ?? [];
      const before = points.findLast(({ x }) => x <= at) ?? points[0];
      const item = document.createElement("span");
      item.className = `key ${name}`;
      const value = document.createElement("b");
      value.textContent = before === undefined ? "–" : this.#format(before.y);
      item.append(label, " ", value);
      return item;
    }));
  }
}
