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
  let text = "";
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g)) {
    if (token === "{") open.push(new Set());
    else if (token === "[") open.push(undefined);
    else if (token === "}" || token === "]") open.pop();
    else if (token !== ":") text = token;
    else {
      const key = JSON.parse(text) as string;
      const keys = open[open.length - 1];
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}
