// One step of recurrence: RNNCell, LSTMCell and GRUCell. They run the layers of lib/ops/rnn.ts on a single step.

import { checkOptions } from "../options.ts";
import { scoped } from "../scope.ts";
import { same, show } from "../shape.ts";
import { empty } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import { factoryKeys, type FactoryOptions, positiveSizes } from "./factory.ts";
import * as init from "./init.ts";
import { Module, Parameter } from "./module.ts";
import {
  checkNonlinearity,
  type RecurrentWeights,
  runGru,
  type RunLayer,
  runLstm,
  runRnn,
} from "./rnn.ts";

/** Options of LSTMCell and GRUCell. */
export interface CellOptions extends FactoryOptions {
  /** Learn biases (default true). */
  readonly bias?: boolean;
}

/** Options of RNNCell. */
export interface RnnCellOptions extends CellOptions {
  /** "tanh" (default) or "relu". */
  readonly nonlinearity?: "tanh" | "relu";
}

/** A cell whose state is `S`. */
abstract class Cell<S> extends Module<[x: Tensor, state?: S | null], S> {
  /** (gates H, inputs). */
  weight_ih: Parameter;
  /** (gates H, H). */
  weight_hh: Parameter;
  /** (gates H), or null. */
  bias_ih: Parameter | null;
  /** (gates H), or null. */
  bias_hh: Parameter | null;
  /** Features of the input. */
  readonly inputSize: number;
  /** Hidden units H. */
  readonly hiddenSize: number;

  constructor(inputSize: number, hiddenSize: number, options: CellOptions, gates: number) {
    super();
    positiveSizes(this.constructor.name, { inputSize, hiddenSize });
    const { bias = true, device, dtype } = options;
    const factory = { ...(device && { device }), ...(dtype && { dtype }) };
    const make = (...shape: number[]): Parameter => {
      const p = new Parameter(empty(shape, factory));
      init.uniformBound_(p, hiddenSize);
      return p;
    };
    this.inputSize = inputSize;
    this.hiddenSize = hiddenSize;
    this.weight_ih = make(gates * hiddenSize, inputSize);
    this.weight_hh = make(gates * hiddenSize, hiddenSize);
    this.bias_ih = bias ? make(gates * hiddenSize) : null;
    this.bias_hh = bias ? make(gates * hiddenSize) : null;
  }

  /** Runs one step; `states` null means zeros. Gives the new states. */
  protected step(
    x: Tensor,
    states: readonly Tensor[] | null,
    count: number,
    run: RunLayer,
  ): Tensor[] {
    const what = `Cannot run ${this.constructor.name}(${this.inputSize}, ${this.hiddenSize}) on ${
      show(x.shape)
    }`;
    if ((x.ndim !== 1 && x.ndim !== 2) || x.shape[x.ndim - 1] !== this.inputSize) {
      throw new RangeError(`${what}: it takes (N, ${this.inputSize}) or (${this.inputSize})`);
    }
    const want = [...x.shape.slice(0, -1), this.hiddenSize];
    for (const s of states ?? []) {
      if (!same(s.shape, want)) {
        throw new RangeError(
          `${what} with a state of shape ${show(s.shape)}: it must be ${show(want)}`,
        );
      }
    }
    const weights: RecurrentWeights = {
      ih: this.weight_ih,
      hh: this.weight_hh,
      biasIh: this.bias_ih,
      biasHh: this.bias_hh,
    };
    return scoped(() => {
      const single = x.ndim === 1, rows = single ? x.unsqueeze(0) : x;
      const before = states === null
        ? new Array<Tensor>(count).fill(x._zeros([rows.shape[0]!, this.hiddenSize]))
        : states.map((s) => single ? s.unsqueeze(0) : s);
      const [, ...after] = run(rows.unsqueeze(0), before, weights, false);
      return single ? after.map((s) => s.squeeze(0)) : after;
    });
  }

  /** The sizes. */
  override extraRepr(): string {
    return `${this.inputSize}, ${this.hiddenSize}${this.bias_ih === null ? ", bias=false" : ""}`;
  }
}

/** h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu. Parameters as torch.nn.RNNCell. */
export class RNNCell extends Cell<Tensor> {
  /** "tanh" or "relu". */
  readonly nonlinearity: "tanh" | "relu";

  /** `inputSize` features, `hiddenSize` hidden units. */
  constructor(inputSize: number, hiddenSize: number, options: RnnCellOptions = {}) {
    checkOptions("RNNCell", options, ["bias", "nonlinearity", ...factoryKeys]);
    super(inputSize, hiddenSize, options, 1);
    this.nonlinearity = checkNonlinearity("RNNCell", options.nonlinearity);
  }

  /**
   * @param x (N, inputSize) or (inputSize)
   * @param h (N, hiddenSize) or (hiddenSize), zeros if left out
   * @returns the new h
   */
  override forward(x: Tensor, h?: Tensor | null): Tensor {
    return this.step(x, h ? [h] : null, 1, runRnn(this.nonlinearity === "relu"))[0]!;
  }
}

/** One step of an LSTM. Parameters as torch.nn.LSTMCell, gates in the order i, f, g, o. */
export class LSTMCell extends Cell<[Tensor, Tensor]> {
  /** `inputSize` features, `hiddenSize` hidden units. */
  constructor(inputSize: number, hiddenSize: number, options: CellOptions = {}) {
    checkOptions("LSTMCell", options, ["bias", ...factoryKeys]);
    super(inputSize, hiddenSize, options, 4);
  }

  /**
   * @param x (N, inputSize) or (inputSize)
   * @param state [h, c], each (N, hiddenSize) or (hiddenSize), zeros if left out
   * @returns the new [h, c]
   */
  override forward(x: Tensor, state?: readonly [Tensor, Tensor] | null): [Tensor, Tensor] {
    return this.step(x, state ?? null, 2, runLstm) as [Tensor, Tensor];
  }
}

/** One step of a GRU. Parameters as torch.nn.GRUCell, gates in the order r, z, n. */
export class GRUCell extends Cell<Tensor> {
  /** `inputSize` features, `hiddenSize` hidden units. */
  constructor(inputSize: number, hiddenSize: number, options: CellOptions = {}) {
    checkOptions("GRUCell", options, ["bias", ...factoryKeys]);
    super(inputSize, hiddenSize, options, 3);
  }

  /**
   * @param x (N, inputSize) or (inputSize)
   * @param h (N, hiddenSize) or (hiddenSize), zeros if left out
   * @returns the new h
   */
  override forward(x: Tensor, h?: Tensor | null): Tensor {
    return this.step(x, h ? [h] : null, 1, runGru)[0]!;
  }
}
