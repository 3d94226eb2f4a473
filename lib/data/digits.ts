/**
 * Handwritten-looking digits, computed: strokes along smooth curves, as pens draw them, bent, slanted,
 * turned and scaled at random, then inked into 28x28 pixels and centred as MNIST's are.
 * @module
 */
import type { KeyedRandom } from "./keyed_random.ts";

/** Side of the images. */
export const SIDE = 28;

/** Longest side of the ink, as in MNIST. */
const BOX = 20;

/** Points x and y in turn. */
type Curve = readonly number[];

/**
 * The ways to write every digit. A way is a list of smooth curves between `;`, each a list of points
 * "x y" on a square of 100, y downwards; a curve that begins where another ends makes a corner.
 */
const WAYS: readonly (readonly string[])[] = [
  [
    "55 2, 25 15, 10 50, 22 86, 50 99, 78 84, 90 50, 78 15, 52 2",
    "62 5, 35 10, 14 45, 20 85, 48 98, 76 80, 84 42, 66 8, 40 6, 32 12",
  ],
  [
    "50 0, 50 50, 50 100",
    "52 0, 49 50, 50 100",
    "30 24, 42 14, 52 0; 52 0, 52 50, 51 100",
    "28 22, 42 13, 52 0; 52 0, 51 99; 26 100, 51 99, 78 100",
  ],
  [
    "12 24, 24 6, 50 0, 76 10, 80 32, 62 60, 36 82, 8 98; 8 98, 50 96, 94 98",
    "14 20, 40 0, 74 8, 76 34, 56 66, 30 90, 12 92, 16 78, 36 78, 62 94, 94 90",
    "10 16, 36 2, 70 4, 82 24, 66 54, 38 78, 12 96; 12 96, 40 88, 66 96, 92 92",
  ],
  [
    "14 12, 40 0, 72 6, 76 26, 60 42, 38 47; 38 47, 70 52, 86 72, 70 94, 40 100, 10 88",
    "18 4, 50 0, 76 14, 66 36, 42 46, 70 54, 82 76, 62 97, 30 98, 10 86",
    "20 14, 44 0, 66 8, 66 28, 44 44; 44 44, 68 56, 68 84, 44 100, 14 94",
    "14 2, 48 2, 80 2; 80 2, 58 22, 42 40; 42 40, 72 46, 84 70, 64 96, 32 99, 10 88",
  ],
  [
    "22 2, 16 28, 10 54; 10 54, 50 54, 92 50; 76 6, 74 50, 72 100",
    "64 0, 36 32, 6 64; 6 64, 50 65, 94 62; 66 28, 64 64, 62 100",
    "68 100, 70 50, 72 0; 72 0, 42 30, 10 62; 10 62, 50 64, 92 62",
    "24 4, 14 34, 24 52, 52 52, 80 40; 84 2, 78 46, 70 100",
  ],
  [
    "86 2, 56 2, 28 4; 28 4, 24 24, 20 44; 20 44, 52 36, 80 52, 82 76, 62 96, 34 100, 8 90",
    "22 6, 20 26, 18 46; 18 46, 52 40, 78 56, 78 80, 56 98, 28 98, 8 88; 22 5, 52 5, 84 2",
    "84 4, 52 4, 30 10, 24 32, 46 44, 74 58, 76 82, 50 100, 14 92",
  ],
  [
    "74 4, 44 22, 22 52, 20 80, 42 99, 70 92, 80 72, 62 56, 38 62, 22 80",
    "58 0, 34 30, 20 66, 30 94, 56 99, 76 84, 72 64, 50 58, 28 70, 22 82",
    "40 0, 26 36, 20 72, 38 98, 66 94, 78 74, 64 58, 40 60, 24 74",
    "66 0, 42 28, 24 60, 22 84, 38 98, 60 90, 70 72, 56 66, 36 76, 28 90",
    "80 0, 50 18, 26 46, 14 74, 28 96, 58 94, 76 76, 62 66, 38 76, 26 90",
    "30 0, 26 40, 24 76, 36 97, 58 92, 66 76, 52 68, 34 78, 28 88",
  ],
  [
    "10 4, 50 4, 90 2; 90 2, 66 36, 50 68, 40 100",
    "6 12, 30 4, 60 6, 84 4; 84 4, 78 30, 66 60, 56 100",
    "8 20, 12 6; 12 6, 50 8, 88 4; 88 4, 66 42, 54 70, 46 100",
    "12 4, 50 4, 88 4; 88 4, 64 40, 48 72, 40 100; 30 52, 56 50, 82 48",
  ],
  [
    "80 16, 58 0, 28 6, 22 26, 46 44, 74 62, 80 84, 54 100, 24 88, 24 68, 50 48, 74 30, 82 14",
    "50 46, 28 34, 28 10, 52 0, 74 12, 72 34, 50 46; 50 46, 24 62, 20 86, 48 100, 78 88, 78 64, 50 46",
    "74 10, 48 0, 26 16, 40 40, 66 58, 74 84, 46 100, 22 84, 36 60, 62 40, 76 14",
    "84 8, 60 0, 34 10, 34 30, 54 46, 64 66, 54 92, 32 100, 20 84, 36 62, 66 40, 86 10",
    "80 6, 52 4, 30 14, 32 32, 56 52, 68 74, 56 96, 36 96, 32 78, 50 54, 74 30, 90 8",
    "48 42, 26 28, 34 6, 60 0, 76 16, 66 36, 46 46, 26 66, 26 90, 50 100, 66 84, 62 62, 44 40",
  ],
  [
    "80 16, 54 0, 24 14, 20 38, 42 52, 70 40, 80 14; 80 14, 78 54, 72 100",
    "78 22, 54 2, 26 14, 24 38, 50 48, 74 32, 79 12; 79 12, 80 52, 66 88, 38 100, 18 92",
    "74 14, 44 2, 22 22, 34 46, 60 42, 76 18, 74 50, 62 80, 54 100",
    "76 8, 50 4, 28 22, 34 38, 58 34, 78 10; 78 10, 64 54, 50 100",
    "70 10, 44 2, 24 18, 28 36, 52 38, 70 22; 78 0, 70 40, 64 72, 60 100",
  ],
];

let curves: readonly (readonly (readonly Curve[])[])[] | null = null;

/** Steps between two points of a curve: no step is longer than about two pixels. */
const STEPS = 5;

/** Points on the smooth curve through `points` (a Catmull-Rom spline), on a square of 1. */
function smooth(points: readonly (readonly [number, number])[]): Curve {
  const at = (i: number): readonly [number, number] =>
    points[Math.max(0, Math.min(points.length - 1, i))]!;
  const curve: number[] = [];
  for (let i = 0; i + 1 < points.length; i++) {
    for (let step = i === 0 ? 0 : 1; step <= STEPS; step++) {
      const t = step / STEPS;
      for (const axis of [0, 1] as const) {
        const [a, b, c, d] = [at(i - 1)[axis], at(i)[axis], at(i + 1)[axis], at(i + 2)[axis]];
        const value = 2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t ** 2 +
          (3 * (b - c) + d - a) * t ** 3;
        curve.push(value / 200);
      }
    }
  }
  return curve;
}

function parse(way: string): Curve[] {
  return way.split(";").map((curve) =>
    smooth(
      curve.split(",").map((point) => {
        const [x, y] = point.trim().split(" ");
        return [Number(x), Number(y)] as const;
      }),
    )
  );
}

/** Bends, slants, turns and scales a way at random; sizes are in pixels, places are not set. */
function distort(way: readonly Curve[], random: KeyedRandom): Float64Array[] {
  // Slow waves move points that are near each other alike, so that corners stay closed.
  const waves = [0, 1, 2].map(() => ({
    x: 0.045 * random.normal(),
    y: 0.045 * random.normal(),
    fx: 4 * random.normal(),
    fy: 4 * random.normal(),
    phase: 2 * Math.PI * random.uniform(),
  }));
  const width = 0.8 * Math.exp(0.3 * random.normal());
  const slant = 0.15 + 0.25 * random.normal();
  const angle = 0.15 * random.normal();
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  return way.map((curve) => {
    const bent = new Float64Array(curve.length);
    for (let i = 0; i < curve.length; i += 2) {
      let x = curve[i]! - 0.5;
      let y = curve[i + 1]! - 0.5;
      for (const wave of waves) {
        const move = Math.sin(wave.fx * x + wave.fy * y + wave.phase);
        x += wave.x * move;
        y += wave.y * move;
      }
      x = width * x - slant * y;
      bent[i] = cos * x - sin * y;
      bent[i + 1] = sin * x + cos * y;
    }
    return bent;
  });
}

/** Inks the pixels near the line from (x0, y0) to (x1, y1): full within `radius`, none a pixel further. */
function line(
  ink: Float64Array,
  x0: number,
  y0: number,
  x1: number,
  y1: number,
  radius: number,
): void {
  const reach = radius + 1;
  const dx = x1 - x0;
  const dy = y1 - y0;
  const length = dx * dx + dy * dy;
  const left = Math.max(0, Math.ceil(Math.min(x0, x1) - reach));
  const right = Math.min(SIDE - 1, Math.floor(Math.max(x0, x1) + reach));
  const top = Math.max(0, Math.ceil(Math.min(y0, y1) - reach));
  const bottom = Math.min(SIDE - 1, Math.floor(Math.max(y0, y1) + reach));
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= right; x++) {
      const along = length === 0 ? 0 : ((x - x0) * dx + (y - y0) * dy) / length;
      const t = along < 0 ? 0 : along > 1 ? 1 : along;
      const value = reach - Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
      const at = y * SIDE + x;
      if (value > ink[at]!) ink[at] = Math.min(1, value);
    }
  }
}

/**
 * Draws a digit into the 28x28 bytes of `target`: white ink on black, 20 pixels high or wide, its
 * centre of mass near the middle.
 */
export function drawDigit(target: Uint8Array, digit: number, random: KeyedRandom): void {
  curves ??= WAYS.map((ways) => ways.map(parse));
  const ways = curves[digit]!;
  const way = distort(ways[random.integer(ways.length)]!, random);
  const radius = 0.35 + 1.15 * random.uniform();
  let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
  let sumX = 0, sumY = 0, count = 0;
  for (const curve of way) {
    for (let i = 0; i < curve.length; i += 2) {
      const x = curve[i]!;
      const y = curve[i + 1]!;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
      sumX += x;
      sumY += y;
      count++;
    }
  }
  const size = BOX - 2 * radius - random.uniform();
  const scale = size / Math.max(right - left, bottom - top);
  const shiftX = (SIDE - 1) / 2 - scale * sumX / count + 0.5 * random.normal();
  const shiftY = (SIDE - 1) / 2 - scale * sumY / count + 0.5 * random.normal();
  const ink = new Float64Array(SIDE * SIDE);
  for (const curve of way) {
    for (let i = 2; i < curve.length; i += 2) {
      line(
        ink,
        shiftX + scale * curve[i - 2]!,
        shiftY + scale * curve[i - 1]!,
        shiftX + scale * curve[i]!,
        shiftY + scale * curve[i + 1]!,
        radius,
      );
    }
  }
  for (let i = 0; i < ink.length; i++) target[i] = Math.round(255 * ink[i]!);
}
