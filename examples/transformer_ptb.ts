// A small GPT on the Penn Treebank: causal transformer, norms in front, learned positions, the embedding as the projection.
//
// Presets: small (3 × 256, segments of 64 words) and medium (4 × 256, 128 words, more epochs). It trains on segments of
// their own, cut elsewhere in each epoch; evaluation lets every word see at least half a segment before it.
// Data: found in --data, NEEDLE_DATA_DIR or the cache, else downloaded (6 MB).
//
// Run: deno task transformer [flags], or deno run examples/transformer_ptb.ts --help

import * as ndl from "../mod.ts";
import { readLanguageFlags, type Recipe, trainLanguageModel } from "./language.ts";

/** Linear over the first twentieth of the run, then a cosine down to a twentieth. */
function warmupCosine(epoch: number, last: number): number {
  const at = Math.min(1, epoch / Math.max(last, 1e-9)), warm = 0.05;
  if (at < warm) return 0.01 + 0.99 * at / warm;
  return 0.05 + 0.95 * 0.5 * (1 + Math.cos(Math.PI * (at - warm) / (1 - warm)));
}

const small: Recipe = {
  hidden: 256,
  layers: 3,
  dropout: 0.2,
  bptt: 64,
  evaluationSteps: 32,
  batchSize: 16,
  epochs: 8,
  lr: 0.001,
  weightDecay: 0.05,
  clipNorm: 1,
  optimizer: "adamw",
  sumOverSteps: false,
  carry: false,
  decay: warmupCosine,
};

const presets: Record<string, Recipe> = {
  small,
  medium: {
    ...small,
    layers: 4,
    dropout: 0.3,
    bptt: 128,
    evaluationSteps: 64,
    epochs: 20,
    weightDecay: 0.1,
  },
};

if (import.meta.main) {
  const { flags, recipe } = readLanguageFlags<{ heads: number }>(
    "Trains a small GPT on the Penn Treebank.\n\nFlags (defaults by preset):",
    "transformer",
    presets,
    "small",
    { heads: { help: "attention heads; they divide the features", value: 4, least: 1 } },
  );
  const { hidden, layers, dropout, bptt } = recipe;
  await trainLanguageModel(
    (words) => ({
      kind:
        `transformer ${layers} × ${hidden}, ${flags.heads} heads, ${bptt} positions, ${words} words`,
      model: new ndl.nn.TransformerLanguageModel(words, hidden, layers, {
        numHeads: flags.heads,
        maxLength: bptt,
        dropout,
      }),
    }),
    { ...recipe, evaluationSteps: Math.max(1, Math.min(recipe.evaluationSteps, bptt >> 1)) },
    flags,
    "examples/transformer_ptb.ts",
  );
}
