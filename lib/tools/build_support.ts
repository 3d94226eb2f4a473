/**
 * What builds share: finding and running programs, fetching wheels from PyPI into .deps/, writing files whole.
 * Used by build.ts and the tools beside this file.
 * @module
 */
import { env } from "../env.ts";

function folderPath(url: URL): string {
  const path = decodeURIComponent(url.pathname).replace(/\/$/, "");
  return Deno.build.os === "windows" ? path.replace(/^\//, "") : path;
}

/** The root of the repository. */
export const ROOT = folderPath(new URL("../..", import.meta.url));
/** Where libraries and the record of the last build go. */
export const BUILD = `${ROOT}/build`;
/** Tools and libraries that were downloaded. */
export const DEPS = `${ROOT}/.deps`;
/** The generated C header. */
export const HEADER = `${ROOT}/csrc/include/needle.h`;

// Where `say` prints: standard output, or standard error with --quiet.
let print: (line: string) => void = console.log;

/** Makes `say` print on standard error. */
export function sayOnStandardError(): void {
  print = console.error;
}

/** Prints one line about `what`. */
export function say(what: string, text: string): void {
  print(`${what.padEnd(9)} ${text}`);
}

/** The text of an error. */
export function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The end of a program's output: what is worth showing of a failure. */
export function lastLines(text: string, count: number): string {
  return text.trimEnd().split("\n").slice(-count).join("\n");
}

/** Runs a program to its end and gives what it printed, standard error included. */
export async function run(
  program: string,
  args: readonly string[],
): Promise<{ ok: boolean; output: string }> {
  try {
    const command = new Deno.Command(program, { args: [...args], stdin: "null" });
    const { success, stdout, stderr } = await command.output();
    const decoder = new TextDecoder();
    return { ok: success, output: decoder.decode(stdout) + decoder.decode(stderr) };
  } catch (error) {
    return { ok: false, output: message(error) };
  }
}

/** Whether there is a file or folder. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** The text of a file, or undefined. */
export function readText(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return undefined;
  }
}

/** Writes a file so that no reader ever sees half of it. */
export function writeWhole(path: string, text: string): void {
  const temporary = `${path}.${Deno.pid}.tmp`;
  Deno.writeTextFileSync(temporary, text);
  Deno.renameSync(temporary, path);
}

/** The full path of a program on PATH, or undefined. */
export function which(...names: readonly string[]): string | undefined {
  const windows = Deno.build.os === "windows";
  const folders = (env("PATH") ?? "").split(windows ? ";" : ":");
  for (const name of names) {
    if (/[/\\]/.test(name) && exists(name)) return name;
    for (const folder of folders) {
      const path = `${folder}/${name}${windows ? ".exe" : ""}`;
      if (folder !== "" && exists(path)) return path;
    }
  }
  return undefined;
}

function findCompiler(): string | undefined {
  const own = env("CXX");
  return own === undefined ? which("c++", "g++", "clang++") : which(own);
}

/** Runs pip, and throws with its last lines if it fails. */
export async function pip(args: readonly string[]): Promise<void> {
  const python = which("python3");
  if (python === undefined) throw new Error("python3 is not on PATH");
  const common = ["--disable-pip-version-check", "--quiet", "--retries", "1", "--timeout", "20"];
  const { ok, output } = await run(python, ["-m", "pip", ...args, ...common]);
  if (!ok) throw new Error(`pip failed: ${lastLines(output, 1)}`);
}

/** A build tool from PATH, else from its PyPI wheel in .deps/. */
async function findTool(name: "cmake" | "ninja", requirement: string): Promise<string> {
  const found = which(name);
  if (found !== undefined) return found;
  const folder = `${DEPS}/${requirement.replace("==", "-")}`;
  const binary = `${folder}/${name}/data/bin/${name}`;
  const script = `${folder}/bin/${name}`;
  if (!exists(folder)) {
    say(name, `not on PATH: fetching ${requirement} from PyPI into .deps/`);
    const temporary = `${folder}.${Deno.pid}.tmp`;
    await pip(["install", "--target", temporary, requirement]);
    Deno.renameSync(temporary, folder);
  }
  const tool = which(binary, script);
  if (tool === undefined) throw new Error(`${requirement} from PyPI has no ${name} program`);
  return tool;
}

/** CMake's generator and, where it is not on PATH, the program behind it. */
async function findGenerator(): Promise<string[]> {
  const ninja = which("ninja");
  if (ninja !== undefined) return ["-G", "Ninja"];
  if (which("make") !== undefined) return ["-G", "Unix Makefiles"];
  return ["-G", "Ninja", `-DCMAKE_MAKE_PROGRAM=${await findTool("ninja", "ninja==1.11.1.4")}`];
}

/** Finds a C++ compiler, installs one where that is allowed, or throws with the command to type. */
async function needCompiler(install: boolean): Promise<string> {
  const found = findCompiler();
  if (found !== undefined) return found;
  if (env("CXX") !== undefined) throw new Error(`CXX=${env("CXX")} is not a program`);
  const commands: Readonly<Record<string, string>> = {
    "apt-get": "sudo apt-get install -y g++",
    dnf: "sudo dnf install gcc-c++",
    pacman: "sudo pacman -S gcc",
    apk: "sudo apk add g++",
  };
  const manager = which(...Object.keys(commands))?.replace(/^.*\//, "") ?? "";
  const fallback = Deno.build.os === "darwin" ? "xcode-select --install" : "install g++ or clang++";
  const hint = commands[manager] ?? fallback;
  const wanted = install || env("CI") !== undefined;
  if (!wanted || manager !== "apt-get" || (await run("id", ["-u"])).output.trim() !== "0") {
    throw new Error(`no C++ compiler on PATH; get one with: ${hint}`);
  }
  say("compiler", "not on PATH: running apt-get install g++");
  await run("apt-get", ["update"]);
  const { ok, output } = await run("apt-get", ["install", "-y", "--no-install-recommends", "g++"]);
  const installed = findCompiler();
  if (ok && installed !== undefined) return installed;
  throw new Error(`apt-get install g++ failed: ${lastLines(output, 3)}`);
}

/** The programs that a build needs. */
export interface Tools {
  readonly compiler: string;
  readonly cmake: string;
  /** CMake's options that choose the program behind it. */
  readonly generator: readonly string[];
}

/** Finds what a build needs; `install` allows installing a missing compiler. Throws with what to do. */
export async function findTools(install: boolean): Promise<Tools> {
  const compiler = await needCompiler(install);
  const cmake = await findTool("cmake", "cmake==3.31.6");
  return { compiler, cmake, generator: await findGenerator() };
}

/** The SHA-256 of bytes, as hex digits. */
export async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
}

/** The files below a folder in a fixed order, without the generated header. */
export function* sources(folder: string): Generator<string> {
  const entries = [...Deno.readDirSync(folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  for (const entry of entries) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* sources(path);
    else if (path !== HEADER && !entry.name.endsWith(".tmp")) yield path;
  }
}

/** Puts a built file into build/ in one step: a program may have the old one open. */
export function publish(from: string, to: string): void {
  const temporary = `${to}.${Deno.pid}.tmp`;
  Deno.copyFileSync(from, temporary);
  Deno.renameSync(temporary, to);
}
