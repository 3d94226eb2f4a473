/**
 * Files of datasets: archives, downloads that break and go on, and CIFAR-10, MNIST and PTB files, whole
 * and damaged.
 */
import { gunzip, readTarGz, streamOf } from "../lib/data/archive.ts";
import { CIFAR10, download, isMissingDataset, MNIST, PTB } from "../lib/data/mod.ts";
import { type RemoteFile } from "../lib/data/mod.ts";
import {
  assert,
  assertEquals,
  assertRejects,
  type Bytes,
  ByteServer,
  concat,
  gzip,
  idx,
  inFolder,
  sha256,
  tar,
} from "./data_support.ts";

const QUIET = { progress: false };

/** Bytes that gzip cannot make much smaller. */
function noise(length: number): Bytes {
  let state = 1;
  return Uint8Array.from({ length }, () => {
    state = Math.imul(state, 1664525) + 1013904223;
    return state >>> 24;
  });
}

async function remoteOf(bytes: Bytes, ...urls: string[]): Promise<RemoteFile> {
  return { name: "file.bin", urls, size: bytes.length, sha256: await sha256(bytes) };
}

async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const entry of Deno.readDir(folder)) names.push(entry.name);
  return names.sort();
}

Deno.test("gunzip names the file when data are truncated, corrupt or too long", async () => {
  const plain = noise(5000);
  const packed = await gzip(plain);
  assertEquals(await gunzip(packed, "a.gz", 5000), plain);
  await assertRejects(() => gunzip(packed.slice(0, 3000), "a.gz", 5000), Error, "Cannot read a.gz");
  const damaged = packed.slice();
  damaged[2000]! ^= 255;
  await assertRejects(() => gunzip(damaged, "a.gz", 5000), Error, "truncated or corrupt");
  await assertRejects(() => gunzip(packed, "a.gz", 4999), Error, "more than 4999 bytes");
});

Deno.test("readTarGz visits files, skips what is not read, and refuses damaged archives", async () => {
  const files = { "d/one": noise(700), "d/two": noise(1024), "three": new Uint8Array(0) };
  const whole = tar(files);
  const seen: [string, number][] = [];
  await readTarGz(streamOf(await gzip(whole)), "t.tar.gz", async (entry) => {
    seen.push([entry.name, entry.size]);
    if (entry.name !== "d/two") return;
    const bytes = new Uint8Array(entry.size);
    await entry.readInto(bytes);
    assertEquals(bytes, files["d/two"]);
  });
  assertEquals(seen, [["d/one", 700], ["d/two", 1024], ["three", 0]]);
  const read = async (archive: Bytes): Promise<void> =>
    await readTarGz(streamOf(await gzip(archive)), "t.tar.gz", () => Promise.resolve());
  await assertRejects(() => read(whole.slice(0, 900)), Error, "ends inside d/one");
  await assertRejects(() => read(whole.slice(0, 512 * 3)), Error, "without its closing blocks");
  const damaged = whole.slice();
  damaged[3]! ^= 1;
  await assertRejects(() => read(damaged), Error, "wrong checksum");
  const packed = await gzip(whole);
  await assertRejects(
    () => readTarGz(streamOf(packed.slice(0, 600)), "t.tar.gz", () => Promise.resolve()),
    Error,
    "Cannot read t.tar.gz",
  );
});

Deno.test("download verifies, renames, and does nothing for a file that is there", async () => {
  await inFolder(async (folder) => {
    const bytes = noise(300_000);
    await using server = new ByteServer(bytes);
    const remote = await remoteOf(bytes, server.url);
    const path = await download(remote, `${folder}/new`, QUIET);
    assertEquals(await Deno.readFile(path), bytes);
    assertEquals(await namesIn(`${folder}/new`), ["file.bin"]);
    await download(remote, `${folder}/new`, QUIET);
    assertEquals(server.ranges, [null]);
  });
});

Deno.test("download goes on where a broken connection ended", async () => {
  await inFolder(async (folder) => {
    const bytes = noise(300_000);
    await using server = new ByteServer(bytes);
    const remote = await remoteOf(bytes, server.url);
    server.answers = [{ breakAfter: 100_000 }, {}];
    await assertRejects(() => download(remote, folder, QUIET), Error, "Cannot download file.bin");
    assertEquals(await namesIn(folder), ["file.bin.part"]);
    const path = await download(remote, folder, QUIET);
    assertEquals(await Deno.readFile(path), bytes);
    assertEquals(server.ranges, [null, "bytes=100000-"]);
  });
});

Deno.test("download copes with servers without ranges, and with leftovers that are wrong", async () => {
  await inFolder(async (folder) => {
    const bytes = noise(50_000);
    await using server = new ByteServer(bytes);
    const remote = await remoteOf(bytes, server.url);
    server.answers = [{ ranges: false }];
    await Deno.writeFile(`${folder}/file.bin.part`, bytes.subarray(0, 999));
    assertEquals(await Deno.readFile(await download(remote, folder, QUIET)), bytes);
    await Deno.remove(`${folder}/file.bin`);
    server.answers = [{}];
    await Deno.writeFile(`${folder}/file.bin.part`, new Uint8Array(999).fill(7));
    assertEquals(await Deno.readFile(await download(remote, folder, QUIET)), bytes);
    await Deno.remove(`${folder}/file.bin`);
    await Deno.writeFile(`${folder}/file.bin.part`, new Uint8Array(60_000));
    assertEquals(await Deno.readFile(await download(remote, folder, QUIET)), bytes);
    assertEquals(await namesIn(folder), ["file.bin"]);
  });
});

Deno.test("download takes the next mirror, and says why each one failed", async () => {
  await inFolder(async (folder) => {
    const bytes = noise(20_000);
    const other = bytes.slice();
    other[5]! ^= 1;
    await using missing = new ByteServer(bytes);
    missing.answers = [{ status: 404 }];
    await using wrong = new ByteServer(other);
    await using longer = new ByteServer(concat([bytes, bytes]));
    await using stalled = new ByteServer(bytes);
    stalled.answers = [{ stallAfter: 1000 }];
    await using good = new ByteServer(bytes);
    const bad = [missing.url, wrong.url, longer.url, stalled.url];
    const options = { ...QUIET, timeoutMs: 300 };
    const remote = await remoteOf(bytes, ...bad);
    const error = await download(remote, folder, options).then(() => null, (e: Error) => e);
    for (const reason of ["HTTP status 404", "SHA-256", "40000 bytes, not 20000", "0.3 seconds"]) {
      assert(error!.message.includes(reason), `${reason} in ${error!.message}`);
    }
    assertEquals(await namesIn(folder), ["file.bin.part"]);
    const path = await download({ ...remote, urls: [...bad, good.url] }, folder, options);
    assertEquals(await Deno.readFile(path), bytes);
  });
});

Deno.test("killing a download leaves nothing that looks whole, and the next one goes on", async () => {
  await inFolder(async (folder) => {
    const bytes = noise(200_000);
    await using server = new ByteServer(bytes);
    server.answers = [{ stallAfter: 150_000 }, {}];
    const remote = await remoteOf(bytes, server.url);
    const module = new URL("../lib/data/download.ts", import.meta.url).href;
    const script = `import { download } from ${JSON.stringify(module)};
      await download(${JSON.stringify(remote)}, ${JSON.stringify(folder)}, { progress: false });`;
    await Deno.writeTextFile(`${folder}/script.ts`, script);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "-A", `${folder}/script.ts`],
      stdout: "null",
      stderr: "null",
    }).spawn();
    const partSize = async (): Promise<number> =>
      (await Deno.stat(`${folder}/file.bin.part`).catch(() => null))?.size ?? 0;
    while (await partSize() < 150_000) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill("SIGKILL");
    await child.status;
    assertEquals(await namesIn(folder), ["file.bin.part", "script.ts"]);
    assertEquals(await Deno.readFile(await download(remote, folder, QUIET)), bytes);
    assertEquals(server.ranges, [null, "bytes=150000-"]);
  });
});

/** A file of 10,000 CIFAR-10 records: label i % 10, and pixels that tell the record. */
function cifarFile(): Bytes {
  const bytes = new Uint8Array(30_730_000);
  for (let i = 0; i < 10_000; i++) {
    bytes[i * 3073] = i % 10;
    bytes[i * 3073 + 1] = i % 256;
    bytes[i * 3073 + 3072] = i >> 8;
  }
  return bytes;
}

Deno.test("CIFAR10 reads folder and archive, and names what is wrong with a file", async () => {
  await inFolder(async (root) => {
    const bytes = cifarFile();
    await Deno.mkdir(`${root}/cifar-10-batches-bin`);
    const path = `${root}/cifar-10-batches-bin/test_batch.bin`;
    const load = (): ReturnType<typeof CIFAR10> => CIFAR10({ root, train: false });
    await assertRejects(load, Error, "Cannot find CIFAR-10");
    assert(isMissingDataset(await load().catch((error: unknown) => error)));

    const archive = tar({ "cifar-10-batches-bin/test_batch.bin": bytes });
    await Deno.writeFile(`${root}/cifar-10-binary.tar.gz`, await gzip(archive));
    const packed = await load();
    assertEquals([packed.length, packed.labels[777], packed.images[777 * 3072]], [10_000, 7, 9]);
    await assertRejects(() => CIFAR10({ root }), Error, "it has no data_batch_1.bin");
    await Deno.remove(`${root}/cifar-10-binary.tar.gz`);

    await Deno.writeFile(path, bytes);
    const test = await CIFAR10.load({ root: new URL(`file://${root}/`), train: false });
    assertEquals(test.images, packed.images);
    assertEquals(test.labels, packed.labels);
    assertEquals(test.images[9_999 * 3072 + 3071], 39);
    assertEquals((await new CIFAR10({ root, train: false })).length, 10_000);

    await Deno.copyFile(path, `${root}/cifar-10-batches-bin/data_batch_1.bin`);
    await assertRejects(() => CIFAR10({ root }), Error, "no data_batch_2.bin beside it");
    await Deno.truncate(path, 15_365_000);
    await assertRejects(load, Error, `Cannot read ${path}: it has 15365000 bytes, not 30730000`);
    bytes[42 * 3073] = 10;
    await Deno.writeFile(path, bytes);
    await assertRejects(load, Error, "record 42 has label 10");
    assert(!isMissingDataset(await load().catch((error: unknown) => error)));
    const options = { root, trian: true } as unknown as { root: string };
    await assertRejects(() => CIFAR10(options), TypeError, 'Unknown option "trian" of CIFAR10');
  });
});

/** Writes a pair of MNIST files of n images, packed or not. */
async function writeMnist(folder: string, part: string, n: number, packed: boolean): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  const images = idx(2051, [n, 28, 28], Uint8Array.from({ length: n * 784 }, (_, i) => i / 784));
  const labels = idx(2049, [n], Uint8Array.from({ length: n }, (_, i) => i % 10));
  const suffix = packed ? ".gz" : "";
  const write = async (kind: string, bytes: Bytes): Promise<void> =>
    await Deno.writeFile(
      `${folder}/${part}-${kind}-ubyte${suffix}`,
      packed ? await gzip(bytes) : bytes,
    );
  await write("images-idx3", images);
  await write("labels-idx1", labels);
}

Deno.test("MNIST reads idx files in several layouts, and splits the test files if alone", async () => {
  for (const [layout, packed] of [["mnist", true], ["MNIST/raw", false], [".", true]] as const) {
    await inFolder(async (root) => {
      await writeMnist(`${root}/${layout}`, "t10k", 50, packed);
      const train = await MNIST({ root });
      const test = await MNIST({ root, train: false });
      assertEquals([train.length, test.length], [45, 5]);
      assertEquals([train.images[0], test.images[0], test.labels[4]], [0, 45, 9]);
      assert(train.note!.includes("first 45") && test.note === train.note);
      await writeMnist(`${root}/${layout}`, "train", 70, packed);
      const whole = [await MNIST({ root }), await MNIST({ root, train: false })];
      assertEquals(whole.map((set) => [set.length, set.note]), [[70, null], [50, null]]);
    });
  }
});

Deno.test("MNIST names what is wrong with a file", async () => {
  await inFolder(async (root) => {
    const load = (): ReturnType<typeof MNIST> => MNIST({ root, train: false });
    await assertRejects(load, Error, "Cannot find MNIST");
    await writeMnist(`${root}/mnist`, "t10k", 20, false);
    const images = `${root}/mnist/t10k-images-idx3-ubyte`;
    const labels = `${root}/mnist/t10k-labels-idx1-ubyte`;
    const original = await Deno.readFile(images);
    const change = async (bytes: Uint8Array, text: string): Promise<void> => {
      await Deno.writeFile(images, bytes);
      await assertRejects(load, Error, text);
      await Deno.writeFile(images, original);
    };
    await change(original.subarray(0, 5000), `Cannot read ${images}: it has 5000 bytes unpacked`);
    await change(original.subarray(0, 9), "fewer than the 16 of an idx header");
    await change(concat([original, new Uint8Array(1)]), "not the 15696 that its header says");
    await change(await Deno.readFile(labels), "magic number is 2049, not 2051");
    await change(idx(2049, [20, 28, 28], original.subarray(16)), "magic number is 2049, not 2051");
    await change(idx(2051, [20, 32, 28], new Uint8Array(20 * 32 * 28)), "32 pixels, not 28");
    await change(idx(2051, [19, 28, 28], new Uint8Array(19 * 784)), "do not belong together");
    await change((await gzip(original)).slice(0, -20), "gzip data is truncated or corrupt");
    await Deno.writeFile(labels, idx(2049, [20], new Uint8Array(20).fill(11)));
    await assertRejects(load, Error, "label 0 is 11");
    await Deno.remove(labels);
    await assertRejects(load, Error, "but no t10k-labels-idx1-ubyte.gz beside it");
  });
});

Deno.test("PTB numbers the words of the training text, and refuses what is no text", async () => {
  await inFolder(async (root) => {
    await Deno.mkdir(`${root}/ptb`);
    const path = `${root}/ptb/ptb.train.txt`;
    await assertRejects(() => PTB({ root }), Error, "Cannot find PTB");
    await Deno.writeTextFile(path, " the cat sat \n the <unk> ran \n");
    await Deno.writeTextFile(`${root}/ptb/ptb.valid.txt`, " the dog sat \n");
    const train = await PTB({ root });
    assertEquals(train.vocabulary.words, ["the", "cat", "sat", "<eos>", "<unk>", "ran"]);
    assertEquals([...train.tokens], [0, 1, 2, 3, 0, 4, 5, 3]);
    assertEquals(train.get(-1), [5, 3]);
    const valid = await PTB({ root, split: "valid" });
    assertEquals([...valid.tokens], [0, 4, 2, 3]);
    assertEquals(valid.vocabulary.decode(valid.tokens), "the <unk> sat <eos>");
    await assertRejects(() => PTB({ root, train: false }), Error, "Cannot find PTB");
    await Deno.writeTextFile(path, " the cat sat \n the");
    await assertRejects(() => PTB({ root }), Error, "so it is truncated");
    await Deno.writeFile(path, new Uint8Array([116, 255, 254, 10]));
    await assertRejects(() => PTB({ root }), Error, "no UTF-8 text");
    await Deno.writeFile(path, new Uint8Array([116, 0, 10]));
    await assertRejects(() => PTB({ root }), Error, "control characters");
    await Deno.writeTextFile(path, "");
    await assertRejects(() => PTB({ root }), Error, "it is empty");
  });
});
