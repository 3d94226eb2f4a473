// Activation layers: elementwise functions as modules. One number that PyTorch takes by position may be given so, or
// by name in an options object.

import * as F from "../functional/activation.ts";
import { argumentsOf, checkOptions } from "../options.ts";
import type { Tensor } from "../tensor/mod.ts";
import { markBuiltin, Module } from "./module.ts";

/** An activation that may be computed in place. */
abstract class Inplace extends Module {
  /** @internal Whether x is written. */
  protected readonly inplace: boolean;

  /** `inplace`: write the result into x (default false). */
  constructor(options: F.InplaceOptions = {}) {
    super();
    this.inplace = argumentsOf(new.target.name, [options], { inplace: false }).inplace;
  }

  /** The option where it is set. */
  override extraRepr(): string {
    return this.inplace ? "inplace=true" : "";
  }
}

/** max(x, 0). */
export class ReLU extends Inplace {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return this.inplace ? F.relu(x, { inplace: true }) : x.relu();
  }
}

/** The self-normalising activation of Klambauer et al. 2017. */
export class SELU extends Inplace {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return F.selu(x, { inplace: this.inplace });
  }
}

/** x sigmoid(x). */
export class SiLU extends Inplace {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return F.silu(x, { inplace: this.inplace });
  }
}

/** x tanh(softplus(x)). */
export class Mish extends Inplace {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return F.mish(x, { inplace: this.inplace });
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
  readonly #options: Required<F.LeakyReluOptions>;

  /** The slope for negative x (default 0.01), by position or by name. */
  constructor(negativeSlope: number | F.LeakyReluOptions = 0.01, options?: F.InplaceOptions) {
    super();
    const known = { negativeSlope: 0.01, inplace: false };
    this.#options = argumentsOf("LeakyReLU", [negativeSlope, options], known);
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return F.leakyRelu(x, this.#options);
  }

  /** The slope. */
  override extraRepr(): string {
    const { negativeSlope, inplace } = this.#options;
    return `negativeSlope=${negativeSlope}${inplace ? ", inplace=true" : ""}`;
  }
}

/** x > 0 ? x : alpha (eˣ - 1). */
export class ELU extends Module {
  readonly #options: Required<F.EluOptions>;

  /** The limit for large negative x is -alpha (default 1), by position or by name. */
  constructor(alpha: number | F.EluOptions = 1, options?: F.InplaceOptions) {
    super();
    this.#options = argumentsOf("ELU", [alpha, options], { alpha: 1, inplace: false });
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return F.elu(x, this.#options);
  }

  /** The limit. */
  override extraRepr(): string {
    return `alpha=${this.#options.alpha}${this.#options.inplace ? ", inplace=true" : ""}`;
  }
}

/** x Φ(x), or its tanh approximation. */
export class GELU extends Module {
  readonly #options: F.GeluOptions;

  /** `approximate`: "none" (default) or "tanh". */
  constructor(options: F.GeluOptions = {}) {
    super();
    checkOptions("GELU", options, ["approximate"]);
    const { approximate = "none" } = options;
    if (approximate !== "none" && approximate !== "tanh") {
      throw new TypeError(
        `Cannot make GELU with approximate ${JSON.stringify(approximate)}: use "none" or "tanh"`,
      );
    }
    this.#options = { approximate };
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.gelu(this.#options);
  }

  /** The approximation. */
  override extraRepr(): string {
    return `approximate=${this.#options.approximate}`;
  }
}

/** ln(1 + exp(beta x)) / beta, linear above the threshold. */
export class Softplus extends Module {
  readonly #options: Required<F.SoftplusOptions>;

  /** Sharpness (default 1), and the beta x from which on the function is linear (default 20), by position or by name. */
  constructor(
    beta: number | F.SoftplusOptions = 1,
    threshold?: number | Pick<F.SoftplusOptions, "threshold">,
  ) {
    super();
    this.#options = argumentsOf("Softplus", [beta, threshold], { beta: 1, threshold: 20 });
  }

  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return x.softplus(this.#options);
  }

  /** The two constants. */
  override extraRepr(): string {
    return `beta=${this.#options.beta}, threshold=${this.#options.threshold}`;
  }
}

/** Softmax and LogSoftmax: a dim, or PyTorch's implicit one. */
abstract class AlongDim extends Module {
  /** @internal The dim, or null. */
  protected readonly dim: number | null;

  /** The dim along which the exponentials sum to 1; without one 0 of inputs with 0, 1 or 3 dims, else 1. */
  constructor(dim: number | null | { readonly dim?: number | null } = null) {
    super();
    const what = new.target.name, named = typeof dim === "object" && dim !== null;
    if (named) checkOptions(what, dim, ["dim"]);
    this.dim = (named ? dim.dim : dim) ?? null;
    if (this.dim !== null && !Number.isInteger(this.dim)) {
      throw new TypeError(`Cannot make ${what} along dim ${String(this.dim)}: give an integer`);
    }
  }

  /** The dim. */
  override extraRepr(): string {
    return `dim=${this.dim}`;
  }
}

/** exp(x) / Σ exp(x) along dim. */
export class Softmax extends AlongDim {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return F.softmax(x, this.dim);
  }
}

/** x - ln Σ exp(x) along dim. */
export class LogSoftmax extends AlongDim {
  /** Same shape as x. */
  override forward(x: Tensor): Tensor {
    return F.logSoftmax(x, this.dim);
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
