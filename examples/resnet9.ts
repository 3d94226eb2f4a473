// ResNet9 on CIFAR-10: 50,000 colour images of 32 × 32 pixels in 10 classes.
//
// Data: found in --data, NEEDLE_DATA_DIR or the cache, else downloaded (170 MB); without any, a built-in set.
// Time: a few seconds per epoch on two cores with oneDNN. Accuracy: about 0.70 (training) and 0.60 (test) after 10
// epochs with the default flags; --augment trades the one for the other.
//
// Run: deno task resnet9 [flags], or deno run examples/resnet9.ts --help

import * as ndl from "../mod.ts";
import {
  type DataPair,
  type Flags,
  loadData,
  parseFlags,
  prepare,
  trainClassifier,
} from "./training.ts";

const { Conv2d, BatchNorm2d, ReLU, Sequential, Residual, Flatten, Linear } = ndl.nn;

/** Convolution with padding kernel / 2, batch norm, ReLU. */
function ConvBN(
  inChannels: number,
  outChannels: number,
  kernel: number,
  stride: number,
): ndl.nn.Sequential {
  return new Sequential(
    new Conv2d(inChannels, outChannels, kernel, { stride, padding: Math.floor(kernel / 2) }),
    new BatchNorm2d(outChannels),
    new ReLU(),
  );
}

/** The network: (N, 3, 32, 32) -> (N, 10). */
export function ResNet9(): ndl.nn.Sequential {
  return new Sequential(
    ConvBN(3, 16, 7, 4),
    ConvBN(16, 32, 3, 2),
    new Residual(new Sequential(ConvBN(32, 32, 3, 1), ConvBN(32, 32, 3, 1))),
    ConvBN(32, 64, 3, 2),
    ConvBN(64, 128, 3, 2),
    new Residual(new Sequential(ConvBN(128, 128, 3, 1), ConvBN(128, 128, 3, 1))),
    new Flatten(),
    new Linear(128, 128),
    new ReLU(),
    new Linear(128, 10),
  );
}

const defaults: Flags = {
  epochs: 10,
  batchSize: 128,
  lr: 0.001,
  weightDecay: 0.001,
  device: null,
  dtype: "float32",
  amp: null,
  seed: 0,
  data: null,
  limit: null,
  resume: false,
  checkpoint: "checkpoints/resnet9.safetensors",
  json: null,
  augment: false,
  lrSchedule: "none",
};

/** CIFAR-10, real or made up. */
function data(flags: Flags): Promise<DataPair> {
  const { RandomFlipHorizontal, RandomCrop, CIFAR10, syntheticCIFAR10 } = ndl.data;
  const transforms = flags.augment
    ? [new RandomFlipHorizontal(), new RandomCrop({ padding: 4 })]
    : [];
  const root = flags.data === null ? {} : { root: flags.data };
  return loadData(
    "CIFAR-10",
    async () => ({
      train: await CIFAR10({ ...root, train: true, transforms, download: true }),
      test: await CIFAR10({ ...root, train: false, download: true }),
    }),
    (length) => ({
      train: syntheticCIFAR10({ train: true, transforms, ...(length === null ? {} : { length }) }),
      test: syntheticCIFAR10({ train: false, ...(length === null ? {} : { length: length / 5 }) }),
    }),
    "examples/resnet9.ts",
  );
}

if (import.meta.main) {
  const flags = parseFlags("Trains ResNet9 on CIFAR-10.\n\nFlags:", defaults);
  prepare(flags);
  const sets = await data(flags);
  await trainClassifier(ResNet9(), sets, flags);
}
