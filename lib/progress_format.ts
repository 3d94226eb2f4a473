/**
 * The text of a progress bar, character for character as Python's tqdm writes it: counts, clock
 * times, rates, and a bar of eighths of a block that fills what is left of the line.
 */

/** What one line shows. */
export interface Meter {
  /** Turns made. */
  readonly n: number;
  /** Turns expected; unknown when undefined. */
  readonly total: number | undefined;
  /** Seconds since the start. */
  readonly elapsed: number;
  /** Width of the line; when undefined, the bar is 10 wide and the line is not cut. */
  readonly columns: number | undefined;
  /** Text before the bar. */
  readonly desc: string;
  /** What one turn is called. */
  readonly unit: string;
  /** Whether numbers get SI prefixes. */
  readonly unitScale: boolean;
  /** Whether to draw in ASCII. */
  readonly ascii: boolean;
  /** Turns counted before the start, which do not enter the average rate. */
  readonly initial: number;
  /** Turns per second; the average since the start when undefined. */
  readonly rate: number | undefined;
  /** Text after the rate. */
  readonly postfix: string;
}

const BLOCKS = " ▏▎▍▌▋▊▉█";
const ASCII_BLOCKS = " 123456789#";

/**
 * Formats one line.
 *
 * @param meter what to show
 * @returns the line, no wider than `meter.columns`
 */
export function formatMeter(meter: Meter): string {
  const { n, elapsed, columns, desc, unit, unitScale } = meter;
  // Counting past the total means that the total was wrong.
  const total = meter.total !== undefined && n >= meter.total + 0.5 ? undefined : meter.total;
  const rate = meter.rate ?? (elapsed > 0 ? (n - meter.initial) / elapsed : 0);
  const count = (x: number): string => unitScale ? formatScaled(x) : String(x);
  const fixed = (x: number): string => unitScale ? formatScaled(x) : toFixed(x, 2).padStart(5);
  let speed = `?${unit}/s`;
  if (rate !== 0) speed = 1 / rate > 1 ? `${fixed(1 / rate)}s/${unit}` : `${fixed(rate)}${unit}/s`;
  const time = formatInterval(elapsed);
  const tail = meter.postfix === "" ? "" : `, ${meter.postfix}`;
  const head = desc === "" || desc.endsWith(": ") ? desc : `${desc}: `;

  if (!total) return trim(`${head}${count(n)}${unit} [${time}, ${speed}${tail}]`, columns);

  const fraction = Math.max(n / total, 0);
  const remaining = rate !== 0 ? formatInterval((total - n) / rate) : "?";
  const left = `${head}${toFixed(fraction * 100, 0).padStart(3)}%|`;
  const right = `| ${count(n)}/${count(total)} [${time}<${remaining}, ${speed}${tail}]`;
  if (columns === 0) return left.slice(0, -1) + right.slice(1);
  const width = columns === undefined ? 10 : Math.max(1, columns - textWidth(left + right));
  return trim(left + formatBar(fraction, width, meter.ascii) + right, columns);
}

/**
 * Formats a number with three significant digits, or in full where that is no longer.
 *
 * @param x any number
 * @returns as Python's `format(x, ".3g")` without zeros in the exponent
 */
export function formatNumber(x: number): string {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  const full = String(x);
  const [digits = "", exponent = "0"] = x.toExponential(2).split("e");
  const power = Number(exponent);
  const plain = power >= -4 && power < 3;
  const mantissa = stripZeros(plain ? toFixed(x, 2 - power) : digits);
  const short = plain ? mantissa : `${mantissa}e${exponent}`;
  return short.length < full.length ? short : full;
}

function stripZeros(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function formatBar(fraction: number, width: number, ascii: boolean): string {
  const symbols = ascii ? ASCII_BLOCKS : BLOCKS;
  const steps = symbols.length - 1;
  const filled = Math.floor(Math.min(fraction, 1) * width * steps);
  const whole = Math.floor(filled / steps);
  if (whole >= width) return symbols.charAt(steps).repeat(width);
  const part = symbols.charAt(filled % steps);
  return symbols.charAt(steps).repeat(whole) + part + " ".repeat(width - whole - 1);
}

/** Seconds as `[H:]MM:SS`. */
function formatInterval(seconds: number): string {
  const whole = Math.trunc(Math.abs(seconds));
  const two = (x: number): string => String(x).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = two(Math.floor(whole / 60) % 60);
  const sign = seconds < 0 ? "-" : "";
  return `${sign}${hours > 0 ? `${hours}:` : ""}${minutes}:${two(whole % 60)}`;
}

/** A number with three digits and an SI prefix. */
function formatScaled(x: number): string {
  for (const prefix of ["", "k", "M", "G", "T", "P", "E", "Z"]) {
    const size = Math.abs(x);
    if (size < 9.995) return toFixed(x, 2) + prefix;
    if (size < 99.95) return toFixed(x, 1) + prefix;
    if (size < 999.5) return toFixed(x, 0).padStart(3) + prefix;
    x /= 1000;
  }
  return `${toFixed(x, 1)}Y`;
}

/** `x.toFixed(digits)`, but halves go to the even digit, as in Python: 12.5 % shows as 12 %. */
function toFixed(x: number, digits: number): string {
  const scaled = x * 10 ** digits;
  // A true half has a denominator that divides 2^(digits + 1); other products only round to one.
  const isHalf = Math.abs(scaled % 1) === 0.5 && (x * 2 ** (digits + 1)) % 1 === 0;
  return (isHalf ? 2 * Math.round(scaled / 2) / 10 ** digits : x).toFixed(digits);
}

// deno-lint-ignore no-control-regex
const ESCAPES = /\x1b\[[;\d]*[A-Za-z]/g;
/** Characters two columns wide: CJK, Hangul, full-width forms, emoji. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;

/**
 * Columns that text takes on a terminal.
 *
 * @param text may hold colour codes and wide characters
 * @returns its width
 */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text.replace(ESCAPES, "")) width += WIDE.test(character) ? 2 : 1;
  return width;
}

function trim(text: string, columns: number | undefined): string {
  if (columns === undefined || columns === 0) return text;
  const coloured = ESCAPES.test(text);
  ESCAPES.lastIndex = 0;
  let kept = text;
  while (textWidth(kept) > columns) kept = [...kept].slice(0, -1).join("");
  return coloured && !kept.endsWith("\x1b[0m") ? `${kept}\x1b[0m` : kept;
}
