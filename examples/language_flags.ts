// What the command line of a language model sets: a recipe, which a preset gives and flags change, and the rest.

import { fail, type FlagSpec, readFlags } from "./program.ts";

/** How a model is trained; each flag that is given replaces one of the numbers. */
export interface Recipe {
  /** Features of the vectors and layers. */
  readonly hidden: number;
  /** Layers. */
  readonly layers: number;
  /** Probability of dropout. */
  readonly dropout: number;
  /** Steps of a training segment. */
  readonly bptt: number;
  /** Streams side by side. */
  readonly batchSize: number;
  /** Passes over the text. */
  readonly epochs: number;
  /** Learning rate at first. */
  readonly lr: number;
  /** L2 penalty; decoupled with AdamW. */
  readonly weightDecay: number;
  /** Largest norm of all gradients together; 0: no limit. */
  readonly clipNorm: number;
  /** What follows the gradients. */
  readonly optimizer: "sgd" | "adamw";
  /** Whether the loss is summed over the steps of a segment, as in Zaremba et al. 2014, instead of averaged. */
  readonly sumOverSteps: boolean;
  /** Whether training carries the state from segment to segment. Evaluation always does. */
  readonly carry: boolean;
  /** Steps of a segment in evaluation. */
  readonly evaluationSteps: number;
  /** What the learning rate is multiplied by; `epoch` counts from 0 and has a fraction, `last` is where it ends. */
  readonly decay: (epoch: number, last: number) => number;
}

/** What the command line sets besides the recipe. */
export interface LanguageFlags {
  readonly preset: string;
  readonly device: string | null;
  readonly dtype: "float32" | "float64";
  readonly amp: "bf16" | "f16" | null;
  readonly seed: number;
  readonly data: string | null;
  readonly limit: number | null;
  readonly resume: boolean;
  readonly checkpoint: string;
  readonly json: string | null;
  readonly plot: string | null;
  readonly generate: string | null;
  readonly temperature: number;
}

const recipeFlags: Readonly<Record<string, FlagSpec>> = {
  epochs: { help: "passes over the training text", value: null, least: 0 },
  batchSize: { help: "streams side by side", value: null, least: 1 },
  bptt: { help: "steps of a segment", value: null, least: 1 },
  hidden: { help: "features of vectors and layers", value: null, least: 1 },
  layers: { help: "layers", value: null, least: 1 },
  dropout: { help: "probability of dropout", value: null, least: 0, fraction: true },
  lr: { help: "learning rate", value: null, least: 0, fraction: true },
  weightDecay: { help: "L2 penalty", value: null, least: 0, fraction: true },
  clipNorm: { help: "largest norm of the gradient; 0: any", value: null, least: 0, fraction: true },
};

const otherFlags: Readonly<Record<string, FlagSpec>> = {
  device: { help: "reference, cpu or dnnl (default: the best there is)", value: null },
  dtype: { help: "float32 or float64", value: "float32", choices: ["float32", "float64"] },
  amp: {
    help: "compute in bf16 or f16 where that is safe, with float32 weights",
    value: null,
    choices: ["bf16", "f16"],
  },
  seed: { help: "of initialisation and dropout", value: 0, least: 0 },
  data: {
    help: "folder with the text (default: NEEDLE_DATA_DIR, the cache, a download)",
    value: null,
  },
  limit: { help: "use only the first N training words", value: null, least: 1 },
  resume: { help: "continue after the last finished epoch of the checkpoint", value: false },
  checkpoint: {
    help: "where the checkpoint is saved after each epoch (default: checkpoints/...)",
    value: null,
  },
  json: { help: "append one JSON object per epoch to this file", value: null },
  plot: { help: "draw loss and perplexity into this SVG file", value: null },
  generate: { help: "continue this text with the best model", value: null },
  temperature: {
    help: "of the continuation: below 1 bolder, 0 the likeliest",
    value: 0.8,
    least: 0,
    fraction: true,
  },
};

/** Reads the command line: a preset's recipe with what is given in its place, and the rest. */
export function readLanguageFlags<E>(
  usage: string,
  program: string,
  presets: Readonly<Record<string, Recipe>>,
  preset: string,
  extra: Readonly<Record<string, FlagSpec>> = {},
  args?: readonly string[],
): { flags: LanguageFlags & E; recipe: Recipe } {
  const names = Object.keys(presets);
  const values = readFlags(usage, {
    preset: { help: names.join(", "), value: preset, choices: names },
    ...extra,
    ...recipeFlags,
    ...otherFlags,
  }, args);
  const given = Object.entries(values).filter(([name, v]) =>
    Object.hasOwn(recipeFlags, name) && v !== null
  );
  const recipe = { ...presets[values.preset as string]!, ...Object.fromEntries(given) } as Recipe;
  if (recipe.dropout > 1) fail(`--dropout must be at most 1, not "${recipe.dropout}"`);
  const checkpoint = values.checkpoint ?? `checkpoints/${program}_${values.preset}.safetensors`;
  return { flags: { ...values, checkpoint } as unknown as LanguageFlags & E, recipe };
}
