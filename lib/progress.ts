/**
 * Progress bars with the look of Python's tqdm: `tqdm(iterable)` and `trange(n)` count the turns of
 * a loop and draw the state on stderr. On a terminal the bar is redrawn in place at most every
 * `minInterval` seconds; elsewhere one line is written when the bar closes.
 */

import { checkOptions } from "./options.ts";
import { formatMeter, formatNumber, textWidth } from "./progress_format.ts";

/** Where a bar is drawn. The default is the process's stderr (nothing in a browser). */
export interface ProgressStream {
  /** Writes text at once; it must not throw. */
  write(text: string): void;
  /** True where the cursor can be moved; elsewhere a bar writes one line, when it closes. */
  readonly isTerminal: boolean;
  /** The width in characters, or undefined when it is unknown. */
  columns(): number | undefined;
}

/** A value shown after the rate, as `name=value`. Objects with `item()` are 0-d tensors. */
export type PostfixValue =
  | number
  | bigint
  | string
  | boolean
  | null
  | undefined
  | { item(): number | bigint | boolean };

/** Options of {@linkcode tqdm} and {@linkcode trange}; the names and defaults are tqdm's. */
export interface ProgressOptions {
  /** Text before the bar. */
  desc?: string | undefined;
  /** What one turn is called, `"it"` by default. */
  unit?: string | undefined;
  /** Number of turns expected; by default the iterable's `length` or `size`. */
  total?: number | undefined;
  /** Values shown at the end, as by {@linkcode ProgressBar.setPostfix}. */
  postfix?: Readonly<Record<string, PostfixValue>> | undefined;
  /** Whether the finished bar stays on the screen (true), or is wiped away. */
  leave?: boolean | undefined;
  /** True: draw nothing. Null: draw nothing where stderr is no terminal. */
  disable?: boolean | null | undefined;
  /** Count to start from. */
  initial?: number | undefined;
  /** Width of the whole line in characters; by default the terminal's. */
  ncols?: number | undefined;
  /** Least time between two drawings, in seconds (0.1). */
  minInterval?: number | undefined;
  /** Weight of the newest rate in its moving average (0.3); 0 shows the overall average. */
  smoothing?: number | undefined;
  /** Show counts with SI prefixes (12.3k). */
  unitScale?: boolean | undefined;
  /** Draw with `#` and digits instead of block characters. */
  ascii?: boolean | undefined;
  /** Where to draw. */
  file?: ProgressStream | undefined;
}

const OPTION_NAMES: readonly (keyof ProgressOptions)[] = [
  "desc",
  "unit",
  "total",
  "postfix",
  "leave",
  "disable",
  "initial",
  "ncols",
  "minInterval",
  "smoothing",
  "unitScale",
  "ascii",
  "file",
];

/** Bars being drawn, by their line below the cursor: nested bars take the lines beneath. */
const lines: (ProgressBar | undefined)[] = [];

/**
 * A progress bar. {@linkcode tqdm} makes one that is also iterable; without an iterable, count with
 * {@linkcode ProgressBar.update} and finish with {@linkcode ProgressBar.close} (or `using`).
 */
export class ProgressBar {
  /** Turns counted so far. */
  n: number;
  /** Turns expected, or undefined when unknown. */
  readonly total: number | undefined;

  #description: string;
  #postfix = "";
  readonly #options: ProgressOptions;
  readonly #stream: ProgressStream;
  readonly #minInterval: number;
  readonly #started: number;
  #drawnAt: number;
  #drawnN: number;
  #drawnWidth = 0;
  #line = 0;
  #closed = false;
  readonly #rateTurns: MovingAverage;
  readonly #rateTime: MovingAverage;

  /**
   * Opens a bar and, on a terminal, draws it.
   *
   * @param options see {@linkcode ProgressOptions}
   * @throws RangeError when `total`, `initial`, `ncols`, `minInterval` or `smoothing` is out of range
   * @throws TypeError for an unknown option
   */
  constructor(options: ProgressOptions = {}) {
    checkProgressOptions(options);
    this.#options = options;
    this.total = options.total === Infinity ? undefined : options.total;
    this.n = options.initial ?? 0;
    this.#description = options.desc ?? "";
    this.#stream = options.file ?? standardError();
    this.#minInterval = 1000 * (options.minInterval ?? 0.1);
    const smoothing = options.smoothing ?? 0.3;
    this.#rateTurns = new MovingAverage(smoothing);
    this.#rateTime = new MovingAverage(smoothing);
    if (options.postfix !== undefined) this.#postfix = formatPostfix(options.postfix);
    this.#drawnN = this.n;
    this.#started = this.#drawnAt = performance.now();
    if (options.disable ?? (options.disable === null && !this.#stream.isTerminal)) {
      this.#closed = true;
    } else if (this.#stream.isTerminal) {
      const free = lines.indexOf(undefined);
      this.#line = free < 0 ? lines.length : free;
      lines[this.#line] = this;
      this.#draw(this.#line);
    }
  }

  /**
   * Counts turns, and redraws when the last drawing is old enough.
   *
   * @param turns how many turns were made since the last call
   */
  update(turns = 1): void {
    this.n += turns;
    if (!this.#closed) this.#tick();
  }

  /**
   * Shows values at the end of the bar, in the order given: `loss=1.23, acc=0.456`.
   *
   * @param values numbers are shown with three significant digits; 0-d tensors as their number
   */
  setPostfix(values: Readonly<Record<string, PostfixValue>>): void {
    if (this.#closed) return;
    this.#postfix = formatPostfix(values);
    this.#redraw();
  }

  /**
   * Changes the text before the bar.
   *
   * @param text the new text; empty for none
   */
  setDescription(text = ""): void {
    this.#description = text;
    if (!this.#closed) this.#redraw();
  }

  /** Draws the bar now, on a terminal. */
  refresh(): void {
    if (!this.#closed && this.#stream.isTerminal) this.#draw(this.#line);
  }

  /** Draws the final state (or wipes the bar away, with `leave: false`). Later calls do nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const leave = this.#options.leave ?? true;
    if (!this.#stream.isTerminal) {
      if (leave) this.#stream.write(this.#text(true) + "\n");
      return;
    }
    lines[this.#line] = undefined;
    while (lines.length > 0 && lines[lines.length - 1] === undefined) lines.pop();
    if (leave) {
      this.#draw(0, true);
      this.#stream.write("\n");
    } else {
      this.#print("", this.#line);
      if (this.#line === 0) this.#stream.write("\r");
    }
  }

  /** Closes the bar at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** The bar as one line of text. */
  toString(): string {
    return this.#text(false);
  }

  /** Redraws when `minInterval` has passed since the last drawing, and takes the rate. */
  #tick(): void {
    const now = performance.now();
    const elapsed = now - this.#drawnAt;
    if (elapsed < this.#minInterval || this.n === this.#drawnN) return;
    if (elapsed > 0) {
      this.#rateTurns.add(this.n - this.#drawnN);
      this.#rateTime.add(elapsed / 1000);
    }
    this.#drawnN = this.n;
    this.#drawnAt = now;
    if (this.#stream.isTerminal) this.#draw(this.#line);
  }

  /** Redraws changed text, no more often than turns would. */
  #redraw(): void {
    if (this.#stream.isTerminal && performance.now() - this.#drawnAt >= this.#minInterval) {
      this.#draw(this.#line);
    }
  }

  #text(average: boolean): string {
    const time = average ? 0 : this.#rateTime.value();
    return formatMeter({
      n: this.n,
      total: this.total,
      elapsed: (performance.now() - this.#started) / 1000,
      columns: this.#options.ncols ??
        (this.#stream.isTerminal ? this.#stream.columns() : undefined),
      desc: this.#description,
      unit: this.#options.unit ?? "it",
      unitScale: this.#options.unitScale ?? false,
      ascii: this.#options.ascii ?? false,
      initial: this.#options.initial ?? 0,
      rate: time > 0 ? this.#rateTurns.value() / time : undefined,
      postfix: this.#postfix,
    });
  }

  #draw(line: number, average = false): void {
    this.#print(this.#text(average), line);
  }

  /** Overwrites what this bar printed last, `line` lines below the cursor. */
  #print(text: string, line: number): void {
    const width = textWidth(text);
    const padding = " ".repeat(Math.max(this.#drawnWidth - width, 0));
    this.#stream.write("\n".repeat(line) + "\r" + text + padding + "\x1b[A".repeat(line));
    this.#drawnWidth = width;
  }
}

/** A bar over a sync iterable. */
export type SyncProgress<T> = ProgressBar & Iterable<T>;
/** A bar over an async iterable. */
export type AsyncProgress<T> = ProgressBar & AsyncIterable<T>;

/**
 * Wraps an iterable in a progress bar: a loop over the result is a loop over the iterable. What is
 * iterable by `for`, by `for await` or by both stays so. Leaving the loop early closes the bar.
 *
 * ```ts
 * import * as ndl from "../mod.ts";
 *
 * const bar = ndl.tqdm([1, 2, 3], { desc: "sum", unit: "number" });
 * let sum = 0;
 * for (const x of bar) {
 *   sum += x;
 *   bar.setPostfix({ sum });
 * }
 * ```
 *
 * @param iterable what to iterate over; null for a bar that is counted by `update`
 * @param options see {@linkcode ProgressOptions}; `total` defaults to `length` or `size`
 * @returns the bar, iterable as `iterable` is
 * @throws TypeError when `iterable` is not iterable, or for an unknown option
 */
export function tqdm<T>(
  iterable: Iterable<T> & AsyncIterable<T>,
  options?: ProgressOptions,
): SyncProgress<T> & AsyncProgress<T>;
/** Wraps what only `for` iterates over. */
export function tqdm<T>(iterable: Iterable<T>, options?: ProgressOptions): SyncProgress<T>;
/** Wraps what only `for await` iterates over. */
export function tqdm<T>(iterable: AsyncIterable<T>, options?: ProgressOptions): AsyncProgress<T>;
/** Makes a bar that is counted by `update`. */
export function tqdm(iterable: null | undefined, options?: ProgressOptions): ProgressBar;
export function tqdm<T>(
  iterable: Iterable<T> | AsyncIterable<T> | null | undefined,
  options: ProgressOptions = {},
): ProgressBar {
  if (iterable === null || iterable === undefined) return new ProgressBar(options);
  checkOptions("tqdm", options, OPTION_NAMES);
  // Strings are iterable too, and `in` needs an object.
  const source = Object(iterable) as Partial<Iterable<T> & AsyncIterable<T>>;
  const sync = typeof source[Symbol.iterator] === "function";
  const async = typeof source[Symbol.asyncIterator] === "function";
  if (!sync && !async) {
    throw new TypeError(`Cannot show progress over ${typeof iterable}: it is not iterable`);
  }
  const bar = new ProgressBar({ ...options, total: options.total ?? sizeOf(source) });
  if (sync) {
    const value = (): Iterator<T> => iterate(bar, source as Iterable<T>);
    Object.defineProperty(bar, Symbol.iterator, { value });
  }
  if (async) {
    const value = (): AsyncIterator<T> => iterateAsync(bar, source as AsyncIterable<T>);
    Object.defineProperty(bar, Symbol.asyncIterator, { value });
  }
  return bar;
}

/**
 * Counts from 0 to `n - 1` under a progress bar.
 *
 * @param n number of turns
 * @param options see {@linkcode ProgressOptions}
 * @returns the bar, which yields the numbers
 * @throws RangeError when `n` is no integer ≥ 0
 */
export function trange(n: number, options: ProgressOptions = {}): SyncProgress<number> {
  if (!Number.isSafeInteger(n) || n < 0) {
    throw new RangeError(`Cannot count to ${n}: trange needs an integer >= 0`);
  }
  checkOptions("trange", options, OPTION_NAMES);
  return tqdm(range(n), { ...options, total: options.total ?? n });
}

function* range(n: number): Generator<number, void, undefined> {
  for (let i = 0; i < n; i++) yield i;
}

function* iterate<T>(bar: ProgressBar, source: Iterable<T>): Generator<T, void, undefined> {
  try {
    for (const value of source) {
      yield value;
      bar.update(1);
    }
  } finally {
    bar.close();
  }
}

async function* iterateAsync<T>(
  bar: ProgressBar,
  source: AsyncIterable<T>,
): AsyncGenerator<T, void, undefined> {
  try {
    for await (const value of source) {
      yield value;
      bar.update(1);
    }
  } finally {
    bar.close();
  }
}

function sizeOf(source: object): number | undefined {
  const { length, size } = source as { length?: unknown; size?: unknown };
  const count = typeof length === "number" ? length : size;
  return typeof count === "number" && count >= 0 ? count : undefined;
}

/** tqdm's moving average: weights fall off exponentially, corrected for the short start. */
class MovingAverage {
  readonly #weight: number;
  #last = 0;
  #remaining = 1;

  constructor(weight: number) {
    this.#weight = weight;
  }

  add(x: number): void {
    this.#last = this.#weight * x + (1 - this.#weight) * this.#last;
    this.#remaining *= 1 - this.#weight;
  }

  value(): number {
    return this.#remaining < 1 ? this.#last / (1 - this.#remaining) : 0;
  }
}

function formatPostfix(values: Readonly<Record<string, PostfixValue>>): string {
  const parts: string[] = [];
  for (const [name, given] of Object.entries(values)) {
    const value = typeof given === "object" && given !== null ? given.item() : given;
    parts.push(`${name}=${typeof value === "number" ? formatNumber(value) : String(value).trim()}`);
  }
  return parts.join(", ");
}

function checkProgressOptions(options: ProgressOptions): void {
  checkOptions("tqdm", options, OPTION_NAMES);
  checkNumber("total", options.total, 0, Infinity);
  checkNumber("initial", options.initial, -Infinity, Infinity);
  checkNumber("ncols", options.ncols, 0, Infinity);
  checkNumber("minInterval", options.minInterval, 0, Infinity);
  checkNumber("smoothing", options.smoothing, 0, 1);
}

function checkNumber(name: string, value: number | undefined, low: number, high: number): void {
  if (value !== undefined && !(value >= low && value <= high)) {
    throw new RangeError(
      `Option "${name}" of tqdm is ${value}; it must lie between ${low} and ${high}`,
    );
  }
}

interface NodeProcess {
  readonly stderr?: { write(text: string): unknown; isTTY?: boolean; columns?: number };
}

let stderrStream: ProgressStream | undefined;

/** stderr of Deno or of Node, found at first use; in a browser a stream that swallows all. */
function standardError(): ProgressStream {
  return stderrStream ??= openStandardError();
}

function openStandardError(): ProgressStream {
  const host = globalThis as { Deno?: typeof Deno; process?: NodeProcess };
  if (host.Deno?.stderr !== undefined) {
    const deno = host.Deno;
    const encoder = new TextEncoder();
    const columns = (): number | undefined => {
      try {
        return deno.consoleSize().columns || undefined;
      } catch {
        return undefined;
      }
    };
    const write = (text: string): void => {
      // A closed or full stderr must not end the loop whose progress it shows.
      try {
        let bytes = encoder.encode(text);
        while (bytes.length > 0) bytes = bytes.subarray(deno.stderr.writeSync(bytes));
      } catch {
        return;
      }
    };
    return { write, isTerminal: deno.stderr.isTerminal(), columns };
  }
  const stderr = host.process?.stderr;
  if (stderr === undefined) {
    return { write: () => {}, isTerminal: false, columns: () => undefined };
  }
  return {
    write: (text) => void stderr.write(text),
    isTerminal: stderr.isTTY === true,
    columns: () => stderr.columns || undefined,
  };
}
