// @ts-check
// The page's worker: trains in small turns, so that requests (pause, predict what is being drawn) are heard at once.

import { readMnist } from "./mnist_files.js";
import { Trainer } from "./trainer.js";

/** @import { Request, Response, Settings } from "./protocol.d.ts" */

/** What `deno task bundle` makes. */
const LIBRARY = new URL("../../dist/needle.js", import.meta.url).href;

/** Time between two reports, in milliseconds. */
const REPORT = 100;
/** Evaluations may take this share of the time. */
const EVALUATION_SHARE = 0.2;

/**
 * What a worker has and a window has not.
 * @typedef {object} WorkerScope
 * @property {(message: Response) => void} postMessage
 * @property {((event: MessageEvent<Request>) => void) | null} onmessage
 */
const scope = /** @type {WorkerScope} */ (/** @type {unknown} */ (globalThis));

/** @param {Response} message */
function send(message) {
  scope.postMessage(message);
}

/** @param {unknown} error */
function problem(error) {
  send({ kind: "problem", message: error instanceof Error ? error.message : String(error) });
}

/** @type {import("./trainer.js").Needle} */
const ndl = await import(LIBRARY).catch(() => {
  problem(`The library is missing at ${LIBRARY}: run deno task bundle, then reload this page`);
  return new Promise(() => {});
});

// The plain TypeScript device is some hundred times slower: smaller batches and fewer tests keep the page lively.
const slow = ndl.defaultDevice() === ndl.reference();
const batchSize = slow ? 16 : 64;
const tests = slow ? 100 : 500;

/** The built-in digits. */
function computedDigits() {
  const { syntheticMNIST } = ndl.data;
  return {
    name: "computed digits",
    train: syntheticMNIST({ length: slow ? 2000 : 10_000 }),
    test: syntheticMNIST({ train: false, length: tests }),
  };
}

/**
 * MNIST's own digits.
 *
 * @param {readonly File[]} files
 */
async function filedDigits(files) {
  const { ImageDataset } = ndl.data;
  const size = { channels: 1, height: 28, width: 28 };
  const { train, test } = await readMnist(files);
  return {
    name: "MNIST",
    train: new ImageDataset({ ...train, size }),
    test: new ImageDataset({ ...test, size }),
  };
}

let nets = 0;
/** @type {Settings} */
let settings = { optimizer: "adam", lr: 0.003 };
let data = computedDigits();
let trainer = makeTrainer();
let running = false;
let looping = false;

const { port1, port2 } = new MessageChannel();
/** @type {(() => void) | null} */
let woken = null;
port1.onmessage = () => woken?.();

/** Lets waiting requests come in: faster than a timer, which may not be asked for more than 250 times a second. */
function turn() {
  return /** @type {Promise<void>} */ (new Promise((resolve) => {
    woken = resolve;
    port2.postMessage(null);
  }));
}

/** Tries the net on the test set and tells the page, unless there is a new net by then. */
async function evaluate() {
  const mine = trainer;
  const { images } = mine;
  const result = await mine.evaluate(turn, tests);
  if (mine === trainer) send({ kind: "evaluation", images, ...result });
}

/** Trains until `running` is false. */
async function loop() {
  looping = true;
  let mine = trainer;
  let reported = performance.now();
  let evaluated = 0;
  // The first evaluations find code that is not compiled yet: the fastest one counts.
  let evaluations = 0;
  let evaluationTime = Infinity;
  let loss = 0, accuracy = 0, steps = 0, imagesBefore = mine.images;
  while (running) {
    if (mine !== trainer) {
      mine = trainer;
      loss = accuracy = steps = 0;
      imagesBefore = mine.images;
      evaluations = 0;
    }
    const measure = mine.learn();
    loss += measure.loss;
    accuracy += measure.accuracy;
    steps++;
    const now = performance.now();
    if (now - reported >= REPORT) {
      send({
        kind: "progress",
        step: mine.step,
        epoch: mine.epoch,
        images: mine.images,
        imagesPerSecond: 1000 * (mine.images - imagesBefore) / (now - reported),
        train: { loss: loss / steps, accuracy: accuracy / steps },
      });
      loss = accuracy = steps = 0;
      imagesBefore = mine.images;
      reported = now;
    }
    if (evaluations < 2 || (now - evaluated) * EVALUATION_SHARE > evaluationTime) {
      await evaluate();
      evaluated = performance.now();
      evaluations++;
      evaluationTime = Math.min(evaluationTime, evaluated - now);
      // Not the training's time.
      reported += evaluated - now;
    }
    await turn();
  }
  await evaluate();
  looping = false;
  // Started again meanwhile.
  if (running) loop().catch(stop);
}

/** @param {unknown} error */
function stop(error) {
  looping = running = false;
  send({ kind: "running", running });
  problem(error);
}

/** A new net, other than those before. */
function makeTrainer() {
  ndl.manualSeed(nets++);
  return new Trainer(ndl, data, settings, batchSize);
}

/** Starts over with a new net, whether it is training or not. */
function reset() {
  trainer = makeTrainer();
  send({ kind: "reset" });
}

function announceData() {
  const { name, train, test } = data;
  send({ kind: "data", name, train: train.length, test: test.length, gallery: trainer.gallery });
}

/** @param {Request} request */
async function answer(request) {
  switch (request.kind) {
    case "start":
      running = true;
      send({ kind: "running", running });
      if (!looping) loop().catch(stop);
      break;
    case "pause":
      running = false;
      send({ kind: "running", running });
      break;
    case "reset":
      ({ settings } = request);
      reset();
      break;
    case "settings":
      ({ settings } = request);
      trainer.settings = settings;
      break;
    case "data":
      data = request.files.length === 0 ? computedDigits() : await filedDigits(request.files);
      reset();
      announceData();
      break;
    case "predict":
      send({
        kind: "prediction",
        id: request.id,
        probabilities: trainer.predict(request.pixels),
      });
  }
}

scope.onmessage = (/** @type {MessageEvent<Request>} */ event) => {
  answer(event.data).catch(problem);
};

announceData();
const report = ndl.devices().find((d) => d.name === ndl.defaultDevice().name);
// The page says nothing before it hears this.
send({
  kind: "ready",
  device: report?.isa === undefined ? ndl.defaultDevice().name : `${report.name} (${report.isa})`,
  parameters: trainer.parameters,
});
