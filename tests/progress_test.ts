/** Progress bars: the text against tqdm's own, and when, where and how often it is drawn. */

import { assert as stdAssert, assertEquals as stdEquals, assertThrows } from "@std/assert";
import {
  type PostfixValue,
  ProgressBar,
  type ProgressOptions,
  type ProgressStream,
  tqdm,
  trange,
} from "../lib/progress.ts";
import { formatMeter, formatNumber } from "../lib/progress_format.ts";
import golden from "./golden/progress.json" with { type: "json" };

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

class FakeStream implements ProgressStream {
  text = "";
  writes = 0;
  constructor(readonly isTerminal: boolean, private readonly width: number | null = 80) {}
  write(text: string): void {
    this.text += text;
    this.writes++;
  }
  columns(): number | undefined {
    return this.width ?? undefined;
  }
}

/** The text without what depends on the clock: `[00:00<00:00, 123.45it/s]` reads `[T it/s]`. */
function withoutTimes(text: string): string {
  return text.replace(/ +(?=[\r\n])/g, "").replace(
    /\[[0-9:]+(<[0-9:?]+)?, +[0-9.?]+(s\/)?([a-z]+(\/s)?)/g,
    "[T $3",
  );
}

function loop(options: ProgressOptions, turns = 4): void {
  for (const _ of trange(turns, options)) { /* only the bar matters */ }
}

Deno.test("lines are tqdm's, character for character", () => {
  for (const { line, ...meter } of golden.meters) {
    const actual = formatMeter({
      n: meter.n,
      total: meter.total ?? undefined,
      elapsed: meter.elapsed,
      columns: meter.ncols ?? undefined,
      desc: meter.prefix,
      unit: meter.unit,
      unitScale: meter.unit_scale,
      ascii: meter.ascii,
      initial: meter.initial,
      rate: meter.rate ?? undefined,
      postfix: meter.postfix,
    });
    assertEquals(actual, line, JSON.stringify(meter));
  }
});

Deno.test("numbers are tqdm's", () => {
  const special: Record<string, number> = { nan: NaN, inf: Infinity, "-inf": -Infinity };
  for (const [value = "", text = ""] of golden.numbers) {
    assertEquals(formatNumber(special[value] ?? Number(value)), text, value);
  }
});

Deno.test("on a terminal the bar is redrawn in place and ends with a newline", () => {
  const file = new FakeStream(true, null);
  loop({ file, desc: "d", minInterval: 0 }, 2);
  assertEquals(
    withoutTimes(file.text),
    "\rd:   0%|          | 0/2 [T it/s]\rd:  50%|█████     | 1/2 [T it/s]" +
      "\rd: 100%|██████████| 2/2 [T it/s]\rd: 100%|██████████| 2/2 [T it/s]\n",
  );
});

Deno.test("elsewhere one line is written, when the bar closes", () => {
  const file = new FakeStream(false);
  loop({ file, desc: "d", unit: "batch", minInterval: 0 });
  assertEquals(withoutTimes(file.text), "d: 100%|██████████| 4/4 [T batch/s]\n");
  assertEquals(file.writes, 1);
  const silent = new FakeStream(false);
  loop({ file: silent, leave: false });
  loop({ file: silent, disable: true });
  loop({ file: silent, disable: null });
  assertEquals(silent.text, "");
});

Deno.test("drawings keep the interval", () => {
  const file = new FakeStream(true);
  loop({ file, minInterval: 60 }, 10_000);
  assertEquals(file.writes, 3); // the start, the end, its newline
});

Deno.test("the line keeps to the terminal's width", () => {
  const file = new FakeStream(true, 60);
  loop({ file, minInterval: 0, postfix: { loss: 0.12345, name: " x " } });
  for (const line of file.text.slice(1, -1).split("\r")) {
    assertEquals(line.length, 60);
    assert(line.includes(", loss=0.123, name=x]"), line);
  }
});

Deno.test("leave: false wipes the bar away", () => {
  const file = new FakeStream(true, 50);
  loop({ file, leave: false });
  assert(file.text.endsWith("\r" + " ".repeat(50) + "\r"), JSON.stringify(file.text));
});

Deno.test("nested bars take the line below, and give it back", () => {
  const file = new FakeStream(true, null);
  for (const _ of trange(2, { file, desc: "outer" })) loop({ file, desc: "inner", leave: false });
  const inner = file.text.split("\n\r").length - 1;
  assertEquals(inner, 4); // two bars, each drawn at its start and wiped at its end
  assertEquals(file.text.split("\x1b[A").length - 1, 4);
  assert(file.text.includes("outer: 100%") && file.text.endsWith("\n"));
});

Deno.test("leaving the loop early closes the bar and the source", () => {
  const file = new FakeStream(false);
  let closed = 0;
  function* source(): Generator<number> {
    try {
      yield* [1, 2, 3];
    } finally {
      closed++;
    }
  }
  for (const x of tqdm(source(), { file, total: 3 })) if (x === 2) break;
  assert(file.text.includes(" 33%|") && file.text.endsWith("\n"), file.text);
  const failing = (): void => {
    for (const _ of tqdm(source(), { file })) throw new Error("stop");
  };
  assertThrows(failing, Error, "stop");
  assertEquals(closed, 2);
  assertEquals(file.text.split("\n").length, 3);
});

Deno.test("async iterables are wrapped, and closed on leaving", async () => {
  const file = new FakeStream(false);
  let closed = false;
  async function* source(): AsyncGenerator<number> {
    try {
      for (let i = 0; i < 3; i++) yield await Promise.resolve(i);
    } finally {
      closed = true;
    }
  }
  const seen: number[] = [];
  for await (const x of tqdm(source(), { file })) seen.push(x);
  assertEquals(seen, [0, 1, 2]);
  assert(file.text.startsWith("3it ["), file.text);
  closed = false;
  for await (const x of tqdm(source(), { file })) if (x === 1) break;
  assert(closed);
});

Deno.test("what is iterable both ways stays so, and its length is the total", async () => {
  const file = new FakeStream(false);
  const loader = {
    length: 2,
    *[Symbol.iterator](): Generator<string> {
      yield* ["a", "b"];
    },
    async *[Symbol.asyncIterator](): AsyncGenerator<string> {
      yield await Promise.resolve("c");
    },
  };
  assertEquals([...tqdm(loader, { file })], ["a", "b"]);
  const seen: string[] = [];
  for await (const x of tqdm(loader, { file })) seen.push(x);
  assertEquals(seen, ["c"]);
  assert(file.text.includes("2/2") && file.text.includes("1/2"), file.text);
  for await (const x of tqdm(new Set([5]), { file })) assertEquals(x, 5);
  assert(file.text.includes("1/1"), file.text);
});

Deno.test("a bar can be counted by hand, described and given values", () => {
  const file = new FakeStream(false);
  {
    using bar = tqdm(null, { file, total: 10, initial: 2 });
    bar.update(3);
    bar.update();
    bar.setDescription("by hand");
    const values: Record<string, PostfixValue> = {
      loss: { item: () => 1.23456 },
      count: 12345,
      big: 5n,
      ok: true,
      none: null,
      name: "net",
      nan: NaN,
    };
    bar.setPostfix(values);
    assertEquals(bar.n, 6);
    assert(String(bar).includes("6/10"));
  }
  const expected = "by hand:  60%|██████    | 6/10 [T it/s, loss=1.23, count=12345, big=5, " +
    "ok=true, none=null, name=net, nan=nan]\n";
  assertEquals(withoutTimes(file.text), expected);
});

Deno.test("a closed bar stays closed", () => {
  const file = new FakeStream(false);
  const bar = new ProgressBar({ file });
  bar.close();
  bar.close();
  bar.update();
  bar.setPostfix({ a: 1 });
  bar.refresh();
  assertEquals(file.writes, 1);
});

Deno.test("wrong arguments are refused by name", () => {
  const unknown = { description: "d" } as ProgressOptions;
  assertThrows(() => tqdm([], unknown), TypeError, 'Unknown option "description" of tqdm');
  assertThrows(() => tqdm([], { total: -1 }), RangeError, '"total" of tqdm is -1');
  assertThrows(() => tqdm([], { smoothing: NaN }), RangeError, '"smoothing" of tqdm is NaN');
  assertThrows(() => trange(1.5), RangeError, "Cannot count to 1.5");
  const noIterable = 5 as unknown as number[];
  assertThrows(() => tqdm(noIterable), TypeError, "number: it is not iterable");
});
