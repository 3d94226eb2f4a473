/**
 * A reader for the pickles inside PyTorch checkpoints. It builds plain JavaScript values and runs
 * nothing: opcodes come from a closed list, and a global is looked up in a table of the caller's
 * that says what it stands for. Anything else is refused by name.
 */

import { decodeText, malformed, setOwn } from "./record.ts";

/** A global that stands for a value, such as a storage type. */
export interface PickleValue {
  /** The value. */
  readonly value: unknown;
}

/** A global that is called with arguments. */
export interface PickleFunction {
  /** What the call gives. Arguments come unchecked from the file. */
  readonly call: (args: readonly unknown[], pickle: PickleReader) => unknown;
}

/** How the globals and persistent ids of a pickle are read. */
export interface PickleRules {
  /** The globals allowed, by "module.name". */
  readonly globals: ReadonlyMap<string, PickleValue | PickleFunction>;
  /** What a persistent id stands for. */
  readonly persistent: (id: unknown) => unknown;
}

type Operation = (pickle: PickleReader) => void;

/** The opcodes that PyTorch writes (pickle protocol 2). */
const OPERATIONS: ReadonlyMap<number, Operation> = new Map<number, Operation>([
  [0x28, /* MARK */ (p) => p.mark()],
  [0x29, /* EMPTY_TUPLE */ (p) => p.push([])],
  [0x4a, /* BININT */ (p) => p.push(p.int32())],
  [0x4b, /* BININT1 */ (p) => p.push(p.byte())],
  [0x4d, /* BININT2 */ (p) => p.push(p.byte() | (p.byte() << 8))],
  [0x47, /* BINFLOAT */ (p) => p.push(p.float64())],
  [0x4e, /* NONE */ (p) => p.push(null)],
  [0x51, /* BINPERSID */ (p) => p.push(p.rules.persistent(p.pop()))],
  [0x52, /* REDUCE */ (p) => p.reduce()],
  [0x55, /* SHORT_BINSTRING */ (p) => p.push(p.text(p.byte()))],
  [0x58, /* BINUNICODE */ (p) => p.push(p.text(p.uint32()))],
  [0x5d, /* EMPTY_LIST */ (p) => p.push(p.newList([]))],
  [0x61, /* APPEND */ (p) => p.append([p.pop()])],
  [0x62, /* BUILD */ (p) => p.build()],
  [0x63, /* GLOBAL */ (p) => p.global()],
  [0x65, /* APPENDS */ (p) => p.append(p.popMark())],
  [0x68, /* BINGET */ (p) => p.get(p.byte())],
  [0x6a, /* LONG_BINGET */ (p) => p.get(p.uint32())],
  [0x71, /* BINPUT */ (p) => p.put(p.byte())],
  [0x72, /* LONG_BINPUT */ (p) => p.put(p.uint32())],
  [0x73, /* SETITEM */ (p) => p.setItems(p.popTuple(2))],
  [0x74, /* TUPLE */ (p) => p.push(p.popMark())],
  [0x75, /* SETITEMS */ (p) => p.setItems(p.popMark())],
  [0x7d, /* EMPTY_DICT */ (p) => p.push(p.newDict())],
  [0x85, /* TUPLE1 */ (p) => p.push(p.popTuple(1))],
  [0x86, /* TUPLE2 */ (p) => p.push(p.popTuple(2))],
  [0x87, /* TUPLE3 */ (p) => p.push(p.popTuple(3))],
  [0x88, /* NEWTRUE */ (p) => p.push(true)],
  [0x89, /* NEWFALSE */ (p) => p.push(false)],
  [0x8a, /* LONG1 */ (p) => p.push(p.long(p.byte()))],
]);
const PROTO = 0x80;
const STOP = 0x2e;

/** Names of the opcodes that are refused, for the message. */
const REFUSED: Readonly<Record<number, string>> = {
  0x30: "POP",
  0x31: "POP_MARK",
  0x32: "DUP",
  0x42: "BINBYTES",
  0x43: "SHORT_BINBYTES",
  0x46: "FLOAT",
  0x49: "INT",
  0x4c: "LONG",
  0x50: "PERSID",
  0x53: "STRING",
  0x54: "BINSTRING",
  0x56: "UNICODE",
  0x64: "DICT",
  0x67: "GET",
  0x69: "INST",
  0x6c: "LIST",
  0x6f: "OBJ",
  0x70: "PUT",
  0x81: "NEWOBJ",
  0x82: "EXT1",
  0x83: "EXT2",
  0x84: "EXT4",
  0x8b: "LONG4",
  0x8c: "SHORT_BINUNICODE",
  0x8d: "BINUNICODE8",
  0x8e: "BINBYTES8",
  0x8f: "EMPTY_SET",
  0x90: "ADDITEMS",
  0x91: "FROZENSET",
  0x92: "NEWOBJ_EX",
  0x93: "STACK_GLOBAL",
  0x94: "MEMOIZE",
  0x95: "FRAME",
  0x96: "BYTEARRAY8",
  0x97: "NEXT_BUFFER",
  0x98: "READONLY_BUFFER",
};

/** A function on the stack, waiting for its arguments. */
class Callee {
  constructor(readonly name: string, readonly meaning: PickleFunction) {}
}

/**
 * Reads a pickle.
 *
 * @param bytes the pickle
 * @param rules what its globals and persistent ids stand for
 * @param file the file's name, for error messages
 * @returns the value: dicts are plain objects, lists and tuples arrays, None null; integers beyond
 * 2^53 are bigints
 * @throws Error for a damaged pickle, or anything that the rules do not allow
 */
export function parsePickle(bytes: Uint8Array, rules: PickleRules, file: string): unknown {
  return new PickleReader(bytes, rules, file).read();
}

/** The stack machine. */
export class PickleReader {
  private readonly view: DataView;
  private at = 0;
  private stack: unknown[] = [];
  private readonly marks: unknown[][] = [];
  private readonly memo = new Map<number, unknown>();
  // Tuples are arrays too; only what the pickle made as a list or dict may be changed by it.
  private readonly lists = new WeakSet<object>();
  private readonly dicts = new WeakSet<object>();

  /**
   * @param bytes the pickle
   * @param rules see {@linkcode PickleRules}
   * @param file the file's name, for error messages
   */
  constructor(
    private readonly bytes: Uint8Array,
    readonly rules: PickleRules,
    private readonly file: string,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Runs the pickle to its end. */
  read(): unknown {
    if (this.byte() !== PROTO || this.byte() !== 2) {
      throw this.error("it is not of protocol 2, as torch.save writes by default");
    }
    for (;;) {
      const code = this.byte();
      if (code === STOP) break;
      const operation = OPERATIONS.get(code);
      if (operation === undefined) {
        const name = REFUSED[code] ?? `0x${code.toString(16)}`;
        throw this.error(`it has the opcode ${name}, which is not on the list of those read`);
      }
      operation(this);
    }
    const value = this.pop();
    if (this.stack.length > 0 || this.marks.length > 0 || this.at !== this.bytes.length) {
      throw this.error("something is left over at its end");
    }
    return value;
  }

  /** An error that names the file. */
  error(what: string): Error {
    return malformed(this.file, `its pickle cannot be read: ${what}`);
  }

  /** A dict, which the pickle may fill. */
  newDict(): Record<string, unknown> {
    const dict: Record<string, unknown> = {};
    this.dicts.add(dict);
    return dict;
  }

  /** A list, which the pickle may extend. */
  newList(items: unknown[]): unknown[] {
    this.lists.add(items);
    return items;
  }

  /** Whether the pickle made this value as a dict. */
  isDict(value: unknown): value is Record<string, unknown> {
    return typeof value === "object" && value !== null && this.dicts.has(value);
  }

  /** Sets an item of a dict. Python's integer keys become strings, as keys of objects are. */
  setItem(dict: Record<string, unknown>, key: unknown, value: unknown): void {
    if (typeof key !== "string" && typeof key !== "number" && typeof key !== "bigint") {
      const kind = key === null ? "None" : Array.isArray(key) ? "a tuple" : typeof key;
      throw this.error(`a dict has ${kind} as a key; only strings and integers can be read`);
    }
    const name = String(key);
    if (Object.hasOwn(dict, name)) throw this.error(`a dict has the key "${name}" twice`);
    setOwn(dict, name, value);
  }

  /** The next byte. */
  byte(): number {
    const byte = this.bytes[this.at++];
    if (byte === undefined) throw this.error("it is cut short");
    return byte;
  }

  /** The next `count` bytes. */
  take(count: number): Uint8Array {
    const begin = this.at;
    this.at += count;
    if (this.at > this.bytes.length) throw this.error("it is cut short");
    return this.bytes.subarray(begin, this.at);
  }

  /** A little-endian 32-bit integer. */
  int32(): number {
    return this.uint32() | 0;
  }

  /** A little-endian unsigned 32-bit integer. */
  uint32(): number {
    const begin = this.at;
    this.take(4);
    return this.view.getUint32(begin, true);
  }

  /** A big-endian double. */
  float64(): number {
    const begin = this.at;
    this.take(8);
    return this.view.getFloat64(begin);
  }

  /** UTF-8 text of `count` bytes. */
  text(count: number): string {
    return decodeText(this.file, "a string of its pickle", this.take(count));
  }

  /** A two's complement integer of `count` bytes. */
  long(count: number): number | bigint {
    let value = 0n;
    const bytes = this.take(count);
    for (let i = count - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    value = BigInt.asIntN(8 * count, value);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  /** Pushes a value. */
  push(value: unknown): void {
    this.stack.push(value);
  }

  /** Takes the topmost value. */
  pop(): unknown {
    if (this.stack.length === 0) throw this.error("its stack runs empty");
    const value = this.stack.pop();
    if (value instanceof Callee) throw this.error(`it uses the function ${value.name} as a value`);
    return value;
  }

  /** Takes the topmost `count` values. */
  popTuple(count: number): unknown[] {
    const values: unknown[] = [];
    for (let i = 0; i < count; i++) values.push(this.pop());
    return values.reverse();
  }

  /** Begins a group of values. */
  mark(): void {
    this.marks.push(this.stack);
    this.stack = [];
  }

  /** Ends a group of values. */
  popMark(): unknown[] {
    const below = this.marks.pop();
    if (below === undefined) throw this.error("a group ends that did not begin");
    const values = this.popTuple(this.stack.length);
    this.stack = below;
    return values;
  }

  /** Remembers the topmost value. */
  put(index: number): void {
    if (this.stack.length === 0) throw this.error("its stack runs empty");
    this.memo.set(index, this.stack[this.stack.length - 1]);
  }

  /** Pushes a remembered value. */
  get(index: number): void {
    if (!this.memo.has(index)) throw this.error(`it recalls value ${index}, which it never stored`);
    this.push(this.memo.get(index));
  }

  /** Extends the list on top. */
  append(values: readonly unknown[]): void {
    const list = this.pop();
    if (!Array.isArray(list) || !this.lists.has(list)) {
      throw this.error("it appends to what is no list");
    }
    for (const value of values) list.push(value);
    this.push(list);
  }

  /** Fills the dict on top with keys and values in turn. */
  setItems(items: readonly unknown[]): void {
    const dict = this.pop();
    if (!this.isDict(dict) || items.length % 2 !== 0) {
      throw this.error("it sets items of what is no dict");
    }
    for (let i = 0; i < items.length; i += 2) this.setItem(dict, items[i], items[i + 1]);
    this.push(dict);
  }

  /** Pushes a global of the rules' table. */
  global(): void {
    const name = `${this.line()}.${this.line()}`;
    const meaning = this.rules.globals.get(name);
    if (meaning === undefined) {
      throw this.error(`it has the global "${name}", which is not on the list of those read`);
    }
    this.push("value" in meaning ? meaning.value : new Callee(name, meaning));
  }

  private line(): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0) throw this.error("it is cut short");
    const text = this.text(end - this.at);
    this.at++;
    return text;
  }

  /** Calls a function of the rules' table. */
  reduce(): void {
    const args = this.pop();
    const callee = this.stack.pop();
    if (!(callee instanceof Callee) || !Array.isArray(args)) {
      throw this.error("it calls what is no function");
    }
    this.push(callee.meaning.call(args, this));
  }

  /** Attributes of a dict (a state dict's versions): Python needs them, tensors do not. */
  build(): void {
    const state = this.pop();
    const target = this.pop();
    if (!this.isDict(target) || !this.isDict(state)) {
      throw this.error("it sets the state of what is no dict");
    }
    this.push(target);
  }
}
