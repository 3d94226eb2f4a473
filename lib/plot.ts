/**
 * Curves as SVG, for reports of training: `@needle/needle/plot`. Drawn by Vega-Lite, which is loaded only when a plot is
 * made, so that the library itself depends on nothing: Deno fetches it; for Node, `npm install vega vega-lite`.
 * @module
 */
import { checkOptions } from "./options.ts";

/** One line of a plot. */
export interface Curve {
  /** Its name in the legend. */
  readonly name: string;
  /** Its points, [x, y]; those that are not finite are left out. */
  readonly points: readonly (readonly [number, number])[];
}

/** Axes with their curves. */
export interface Panel {
  /** What is along y. */
  readonly yLabel: string;
  /** The lines. */
  readonly curves: readonly Curve[];
  /** Whether y is logarithmic (default false). */
  readonly logarithmic?: boolean;
}

/** Options of {@linkcode plotSvg}. */
export interface PlotOptions {
  /** Above everything. */
  readonly title?: string;
  /** What is along x (default "epoch"). */
  readonly xLabel?: string;
  /** Of one panel, in pixels (default 360). */
  readonly width?: number;
  /** Of one panel, in pixels (default 260). */
  readonly height?: number;
}

/** What is used of Vega. */
interface Vega {
  parse(spec: unknown): unknown;
  View: new (runtime: unknown, options: { renderer: "none" }) => {
    toSVG(): Promise<string>;
    finalize(): void;
  };
}

/** What is used of Vega-Lite. */
interface VegaLite {
  compile(spec: unknown): { spec: unknown };
}

const versions = { "vega": "6.4.0", "vega-lite": "6.5.0" };

/** Loads one of the packages; the name is computed so that nothing is fetched unless a plot is made. */
async function load<T>(name: keyof typeof versions): Promise<T> {
  const specifier = "Deno" in globalThis ? `npm:${name}@${versions[name]}` : name;
  try {
    return await import(specifier) as T;
  } catch (cause) {
    throw new Error(
      `Cannot plot: ${specifier} could not be loaded; it needs the network once, or ` +
        `npm install vega@${versions.vega} vega-lite@${versions["vega-lite"]} in Node`,
      { cause },
    );
  }
}

/** Loads what draws, so that a program can learn before its work whether it will be able to plot. */
export async function loadPlotter(): Promise<void> {
  await Promise.all([load("vega"), load("vega-lite")]);
}

// Okabe & Ito's colours, which colour-blind readers can tell apart.
const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

function panelSpec(panel: Panel, names: readonly string[], options: PlotOptions): unknown {
  const values = panel.curves.flatMap(({ name, points }) =>
    points.filter((p) => p.every(Number.isFinite)).map(([x, y]) => ({ x, y, curve: name }))
  );
  const xs = new Set(values.map((v) => v.x));
  const whole = [...xs].every(Number.isInteger);
  return {
    width: options.width ?? 360,
    height: options.height ?? 260,
    data: { values },
    mark: { type: "line", point: { size: 24 }, strokeWidth: 2 },
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        title: options.xLabel ?? "epoch",
        scale: { zero: false, nice: false },
        axis: whole ? { tickMinStep: 1, format: "d", tickCount: Math.min(10, xs.size) } : {},
      },
      y: {
        field: "y",
        type: "quantitative",
        title: panel.yLabel,
        scale: panel.logarithmic === true ? { type: "log", nice: false } : { zero: false },
      },
      color: {
        field: "curve",
        type: "nominal",
        scale: { domain: names, range: colours },
        legend: { title: null, orient: "top" },
      },
    },
  };
}

/**
 * Draws panels side by side, each with axes and all with one legend.
 *
 * ```ts ignore
 * import { plotSvg } from "./plot.ts";
 * const svg = await plotSvg([{
 *   yLabel: "loss",
 *   curves: [{ name: "train", points: [[1, 2.3], [2, 1.9], [3, 1.7]] }],
 * }]);
 * console.log(svg.startsWith("<svg")); // true
 * ```
 *
 * @returns the text of an SVG file
 * @throws {RangeError} Where there is nothing finite to draw, or a logarithmic panel has a value that is not positive.
 * @throws {Error} Where Vega cannot be loaded.
 */
export async function plotSvg(
  panels: readonly Panel[],
  options: PlotOptions = {},
): Promise<string> {
  checkOptions("plotSvg", options, ["title", "xLabel", "width", "height"]);
  for (const panel of panels) {
    const ys = panel.curves.flatMap((c) =>
      c.points.filter((p) => p.every(Number.isFinite)).map(([, y]) => y)
    );
    if (ys.length === 0) {
      throw new RangeError(`Cannot plot ${panel.yLabel}: there is no finite point`);
    }
    const low = ys.reduce((a, b) => Math.min(a, b));
    if (panel.logarithmic === true && low <= 0) {
      throw new RangeError(`Cannot plot ${panel.yLabel} on a logarithmic axis: ${low} is among it`);
    }
  }
  if (panels.length === 0) throw new RangeError("Cannot plot nothing: give at least one panel");
  const names = [...new Set(panels.flatMap((p) => p.curves.map((c) => c.name)))];
  const [vega, { compile }] = await Promise.all([load<Vega>("vega"), load<VegaLite>("vega-lite")]);
  const { spec } = compile({
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    background: "white",
    padding: 12,
    ...(options.title === undefined
      ? {}
      : { title: { text: options.title, anchor: "middle", fontSize: 15 } }),
    hconcat: panels.map((panel) => panelSpec(panel, names, options)),
    config: {
      font: "sans-serif",
      axis: {
        gridColor: "#e5e5e5",
        labelFontSize: 11,
        titleFontSize: 12,
        titleFontWeight: "normal",
      },
      legend: { labelFontSize: 12 },
      view: { stroke: "#cccccc" },
    },
  });
  const view = new vega.View(vega.parse(spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
