/**
 * NumPy's npz format: a zip archive with one npy file per array.
 */

import { formatNpy, parseNpy } from "./npy.ts";
import { checkRecords, malformed, type TensorRecord } from "./record.ts";
import { formatZip, parseZip, readZipEntry } from "./zip.ts";

const SUFFIX = ".npy";

/**
 * Reads an npz file.
 *
 * @param bytes the whole file
 * @param file its name, for error messages
 * @returns its arrays, named without ".npy"
 * @throws Error for a damaged file, a member that is no npy file, or a dtype tensors cannot have
 */
export async function parseNpz(
  bytes: Uint8Array<ArrayBuffer>,
  file: string,
): Promise<TensorRecord[]> {
  const records: TensorRecord[] = [];
  for (const entry of parseZip(bytes, file)) {
    const member = `${file}, member "${entry.name}"`;
    if (!entry.name.endsWith(SUFFIX)) throw malformed(member, `its name does not end in ${SUFFIX}`);
    const name = entry.name.slice(0, -SUFFIX.length);
    records.push(parseNpy(await readZipEntry(entry, file), name, member));
  }
  return records;
}

/**
 * Lays out an npz file.
 *
 * @param records the arrays
 * @param compressed whether to deflate them, as np.savez_compressed does
 * @param file the file's name, for error messages
 * @returns the file, in pieces
 * @throws Error for two equal names; TypeError for bfloat16
 */
export function formatNpz(
  records: readonly TensorRecord[],
  compressed: boolean,
  file: string,
): Promise<Uint8Array<ArrayBuffer>[]> {
  checkRecords(file, records);
  const inputs = records.map((record) => ({
    name: record.name + SUFFIX,
    pieces: formatNpy(record, file),
  }));
  return formatZip(inputs, { compressed }, file);
}
