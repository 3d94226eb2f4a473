// @ts-check
// A small convolutional net that learns digits one batch at a time, so that whoever drives it can do other things in
// between. It knows the library and no page.

/** @import { Gallery, Measure, Settings } from "./protocol.d.ts" */
/** @typedef {typeof import("../../mod.ts")} Needle */
/** @typedef {import("../../mod.ts").data.ImageDataset} ImageDataset */
/** @typedef {import("../../mod.ts").Tensor} Tensor */

/** Side of the images, and their pixels. */
const SIDE = 28;
const PIXELS = SIDE * SIDE;

/** Test images that the page shows. */
const GALLERY = 40;

/** @param {Needle} ndl */
function makeModel({ nn: { Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential } }) {
  return new Sequential(
    new Conv2d(1, 8, 3, { padding: 1 }),
    new ReLU(),
    new MaxPool2d(2),
    new Conv2d(8, 16, 3, { padding: 1 }),
    new ReLU(),
    new MaxPool2d(2),
    new Flatten(),
    new Linear(16 * 7 * 7, 10),
  );
}

/**
 * @param {Needle} ndl
 * @param {ReturnType<typeof makeModel>} model
 * @param {Settings} settings
 */
function makeOptimizer({ optim: { Adam, AdamW, RMSprop, SGD } }, model, { optimizer, lr }) {
  const parameters = model.parameters();
  switch (optimizer) {
    case "adam":
      return new Adam(parameters, { lr });
    case "adamw":
      return new AdamW(parameters, { lr });
    case "rmsprop":
      return new RMSprop(parameters, { lr });
    case "momentum":
      return new SGD(parameters, { lr, momentum: 0.9 });
    case "sgd":
      return new SGD(parameters, { lr });
  }
}

/** The net, its optimiser and the data they see. */
export class Trainer {
  /** Batches since the net was made. */
  step = 0;
  /** Passes over the training set that have begun since then. */
  epoch = 0;
  /** Images trained on since then. */
  images = 0;

  #ndl;
  #model;
  #optimizer;
  #settings;
  #loader;
  #test;
  /** @type {Iterator<readonly [Tensor, Tensor]> | null} */
  #batches = null;

  /**
   * @param {Needle} ndl
   * @param {{ train: ImageDataset, test: ImageDataset }} data
   * @param {Settings} settings
   * @param {number} batchSize
   */
  constructor(ndl, { train, test }, settings, batchSize) {
    this.#ndl = ndl;
    this.#loader = new ndl.data.DataLoader(train, { batchSize, shuffle: true });
    this.#test = test;
    this.#settings = settings;
    this.#model = makeModel(ndl);
    this.#optimizer = makeOptimizer(ndl, this.#model, settings);
  }

  /** Number of weights. */
  get parameters() {
    return [...this.#model.parameters()].reduce((sum, p) => sum + p.numel(), 0);
  }

  /** @returns {Gallery} */
  get gallery() {
    const count = Math.min(GALLERY, this.#test.length);
    return {
      images: this.#test.images.slice(0, count * PIXELS),
      labels: [...this.#test.labels.subarray(0, count)],
    };
  }

  /**
   * Another optimiser starts anew; another rate leaves its state as it is.
   *
   * @param {Settings} settings
   */
  set settings(settings) {
    if (settings.optimizer !== this.#settings.optimizer) {
      this.#optimizer = makeOptimizer(this.#ndl, this.#model, settings);
    }
    for (const group of this.#optimizer.paramGroups) group.lr = settings.lr;
    this.#settings = settings;
  }

  /** The next batch, shuffled anew in every epoch. */
  #nextBatch() {
    for (;;) {
      if (this.#batches === null) {
        this.#batches = this.#loader[Symbol.iterator]();
        this.epoch++;
      }
      const { done, value } = this.#batches.next();
      if (!done) return value;
      this.#batches = null;
    }
  }

  /**
   * Learns from one batch.
   *
   * @returns {Measure} how well the net did on it before it learnt from it
   */
  learn() {
    const { nn, tidy } = this.#ndl;
    return tidy(() => {
      const [x, y] = this.#nextBatch();
      this.#optimizer.zeroGrad();
      const logits = this.#model.forward(x);
      const loss = nn.functional.crossEntropy(logits, y);
      loss.backward();
      this.#optimizer.step();
      this.step++;
      this.images += y.numel();
      const right = Number(logits.argmax(1).eq(y).sum().item());
      return { loss: Number(loss.item()), accuracy: right / y.numel() };
    });
  }

  /**
   * Tries the net on the test set, a slice at a time.
   *
   * @param {() => Promise<void>} pause awaited between slices
   * @param {number} most images to try
   * @returns {Promise<{ test: Measure, gallery: number[] }>} with the digits seen in the gallery
   */
  async evaluate(pause, most) {
    const { data, nn, noGrad, tidy } = this.#ndl;
    let loss = 0;
    let right = 0;
    /** @type {number[]} */
    const seen = [];
    const total = Math.min(most, this.#test.length);
    const step = this.#loader.batchSize;
    for (let from = 0; from < total; from += step) {
      const to = Math.min(total, from + step);
      noGrad(() =>
        tidy(() => {
          const slice = new data.ImageDataset({
            images: this.#test.images.subarray(from * PIXELS, to * PIXELS),
            labels: this.#test.labels.subarray(from, to),
            size: this.#test.size,
          });
          for (const [x, y] of new data.DataLoader(slice, { batchSize: step })) {
            const logits = this.#model.forward(x);
            const digits = logits.argmax(1);
            loss += (to - from) * Number(nn.functional.crossEntropy(logits, y).item());
            right += Number(digits.eq(y).sum().item());
            if (from < GALLERY) seen.push(.../** @type {number[]} */ (digits.tolist()));
          }
        })
      );
      await pause();
    }
    const test = { loss: loss / total, accuracy: right / total };
    return { test, gallery: seen.slice(0, GALLERY) };
  }

  /**
   * The probabilities of the ten digits.
   *
   * @param {Float32Array} pixels
   */
  predict(pixels) {
    const { noGrad, tensor, tidy } = this.#ndl;
    return noGrad(() =>
      tidy(() => {
        const image = tensor(pixels, { shape: [1, 1, SIDE, SIDE] });
        return /** @type {number[]} */ (this.#model.forward(image).softmax(1).flatten().tolist());
      })
    );
  }
}
