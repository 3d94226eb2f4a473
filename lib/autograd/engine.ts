// The backward pass: walks the recorded graph from the youngest node to the oldest, without recursion.
// Gradients are the engine's own temporaries: each is given back to its pool as soon as it was used.

import { checkOptions, checkTensors } from "../options.ts";
import { same, show } from "../shape.ts";
import { setAutocast } from "../amp_mode.ts";
import type { Tensor } from "../tensor/mod.ts";
import { alias } from "../tensor/base.ts";
import { mayStayPending } from "../later.ts";
import { closeScopeKeeping, openScope, track, unscoped } from "../scope.ts";
import { AccumulateGrad, edgeOf, type Node } from "./graph.ts";
import { anomalyEnabled, setGradEnabled } from "./mode.ts";

/** Options of `backward` and `grad`. */
export interface BackwardOptions {
  /** Keep what backward needs, so that it can run again. Defaults to `createGraph`. */
  readonly retainGraph?: boolean;
  /** Record the backward pass itself, for second derivatives. */
  readonly createGraph?: boolean;
}

interface Pass {
  readonly createGraph: boolean;
  readonly retainGraph: boolean;
  /** Gradients to hand back instead of accumulating: node -> output index -> position in the result. */
  readonly capture: Map<Node, Map<number, number[]>> | null;
  readonly captured: (Tensor | null)[];
  /** With `capture`: the nodes from which a captured node can be reached. */
  readonly needed: ReadonlySet<Node> | null;
}

let passes = 0;

/** All nodes reachable from `roots` that are not older than `oldest`, in order of age. */
function reach(roots: readonly Node[], oldest: number): Node[] {
  const pass = ++passes;
  const found: Node[] = [];
  const stack: Node[] = [];
  for (const root of roots) {
    if (root.mark === pass) continue;
    root.mark = pass;
    stack.push(root);
    found.push(root);
  }
  while (stack.length > 0) {
    const next = stack.pop()!.next;
    for (let i = 0; i < next.length; i++) {
      const node = next[i]!;
      if (node === null || node.mark === pass || node.seq < oldest) continue;
      node.mark = pass;
      stack.push(node);
      found.push(node);
    }
  }
  // Most graphs are found almost in order already; sort() then does little.
  return found.sort((a, b) => a.seq - b.seq);
}

/** Of `nodes` (oldest first) those from which a captured node can be reached. */
function towards(nodes: readonly Node[], capture: ReadonlyMap<Node, unknown>): Set<Node> {
  const needed = new Set<Node>();
  for (const node of nodes) {
    if (capture.has(node) || node.next.some((n) => n !== null && needed.has(n))) needed.add(node);
  }
  return needed;
}

function deliver(node: Node, index: number, g: Tensor, createGraph: boolean): void {
  const pending = node.pending ??= [];
  const before = pending[index] ?? null;
  if (before === null) {
    pending[index] = g;
    return;
  }
  // An expanded gradient (that of a sum) repeats elements: it cannot be added to in place.
  // A pending one is added to in the same pass that computes it.
  const own = before._storage!.refs === 1 && before._layout < 2 &&
    before._storage!.deferred === null;
  if (!createGraph && own && before.dtype === g.dtype) {
    before.add_(g);
  } else {
    pending[index] = before.add(g);
    before.dispose();
  }
  g.dispose();
}

function runHooks(node: Node, index: number, g: Tensor): Tensor {
  const hooks = node.hooks?.get(index);
  if (hooks === undefined) return g;
  let out = g;
  for (const hook of hooks) out = replaced(out, hook(out) ?? out);
  return out;
}

/** What a hook gave in place of `g`, which must be like it. */
function replaced(g: Tensor, given: Tensor): Tensor {
  if (given === g) return g;
  checkTensors("a hook of a gradient", { result: given });
  if (same(given.shape, g.shape) && given.dtype === g.dtype && given.device === g.device) {
    return given;
  }
  const told = (t: Tensor): string => `${show(t.shape)} (${t.dtype} on ${t.device})`;
  throw new TypeError(
    `Cannot put a hook's result ${told(given)} in place of the gradient ${
      told(g)
    }: return one of the same shape, dtype and device`,
  );
}

/** Adds `g` into a leaf's grad; takes the memory over where nobody else holds it. */
function accumulate(leaf: Tensor, g: Tensor, createGraph: boolean, shared: boolean): void {
  if (!mayStayPending(g)) void g._memory; // it would keep what it is computed from
  const before = leaf._grad;
  if (before === null) {
    leaf._setGrad(
      createGraph || (!shared && g._storage!.refs === 1 && g._layout < 2) ? g : g.clone(),
    );
    if (leaf._grad !== g && !shared) g.dispose();
  } else if (createGraph) {
    leaf._setGrad(before.add(g));
  } else {
    before.add_(g);
    if (!shared) g.dispose();
  }
}

function describeAnomaly(node: Node, what: string): Error {
  const trace = node.trace === undefined
    ? "record the forward pass under detectAnomaly too to see where"
    : `recorded at:\n${node.trace.split("\n").slice(2).join("\n")}`;
  return new Error(`${what} in the backward of "${node.name}"; ${trace}`);
}

function checkNaN(node: Node, results: readonly (Tensor | null)[]): void {
  for (let i = 0; i < results.length; i++) {
    const r = results[i];
    if (r !== null && r !== undefined && r.isnan().sum().item() > 0) {
      throw describeAnomaly(node, `Found NaN in gradient ${i} of shape [${r.shape.join(", ")}]`);
    }
  }
}

/** Runs one node: takes its pending gradients, delivers those of its inputs. */
function step(node: Node, pass: Pass): void {
  const grads = node.pending!;
  node.pending = null;
  if (node.hooks !== null) {
    for (let i = 0; i < grads.length; i++) if (grads[i]) grads[i] = runHooks(node, i, grads[i]!);
  }
  // After all hooks, whenever they were registered. Other gradients may lie in the same memory.
  node.retained?.forEach((t, i) => {
    const g = grads[i];
    if (g) t._setGrad(t._grad === null ? g.clone() : t._grad.add(g));
  });
  const wanted = pass.capture?.get(node);
  if (wanted !== undefined) {
    for (const [index, positions] of wanted) {
      const g = grads[index];
      if (g) { for (const p of positions) pass.captured[p] = alias(g, g._storage!); }
    }
  }
  if (node instanceof AccumulateGrad) {
    const g = grads[0]!;
    if (pass.capture === null) accumulate(node.tensor, g, pass.createGraph, node.exposes);
    else if (!node.exposes) g.dispose();
    return;
  }
  const { needed } = pass;
  if (needed !== null && node.next.every((n) => n === null || !needed.has(n))) {
    if (!node.exposes) { for (const g of grads) g?.dispose(); }
    return;
  }
  const exposed = node.exposes;
  const outer = exposed ? null : openScope();
  let results: readonly (Tensor | null)[] = [];
  const owned: Tensor[] = [];
  let complete = false;
  try {
    results = node.backward(grads);
    if (anomalyEnabled()) checkNaN(node, results);
    complete = true;
  } finally {
    if (!exposed) closeScopeKeeping(outer, complete ? results : [], owned);
  }
  for (let i = 0; i < results.length; i++) {
    const r = results[i], next = node.next[i];
    if (r === null || r === undefined) continue;
    const mine = owned.indexOf(r);
    if (!next || (needed !== null && !needed.has(next))) continue;
    if (mine >= 0) owned.splice(mine, 1);
    deliver(next, node.nextIndex[i]!, mine >= 0 ? r : alias(r, r._storage!), pass.createGraph);
  }
  for (const r of owned) r.dispose();
  if (!exposed) { for (const g of grads) g?.dispose(); }
  if (!pass.retainGraph) node.free();
}

function run(
  roots: readonly Node[],
  seeds: () => void,
  options: Omit<Pass, "needed">,
): void {
  const { capture } = options;
  let oldest = 0;
  if (capture !== null) {
    oldest = Infinity;
    for (const node of capture.keys()) oldest = Math.min(oldest, node.seq);
  }
  const nodes = reach(roots, oldest);
  const pass: Pass = { ...options, needed: capture === null ? null : towards(nodes, capture) };
  const before = setGradEnabled(pass.createGraph);
  const cast = setAutocast(null); // gradients have the dtypes that the forward pass chose
  try {
    unscoped(() => {
      seeds();
      for (let i = nodes.length - 1; i >= 0; i--) {
        const node = nodes[i]!;
        nodes.length = i; // a freed node must not be held by this list
        if (node.pending !== null) step(node, pass);
      }
    });
  } finally {
    for (const node of nodes) node.pending = null;
    setAutocast(cast);
    setGradEnabled(before);
  }
}

/** The gradient that backward starts with at `y`. */
function seed(what: string, y: Tensor, grad: Tensor | null | undefined): Tensor {
  if (grad === null || grad === undefined) {
    if (y.numel() !== 1) {
      throw new Error(
        `Cannot run ${what} from a tensor of shape [${y.shape.join(", ")}] without a gradient: ` +
          `reduce it to one element first, or pass a gradient of its shape`,
      );
    }
    return y._full(1);
  }
  checkTensors(what, { grad });
  if (grad.shape.length !== y.shape.length || grad.shape.some((s, i) => s !== y.shape[i])) {
    throw new RangeError(
      `Cannot run ${what} with a gradient of shape [${
        grad.shape.join(", ")
      }] for a tensor of shape ` +
        `[${y.shape.join(", ")}]: the shapes must be equal`,
    );
  }
  if (grad.device !== y.device) {
    throw new TypeError(
      `Cannot run ${what} with a gradient on ${grad.device} for a tensor on ${y.device}: move it with to(device)`,
    );
  }
  return grad.dtype === y.dtype ? alias(grad, grad._storage!) : grad.to(y.dtype);
}

/** Adds the gradients of `y` into the `grad` of every leaf that it depends on. */
export function backward(
  y: Tensor,
  grad: Tensor | null | undefined,
  options: BackwardOptions,
): void {
  checkOptions("backward", options, ["retainGraph", "createGraph"]);
  const root = edgeOf(y);
  if (root === null) {
    throw new Error(
      "Cannot run backward from a tensor that does not require grad: make a leaf with { requiresGrad: true }",
    );
  }
  const createGraph = options.createGraph ?? false;
  const retainGraph = options.retainGraph ?? createGraph;
  run(
    [root],
    () => deliver(root, y._outputIndex, seed("backward", y, grad), createGraph),
    { createGraph, retainGraph, capture: null, captured: [] },
  );
}

/** Options of `grad`. */
export interface GradOptions extends BackwardOptions {
  /** A gradient for each output (default: ones, for outputs of one element). */
  readonly gradOutputs?: Tensor | readonly (Tensor | null)[];
  /** Return null for inputs that the outputs do not depend on, instead of throwing. */
  readonly allowUnused?: boolean;
}

/**
 * The gradients of the sum of `outputs` with respect to `inputs`, without touching any `grad` field.
 *
 * @returns one tensor (or null, with `allowUnused`) per input
 * @throws Error where an output does not require grad, or an input is not used and `allowUnused` is false
 */
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: Tensor | readonly Tensor[],
  options: GradOptions = {},
): (Tensor | null)[] {
  checkOptions("grad", options, ["gradOutputs", "createGraph", "retainGraph", "allowUnused"]);
  const outs = Array.isArray(outputs) ? outputs as readonly Tensor[] : [outputs as Tensor];
  const ins = Array.isArray(inputs) ? inputs as readonly Tensor[] : [inputs as Tensor];
  const given = options.gradOutputs;
  const seeds = given === undefined
    ? []
    : Array.isArray(given)
    ? given as readonly (Tensor | null)[]
    : [given as Tensor];
  const createGraph = options.createGraph ?? false;
  const capture = new Map<Node, Map<number, number[]>>();
  ins.forEach((t, position) => {
    const node = edgeOf(t);
    if (node === null) {
      throw new Error(`Cannot take the gradient of input ${position}: it does not require grad`);
    }
    const slots = capture.get(node) ?? new Map<number, number[]>();
    slots.set(t._outputIndex, [...slots.get(t._outputIndex) ?? [], position]);
    capture.set(node, slots);
  });
  const roots = outs.map((t, i) => {
    const node = edgeOf(t);
    if (node === null) {
      throw new Error(`Cannot differentiate output ${i}: it does not require grad`);
    }
    return node;
  });
  const captured = new Array<Tensor | null>(ins.length).fill(null);
  run(
    roots,
    () =>
      outs.forEach((y, i) =>
        deliver(roots[i]!, y._outputIndex, seed("grad", y, seeds[i]), createGraph)
      ),
    { createGraph, retainGraph: options.retainGraph ?? createGraph, capture, captured },
  );
  captured.forEach((g, i) => {
    if (g !== null) track(g);
    else if (!options.allowUnused) {
      throw new Error(
        `Cannot take the gradient of input ${i}: the outputs do not depend on it; pass { allowUnused: true } to get null`,
      );
    }
  });
  return captured;
}
