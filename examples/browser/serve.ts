// Serves this page, and dist/needle.js that it runs on, to the browsers of this machine.
//
// Run: deno task serve [--port N]

import { parseArgs } from "node:util";
import process from "node:process";

const root = new URL("../../", import.meta.url);
const types: Readonly<Record<string, string>> = {
  css: "text/css",
  html: "text/html; charset=utf-8",
  js: "text/javascript",
  map: "application/json",
  svg: "image/svg+xml",
};

/** Answers with a file of examples/browser/ or dist/. */
async function answer(request: Request): Promise<Response> {
  // A URL has no ".." left in its path, plain or encoded.
  const { pathname } = new URL(request.url);
  if (pathname === "/") return Response.redirect(new URL("/examples/browser/", request.url));
  const path = pathname.endsWith("/") ? `${pathname}index.html` : pathname;
  const type = types[path.split(".").at(-1)!];
  if (type === undefined || !/^\/(examples\/browser|dist)\/[\w.-]+$/.test(path)) {
    return new Response("not found", { status: 404 });
  }
  try {
    const { readable } = await Deno.open(new URL(`.${path}`, root));
    return new Response(readable, {
      headers: { "content-type": type, "cache-control": "no-cache" },
    });
  } catch {
    return new Response("not found", { status: 404 });
  }
}

/** Listens on `port`; throws where another program does. */
function listen(port: number): void {
  Deno.serve({
    hostname: "localhost",
    port,
    onListen: (address) => console.log(`http://localhost:${address.port}/examples/browser/`),
  }, answer);
}

const { port } = parseArgs({
  args: process.argv.slice(2),
  options: { port: { type: "string" } },
}).values;
try {
  listen(Number(port ?? 8000));
} catch (error) {
  // Nobody asked for this port: any other will do.
  if (port !== undefined || !(error instanceof Deno.errors.AddrInUse)) throw error;
  listen(0);
}
