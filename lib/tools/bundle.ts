/**
 * Makes one file of the library for Deno, Node and browsers, with its source map and its types, and an
 * npm package of the three. Part of the build, not of the library: nothing in lib/ imports it.
 * @module
 */
import * as esbuild from "npm:esbuild@0.25.9";
import { type ExistingRawSourceMap, type Plugin, rollup, type RollupLog } from "npm:rollup@4.52.5";
import { dts } from "npm:rollup-plugin-dts@6.2.3";
import { minify } from "npm:terser@5.44.0";
import ts from "npm:typescript@5.9.3";
import { VERSION } from "../backends/loader.ts";

/** What {@linkcode writeBundle} wrote. */
export interface BundleReport {
  /** Bytes of the module. */
  readonly bytes: number;
  /** Bytes of the module after gzip. */
  readonly gzipped: number;
}

/** The module's first lines: Deno finds the types of a remote JavaScript module by the first. */
function banner(types: string): string {
  return `/* @ts-self-types="./${types}" */\n// Needle ${VERSION}, bundled from mod.ts; MIT license\n`;
}

async function gzippedSize(path: string): Promise<number> {
  const file = await Deno.open(path);
  const packed = file.readable.pipeThrough(new CompressionStream("gzip"));
  return (await new Response(packed).arrayBuffer()).byteLength;
}

/**
 * Writes `entry` and everything it imports as one ESM file, its source map beside it (`.js.map`) and its
 * types (`.d.ts`). Classes keep their names, for messages show them.
 */
export async function writeBundle(entry: string, file: string): Promise<BundleReport> {
  const types = file.replace(/\.m?js$/, "") + ".d.ts";
  const external = [/^node:/, /^npm:/];
  const onwarn = ({ code, message }: RollupLog): void => {
    // The library's modules know each other in circles, of types and of calls made later.
    if (code !== "CIRCULAR_DEPENDENCY") throw new Error(`Cannot bundle ${entry}: ${message}`);
  };
  // Node 20 and browsers that are a few years old read this.
  const target = "es2022";
  const strip: Plugin = {
    name: "strip-types",
    transform: async (source, id) =>
      await esbuild.transform(source, {
        loader: "ts",
        target,
        sourcemap: true,
        sourcefile: id,
        tsconfigRaw: { compilerOptions: { verbatimModuleSyntax: true } },
      }),
  };
  const squeeze: Plugin = {
    name: "squeeze",
    renderChunk: async (source) =>
      await esbuild.transform(source, {
        target,
        minifySyntax: true,
        minifyWhitespace: true,
        legalComments: "none",
        sourcemap: true,
      }),
  };
  // esbuild shortens names, too, but of all things or of none.
  const shorten: Plugin = {
    name: "shorten",
    renderChunk: async (source) => {
      const { code, map } = await minify(source, {
        module: true,
        compress: false,
        mangle: { keep_classnames: true },
        format: { preamble: banner(types.replace(/^.*[/\\]/, "")) },
        sourceMap: { asObject: true },
      });
      return { code: code!, map: map as ExistingRawSourceMap };
    },
  };
  try {
    const code = await rollup({ input: entry, external, onwarn, plugins: [strip] });
    await code.write({ file, format: "es", sourcemap: true, plugins: [squeeze, shorten] });
    await code.close();
  } finally {
    await esbuild.stop();
  }
  const declarations = await rollup({
    input: entry,
    external,
    onwarn,
    plugins: [dts({
      compilerOptions: {
        target: ts.ScriptTarget.ESNext,
        module: ts.ModuleKind.ESNext,
        moduleResolution: ts.ModuleResolutionKind.Bundler,
        allowImportingTsExtensions: true,
        lib: ["lib.esnext.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"],
        strict: true,
        exactOptionalPropertyTypes: true,
        // Types are checked by `deno check`, which knows Deno's own.
        types: [],
        noCheck: true,
      },
    })],
  });
  await declarations.write({ file: types, format: "es" });
  await declarations.close();
  return { bytes: Deno.statSync(file).size, gzipped: await gzippedSize(file) };
}

/** When the newest file of a folder was changed. */
function newest(folder: string): number {
  return Math.max(
    0,
    ...[...Deno.readDirSync(folder)].map(({ name, isDirectory }) => {
      const path = `${folder}/${name}`;
      return isDirectory ? newest(path) : Deno.statSync(path).mtime!.getTime();
    }),
  );
}

/** The lock of `dist/`: processes that write there wait for one another. */
async function lockDist(root: string): Promise<Deno.FsFile> {
  await Deno.mkdir(`${root}/dist`, { recursive: true });
  const lock = await Deno.open(`${root}/dist/lock`, { write: true, create: true });
  await lock.lock(true);
  return lock;
}

/**
 * Writes `dist/needle.js` and what belongs to it, unless they are newer than all sources. Processes that
 * ask for it at the same time wait for the first.
 *
 * @param root the repository
 * @returns what was written, or null if there was nothing to do
 */
export async function ensureBundle(root: string): Promise<BundleReport | null> {
  using _lock = await lockDist(root);
  const written = await Promise.all(
    // The types are written last.
    [".js", ".js.map", ".d.ts"].map((end) =>
      Deno.stat(`${root}/dist/needle${end}`).then((file) => file.mtime!.getTime(), () => 0)
    ),
  );
  const sources = Math.max(newest(`${root}/lib`), Deno.statSync(`${root}/mod.ts`).mtime!.getTime());
  if (!written.includes(0) && written.at(-1)! > sources) return null;
  return await writeBundle(`${root}/mod.ts`, `${root}/dist/needle.js`);
}

/**
 * Makes an npm package in `dist/npm`: the bundle, its map and types, README and LICENSE, and the tarball
 * that `deno pack` makes of them.
 *
 * @param root the repository
 * @param dryRun only list what the tarball would hold
 * @returns the tarball's name, or what `deno pack` printed of the dry run
 * @throws {Error} If `deno pack` fails.
 */
export async function writePackage(root: string, dryRun: boolean): Promise<string> {
  await ensureBundle(root);
  using _lock = await lockDist(root);
  const { name, version, license } = JSON.parse(await Deno.readTextFile(`${root}/deno.json`));
  const folder = `${root}/dist/npm`;
  await Deno.mkdir(folder, { recursive: true });
  const files = [
    "dist/needle.js",
    "dist/needle.js.map",
    "dist/needle.d.ts",
    "README.md",
    "LICENSE",
  ];
  const names = files.map((file) => file.replace("dist/", ""));
  await Promise.all(
    files.map((file, i) => Deno.copyFile(`${root}/${file}`, `${folder}/${names[i]}`)),
  );
  const config = { name, version, license, exports: "./needle.js", publish: { include: names } };
  await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(config, null, 2));
  const tarball = `${name.replace("@", "").replace("/", "-")}-${version}.tgz`;
  // The types are written already ("slow types": do not infer them again), and git ignores the folder.
  const args = ["pack", "--allow-dirty", "--allow-slow-types"];
  const { success, stderr, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [...args, ...(dryRun ? ["--dry-run"] : ["--output", "unfinished.tgz"])],
    cwd: folder,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  const printed = (decoder.decode(stderr) + decoder.decode(stdout)).trim();
  if (!success) throw new Error(`deno pack failed:\n${printed}`);
  if (dryRun) return printed;
  await Deno.rename(`${folder}/unfinished.tgz`, `${folder}/${tarball}`);
  return `dist/npm/${tarball}`;
}
