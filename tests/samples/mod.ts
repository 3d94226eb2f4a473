// The op test table: a row for every op that has a kernel or is a view. A missing row does not type-check.

import { ops } from "../../lib/ops/mod.ts";
import { elementwiseOps } from "../../lib/ops/elementwise.ts";
import type { OpSample } from "./sample.ts";
import { attentionSamples } from "./attention.ts";
import { convSamples } from "./conv.ts";
import { gradSamples } from "./grads.ts";
import { indexSamples } from "./index.ts";
import { layoutSamples } from "./layout.ts";
import { lossSamples } from "./loss.ts";
import { matmulSamples } from "./matmul.ts";
import { normSamples } from "./norm.ts";
import { optimSamples } from "./optim.ts";
import { poolSamples } from "./pool.ts";
import { randomSamples } from "./random.ts";
import { reduceSamples } from "./reduce.ts";
import { rnnSamples } from "./rnn.ts";
import { softmaxSamples } from "./softmax.ts";
import { sortSamples } from "./sort.ts";

/** Samples of every op that is not elementwise (those have a table of their own). */
export const samples = {
  ...layoutSamples,
  ...reduceSamples,
  ...softmaxSamples,
  ...lossSamples,
  ...sortSamples,
  ...matmulSamples,
  ...convSamples,
  ...poolSamples,
  ...normSamples,
  ...indexSamples,
  ...randomSamples,
  ...optimSamples,
  ...gradSamples,
  ...rnnSamples,
  ...attentionSamples,
} satisfies Record<Exclude<keyof typeof ops, keyof typeof elementwiseOps>, readonly OpSample[]>;
