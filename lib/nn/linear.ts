// Linear and Bilinear layers.

import { bilinear, linear } from "../functional/layers.ts";
import { checkOptions } from "../options.ts";
import { empty } from "../tensor/create.ts";
import type { Tensor } from "../tensor/mod.ts";
import type { FactoryOptions } from "./factory.ts";
import { factoryKeys, positiveSizes } from "./factory.ts";
import * as init from "./init.ts";
import { markBuiltin, Module, Parameter } from "./module.ts";

/** Options of Linear and Bilinear. */
export interface LinearOptions extends FactoryOptions {
  /** Learn a bias (default true). */
  readonly bias?: boolean;
}

/** y = x Wᵀ + b, with W (outFeatures, inFeatures) and b uniform in ±1/√inFeatures at first, as in PyTorch. */
export class Linear extends Module {
  /** (outFeatures, inFeatures). */
  weight: Parameter;
  /** (outFeatures), or null. */
  bias: Parameter | null;

  /** A layer from `inFeatures` to `outFeatures` features. */
  constructor(inFeatures: number, outFeatures: number, options: LinearOptions = {}) {
    super();
    checkOptions("Linear", options, ["bias", ...factoryKeys]);
    positiveSizes("Linear", { inFeatures, outFeatures });
    const { bias = true, ...factory } = options;
    this.weight = new Parameter(empty([outFeatures, inFeatures], factory));
    this.bias = bias ? new Parameter(empty([outFeatures], factory)) : null;
    init.kaimingUniform_(this.weight, { a: Math.sqrt(5) });
    if (this.bias !== null) init.uniformBound_(this.bias, inFeatures);
  }

  /** (..., inFeatures) -> (..., outFeatures). */
  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, { bias: this.bias });
  }

  override extraRepr(): string {
    const [out, inn] = this.weight.shape;
    return `inFeatures=${inn}, outFeatures=${out}, bias=${this.bias !== null}`;
  }
}

/** y_k = aᵀ W_k b + bias_k, with W (outFeatures, in1Features, in2Features). */
export class Bilinear extends Module<[Tensor, Tensor], Tensor> {
  /** (outFeatures, in1Features, in2Features). */
  weight: Parameter;
  /** (outFeatures), or null. */
  bias: Parameter | null;

  /** A layer from two inputs to `outFeatures` features. */
  constructor(
    in1Features: number,
    in2Features: number,
    outFeatures: number,
    options: LinearOptions = {},
  ) {
    super();
    checkOptions("Bilinear", options, ["bias", ...factoryKeys]);
    positiveSizes("Bilinear", { in1Features, in2Features, outFeatures });
    const { bias = true, ...factory } = options;
    this.weight = new Parameter(empty([outFeatures, in1Features, in2Features], factory));
    this.bias = bias ? new Parameter(empty([outFeatures], factory)) : null;
    init.uniformBound_(this.weight, in1Features);
    if (this.bias !== null) init.uniformBound_(this.bias, in1Features);
  }

  /** (..., in1Features), (..., in2Features) -> (..., outFeatures). */
  override forward(a: Tensor, b: Tensor): Tensor {
    return bilinear(a, b, this.weight, { bias: this.bias });
  }

  override extraRepr(): string {
    const [out, in1, in2] = this.weight.shape;
    return `in1Features=${in1}, in2Features=${in2}, outFeatures=${out}, bias=${this.bias !== null}`;
  }
}

markBuiltin(Linear, Bilinear);
