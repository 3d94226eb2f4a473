// The computed digits: they are drawn as MNIST's are, every class has a shape of its own, and no two are alike.

import { assert as stdAssert } from "@std/assert";
import { syntheticMNIST } from "../lib/data/synthetic.ts";

const assert = stdAssert as (condition: boolean, message?: string) => void;

const SIDE = 28;
const PIXELS = SIDE * SIDE;

const train = syntheticMNIST({ length: 1000 });
const test = syntheticMNIST({ train: false, length: 500 });

function image(set: typeof train, i: number): Uint8Array {
  return set.images.subarray(i * PIXELS, (i + 1) * PIXELS);
}

Deno.test("digits fill 20 pixels of 28, around their centre of mass, on black paper", () => {
  for (let i = 0; i < train.length; i++) {
    const pixels = image(train, i);
    let left = SIDE, right = 0, top = SIDE, bottom = 0, sum = 0, sumX = 0, sumY = 0;
    pixels.forEach((ink, at) => {
      const x = at % SIDE, y = Math.floor(at / SIDE);
      sum += ink;
      sumX += ink * x;
      sumY += ink * y;
      if (ink < 64) return;
      [left, right] = [Math.min(left, x), Math.max(right, x)];
      [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
    });
    const what = `image ${i}, a ${train.labels[i]}`;
    const size = Math.max(right - left, bottom - top) + 1;
    assert(size >= 17 && size <= 22, `${what}: ${size} pixels long`);
    const [x, y] = [sumX / sum, sumY / sum];
    assert(Math.abs(x - 13.5) < 4 && Math.abs(y - 13.5) < 4, `${what}: centre ${x}, ${y}`);
    const black = pixels.filter((ink) => ink === 0).length;
    assert(black > 0.5 * PIXELS && black < 0.97 * PIXELS, `${what}: ${black} black pixels`);
  }
});

Deno.test("digits can be told from one another, though no two are the same", () => {
  const means = Array.from({ length: 10 }, () => new Float64Array(PIXELS));
  const counts = new Array<number>(10).fill(0);
  for (let i = 0; i < train.length; i++) {
    const label = train.labels[i]!;
    counts[label]!++;
    image(train, i).forEach((ink, at) => means[label]![at]! += ink);
  }
  means.forEach((mean, label) => mean.forEach((_, at) => mean[at]! /= counts[label]!));
  let right = 0;
  const different = new Set<string>();
  for (let i = 0; i < test.length; i++) {
    const pixels = image(test, i);
    different.add(pixels.join());
    const distances = means.map((mean) =>
      mean.reduce((sum, m, at) => sum + (m - pixels[at]!) ** 2, 0)
    );
    if (distances.indexOf(Math.min(...distances)) === test.labels[i]) right++;
  }
  assert(different.size === test.length, `${different.size} different images of ${test.length}`);
  // The nearest mean is a poor reader, but far better than chance (one in ten).
  assert(
    right > 0.6 * test.length,
    `${right} of ${test.length} are nearest to the mean of their class`,
  );
});
