// Indexing methods: documented one-liners over lib/ops/index.ts.

import { LayoutTensor } from "./layout.ts";

/** Indexing methods of tensors. */
export abstract class IndexTensor extends LayoutTensor {}
