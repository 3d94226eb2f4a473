// examples/browser in a real browser, without a window: it trains, draws its curves, reads digits that are drawn on it,
// hears every control, fits on a phone, and asks nobody but its own server for anything.

import { assert as stdAssert, assertEquals as stdEquals } from "@std/assert";
import { findBrowser, Page } from "./browser_support.ts";
import { bundleFolder, serve } from "./bundle_support.ts";
import { idx } from "./data_support.ts";
import { assertHas, root, withFolder } from "./process_support.ts";
import { readmeBlocks } from "./readme_support.ts";

const assertEquals = stdEquals as <T>(actual: T, expected: T, message?: string) => void;
const assert = stdAssert as (condition: boolean, message?: string) => void;

const program = await findBrowser();
const ignore = program === null;

/** Seconds for things that take one or two; a busy machine takes longer. */
const PATIENCE = 120;

/**
 * Digits as a hand may draw them, not those that the training set is made of: strokes between `;`, points "x y" on a
 * square of 100.
 */
const drawn: Readonly<Record<number, string>> = {
  0: "50 10, 30 20, 22 50, 30 80, 50 90, 70 80, 78 50, 70 20, 50 10",
  1: "50 12, 50 50, 49 90",
  2: "25 30, 35 14, 58 12, 70 28, 60 50, 40 72, 24 88; 24 88, 50 87, 78 88",
  3: "28 18, 50 10, 68 22, 62 40, 46 48, 66 58, 70 76, 50 90, 27 82",
  7: "24 14, 50 14, 76 13, 62 40, 50 65, 43 90",
};

/** Draws one of them. */
async function draw(page: Page, digit: number): Promise<void> {
  const strokes = drawn[digit]!.split("; ").map((stroke) =>
    stroke.split(", ").map((point) => {
      const [x, y] = point.split(" ");
      return [Number(x) / 100, Number(y) / 100] as const;
    })
  );
  await page.draw("#sketch", strokes);
}

/** The text of the element with this id. */
function text(page: Page, id: string): Promise<string> {
  return page.evaluate<string>(`document.getElementById("${id}").textContent`);
}

/** The last value of a curve, as it is written beside its name. */
async function value(page: Page, chart: "loss" | "accuracy", curve: string): Promise<number> {
  const selector = `#${chart}-readout .${curve} b`;
  return parseFloat(await page.evaluate(`document.querySelector("${selector}").textContent`));
}

/** Opens the page and waits until it can be used. */
async function open(page: Page, origin: string): Promise<void> {
  await page.go(`${origin}/examples/browser/`);
  await page.until(`!document.getElementById("start").disabled`, PATIENCE);
}

/** Chooses an option as a user does. */
async function choose(page: Page, id: string, option: string): Promise<void> {
  await page.evaluate(`(() => { const e = document.getElementById("${id}");
    e.value = "${option}"; e.dispatchEvent(new Event("change")); })()`);
}

/** Serves the page and the bundle as they lie in the repository. */
async function site(): Promise<ReturnType<typeof serve>> {
  return serve({
    "/examples/browser": `${root}examples/browser`,
    "/dist": await bundleFolder(),
  });
}

Deno.test({
  name: "the page learns digits, and reads those that are drawn on it",
  ignore,
  fn: async (t) => {
    await using server = await site();
    await using page = await Page.open(program!);
    await page.look(1180, 900, "light");
    await open(page, server.origin);
    const points = (chart: string, curve: string): Promise<number> =>
      page.evaluate(`document.querySelector("#${chart}-chart .curve.${curve}").points.length`);

    await t.step("start: it trains in a worker, and both curves are drawn", async () => {
      assertEquals(await text(page, "start"), "Start");
      await page.click("#start");
      const curve = `document.querySelector("#loss-chart .curve.test")`;
      await page.until(`${curve}.points.length >= 2`, PATIENCE);
      assertEquals(await text(page, "start"), "Pause");
      for (const chart of ["loss", "accuracy"]) {
        assert(await points(chart, "train") > 0 && await points(chart, "test") > 0, chart);
      }
    });

    await t.step("a drawing is answered while it trains", async () => {
      await draw(page, 1);
      await page.until(`document.getElementById("answer").textContent !== "–"`, PATIENCE);
      assertEquals(await text(page, "start"), "Pause");
      const percents = await page.evaluate<number[]>(
        `[...document.querySelectorAll("#bars .percent")].map((e) => parseFloat(e.textContent))`,
      );
      assertEquals(percents.length, 10);
      const sum = percents.reduce((a, b) => a + b, 0);
      assert(Math.abs(sum - 100) < 5, percents.join(" "));
    });

    await t.step("the loss falls and the test set is read", async () => {
      const good = `parseFloat(document.getElementById("accuracy").textContent) >= 93`;
      await page.until(good, 5 * PATIENCE); // other tests may hold the cores
      assert(await value(page, "loss", "test") < 0.5);
      assert(await value(page, "loss", "train") < 0.7);
      const wrong = await page.evaluate<number>(`document.querySelectorAll(".wrong").length`);
      assert(wrong < 8, `${wrong} of 40 wrong`);
    });

    await t.step("pause: no more steps", async () => {
      await page.click("#start");
      await page.until(`document.getElementById("start").textContent === "Start"`, PATIENCE);
      const steps = await text(page, "step");
      await new Promise((resolve) => setTimeout(resolve, 500));
      assertEquals(await text(page, "step"), steps);
    });

    for (const digit of Object.keys(drawn).map(Number)) {
      await t.step(`a drawn ${digit} is read as one`, async () => {
        await page.click("#clear");
        assertEquals(await text(page, "answer"), "–");
        await draw(page, digit);
        const read = `document.getElementById("answer").textContent`;
        await page.until(`${read} === "${digit}"`, 20).catch(async (error) => {
          throw new Error(`${digit} is read as ${await page.evaluate(read)}`, { cause: error });
        });
      });
    }

    await t.step("a digit of the test set is read when it is pressed", async () => {
      await page.click("#clear");
      const tile = "#gallery button:not(.wrong)";
      const label = await page.evaluate<string>(
        `document.querySelector("${tile}").innerText.trim()`,
      );
      await page.click(tile);
      await page.until(`document.getElementById("answer").textContent === "${label}"`, PATIENCE);
    });

    await t.step("another optimiser: its usual rate, and training goes on", async () => {
      await choose(page, "optimizer", "sgd");
      assertEquals(await page.evaluate(`document.getElementById("lr").value`), "0.1");
      await choose(page, "lr", "0.03");
      const before = Number((await text(page, "step")).replace(",", ""));
      await page.click("#start");
      const step = `Number(document.getElementById("step").textContent.replace(",", ""))`;
      await page.until(`${step} > ${before + 10}`, PATIENCE);
      assert(await value(page, "loss", "train") < 1);
    });

    await t.step("reset: a new net, still training", async () => {
      const loss = `parseFloat(document.querySelector("#loss-readout .test b").textContent)`;
      const before = await value(page, "loss", "test");
      await page.click("#reset");
      await page.until(`${loss} > ${before}`, PATIENCE);
      assertEquals(await text(page, "start"), "Pause");
      await page.click("#start");
    });

    await t.step("on a phone nothing is wider than the window; dark is dark", async () => {
      const paper = `getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)`;
      for (const [width, height] of [[1180, 900], [390, 844], [320, 568]] as const) {
        for (const scheme of ["light", "dark"] as const) {
          await page.look(width, height, scheme);
          const wide = await page.evaluate<number>(`document.documentElement.scrollWidth`);
          assert(wide <= width, `${wide} pixels on ${width}`);
          const [red = NaN] = await page.evaluate<number[]>(paper);
          assert(scheme === "light" ? red > 200 : red < 60, `${scheme}: ${red}`);
        }
      }
    });

    assertEquals(page.errors, []);
    assertEquals(page.requests.filter((url) => !url.startsWith(`${server.origin}/`)), []);
  },
});

Deno.test({
  name: "the page trains on MNIST's files, and says what is wrong with others",
  ignore,
  fn: () =>
    withFolder(async (folder) => {
      await using server = await site();
      await using page = await Page.open(program!);
      await open(page, server.origin);
      const pick = async (...files: string[]): Promise<void> => {
        const { root: document } = await page.send("DOM.getDocument") as {
          root: { nodeId: number };
        };
        const { nodeId } = await page.send("DOM.querySelector", {
          nodeId: document.nodeId,
          selector: "#files",
        });
        const paths = files.map((name) => `${folder}/${name}`);
        await page.send("DOM.setFileInputFiles", { nodeId, files: paths });
      };
      const bytes = new Uint8Array(200 * 784).map((_, i) => i * i % 251);
      await Deno.writeFile(`${folder}/images`, idx(0x803, [200, 28, 28], bytes));
      await Deno.writeFile(
        `${folder}/labels`,
        idx(0x801, [200], bytes.subarray(0, 200).map((v) => v % 10)),
      );
      await Deno.writeTextFile(`${folder}/letter.txt`, "Dear net, please learn this by heart.");
      await pick("letter.txt");
      const status = `document.getElementById("status").textContent`;
      await page.until(`${status}.includes("Cannot use letter.txt")`, PATIENCE);
      await pick("images");
      await page.until(`${status}.includes("pick the file of their labels")`, PATIENCE);
      await pick("images", "labels");
      await page.until(`${status} === "180 MNIST to train on, 20 to test"`, PATIENCE);
      await page.click("#start");
      await page.until(`document.getElementById("accuracy").textContent !== "–"`, PATIENCE);
      assertEquals(await page.evaluate(`document.getElementById("data").value`), "files");
      assertEquals(page.errors, []);
    }),
});

Deno.test({
  name: "without the bundle the page says how to make it",
  ignore,
  fn: async () => {
    await using server = serve({ "/examples/browser": `${root}examples/browser` });
    await using page = await Page.open(program!);
    await page.go(`${server.origin}/examples/browser/`);
    await page.until(`document.getElementById("status").textContent !== "Loading …"`, PATIENCE);
    assertHas(await text(page, "status"), "run deno task bundle");
  },
});

Deno.test({
  name: "README: a page of one's own runs the bundle",
  ignore,
  fn: () =>
    withFolder(async (folder) => {
      const blocks = await readmeBlocks("## From a URL, in one file, in a browser");
      const html = blocks.find(({ language }) => language === "html")!.text;
      await Deno.writeTextFile(`${folder}/index.html`, `<!DOCTYPE html><body>${html}`);
      await Deno.copyFile(`${await bundleFolder()}/needle.js`, `${folder}/needle.js`);
      await using server = serve({ "/": folder });
      await using page = await Page.open(program!);
      await page.go(`${server.origin}/`);
      await page.until(`document.body.innerText.includes("tensor")`, PATIENCE);
      assertEquals(await page.evaluate(`document.body.innerText.trim()`), "tensor([0, 1, 4, 9])");
    }),
});
