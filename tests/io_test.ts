/**
 * Tensors in files: what is saved loads again with its nesting, dtypes and values; files of NumPy,
 * safetensors and PyTorch load; and a file is there whole or not at all.
 */

import { reference, setDefaultDevice } from "../lib/device.ts";
import type { DType } from "../lib/dtype.ts";
import {
  load,
  loadMetadata,
  loadNpy,
  loadNpz,
  loadTorch,
  save,
  saveNpy,
  saveNpz,
} from "../lib/io/mod.ts";
import { tensor, zeros } from "../lib/tensor/create.ts";
import { Tensor } from "../lib/tensor/mod.ts";
import expected from "./golden/io/expected.json" with { type: "json" };
import {
  assert,
  assertEquals,
  assertRejects,
  describe,
  type Described,
  goldenPath,
  text,
} from "./io_support.ts";

setDefaultDevice(reference());

/** A nested value with its tensors as expected.json has them. */
function plain(value: unknown): unknown {
  if (value instanceof Tensor) return describeTensor(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

function describeTensor(t: Tensor): Described {
  const { buffer, byteOffset, byteLength } = t._read();
  const bytes = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
  return describe({ dtype: t.dtype, shape: t.shape, bytes });
}

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
    const left = [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith(".tmp"));
    assertEquals(left.length, 0, "no temporary file is left");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const DTYPES: readonly DType[] = [
  "float32",
  "float64",
  "float16",
  "bfloat16",
  "int32",
  "int64",
  "uint8",
  "bool",
];

function samples(): Record<string, Tensor> {
  const entries = DTYPES.map((dtype) =>
    [dtype, tensor([[1, 0, 1], [0, 1, 1]], { dtype })] as const
  );
  return {
    ...Object.fromEntries(entries),
    "layer.0.weight": tensor([[1.5, -2], [NaN, Infinity]]).permute(1, 0),
    scalar: tensor(0.1, { dtype: "float64" }),
    empty: zeros([0, 3]),
  };
}

Deno.test("a flat state dict of every dtype is a plain safetensors file and loads again", async () => {
  await inFolder(async (folder) => {
    const state = samples();
    const path = `${folder}/a.safetensors`;
    await save(path, state, { metadata: { format: "pt" } });
    assertEquals(plain(await load(path)), plain(state));
    assertEquals(await loadMetadata(path), { format: "pt" });
    await save(path, {});
    assertEquals<unknown>(await load(path), {});
    assertEquals(await loadMetadata(path), {});
  });
});

Deno.test("nested values come back as they were", async () => {
  await inFolder(async (folder) => {
    const path = new URL(`file://${folder}/nested%20state.safetensors`);
    const odd = Object.create(null);
    odd["a"] = [];
    const state: Record<string, unknown> = {
      model: { "0.weight": tensor([1, 2]), "0": { weight: tensor([3]) } },
      optimizer: { state: { 0: { step: 5, m: tensor([1]) } }, paramGroups: [{ lr: 0.1, p: [0] }] },
      numbers: [0, -0, 1e-320, NaN, Infinity, -Infinity, 2 ** 53],
      text: "größe \u2028 \ud83d",
      none: null,
      flags: [true, false],
      empty: { object: {}, array: [] },
      markers: [{ $tensor: "x" }, { $number: 1 }, { $object: { $object: {} } }, {
        $tensor: {},
        a: 1,
      }],
      list: [[tensor(1), [tensor(2)]]],
    };
    for (const key of ["__proto__", "constructor", "__metadata__"]) {
      Object.defineProperty(state, key, { value: tensor([7]), enumerable: true });
    }
    await save(path, state);
    const back = await load<Record<string, unknown>>(path);
    assertEquals(plain(back), plain(state));
    assertEquals(Object.getPrototypeOf(back), Object.prototype);
    assert(Object.is((back["numbers"] as number[])[1], -0));
    await save(path, [tensor([1]), odd]);
    assertEquals(plain(await load(path)), plain([tensor([1]), { a: [] }]));
    await Deno.stat(`${folder}/nested state.safetensors`);
  });
});

Deno.test("what cannot be saved is refused by its place, and nothing is written", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a.safetensors`;
    const cycle: Record<string, unknown> = {};
    cycle["self"] = { cycle };
    let deep: unknown = 1;
    for (let i = 0; i < 2000; i++) deep = [deep];
    const cases: [object, ErrorConstructor, string][] = [
      [{ a: { b: undefined } }, TypeError, 'type undefined at "a.b"'],
      [{ a: [1n] }, TypeError, 'type bigint at "a.0"'],
      [{ a: () => 1 }, TypeError, 'type function at "a"'],
      [{ a: new Map() }, TypeError, 'class Map at "a"'],
      [{ a: new Float32Array(1) }, TypeError, 'class Float32Array at "a"'],
      [new Map(), TypeError, "class Map: it must be a plain object"],
      [tensor(1), TypeError, "it must be a plain object"],
      [cycle, TypeError, "it contains itself"],
      [{ deep }, RangeError, "nested more than 1000 deep"],
    ];
    for (const [state, type, message] of cases) {
      await assertRejects(() => save(path, state), type, message);
    }
    const metadata = { "needle.structure": "x" };
    await assertRejects(() => save(path, {}, { metadata }), TypeError, "needle.structure");
    const options = { meta: {} } as object;
    await assertRejects(() => save(path, {}, options), TypeError, 'Unknown option "meta"');
    assertEquals([...Deno.readDirSync(folder)].length, 0);
  });
});

Deno.test("damaged nesting is refused", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a.safetensors`;
    await save(path, { a: tensor([1]), b: { $tensor: "b" }, c: NaN });
    const good = String.fromCharCode(...Deno.readFileSync(path)); // one character a byte
    const change = async (from: string, to: string, message: string): Promise<void> => {
      assert(good.includes(from), good);
      Deno.writeFileSync(path, text(good.replace(from, to.padEnd(from.length))));
      await assertRejects(() => load(path), Error, message);
    };
    await change('\\"$tensor\\":\\"a\\"', '\\"$tensor\\":\\"z\\"', 'lacks the tensor "z"');
    await change('{\\"$tensor\\":\\"a\\"}', "1", 'has no place for "a"');
    await change('\\"$number\\":\\"NaN\\"', '\\"$number\\":1', "bad $number");
    await change('\\"b\\":{\\"$object', '\\"a\\":{\\"$object', 'has the key "a" twice');
    await change('{\\"a\\":', "", "not valid JSON");
  });
});

Deno.test("saving is atomic: a failed save leaves the old file alone", async () => {
  await inFolder(async (folder) => {
    const path = `${folder}/a.safetensors`;
    await save(path, { a: tensor([1]) });
    const both = [1, 2, 3, 4].map((i) => save(path, { a: tensor([i]) }));
    await Promise.all(both);
    assertEquals([...Deno.readDirSync(folder)].length, 1);
    await assertRejects(() => save(`${folder}/no/b`, {}), Error, `Cannot write ${folder}/no/b`);
    await Deno.mkdir(`${folder}/c`);
    await assertRejects(() => save(`${folder}/c`, {}), Error, "Cannot write");
    await assertRejects(() => save("http://localhost/x", {}), TypeError, "only files");
    await assertRejects(() => load(`${folder}/none`), Error, `Cannot read ${folder}/none`);
    const number = 5 as unknown as string;
    await assertRejects(() => load(number), TypeError, "Cannot use number as a path");
  });
});

Deno.test("the values saved are those at the time of the call", async () => {
  await inFolder(async (folder) => {
    const t = tensor([1, 2]);
    const saving = save(`${folder}/a`, { t });
    t.fill_(9);
    await saving;
    const { t: back } = await load(`${folder}/a`);
    assertEquals<unknown>(back?.tolist(), [1, 2]);
  });
});

Deno.test("npy and npz: what is saved loads again", async () => {
  await inFolder(async (folder) => {
    const { bfloat16, ...state } = samples();
    for (const compressed of [false, true]) {
      await saveNpz(`${folder}/a.npz`, state, { compressed });
      assertEquals(plain(await loadNpz(`${folder}/a.npz`)), plain(state));
    }
    for (const t of Object.values(state)) {
      await saveNpy(`${folder}/a.npy`, t);
      assertEquals(plain(await loadNpy(`${folder}/a.npy`)), plain(t));
    }
    const half = bfloat16!;
    await assertRejects(() => saveNpy(`${folder}/b.npy`, half), TypeError, "npy has no bfloat16");
    await assertRejects(() => saveNpz(`${folder}/b.npz`, { half }), TypeError, 'convert "half"');
    const number = { a: 1 } as unknown as Record<string, Tensor>;
    await assertRejects(() => saveNpz(`${folder}/b.npz`, number), TypeError, '"a" is no tensor');
  });
});

Deno.test("files of the Python libraries load", async () => {
  const read = {
    "all.safetensors": load,
    "deflated.npz": loadNpz,
    "fortran.npy": loadNpy,
    "model.pt": loadTorch,
    "tensors.pt": loadTorch,
  };
  for (const [name, loadFile] of Object.entries(read)) {
    const value = await loadFile(goldenPath(name));
    assertEquals<unknown>(plain(value), expected[name as keyof typeof read], name);
  }
  const nested = await loadTorch<Record<string, unknown>>(goldenPath("nested.pt"));
  const shown = { ...nested, best: "inf", big: String(nested["big"]) };
  assertEquals<unknown>(plain(shown), expected["nested.pt"]);
});

Deno.test("tensors of a checkpoint that share memory share it after loading", async () => {
  const { base, window, transposed } = await loadTorch(goldenPath("tensors.pt"));
  base!.fill_(5);
  assertEquals<unknown>(window!.tolist(), [[5, 5], [5, 5]]);
  assertEquals<unknown>(transposed!.contiguous().sum().item(), 60);
});

Deno.test("URLs are fetched", async () => {
  const bytes = Deno.readFileSync(goldenPath("scalar.npy"));
  const server = Deno.serve(
    { port: 0, onListen: () => {} },
    (request) =>
      request.url.endsWith("/a") ? new Response(bytes) : new Response("", { status: 404 }),
  );
  const origin = `http://localhost:${server.addr.port}`;
  assertEquals((await loadNpy(new URL(`${origin}/a`))).item(), 3.5);
  assertEquals((await loadNpy(`${origin}/a`)).item(), 3.5);
  await assertRejects(() => loadNpy(`${origin}/b`), Error, "the server answers 404");
  await server.shutdown();
});
