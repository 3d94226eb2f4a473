// What all example programs share: flags, permissions, the device, data with a built-in fallback, interruption, reports.

import * as ndl from "../mod.ts";
import { plotSvg } from "../lib/plot.ts";
import { parseArgs } from "node:util";
import process from "node:process";
import { setImmediate } from "node:timers";

/** One flag of a program. */
export interface FlagSpec {
  /** What it does, for --help. */
  readonly help: string;
  /** What it is without being given; null: nothing. */
  readonly value: string | number | boolean | null;
  /** The least value of a number; makes the flag one, and a whole one unless `fraction` is set. */
  readonly least?: number;
  /** Whether the number may have a fraction. */
  readonly fraction?: boolean;
  /** The only values allowed. */
  readonly choices?: readonly string[];
}

/** The values of flags by name. */
export type FlagValues = Record<string, string | number | boolean | null>;

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (c) => "-" + c.toLowerCase());
}

/** Reads the command line by `specs` (names in camelCase); prints help with --help, names what is wrong otherwise. */
export function readFlags(
  usage: string,
  specs: Readonly<Record<string, FlagSpec>>,
  args: readonly string[] = process.argv.slice(2),
): FlagValues {
  const all = Object.entries(specs);
  const isSwitch = (spec: FlagSpec): boolean => typeof spec.value === "boolean";
  const options = Object.fromEntries([
    ...all.map((
      [name, spec],
    ) => [kebab(name), { type: isSwitch(spec) ? "boolean" as const : "string" as const }]),
    ["help", { type: "boolean" as const }],
  ]);
  let values: Record<string, string | boolean | undefined>;
  try {
    values = parseArgs({ args: [...args], options, strict: true, allowNegative: true })
      .values as typeof values;
  } catch (error) {
    fail(`${messageOf(error)}; --help lists the flags`);
  }
  if (values.help) {
    console.log(usage);
    for (const [name, spec] of all) {
      const shown = spec.value === null || isSwitch(spec) ? "" : ` (default ${spec.value})`;
      console.log(`  --${kebab(name).padEnd(16)} ${spec.help}${shown}`);
    }
    process.exit(0);
  }
  const flags: FlagValues = {};
  for (const [name, spec] of all) {
    const text = values[kebab(name)];
    if (text === undefined) flags[name] = spec.value;
    else if (spec.least !== undefined) {
      const n = Number(text), whole = spec.fraction !== true;
      if (
        text === "" || !(n >= spec.least && n < Infinity) || (whole && !Number.isSafeInteger(n))
      ) {
        fail(
          `--${kebab(name)} must be ${
            whole ? "an integer" : "a number"
          } from ${spec.least} up, not "${text}"`,
        );
      }
      flags[name] = n;
    } else {
      if (spec.choices !== undefined && !spec.choices.includes(text as string)) {
        fail(`--${kebab(name)} must be one of ${spec.choices.join(", ")}, not "${text}"`);
      }
      flags[name] = text;
    }
  }
  return flags;
}

/** Prints an error and ends the program. */
export function fail(message: string, status = 2): never {
  console.error(`error: ${message}`);
  process.exit(status);
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Whether a permission is missing, which is no reason to stop. */
export function isDenied(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) if (e.name === "NotCapable") return true;
  return false;
}

/** Asks on a terminal for what training can use; elsewhere it has to do with what it is given. */
function askPermissions(): void {
  if (typeof Deno === "undefined" || !Deno.stdin.isTerminal()) return;
  const build = new URL("../build", import.meta.url);
  const wanted: Deno.PermissionDescriptor[] = [
    ...(build.protocol === "file:" ? [{ name: "ffi" as const, path: build }] : []),
    { name: "env" },
    { name: "read" },
    { name: "write" },
    { name: "net" },
  ];
  for (const permission of wanted) Deno.permissions.requestSync(permission);
}

/** Asks for permissions, chooses the device and seeds the generator. */
export function prepare(flags: { device: string | null; seed: number }): ndl.Device {
  askPermissions();
  if (flags.device !== null) {
    try {
      ndl.setDefaultDevice(ndl.deviceByName(flags.device));
    } catch (error) {
      fail(messageOf(error));
    }
  }
  ndl.manualSeed(flags.seed);
  let device: ndl.Device;
  try {
    device = ndl.defaultDevice();
  } catch (error) {
    fail(messageOf(error)); // NEEDLE_DEVICE names one that is not there
  }
  const report = ndl.devices().find((d) => d.name === device.name)!;
  console.log(`device ${device.name} (${report.isa}, ${report.threads} threads)`);
  return device;
}

/** The permissions that let an example use all there is. */
const permissions = "--allow-ffi=build --allow-env --allow-read --allow-write --allow-net";

/**
 * Loads real data, or says loudly why not and makes the built-in set: of the usual length, or short where only the
 * slow reference device is there.
 */
export async function loadData<T>(
  name: string,
  real: () => Promise<T>,
  synthetic: (length: number | null) => T,
  program: string,
): Promise<T> {
  try {
    return await real();
  } catch (error) {
    if (!isDenied(error) && !ndl.data.isMissingDataset(error)) fail(messageOf(error), 1);
    const pair = synthetic(ndl.defaultDevice() === ndl.reference() ? 1000 : null);
    console.log(
      `\n*** ${name} IS NOT THERE: training on a built-in, procedurally generated set instead.\n` +
        `*** ${messageOf(error).split("\n")[0]}\n` +
        `*** For the real data run: deno run ${permissions} ${program}\n`,
    );
    return pair;
  }
}

let stopAsked = false;
let ticked = 0;

/** Lets the event loop turn some times a second, so that signals and finalizers are heard. */
export async function tick(): Promise<void> {
  if (performance.now() - ticked < 50) return;
  await new Promise((resolve) => setImmediate(resolve));
  ticked = performance.now();
}

/** From now on Ctrl-C asks the loop to stop after its step; a second one stops at once. */
export function watchInterrupt(): void {
  process.on("SIGINT", () => {
    if (stopAsked) process.exit(130);
    stopAsked = true;
  });
}

/** Whether Ctrl-C was pressed. */
export function interrupted(): boolean {
  return stopAsked;
}

/** Makes the folder of a file where it is not there. */
export async function makeFolderOf(path: string): Promise<void> {
  const folder = path.replace(/[/\\][^/\\]*$/, "");
  if (folder === path || folder === "") return;
  const { mkdir } = await import("node:fs/promises");
  await mkdir(folder, { recursive: true });
}

/** Writes a record as one line of JSON: into a new file, or at the end of the one that is there. */
export async function writeJson(
  path: string,
  record: Record<string, number>,
  append: boolean,
): Promise<void> {
  const { appendFile, writeFile } = await import("node:fs/promises");
  await makeFolderOf(path);
  await (append ? appendFile : writeFile)(path, JSON.stringify(record) + "\n");
}

/** One panel of a plot of a run: fields of its records by the name of the curve. */
export interface PanelFields {
  readonly yLabel: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly logarithmic?: boolean;
  /** Applied to every value. */
  readonly scale?: (value: number) => number;
}

/** Draws the records of a run, one per epoch, into an SVG file. */
export async function writePlot(
  path: string,
  title: string,
  history: readonly Readonly<Record<string, number>>[],
  panels: readonly PanelFields[],
): Promise<void> {
  const svg = await plotSvg(
    panels.map(({ yLabel, fields, logarithmic = false, scale = (v) => v }) => ({
      yLabel,
      logarithmic,
      curves: Object.entries(fields).map(([name, field]) => ({
        name,
        points: history.map((r) => [r.epoch!, scale(r[field]!)] as const),
      })),
    })),
    title === "" ? {} : { title },
  );
  const { writeFile } = await import("node:fs/promises");
  await makeFolderOf(path);
  await writeFile(path, svg);
  console.log(`curves in ${path}`);
}
