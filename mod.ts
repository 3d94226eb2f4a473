/** Needle. @module */
export * from "./lib/tensor/create.ts";
export { Tensor } from "./lib/tensor/mod.ts";
export { grad } from "./lib/autograd/engine.ts";
export { detectAnomaly, enableGrad, noGrad } from "./lib/autograd/mode.ts";
export {
  cpu, defaultDevice, Device, devices, dnnl, memorySummary, reference, setDefaultDevice, setNumThreads, synchronize,
} from "./lib/device.ts";
