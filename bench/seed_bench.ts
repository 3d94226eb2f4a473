// The table of the README of the Python framework that Needle descends from (github.com/kyrillosishak/Needle), on every
// available device: a product of two 2048 x 2048 matrices, a convolution of 224x224x3 images, and batch norm. It does
// not state the rest of the shapes; the first layer of ResNet on 32 images is taken here, because its work fits the
// rates that the table implies: at the 85 to 120 GFLOP/s of its CPU and the 2 TFLOP/s of its GPU, both times are met.
// The reference device would need minutes.

import * as ndl from "../mod.ts";
import { group } from "./groups.ts";

const F = ndl.nn.functional;

group("matmul 2048³", { flops: 2 * 2048 ** 3 }, (device) => {
  const a = ndl.randn([2048, 2048], { device }), b = ndl.randn([2048, 2048], { device });
  return () => a.matmul(b);
});

const batch = 32, filters = 64, kernel = 7, half = 112;

group("convolution 224×224×3", {
  flops: 2 * batch * filters * half ** 2 * 3 * kernel ** 2,
}, (device) => {
  const x = ndl.randn([batch, 3, 224, 224], { device });
  const w = ndl.randn([filters, 3, kernel, kernel], { device });
  return () => F.conv2d(x, w, { stride: 2, padding: 3 });
});

group("batch norm", {
  bytes: 2 * 4 * batch * filters * half ** 2,
}, (device) => {
  const x = ndl.randn([batch, filters, half, half], { device });
  const weight = ndl.ones([filters], { device }), bias = ndl.zeros([filters], { device });
  const mean = ndl.zeros([filters], { device }), variance = ndl.ones([filters], { device });
  return () => F.batchNorm(x, mean, variance, { weight, bias, training: true });
});
