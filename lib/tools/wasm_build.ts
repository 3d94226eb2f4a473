/**
 * Builds the WebAssembly module from csrc/cpu with Debian's clang and lld, and writes it into
 * lib/backends/wasm_module.ts, which is committed: a program that imports Needle from a URL can run no
 * build. Two variants, with relaxed SIMD and without, in one LZMA stream.
 * @module
 */
import { env } from "../env.ts";
import { headerText } from "../abi.ts";
import { VERSION } from "../backends/loader.ts";
import { unpackLzma } from "../backends/lzma.ts";
import { moduleBytes, moduleText } from "../backends/wasm_module.ts";
import {
  BUILD,
  exists,
  HEADER,
  lastLines,
  ROOT,
  run,
  say,
  which,
  writeWhole,
} from "./build_support.ts";

/** The compiler whose output is committed; another version gives other bytes. */
const LLVM = "19.1.7";
const PACKAGES = ["clang-19", "lld-19"] as const;
const SOURCE = `${ROOT}/csrc`;
const FOLDER = `${BUILD}/wasm`;

const MODULE_FILE = `${ROOT}/lib/backends/wasm_module.ts`;

const COMMON = [
  ...["--target=wasm32", "-std=c++17", "-nostdlibinc", "-nostdinc++", "-isystem", "wasm/include"],
  ...["-msimd128", "-msign-ext", "-mmutable-globals", "-mnontrapping-fptoint"],
  ...["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fwrapv", "-fno-exceptions"],
  ...["-fno-rtti", "-fno-threadsafe-statics", "-fno-c++-static-destructors"],
  ...["-fvisibility=hidden", "-ffunction-sections", "-fdata-sections"],
  `-DNEEDLE_VERSION="${VERSION}"`,
  '-DNEEDLE_LIBRARY="wasm"',
  "-DISA=generic",
];

const LINK = [
  ...["--no-entry", "--export-dynamic", "--export=__heap_base", "--gc-sections", "--strip-all"],
  ...["--compress-relocations", "--stack-first", "-z", "stack-size=262144"],
  `--allow-undefined-file=${SOURCE}/wasm/imports.txt`,
  "--max-memory=4294967296",
];

/** The two variants, by what is added to the compiler's arguments for kernels. */
const VARIANTS = { relaxed: ["-mrelaxed-simd"], plain: [] } as const;

/** Paths of the programs, or why they cannot be used. */
interface Toolchain {
  readonly clang: string;
  readonly lld: string;
}

/** Finds clang and lld of the pinned version; installs them where CI runs as root on Debian. */
async function findToolchain(): Promise<Toolchain | string> {
  let clang = which("clang-19"), lld = which("wasm-ld-19");
  if (clang === undefined || lld === undefined) {
    const missing =
      `${PACKAGES.join(" and ")} are missing; get them with: sudo apt-get install -y ` +
      PACKAGES.join(" ");
    const root = (await run("id", ["-u"])).output.trim() === "0";
    if (env("CI") === undefined || !root || which("apt-get") === undefined) return missing;
    say("wasm", `running apt-get install ${PACKAGES.join(" ")}`);
    await run("apt-get", ["update"]);
    const { ok, output } = await run("apt-get", [
      ...["install", "-y", "--no-install-recommends"],
      ...PACKAGES,
    ]);
    if (!ok) return `apt-get install failed: ${lastLines(output, 3)}`;
    clang = which("clang-19");
    lld = which("wasm-ld-19");
    if (clang === undefined || lld === undefined) return missing;
  }
  const { output } = await run(clang, ["--version"]);
  const found = /version (\d+\.\d+\.\d+)/.exec(output)?.[1];
  return found === LLVM
    ? { clang, lld }
    : `the module is built with clang ${LLVM}, but this is ${found}`;
}

function cppFiles(folder: string): string[] {
  return [...Deno.readDirSync(`${SOURCE}/${folder}`)].map(({ name }) => name)
    .filter((name) => name.endsWith(".cpp")).sort().map((name) => `${folder}/${name}`);
}

/** What one object is compiled with. */
interface Job {
  readonly file: string;
  readonly object: string;
  readonly flags: readonly string[];
}

function jobs(): { shared: Job[]; own: Record<keyof typeof VARIANTS, Job[]> } {
  const job = (file: string, variant: string, flags: readonly string[]): Job => ({
    file,
    object: `${FOLDER}/${variant}_${file.replaceAll("/", "_")}.o`,
    flags,
  });
  return {
    shared: [
      ...cppFiles("cpu").map((file) => job(file, "any", ["-Oz"])),
      ...cppFiles("wasm").map((file) => job(file, "any", ["-O2", "-mbulk-memory", "-fno-builtin"])),
    ],
    own: {
      relaxed: cppFiles("cpu/kernels").map((f) => job(f, "relaxed", ["-Oz", ...VARIANTS.relaxed])),
      plain: cppFiles("cpu/kernels").map((f) => job(f, "plain", ["-Oz", ...VARIANTS.plain])),
    },
  };
}

/** Runs `count` jobs at a time; throws where one fails. */
async function compileAll(clang: string, all: readonly Job[], count: number): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < all.length; i = next++) {
      const { file, object, flags } = all[i]!;
      const command = new Deno.Command(clang, {
        args: [...COMMON, ...flags, "-c", file, "-o", object],
        cwd: SOURCE,
        stdin: "null",
      });
      const { success, stderr } = await command.output();
      if (!success) {
        throw new Error(
          `Compiling ${file} for WebAssembly failed:\n${
            lastLines(new TextDecoder().decode(stderr), 40)
          }`,
        );
      }
    }
  };
  await Promise.all(Array.from({ length: count }, worker));
}

/** The modules as the committed file must hold them. */
interface Modules {
  readonly relaxed: Uint8Array<ArrayBuffer>;
  readonly plain: Uint8Array<ArrayBuffer>;
}

/** Compiles and links both variants. */
async function buildModules({ clang, lld }: Toolchain): Promise<Modules> {
  Deno.mkdirSync(FOLDER, { recursive: true });
  if (!exists(HEADER)) {
    Deno.mkdirSync(HEADER.replace(/[^/]*$/, ""), { recursive: true });
    Deno.writeTextFileSync(HEADER, headerText());
  }
  const { shared, own } = jobs();
  const all = [...shared, ...own.relaxed, ...own.plain];
  await compileAll(clang, all, navigator.hardwareConcurrency);
  const link = async (variant: keyof typeof VARIANTS): Promise<Uint8Array<ArrayBuffer>> => {
    const output = `${FOLDER}/needle_${variant}.wasm`;
    const objects = [...shared, ...own[variant]].map(({ object }) => object);
    const result = await run(lld, [...LINK, "-o", output, ...objects]);
    if (!result.ok) {
      throw new Error(`Linking the WebAssembly module failed:\n${lastLines(result.output, 40)}`);
    }
    return Deno.readFileSync(output);
  };
  return { relaxed: await link("relaxed"), plain: await link("plain") };
}

/** Compresses bytes to an LZMA stream with its length in front; Python has the encoder. */
async function compress(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const python = which("python3");
  if (python === undefined) throw new Error("python3 is not on PATH: it compresses the module");
  const program = `import lzma, sys
filters = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 22,
            "lc": 4, "lp": 0, "pb": 0, "nice_len": 273}]
data = sys.stdin.buffer.read()
sys.stdout.buffer.write(lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters))`;
  const child = new Deno.Command(python, {
    args: ["-c", program],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(bytes);
  await writer.close();
  const { success, stdout } = await child.output();
  if (!success) throw new Error("python3 failed to compress the module");
  return stdout;
}

/** Writes the committed file. */
async function writeModules({ relaxed, plain }: Modules): Promise<number> {
  const both = new Uint8Array(relaxed.length + plain.length);
  both.set(relaxed);
  both.set(plain, relaxed.length);
  const packed = await compress(both);
  const text = `// Written by \`deno task build --wasm\` from csrc. Do not edit.

/** Bytes of the module with relaxed SIMD, and of the one without that follows it in the stream. */
export const moduleBytes: readonly [relaxed: number, plain: number] = [${relaxed.length}, ${plain.length}];

/** Both modules as one LZMA stream (lc 4, lp 0, pb 0, no header), in base64. */
export const moduleText: string =
  "${packed.toBase64()}";
`;
  writeWhole(MODULE_FILE, text);
  return packed.length;
}

/** Whether the committed file holds these modules, byte by byte. */
function isCommitted({ relaxed, plain }: Modules): boolean {
  const [first, second] = moduleBytes;
  if (first !== relaxed.length || second !== plain.length) return false;
  const both = unpackLzma(Uint8Array.fromBase64(moduleText), first + second);
  return both.every((x, i) => x === (i < first ? relaxed[i] : plain[i - first]));
}

/**
 * Builds the module and writes the committed file where it differs; with `check` says so by an error instead.
 *
 * @throws Error where there is no compiler of the pinned version, where the sources do not compile, and where `check`
 * finds another module in the committed file
 */
export async function buildWasm(check: boolean): Promise<void> {
  const toolchain = await findToolchain();
  if (typeof toolchain === "string") throw new Error(`Cannot build for WebAssembly: ${toolchain}`);
  const modules = await buildModules(toolchain);
  const sizes = `${modules.relaxed.length} and ${modules.plain.length} bytes`;
  if (isCommitted(modules)) say("wasm", `${MODULE_FILE} is up to date (${sizes})`);
  else if (check) {
    throw new Error(
      "lib/backends/wasm_module.ts is not what csrc gives; run deno task build --wasm and commit it",
    );
  } else say("wasm", `wrote ${MODULE_FILE} (${sizes}, ${await writeModules(modules)} packed)`);
}
