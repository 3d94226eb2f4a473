/**
 * JSON from files: as JSON.parse reads it, but a key that stands twice in an object is an error
 * instead of a silent choice.
 */

import { malformed } from "./record.ts";

/**
 * Reads JSON.
 *
 * @param text the JSON
 * @param what what the text is, for error messages
 * @param file the file's name
 * @returns the value
 * @throws Error for invalid JSON and for duplicate keys
 */
export function parseJson(text: string, what: string, file: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw malformed(file, `${what} is not valid JSON`);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) throw malformed(file, `${what} has the key "${twice}" twice`);
  return value;
}

/** The first key that stands twice in one object of valid JSON. */
function duplicateKey(json: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  let begin = 0; // of the last string
  let end = 0;
  for (let at = 0; at < json.length; at++) {
    const character = json[at];
    if (character === '"') {
      begin = at++;
      while (json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
      end = at + 1;
    } else if (character === "{") open.push(new Set());
    else if (character === "[") open.push(undefined);
    else if (character === "}" || character === "]") open.pop();
    else if (character === ":") {
      const key = JSON.parse(json.slice(begin, end)) as string;
      const keys = open[open.length - 1];
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}
