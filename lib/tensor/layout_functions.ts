// Rearranging and indexing functions of the torch namespace that are methods of tensors too: `ndl.flip(x, [0])` is
// `x.flip(0)`.

import type { DiagonalOptions } from "./layout.ts";
import type { Tensor } from "./mod.ts";

/** See {@linkcode Tensor.reshape}. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return x.reshape(shape);
}

/** See {@linkcode Tensor.permute}. */
export function permute(x: Tensor, dims: readonly number[]): Tensor {
  return x.permute(dims);
}

/** See {@linkcode Tensor.transpose}. */
export function transpose(x: Tensor, dim0: number, dim1: number): Tensor {
  return x.transpose(dim0, dim1);
}

/** See {@linkcode Tensor.flatten}. */
export function flatten(x: Tensor, start = 0, end = -1): Tensor {
  return x.flatten(start, end);
}

/** See {@linkcode Tensor.squeeze}. */
export function squeeze(x: Tensor, dim?: number | readonly number[]): Tensor {
  return dim === undefined ? x.squeeze() : x.squeeze(dim);
}

/** See {@linkcode Tensor.unsqueeze}. */
export function unsqueeze(x: Tensor, dim: number): Tensor {
  return x.unsqueeze(dim);
}

/** See {@linkcode Tensor.split}. */
export function split(x: Tensor, size: number | readonly number[], dim = 0): Tensor[] {
  return x.split(size, dim);
}

/** See {@linkcode Tensor.chunk}. */
export function chunk(x: Tensor, count: number, dim = 0): Tensor[] {
  return x.chunk(count, dim);
}

/** See {@linkcode Tensor.flip}. */
export function flip(x: Tensor, dims: readonly number[]): Tensor {
  return x.flip(dims);
}

/** See {@linkcode Tensor.tril}. */
export function tril(x: Tensor, diagonal = 0): Tensor {
  return x.tril(diagonal);
}

/** See {@linkcode Tensor.triu}. */
export function triu(x: Tensor, diagonal = 0): Tensor {
  return x.triu(diagonal);
}

/** See {@linkcode Tensor.gather}. */
export function gather(x: Tensor, dim: number, index: Tensor): Tensor {
  return x.gather(dim, index);
}

/** See {@linkcode Tensor.indexSelect}. */
export function indexSelect(x: Tensor, dim: number, index: Tensor): Tensor {
  return x.indexSelect(dim, index);
}

/** See {@linkcode Tensor.maskedSelect}. */
export function maskedSelect(x: Tensor, mask: Tensor): Tensor {
  return x.maskedSelect(mask);
}

/** See {@linkcode Tensor.nonzero}. */
export function nonzero(x: Tensor): Tensor;
/** One tensor of positions per dim. */
export function nonzero(x: Tensor, options: { asTuple: true }): Tensor[];
/** Both forms. */
export function nonzero(x: Tensor, options?: { asTuple: true }): Tensor | Tensor[] {
  return options === undefined ? x.nonzero() : x.nonzero(options);
}

/** See {@linkcode Tensor.clone}. */
export function clone(x: Tensor): Tensor {
  return x.clone();
}

/** See {@linkcode Tensor.numel}. */
export function numel(x: Tensor): number {
  return x.numel();
}

/** See {@linkcode Tensor.unflatten}. */
export function unflatten(x: Tensor, dim: number, sizes: readonly number[]): Tensor {
  return x.unflatten(dim, sizes);
}

/** See {@linkcode Tensor.movedim}. */
export function movedim(
  x: Tensor,
  source: number | readonly number[],
  destination: number | readonly number[],
): Tensor {
  return x.movedim(source, destination);
}

/** See {@linkcode Tensor.broadcastTo}. */
export function broadcastTo(x: Tensor, shape: readonly number[]): Tensor {
  return x.broadcastTo(shape);
}

/** See {@linkcode Tensor.select}. */
export function select(x: Tensor, dim: number, index: number): Tensor {
  return x.select(dim, index);
}

/** See {@linkcode Tensor.narrow}. */
export function narrow(x: Tensor, dim: number, start: number, length: number): Tensor {
  return x.narrow(dim, start, length);
}

/** See {@linkcode Tensor.unbind}. */
export function unbind(x: Tensor, dim = 0): Tensor[] {
  return x.unbind(dim);
}

/** See {@linkcode Tensor.roll}. */
export function roll(
  x: Tensor,
  shifts: number | readonly number[],
  dims?: number | readonly number[],
): Tensor {
  return x.roll(shifts, dims);
}

/** See {@linkcode Tensor.tile}. */
export function tile(x: Tensor, counts: readonly number[]): Tensor {
  return x.tile(counts);
}

/** See {@linkcode Tensor.diagonal}. */
export function diagonal(x: Tensor, options: DiagonalOptions = {}): Tensor {
  return x.diagonal(options);
}

/** See {@linkcode Tensor.scatter}. */
export function scatter(x: Tensor, dim: number, index: Tensor, src: Tensor | number): Tensor {
  return x.scatter(dim, index, src);
}

/** See {@linkcode Tensor.scatterAdd}. */
export function scatterAdd(x: Tensor, dim: number, index: Tensor, src: Tensor): Tensor {
  return x.scatterAdd(dim, index, src);
}

/** See {@linkcode Tensor.indexAdd}. */
export function indexAdd(
  x: Tensor,
  dim: number,
  index: Tensor,
  src: Tensor,
  options: { alpha?: number } = {},
): Tensor {
  return x.indexAdd(dim, index, src, options);
}

/** See {@linkcode Tensor.take}. */
export function take(x: Tensor, index: Tensor): Tensor {
  return x.take(index);
}
