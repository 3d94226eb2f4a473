/**
 * Optimisers, and learning rate schedules in `lrScheduler`: PyTorch's formulas, defaults and state dicts.
 * @module
 */
export {
  type GroupOptions,
  type LearningRate,
  Optimizer,
  type OptimizerState,
  type ParamGroup,
  type Params,
  type SavedGroup,
} from "./optimizer.ts";
export { SGD, type SGDOptions } from "./sgd.ts";
export { Adam, type AdamOptions, AdamW } from "./adam.ts";
export { RMSprop, type RMSpropOptions } from "./rmsprop.ts";
export { Adagrad, type AdagradOptions } from "./adagrad.ts";
export * as lrScheduler from "./lr_scheduler.ts";
