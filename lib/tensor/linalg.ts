// Linear algebra methods: documented one-liners over lib/ops/matmul.ts.

import { ReduceTensor } from "./reduce.ts";

/** Linear algebra methods of tensors. */
export abstract class LinalgTensor extends ReduceTensor {}
