// The code in the README, for tests that run it as it stands there.

import { root } from "./process_support.ts";

/** A block of code. */
export interface Block {
  /** What stands first after the opening fence. */
  readonly language: string;
  /** Its lines. */
  readonly text: string;
}

/** The blocks of the section that begins with the line `heading`, in order. */
export async function readmeBlocks(heading: string): Promise<Block[]> {
  const readme = await Deno.readTextFile(`${root}README.md`);
  const at = readme.indexOf(`\n${heading}\n`);
  if (at < 0) throw new Error(`The README has no section ${heading}`);
  const section = readme.slice(at + 1).split(/\n## /)[0]!;
  return [...section.matchAll(/^```(\w+)[^\n]*\n(.*?)^```$/gms)].map((match) => ({
    language: match[1]!,
    text: match[2]!,
  }));
}
