/**
 * The main thread's side of data workers: starts them, sends them indices, hands out their batches by
 * number, and ends them all, however the loop over the batches ends.
 * @module
 */
import type { Packed } from "./collate.ts";
import type { DatasetDescriptor } from "./dataset.ts";
import type { SampleKey } from "./pipeline.ts";
import { workerAddress, type WorkerRequest, type WorkerResponse } from "./worker.ts";

interface Waiting<T> {
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** The program of a worker: it runs `runDataWorker` of this library, be it many files or one bundle. */
function workerProgram(): string {
  return `import * as needle from ${JSON.stringify(workerAddress)};
(needle.runDataWorker ?? needle.data.runDataWorker)();`;
}

/** Workers that make batches of one dataset. */
export class WorkerPool {
  readonly #workers: Worker[] = [];
  readonly #batches = new Map<number, Waiting<readonly Packed[]>>();
  readonly #program: string;
  #ready: Waiting<number>[] = [];
  #failure: { readonly error: unknown } | null = null;

  /**
   * Number of samples of the dataset, when all workers have it.
   */
  readonly length: Promise<number>;

  /**
   * Starts workers and sends them the dataset.
   *
   * @throws {Error} Where there are no workers.
   */
  constructor(dataset: DatasetDescriptor, count: number) {
    if (typeof Worker === "undefined") {
      throw new Error("Cannot start data workers: there is no Worker here; use workers: 0");
    }
    this.#program = URL.createObjectURL(
      new Blob([workerProgram()], { type: "text/javascript" }),
    );
    const lengths: Promise<number>[] = [];
    for (let i = 0; i < count; i++) {
      lengths.push(new Promise((resolve, reject) => this.#ready.push({ resolve, reject })));
      this.#workers.push(this.#start(i));
      this.#send(i, { kind: "open", dataset });
    }
    this.length = Promise.all(lengths).then((all) => all[0]!);
    // A failure may come when nobody waits for the length any more.
    this.length.catch(() => {});
  }

  /** Asks for a batch; number `id` goes to worker `id` modulo their number. */
  batch(
    id: number,
    indices: Uint32Array,
    key: SampleKey,
    separate: boolean,
  ): Promise<readonly Packed[]> {
    const answer = new Promise<readonly Packed[]>((resolve, reject) => {
      if (this.#failure !== null) reject(this.#failure.error);
      else this.#batches.set(id, { resolve, reject });
    });
    // Batches are asked for ahead; one that fails may belong to a loop that was left.
    answer.catch(() => {});
    if (this.#failure === null) {
      this.#send(id % this.#workers.length, { kind: "batch", id, indices, key, separate });
    }
    return answer;
  }

  /** Ends all workers. */
  close(): void {
    for (const worker of this.#workers) worker.terminate();
    this.#workers.length = 0;
    URL.revokeObjectURL(this.#program);
  }

  #send(worker: number, request: WorkerRequest): void {
    this.#workers[worker]!.postMessage(request);
  }

  #start(i: number): Worker {
    const worker = new Worker(this.#program, { type: "module", name: `needle data ${i}` });
    worker.onmessage = ({ data: response }: MessageEvent<WorkerResponse>): void => {
      switch (response.kind) {
        case "ready":
          this.#ready[i]!.resolve(response.length);
          break;
        case "batch":
          this.#batches.get(response.id)?.resolve(response.packed);
          this.#batches.delete(response.id);
          break;
        case "error":
          this.#fail(response.error);
      }
    };
    worker.onerror = (event): void => {
      event.preventDefault();
      this.#fail(new Error(`Cannot run a data worker: ${event.message}`));
    };
    worker.onmessageerror = (): void => {
      this.#fail(new Error("Cannot read the message of a data worker"));
    };
    return worker;
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    for (const waiting of [...this.#ready, ...this.#batches.values()]) waiting.reject(error);
    this.#batches.clear();
  }
}
