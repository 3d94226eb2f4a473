// Looking at what was recorded: the graph behind a tensor as an indented tree or as Graphviz text.

import type { Tensor } from "./tensor/mod.ts";
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
