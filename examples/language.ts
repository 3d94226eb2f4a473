// What the language models share: flags, the corpus with a built-in fallback, truncated backpropagation through time with
// its bar and report, checkpoints and resuming, curves, and text written by the model. The recipes are in the examples.

import * as ndl from "../mod.ts";
import { loadPlotter } from "../lib/plot.ts";
import process from "node:process";
import {
  fail,
  interrupted,
  isDenied,
  loadData,
  makeFolderOf,
  messageOf,
  prepare,
  tick,
  watchInterrupt,
  writeJson,
  writePlot,
} from "./program.ts";
import type { LanguageFlags, Recipe } from "./language_flags.ts";

export { type LanguageFlags, readLanguageFlags, type Recipe } from "./language_flags.ts";

/** The three parts of a text. */
export interface Corpus {
  readonly train: ndl.data.TextDataset;
  readonly valid: ndl.data.TextDataset;
  readonly test: ndl.data.TextDataset;
}

/** The Penn Treebank, or a built-in text. */
export function loadCorpus(flags: LanguageFlags, program: string): Promise<Corpus> {
  const root = { download: true, ...(flags.data === null ? {} : { root: flags.data }) };
  const { PTB, syntheticPTB } = ndl.data;
  return loadData(
    "THE PENN TREEBANK",
    async () => ({
      train: await PTB({ ...root, split: "train" }),
      valid: await PTB({ ...root, split: "valid" }),
      test: await PTB({ ...root, split: "test" }),
    }),
    (length) => ({
      train: syntheticPTB({ split: "train", ...(length === null ? {} : { length: 5 * length }) }),
      valid: syntheticPTB({ split: "valid", ...(length === null ? {} : { length }) }),
      test: syntheticPTB({ split: "test", ...(length === null ? {} : { length }) }),
    }),
    program,
  );
}

/** Mean cross entropy of a text in nats per word. */
async function evaluate(
  model: ndl.nn.SequenceModel,
  text: ndl.data.TextDataset,
  recipe: Recipe,
): Promise<number> {
  model.eval();
  using _ = ndl.noGrad();
  const segments = text.segments(recipe.batchSize, recipe.evaluationSteps);
  let state: ndl.nn.LanguageState | null = null, sum = 0, words = 0;
  for (let i = 0; i < segments.length; i++) {
    const before: ndl.nn.LanguageState | null = state;
    state = ndl.tidy(() => {
      const [x, y] = onDevice(segments.get(i), model);
      const [logits, after] = model.forward(x, before);
      sum += ndl.nn.functional.crossEntropy(logits, y, { reduction: "sum" }).item();
      words += y.numel();
      return after;
    });
    before?.forEach((t) => t.dispose());
    await tick();
  }
  return sum / words;
}

function onDevice(
  [x, y]: readonly [ndl.Tensor, ndl.Tensor],
  model: ndl.nn.SequenceModel,
): [ndl.Tensor, ndl.Tensor] {
  const { device } = model.parameters().next().value!;
  return [x.to(device), y.to(device)];
}

/** One epoch of a run. */
interface EpochRecord extends Record<string, number> {
  epoch: number;
  trainLoss: number;
  trainPpl: number;
  validPpl: number;
  testPpl: number;
  seconds: number;
}

/** What a checkpoint holds. */
interface Saved {
  readonly kind: string;
  readonly history: EpochRecord[];
  readonly model: ndl.nn.StateDict;
  readonly optimizer: unknown;
  readonly scheduler: unknown;
  readonly scaler: ndl.GradScalerState;
  readonly rng: ndl.Tensor;
}

/** The epoch of lowest validation perplexity. */
function bestOf(history: readonly EpochRecord[]): EpochRecord | null {
  return history.reduce<EpochRecord | null>(
    (best, r) => best === null || r.validPpl < best.validPpl ? r : best,
    null,
  );
}

/** What a step tells: mean loss, norm of the gradient, and the state after the segment. */
interface StepResult {
  readonly loss: number;
  readonly norm: number;
  readonly state: ndl.nn.LanguageState;
}

/** The optimiser, its schedule and gradient scaler: everything that a step changes besides the model. */
class Trainer {
  readonly optimizer: ndl.optim.SGD | ndl.optim.AdamW;
  readonly scheduler: ndl.optim.lrScheduler.LambdaLR;
  readonly scaler: ndl.GradScaler;

  constructor(
    readonly model: ndl.nn.SequenceModel,
    readonly recipe: Recipe,
    readonly flags: LanguageFlags,
    stepsPerEpoch: number,
  ) {
    const { lr, weightDecay, optimizer, decay, epochs } = recipe;
    this.optimizer = optimizer === "sgd"
      ? new ndl.optim.SGD(model.parameters(), { lr, weightDecay })
      : new ndl.optim.AdamW(model.parameters(), { lr, weightDecay });
    this.scheduler = new ndl.optim.lrScheduler.LambdaLR(
      this.optimizer,
      (step) => decay(step / stepsPerEpoch, epochs),
    );
    this.scaler = new ndl.GradScaler({ enabled: flags.amp === "f16" });
  }

  /** Learns from one segment; leaves the model as it was where loss or gradient are not finite. */
  step(
    segment: readonly [ndl.Tensor, ndl.Tensor],
    state: ndl.nn.LanguageState | null,
  ): StepResult {
    const { model, recipe, flags, optimizer, scaler } = this;
    const [x, y] = onDevice(segment, model);
    optimizer.zeroGrad();
    const forward = (): [ndl.Tensor, ndl.nn.LanguageState] => {
      const [logits, after] = model.forward(x, state);
      return [ndl.nn.functional.crossEntropy(logits, y), after];
    };
    const [loss, after] = flags.amp === null
      ? forward()
      : ndl.autocast({ dtype: flags.amp === "f16" ? "float16" : "bfloat16" }, forward);
    scaler.scale(recipe.sumOverSteps ? loss.mul(x.shape[0]!) : loss).backward();
    scaler.unscale_(optimizer);
    const limit = recipe.clipNorm === 0 ? Infinity : recipe.clipNorm;
    const norm = ndl.nn.utils.clipGradNorm_(model.parameters(), limit).item();
    const value = loss.item();
    if (Number.isFinite(value) && (Number.isFinite(norm) || scaler.isEnabled())) {
      scaler.step(optimizer);
      scaler.update();
      this.scheduler.step();
    }
    return { loss: value, norm, state: after.map((t) => t.detach()) };
  }
}

/** Where training segments begin in an epoch: without a state to carry, elsewhere each time. */
function trainingSegments(
  text: ndl.data.TextDataset,
  recipe: Recipe,
  limit: number | null,
  epoch: number,
): ndl.data.BPTTDataset {
  const tokens = limit === null ? text.tokens : text.tokens.subarray(0, limit);
  const golden = (Math.sqrt(5) - 1) / 2;
  const start = recipe.carry ? 0 : Math.floor((epoch * golden % 1) * recipe.bptt);
  const room = Math.max(0, tokens.length - 2 * recipe.batchSize);
  return new ndl.data.BPTTDataset(
    tokens.subarray(Math.min(start, room)),
    recipe.batchSize,
    recipe.bptt,
  );
}

/** The numbers of a prompt's words; a word that the model does not know is an error. */
function encodePrompt(text: string, vocabulary: ndl.data.Vocabulary): number[] {
  const words = text.trim().split(/\s+/).filter((word) => word !== "");
  if (words.length === 0) fail("Cannot generate after an empty text: give --generate a word");
  const unknown = words.filter((word) => !vocabulary.has(word));
  if (unknown.length > 0) {
    fail(
      `Cannot generate after ${
        unknown.map((word) => JSON.stringify(word)).join(", ")
      }: not among the ${
        vocabulary.length.toLocaleString("en-US")
      } words of the training text (all in lower case there)`,
    );
  }
  return words.map((word) => vocabulary.encode(word));
}

/** How many words --generate adds. */
const generatedWords = 60;

/**
 * The whole program: trains a model on a corpus with a bar and a line per epoch, saves a checkpoint after every epoch and
 * the best model apart, then draws and writes what was asked for.
 *
 * @param make the model for a number of words, and a description that a checkpoint must share
 */
export async function trainLanguageModel(
  make: (words: number) => { model: ndl.nn.SequenceModel; kind: string },
  recipe: Recipe,
  flags: LanguageFlags,
  program: string,
): Promise<void> {
  prepare(flags);
  const corpus = await loadCorpus(flags, program);
  const vocabulary = corpus.train.vocabulary;
  const prompt = flags.generate === null ? null : encodePrompt(flags.generate, vocabulary);
  try {
    if (flags.plot !== null) await loadPlotter();
    await train(make, corpus, prompt, recipe, flags);
  } catch (error) {
    fail(messageOf(error), 1);
  }
}

async function train(
  make: (words: number) => { model: ndl.nn.SequenceModel; kind: string },
  corpus: Corpus,
  prompt: readonly number[] | null,
  recipe: Recipe,
  flags: LanguageFlags,
): Promise<void> {
  const { vocabulary } = corpus.train;
  const { model, kind } = make(vocabulary.length);
  model.to(flags.dtype);
  const segments = trainingSegments(corpus.train, recipe, flags.limit, 0);
  const trainer = new Trainer(model, recipe, flags, segments.length);
  const { optimizer, scheduler, scaler } = trainer;
  const bestPath = flags.checkpoint.replace(/(\.safetensors)?$/, ".best.safetensors");
  const history: EpochRecord[] = [];
  let writable = true;

  const save = async (): Promise<void> => {
    if (!writable) return;
    try {
      await makeFolderOf(flags.checkpoint);
      await ndl.save(flags.checkpoint, {
        kind,
        history,
        model: model.stateDict(),
        optimizer: optimizer.stateDict(),
        scheduler: scheduler.stateDict(),
        scaler: scaler.stateDict(),
        rng: ndl.getRngState(),
      });
      if (bestOf(history) === history.at(-1)) {
        await ndl.save(bestPath, { kind, model: model.stateDict() });
      }
    } catch (error) {
      if (!isDenied(error)) throw error;
      writable = false;
      console.log(`no checkpoint is saved: writing ${flags.checkpoint} needs --allow-write`);
    }
  };
  const load = async <T extends { kind: string }>(path: string): Promise<T> => {
    const saved = await ndl.load<T>(path);
    if (typeof saved.kind !== "string") throw new Error("it is no checkpoint of a language model");
    if (saved.kind !== kind) throw new Error(`it holds ${saved.kind}, but this is ${kind}`);
    return saved;
  };
  // What is left after so many epochs.
  const kept = (epoch: number): string =>
    writable ? `${flags.checkpoint} holds the state after epoch ${epoch}` : "nothing was saved";
  if (flags.resume) {
    try {
      const saved = await load<Saved>(flags.checkpoint);
      model.loadStateDict(saved.model);
      optimizer.loadStateDict(saved.optimizer as never);
      scheduler.loadStateDict(saved.scheduler as never);
      scaler.loadStateDict(saved.scaler);
      ndl.setRngState(saved.rng);
      history.push(...saved.history);
    } catch (error) {
      fail(`Cannot resume from ${flags.checkpoint}: ${messageOf(error)}`, 1);
    }
    console.log(`resuming ${flags.checkpoint} after epoch ${history.length}`);
  } else await save();

  const count = (n: number): string => n.toLocaleString("en-US");
  const parameters = [...model.parameters()].reduce((n, p) => n + p.numel(), 0);
  console.log(
    `${kind}: ${count(parameters)} parameters; ${count(vocabulary.length)} words; ${
      count(Math.min(flags.limit ?? Infinity, corpus.train.tokens.length))
    } training tokens, ${segments.length} segments of ${recipe.batchSize} × ${recipe.bptt}`,
  );
  watchInterrupt();
  const first = history.length;
  for (let epoch = first; epoch < recipe.epochs; epoch++) {
    const record = await trainEpoch(trainer, corpus, epoch, () => kept(epoch));
    record.validPpl = Math.exp(await evaluate(model, corpus.valid, recipe));
    record.testPpl = Math.exp(await evaluate(model, corpus.test, recipe));
    console.log(
      `epoch ${epoch + 1}/${recipe.epochs}: train loss ${record.trainLoss.toFixed(4)} ppl ${
        record.trainPpl.toFixed(2)
      }, valid ppl ${record.validPpl.toFixed(2)}, test ppl ${record.testPpl.toFixed(2)}, ` +
        `${record.seconds.toFixed(1)} s`,
    );
    history.push(record);
    await save();
    if (flags.json !== null) await writeJson(flags.json, record, epoch > first || flags.resume);
  }
  const best = bestOf(history);
  if (best !== null) {
    console.log(
      `best epoch ${best.epoch}: valid ppl ${best.validPpl.toFixed(2)}, test ppl ${
        best.testPpl.toFixed(2)
      }; ${kept(history.length)}, ${
        writable ? `${bestPath} the best model` : "the last is the best"
      }`,
    );
  }
  if (flags.plot !== null && history.length > 0) {
    await writePlot(flags.plot, kind, history, [
      {
        yLabel: "loss (nats per word)",
        fields: { train: "trainPpl", validation: "validPpl" },
        scale: Math.log,
      },
      {
        yLabel: "perplexity",
        fields: { train: "trainPpl", validation: "validPpl" },
        logarithmic: true,
      },
    ]);
  }
  if (prompt !== null) {
    if (writable && best !== null) model.loadStateDict((await load<Saved>(bestPath)).model);
    const { temperature } = flags;
    const words = model.generate(prompt, generatedWords, { temperature });
    console.log(`\n${vocabulary.decode([...prompt, ...words]).replaceAll(/ <eos> ?/g, "\n")}`);
  }
}

async function trainEpoch(
  trainer: Trainer,
  corpus: Corpus,
  epoch: number,
  kept: () => string,
): Promise<EpochRecord> {
  const { model, recipe, flags } = trainer;
  const segments = trainingSegments(corpus.train, recipe, flags.limit, epoch);
  const began = performance.now();
  let state: ndl.nn.LanguageState | null = null, sum = 0, words = 0;
  model.train();
  using bar = ndl.tqdm(null, {
    total: segments.length,
    desc: `epoch ${epoch + 1}/${recipe.epochs}`,
    unit: "step",
  });
  for (let i = 0; i < segments.length; i++) {
    const before: ndl.nn.LanguageState | null = recipe.carry ? state : null;
    let n = 0;
    const { loss, norm, state: after }: StepResult = ndl.tidy((): StepResult => {
      const segment = segments.get(i);
      n = segment[1].numel();
      return trainer.step(segment, before);
    });
    state?.forEach((t) => t.dispose());
    state = after;
    if (!Number.isFinite(loss) || (!Number.isFinite(norm) && !trainer.scaler.isEnabled())) {
      throw new Error(
        `The loss became ${loss} in epoch ${epoch + 1}, step ${
          i + 1
        } (norm of the gradient: ${norm}): ` +
          `lower --lr or --clip-norm, then --resume; ${kept()}`,
      );
    }
    sum += loss * n;
    words += n;
    bar.update();
    bar.setPostfix({
      ppl: Math.exp(sum / words).toFixed(1),
      "tokens/s": (1000 * words / (performance.now() - began)).toFixed(0),
    });
    await tick();
    if (interrupted()) {
      bar.close();
      console.log(`\nstopped in epoch ${epoch + 1}; ${kept()}: --resume`);
      process.exit(130);
    }
  }
  const trainLoss = sum / words;
  const seconds = (performance.now() - began) / 1000;
  return {
    epoch: epoch + 1,
    trainLoss,
    trainPpl: Math.exp(trainLoss),
    validPpl: NaN,
    testPpl: NaN,
    seconds,
  };
}
