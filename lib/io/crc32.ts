/**
 * CRC-32 as zip files use it (polynomial 0xedb88320), four bytes a step.
 */

let tables: Uint32Array | undefined;

/** Table t holds the remainder of a byte that has t more bytes to its right. */
function makeTables(): Uint32Array {
  const made = new Uint32Array(4 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
    made[byte] = crc;
  }
  for (let i = 256; i < made.length; i++) {
    const shorter = made[i - 256]!;
    made[i] = (shorter >>> 8) ^ made[shorter & 255]!;
  }
  return made;
}

/**
 * The checksum of some bytes.
 *
 * @param bytes any bytes
 * @param before the checksum of the bytes before them
 * @returns their CRC-32, an unsigned 32-bit number
 */
export function crc32(bytes: Uint8Array, before = 0): number {
  const t = tables ??= makeTables();
  let crc = ~before;
  let i = 0;
  for (const end = bytes.length - 3; i < end; i += 4) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc = t[768 + (crc & 255)]! ^ t[512 + ((crc >>> 8) & 255)]! ^
      t[256 + ((crc >>> 16) & 255)]! ^ t[crc >>> 24]!;
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ t[(crc ^ bytes[i]!) & 255]!;
  return ~crc >>> 0;
}
