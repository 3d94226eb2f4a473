/**
 * safetensors, npy, npz and zip at byte level: files of NumPy and the safetensors library are read
 * bit for bit, what is written reads back, and every kind of damage is refused with its reason.
 */

import { type DType, dtypes } from "../lib/dtype.ts";
import { crc32 } from "../lib/io/crc32.ts";
import { formatNpy, parseNpy } from "../lib/io/npy.ts";
import { formatNpz, parseNpz } from "../lib/io/npz.ts";
import type { TensorRecord } from "../lib/io/record.ts";
import { formatSafetensors, parseSafetensors } from "../lib/io/safetensors.ts";
import { formatZip, parseZip, readZipEntry } from "../lib/io/zip.ts";
import expected from "./golden/io/expected.json" with { type: "json" };
import {
  assert,
  assertEquals,
  assertRejects,
  assertThrows,
  type Bytes,
  describe,
  type Described,
  golden,
  join,
  text,
} from "./io_support.ts";

function describeAll(records: readonly TensorRecord[]): Record<string, Described> {
  return Object.fromEntries(records.map((record) => [record.name, describe(record)]));
}

/** A record of every dtype, and of odd shapes. */
function sampleRecords(): TensorRecord[] {
  const records = Object.entries(dtypes).map(([dtype, { bytes }], i): TensorRecord => ({
    name: `layer.${dtype}`,
    dtype: dtype as DType,
    shape: [2, i],
    bytes: Uint8Array.from({ length: 2 * i * bytes }, (_, j) => dtype === "bool" ? j & 1 : 7 * j),
  }));
  const bytes = new Uint8Array(8);
  return [...records, { name: "größe 📦", dtype: "float64", shape: [], bytes }];
}

Deno.test("safetensors: a file of the Python library reads bit for bit", () => {
  const { records, metadata } = parseSafetensors(golden("all.safetensors"), "f");
  assertEquals<unknown>(describeAll(records), expected["all.safetensors"]);
  assertEquals([...metadata].sort(), [["format", "pt"], ["é", "ü"]]);
});

Deno.test("safetensors: what is written reads back, aligned and in order", () => {
  const records = sampleRecords();
  const metadata = new Map([["a", "b"], ["__proto__", '"\\\n']]);
  const file = join(formatSafetensors(records, metadata, "f"));
  const back = parseSafetensors(file, "f");
  assertEquals(back.records, records);
  assertEquals(back.metadata, metadata);
  for (const { dtype, bytes } of back.records) {
    assertEquals(bytes.byteOffset % dtypes[dtype].bytes, 0);
    assert(bytes.buffer === file.buffer, "bytes are views on the file");
  }
  const none = join(formatSafetensors([], new Map(), "f"));
  assertEquals(parseSafetensors(none, "f").records, []);
});

function safetensors(header: string, data = 0): Bytes {
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(
    0,
    BigInt(new TextEncoder().encode(header).length),
    true,
  );
  return join([length, new TextEncoder().encode(header), new Uint8Array(data)]);
}

function entry(
  begin: number,
  end: number,
  shape = `[${(end - begin) / 4}]`,
  dtype = "F32",
): string {
  return `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;
}

Deno.test("safetensors: every kind of damage is refused", () => {
  const long = new Uint8Array(16);
  new DataView(long.buffer).setBigUint64(0, 100_000_001n, true);
  const cases: [Bytes, string][] = [
    [new Uint8Array(7), "7 bytes are too few"],
    [long, "length 100000001 is above 100000000"],
    [new Uint8Array(8).fill(255), "length 18446744073709551615 is above"],
    [safetensors("{}").subarray(0, 9), "length 2 reaches past the file's end"],
    [safetensors(" {}"), 'does not begin with "{"'],
    [safetensors("{}\n"), "padded with other than spaces"],
    [safetensors("{} x"), "not valid JSON"],
    [join([safetensors("").fill(1, 0, 1), text("\xff")]), "not valid UTF-8"],
    [safetensors('{"a":1}'), 'tensor "a" is not an object'],
    [safetensors('{"a":null}'), 'tensor "a" is not an object'],
    [safetensors(`{"a":${entry(0, 4)},"a":${entry(0, 4)}}`, 4), 'has the key "a" twice'],
    [safetensors(`{"a":${entry(0, 4)},"\\u0061":${entry(0, 4)}}`, 4), 'has the key "a" twice'],
    [safetensors('{"__metadata__":{"k":1}}'), 'metadata "k" is not a string'],
    [safetensors('{"__metadata__":[]}'), '"__metadata__" is not an object'],
    [safetensors(`{"a":${entry(0, 4, "[1]", "I16")}}`, 4), 'dtype "I16"; known are F32'],
    [safetensors(`{"a":${entry(0, 4, "[-1]")}}`, 4), "has the size -1 in its shape"],
    [safetensors(`{"a":${entry(0, 4, "[1.5]")}}`, 4), "has the size 1.5"],
    [safetensors(`{"a":${entry(0, 4, '["1"]')}}`, 4), 'has the size "1"'],
    [safetensors(`{"a":${entry(0, 4, "4")}}`, 4), "has no shape"],
    [safetensors(`{"a":${entry(0, 4, "[9007199254740991,4]")}}`, 4), "impossible shape"],
    [safetensors(`{"a":${entry(0, 4, "[1e300,0,1e300]")}}`, 4), "has the size 1e+300"],
    [
      safetensors(`{"a":${entry(0, 4, "[".repeat(50000) + "]".repeat(50000))}}`, 4),
      "has the size [[[",
    ],
    [
      safetensors(`{"a":${entry(0, 4, "[2]")}}`, 4),
      "has 4 bytes where its shape [2] of F32 needs 8",
    ],
    [safetensors(`{"a":${entry(4, 0, "[1]")}}`, 4), "data_offsets [4,0]"],
    [safetensors(`{"a":${entry(-4, 0, "[1]")}}`, 4), "data_offsets [-4,0]"],
    [safetensors('{"a":{"dtype":"F32","shape":[]}}', 4), "data_offsets undefined"],
    [safetensors(`{"a":${entry(0, 8)}}`, 4), "ends at byte 8 of 4"],
    [safetensors(`{"a":${entry(0, 4)},"b":${entry(8, 12)}}`, 12), '"b" leaves a hole before it'],
    [safetensors(`{"a":${entry(4, 8)}}`, 8), '"a" leaves a hole before it'],
    [safetensors(`{"a":${entry(0, 8)},"b":${entry(4, 8)}}`, 8), '"b" overlaps'],
    [safetensors(`{"a":${entry(0, 4)},"b":${entry(0, 4)}}`, 4), '"b" overlaps'],
    [safetensors(`{"a":${entry(0, 4)}}`, 5), "1 bytes follow the last tensor"],
    [join([safetensors(`{"a":${entry(0, 1, "[1]", "BOOL")}}`), text("\x02")]), "holds the byte 2"],
  ];
  for (const [bytes, message] of cases) {
    assertThrows(() => parseSafetensors(bytes, "f.safetensors"), Error, message);
    assertThrows(
      () => parseSafetensors(bytes, "f.safetensors"),
      Error,
      "Cannot read f.safetensors",
    );
  }
});

Deno.test("safetensors: large headers are read", () => {
  const many = Array.from({ length: 20_000 }, (_, i): TensorRecord => {
    return { name: `layer.${i}`, dtype: "uint8", shape: [1], bytes: new Uint8Array(1) };
  });
  const metadata = new Map([["long", '"\\'.repeat(2_000_000)]]);
  const back = parseSafetensors(join(formatSafetensors(many, metadata, "f")), "f");
  assertEquals(back.records.length, 20_000);
  assertEquals(back.metadata.get("long")?.length, 4_000_000);
});

Deno.test("safetensors: names of the language's own are names like any other", () => {
  const header = `{"__proto__":${entry(0, 4)},"constructor":${entry(4, 8)}}`;
  const { records } = parseSafetensors(safetensors(header, 8), "f");
  assertEquals(records.map((record) => record.name), ["__proto__", "constructor"]);
});

Deno.test("safetensors: impossible input is not written", () => {
  const a: TensorRecord = { name: "a", dtype: "int32", shape: [2], bytes: new Uint8Array(8) };
  const write = (...records: TensorRecord[]) => () => formatSafetensors(records, new Map(), "f");
  assertThrows(write(a, a), Error, 'two tensors are named "a"');
  assertThrows(write({ ...a, name: "__metadata__" }), Error, "cannot be a tensor's name");
  assertThrows(write({ ...a, shape: [3] }), Error, "has 8 bytes where its shape [3]");
});

Deno.test("npy: files of NumPy read bit for bit", () => {
  for (const name of ["float32", "fortran", "big_endian", "scalar", "version2"] as const) {
    const record = parseNpy(golden(`${name}.npy`), "array", "f");
    assertEquals<unknown>(describe(record), expected[`${name}.npy`], name);
  }
  assertThrows(() => parseNpy(golden("int16.npy"), "a", "f"), Error, "dtype is '<i2'");
  assertThrows(() => parseNpy(golden("object.npy"), "a", "f"), Error, "dtype is '|O'");
  assertThrows(() => parseNpy(golden("structured.npy"), "a", "f"), Error, "structured array");
});

function npy(header: string, data = 0, version = 1): Bytes {
  const length = new Uint8Array(version === 1 ? 2 : 4);
  length[0] = header.length & 255;
  length[1] = header.length >> 8;
  const start = `\x93NUMPY${String.fromCharCode(version)}\0`;
  return join([text(start), length, text(header), new Uint8Array(data)]);
}

function dict(shape: string, descr = "'<f4'", order = "False"): string {
  return `{'descr': ${descr}, 'fortran_order': ${order}, 'shape': ${shape}, }\n`;
}

Deno.test("npy: headers may be written in other ways", () => {
  const read = (header: string, data: number): TensorRecord =>
    parseNpy(npy(header, data), "a", "f");
  assertEquals(read(dict("(2L, 3L)"), 24).shape, [2, 3]);
  assertEquals(read(dict("( 2 , )", '"=f4"'), 8).shape, [2]);
  assertEquals(read("{'shape':(),'descr':'<f4','fortran_order':True}", 4).shape, []);
  assertEquals(parseNpy(npy(dict("(1,)"), 4, 3), "a", "f").shape, [1]);
});

Deno.test("npy: every kind of damage is refused", () => {
  const cases: [Bytes, string][] = [
    [new Uint8Array(0), "does not begin as an npy file"],
    [text("PK\x03\x04 and so on"), "does not begin as an npy file"],
    [npy(dict("(1,)"), 4, 9), "version 9.0 is unknown"],
    [npy(dict("(1,)")).subarray(0, 30), "header is cut short"],
    [join([text("\x93NUMPY\x02\0\x01\0\x20\0"), new Uint8Array(1 << 22)]), "has 2097153 bytes"],
    [npy("{}"), "the npy header is not"],
    [npy("import os"), "the npy header is not"],
    [npy(dict("(1,)", "os.system('x')"), 4), "the npy header is not"],
    [npy(dict("(1,)").replace("shape", "shake"), 4), "the npy header is not"],
    [npy(dict("(1,), 'x': True"), 4), "the npy header is not"],
    [npy(dict("(1,), 'shape': (2,)"), 4), "'shape' twice"],
    [npy(dict("(4)"), 16), "the npy header is not"],
    [npy(dict("(1,)", "'<f4'", "'x'"), 4), "the npy header is not"],
    [npy(dict("(1,)", "'!f4'"), 4), "dtype is '!f4'"],
    [npy(dict("(1,)", "'<c8'"), 8), "dtype is '<c8'"],
    [npy(dict("(99999999999999999999,)"), 4), "has the size 100000000000000000000"],
    [npy(dict("(4294967296, 4294967296)"), 4), "impossible shape"],
    [npy(dict("(2,)"), 7), "7 bytes follow the header where shape [2] of float32 needs 8"],
    [npy(dict("(2,)"), 9), "9 bytes follow the header"],
    [npy(dict("(1,)").replace("shape", "sh\xffpe"), 4), "not valid UTF-8"],
  ];
  for (const [bytes, message] of cases) {
    assertThrows(() => parseNpy(bytes, "a", "f.npy"), Error, message);
  }
});

Deno.test("npy: what is written reads back, aligned to 64 bytes", () => {
  const half = sampleRecords().filter((record) => record.dtype === "bfloat16");
  for (const record of sampleRecords()) {
    if (record.dtype === "bfloat16") continue;
    const [head, body] = formatNpy(record, "f");
    assertEquals((head?.length ?? 1) % 64, 0);
    assertEquals(parseNpy(join([head!, body!]), record.name, "f"), record);
  }
  assertThrows(() => formatNpy(half[0]!, "f"), TypeError, "npy has no bfloat16");
  const shape = new Array<number>(30000).fill(1);
  const long: TensorRecord = { name: "a", dtype: "uint8", shape, bytes: new Uint8Array(1) };
  assertEquals(parseNpy(join(formatNpy(long, "f")), "a", "f"), long);
});

Deno.test("npz: files of NumPy read bit for bit", async () => {
  for (const name of ["stored.npz", "deflated.npz"] as const) {
    const records = await parseNpz(golden(name), "f");
    assertEquals<unknown>(describeAll(records), expected[name], name);
  }
});

Deno.test("npz: what is written reads back", async () => {
  const records = sampleRecords().filter((record) => record.dtype !== "bfloat16");
  for (const compressed of [false, true]) {
    const file = join(await formatNpz(records, compressed, "f"));
    assertEquals(await parseNpz(file, "f"), records);
  }
  const other = join(
    await formatZip([{ name: "a.txt", pieces: [] }], { compressed: false }, "f"),
  );
  await assertRejects(() => parseNpz(other, "f"), Error, 'member "a.txt": its name does not end');
});

Deno.test("zip: stored, deflated and zip64 archives read back", async () => {
  const inputs = [
    { name: "a", pieces: [text("hello "), text("world")] },
    { name: "b/c", pieces: [new Uint8Array(100_000)] },
    { name: "empty", pieces: [] },
  ];
  for (const compressed of [false, true]) {
    for (const zip64 of [false, true]) {
      const file = join(await formatZip(inputs, { compressed, zip64 }, "f"));
      const entries = parseZip(file, "f");
      assertEquals(entries.map((e) => e.name), ["a", "b/c", "empty"]);
      for (const [i, e] of entries.entries()) {
        assertEquals(await readZipEntry(e, "f"), join(inputs[i]!.pieces));
      }
    }
  }
  assertEquals(parseZip(join(await formatZip([], { compressed: false }, "f")), "f"), []);
  assertEquals(crc32(text("123456789")), 0xcbf43926);
  const twice = [inputs[0]!, inputs[0]!];
  await assertRejects(() => formatZip(twice, { compressed: false }, "f"), Error, 'members "a"');
});

/** Damages an archive at one place; a field is found by what stands before it. */
function patch(bytes: Bytes, at: number, value: number, size: 1 | 2 | 4): Bytes {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  if (size === 1) view.setUint8(at, value);
  else if (size === 2) view.setUint16(at, value, true);
  else view.setUint32(at, value, true);
  return copy;
}

Deno.test("zip: every kind of damage is refused", async () => {
  const inputs = ["a", "b"].map((name) => ({ name, pieces: [text("12345678")] }));
  const good = join(await formatZip(inputs, { compressed: false }, "f"));
  const packed = join(await formatZip(inputs, { compressed: true }, "f"));
  const wide = join(await formatZip(inputs, { compressed: false, zip64: true }, "f"));
  const read = async (bytes: Bytes): Promise<void> => {
    for (const e of parseZip(bytes, "f.zip")) await readZipEntry(e, "f.zip");
  };
  const member = 30 + 1 + 8; // header, name, data
  const central = 2 * member;
  const end = good.length - 22;
  const packedCentral = packed.length - 22 - 2 * 47;
  const packedSize = new DataView(packed.buffer).getUint32(packedCentral + 20, true);
  const cases: [Bytes, string][] = [
    [new Uint8Array(0), "no zip archive"],
    [good.subarray(0, good.length - 1), "no zip archive, or it is cut short"],
    [join([good, text("x")]), "or has trailing bytes"],
    [join([text("x"), good]), "wrong place or size"],
    [patch(good, end + 10, 1, 2), "trailing bytes"],
    [patch(good, end + 10, 3, 2), "entry 2 of the zip directory is damaged"],
    [patch(good, end + 12, 1, 4), "wrong place or size"],
    [patch(good, end + 4, 1, 2), "in several"],
    [patch(good, central, 0, 4), "entry 0 of the zip directory is damaged"],
    [patch(good, central + 28, 60000, 2), "entry 0 of the zip directory is cut short"],
    [patch(good, central + 8, 1, 2), 'member "a" is encrypted'],
    [patch(good, central + 10, 12, 2), "compression method 12"],
    [patch(good, central + 24, 9, 4), "has 8 bytes, which cannot stand for 9"],
    [patch(good, central + 20, 0xffffffff, 4), "lacks its zip64 sizes"],
    [patch(patch(good, central + 20, 80, 4), central + 24, 80, 4), "its size is wrong"],
    [patch(patch(good, central + 20, 20, 4), central + 24, 20, 4), 'member "b" overlaps'],
    [patch(patch(good, central + 20, 4, 4), central + 24, 4, 4), '"b" has 4 stray bytes'],
    [patch(good, central + 42, 1, 4), 'member "a" has no header at byte 1'],
    [patch(good, central + 42, member, 4), 'member "a" disagrees with its own header'],
    [patch(patch(good, central + 47 + 46, 0x61, 1), member + 30, 0x61, 1), '"a" stands twice'],
    [patch(good, central + 46, 0xff, 1), "not valid UTF-8"],
    [patch(good, 31, 0, 1), 'member "a" is damaged: its checksum differs'],
    [patch(packed, 31, 0xff, 1), 'member "a" is damaged: it cannot be unpacked'],
    [patch(packed, packedCentral + 24, 7, 4), "does not unpack to its 7 bytes"],
    [patch(packed, packedCentral + 24, 9, 4), "does not unpack to its 9 bytes"],
    [patch(packed, packedCentral + 24, 4e9, 4), `${packedSize} bytes, which cannot stand for 4`],
    [patch(wide, wide.length - 22 - 20 + 12, 0x7fffffff, 4), "a zip64 size is"],
    [patch(wide, wide.length - 22 - 20 + 8, 0, 4), "the zip64 end record is damaged"],
    [patch(wide, wide.length - 22 - 76 + 4, 0, 1), "wrong length"],
  ];
  await read(good);
  await read(packed);
  await read(wide);
  for (const [bytes, message] of cases) await assertRejects(() => read(bytes), Error, message);
});
