/**
 * Modules: layers, containers, losses, initialisation, and everything as plain functions in `functional`.
 *
 * @module
 */
export {
  type AnyModule,
  type ForwardHook,
  type Layer,
  Module,
  Parameter,
  type StateDict,
} from "./module.ts";
export { Flatten, Identity, ModuleList, Residual, Sequential } from "./container.ts";
export { type FactoryOptions, type Pair } from "./factory.ts";
export { Bilinear, Linear, type LinearOptions } from "./linear.ts";
export {
  Conv1d,
  Conv2d,
  type ConvOptions,
  ConvTranspose1d,
  ConvTranspose2d,
  type ConvTransposeOptions,
  type PaddingMode,
} from "./conv.ts";
export { AdaptiveAvgPool2d, AvgPool2d, MaxPool2d } from "./pool.ts";
export {
  BatchNorm1d,
  BatchNorm2d,
  type BatchNormOptions,
  GroupNorm,
  type GroupNormOptions,
  LayerNorm,
  type LayerNormOptions,
  RMSNorm,
  type RMSNormOptions,
} from "./norm.ts";
export * from "./activation.ts";
export { Dropout, Embedding, type EmbeddingOptions } from "./dropout.ts";
export { GRU, LSTM, type LstmOptions, type RecurrentOptions, RNN, type RnnOptions } from "./rnn.ts";
export { type CellOptions, GRUCell, LSTMCell, RNNCell, type RnnCellOptions } from "./rnn_cell.ts";
export {
  type AttendOptions,
  MultiheadAttention,
  type MultiheadAttentionOptions,
} from "./attention.ts";
export {
  type EncodeOptions,
  TransformerEncoderLayer,
  type TransformerEncoderLayerOptions,
} from "./transformer.ts";
export {
  type GenerateOptions,
  LanguageModel,
  type LanguageModelOptions,
  type LanguageState,
  SequenceModel,
  TransformerLanguageModel,
  type TransformerLanguageModelOptions,
} from "./language_model.ts";
export * from "./loss.ts";
/** Every module and loss as a function. */
export * as functional from "./functional.ts";
/** Initialisation of parameters, in place. */
export * as init from "./init.ts";
/** Gradient clipping, and parameters as one vector. */
export * as utils from "./utils.ts";
