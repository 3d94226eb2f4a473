// @ts-check
/// <reference lib="dom" />
// The page's side: controls, curves, the sketch and the gallery. All computing is done by the worker.

import { Chart } from "./chart.js";
import { showImage, SIDE, Sketch, toImage } from "./sketch.js";

/** @import { Gallery, OptimizerName, Request, Response, Settings } from "./protocol.d.ts" */

const PIXELS = SIDE * SIDE;

const RATES = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3];

/**
 * A rate that suits each optimiser.
 * @type {Record<OptimizerName, number>}
 */
const USUAL_RATE = { adam: 0.003, adamw: 0.003, rmsprop: 0.001, momentum: 0.03, sgd: 0.1 };

/**
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 */
function get(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`Cannot find #${id} in the page`);
  return found;
}

const start = get("start", HTMLButtonElement);
const reset = get("reset", HTMLButtonElement);
const optimizer = get("optimizer", HTMLSelectElement);
const rate = get("lr", HTMLSelectElement);
const data = get("data", HTMLSelectElement);
const files = get("files", HTMLInputElement);
const status = get("status", HTMLElement);
const hint = get("hint", HTMLElement);
const answer = get("answer", HTMLOutputElement);
const seen = get("seen", HTMLCanvasElement);
const gallery = get("gallery", HTMLElement);

const curves = [{ name: "train", label: "training" }, { name: "test", label: "test" }];
const percent = (/** @type {number} */ y) => `${(100 * y).toFixed(y < 1 && y > 0.9 ? 1 : 0)}%`;
const lossChart = new Chart(
  get("loss-chart", SVGSVGElement),
  get("loss-readout", HTMLElement),
  { curves, format: (y) => y.toFixed(2), top: null },
);
const accuracyChart = new Chart(
  get("accuracy-chart", SVGSVGElement),
  get("accuracy-readout", HTMLElement),
  { curves, format: percent, top: 1 },
);

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });

/** @param {Request} request */
function ask(request) {
  worker.postMessage(request);
}

/** @param {string} text */
function say(text, problem = false) {
  status.textContent = text;
  status.classList.toggle("problem", problem);
}

/** @returns {Settings} */
function settings() {
  return {
    optimizer: /** @type {OptimizerName} */ (optimizer.value),
    lr: Number(rate.value),
  };
}

// What the worker said last.
let running = false;
let images = 0;
let summary = "";
let chosenData = "computed";
/** @type {Gallery} */
let shown = { images: new Uint8Array(0), labels: [] };

// Predictions: the image on show, and whether the worker has been asked about one.
/** @type {Float32Array | null} */
let image = null;
let waiting = false;
let stale = false;
let lastId = 0;

const bars = Array.from({ length: 10 }, (_, digit) => {
  const row = document.createElement("li");
  row.innerHTML =
    `<span>${digit}</span><span class="bar"><i></i></span><span class="percent"></span>`;
  get("bars", HTMLElement).append(row);
  return row;
});

/** Asks what the image on show is; one question at a time, and again if the image changed meanwhile. */
function predict() {
  if (image === null || start.disabled) return;
  if (waiting) {
    stale = true;
    return;
  }
  waiting = true;
  stale = false;
  ask({ kind: "predict", id: ++lastId, pixels: image });
}

/** @param {Float32Array | null} newImage */
function look(newImage) {
  image = newImage;
  hint.hidden = image !== null;
  showImage(seen, image ?? []);
  if (image === null) showProbabilities(null);
  else predict();
}

/** @param {readonly number[] | null} probabilities */
function showProbabilities(probabilities) {
  const best = probabilities === null ? -1 : probabilities.indexOf(Math.max(...probabilities));
  answer.textContent = best < 0 ? "–" : String(best);
  bars.forEach((row, digit) => {
    const p = probabilities?.[digit] ?? 0;
    row.classList.toggle("best", digit === best);
    /** @type {HTMLElement} */ (row.querySelector("i")).style.width = `${100 * p}%`;
    /** @type {HTMLElement} */ (row.querySelector(".percent")).textContent = probabilities === null
      ? ""
      : `${(100 * p).toFixed(p > 0.0995 ? 0 : 1)}%`;
  });
}

/** Test image `i` as numbers from 0 to 1. @param {number} i */
function testImage(i) {
  const bytes = shown.images.subarray(i * PIXELS, (i + 1) * PIXELS);
  return Float32Array.from(bytes, (v) => v / 255);
}

function showGallery() {
  gallery.replaceChildren(...shown.labels.map((label, i) => {
    const tile = document.createElement("button");
    tile.type = "button";
    tile.title = `a ${label}`;
    const canvas = document.createElement("canvas");
    const read = document.createElement("span");
    read.textContent = "–";
    tile.append(canvas, read);
    tile.addEventListener("click", () => {
      const image = testImage(i);
      sketch.show(image);
      look(image);
    });
    return tile;
  }));
  drawGallery();
}

/** Paints the tiles in the colours of the moment. */
function drawGallery() {
  gallery.querySelectorAll("canvas").forEach((canvas, i) => showImage(canvas, testImage(i)));
}

/** @param {readonly number[]} digits */
function showReadings(digits) {
  let wrong = 0;
  [...gallery.children].forEach((tile, i) => {
    const digit = digits[i];
    const mistaken = digit !== shown.labels[i];
    if (mistaken) wrong++;
    tile.classList.toggle("wrong", mistaken);
    /** @type {HTMLElement} */ (tile.lastElementChild).textContent = String(digit);
  });
  const of = shown.labels.length;
  get("mistakes", HTMLElement).textContent = wrong === 0
    ? ": all right"
    : `: ${wrong} of ${of} wrong, marked`;
}

/** @param {string} id @param {string} text */
function setFigure(id, text) {
  get(id, HTMLElement).textContent = text;
}

/** @param {Response} response */
function hear(response) {
  switch (response.kind) {
    case "ready":
      for (const control of [start, reset, optimizer, rate, data]) control.disabled = false;
      get("about", HTMLElement).textContent =
        `Two convolutions and a linear layer, ${
          response.parameters.toLocaleString("en")
        } weights, ` +
        `on Needle's ${response.device} device.`;
      predict();
      break;
    case "data":
      summary = `${response.train.toLocaleString("en")} ${response.name} to train on, ` +
        `${response.test.toLocaleString("en")} to test`;
      say(summary);
      shown = response.gallery;
      chosenData = data.value = response.name === "MNIST" ? "files" : "computed";
      showGallery();
      break;
    case "reset":
      images = 0;
      lossChart.clear();
      accuracyChart.clear();
      for (const id of ["accuracy", "epoch", "step", "speed"]) setFigure(id, "–");
      showGallery();
      get("mistakes", HTMLElement).textContent = "";
      predict();
      break;
    case "running":
      running = response.running;
      start.textContent = running ? "Pause" : "Start";
      say(summary);
      break;
    case "progress":
      ({ images } = response);
      lossChart.add("train", images, response.train.loss);
      accuracyChart.add("train", images, response.train.accuracy);
      setFigure("epoch", String(response.epoch));
      setFigure("step", response.step.toLocaleString("en"));
      setFigure("speed", Math.round(response.imagesPerSecond).toLocaleString("en"));
      if (!Number.isFinite(response.train.loss)) {
        say("The weights have grown beyond all numbers: lower the learning rate and reset", true);
      }
      break;
    case "evaluation":
      lossChart.add("test", response.images, response.test.loss);
      accuracyChart.add("test", response.images, response.test.accuracy);
      setFigure("accuracy", percent(response.test.accuracy));
      showReadings(response.gallery);
      predict();
      break;
    case "prediction":
      waiting = false;
      if (image !== null) showProbabilities(response.probabilities);
      if (stale) predict();
      break;
    case "problem":
      waiting = false;
      data.value = chosenData;
      say(response.message, true);
  }
}

worker.onmessage = (/** @type {MessageEvent<Response>} */ event) => hear(event.data);
worker.onerror = (/** @type {ErrorEvent} */ event) =>
  say(`The worker failed: ${event.message}`, true);

for (const value of RATES) rate.add(new Option(String(value), String(value)));
rate.value = String(USUAL_RATE.adam);

start.addEventListener("click", () => ask({ kind: running ? "pause" : "start" }));
reset.addEventListener("click", () => ask({ kind: "reset", settings: settings() }));
optimizer.addEventListener("change", () => {
  rate.value = String(USUAL_RATE[settings().optimizer]);
  ask({ kind: "settings", settings: settings() });
});
rate.addEventListener("change", () => ask({ kind: "settings", settings: settings() }));
data.addEventListener("change", () => {
  if (data.value === "files") files.click();
  else ask({ kind: "data", files: [] });
});
files.addEventListener("change", () => ask({ kind: "data", files: [...files.files ?? []] }));
files.addEventListener("cancel", () => data.value = chosenData);

const sketch = new Sketch(
  get("sketch", HTMLCanvasElement),
  (strokes) => look(toImage(strokes)),
);
get("clear", HTMLButtonElement).addEventListener("click", () => {
  sketch.show(null);
  look(null);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  sketch.draw();
  drawGallery();
  showImage(seen, image ?? []);
});
look(null);
