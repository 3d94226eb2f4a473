// Looking inside: the graph behind a tensor as an indented tree or as Graphviz text, and what memory is used for.

import type { Tensor } from "./tensor/mod.ts";
import { allDevices, defaultDevice, type Device } from "./device.ts";
import { AccumulateGrad, edgeOf, type Node } from "./autograd/graph.ts";
import { show } from "./shape.ts";

function label(node: Node): string {
  return node instanceof AccumulateGrad ? `leaf ${show(node.tensor.shape)}` : node.name;
}

/** The recorded graph behind `t`, one op a line, inputs indented below; an op met again is only named. */
export function graphText(t: Tensor): string {
  const root = edgeOf(t);
  if (root === null) return "(nothing recorded)";
  const numbers = new Map<Node, number>();
  const lines: string[] = [];
  const stack: [Node, number][] = [[root, 0]];
  while (stack.length > 0) {
    const [node, depth] = stack.pop()!;
    const known = numbers.get(node);
    const n = known ?? numbers.size;
    lines.push(`${"  ".repeat(depth)}${label(node)} #${n}${known === undefined ? "" : " (above)"}`);
    if (known !== undefined) continue;
    numbers.set(node, n);
    for (let i = node.next.length - 1; i >= 0; i--) {
      const next = node.next[i] ?? null;
      if (next !== null) stack.push([next, depth + 1]);
    }
  }
  return lines.join("\n");
}

/** The recorded graph behind `t` in Graphviz's language: `dot -Tsvg` draws it. */
export function graphDot(t: Tensor): string {
  const root = edgeOf(t);
  const numbers = new Map<Node, number>();
  const lines = ["digraph {", "  rankdir=BT;", "  node [shape=box, fontname=sans];"];
  const stack: Node[] = root === null ? [] : [root];
  const number = (node: Node): number => {
    const known = numbers.get(node);
    if (known !== undefined) return known;
    numbers.set(node, numbers.size);
    stack.push(node);
    return numbers.size - 1;
  };
  if (root !== null) numbers.set(root, 0);
  while (stack.length > 0) {
    const node = stack.pop()!, n = numbers.get(node)!;
    const shape = node instanceof AccumulateGrad ? ", style=filled" : "";
    lines.push(`  n${n} [label="${label(node)}"${shape}];`);
    for (const next of node.next) if (next !== null) lines.push(`  n${number(next)} -> n${n};`);
  }
  return [...lines, "}", ""].join("\n");
}

/** Bytes in the unit that suits them. */
function size(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  for (const [unit, exponent] of [["KiB", 10], ["MiB", 20]] as const) {
    if (bytes < 1024 * 2 ** exponent) return `${(bytes / 2 ** exponent).toFixed(1)} ${unit}`;
  }
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

function blocks(count: number): string {
  return count === 1 ? "1 block" : `${count.toLocaleString("en")} blocks`;
}

const largestShown = 5;

/**
 * What the memory behind the tensors of `device` is used for, one fact a line: bytes and blocks in use (a tensor and
 * its views share one), their peak, what waits for reuse and in which sizes, and how often that served.
 *
 * @example
 * ```ts
 * import * as ndl from "../mod.ts";
 * const x = ndl.zeros([512, 512]); // 1 MiB
 * console.log(ndl.memorySummary(x.device)); // memory of ...: in use 1.0 MiB in 1 block, ...
 * ```
 */
export function memorySummary(device: Device = defaultDevice()): string {
  const { allocator } = device, c = allocator.counts(), cached = allocator.cachedBlocks();
  const sharers = allDevices.filter((d) => d !== device && d.allocator === allocator);
  const held = cached.reduce((n, { count }) => n + count, 0);
  const shown = cached.slice(0, largestShown).map(({ bytes, count }) =>
    `${count} × ${size(bytes)}`
  );
  if (cached.length > largestShown) shown.push("smaller ones");
  const rate = c.taken === 0 ? 0 : 100 * c.reused / c.taken;
  return [
    `memory of ${device}${sharers.length > 0 ? ` (shared with ${sharers.join(", ")})` : ""}`,
    `  in use         ${size(c.live)} in ${blocks(c.blocks)}`,
    `  peak           ${size(c.peak)}`,
    `  for reuse      ${size(c.cached)} in ${blocks(held)}${
      shown.length > 0 ? `: ${shown.join(", ")}` : ""
    }`,
    `  watched        ${size(c.registered)} in use that come back when V8 collects dropped tensors`,
    `  handed out     ${blocks(c.taken)} so far, ${rate.toFixed(1)}% of them reused`,
  ].join("\n");
}
