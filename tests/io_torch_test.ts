/**
 * PyTorch checkpoints at byte level: what torch.save wrote is read bit for bit, and everything that
 * is damaged or no plain value is refused; and no reader of any format trips over random damage.
 */

import { dtypes } from "../lib/dtype.ts";
import { parseNpy } from "../lib/io/npy.ts";
import { parseNpz } from "../lib/io/npz.ts";
import { gatherStrided } from "../lib/io/record.ts";
import { parseSafetensors } from "../lib/io/safetensors.ts";
import { parseTorch, type TorchTensor } from "../lib/io/torch.ts";
import { formatZip } from "../lib/io/zip.ts";
import expected from "./golden/io/expected.json" with { type: "json" };
import {
  assert,
  assertEquals,
  assertRejects,
  type Bytes,
  describe,
  type Described,
  golden,
  join,
  text,
} from "./io_support.ts";

function describeTorch({ storage, shape, strides, offset }: TorchTensor): Described {
  const { dtype, bytes } = storage;
  const gathered = gatherStrided(bytes, dtypes[dtype].bytes, shape, strides, offset);
  return describe({ dtype, shape, bytes: gathered });
}

function torch(bytes: Bytes): Promise<unknown> {
  return parseTorch(bytes, describeTorch, "f.pt");
}

Deno.test("torch: checkpoints of PyTorch read bit for bit", async () => {
  for (const name of ["model.pt", "tensors.pt"] as const) {
    assertEquals<unknown>(await torch(golden(name)), expected[name], name);
  }
  const nested = await torch(golden("nested.pt")) as Record<string, unknown>;
  assertEquals(Object.keys(nested["ordered"] as object), ["__proto__", "constructor"]);
  const best = nested["best"];
  assertEquals<unknown>(best, Infinity);
  assertEquals<unknown>(nested["big"], 2n ** 70n);
  const plain = { ...nested, best: "inf", big: String(nested["big"]) };
  assertEquals<unknown>(plain, expected["nested.pt"]);
});

Deno.test("torch: shared storages stay shared", async () => {
  const read = parseTorch(golden("tensors.pt"), (tensor) => tensor, "f");
  const tensors = await read as Record<string, TorchTensor>;
  assert(tensors["base"]?.storage === tensors["window"]?.storage);
  assertEquals(tensors["transposed"]?.strides, [1, 4]);
  assertEquals(tensors["window"]?.offset, 4);
  assertEquals(tensors["expanded"]?.storage.bytes.length, 8);
});

Deno.test("torch: what is no plain value is refused by name", async () => {
  const cases: [string, string][] = [
    ["evil.pt", 'the global "posix.system", which is not on the list'],
    ["module.pt", 'the global "torch.nn.modules.container.Sequential"'],
    ["int16.pt", 'the global "torch.ShortStorage"'],
    ["set.pt", 'the global "__builtin__.set"'],
    ["tuple_key.pt", "a dict has a tuple as a key"],
    ["legacy.pt", "format of PyTorch before 1.6"],
    ["script.pt", "TorchScript program"],
    ["stored.npz", "no data.pkl"],
  ];
  for (const [name, message] of cases) {
    await assertRejects(() => torch(golden(name)), Error, message);
  }
});

/** A checkpoint with this pickle and one storage of eight bytes. */
async function checkpoint(pickle: string, files: Record<string, string> = {}): Promise<Bytes> {
  const members = { "a/data.pkl": pickle, "a/data/0": "12345678", ...files };
  const inputs = Object.entries(members).map(([name, data]) => ({ name, pieces: [text(data)] }));
  return join(await formatZip(inputs, { compressed: false }, "f"));
}

function unicode(value: string): string {
  return `X${String.fromCharCode(value.length)}\0\0\0${value}`;
}

/** The pickle of a tensor; sizes and strides as opcodes. */
function tensorPickle(shape: string, strides: string, offset = "K\0", length = "K\x02"): string {
  const id = `(${unicode("storage")}ctorch\nFloatStorage\n${unicode("0")}${
    unicode("cpu")
  }${length}tQ`;
  const hooks = "ccollections\nOrderedDict\n)R";
  return `\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(${id}${offset}${shape}${strides}\x89${hooks}tR.`;
}

Deno.test("torch: every kind of damage is refused", async () => {
  const one = "K\x01\x85";
  const two = "K\x02\x85";
  const good = await torch(await checkpoint(tensorPickle(two, one))) as Described;
  assertEquals(good.hex, "3132333435363738");
  const big = await checkpoint(tensorPickle(two, one), { "a/byteorder": "big" });
  assertEquals((await torch(big) as Described).hex, "3433323138373635");
  const deflated = await formatZip(
    [
      { name: "a/data.pkl", pieces: [text(tensorPickle(two, one))] },
      { name: "a/data/0", pieces: [text("12345678")] },
    ],
    { compressed: true },
    "f",
  );
  assertEquals(await torch(join(deflated)), good);

  const cases: [string, string][] = [
    ["", "cut short"],
    ["\x80\x04.", "not of protocol 2"],
    ["\x80\x02K", "cut short"],
    ["\x80\x02X\xff\xff\xff\x7fa", "cut short"],
    ["\x80\x02X\x01\0\0\0\xff.", "not valid UTF-8"],
    ["\x80\x02.", "stack runs empty"],
    ["\x80\x02q\0.", "stack runs empty"],
    ["\x80\x02NN.", "left over"],
    ["\x80\x02(N.", "left over"],
    ["\x80\x02N.N", "left over"],
    ["\x80\x02t.", "a group ends that did not begin"],
    ["\x80\x02h\x05.", "recalls value 5"],
    ["\x80\x02j\x05\0\0\0.", "recalls value 5"],
    ["\x80\x02NNa.", "appends to what is no list"],
    ["\x80\x02)Na.", "appends to what is no list"],
    ["\x80\x02}Na.", "appends to what is no list"],
    ["\x80\x02]NNs.", "sets items of what is no dict"],
    ["\x80\x02}(Nu.", "sets items of what is no dict"],
    ["\x80\x02}NNs.", "a dict has None as a key"],
    ["\x80\x02}K\x01Ns" + unicode("1") + "Ns.", 'a dict has the key "1" twice'],
    ["\x80\x02}Nb.", "sets the state of what is no dict"],
    ["\x80\x02N)R.", "calls what is no function"],
    ["\x80\x02ccollections\nOrderedDict\nNR.", "calls what is no function"],
    [
      "\x80\x02ccollections\nOrderedDict\n.",
      "uses the function collections.OrderedDict as a value",
    ],
    ["\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "makes a dict of what is no dict"],
    ["\x80\x02ccollections\nOrderedDict\n]K\x01a\x85R.", "makes a dict of what are no pairs"],
    ["\x80\x02ctorch\ndevice\n]\x85R.", "makes a device of"],
    ["\x80\x02cos\nsystem\n.", 'the global "os.system"'],
    ["\x80\x02cbuiltins\neval\n.", 'the global "builtins.eval"'],
    ["\x80\x02ctorch\n__proto__\n.", 'the global "torch.__proto__"'],
    ["\x80\x02ccollections", "cut short"],
    ["\x80\x02NQ.", "something other than a storage"],
    ["\x80\x02\x8c\x01a.", "the opcode SHORT_BINUNICODE"],
    ["\x80\x02)\x81.", "the opcode NEWOBJ"],
    ["\x80\x02(ios\nsystem\n.", "the opcode INST"],
    ["\x80\x02\x07.", "the opcode 0x7"],
    [tensorPickle("K\x03\x85", one), "reaches to element 2 of 2"],
    [tensorPickle(two, two), "reaches to element 2 of 2"],
    [tensorPickle(two, one, "K\x01"), "reaches to element 2 of 2"],
    [tensorPickle("K\0\x85", one, "K\x03"), "of 2"],
    [tensorPickle("J\xff\xff\xff\xff\x85", one), "has the size -1"],
    [tensorPickle(two, "J\xff\xff\xff\xff\x85"), "something other than storage and sizes"],
    [tensorPickle(two, "J\xff\xff\xff\x7f\x85"), "reaches to element 2147483647 of 2"],
    [tensorPickle(two, ")"), "for its shape [2]"],
    [tensorPickle(two, one, "N"), "has offset null"],
    [tensorPickle(two, one, "K\0", "K\x03"), "has 8 bytes where 3 elements of float32 need 12"],
    [tensorPickle(two, one, "K\0", "N"), "has the size null"],
  ];
  for (const [pickle, message] of cases) {
    const file = await checkpoint(pickle);
    await assertRejects(() => torch(file), Error, message);
    await assertRejects(() => torch(file), Error, "Cannot read f.pt");
  }
  const missing = await formatZip(
    [{ name: "a/data.pkl", pieces: [text(tensorPickle(two, one))] }],
    { compressed: false },
    "f",
  );
  await assertRejects(() => torch(join(missing)), Error, 'storage "0" is missing');
  const middle = await checkpoint("\x80\x02N.", { "a/byteorder": "middle" });
  await assertRejects(() => torch(middle), Error, 'byte order is "middle"');
});

Deno.test("no cut or changed byte makes a reader do anything but read or refuse", async () => {
  let seed = 1;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const readers: [string, (bytes: Bytes) => unknown][] = [
    ["all.safetensors", (bytes) => parseSafetensors(bytes, "f.x")],
    ["fortran.npy", (bytes) => parseNpy(bytes, "a", "f.x")],
    ["deflated.npz", (bytes) => parseNpz(bytes, "f.x")],
    ["nested.pt", (bytes) => parseTorch(bytes, (t) => t, "f.x")],
  ];
  for (const [name, read] of readers) {
    const good = golden(name);
    for (let i = 0; i < 150; i++) {
      const bad = i % 3 === 0 ? good.slice(0, random(good.length)) : good.slice();
      if (i % 3 !== 0) bad[random(bad.length)] = random(256);
      try {
        await read(bad);
        assert(i % 3 !== 0, `${name} cut to ${bad.length} bytes was read`);
      } catch (error) {
        const message = (error as Error).message;
        assert(message.startsWith("Cannot read f.x"), `${name}: ${message}`);
      }
    }
  }
});
