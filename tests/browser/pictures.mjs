// Pictures of the page for README and docs: node pictures.mjs FOLDER. Run by `make pictures`.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { go, logIn, open } from "./browser.mjs";

const folder = process.argv[2];
const PICTURES = [
  ["overview", "#/", "Overview", {}],
  ["overview-dark", "#/", "Overview", { colorScheme: "dark" }],
  ["messages", "#/queues/%2F/failed?tab=messages", "failed", {}],
  ["stream", "#/queues/%2F/readings?tab=messages", "readings", {}],
  ["delayed", "#/delayed/%2F/deadlines", "deadlines", {}],
  ["topology", "#/topology", "Topology", { height: 700 }],
  ["phone", "#/queues", "Queues", { width: 390, height: 760, colorScheme: "dark" }],
];

mkdirSync(folder, { recursive: true });
const browser = await open();
await new Promise((resolve) => setTimeout(resolve, Number(process.env.WARM_UP_MS ?? 70_000))); // there are rates of a minute then
for (const [name, address, heading, how] of PICTURES) {
  const page = await logIn(browser, how);
  await go(page, address, heading);
  await page.evaluate(() => (document.documentElement.style.scrollbarGutter = "auto")); // no scrollbar is drawn
  await page.mouse.move(640, 2);
  await page.waitForTimeout(1500);
  await page.screenshot({ path: join(folder, `${name}.png`) });
  await page.context().close();
}
await browser.close();
