// The page in a real browser: each screen is opened, its main action is done, and axe-core has no serious finding; in
// light and dark, 1280 and 390 pixels wide. Run by `make browser`; NODE_MODULES, PAGE_URL and CHROMIUM say with what.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, describe, it } from "node:test";
import { base, go, logIn, modules, open } from "./browser.mjs";

const axe = modules.resolve("axe-core/axe.min.js");
const HOSTILE = '<img src=x onerror="document.title=1">';
const SCREENS = [
  ["#/", "Overview"], ["#/queues", "Queues"], ["#/queues/%2F/invoices", "invoices"], ["#/queues/%2F/failed?tab=messages", "failed"], ["#/queues/%2F/orders.paid?tab=consumers", "orders.paid"],
  ["#/queues/%2F/invoices?tab=bindings", "invoices"], ["#/queues/%2F/invoices?tab=publish", "invoices"], ["#/exchanges", "Exchanges"], ["#/exchanges/%2F/orders", "orders"], ["#/exchanges/%2F/amq.default", "(default)"], ["#/bindings", "Bindings"],
  ["#/topology", "Topology"], ["#/explain?vhost=%2F&exchange=orders&key=order.1.paid", "Explain a route"], ["#/drops", "Dropped messages"], ["#/trace", "Trace"], ["#/trace?tab=files", "Trace"], ["#/publish", "Publish"],
  ["#/connections", "Connections"], ["#/channels", "Channels"], ["#/consumers", "Consumers"], ["#/users", "Users"], ["#/users/guest", "guest"], ["#/vhosts", "Virtual hosts"], ["#/vhosts/%2F", "/"],
  ["#/queues/%2F/readings?tab=messages", "readings"], ["#/delayed", "Delayed messages"], ["#/delayed/%2F/deadlines", "deadlines"], ["#/delayed/%2F/reminders", "reminders"], ["#/exchanges/%2F/deadlines", "deadlines"],
  ["#/shovels", "Shovels"], ["#/federation", "Federation"],
  ["#/policies", "Policies"], ["#/definitions", "Definitions"], ["#/nodes", /Node/], ["#/log", "Log"], ["#/nothing", null],
];

let browser;
before(async () => {
  browser = await open();
});
after(() => browser.close());

async function findings(page) {
  const source = await readFile(axe, "utf8");
  await page.evaluate(source); // by the debugger: the page's policy lets no such script in
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter((one) => ["serious", "critical"].includes(one.impact)).map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.failureSummary.split("\n")[1] ?? ""}`).join(" | ")}`);
}

for (const colorScheme of ["light", "dark"])
  for (const width of [1280, 390])
    describe(`${colorScheme}, ${width} pixels wide`, () => {
      it("each screen opens, fits, and has no serious finding", async () => {
        const problems = [];
        const page = await logIn(browser, { width, colorScheme, problems });
        for (const [address, heading] of SCREENS) {
          await go(page, address, heading);
          for (const finding of await findings(page)) problems.push(`${address}: ${finding}`);
          const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          if (beyond > 0) problems.push(`${address}: ${beyond} pixels too wide`);
        }
        await page.context().close();
        assert.deepEqual(problems, []);
      });
    });

describe("what can be done", () => {
  const problems = [];
  let page;
  before(async () => {
    page = await logIn(browser, { problems });
  });
  after(async () => {
    await page.context().close();
    assert.deepEqual(problems, []);
  });
  const note = (text) => page.locator(".note", { hasText: text }).waitFor();
  const button = (name, within = page) => within.getByRole("button", { name, exact: true });

  it("logging in with a wrong password says so", async () => {
    const context = await browser.newContext();
    const stranger = await context.newPage();
    await stranger.goto(base);
    await stranger.getByLabel("User").fill("guest");
    await stranger.getByLabel("Password").fill("wrong");
    await button("Log in", stranger).click();
    await stranger.getByText("That is no user and password of this broker.").waitFor();
    await context.close();
  });

  it("the overview begins with what is wrong, and leads there", async () => {
    await go(page, "#/", "Overview");
    await page.locator(".problems a", { hasText: /^failed/ }).click();
    await page.getByRole("heading", { level: 1, name: "failed" }).waitFor();
  });

  it("curves show ten minutes, an hour or a day, as the address says, and what they were where somebody points", async () => {
    await go(page, "#/", "Overview");
    await button("1 day").click();
    await page.waitForFunction(() => location.hash.includes("last=day"));
    await page.getByText("24 h ago").first().waitFor();
    await go(page, "#/queues/%2F/invoices?last=hour", "invoices");
    await page.getByText("1 h ago").first().waitFor();
    assert.equal(await button("1 hour").getAttribute("aria-pressed"), "true");
    await button("10 min").click();
    await page.waitForFunction(() => !location.hash.includes("last="));
    await page.locator(".chart svg").first().hover();
    await page.locator(".chart-times b").waitFor();
  });

  it("what carries nothing is wrong, too, and says why", async () => {
    await go(page, "#/", "Overview");
    await page.locator(".problems a", { hasText: "old-broker" }).getByText(/cannot be reached/).waitFor();
    await page.locator(".problems a", { hasText: "old-broker" }).click();
    await page.getByRole("heading", { level: 1, name: "Shovels" }).waitFor();
  });

  it("queues are found, the filter stands in the address, and a name is never HTML", async () => {
    await go(page, "#/queues", "Queues");
    await page.keyboard.press("/");
    await page.keyboard.type("onerror");
    await page.getByText(HOSTILE, { exact: true }).waitFor();
    await page.waitForFunction(() => location.hash.includes("name=onerror"));
    assert.equal(await page.locator("main img").count(), 0);
    assert.notEqual(await page.title(), "1");
    await page.getByText(HOSTILE, { exact: true }).click();
    await page.getByRole("heading", { level: 1, name: HOSTILE }).waitFor();
  });

  it("only the rows that can be seen are there, and those below come when they are scrolled to", async () => {
    await go(page, "#/queues", "Queues");
    await page.locator(".q-body a").first().waitFor();
    assert.ok((await page.locator(".q-body .q-row").count()) <= 80);
    await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
    await page.getByText("tenant.0299.events", { exact: true }).waitFor();
  });

  it("columns are chosen, stand in the address, and are there again the next time", async () => {
    await go(page, "#/queues", "Queues");
    await page.getByText("Columns", { exact: true }).click();
    await page.getByLabel("Bytes ready").check();
    await page.getByLabel("Features").uncheck();
    await page.getByRole("columnheader", { name: "Bytes ready" }).waitFor();
    await page.waitForFunction(() => location.hash.includes("bytes") && !location.hash.includes("features"));
    await page.keyboard.press("Escape");
    await page.goto(base);
    await go(page, "#/queues", "Queues");
    await button("Bytes ready").click();
    await page.waitForFunction(() => location.hash.includes("sort=bytes"));
    await page.getByText("Columns", { exact: true }).click();
    await page.getByLabel("Bytes ready").uncheck();
    await page.getByLabel("Features").check();
    await page.waitForFunction(() => !location.hash.includes("columns"));
    await page.getByRole("columnheader", { name: "Features" }).waitFor();
  });

  it("a queue is added, published to, read without being emptied, purged and deleted, which can be undone", async () => {
    await go(page, "#/queues", "Queues");
    await button("Add a queue").click();
    await page.getByLabel("Name").fill("made by hand/1");
    await page.getByLabel("Arguments").fill("x-max-length = 10");
    await button("Add queue").click();
    await page.getByRole("heading", { level: 1, name: "made by hand/1" }).waitFor();
    await page.getByText("x-max-length", { exact: true }).waitFor();
    await page.getByRole("link", { name: "Publish", exact: true }).last().click();
    await page.getByLabel("Body").fill('{"hello": "world"}');
    await button("Publish").click();
    await note("Published.");
    await page.getByRole("link", { name: "Messages", exact: true }).click();
    await page.locator(".payload .json-key").waitFor();
    await button("Hex").click();
    await page.getByText("000000  7b 22 68").waitFor();
    await button("Purge").click();
    await note("Purging 1 message");
    await page.keyboard.press("z");
    await note("Nothing was done.");
    await button("Purge").click();
    await button("Now").click();
    await note("Purged.");
    await button("Delete").first().click();
    await button("Now").click();
    await note("Queue made by hand/1 is deleted.");
    await page.getByRole("heading", { level: 1, name: "Queues" }).waitFor();
  });

  it("what is typed stays, though the numbers behind it change", async () => {
    await go(page, "#/queues/%2F/audit", "audit");
    await button("Get").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("How many").fill("7");
    await page.waitForFunction((before) => document.querySelector(".figure .value").textContent !== before, await page.locator(".figure .value").first().textContent());
    assert.equal(await dialog.getByLabel("How many").inputValue(), "7");
    await button("Cancel", dialog).click();
  });

  it("messages are searched by what stands in their headers", async () => {
    await go(page, "#/queues/%2F/failed?tab=messages&find=header.attempt:2", "failed");
    await page.locator(".message-list li").first().waitFor();
    await page.getByText("How it came here").waitFor();
    await page.getByText(/was rejected/).first().waitFor();
    assert.ok((await page.locator(".message-list li").count()) < 6);
  });

  it("an exchange is added, bound, and deleted", async () => {
    await go(page, "#/exchanges?add=true", "Exchanges");
    await page.getByLabel("Name", { exact: true }).fill("by-hand");
    await page.getByLabel("Type").selectOption("topic");
    await button("Add exchange").click();
    await page.getByRole("heading", { level: 1, name: "by-hand" }).waitFor();
    await button("Add a binding").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Its name").fill("audit");
    await dialog.getByLabel("Routing key").fill("a.#");
    await button("Bind", dialog).click();
    await page.getByRole("cell", { name: "a.#", exact: true }).waitFor();
    await button("Delete").click();
    await button("Now").click();
    await note("Exchange by-hand is deleted.");
  });

  it("the topology shows what leads where, and picks one by keyboard", async () => {
    await go(page, "#/topology", "Topology");
    await page.getByRole("button", { name: /exchange everything fanout [1-9]/ }).waitFor(); // which other exchanges feed
    await page.getByRole("button", { name: /exchange orders/ }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("link", { name: "Only around it" }).click();
    await button("Show all").waitFor();
  });

  it("a policy shows what it would match before it is saved", async () => {
    await go(page, "#/policies", "Policies");
    await button("Add a policy").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name", { exact: true }).fill("tenants");
    await dialog.getByLabel("Priority").fill("7");
    await dialog.getByLabel("Pattern of names").fill("^tenant\\.");
    await dialog.getByText("matches 300 of").waitFor();
    await dialog.getByLabel("Definition").fill("max-length = 1000");
    await button("Save", dialog).click();
    await note("The policy is in force.");
    await page.getByRole("row", { name: /tenants/ }).getByRole("cell", { name: "7", exact: true }).waitFor();
  });

  it("a user is added, allowed something, and deleted by typing the name", async () => {
    await go(page, "#/users", "Users");
    await button("Add a user").click();
    await page.getByLabel("Name").fill("ada");
    await page.getByLabel("Password").fill("a long password");
    await button("Add user").click();
    await page.getByRole("heading", { level: 1, name: "ada" }).waitFor();
    await button("Allow").click();
    await button("Allow", page.getByRole("dialog")).click();
    await page.getByRole("cell", { name: ".*" }).first().waitFor();
    const dialog = page.getByRole("dialog");
    await button("Restrict").click();
    await dialog.getByLabel("Topic exchange").fill("orders");
    await dialog.getByLabel("Write").fill("^order\\.ada");
    await button("Allow", dialog).click();
    await page.getByRole("cell", { name: "^order\\.ada" }).waitFor();
    await button("lift the restriction on orders").click();
    await button("Now").click();
    await page.getByText("Every key will do, as far as").waitFor();
    await button("Delete").click();
    assert.ok(await button("Delete user", dialog).isDisabled());
    await dialog.getByLabel(/Type/).fill("ada");
    await button("Delete user", dialog).click();
    await page.getByRole("heading", { level: 1, name: "Users" }).waitFor();
  });

  it("definitions are exported and imported", async () => {
    await go(page, "#/definitions", "Definitions");
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download definitions.json" }).click()]);
    const file = await download.path();
    assert.ok(JSON.parse(await readFile(file, "utf8")).queues.length > 300);
    await page.getByLabel("File").setInputFiles(file);
    await page.getByRole("button", { name: /^Import/ }).click();
    await note("All of it is in force.");
  });

  it("messages go back to where they died, counted first", async () => {
    await go(page, "#/queues/%2F/failed?tab=messages&find=header.attempt:1", "failed");
    await page.locator(".message-list li").first().waitFor();
    await button("Move").click();
    const dialog = page.getByRole("dialog");
    await dialog.locator("select").selectOption("origin");
    await button("Count first", dialog).click();
    await dialog.getByText(/messages? would be moved/).waitFor();
    await dialog.getByRole("list", { name: "some of them" }).getByRole("listitem").first().waitFor();
    await dialog.getByRole("button", { name: /^Move \d/ }).click();
    await note(/messages? moved/);
  });

  it("a stream is looked through by offset, by time and by what is in it, and nothing is taken out", async () => {
    await go(page, "#/queues?type=stream", "Queues");
    await page.getByRole("link", { name: "readings", exact: true }).click();
    await page.getByRole("link", { name: "Entries", exact: true }).click();
    const first = page.locator(".message-list b").first();
    const begins = (offset) => page.waitForFunction((wanted) => document.querySelector(".message-list b")?.textContent === wanted, offset);
    await first.waitFor();
    await button("Oldest").click();
    await begins("0");
    await page.getByLabel("offset to begin with").fill("123");
    await button("Go there").click();
    await begins("123");
    await button("Further on").click();
    await begins("173");
    await button("an hour ago").click();
    await begins("0");
    await page.getByLabel("Text, header.a:1").fill("json.sensor:hall-3");
    await begins("3");
    await page.locator(".message-list button").nth(1).click();
    await page.getByRole("region", { name: "an entry" }).getByText("10", { exact: true }).waitFor();
    await page.getByRole("link", { name: "Overview", exact: true }).last().click();
    await page.getByText("Next offset").waitFor();
    await page.getByText(/^\d+ behind at most$/).waitFor();
    assert.equal(await button("Purge").count(), 0);
    await page.getByRole("link", { name: "Consumers", exact: true }).last().click();
    await page.getByRole("columnheader", { name: "Behind" }).waitFor();
    await page.getByRole("cell", { name: /^3\d\d$/ }).waitFor();
  });

  it("what a queue got is replayed to another, counted first", async () => {
    await go(page, "#/queues/%2F/invoices", "invoices");
    await button("Replay").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Only those with").fill("header.attempt:3");
    await dialog.getByLabel("Queue", { exact: true }).fill("mail.w");
    await dialog.locator('datalist option[value="mail.welcome"]').waitFor({ state: "attached" });
    await dialog.getByLabel("Queue", { exact: true }).fill("mail.welcome");
    await button("Count first", dialog).click();
    await dialog.getByText("10 messages would be replayed").waitFor();
    await button("Replay 10", dialog).click();
    await note("10 messages replayed");
  });

  it("what is held back is searched, cancelled and delivered now, counted first", async () => {
    await go(page, "#/exchanges/%2F/deadlines", "deadlines");
    await page.getByText("Held back", { exact: true }).waitFor();
    await page.getByRole("link", { name: "Delayed messages" }).click();
    await page.getByText("63 messages held").waitFor();
    await page.locator(".message-list li").nth(49).waitFor();
    await button("Further on").click();
    await page.getByText(HOSTILE, { exact: true }).waitFor();
    assert.equal(await page.locator("main img").count(), 0);
    await page.getByLabel("Text, key:a.*").fill("header.customer:3");
    await page.waitForFunction(() => document.querySelectorAll(".message-list li").length === 12);
    await button("Cancel").click();
    const dialog = page.getByRole("dialog");
    await button("Count first", dialog).click();
    await dialog.getByText("12 messages would be cancelled").waitFor();
    await button("Cancel 12", dialog).click();
    await page.locator(".note button", { hasText: "Undo" }).click();
    await note("Nothing was done.");
    await dialog.waitFor({ state: "detached" });
    await button("Cancel").click();
    await dialog.getByLabel("At most").fill("2");
    await button("Count first", dialog).click();
    await button("Cancel 2", dialog).click();
    await button("Now").click();
    await note("2 messages cancelled.");
    await page.waitForFunction(() => document.querySelectorAll(".message-list li").length === 10);
    await page.locator(".message-list input").first().check();
    await button("Deliver now").click();
    await dialog.getByText("the 1 message that you marked").waitFor();
    await button("Count first", dialog).click();
    await button("Deliver 1", dialog).click();
    await note("1 message delivered.");
    await page.waitForFunction(() => document.querySelectorAll(".message-list li").length === 9);
    await go(page, "#/delayed", "Delayed messages");
    await page.getByRole("row", { name: /deadlines/ }).getByText("60", { exact: true }).waitFor();
    await page.getByRole("link", { name: "reminders" }).click();
    await page.getByText("Nothing is held back.").waitFor();
  });

  it("a shovel is added, stands still, goes on and is deleted", async () => {
    await go(page, "#/shovels", "Shovels");
    await page.getByRole("cell", { name: /cannot be reached/ }).waitFor();
    await button("Add a shovel").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").first().fill("by-hand");
    await dialog.getByLabel("Name").nth(1).fill("tenant.0003.events");
    await dialog.getByLabel("Name").nth(2).fill("tenant.0004.events");
    await button("Add shovel", dialog).click();
    const row = page.getByRole("row", { name: /by-hand/ });
    await row.getByText("running").waitFor();
    await button("Pause", row).click();
    await row.getByText("paused").waitFor();
    await button("Resume", row).click();
    await row.getByText("running").waitFor();
    await button("delete the shovel by-hand", row).click();
    await button("Now").click();
    await note("The shovel is gone.");
  });

  it("an upstream stands still with its links, and one is added and deleted", async () => {
    await go(page, "#/federation", "Federation");
    const links = page.getByRole("region", { name: "links" });
    await links.getByRole("row", { name: /paris/ }).getByText("running").waitFor();
    await links.getByText(/cannot be reached/).waitFor();
    assert.equal(await page.getByText("secret").count(), 0);
    const tokyo = page.getByRole("region", { name: "upstreams" }).getByRole("row", { name: /tokyo/ });
    await button("Pause", tokyo).click();
    await links.getByRole("row", { name: /tokyo/ }).getByText("paused").waitFor();
    await button("Resume", tokyo).click();
    await button("Add an upstream").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill("oslo");
    await dialog.getByLabel("Address").fill("amqp://oslo.example");
    await dialog.getByLabel("More").fill("max-hops = 2");
    await button("Add upstream", dialog).click();
    await page.getByText("max-hops 2").last().waitFor();
    await button("delete the upstream oslo").click();
    await button("Now").click();
    await note("The upstream is gone.");
  });

  it("a route is explained, binding by binding", async () => {
    await go(page, "#/explain?vhost=%2F&exchange=orders", "Explain a route");
    await page.getByLabel("Routing key").fill("order.1.paid");
    await button("Explain").click();
    await page.locator(".chips").getByText("orders.paid", { exact: true }).waitFor();
    await page.getByText("does not", { exact: true }).first().waitFor();
  });

  it("what was dropped is told with its key, and leads to the route", async () => {
    await go(page, "#/drops", "Dropped messages");
    await page.getByRole("cell", { name: "nobody-listens" }).waitFor();
    await page.getByRole("link", { name: "Explain", exact: true }).first().click();
    await page.getByText("no queue: it would be dropped").waitFor();
  });

  it("messages are traced hop by hop: of a header, of an id, and found by what they are", async () => {
    await go(page, "#/trace", "Trace");
    await page.getByLabel("Headers").fill("order = 1");
    await page.getByLabel("Correlation id").fill("paid");
    await page.getByLabel("Keep at most").fill("50");
    await page.getByLabel("keep the first 1,024 bytes").check();
    await button("Start").click();
    await page.getByText("correlation id paid, header order = 1").waitFor();
    const publish = async (id, correlation) => {
      await go(page, "#/publish", "Publish");
      await page.getByLabel("Exchange").fill("orders");
      await page.getByLabel("Routing key").fill("order.1.paid");
      await page.getByLabel("Body").fill(`{"id": "${id}"}`);
      await page.getByLabel("Message id").fill(id);
      await page.getByLabel("Correlation id").fill(correlation);
      await page.getByLabel("Headers").fill("order = 1");
      await button("Publish").click();
      await page.locator(".before li", { hasText: id }).waitFor();
    };
    await publish("first", "paid");
    await publish("other", "unpaid");
    await publish("second", "paid");
    await go(page, "#/trace", "Trace");
    await page.getByText("2 messages kept").waitFor();
    await page.getByText("acknowledged", { exact: true }).first().waitFor();
    await page.getByLabel("Find by message id").fill("first");
    await page.waitForFunction(() => location.hash.includes("message_id=first") && document.querySelectorAll(".hops").length === 1);
    const traced = page.locator(".panel", { has: page.locator(".hops") });
    await traced.getByText("Body", { exact: true }).click();
    await traced.locator(".payload .json-key").waitFor();
    await traced.getByRole("button", { name: "paid", exact: true }).click();
    await page.waitForFunction(() => document.querySelectorAll(".hops").length === 2);
    await go(page, "#/trace?message_id=other", "Trace");
    await page.getByText("No message with that id was seen.").waitFor();
    await button("Trace it").click();
    assert.equal(await page.getByLabel("Message id", { exact: true }).inputValue(), "other");
    await button("Cancel").click();
    await button("Stop").click();
    await note("The trace has stopped");
    await page.getByText("The trace has stopped. It was of").waitFor();
  });

  it("a message leads to its trace", async () => {
    await go(page, "#/queues/%2F/invoices?tab=messages&find=header.attempt:3", "invoices");
    await page.getByRole("link", { name: "Trace it by its message id" }).click();
    await page.waitForFunction(() => /message_id=m-\d+$/.test(location.hash));
    const id = await page.evaluate(() => location.hash.split("=")[1]);
    await page.getByRole("heading", { name: "Start a trace" }).waitFor();
    assert.equal(await page.getByLabel("Message id", { exact: true }).inputValue(), id);
  });

  it("what goes through a virtual host is written to a file, which is downloaded and deleted", async () => {
    await go(page, "#/trace?tab=files", "Trace");
    await button("Trace to a file").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Name").fill("mail");
    await dialog.getByLabel("Pattern").fill("publish.mail");
    await button("Start", dialog).click();
    await page.getByRole("cell", { name: "publish.mail" }).waitFor();
    const file = page.getByRole("link", { name: "mail.log" });
    await file.waitFor();
    const [download] = await Promise.all([page.waitForEvent("download"), file.click()]);
    assert.match(await readFile(await download.path(), "utf8"), /"exchange":\s*"mail"/);
    await button("stop the trace mail").click();
    await page.getByText("Nothing is written to files.").waitFor();
    await button("delete the file mail.log").click();
    await button("Now").click();
    await note("The file is gone.");
  });

  it("a connection is closed with a reason", async () => {
    await go(page, "#/connections", "Connections");
    await page.getByLabel("Find by name or address").fill("thumbnailer");
    await page.getByText("1 of ").waitFor();
    await page.getByRole("link", { name: "thumbnailer" }).click();
    await button("Close").click();
    await button("Close it").click();
    await note("Closed.");
  });

  it("a log line shows who changed what", async () => {
    await go(page, "#/log", "Log");
    await page.getByText("changed over HTTP").first().waitFor();
  });

  it("keys lead anywhere", async () => {
    await go(page, "#/", "Overview");
    await page.keyboard.press("g");
    await page.keyboard.press("q");
    await page.getByRole("heading", { level: 1, name: "Queues" }).waitFor();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await page.keyboard.press("Escape");
    await page.keyboard.press("Control+k");
    await page.keyboard.type("invoices"); // at once: nothing that is typed is lost
    await page.getByRole("option", { name: /invoices/ }).first().waitFor();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "invoices" }).waitFor();
  });

  it("numbers change by themselves", async () => {
    await go(page, "#/queues/%2F/audit", "audit");
    const ready = page.locator(".figure .value").first();
    const first = await ready.textContent();
    await page.waitForFunction((before) => document.querySelector(".figure .value").textContent !== before, first);
  });

  it("where no stream is to be had, the page asks now and then", async () => {
    const other = await logIn(browser);
    await other.route("**/api/x/events**", (route) => route.fulfill({ status: 503, body: "" }));
    await go(other, "#/queues/%2F/audit", "audit");
    const ready = other.locator(".figure .value").first();
    const first = await ready.textContent();
    await other.waitForFunction((before) => document.querySelector(".figure .value").textContent !== before, first);
    await other.context().close();
  });

  it("who may less sees less", async () => {
    const put = (path, body) => fetch(`${base}api/${path}`, { method: "PUT", headers: { authorization: `Basic ${btoa("guest:guest")}` }, body: JSON.stringify(body) });
    await put("users/bob", { password: "bob", tags: "management" });
    await put("permissions/%2F/bob", { configure: "^bob", write: "", read: "" });
    const other = await logIn(browser, { user: "bob" });
    assert.equal(await other.getByRole("link", { name: "Users", exact: true }).count(), 0);
    await go(other, "#/users");
    await other.getByText("Your user may not see this.").waitFor();
    await go(other, "#/queues?add=true", "Queues");
    await other.getByLabel("Name").fill("not-bobs");
    await button("Add queue", other).click();
    await other.getByRole("alert").getByText("Access refused.").waitFor();
    await other.context().close();
  });

  it("who may not see something is told so, and goes on", async () => {
    const body = JSON.stringify({ password: "mona", tags: "monitoring" });
    await fetch(`${base}api/users/mona`, { method: "PUT", headers: { authorization: `Basic ${btoa("guest:guest")}` }, body });
    const other = await logIn(browser, { user: "mona" });
    await go(other, "#/queues/%2F/audit");
    await other.getByText("Your user may not see or do this: User not authorised to access virtual host.").waitFor();
    await go(other, "#/nodes");
    await other.getByText("File descriptors").first().waitFor();
    await other.context().close();
  });

  it("the theme is switched and kept, and logging out ends the session", async () => {
    await page.getByTitle(/Now auto/).click();
    await page.getByTitle(/Now light/).click();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), "dark");
    await page.reload();
    await page.getByTitle(/Now dark/).waitFor();
    const second = await page.context().newPage();
    await second.goto(base + "#/queues");
    await second.getByRole("heading", { name: "Queues" }).waitFor();
    await button("log out").click();
    for (const one of [page, second]) await one.getByRole("heading", { name: "Log in" }).waitFor();
    await second.close();
    await page.goto(base + "#/queues");
    await page.getByRole("heading", { name: "Log in" }).waitFor();
  });
});
