// Language models: what they compute and learn, generation, and the example programs as a user runs them, with their
// reports, resuming and errors. The programs train on small texts made here.

import { assert as stdAssert, assertEquals as stdEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { plotSvg } from "../lib/plot.ts";
import { assertHas, type Outcome, root, run, start, withFolder } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;
const { LanguageModel, TransformerLanguageModel } = ndl.nn;

/** Fails unless two tensors agree to about single precision. */
function assertNear(a: ndl.Tensor, b: ndl.Tensor): void {
  assertEquals(a.shape, b.shape);
  const difference = a.sub(b).abs().max().item();
  assert(difference < 2e-5, `they differ by ${difference}`);
}

function models(): ndl.nn.SequenceModel[] {
  ndl.manualSeed(3);
  return [
    new LanguageModel(30, 8, 2),
    new LanguageModel(30, 8, 1, { cell: "gru", tied: true }),
    new LanguageModel(30, 8, 2, { cell: "rnn", initRange: 0.3 }),
    new TransformerLanguageModel(30, 8, 2, { numHeads: 2, maxLength: 12 }),
  ];
}

Deno.test("a text in segments with the state carried gives the logits of the whole text", () => {
  for (const model of models()) {
    model.eval();
    const x = ndl.randint(0, 30, [12, 3]);
    const [whole] = model.forward(x);
    const [first, state] = model.forward(x.narrow(0, 0, 5));
    const [second] = model.forward(x.narrow(0, 5, 7), state.map((t) => t.detach()));
    assertNear(ndl.cat([first, second], 0), whole);
  }
});

Deno.test("no prediction depends on words that come later", () => {
  for (const model of models()) {
    model.eval();
    const x = ndl.randint(0, 30, [6, 2]);
    const other = ndl.cat([x.narrow(0, 0, 4), x.narrow(0, 4, 2).add(1).remainder(30)], 0);
    const [a, b] = [model.forward(x)[0], model.forward(other)[0]];
    assertNear(a.narrow(0, 0, 8), b.narrow(0, 0, 8));
    assert(a.narrow(0, 8, 4).sub(b.narrow(0, 8, 4)).abs().max().item() > 1e-6);
  }
});

Deno.test("tied models have one matrix for embedding and projection, and gradients of both uses", () => {
  const model = new LanguageModel(20, 6, 1, { tied: true });
  assert(model.decoder.weight === model.encoder.weight);
  const [logits] = model.forward(ndl.zeros([2, 1], { dtype: "int64" }));
  ndl.nn.functional.crossEntropy(logits, ndl.ones([2], { dtype: "int64" })).backward();
  const rows = model.encoder.weight.grad!.abs().sum(1).tolist() as number[];
  assert(rows.every((r) => r > 0), `rows without gradient: ${rows}`);
  const state = model.stateDict();
  const again = new LanguageModel(20, 6, 1, { tied: true });
  again.loadStateDict(state);
  assertNear(again.forward(ndl.zeros([2, 1], { dtype: "int64" }))[0], logits);
});

Deno.test("models learn a text by heart, and then write it", () => {
  for (const model of models()) {
    const text = Int32Array.from({ length: 121 }, (_, i) => (i * 7) % 30);
    const segments = new ndl.data.BPTTDataset(text, 2, 10);
    const optimizer = new ndl.optim.Adam(model.parameters(), { lr: 0.02 });
    let last = Infinity;
    for (let epoch = 0; epoch < 200 && last > 0.1; epoch++) {
      for (const [x, y] of segments) {
        last = ndl.tidy(() => {
          optimizer.zeroGrad();
          const loss = ndl.nn.functional.crossEntropy(model.forward(x)[0], y);
          loss.backward();
          optimizer.step();
          return loss.item();
        });
      }
    }
    assert(last < 0.2, `${model.constructor.name} has a loss of ${last}`);
    assertEquals(model.generate([0, 7], 4, { temperature: 0 }), [14, 21, 28, 5], `${model}`);
    assert(model.training);
  }
});

Deno.test("generation is the generator's, and longer than the transformer's positions where asked", () => {
  for (const model of models()) {
    const write = (seed: number): number[] => {
      ndl.manualSeed(seed);
      return model.generate([1, 2, 3], 15, { temperature: 0.8 });
    };
    assertEquals(write(1), write(1));
    assert(write(1).join() !== write(2).join());
    assertEquals(write(1).length, 15);
    assertThrows(() => model.generate([], 3), RangeError, "give a word");
    assertThrows(() => model.generate([30], 3), RangeError, "numbered from 0 to 29");
    assertThrows(() => model.generate([1], 3, { temperature: -1 }), RangeError, "temperature -1");
  }
});

Deno.test("what a language model cannot take is an error that says so", () => {
  const cell = "lstn" as "lstm";
  assertThrows(() => new LanguageModel(9, 4, 1, { cell }), TypeError, '"lstn"');
  assertThrows(() => new LanguageModel(9, 0), RangeError);
  const model = new TransformerLanguageModel(9, 4, 1, { numHeads: 1, maxLength: 3 });
  const words = (...shape: number[]): ndl.Tensor => ndl.zeros(shape, { dtype: "int64" });
  assertThrows(() => model.forward(words(4, 1)), RangeError, "it has 3 positions");
  assertThrows(() => model.forward(words(4)), RangeError, "it takes (T, N)");
  const text = Int32Array.from([1, 2, 3, 4, 5]);
  assertThrows(
    () => new ndl.data.BPTTDataset(text, 3, 4),
    RangeError,
    "two tokens for each stream",
  );
});

Deno.test("a plot without anything to draw is an error", async () => {
  for (
    const [points, text] of [[[[1, NaN]], "no finite point"], [[[1, 0]], "logarithmic"]] as const
  ) {
    const curves = [{ name: "a", points }];
    const error = await plotSvg([{ yLabel: "y", curves, logarithmic: true }]).catch((e) => e);
    assertHas(String(error), text);
  }
});

const small = ["--hidden", "16", "--layers", "1", "--batch-size", "4", "--bptt", "8"];

/** The arguments of an example on a text of its own in `folder`. */
function command(name: string, folder: string, flags: readonly string[]): string[] {
  return [
    "run",
    "--no-prompt",
    "--allow-ffi",
    "--allow-env",
    "--allow-read",
    "--allow-write",
    `${root}examples/${name}`,
    "--data",
    folder,
    "--checkpoint",
    `${folder}/run/model.safetensors`,
    "--json",
    `${folder}/run/report.jsonl`,
    ...small,
    ...flags,
  ];
}

function example(name: string, folder: string, flags: readonly string[]): Promise<Outcome> {
  return run(command(name, folder, flags), { cwd: folder });
}

/** Runs an example, interrupts it once it has reported its second epoch, and gives what it printed. */
async function interrupt(name: string, folder: string, flags: readonly string[]): Promise<string> {
  const child = start(command(name, folder, flags), { cwd: folder });
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const errors = new Response(child.stderr).text();
  let text = "", sent = false;
  for (;;) {
    const { done, value } = await lines.read();
    if (done) break;
    text += value;
    if (!sent && text.includes("epoch 2/")) {
      child.kill("SIGINT");
      sent = true;
    }
  }
  await Promise.all([child.status, errors]);
  return text;
}

async function writeTexts(folder: string, train?: string): Promise<void> {
  const animals = ["cat", "dog", "cow"];
  const lines = (n: number): string =>
    Array.from({ length: n }, (_, i) => `the ${animals[i % 3]} sat on a mat\n`).join("");
  await Deno.writeTextFile(`${folder}/ptb.train.txt`, train ?? lines(60));
  for (const part of ["valid", "test"]) {
    await Deno.writeTextFile(`${folder}/ptb.${part}.txt`, lines(9));
  }
}

interface Report extends Record<string, number> {
  epoch: number;
  validPpl: number;
}

async function reports(folder: string): Promise<Report[]> {
  const text = await Deno.readTextFile(`${folder}/run/report.jsonl`);
  return text.trimEnd().split("\n").map((line) => JSON.parse(line) as Report);
}

async function results(folder: string): Promise<Omit<Report, "seconds">[]> {
  return (await reports(folder)).map(({ seconds: _, ...rest }) => rest as Report);
}

function assertOk({ code, stdout, stderr }: Outcome): void {
  assertEquals(code, 0, `exit status ${code}\n${stdout}\n${stderr}`);
}

for (
  const { name, flags } of [
    { name: "lstm_ptb.ts", flags: ["--preset", "small", "--dropout", "0.2"] },
    { name: "lstm_ptb.ts", flags: ["--preset", "tied", "--cell", "gru", "--lr", "0.02"] },
    { name: "transformer_ptb.ts", flags: ["--heads", "2", "--lr", "0.02"] },
  ]
) {
  Deno.test(`${name} ${flags.join(" ")}: learns, reports, resumes as if it had not stopped`, () =>
    withFolder(async (folder) => {
      await writeTexts(folder);
      const all = [...flags, "--epochs", "4"];
      assertOk(await example(name, folder, all));
      const whole = await results(folder);
      assertEquals(Object.keys((await reports(folder))[0]!), [
        "epoch",
        "trainLoss",
        "trainPpl",
        "validPpl",
        "testPpl",
        "seconds",
      ]);
      assert(whole[3]!.validPpl! < whole[0]!.validPpl!, JSON.stringify(whole));
      const stopped = await interrupt(name, folder, all);
      const saved = await ndl.load<{ history: unknown[] }>(`${folder}/run/model.safetensors`);
      const finished = saved.history.length;
      assert(finished >= 2, `${finished} epochs were saved:\n${stopped}`);
      if (finished < 4) assertHas(stopped, `holds the state after epoch ${finished}: --resume`);
      const again = await example(name, folder, [...all, "--resume", "--generate", "the dog sat"]);
      assertOk(again);
      assertHas(again.stdout, `after epoch ${finished}`);
      assertHas(again.stdout, "the dog sat");
      assertEquals(await results(folder), whole);
    }));
}

const wrong: [flags: string[], message: string][] = [
  [["--preset", "huge"], "--preset must be one of seed, small, medium, tied"],
  [["--cell", "cnn"], "--cell must be one of lstm, gru, rnn"],
  [["--dropout", "1.5"], "--dropout must be at most 1"],
  [["--batch-size", "500"], "into 500 streams"],
  [["--limit", "7"], "Cannot cut 7 tokens into 4 streams"],
  [["--generate", "the unicorn sat"], 'Cannot generate after "unicorn": not among the 9 words'],
  [["--generate", " "], "give --generate a word"],
  [["--resume"], "Cannot resume from"],
];

Deno.test("wrong flags, prompts and sizes end a language model with a reason", () =>
  withFolder(async (folder) => {
    await writeTexts(folder);
    for (const [flags, message] of wrong) {
      const { code, stderr } = await example("lstm_ptb.ts", folder, flags);
      assert(code === 1 || code === 2, `${flags}: exit status ${code}`);
      assertHas(stderr, "error: ");
      assertHas(stderr, message);
    }
  }));

Deno.test("texts that are empty or have unknown words are refused", () =>
  withFolder(async (folder) => {
    await writeTexts(folder, "the cat sat\n");
    const unknown = await example("lstm_ptb.ts", folder, []);
    assertEquals(unknown.code, 1);
    assertHas(unknown.stderr, 'Cannot encode "on"');
    await writeTexts(folder, "");
    const empty = await example("lstm_ptb.ts", folder, []);
    assertEquals(empty.code, 1);
    assertHas(empty.stderr, "it is empty");
  }));

Deno.test("a checkpoint of another model is refused; a loss that becomes NaN keeps the last good one", () =>
  withFolder(async (folder) => {
    await writeTexts(folder);
    assertOk(await example("lstm_ptb.ts", folder, ["--epochs", "1"]));
    const other = await example("lstm_ptb.ts", folder, ["--resume", "--cell", "gru"]);
    assertHas(other.stderr, "it holds lstm 1 × 16, 9 words, but this is gru 1 × 16, 9 words");
    const nan = await example("lstm_ptb.ts", folder, [
      ...["--epochs", "9", "--lr", "1e38", "--clip-norm", "0"],
      ...["--preset", "small"],
    ]);
    assertEquals(nan.code, 1, nan.stdout);
    assertHas(nan.stderr, "The loss became ");
    assertHas(nan.stderr, "norm of the gradient");
    assertHas(nan.stderr, "lower --lr");
    assertHas(nan.stderr, "holds the state after epoch 0");
    const kept = await ndl.load<{ model: ndl.nn.StateDict }>(`${folder}/run/model.safetensors`);
    for (const t of Object.values(kept.model)) assert(t.isnan().sum().item() === 0);
  }));
