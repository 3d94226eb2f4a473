// The bundle for tests, and servers that hand it out.

import { assert as stdAssert } from "@std/assert";
import { root, run } from "./process_support.ts";

const assert = stdAssert as (condition: boolean, message?: string) => void;

/** The folder of needle.js, its source map and its types, made anew if a source is newer. */
export async function bundleFolder(): Promise<string> {
  const { code, stdout, stderr } = await run(["run", "-A", "build.ts", "--bundle"]);
  assert(code === 0, stdout + stderr);
  return `${root}dist`;
}

const types: Readonly<Record<string, string>> = {
  css: "text/css",
  html: "text/html; charset=utf-8",
  js: "text/javascript",
  svg: "image/svg+xml",
  ts: "application/typescript",
};

/** A file server on localhost. */
export interface Site extends AsyncDisposable {
  /** `http://127.0.0.1:` and the port. */
  readonly origin: string;
  /** The paths that were asked for, in order. */
  readonly asked: readonly string[];
}

/** Serves folders under the beginnings of paths, the first that fits; `await using` ends it. */
export function serve(folders: Readonly<Record<string, string>>): Site {
  const asked: string[] = [];
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const { pathname } = new URL(request.url);
      asked.push(pathname);
      const found = Object.entries(folders).find(([start]) => pathname.startsWith(start));
      if (found === undefined) return new Response("not found", { status: 404 });
      const [start, folder] = found;
      const path = `${folder}/${pathname.slice(start.length)}`.replace(/\/$/, "/index.html");
      try {
        const type = types[path.split(".").at(-1)!] ?? "application/octet-stream";
        return new Response(await Deno.readFile(path), { headers: { "content-type": type } });
      } catch {
        return new Response("not found", { status: 404 });
      }
    },
  );
  return {
    origin: `http://127.0.0.1:${server.addr.port}`,
    asked,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
