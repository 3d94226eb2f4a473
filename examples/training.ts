// What the training examples share: flags, data with a built-in fallback, the epoch loop with its bar and report,
// checkpoints and resuming. The models and their recipes are in the examples themselves.

import * as ndl from "../mod.ts";
import { parseArgs } from "node:util";
import process from "node:process";
import { setImmediate } from "node:timers";

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
  augment: boolean;
  lrSchedule: "none" | "step" | "cosine" | "onecycle";
}

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
  augment: "random flips and shifted crops of the training images",
  lrSchedule: "none, step, cosine or onecycle",
};

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (c) => "-" + c.toLowerCase());
}

function fail(message: string, status = 2): never {
  console.error(`error: ${message}`);
  process.exit(status);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether a permission is missing, which is no reason to stop. */
function isDenied(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) if (e.name === "NotCapable") return true;
  return false;
}

/** Asks on a terminal for what training can use; elsewhere it has to do with what it is given. */
function askPermissions(): void {
  if (typeof Deno === "undefined" || !Deno.stdin.isTerminal()) return;
  const build = new URL("../build", import.meta.url);
  const wanted: Deno.PermissionDescriptor[] = [
    ...(build.protocol === "file:" ? [{ name: "ffi" as const, path: build }] : []),
    { name: "env" },
    { name: "read" },
    { name: "write" },
    { name: "net" },
  ];
  for (const permission of wanted) Deno.permissions.requestSync(permission);
}

/** Reads the command line over `defaults`; prints help and exits with --help, names what is wrong otherwise. */
export function parseFlags(
  usage: string,
  defaults: Flags,
  args: readonly string[] = process.argv.slice(2),
): Flags {
  const names = Object.keys(defaults) as (keyof Flags)[];
  const isSwitch = (name: keyof Flags): boolean => typeof defaults[name] === "boolean";
  const options = Object.fromEntries([
    ...names.map((
      name,
    ) => [kebab(name), { type: isSwitch(name) ? "boolean" as const : "string" as const }]),
    ["help", { type: "boolean" as const }],
  ]);
  let values: Record<string, string | boolean | undefined>;
  try {
    values = parseArgs({ args: [...args], options, strict: true, allowNegative: true })
      .values as typeof values;
  } catch (error) {
    fail(`${(error as Error).message}; --help lists the flags`);
  }
  if (values.help) {
    console.log(usage);
    for (const name of names) {
      const value = defaults[name];
      const shown = value === null || isSwitch(name) ? "" : ` (default ${value})`;
      console.log(`  --${kebab(name).padEnd(16)} ${descriptions[name]}${shown}`);
    }
    process.exit(0);
  }
  const flags = { ...defaults } as Record<keyof Flags, unknown>;
  for (const name of names) {
    const text = values[kebab(name)];
    if (text === undefined) continue;
    if (typeof defaults[name] === "number" || name === "limit") {
      const n = Number(text);
      const whole = name !== "lr" && name !== "weightDecay";
      const least = name === "lr" || name === "weightDecay" || name === "seed" || name === "epochs"
        ? 0
        : 1;
      if (
        text === "" || !(n >= least && n < Infinity) || (whole && !Number.isSafeInteger(n))
      ) {
        fail(
          `--${kebab(name)} must be ${
            whole ? "an integer" : "a number"
          } from ${least} up, not "${text}"`,
        );
      }
      flags[name] = n;
    } else flags[name] = text;
  }
  const choices: Partial<Record<keyof Flags, readonly string[]>> = {
    dtype: ["float32", "float64"],
    amp: ["bf16", "f16"],
    lrSchedule: ["none", "step", "cosine", "onecycle"],
  };
  for (const [name, list] of Object.entries(choices) as [keyof Flags, readonly string[]][]) {
    const value = flags[name];
    if (value !== null && !list.includes(value as string)) {
      fail(`--${kebab(name)} must be one of ${list.join(", ")}, not "${value}"`);
    }
  }
  return flags as unknown as Flags;
}

/** Asks for permissions, chooses the device and seeds the generator. */
export function prepare(flags: Flags): ndl.Device {
  askPermissions();
  if (flags.device !== null) {
    try {
      ndl.setDefaultDevice(ndl.deviceByName(flags.device));
    } catch (error) {
      fail(messageOf(error));
    }
  }
  ndl.manualSeed(flags.seed);
  let device: ndl.Device;
  try {
    device = ndl.defaultDevice();
  } catch (error) {
    fail(messageOf(error)); // NEEDLE_DEVICE names one that is not there
  }
  const report = ndl.devices().find((d) => d.name === device.name)!;
  console.log(`device ${device.name} (${report.isa}, ${report.threads} threads)`);
  return device;
}

/** A training and a test set, and what should be said about them. */
export interface DataPair {
  readonly train: ndl.data.ImageDataset;
  readonly test: ndl.data.ImageDataset;
}

/** The permissions that let an example use all there is. */
const permissions =
  "--allow-ffi=build --allow-env --allow-read --allow-write --allow-net --allow-sys";

/**
 * Loads real data, or says loudly why not and makes the built-in set: of the usual length, or short where only the
 * slow reference device is there.
 */
export async function loadData(
  name: string,
  real: () => Promise<DataPair>,
  synthetic: (length: number | null) => DataPair,
  program: string,
): Promise<DataPair> {
  try {
    const pair = await real();
    if (pair.train.note) console.log(pair.train.note);
    return pair;
  } catch (error) {
    if (!isDenied(error) && !ndl.data.isMissingDataset(error)) fail(messageOf(error), 1);
    const pair = synthetic(ndl.defaultDevice() === ndl.reference() ? 1000 : null);
    console.log(
      `\n*** ${name} IS NOT THERE: training on a built-in, procedurally generated set instead.\n` +
        `*** ${messageOf(error).split("\n")[0]}\n` +
        `*** For the real data run: deno run ${permissions} ${program}\n`,
    );
    return pair;
  }
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

let interrupted = false;
let ticked = 0;

/** Lets the event loop turn some times a second, so that signals and finalizers are heard. */
async function tick(): Promise<void> {
  if (performance.now() - ticked < 50) return;
  await new Promise((resolve) => setImmediate(resolve));
  ticked = performance.now();
}

function watchInterrupt(): void {
  process.on("SIGINT", () => {
    if (interrupted) process.exit(130);
    interrupted = true;
  });
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

/** Makes the folder of a file where it is not there. */
async function makeFolderOf(path: string): Promise<void> {
  const folder = path.replace(/[/\\][^/\\]*$/, "");
  if (folder === path || folder === "") return;
  const { mkdir } = await import("node:fs/promises");
  await mkdir(folder, { recursive: true });
}

async function writeJson(
  path: string,
  record: Record<string, number>,
  append: boolean,
): Promise<void> {
  const { appendFile, writeFile } = await import("node:fs/promises");
  await makeFolderOf(path);
  await (append ? appendFile : writeFile)(path, JSON.stringify(record) + "\n");
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
      if (interrupted) break;
    }
    if (interrupted) {
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
    if (flags.json !== null) {
      await writeJson(flags.json, {
        epoch: epoch + 1,
        trainLoss: trained.loss,
        trainAcc: trained.acc,
        testLoss: tested.loss,
        testAcc: tested.acc,
        seconds,
      }, epoch > start || flags.resume);
    }
  }
  console.log(`best test accuracy ${best.toFixed(4)}; ${kept(Math.max(start, flags.epochs))}`);
  return { train: trained, test: tested, best };
}
