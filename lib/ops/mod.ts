// The registry: every op of the library by name. Consumers (C header, kernels, tests, conformance) are total over it.

import { attentionOps } from "./attention.ts";
import { convOps } from "./conv.ts";
import { elementwiseOps } from "./elementwise.ts";
import { gradOps } from "./grads.ts";
import { indexOps } from "./index.ts";
import { layoutOps } from "./layout.ts";
import { lossOps } from "./loss.ts";
import { matmulOps } from "./matmul.ts";
import { normOps } from "./norm.ts";
import { optimOps } from "./optim.ts";
import { poolOps } from "./pool.ts";
import { randomOps } from "./random.ts";
import { reduceOps } from "./reduce.ts";
import { rnnOps } from "./rnn.ts";
import { scanOps } from "./scan.ts";
import { softmaxOps } from "./softmax.ts";
import { sortOps } from "./sort.ts";

/** All ops. */
export const ops = {
  ...attentionOps,
  ...elementwiseOps,
  ...indexOps,
  ...layoutOps,
  ...matmulOps,
  ...convOps,
  ...poolOps,
  ...normOps,
  ...lossOps,
  ...optimOps,
  ...gradOps,
  ...randomOps,
  ...reduceOps,
  ...rnnOps,
  ...scanOps,
  ...softmaxOps,
  ...sortOps,
};

/** The name of an op. */
export type OpName = keyof typeof ops;
