/**
 * Builds libneedle_cuda with nvcc (from the system or, without root, from NVIDIA's wheels on PyPI) and its emulation
 * on the CPU, which tests use. Called by build.ts.
 * @module
 */
import { headerText } from "../abi.ts";
import { libraryFileName, VERSION } from "../backends/loader.ts";
import { env } from "../env.ts";
import {
  BUILD,
  DEPS,
  exists,
  lastLines,
  pip,
  publish,
  readText,
  ROOT,
  run,
  say,
  sha256,
  sources,
  type Tools,
  which,
  writeWhole,
} from "./build_support.ts";

/** NVIDIA's compiler as wheels: 104 MB, no root, and no driver needed to compile. */
const WHEELS = [
  "nvidia-cuda-nvcc==13.0.88",
  "nvidia-nvvm==13.0.88",
  "nvidia-cuda-crt==13.0.88",
  "nvidia-cuda-runtime==13.0.96",
  "nvidia-cuda-cccl==13.0.85",
];
const WHEELS_ROOT = `${DEPS}/cuda-13.0`;
const TOOLKIT = `${WHEELS_ROOT}/nvidia/cu13`;

/** Which library to build. */
export type CudaTarget = "cuda" | "cudaemu";

/** How {@linkcode buildCuda} builds. */
export interface CudaBuildOptions {
  /** CMake's list of architectures, for example "90"; default: sm_75 to sm_90, and PTX for later ones. */
  readonly architectures?: string;
  /** Build even if nothing changed. */
  readonly force?: boolean;
  /** With the compiler's sanitizers; the emulation alone can be built so. It goes to `build/sanitized/`. */
  readonly sanitize?: boolean;
  /** Print nothing when there is nothing to build. */
  readonly quiet?: boolean;
}

async function fetchToolkit(): Promise<void> {
  if (exists(WHEELS_ROOT)) return;
  say("nvcc", "not on this system: fetching CUDA 13.0's compiler from PyPI into .deps/");
  const temporary = `${WHEELS_ROOT}.${Deno.pid}.tmp`;
  await pip(["install", "--no-deps", "--no-compile", "--target", temporary, ...WHEELS]);
  Deno.renameSync(temporary, WHEELS_ROOT);
}

/** nvcc: the system's, else the wheels'. */
async function findNvcc(): Promise<string> {
  const system = which("nvcc", "/usr/local/cuda/bin/nvcc");
  if (system !== undefined) return system;
  await fetchToolkit();
  // nvcc looks for the libraries that it links in lib64.
  if (!exists(`${TOOLKIT}/lib64`)) Deno.symlinkSync("lib", `${TOOLKIT}/lib64`);
  const nvcc = which(`${TOOLKIT}/bin/nvcc`);
  if (nvcc === undefined) throw new Error(`${TOOLKIT} has no nvcc; remove ${WHEELS_ROOT}`);
  return nvcc;
}

/** A hash of everything that the library is made from. */
async function keyOf(parts: readonly string[]): Promise<string> {
  const text = [...parts, headerText(), VERSION];
  const files = [...sources(`${ROOT}/csrc/cuda`), ...sources(`${ROOT}/csrc/cpu`)];
  const shared = ["CMakeLists.txt", "common.h", "scalar_ops.h"].map((f) => `${ROOT}/csrc/${f}`);
  for (const path of [...files, ...shared]) text.push(path, Deno.readTextFileSync(path));
  return await sha256(new TextEncoder().encode(text.join("\0")));
}

/**
 * Builds one of the libraries into `build/` unless it is up to date.
 *
 * @throws {Error} If a tool is missing or the compiler refuses the sources.
 */
export async function buildCuda(
  target: CudaTarget,
  tools: Tools,
  options: CudaBuildOptions = {},
): Promise<void> {
  const variant = options.sanitize === true ? `${target}-sanitized` : target;
  const file = libraryFileName(target), stamp = `${BUILD}/stamp-${variant}`;
  const place = options.sanitize === true ? `${BUILD}/sanitized` : BUILD;
  const shown = place.slice(ROOT.length + 1);
  const start = performance.now();
  const real: string[] = [];
  if (target === "cuda") {
    real.push("-DNEEDLE_CUDA=ON", `-DCMAKE_CUDA_COMPILER=${await findNvcc()}`);
    const { architectures } = options;
    if (architectures !== undefined) real.push(`-DNEEDLE_CUDA_ARCHITECTURES=${architectures}`);
  }
  if (options.sanitize === true) real.push("-DNEEDLE_SANITIZE=ON");
  const key = await keyOf([JSON.stringify(tools), ...real]);
  if (options.force !== true && readText(stamp) === key && exists(`${place}/${file}`)) {
    if (options.quiet !== true) say(variant, `${shown}/${file} is up to date`);
    return;
  }
  const folder = `${BUILD}/cmake-${variant}`;
  const configured = await run(tools.cmake, [
    ...["-S", `${ROOT}/csrc`, "-B", folder, ...tools.generator],
    "-DCMAKE_BUILD_TYPE=Release",
    `-DCMAKE_CXX_COMPILER=${tools.compiler}`,
    `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${folder}/lib`,
    `-DNEEDLE_VERSION=${VERSION}`,
    `-DNEEDLE_WERROR=${env("CI") === undefined ? "OFF" : "ON"}`,
    ...real,
  ]);
  if (!configured.ok) throw new Error(`CMake failed:\n${lastLines(configured.output, 40)}`);
  const compiler = /NEEDLE_CUDA: (.*)/.exec(configured.output)?.[1];
  if (compiler !== undefined) say("nvcc", compiler);
  say("build", target === "cuda" ? "compiling, which takes minutes" : "compiling the emulation");
  const jobs = String(navigator.hardwareConcurrency);
  const built = await run(tools.cmake, [
    ...["--build", folder, "-j", jobs, "--target", `needle_${target}`],
  ]);
  if (!built.ok) throw new Error(`Compiling failed:\n${lastLines(built.output, 60)}`);
  Deno.mkdirSync(place, { recursive: true });
  publish(`${folder}/lib/${file}`, `${place}/${file}`);
  writeWhole(stamp, key);
  say(variant, `${shown}/${file} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
}
