// Checking of options objects: an unknown key is an error that names it and lists what there is.

/**
 * Throws a TypeError where `options` has a key that is not in `known`.
 *
 * @param what the function, for the message
 */
export function checkOptions(
  what: string,
  options: object | undefined,
  known: readonly string[],
): void {
  if (options === undefined) return;
  if (options === null || typeof options !== "object") {
    throw new TypeError(`Cannot call ${what} with ${String(options)} as options: give an object`);
  }
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) {
      throw new TypeError(
        `Unknown option "${key}" of ${what}: it takes ${known.join(", ") || "none"}`,
      );
    }
  }
}
