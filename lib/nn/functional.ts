// nn.functional: every module and loss as a function under PyTorch's name in camelCase.

import { call } from "../dispatch.ts";
import { gradEnabled } from "../autograd/mode.ts";
import { checkOptions } from "../options.ts";
import type { Tensor } from "../tensor/mod.ts";

export * from "../functional_nn.ts";
export * from "../functional_loss.ts";
