// Activation layers: elementwise functions as modules.

import { checkOptions } from "../options.ts";
import type { Tensor } from "../tensor/mod.ts";
import { markBuiltin, Module } from "./module.ts";

/** max(x, 0). */
export class ReLU extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.relu();
  }
}

/** The self-normalising activation of Klambauer et al. 2017. */
export class SELU extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.selu();
  }
}

/** x sigmoid(x). */
export class SiLU extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.silu();
  }
}

/** x tanh(softplus(x)). */
export class Mish extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.mish();
  }
}

/** 1 / (1 + e⁻ˣ). */
export class Sigmoid extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.sigmoid();
  }
}

/** tanh x. */
export class Tanh extends Module {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.tanh();
  }
}

/** x > 0 ? x : slope x. */
export class LeakyReLU extends Module {
  readonly #slope: number;

  /** The slope for negative x. */
  constructor(negativeSlope = 0.01) {
    super();
    this.#slope = negativeSlope;
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.leakyRelu(this.#slope);
  }

  /** The slope. */
  override extraRepr(): string {
    return `negativeSlope=${this.#slope}`;
  }
}

/** x > 0 ? x : alpha (eˣ - 1). */
export class ELU extends Module {
  readonly #alpha: number;

  /** The limit for large negative x is -alpha. */
  constructor(alpha = 1) {
    super();
    this.#alpha = alpha;
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.elu(this.#alpha);
  }

  /** The limit. */
  override extraRepr(): string {
    return `alpha=${this.#alpha}`;
  }
}

/** x Φ(x), or its tanh approximation. */
export class GELU extends Module {
  readonly #options: { approximate?: "none" | "tanh" };

  /** `approximate`: "none" (default) or "tanh". */
  constructor(options: { approximate?: "none" | "tanh" } = {}) {
    super();
    checkOptions("GELU", options, ["approximate"]);
    this.#options = options;
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.gelu(this.#options);
  }
}

/** ln(1 + exp(beta x)) / beta, linear above the threshold. */
export class Softplus extends Module {
  readonly #beta: number;
  readonly #threshold: number;

  /** Sharpness, and the beta x from which on the function is linear. */
  constructor(beta = 1, threshold = 20) {
    super();
    this.#beta = beta;
    this.#threshold = threshold;
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.softplus(this.#beta, this.#threshold);
  }

  /** The two constants. */
  override extraRepr(): string {
    return `beta=${this.#beta}, threshold=${this.#threshold}`;
  }
}

/** exp(x) / Σ exp(x) along dim. */
export class Softmax extends Module {
  readonly #dim: number;

  /** The dim along which the exponentials sum to 1. */
  constructor(dim = -1) {
    super();
    this.#dim = dim;
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.softmax(this.#dim);
  }

  /** The dim. */
  override extraRepr(): string {
    return `dim=${this.#dim}`;
  }
}

/** x - ln Σ exp(x) along dim. */
export class LogSoftmax extends Module {
  readonly #dim: number;

  /** The dim along which the exponentials sum to 1. */
  constructor(dim = -1) {
    super();
    this.#dim = dim;
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.logSoftmax(this.#dim);
  }

  /** The dim. */
  override extraRepr(): string {
    return `dim=${this.#dim}`;
  }
}

markBuiltin(
  ReLU,
  SELU,
  SiLU,
  Mish,
  Sigmoid,
  Tanh,
  LeakyReLU,
  ELU,
  GELU,
  Softplus,
  Softmax,
  LogSoftmax,
);
