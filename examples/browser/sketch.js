// @ts-check
/// <reference lib="dom" />
// A canvas to draw a digit on. What the net sees is drawn anew from the strokes, as MNIST's digits were made: fitted
// into 20x20 pixels, lines of one width, the centre of mass in the middle of 28x28.

export const SIDE = 28;
const BOX = 20;

/** Width of lines on the net's 28 pixels, and on the canvas's side of 1. */
const LINE = 2.2;
const INK = 0.075;

/** A stroke: points on a square of 1. @typedef {{ x: number, y: number }[]} Stroke */

/**
 * @param {CanvasRenderingContext2D} context
 * @param {readonly Stroke[]} strokes
 */
function trace(context, strokes) {
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  for (const stroke of strokes) {
    stroke.forEach(({ x, y }, i) => i === 0 ? context.moveTo(x, y) : context.lineTo(x, y));
    // A tap alone makes a dot.
    const [first] = stroke;
    if (first !== undefined && stroke.length === 1) context.lineTo(first.x + 1e-3, first.y);
  }
  context.stroke();
}

/**
 * The strokes as an image of 28x28 numbers from 0 (paper) to 1 (ink).
 *
 * @param {readonly Stroke[]} strokes
 */
export function toImage(strokes) {
  const points = strokes.flat();
  const xs = points.map(({ x }) => x);
  const ys = points.map(({ y }) => y);
  const left = Math.min(...xs);
  const top = Math.min(...ys);
  const width = Math.max(...xs) - left;
  const height = Math.max(...ys) - top;
  // A dot stays one.
  const scale = (BOX - LINE) / Math.max(width, height, 0.1);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = /** @type {CanvasRenderingContext2D} */ (
    canvas.getContext("2d", { willReadFrequently: true })
  );
  /**
   * @param {number} shiftX
   * @param {number} shiftY
   */
  const draw = (shiftX, shiftY) => {
    context.clearRect(0, 0, SIDE, SIDE);
    context.lineWidth = LINE;
    const moved = strokes.map((stroke) =>
      stroke.map(({ x, y }) => ({
        x: SIDE / 2 + shiftX + scale * (x - left - width / 2),
        y: SIDE / 2 + shiftY + scale * (y - top - height / 2),
      }))
    );
    trace(context, moved);
    const { data } = context.getImageData(0, 0, SIDE, SIDE);
    return Float32Array.from({ length: SIDE * SIDE }, (_, i) => (data[4 * i + 3] ?? 0) / 255);
  };
  const centred = draw(0, 0);
  let sum = 0, sumX = 0, sumY = 0;
  centred.forEach((ink, i) => {
    sum += ink;
    sumX += ink * (i % SIDE + 0.5);
    sumY += ink * (Math.floor(i / SIDE) + 0.5);
  });
  return sum === 0 ? centred : draw(SIDE / 2 - sumX / sum, SIDE / 2 - sumY / sum);
}

/**
 * Shows an image, pixel by pixel, in the colour of the canvas's text.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayLike<number>} image from 0 to 1
 * @param {number} [scale] the side of a pixel
 */
export function showImage(canvas, image, scale = 1) {
  canvas.width = canvas.height = scale * SIDE;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = getComputedStyle(canvas).color;
  context.scale(scale, scale);
  for (let i = 0; i < SIDE * SIDE; i++) {
    context.globalAlpha = image[i] ?? 0;
    context.fillRect(i % SIDE, Math.floor(i / SIDE), 1, 1);
  }
}

/** Lets the user draw on a canvas. */
export class Sketch {
  #canvas;
  #onChange;
  /** @type {Stroke[]} */
  #strokes = [];
  /** @type {Stroke | null} */
  #stroke = null;
  /** What lies there in place of strokes. @type {Float32Array | null} */
  #image = null;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(strokes: readonly Stroke[]) => void} onChange called while drawing
   */
  constructor(canvas, onChange) {
    this.#canvas = canvas;
    this.#onChange = onChange;
    canvas.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      this.#image = null;
      this.#stroke = [];
      this.#strokes.push(this.#stroke);
      this.#extend(event);
    });
    canvas.addEventListener("pointermove", (event) => this.#extend(event));
    for (const end of /** @type {const} */ (["pointerup", "pointercancel"])) {
      canvas.addEventListener(end, () => this.#stroke = null);
    }
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /**
   * Puts an image in place of what is there, or nothing.
   *
   * @param {Float32Array | null} image
   */
  show(image) {
    this.#image = image;
    this.#strokes = [];
    this.#stroke = null;
    this.draw();
  }

  /** @param {PointerEvent} event */
  #extend(event) {
    if (this.#stroke === null) return;
    const { left, top, width, height } = this.#canvas.getBoundingClientRect();
    const events = event.getCoalescedEvents?.() ?? [];
    for (const { clientX, clientY } of events.length > 0 ? events : [event]) {
      this.#stroke.push({ x: (clientX - left) / width, y: (clientY - top) / height });
    }
    this.draw();
    this.#onChange(this.#strokes);
  }

  /** Draws what is there anew: after a change of size or colours, too. */
  draw() {
    const canvas = this.#canvas;
    const size = Math.round(canvas.clientWidth * devicePixelRatio);
    if (this.#image !== null) return showImage(canvas, this.#image, Math.ceil(size / SIDE));
    canvas.width = canvas.height = size;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.scale(size, size);
    context.strokeStyle = getComputedStyle(canvas).color;
    context.lineWidth = INK;
    trace(context, this.#strokes);
  }
}
