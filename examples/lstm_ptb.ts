// Recurrent language models on the Penn Treebank: 930,000 words of newspaper text, 10,000 different ones.
//
// Presets: seed (1 × 100), small and medium (2 × 200 and 2 × 650, the recipes of Zaremba et al. 2014), tied (2 × 512 with
// the embedding as the projection, AdamW). Data: found in --data, NEEDLE_DATA_DIR or the cache, else downloaded (6 MB).
// Perplexity: small reaches about 120 on the validation text and 115 on the test text after 13 epochs.
//
// Run: deno task ptb [flags], or deno run examples/lstm_ptb.ts --help

import * as ndl from "../mod.ts";
import { readLanguageFlags, type Recipe, trainLanguageModel } from "./language.ts";

/** A recipe for recurrent models. */
interface RecurrentRecipe extends Recipe {
  readonly initRange: number | null;
  readonly tied: boolean;
}

const zaremba = {
  layers: 2,
  batchSize: 20,
  lr: 1,
  weightDecay: 0,
  clipNorm: 5,
  optimizer: "sgd" as const,
  sumOverSteps: true,
  carry: true,
  tied: false,
};

/** A factor for every epoch after the first `keep`. */
function afterEpoch(keep: number, factor: number): (epoch: number) => number {
  // The tolerance is for fractions of an epoch that rounding puts just below a whole number.
  return (epoch) => factor ** Math.max(Math.floor(epoch + 1e-9) + 1 - keep, 0);
}

function cosine(epoch: number, last: number): number {
  return 0.5 * (1 + Math.cos(Math.PI * Math.min(1, epoch / Math.max(last, 1e-9))));
}

const presets: Record<string, RecurrentRecipe> = {
  seed: {
    ...zaremba,
    hidden: 100,
    layers: 1,
    dropout: 0,
    bptt: 40,
    evaluationSteps: 40,
    batchSize: 16,
    epochs: 10,
    lr: 0.003,
    clipNorm: 0.25,
    optimizer: "adamw",
    sumOverSteps: false,
    initRange: 0.1,
    decay: cosine,
  },
  small: {
    ...zaremba,
    hidden: 200,
    dropout: 0,
    bptt: 20,
    evaluationSteps: 20,
    epochs: 13,
    initRange: 0.1,
    decay: afterEpoch(4, 0.5),
  },
  medium: {
    ...zaremba,
    hidden: 650,
    dropout: 0.5,
    bptt: 35,
    evaluationSteps: 35,
    epochs: 39,
    initRange: 0.05,
    decay: afterEpoch(6, 1 / 1.2),
  },
  tied: {
    ...zaremba,
    hidden: 512,
    dropout: 0.5,
    bptt: 35,
    evaluationSteps: 35,
    epochs: 25,
    lr: 0.002,
    weightDecay: 0.01,
    clipNorm: 0.25,
    optimizer: "adamw",
    sumOverSteps: false,
    tied: true,
    initRange: null,
    decay: cosine,
  },
};

if (import.meta.main) {
  const { flags, recipe } = readLanguageFlags<{ cell: "lstm" | "gru" | "rnn" }>(
    "Trains a recurrent language model on the Penn Treebank.\n\nFlags (defaults by preset):",
    "ptb",
    presets,
    "small",
    { cell: { help: "lstm, gru or rnn", value: "lstm", choices: ["lstm", "gru", "rnn"] } },
  );
  const { hidden, layers, dropout, initRange, tied } = recipe as RecurrentRecipe;
  await trainLanguageModel(
    (words) => ({
      kind: `${flags.cell} ${layers} × ${hidden}${tied ? ", tied" : ""}, ${words} words`,
      model: new ndl.nn.LanguageModel(words, hidden, layers, {
        cell: flags.cell,
        dropout,
        tied,
        ...(initRange === null ? {} : { initRange }),
      }),
    }),
    recipe,
    flags,
    "examples/lstm_ptb.ts",
  );
}
