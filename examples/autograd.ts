// A tour of automatic differentiation: build an expression, look at its graph, check a gradient by finite
// differences, take a second derivative, define a function of your own.
//
// Data: none. Time: under a second.
//
// Run: deno task autograd

import process from "node:process";
import * as ndl from "../mod.ts";

if (process.argv.includes("--help")) {
  console.log("A tour of automatic differentiation. It takes no flags.");
  process.exit(0);
}

function title(text: string): void {
  console.log(`\n${text}\n${"-".repeat(text.length)}`);
}

title("1. Build an expression");
const x = ndl.tensor([0.5, -1.0, 2.0], { dtype: "float64", requiresGrad: true });
const w = ndl.tensor([[1, 2, 3], [-1, 0, 1]], { dtype: "float64", requiresGrad: true });
const y = w.matmul(x).tanh().square().sum();
console.log("y = sum(tanh(W x)²) =", y.item());

title("2. Look at the graph that was recorded");
console.log(ndl.graphText(y));

title("3. Walk it backwards");
y.backward();
console.log("dy/dx =", String(x.grad));
console.log("dy/dW =", String(w.grad));

title("4. Check the gradient by finite differences");
const f = (a: ndl.Tensor): ndl.Tensor => w.detach().matmul(a).tanh().square().sum();
const eps = 1e-6, analytic = x.grad!.tolist() as number[];
for (let i = 0; i < 3; i++) {
  const bump = ndl.tensor([0, 1, 2].map((j) => j === i ? eps : 0), { dtype: "float64" });
  const numeric = ndl.noGrad(() => (f(x.add(bump)).item() - f(x.sub(bump)).item()) / (2 * eps));
  console.log(
    `dy/dx[${i}]: backward ${analytic[i]!.toFixed(9)}, finite differences ${numeric.toFixed(9)}`,
  );
}
console.log("gradcheck does this for every entry:", ndl.gradcheck((a) => f(a!), x));

title("5. Differentiate again");
const t = ndl.tensor(0.3, { dtype: "float64", requiresGrad: true });
const [first] = ndl.grad(t.sin(), t, { createGraph: true });
const [second] = ndl.grad(first!, t);
console.log(
  `sin'(0.3) = ${first!.item().toFixed(6)} = cos(0.3), sin''(0.3) = ${
    second!.item().toFixed(6)
  } = -sin(0.3)`,
);

title("6. A function with a derivative of your own");
const clampedExp = ndl.customFunction<[ndl.Tensor], ndl.Tensor>({
  forward(ctx, a) {
    const e = a.clamp(null, 5).exp();
    ctx.saveForBackward(e);
    return e;
  },
  // Pretends that the clamp is not there: a "straight-through" gradient.
  backward: (ctx, g) => g.mul(ctx.savedTensors[0]!),
});
const z = ndl.tensor([1, 10], { requiresGrad: true });
clampedExp(z).sum().backward();
console.log("gradient of exp(min(z, 5)) at [1, 10], straight through:", String(z.grad));
