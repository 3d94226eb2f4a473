// What the training examples share: flags, data with a built-in fallback, the epoch loop with its bar and report,
// checkpoints and resuming. The models and their recipes are in the examples themselves.

import * as ndl from "../mod.ts";
import { loadPlotter } from "../lib/plot.ts";
import process from "node:process";
import {
  fail,
  interrupted,
  isDenied,
  makeFolderOf,
  messageOf,
  readFlags,
  tick,
  watchInterrupt,
  writeJson,
  writePlot,
} from "./program.ts";

export { loadData, prepare } from "./program.ts";

/** What the command line can set; an example gives its own defaults. */
export interface Flags {
  epochs: number;
  batchSize: number;
  lr: number;
  weightDecay: number;
  device: string | null;
  dtype: "float32" | "float64";
  amp: "bf16" | "f16" | null;
  seed: number;
  data: string | null;
  limit: number | null;
  resume: boolean;
  checkpoint: string;
  json: string | null;
  /** Left out: none. */
  plot?: string | null;
  augment: boolean;
  lrSchedule: "none" | "step" | "cosine" | "onecycle";
}

const choices: Partial<Record<keyof Flags, readonly string[]>> = {
  dtype: ["float32", "float64"],
  amp: ["bf16", "f16"],
  lrSchedule: ["none", "step", "cosine", "onecycle"],
};
const least: Partial<Record<keyof Flags, number>> = {
  epochs: 0,
  batchSize: 1,
  lr: 0,
  weightDecay: 0,
  seed: 0,
  limit: 1,
};

const descriptions: Record<keyof Flags, string> = {
  epochs: "passes over the training set",
  batchSize: "samples per step",
  lr: "learning rate",
  weightDecay: "L2 penalty",
  device: "reference, cpu or dnnl (default: the best there is)",
  dtype: "float32 or float64",
  amp: "compute in bf16 or f16 where that is safe, with float32 weights",
  seed: "of initialisation, shuffling, augmentation and dropout",
  data: "folder with the data set (default: NEEDLE_DATA_DIR, the cache, a download)",
  limit: "use only the first N training samples",
  resume: "continue after the last finished epoch of the checkpoint",
  checkpoint: "where the checkpoint is saved after each epoch",
  json: "append one JSON object per epoch to this file",
  plot: "draw loss and accuracy into this SVG file",
  augment: "random flips and shifted crops of the training images",
  lrSchedule: "none, step, cosine or onecycle",
};

/** Reads the command line over `defaults`; prints help and exits with --help, names what is wrong otherwise. */
export function parseFlags(usage: string, defaults: Flags, args?: readonly string[]): Flags {
  const specs = Object.fromEntries(
    (Object.keys({ ...defaults, plot: null }) as (keyof Flags)[]).map((name) => [name, {
      help: descriptions[name],
      value: defaults[name] ?? null,
      fraction: name === "lr" || name === "weightDecay",
      ...(least[name] === undefined ? {} : { least: least[name] }),
      ...(choices[name] === undefined ? {} : { choices: choices[name] }),
    }]),
  );
  return readFlags(usage, specs, args) as unknown as Flags;
}

/** A training and a test set, and what should be said about them. */
export interface DataPair {
  readonly train: ndl.data.ImageDataset;
  readonly test: ndl.data.ImageDataset;
}

/** What one pass over a set gives. */
export interface Pass {
  readonly loss: number;
  readonly acc: number;
}

/** What a checkpoint holds. */
interface Saved {
  readonly epoch: number;
  readonly best: number;
  readonly lrSchedule: Flags["lrSchedule"];
  readonly model: ndl.nn.StateDict;
  readonly optimizer: ReturnType<ndl.optim.Adam["stateDict"]>;
  readonly scheduler: Record<string, unknown> | null;
  readonly scaler: ReturnType<ndl.GradScaler["stateDict"]>;
  readonly rng: ndl.Tensor;
}

function schedulerOf(
  flags: Flags,
  optimizer: ndl.optim.Adam,
  stepsPerEpoch: number,
): { scheduler: ndl.optim.lrScheduler.LRScheduler | null; perStep: boolean } {
  const steps = Math.max(1, flags.epochs * stepsPerEpoch);
  switch (flags.lrSchedule) {
    case "none":
      return { scheduler: null, perStep: false };
    case "step":
      return {
        scheduler: new ndl.optim.lrScheduler.StepLR(
          optimizer,
          Math.max(1, Math.ceil(flags.epochs / 3)),
          {
            gamma: 0.1,
          },
        ),
        perStep: false,
      };
    case "cosine":
      return {
        scheduler: new ndl.optim.lrScheduler.CosineAnnealingLR(optimizer, steps),
        perStep: true,
      };
    case "onecycle":
      return {
        scheduler: new ndl.optim.lrScheduler.OneCycleLR(optimizer, flags.lr, { totalSteps: steps }),
        perStep: true,
      };
  }
}

/** Loss and accuracy of `model` on a set, without training. */
async function evaluate(
  model: ndl.nn.Layer,
  loader: AsyncIterable<[ndl.Tensor, ndl.Tensor, ...ndl.Tensor[]]>,
  dtype: ndl.DType,
): Promise<Pass> {
  model.eval();
  using _ = ndl.noGrad();
  let loss = 0, correct = 0, seen = 0;
  for await (const [x, y] of loader) {
    const logits = model.forward(x!.to(dtype));
    loss += ndl.nn.functional.crossEntropy(logits, y!, { reduction: "sum" }).item();
    correct += logits.argmax(1).eq(y!).sum().item();
    seen += y!.numel();
    await tick();
  }
  return { loss: loss / seen, acc: correct / seen };
}

/**
 * Trains a classifier with Adam and cross entropy: a bar per epoch, a line per epoch, a checkpoint per epoch.
 *
 * @returns accuracy of the last pass over both sets, and the best test accuracy
 */
export async function trainClassifier(
  model: ndl.nn.Layer,
  data: DataPair,
  flags: Flags,
): Promise<{ train: Pass; test: Pass; best: number }> {
  const train = flags.limit === null ? data.train : new ndl.data.Subset(
    data.train,
    Array.from({ length: Math.min(flags.limit, data.train.length) }, (_, i) => i),
  );
  const trainLoader = new ndl.data.DataLoader(train, {
    batchSize: flags.batchSize,
    shuffle: true,
    seed: flags.seed,
  });
  const testLoader = new ndl.data.DataLoader(data.test, { batchSize: 500 });
  model.to(flags.dtype);
  const optimizer = new ndl.optim.Adam(model.parameters(), {
    lr: flags.lr,
    weightDecay: flags.weightDecay,
  });
  const { scheduler, perStep } = schedulerOf(flags, optimizer, trainLoader.length);
  const scaler = new ndl.GradScaler({ enabled: flags.amp === "f16" });
  const lowDType: ndl.DType = flags.amp === "f16" ? "float16" : "bfloat16";

  let start = 0, best = 0, writable = true;
  const save = async (epoch: number): Promise<void> => {
    if (!writable) return;
    try {
      await makeFolderOf(flags.checkpoint);
      await ndl.save(flags.checkpoint, {
        epoch,
        best,
        lrSchedule: flags.lrSchedule,
        model: model.stateDict(),
        optimizer: optimizer.stateDict(),
        scheduler: scheduler?.stateDict() ?? null,
        scaler: scaler.stateDict(),
        rng: ndl.getRngState(),
      });
    } catch (error) {
      if (!isDenied(error)) throw error;
      writable = false;
      console.log(`no checkpoint is saved: writing ${flags.checkpoint} needs --allow-write`);
    }
  };
  // What is left after so many epochs.
  const kept = (epoch: number): string =>
    writable ? `${flags.checkpoint} holds the state after epoch ${epoch}` : "nothing was saved";
  if (flags.resume) {
    try {
      const saved = await ndl.load<Saved>(flags.checkpoint);
      if (typeof saved.epoch !== "number" || saved.model === undefined) {
        throw new Error("it is no checkpoint of an example");
      }
      if (saved.lrSchedule !== flags.lrSchedule) {
        throw new Error(
          `it was trained with --lr-schedule ${saved.lrSchedule}, not ${flags.lrSchedule}`,
        );
      }
      model.loadStateDict(saved.model);
      optimizer.loadStateDict(saved.optimizer);
      scheduler?.loadStateDict(saved.scheduler as never);
      scaler.loadStateDict(saved.scaler);
      ndl.setRngState(saved.rng);
      start = saved.epoch;
      best = saved.best;
    } catch (error) {
      fail(`Cannot resume from ${flags.checkpoint}: ${messageOf(error)}`, 1);
    }
    console.log(`resuming ${flags.checkpoint} after epoch ${start}`);
  } else await save(0);

  const parameters = [...model.parameters()].reduce((n, p) => n + p.numel(), 0);
  console.log(
    `${
      parameters.toLocaleString("en-US")
    } parameters, ${train.length} training and ${data.test.length} test samples`,
  );
  if (data.train.note) console.log(data.train.note);
  if (flags.plot) {
    try {
      await loadPlotter();
    } catch (error) {
      fail(messageOf(error), 1);
    }
  }
  const history: Record<string, number>[] = [];
  watchInterrupt();
  let trained: Pass = { loss: NaN, acc: NaN }, tested: Pass = { loss: NaN, acc: NaN };
  for (let epoch = start; epoch < flags.epochs; epoch++) {
    const began = performance.now();
    model.train();
    trainLoader.epoch = epoch;
    let loss = 0, correct = 0, seen = 0, batches = 0;
    const bar = ndl.tqdm(trainLoader, {
      desc: `epoch ${epoch + 1}/${flags.epochs}`,
      unit: "batch",
    });
    for await (const [x, y] of bar) {
      optimizer.zeroGrad();
      const forward = (): [ndl.Tensor, ndl.Tensor] => {
        const logits = model.forward(x!.to(flags.dtype));
        return [logits, ndl.nn.functional.crossEntropy(logits, y!)];
      };
      const [logits, batchLoss] = flags.amp === null
        ? forward()
        : ndl.autocast({ dtype: lowDType }, forward);
      scaler.scale(batchLoss).backward();
      scaler.step(optimizer);
      scaler.update();
      if (perStep) scheduler!.step();
      const n = y!.numel(), value = batchLoss.item();
      if (Number.isNaN(value)) {
        throw new Error(
          `The loss became NaN in epoch ${epoch + 1}, batch ${batches + 1}: lower --lr; ` +
            kept(epoch),
        );
      }
      loss += value * n;
      correct += logits.argmax(1).eq(y!).sum().item();
      seen += n;
      bar.setPostfix({ loss: loss / seen, acc: correct / seen });
      batches++;
      await tick();
      if (interrupted()) break;
    }
    if (interrupted()) {
      console.log(`\nstopped in epoch ${epoch + 1}; ${kept(epoch)}${writable ? ": --resume" : ""}`);
      process.exit(130);
    }
    if (!perStep) scheduler?.step();
    trained = { loss: loss / seen, acc: correct / seen };
    tested = await evaluate(model, testLoader, flags.dtype);
    best = Math.max(best, tested.acc);
    const seconds = (performance.now() - began) / 1000;
    console.log(
      `epoch ${epoch + 1}/${flags.epochs}: train loss ${trained.loss.toFixed(4)} acc ${
        trained.acc.toFixed(4)
      }, ` +
        `test loss ${tested.loss.toFixed(4)} acc ${tested.acc.toFixed(4)}, ${seconds.toFixed(1)} s`,
    );
    await save(epoch + 1);
    const record = {
      epoch: epoch + 1,
      trainLoss: trained.loss,
      trainAcc: trained.acc,
      testLoss: tested.loss,
      testAcc: tested.acc,
      seconds,
    };
    history.push(record);
    if (flags.json !== null) await writeJson(flags.json, record, epoch > start || flags.resume);
  }
  if (flags.plot && history.length > 0) {
    await writePlot(flags.plot, "", history, [
      { yLabel: "loss", fields: { train: "trainLoss", test: "testLoss" } },
      { yLabel: "accuracy", fields: { train: "trainAcc", test: "testAcc" } },
    ]);
  }
  console.log(`best test accuracy ${best.toFixed(4)}; ${kept(Math.max(start, flags.epochs))}`);
  return { train: trained, test: tested, best };
}
