// What the page and its worker say to each other.

/** The optimisers that the page offers. */
export type OptimizerName = "adam" | "adamw" | "sgd" | "momentum" | "rmsprop";

/** How to train. */
export interface Settings {
  readonly optimizer: OptimizerName;
  readonly lr: number;
}

/** From the page to the worker. */
export type Request =
  | { readonly kind: "start" | "pause" }
  | { readonly kind: "reset"; readonly settings: Settings }
  | { readonly kind: "settings"; readonly settings: Settings }
  /** An image of 28x28 numbers from 0 (paper) to 1 (ink). */
  | { readonly kind: "predict"; readonly id: number; readonly pixels: Float32Array }
  /** MNIST's own files, packed or not; none: the built-in digits. */
  | { readonly kind: "data"; readonly files: readonly File[] };

/** Means over some images. */
export interface Measure {
  readonly loss: number;
  /** Between 0 and 1. */
  readonly accuracy: number;
}

/** Test images to show: 28x28 bytes each, one after the other. */
export interface Gallery {
  readonly images: Uint8Array;
  readonly labels: readonly number[];
}

/** From the worker to the page. */
export type Response =
  | { readonly kind: "ready"; readonly device: string; readonly parameters: number }
  | {
    readonly kind: "data";
    readonly name: string;
    readonly train: number;
    readonly test: number;
    readonly gallery: Gallery;
  }
  /** A new net, untrained: what was drawn of the old one is void. */
  | { readonly kind: "reset" }
  | {
    readonly kind: "progress";
    readonly step: number;
    readonly epoch: number;
    /** Images trained on since the reset. */
    readonly images: number;
    readonly imagesPerSecond: number;
    readonly train: Measure;
  }
  | {
    readonly kind: "evaluation";
    /** Images trained on when it began. */
    readonly images: number;
    readonly test: Measure;
    /** The digits that the net sees in the gallery. */
    readonly gallery: readonly number[];
  }
  | { readonly kind: "prediction"; readonly id: number; readonly probabilities: readonly number[] }
  | { readonly kind: "running"; readonly running: boolean }
  /** Something the user asked for is not possible; training goes on. */
  | { readonly kind: "problem"; readonly message: string };
