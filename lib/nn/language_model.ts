// Language models: they read sequences of words and predict, at every position, the word that follows. A recurrent one
// (RNN, LSTM, GRU) and a transformer, with the same interface: the state that `forward` returns is what the next segment
// of the same streams starts from, and stands for all that was read before.

import { noGrad } from "../autograd/mode.ts";
import { linear } from "../functional/layers.ts";
import { checkOptions } from "../options.ts";
import { scoped } from "../scope.ts";
import { show } from "../shape.ts";
import { arange, tensor } from "../tensor/create.ts";
import { cat } from "../tensor/join.ts";
import type { Tensor } from "../tensor/mod.ts";
import { ModuleList } from "./container.ts";
import { Dropout, Embedding } from "./dropout.ts";
import { factoryKeys, type FactoryOptions, positiveSizes } from "./factory.ts";
import * as init from "./init.ts";
import { Linear } from "./linear.ts";
import { Module } from "./module.ts";
import { LayerNorm } from "./norm.ts";
import { GRU, LSTM, RNN } from "./rnn.ts";
import { TransformerEncoderLayer } from "./transformer.ts";

/** What a model keeps of the words that it has read: tensors whose meaning is the model's own. */
export type LanguageState = readonly Tensor[];

/** Options of generate. */
export interface GenerateOptions {
  /** Divides the logits: below 1 likely words become likelier, 0 always takes the likeliest (default 1). */
  readonly temperature?: number;
}

/** What both kinds of language models share. */
export abstract class SequenceModel
  extends Module<[x: Tensor, state?: LanguageState | null], [Tensor, LanguageState]> {
  /** Number of different words. */
  readonly vocabularySize: number;

  /** A model of `vocabularySize` words. */
  constructor(vocabularySize: number) {
    super();
    this.vocabularySize = vocabularySize;
  }

  /** Throws unless `x` holds segments of streams, (T, N). */
  protected checkWords(x: Tensor): void {
    if (x.ndim !== 2 || x.shape[0] === 0) {
      throw new RangeError(
        `Cannot run ${this.constructor.name} on words of shape ${
          show(x.shape)
        }: it takes (T, N) with at least one step`,
      );
    }
  }

  /**
   * Continues a text by drawing one word after another from the model's distribution.
   *
   * @param prompt numbers of the words to start from, at least one
   * @param length how many words to add
   * @returns the numbers of the added words
   * @throws {RangeError} Where the prompt is empty or has a number outside the vocabulary, or an option is out of range.
   */
  generate(prompt: readonly number[], length: number, options: GenerateOptions = {}): number[] {
    checkOptions("generate", options, ["temperature"]);
    const { temperature = 1 } = options;
    if (!(temperature >= 0 && temperature < Infinity)) {
      throw new RangeError(
        `Cannot generate with temperature ${temperature}: it must be finite and at least 0`,
      );
    }
    if (!Number.isInteger(length) || length < 0) {
      throw new RangeError(`Cannot generate ${length} words: give a whole number of at least 0`);
    }
    if (prompt.length === 0) throw new RangeError("Cannot generate after nothing: give a word");
    const stray = prompt.find((n) => !Number.isInteger(n) || n < 0 || n >= this.vocabularySize);
    if (stray !== undefined) {
      throw new RangeError(
        `Cannot generate after word ${stray}: words are numbered from 0 to ${
          this.vocabularySize - 1
        }`,
      );
    }
    const { training } = this, words: number[] = [];
    const device = this.parameters().next().value!.device;
    this.eval();
    try {
      noGrad(() => {
        let state: LanguageState | null = null;
        let given: readonly number[] = prompt;
        while (words.length < length) {
          const [next, word]: [LanguageState, number] = scoped(() => {
            const x = tensor(BigInt64Array.from(given, BigInt), {
              shape: [given.length, 1],
              device,
            });
            const [logits, after] = this.forward(x, state);
            const last = logits.select(0, -1);
            const drawn = temperature === 0
              ? last.argmax()
              : last.div(temperature).softmax(0).multinomial(1);
            return [after, Number(drawn.item())];
          });
          state?.forEach((t) => t.dispose());
          state = next;
          given = [word];
          words.push(word);
        }
        state?.forEach((t) => t.dispose());
      });
    } finally {
      this.train(training);
    }
    return words;
  }
}

/** Options of LanguageModel. */
export interface LanguageModelOptions extends FactoryOptions {
  /** "lstm" (default), "gru" or "rnn". */
  readonly cell?: "lstm" | "gru" | "rnn";
  /** Probability of dropout on all connections that are not recurrent (default 0), Zaremba et al. 2014. */
  readonly dropout?: number;
  /** The projection to the words uses the embedding as its weight, Press & Wolf 2017 (default false). */
  readonly tied?: boolean;
  /** Initialise all parameters uniformly in ± this, instead of as their layers do. */
  readonly initRange?: number;
}

/**
 * Embedding, recurrent layers, projection to the words; dropout after the embedding, between the layers and before the
 * projection. State-dict names are those of PyTorch's word_language_model example: encoder, rnn, decoder.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const model = new ndl.nn.LanguageModel(100, 16, 2);
 * const [logits, state] = model.forward(ndl.randint(0, 100, [5, 3]));
 * console.log(logits.shape, state.length); // [15, 100] 2
 * const [next] = model.forward(ndl.randint(0, 100, [5, 3]), state.map((t) => t.detach()));
 * console.log(next.shape); // [15, 100]
 * ```
 */
export class LanguageModel extends SequenceModel {
  /** (vocabulary, hidden). */
  encoder: Embedding;
  /** The recurrent layers. */
  rnn: LSTM | GRU | RNN;
  /** hidden features to vocabulary logits. */
  decoder: Linear;
  /** Applied after the embedding and before the projection. */
  drop: Dropout;

  /** `vocabularySize` words, vectors and recurrent layers of `hiddenSize` features. */
  constructor(
    vocabularySize: number,
    hiddenSize: number,
    numLayers = 1,
    options: LanguageModelOptions = {},
  ) {
    super(vocabularySize);
    checkOptions("LanguageModel", options, [
      "cell",
      "dropout",
      "tied",
      "initRange",
      ...factoryKeys,
    ]);
    const { cell = "lstm", dropout = 0, tied = false, initRange, ...factory } = options;
    const kinds = { lstm: LSTM, gru: GRU, rnn: RNN };
    if (!Object.hasOwn(kinds, cell)) {
      throw new TypeError(
        `Cannot make LanguageModel with cell "${cell}": it is "lstm", "gru" or "rnn"`,
      );
    }
    this.encoder = new Embedding(vocabularySize, hiddenSize, factory);
    this.rnn = new kinds[cell](hiddenSize, hiddenSize, { numLayers, dropout, ...factory });
    this.decoder = new Linear(hiddenSize, vocabularySize, factory);
    if (tied) this.decoder.weight = this.encoder.weight;
    this.drop = new Dropout(dropout);
    if (initRange !== undefined) {
      for (const p of this.parameters()) init.uniform_(p, -initRange, initRange);
    } else if (tied) {
      // Standard normal vectors would make logits of size √hidden.
      init.uniform_(this.encoder.weight, -0.1, 0.1);
      if (this.decoder.bias !== null) init.zeros_(this.decoder.bias);
    }
  }

  /**
   * @param x (T, N), int64 or int32: T steps of N streams
   * @param state what the segment before returned, detached; zeros if left out
   * @returns logits (T · N, vocabulary), row t · N + n for step t of stream n, and the state: [h, c] or [h]
   */
  override forward(x: Tensor, state?: LanguageState | null): [Tensor, LanguageState] {
    this.checkWords(x);
    return scoped(() => {
      const embedded = this.drop.forward(this.encoder.forward(x));
      let y: Tensor, next: LanguageState;
      if (this.rnn instanceof LSTM) {
        [y, next] = this.rnn.forward(embedded, state ? [state[0]!, state[1]!] : null);
      } else {
        const [out, h] = this.rnn.forward(embedded, state?.[0] ?? null);
        [y, next] = [out, [h]];
      }
      return [this.decoder.forward(this.drop.forward(y.flatten(0, 1))), next];
    });
  }
}

/** Options of TransformerLanguageModel. */
export interface TransformerLanguageModelOptions extends FactoryOptions {
  /** Attention heads (default: one for 64 features). */
  readonly numHeads?: number;
  /** Features inside the feedforward parts (default 4 · width). */
  readonly dimFeedforward?: number;
  /** Words that the model can see at once, the present segment included (default 128). */
  readonly maxLength?: number;
  /** Probability of dropout after the embedding and in every layer, attention weights excepted (default 0). */
  readonly dropout?: number;
}

/**
 * A causal transformer in the manner of GPT-2: learned positions, layers with their norms in front, GELU, a final norm,
 * and the embedding as the projection to the words. Its state is the words read last, so that a segment shorter than
 * `maxLength` still sees what came before it.
 *
 * @example
 * ```ts
 * import * as ndl from "../../mod.ts";
 * const model = new ndl.nn.TransformerLanguageModel(100, 16, 2, { numHeads: 2, maxLength: 8 });
 * const [logits, state] = model.forward(ndl.randint(0, 100, [5, 3]));
 * console.log(logits.shape, state[0]!.shape); // [15, 100] [5, 3]
 * ```
 */
export class TransformerLanguageModel extends SequenceModel {
  /** Vectors of the words, (vocabulary, width); also the projection to them. */
  wte: Embedding;
  /** Vectors of the positions, (maxLength, width). */
  wpe: Embedding;
  /** The layers. */
  h: ModuleList<TransformerEncoderLayer>;
  /** The last norm. */
  ln_f: LayerNorm;
  /** Applied after the embedding. */
  drop: Dropout;
  /** Words that the model can see at once. */
  readonly maxLength: number;

  /** `vocabularySize` words, `numLayers` layers of `width` features. */
  constructor(
    vocabularySize: number,
    width: number,
    numLayers = 1,
    options: TransformerLanguageModelOptions = {},
  ) {
    super(vocabularySize);
    checkOptions("TransformerLanguageModel", options, [
      "numHeads",
      "dimFeedforward",
      "maxLength",
      "dropout",
      ...factoryKeys,
    ]);
    const {
      numHeads = Math.max(1, Math.floor(width / 64)),
      dimFeedforward = 4 * width,
      maxLength = 128,
      dropout = 0,
      ...factory
    } = options;
    positiveSizes("TransformerLanguageModel", { numLayers });
    this.maxLength = maxLength;
    this.wte = new Embedding(vocabularySize, width, factory);
    this.wpe = new Embedding(maxLength, width, factory);
    this.drop = new Dropout(dropout);
    this.h = new ModuleList(
      Array.from({ length: numLayers }, () =>
        new TransformerEncoderLayer(width, numHeads, {
          dimFeedforward,
          dropout,
          activation: "gelu",
          normFirst: true,
          ...factory,
        })),
    );
    this.ln_f = new LayerNorm(width, factory);
    // Small weights, and those that add to the residual stream smaller with depth, as in GPT-2.
    for (const e of [this.wte, this.wpe]) init.normal_(e.weight, 0, 0.02);
    for (const layer of this.h) {
      const { self_attn: attention, linear1, linear2 } = layer;
      // Dropping weights would need all of them in memory at once.
      attention.dropout = 0;
      const residual = 0.02 / Math.sqrt(2 * numLayers);
      init.normal_(attention.in_proj_weight!, 0, 0.02);
      init.normal_(linear1.weight, 0, 0.02);
      init.normal_(attention.out_proj.weight, 0, residual);
      init.normal_(linear2.weight, 0, residual);
      for (const { bias } of [linear1, linear2]) if (bias !== null) init.zeros_(bias);
    }
  }

  /**
   * @param x (T, N), int64 or int32: T steps of N streams, T at most maxLength
   * @param state what the segment before returned: the words before, (up to maxLength, N)
   * @returns logits (T · N, vocabulary), row t · N + n for step t of stream n, and the state
   * @throws {RangeError} Where the segment is longer than maxLength.
   */
  override forward(x: Tensor, state?: LanguageState | null): [Tensor, LanguageState] {
    this.checkWords(x);
    const steps = x.shape[0]!;
    if (steps > this.maxLength) {
      throw new RangeError(
        `Cannot run TransformerLanguageModel on ${steps} steps: it has ${this.maxLength} positions`,
      );
    }
    return scoped(() => {
      const before = state?.[0] ?? null;
      const seen = before === null ? x : cat([before, x], 0);
      const length = Math.min(seen.shape[0]!, this.maxLength);
      const words = seen.narrow(0, seen.shape[0]! - length, length);
      const positions = this.wpe.forward(arange(length, { device: x.device })).unsqueeze(1);
      let y = this.drop.forward(this.wte.forward(words).add(positions));
      for (const layer of this.h) y = layer.forward(y, { isCausal: true });
      const own = y.narrow(0, length - steps, steps).flatten(0, 1);
      return [linear(this.ln_f.forward(own), this.wte.weight), [words.detach().clone()]];
    });
  }
}
