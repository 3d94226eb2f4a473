// The registry: every op of the library by name. Consumers (C header, kernels, tests, conformance) are total over it.

import { elementwiseOps } from "./elementwise.ts";
import { layoutOps } from "./layout.ts";
import { optimOps } from "./optim.ts";
import { reduceOps } from "./reduce.ts";

/** All ops. */
export const ops = {
  ...elementwiseOps,
  ...layoutOps,
  ...optimOps,
  ...reduceOps,
};

/** The name of an op. */
export type OpName = keyof typeof ops;
