// Threads of the native libraries: NEEDLE_THREADS and setNumThreads are honoured, the same count gives the same bits,
// and counts that make no sense are refused. Everything runs in processes of its own: an OpenMP team cannot be undone.

import { assert as stdAssert, assertEquals as stdEquals, assertThrows } from "@std/assert";
import * as ndl from "../mod.ts";
import { nativeDevices } from "./harness.ts";
import { answerOf, assertHas, root, run, withFolder } from "./process_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

const cores = navigator.hardwareConcurrency;

function threadsOf(device: string, variables: Record<string, string>): Promise<number> {
  return answerOf<number>(
    `import * as ndl from "${root}mod.ts";
     console.log(ndl.devices().find((d) => d.name === "${device}").threads);`,
    { env: variables },
  );
}

/** Sums that any change in the order of additions would change, after some steps of training. */
function digest(device: string, threads: string, program = ""): Promise<string[]> {
  return answerOf<string[]>(
    `import * as ndl from "${root}mod.ts";
     ${program}
     ndl.manualSeed(5);
     const { Conv2d, BatchNorm2d, ReLU, Flatten, Linear, Sequential } = ndl.nn;
     const model = new Sequential(new Conv2d(3, 16, 3, { padding: 1 }), new BatchNorm2d(16),
       new ReLU(), new Flatten(), new Linear(16 * 16 * 16, 10));
     const optimizer = new ndl.optim.Adam(model.parameters(), { lr: 1e-2 });
     const x = ndl.randn([32, 3, 16, 16]), y = ndl.randint(0, 10, [32]);
     const bits = (t) => new BigInt64Array(new Float64Array([t.item()]).buffer)[0].toString(16);
     const out = [];
     for (let i = 0; i < 3; i++) {
       optimizer.zeroGrad();
       const loss = ndl.nn.functional.crossEntropy(model.forward(x), y);
       loss.backward();
       optimizer.step();
       out.push(bits(loss), bits(model.at(4).weight.sum()));
     }
     const a = ndl.randn([257, 301]), b = ndl.randn([301, 263]);
     out.push(bits(a.matmul(b).sum()), bits(ndl.randn([300_001]).sum()));
     console.log(JSON.stringify(out));`,
    { env: { NEEDLE_DEVICE: device, NEEDLE_THREADS: threads } },
  );
}

/** Statements after which other threads hold the cores, so that a team of threads waits for them. */
const contention = `
  const url = URL.createObjectURL(new Blob(["postMessage(0); for (;;);"]));
  for (let i = 0; i < navigator.hardwareConcurrency; i++) {
    const worker = new Worker(url, { type: "module" });
    await new Promise((resolve) => worker.onmessage = resolve);
  }
  setTimeout(() => Deno.exit());
  for (let i = 0; i < 300; i++) ndl.ones([100_000]).sum().item();`;

for (const device of nativeDevices()) {
  Deno.test(`NEEDLE_THREADS sets the threads of ${device}`, async () => {
    for (const n of [1, 2, 3]) {
      assertEquals(await threadsOf(device.name, { NEEDLE_THREADS: String(n) }), n);
    }
    assertEquals(await threadsOf(device.name, { NEEDLE_THREADS: "" }), cores);
  });

  Deno.test(`setNumThreads sets the threads of ${device}, whatever the environment says`, async () => {
    const counts = await answerOf<number[]>(
      `import * as ndl from "${root}mod.ts";
       const threads = () => ndl.devices().find((d) => d.name === "${device}").threads;
       const counts = [threads()];
       for (const n of [3, 1, 2]) {
         ndl.setNumThreads(n);
         ndl.ones([1_000_000]).add(1).sum().item();
         counts.push(threads());
       }
       console.log(JSON.stringify(counts));`,
      { env: { NEEDLE_THREADS: "2" } },
    );
    assertEquals(counts, [2, 3, 1, 2]);
  });

  Deno.test(`the same number of threads gives the same bits on ${device}`, async () => {
    const one = await digest(device.name, "1");
    const two = await digest(device.name, "2");
    assertEquals(await digest(device.name, "2"), two);
    assertEquals(await digest(device.name, "1", "ndl.setNumThreads(2);"), two);
    assertEquals(await digest(device.name, "2", contention), two);
    assertEquals(await digest(device.name, "2", "ndl.setNumThreads(1);"), one);
    assertEquals(one.length, 8);
  });
}

Deno.test("counts that make no sense are refused", async () => {
  for (const n of [0, -1, 1.5, NaN, Infinity, 1e9]) {
    const error = assertThrows(() => ndl.setNumThreads(n), RangeError) as unknown as Error;
    assertHas(error.message, `Cannot use ${n} threads`);
  }
  for (const text of ["0", "-2", "many", "1.5", "1000000"]) {
    const { code, stderr } = await run(
      ["eval", `import * as ndl from "${root}mod.ts"; ndl.cpu().available; ndl.ones([2]);`],
      { env: { NEEDLE_THREADS: text } },
    );
    if (nativeDevices().length === 0) continue;
    assert(code !== 0, `NEEDLE_THREADS=${text} is accepted`);
    assertHas(stderr, `Cannot use NEEDLE_THREADS=${text}: a whole number`);
  }
});

Deno.test("workers that compute at the same time are each told their own error", () =>
  withFolder(async (folder) => {
    await Deno.writeTextFile(
      `${folder}/worker.ts`,
      `import * as ndl from "${root}mod.ts";
       self.onmessage = ({ data: size }) => {
         const x = ndl.zeros([size]), index = ndl.tensor([BigInt(size)]);
         let own = 0;
         for (let i = 0; i < 3000; i++) {
           try {
             x.indexSelect(0, index);
           } catch (error) {
             if (error.message.includes(\`size \${size}\`)) own++;
           }
         }
         self.postMessage(own);
       };`,
    );
    for (const device of nativeDevices()) {
      const found = await answerOf<number[]>(
        `const ask = (size) => new Promise((resolve) => {
           const worker = new Worker("file://${folder}/worker.ts", { type: "module" });
           worker.onmessage = ({ data }) => (worker.terminate(), resolve(data));
           worker.postMessage(size);
         });
         console.log(JSON.stringify(await Promise.all([ask(3), ask(5)])));`,
        { env: { NEEDLE_DEVICE: device.name, NEEDLE_THREADS: "1" } },
      );
      assertEquals(found, [3000, 3000]);
    }
  }));
