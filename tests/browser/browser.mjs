// What the tests and the pictures share: a browser, and somebody who has logged in.
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

export const modules = createRequire(join(resolve(process.env.NODE_MODULES ?? "build/browser/node_modules"), "index.js"));
const { chromium } = modules("playwright-core");
export const base = process.env.PAGE_URL;

export const open = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--force-color-profile=srgb"] });

/** A page after the login, as wide and as dark as is asked; what goes wrong in it is written into `problems`. */
export async function logIn(browser, { width = 1280, height = 860, colorScheme = "light", problems = [], user = "guest", ...others } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, acceptDownloads: true, reducedMotion: "reduce", ...others });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.on("pageerror", (error) => problems.push(`error in the page: ${error.message}`));
  page.on("console", (message) => message.type() === "error" && problems.push(`console: ${message.text()}`));
  page.on("requestfailed", (request) => !request.url().startsWith(base) && problems.push(`asked for ${request.url()}`));
  await page.goto(base);
  await page.getByLabel("User").fill(user);
  await page.getByLabel("Password").fill(user);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
  return page;
}

/** Go to an address of the page, and wait until it shows what it was asked for. */
export async function go(page, address, heading) {
  await page.goto(base + address);
  if (heading) await page.getByRole("heading", { level: 1, name: heading }).waitFor();
  await page.waitForFunction(() => !document.querySelector(".bone"), undefined, { timeout: 10_000 });
}
