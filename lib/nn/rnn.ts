// Recurrent layers over whole sequences: RNN, LSTM and GRU, stacked and in both directions.
// The input's part of all gates is one matrix product over all steps; the steps themselves are lib/ops/rnn.ts.

import { call } from "../dispatch.ts";
import { linear } from "../functional/layers.ts";
import { rnnOps } from "../ops/rnn.ts";
import { checkOptions } from "../options.ts";
import { scoped } from "../scope.ts";
import { same, show } from "../shape.ts";
import { empty } from "../tensor/create.ts";
import { cat, stack } from "../tensor/join.ts";
import { Tensor } from "../tensor/mod.ts";
import { dropout } from "../tensor/random.ts";
import { factoryKeys, type FactoryOptions, positiveSizes } from "./factory.ts";
import * as init from "./init.ts";
import { Module, Parameter } from "./module.ts";

/** Options of LSTM and GRU. */
export interface RecurrentOptions extends FactoryOptions {
  /** Layers on top of each other (default 1). */
  readonly numLayers?: number;
  /** Learn biases (default true). */
  readonly bias?: boolean;
  /** Sequences are (N, T, features) instead of (T, N, features) (default false). States are not affected. */
  readonly batchFirst?: boolean;
  /** Probability of dropping an output of every layer but the last, in training (default 0). */
  readonly dropout?: number;
  /** Also run from the last step to the first, and join both outputs (default false). */
  readonly bidirectional?: boolean;
}

/** Options of LSTM. */
export interface LstmOptions extends RecurrentOptions {
  /** The hidden state is projected to so many features, Sak et al. 2014; 0 (default): it is not. */
  readonly projSize?: number;
}

/** Options of RNN. */
export interface RnnOptions extends RecurrentOptions {
  /** "tanh" (default) or "relu". */
  readonly nonlinearity?: "tanh" | "relu";
}

const optionKeys = ["numLayers", "bias", "batchFirst", "dropout", "bidirectional", ...factoryKeys];

/** The parameters of one direction of one layer. */
export interface RecurrentWeights {
  /** (gates H, in). */
  readonly ih: Tensor;
  /** (gates H, H). */
  readonly hh: Tensor;
  /** (gates H), or null. */
  readonly biasIh: Tensor | null;
  /** (gates H), or null. */
  readonly biasHh: Tensor | null;
  /** (projections, H): what the hidden state is projected with, or null. */
  readonly hr?: Tensor | null;
}

/** The input's part of the gates at all steps, with both biases: (T, B, gates H). */
export function inputGates(x: Tensor, w: RecurrentWeights): Tensor {
  return linear(x, w.ih, { bias: w.biasIh === null ? null : w.biasIh.add(w.biasHh!) });
}

/** Runs one direction of a layer: the outputs at all steps, then the final states. */
export type RunLayer = (
  x: Tensor,
  states: readonly Tensor[],
  w: RecurrentWeights,
  reverse: boolean,
) => Tensor[];

/** One direction of a plain recurrent layer. */
export function runRnn(relu: boolean): RunLayer {
  return (x, [h], w, reverse) =>
    call(rnnOps.rnnLayer, [inputGates(x, w), h!, w.hh], { reverse, relu });
}

/** One direction of an LSTM layer. */
export function runLstm(
  x: Tensor,
  [h, c]: readonly Tensor[],
  w: RecurrentWeights,
  reverse: boolean,
): Tensor[] {
  if (w.hr) return projectedLstm(inputGates(x, w), h!, c!, w.hh, w.hr, reverse);
  return call(rnnOps.lstmLayer, [inputGates(x, w), h!, c!, w.hh], { reverse });
}

/** The steps of an LSTM whose hidden state is projected. */
function projectedLstm(
  gates: Tensor,
  h: Tensor,
  c: Tensor,
  hh: Tensor,
  hr: Tensor,
  reverse: boolean,
): Tensor[] {
  const steps = gates.unbind(0), outputs: Tensor[] = [];
  if (reverse) steps.reverse();
  for (const step of steps) {
    const [i, f, g, o] = step.add(h.matmul(hh.T)).chunk(4, 1) as [Tensor, Tensor, Tensor, Tensor];
    c = f.sigmoid().mul(c).add(i.sigmoid().mul(g.tanh()));
    h = o.sigmoid().mul(c.tanh()).matmul(hr.T);
    outputs.push(h);
  }
  return [stack(reverse ? outputs.reverse() : outputs), h, c];
}

/** One direction of a GRU layer: the recurrent bias of n stands inside the product with the reset gate. */
export function runGru(
  x: Tensor,
  [h]: readonly Tensor[],
  w: RecurrentWeights,
  reverse: boolean,
): Tensor[] {
  return call(rnnOps.gruLayer, [linear(x, w.ih, { bias: w.biasIh }), h!, w.hh, w.biasHh], {
    reverse,
  });
}

/** Recurrent layers whose state is `S`: one tensor, or several. */
abstract class Recurrent<S> extends Module<[x: Tensor, state?: S | null], [Tensor, S]> {
  /** (gates H, inputs): of layer k, with the suffix `_reverse` for the backward direction. */
  [weight: `weight_ih_l${string}`]: Parameter;
  /** (gates H, H). */
  [weight: `weight_hh_l${string}`]: Parameter;
  /** (gates H). */
  [bias: `bias_ih_l${string}`]: Parameter;
  /** (gates H). */
  [bias: `bias_hh_l${string}`]: Parameter;
  /** (projSize, H). */
  [weight: `weight_hr_l${string}`]: Parameter;
  /** Features of the input. */
  readonly inputSize: number;
  /** Hidden units H. */
  readonly hiddenSize: number;
  /** Layers. */
  readonly numLayers: number;
  /** Whether there are biases. */
  readonly bias: boolean;
  /** Whether sequences are (N, T, features). */
  readonly batchFirst: boolean;
  /** Probability of dropout between layers. */
  dropout: number;
  /** Whether there are two directions. */
  readonly bidirectional: boolean;
  /** Features of each state: of h, then of c. */
  readonly #sizes: readonly number[];

  /** `gates` blocks of hidden units in the weights, `states` tensors as state. */
  constructor(
    inputSize: number,
    hiddenSize: number,
    options: LstmOptions,
    gates: number,
    states: number,
  ) {
    super();
    const { numLayers = 1, bias = true, batchFirst = false, dropout = 0, bidirectional = false } =
      options;
    const { projSize = 0 } = options;
    const name = this.constructor.name;
    positiveSizes(name, { inputSize, hiddenSize, numLayers });
    if (!Number.isInteger(projSize) || projSize < 0 || projSize >= hiddenSize) {
      throw new RangeError(
        `Cannot make ${name} with projSize ${projSize}: it must be smaller than hiddenSize, or 0`,
      );
    }
    const outputs = projSize || hiddenSize;
    if (!(dropout >= 0 && dropout <= 1)) {
      throw new RangeError(`Cannot make ${name} with dropout ${dropout}: it must be in [0, 1]`);
    }
    this.inputSize = inputSize;
    this.hiddenSize = hiddenSize;
    this.numLayers = numLayers;
    this.bias = bias;
    this.batchFirst = batchFirst;
    this.dropout = dropout;
    this.bidirectional = bidirectional;
    this.#sizes = [outputs, hiddenSize].slice(0, states);
    const fields = this as Record<string, unknown>;
    const make = (shape: readonly number[]): Parameter => {
      const { device, dtype } = options;
      const factory = { ...(device && { device }), ...(dtype && { dtype }) };
      const p = new Parameter(empty([...shape], factory));
      init.uniformBound_(p, hiddenSize);
      return p;
    };
    for (let layer = 0; layer < numLayers; layer++) {
      const inputs = layer === 0 ? inputSize : outputs * (bidirectional ? 2 : 1);
      for (const suffix of this.#suffixes(layer)) {
        fields[`weight_ih_${suffix}`] = make([gates * hiddenSize, inputs]);
        fields[`weight_hh_${suffix}`] = make([gates * hiddenSize, outputs]);
        if (bias) {
          fields[`bias_ih_${suffix}`] = make([gates * hiddenSize]);
          fields[`bias_hh_${suffix}`] = make([gates * hiddenSize]);
        }
        if (projSize > 0) fields[`weight_hr_${suffix}`] = make([projSize, hiddenSize]);
      }
    }
  }

  #suffixes(layer: number): string[] {
    return this.bidirectional ? [`l${layer}`, `l${layer}_reverse`] : [`l${layer}`];
  }

  #weights(suffix: string): RecurrentWeights {
    const field = (name: string): Tensor => (this as Record<string, unknown>)[name] as Tensor;
    return {
      ih: field(`weight_ih_${suffix}`),
      hh: field(`weight_hh_${suffix}`),
      biasIh: this.bias ? field(`bias_ih_${suffix}`) : null,
      biasHh: this.bias ? field(`bias_hh_${suffix}`) : null,
      hr: field(`weight_hr_${suffix}`) ?? null,
    };
  }

  #check(x: Tensor, states: readonly Tensor[] | null): void {
    const what = `Cannot run ${this.constructor.name}(${this.inputSize}, ${this.hiddenSize}) on ${
      show(x.shape)
    }`;
    const order = this.batchFirst ? "(N, T, features)" : "(T, N, features)";
    if (x.ndim !== 3 && x.ndim !== 2) {
      throw new RangeError(`${what}: it takes ${order}, or (T, features) without a batch`);
    }
    if (x.shape[x.ndim - 1] !== this.inputSize) {
      throw new RangeError(`${what}: the last dim must hold ${this.inputSize} features`);
    }
    const steps = x.ndim === 2 || !this.batchFirst ? 0 : 1;
    if (x.shape[steps] === 0) throw new RangeError(`${what}: it needs at least one step`);
    if (states === null) return;
    const batch = x.ndim === 2 ? [] : [x.shape[1 - steps]!];
    const count = this.#sizes.length;
    if (states.length !== count || states.some((s) => !(s instanceof Tensor))) {
      throw new TypeError(
        `${what}: the state must be ${count === 1 ? "one tensor" : "[h, c], two tensors"}`,
      );
    }
    for (const [i, s] of states.entries()) {
      const want = [this.numLayers * (this.bidirectional ? 2 : 1), ...batch, this.#sizes[i]!];
      if (!same(s.shape, want)) {
        throw new RangeError(
          `${what} with a state of shape ${show(s.shape)}: it must be ${show(want)}`,
        );
      }
    }
  }

  /** Runs all layers; `states` null means zeros. Gives the outputs, then the final states. */
  protected runLayers(x: Tensor, states: readonly Tensor[] | null, run: RunLayer): Tensor[] {
    this.#check(x, states);
    return scoped(() => {
      const single = x.ndim === 2;
      let sequence = single ? x.unsqueeze(1) : this.batchFirst ? x.transpose(0, 1) : x;
      const zeros = states === null
        ? this.#sizes.map((size) => x._zeros([sequence.shape[1]!, size]))
        : null;
      const initial = (i: number): readonly Tensor[] =>
        states === null ? zeros! : states.map((s) => single ? s.narrow(0, i, 1) : s.select(0, i));
      const last: Tensor[][] = [];
      for (let layer = 0; layer < this.numLayers; layer++) {
        const outputs = this.#suffixes(layer).map((suffix, direction) => {
          const [y, ...final] = run(
            sequence,
            initial(last.length),
            this.#weights(suffix),
            direction === 1,
          );
          last.push(final);
          return y!;
        });
        sequence = outputs.length === 1 ? outputs[0]! : cat(outputs, 2);
        if (layer + 1 < this.numLayers) {
          sequence = dropout(sequence, this.dropout, { training: this.training });
        }
      }
      const finals = this.#sizes.map((_, k) => {
        const all = last.length === 1 ? last[0]![k]!.unsqueeze(0) : stack(last.map((f) => f[k]!));
        return single ? all.squeeze(1) : all;
      });
      const y = single
        ? sequence.squeeze(1)
        : this.batchFirst
        ? sequence.transpose(0, 1)
        : sequence;
      return [y, ...finals];
    });
  }

  /** The sizes and what differs from the defaults. */
  override extraRepr(): string {
    const parts = [`${this.inputSize}, ${this.hiddenSize}`];
    if (this.numLayers !== 1) parts.push(`numLayers=${this.numLayers}`);
    if (!this.bias) parts.push("bias=false");
    if (this.batchFirst) parts.push("batchFirst=true");
    if (this.dropout !== 0) parts.push(`dropout=${this.dropout}`);
    if (this.bidirectional) parts.push("bidirectional=true");
    if (this.#sizes[0] !== this.hiddenSize) parts.push(`projSize=${this.#sizes[0]}`);
    return parts.join(", ");
  }
}

/** h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), Elman 1990; or relu. Parameters as torch.nn.RNN. */
export class RNN extends Recurrent<Tensor> {
  /** "tanh" or "relu". */
  readonly nonlinearity: "tanh" | "relu";

  /** Sequences of `inputSize` features, `hiddenSize` hidden units. */
  constructor(inputSize: number, hiddenSize: number, options: RnnOptions = {}) {
    checkOptions("RNN", options, ["nonlinearity", ...optionKeys]);
    super(inputSize, hiddenSize, options, 1, 1);
    this.nonlinearity = checkNonlinearity("RNN", options.nonlinearity);
  }

  /**
   * @param x (T, N, inputSize), (N, T, inputSize) with batchFirst, or (T, inputSize)
   * @param h (layers · directions, N, hiddenSize), zeros if left out
   * @returns outputs (T, N, directions · hiddenSize) of the last layer at all steps, and the last state of each layer
   */
  override forward(x: Tensor, h?: Tensor | null): [Tensor, Tensor] {
    const run = runRnn(this.nonlinearity === "relu");
    return this.runLayers(x, h ? [h] : null, run) as [Tensor, Tensor];
  }
}

/**
 * Long short-term memory, Hochreiter & Schmidhuber 1997. Parameters as torch.nn.LSTM, gates in the order i, f, g, o.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const lstm = new ndl.nn.LSTM(10, 20, { numLayers: 2 });
 * const [y, [h, c]] = lstm.forward(ndl.randn([5, 3, 10]));
 * console.log(y.shape, h.shape, c.shape); // [5, 3, 20] [2, 3, 20] [2, 3, 20]
 * ```
 */
export class LSTM extends Recurrent<[Tensor, Tensor]> {
  /** Sequences of `inputSize` features, `hiddenSize` hidden units. */
  constructor(inputSize: number, hiddenSize: number, options: LstmOptions = {}) {
    checkOptions("LSTM", options, [...optionKeys, "projSize"]);
    super(inputSize, hiddenSize, options, 4, 2);
  }

  /**
   * @param x (T, N, inputSize), (N, T, inputSize) with batchFirst, or (T, inputSize)
   * @param state [h, c], each (layers · directions, N, hiddenSize), zeros if left out; with projSize that is the size of h
   * @returns outputs (T, N, directions · size of h) of the last layer at all steps, and the last [h, c] of each layer
   */
  override forward(
    x: Tensor,
    state?: readonly [Tensor, Tensor] | null,
  ): [Tensor, [Tensor, Tensor]] {
    const [y, h, c] = this.runLayers(x, state ?? null, runLstm);
    return [y!, [h!, c!]];
  }
}

/** Gated recurrent units, Cho et al. 2014. Parameters as torch.nn.GRU, gates in the order r, z, n. */
export class GRU extends Recurrent<Tensor> {
  /** Sequences of `inputSize` features, `hiddenSize` hidden units. */
  constructor(inputSize: number, hiddenSize: number, options: RecurrentOptions = {}) {
    checkOptions("GRU", options, optionKeys);
    super(inputSize, hiddenSize, options, 3, 1);
  }

  /**
   * @param x (T, N, inputSize), (N, T, inputSize) with batchFirst, or (T, inputSize)
   * @param h (layers · directions, N, hiddenSize), zeros if left out
   * @returns outputs (T, N, directions · hiddenSize) of the last layer at all steps, and the last state of each layer
   */
  override forward(x: Tensor, h?: Tensor | null): [Tensor, Tensor] {
    return this.runLayers(x, h ? [h] : null, runGru) as [Tensor, Tensor];
  }
}

/** The nonlinearity, checked; tanh by default. */
export function checkNonlinearity(what: string, name: "tanh" | "relu" = "tanh"): "tanh" | "relu" {
  if (name !== "tanh" && name !== "relu") {
    throw new TypeError(`Cannot make ${what} with nonlinearity "${name}": it is "tanh" or "relu"`);
  }
  return name;
}
