// MQTT and STOMP as their users have them: mqtt.js and stompjs in a page over a web socket, mqtt.js and stompit over TCP.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { modules, open } from "./browser.mjs";

const mqtt = modules("mqtt");
const stompit = modules("stompit");
const { MQTT_URL, STOMP_URL, WEB_SOCKET_URL } = process.env;

let browser;
before(async () => (browser = await open()));
after(() => browser.close());

test("a page talks MQTT 5 and STOMP over web sockets, one to the other", async () => {
  const page = await browser.newPage();
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  await page.addScriptTag({ path: modules.resolve("mqtt/dist/mqtt.min") });
  await page.addScriptTag({ path: modules.resolve("@stomp/stompjs") });
  const heard = await page.evaluate(async (url) => {
    const stomp = new StompJs.Client({ brokerURL: url, connectHeaders: { login: "guest", passcode: "guest" } });
    await new Promise((resolve) => ((stomp.onConnect = resolve), stomp.activate()));
    const viaStomp = new Promise((resolve) => stomp.subscribe("/topic/rooms.#", resolve));
    await new Promise((resolve) => (stomp.watchForReceipt("r", resolve), stomp.publish({ destination: "/topic/other", body: "", headers: { receipt: "r" } })));
    const device = mqtt.connect(url, { protocolVersion: 5, username: "guest", password: "guest" });
    await new Promise((resolve) => device.once("connect", resolve));
    await device.subscribeAsync("rooms/+/light", { qos: 2 });
    const viaMqtt = new Promise((resolve) => device.once("message", (topic, payload, packet) => resolve([topic, payload.toString(), packet.qos, packet.properties.userProperties.from])));
    await device.publishAsync("rooms/kitchen/light", "on ✓", { qos: 2, properties: { userProperties: { from: "page" } } });
    const { headers, body } = await viaStomp;
    const told = [headers.destination, body, headers.from];
    const answer = await viaMqtt;
    const back = new Promise((resolve) => device.once("message", (topic, payload) => resolve([topic, payload.toString()])));
    stomp.publish({ destination: "/topic/rooms.hall.light", body: "off" });
    const said = await back;
    await device.endAsync();
    await stomp.deactivate();
    return { told, answer, said };
  }, WEB_SOCKET_URL);
  assert.deepEqual(heard, {
    told: ["/topic/rooms.kitchen.light", "on ✓", "page"],
    answer: ["rooms/kitchen/light", "on ✓", 2, "page"],
    said: ["rooms/hall/light", "off"],
  });
  assert.deepEqual(problems, []);
});

for (const protocolVersion of [4, 5]) {
  test(`mqtt.js ${protocolVersion} and stompit over TCP`, async () => {
    const address = new URL(STOMP_URL);
    const connectHeaders = { host: "/", login: "guest", passcode: "guest" };
    const stomp = await new Promise((resolve, reject) =>
      stompit.connect({ host: address.hostname, port: Number(address.port), connectHeaders }, (error, client) => (error ? reject(error) : resolve(client))),
    );
    const got = [];
    const three = new Promise((resolve, reject) =>
      stomp.subscribe({ destination: "/topic/node.#", ack: "client-individual" }, (error, message) => {
        if (error) return reject(error);
        message.readString("utf-8", (failure, body) => {
          stomp.ack(message);
          if (got.push(failure ?? body) === 3) resolve();
        });
      }),
    );
    await new Promise((resolve) => stomp.send({ destination: "/topic/other" }, { onReceipt: resolve }).end(""));  // the subscription is there
    const device = await mqtt.connectAsync(MQTT_URL, { protocolVersion });
    const echoes = [];
    const echoed = new Promise((resolve) => device.on("message", (topic, payload, packet) => echoes.push([topic, payload.toString(), packet.qos]) === 3 && resolve()));
    await device.subscribeAsync("node/#", { qos: 2 });
    for (const qos of [0, 1, 2]) await device.publishAsync("node/a", `of ${qos}`, { qos });
    await Promise.all([three, echoed]);
    assert.deepEqual(got.sort(), ["of 0", "of 1", "of 2"]);
    assert.deepEqual(echoes.sort(), [["node/a", "of 0", 0], ["node/a", "of 1", 1], ["node/a", "of 2", 2]]);
    await device.endAsync();
    await new Promise((resolve) => stomp.disconnect(resolve));
  });
}
