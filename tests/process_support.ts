// Programs run by tests in processes of their own: their permissions, environment and folder are part of the case.

import { assert as stdAssert } from "@std/assert";

const assert = stdAssert as (condition: boolean, message?: string) => void;

/** The repository's folder, with a slash at the end. */
export const root: string = decodeURIComponent(new URL("..", import.meta.url).pathname);

/** What a program left behind. */
export interface Outcome {
  /** Exit status; 128 + n after signal n. */
  readonly code: number;
  /** Its standard output. */
  readonly stdout: string;
  /** Its standard error. */
  readonly stderr: string;
}

/** How a program is run. */
export interface RunOptions {
  /** Variables on top of this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** The folder it starts in (default: the repository). */
  readonly cwd?: string;
  /** What to run instead of Deno. */
  readonly program?: string;
}

/** Starts Deno (or another program) without a terminal. */
export function start(args: readonly string[], options: RunOptions = {}): Deno.ChildProcess {
  return new Deno.Command(options.program ?? Deno.execPath(), {
    args: [...args],
    cwd: options.cwd ?? root,
    env: { NO_COLOR: "1", NEEDLE_THREADS: "1", ...options.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs Deno (or another program) to its end. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const { code, stdout, stderr } = await start(args, options).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Runs a TypeScript program of the repository and gives the JSON that it prints as its last line. */
export async function answerOf<T>(
  source: string,
  options: RunOptions & { readonly v8?: readonly string[] } = {},
): Promise<T> {
  const flags = options.v8 === undefined ? [] : [`--v8-flags=${options.v8.join(",")}`];
  const { code, stdout, stderr } = await run(["eval", ...flags, source], options);
  assert(code === 0, `exit status ${code}\n${stdout}\n${stderr}`);
  return JSON.parse(stdout.trimEnd().split("\n").at(-1)!) as T;
}

/** Fails unless `text` has `part` in it. */
export function assertHas(text: string, part: string): void {
  assert(text.includes(part), `${JSON.stringify(part)} is missing in:\n${text}`);
}

/** Runs `body` with a folder that is removed afterwards. */
export async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
