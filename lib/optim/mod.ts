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
  type StateField,
} from "./optimizer.ts";
export { SGD, type SGDOptions, type SGDState } from "./sgd.ts";
export { Adam, type AdamOptions, type AdamState, AdamW } from "./adam.ts";
export { RMSprop, type RMSpropOptions, type RMSpropState } from "./rmsprop.ts";
export { Adagrad, type AdagradOptions, type AdagradState } from "./adagrad.ts";
export { OptionRules, type Rule } from "./rules.ts";
/** Learning rate schedules. */
export * as lrScheduler from "./lr_scheduler.ts";
