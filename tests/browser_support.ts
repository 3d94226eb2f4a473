// A headless Chromium driven over the DevTools protocol: what the page under test shows, logs and loads.

import { env } from "../lib/env.ts";

/** The programs that are tried, in order. */
const PROGRAMS = ["chromium", "chromium-browser", "google-chrome"];

/** Whether a program runs and succeeds; false, too, where there is none. */
async function succeeds(program: string, ...args: readonly string[]): Promise<boolean> {
  try {
    const command = new Deno.Command(program, { args: [...args], stdout: "null", stderr: "null" });
    return (await command.output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * A browser on PATH, or null with the reason on stderr; NEEDLE_REQUIRE=chromium makes that a failure. Where it is
 * required, or in CI, and this is root on Debian, it is installed.
 */
export async function findBrowser(): Promise<string | null> {
  const required = (env("NEEDLE_REQUIRE") ?? []).includes("chromium");
  const mayInstall = (required || env("CI") !== undefined) && Deno.uid() === 0;
  for (const install of [false, true]) {
    if (install && mayInstall && await succeeds("apt-get", "update")) {
      await succeeds("apt-get", "install", "-y", "--no-install-recommends", "chromium");
    }
    for (const program of PROGRAMS) if (await succeeds(program, "--version")) return program;
  }
  const reason = `there is none of ${PROGRAMS.join(", ")}; sudo apt-get install chromium`;
  if (required) throw new Error(`NEEDLE_REQUIRE names chromium, but: ${reason}`);
  console.warn(`not tested in a browser: ${reason}`);
  return null;
}

type Parameters = Record<string, unknown>;

/** A message of the protocol: an answer has an id, an event a method. */
interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Parameters;
  readonly result?: Parameters;
  readonly error?: { readonly message: string };
}

/** The address that the browser prints when it listens. */
async function listening(output: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  let text = "";
  const reader = output.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`The browser ended before it listened:\n${text}`);
    text += value;
    const found = /DevTools listening on (ws:\S+)/.exec(text);
    if (found !== null) {
      // Read on, so that the browser never waits for somebody to read what it logs.
      (async () => {
        while (!(await reader.read()).done);
      })();
      return found[1]!;
    }
  }
}

/** Points on a square of 1. */
export type Stroke = readonly (readonly [x: number, y: number])[];

/** One page of a browser of its own. */
export class Page {
  /** What went wrong in the page or its workers: exceptions, console.error, failed loads. */
  readonly errors: string[] = [];
  /** The address of everything that was asked for. */
  readonly requests: string[] = [];
  readonly #process: Deno.ChildProcess;
  readonly #socket: WebSocket;
  readonly #folder: string;
  readonly #waiting = new Map<number, (message: Message) => void>();
  #session = "";
  #nextId = 1;

  private constructor(process: Deno.ChildProcess, socket: WebSocket, folder: string) {
    this.#process = process;
    this.#socket = socket;
    this.#folder = folder;
    socket.onmessage = ({ data }: MessageEvent<string>) => this.#hear(JSON.parse(data) as Message);
  }

  /** Starts a browser with an empty page; `await using` ends it. */
  static async open(program: string): Promise<Page> {
    const folder = await Deno.makeTempDir();
    const process = new Deno.Command(program, {
      args: [
        "--headless=new",
        "--no-sandbox", // the tests may run as root, in a container
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--hide-scrollbars",
        `--user-data-dir=${folder}`,
        "--remote-debugging-port=0",
        "about:blank",
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const socket = new WebSocket(await listening(process.stderr));
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = reject;
    });
    const page = new Page(process, socket, folder);
    const { targetInfos } = await page.send("Target.getTargets") as {
      targetInfos: { type: string; targetId: string }[];
    };
    const { targetId } = targetInfos.find(({ type }) => type === "page")!;
    const { sessionId } = await page.send("Target.attachToTarget", { targetId, flatten: true });
    page.#session = sessionId as string;
    await page.#watch(page.#session);
    await page.send("Page.enable");
    return page;
  }

  /** Hears of everything in a page or worker, and of the workers that it starts. */
  async #watch(session: string): Promise<void> {
    await this.send("Runtime.enable", {}, session);
    await this.send("Log.enable", {}, session).catch(() => {}); // workers have none
    await this.send("Network.enable", {}, session);
    const attach = { autoAttach: true, waitForDebuggerOnStart: true, flatten: true };
    await this.send("Target.setAutoAttach", attach, session);
    await this.send("Runtime.runIfWaitingForDebugger", {}, session);
  }

  #hear({ id, method, params = {}, ...rest }: Message): void {
    if (id !== undefined) {
      this.#waiting.get(id)?.(rest);
      this.#waiting.delete(id);
      return;
    }
    const text = JSON.stringify(params);
    if (method === "Target.attachedToTarget") {
      this.#watch(params.sessionId as string).catch((error) => this.errors.push(String(error)));
    } else if (method === "Runtime.exceptionThrown") this.errors.push(text);
    else if (method === "Runtime.consoleAPICalled" && params.type === "error") {
      this.errors.push(text);
    } else if (method === "Log.entryAdded") {
      const { entry } = params as { entry: { level: string } };
      if (entry.level === "error") this.errors.push(text);
    } else if (method === "Network.requestWillBeSent") {
      this.requests.push((params as { request: { url: string } }).request.url);
    }
  }

  /** Sends a command of the protocol and gives its result. */
  send(method: string, params: Parameters = {}, session = this.#session): Promise<Parameters> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, ({ result, error }) => {
        if (error !== undefined) reject(new Error(`${method}: ${error.message}`));
        else resolve(result ?? {});
      });
      const to = session === "" ? {} : { sessionId: session };
      this.#socket.send(JSON.stringify({ id, method, params, ...to }));
    });
  }

  /** The value of an expression in the page. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      returnByValue: true,
      awaitPromise: true,
    }) as { result: { value: T }; exceptionDetails?: unknown };
    if (exceptionDetails !== undefined) {
      throw new Error(`Cannot evaluate ${expression}: ${JSON.stringify(exceptionDetails)}`);
    }
    return result.value;
  }

  /** Waits until an expression in the page is true. */
  async until(expression: string, seconds: number): Promise<void> {
    const end = Date.now() + 1000 * seconds;
    while (!await this.evaluate<boolean>(`Boolean(${expression})`)) {
      if (Date.now() > end) {
        throw new Error(`Not within ${seconds} s: ${expression}\n${this.errors.join("\n")}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Loads an address. */
  async go(url: string): Promise<void> {
    await this.send("Page.navigate", { url });
    await this.until(`document.readyState === "complete" && location.href !== "about:blank"`, 20);
  }

  /** Clicks on what a selector finds first. */
  async click(selector: string): Promise<void> {
    await this.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
  }

  /** Sets the size of the window and the colours that the user prefers. */
  async look(width: number, height: number, scheme: "light" | "dark", scale = 1): Promise<void> {
    const mobile = width < 600;
    await this.send("Emulation.setDeviceMetricsOverride", {
      width,
      height,
      deviceScaleFactor: scale,
      mobile,
    });
    const features = [{ name: "prefers-color-scheme", value: scheme }];
    await this.send("Emulation.setEmulatedMedia", { features });
  }

  /** Draws lines with the mouse: points on a square of 1 over what a selector finds. */
  async draw(selector: string, strokes: readonly Stroke[]): Promise<void> {
    const box = await this.evaluate<{ x: number; y: number; width: number; height: number }>(
      `(() => { const e = document.querySelector(${JSON.stringify(selector)});
        e.scrollIntoView({ block: "center" });
        return e.getBoundingClientRect().toJSON(); })()`,
    );
    for (const stroke of strokes) {
      const places = stroke.map(([x, y]) => ({
        x: box.x + x * box.width,
        y: box.y + y * box.height,
      }));
      const event = (type: string, at: number, buttons: number): Promise<Parameters> =>
        this.send("Input.dispatchMouseEvent", {
          type,
          ...places.at(at)!,
          button: "left",
          buttons,
          clickCount: 1,
        });
      await event("mousePressed", 0, 1);
      for (let i = 1; i < places.length; i++) await event("mouseMoved", i, 1);
      await event("mouseReleased", -1, 0);
    }
  }

  /** A picture of the window, or of the whole page, as PNG. */
  async screenshot(whole = false): Promise<Uint8Array<ArrayBuffer>> {
    const { data } = await this.send("Page.captureScreenshot", {
      format: "png",
      captureBeyondViewport: whole,
    });
    return Uint8Array.from(atob(data as string), (c) => c.charCodeAt(0));
  }

  /** Ends the browser. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.send("Browser.close", {}, "").catch(() => {});
    await this.#process.status;
    this.#socket.close();
    await Deno.remove(this.#folder, { recursive: true }).catch(() => {});
  }
}
