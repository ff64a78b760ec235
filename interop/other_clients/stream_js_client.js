// Node's rabbitmq-stream-js-client: stream_js_client.js PORT STREAM. It prints what the client sees.
const { Offset, connect } = require("rabbitmq-stream-js-client");
const { CompressionType } = require("rabbitmq-stream-js-client/dist/compression");

const [port, stream] = process.argv.slice(2);
const address = { hostname: "127.0.0.1", port: Number(port), username: "guest", password: "guest", vhost: "/", heartbeat: 0 };
const say = (...words) => process.stdout.write(words.join(" ") + "\n");
console.log = () => {}; // where the client says that it closes

const shown = (messages) => messages.map(({ offset, content }) => `${offset}:${content}`).join(" ");

// Waits until so many publishing ids are confirmed, or refused.
function confirms(publisher, count) {
  return new Promise((resolve) => {
    const ids = [];
    publisher.on("publish_confirm", (error, some) => {
      ids.push(...some.map((id) => (error ? `${id} refused ${error}` : `${id}`)));
      if (ids.length >= count) resolve(ids.join(" "));
    });
  });
}

// So many messages from a place on.
async function read(client, name, offset, count, more) {
  const found = [];
  let finish;
  const all = new Promise((resolve) => { finish = resolve; });
  const consumer = await client.declareConsumer({ stream: name, offset, ...more }, (message) => {
    found.push(message);
    if (found.length === count) finish();
  });
  await all;
  await client.closeConsumer(consumer.extendedId);
  return found;
}

async function refused(what, attempt) {
  try {
    await attempt();
    say(what, "went well");
  } catch (error) {
    say(what, error.message);
  }
}

async function main() {
  const client = await connect(address);
  say("created", await client.createStream({ stream, arguments: { "max-age": "1D" } }));
  await refused("deleted", () => client.deleteStream({ stream: "nowhere" }));
  await refused("published", () => client.declarePublisher({ stream: "nowhere" }));

  const publisher = await client.declarePublisher({ stream, publisherRef: "name" });
  let confirmed = confirms(publisher, 5);
  for (let number = 1; number <= 5; number++) await publisher.send(Buffer.from(`m${number}`));
  say("confirmed", await confirmed);
  say("last id", await publisher.getLastPublishingId());
  confirmed = confirms(publisher, 2);
  await publisher.basicSend(3n, Buffer.from("again"));
  await publisher.basicSend(6n, Buffer.from("m6"));
  await publisher.flush();
  say("confirmed", await confirmed);

  say("first", shown(await read(client, stream, Offset.first(), 6)));
  say("offset", shown(await read(client, stream, Offset.offset(4n), 2)));
  say("timestamp", shown(await read(client, stream, Offset.timestamp(new Date(1)), 6)));

  const consumer = await client.declareConsumer({ stream, consumerRef: "reader", offset: Offset.next() }, () => {});
  await consumer.storeOffset(3n);
  say("stored", await consumer.queryOffset());
  await refused("nobody's", () => client.queryOffset({ stream, reference: "nobody" }));

  const batches = await client.declarePublisher({ stream });
  await batches.sendSubEntries(["a", "b", "c"].map((text) => ({ content: Buffer.from(text) })), CompressionType.Gzip);
  const nine = await read(client, stream, Offset.first(), 9); // the client counts the offsets in a sub-batch from 0
  say("gzip", shown(nine.slice(6)));

  confirmed = confirms(batches, 1);
  await batches.send(Buffer.from("all"), {
    messageProperties: { subject: "s", contentType: "text/plain", correlationId: "c", creationTime: new Date(1000), groupSequence: 3 },
    applicationProperties: { text: "x", number: 7 },
    messageAnnotations: { note: "n" },
  });
  await confirmed;
  const [all] = await read(client, stream, Offset.offset(9n), 1);
  say("properties", JSON.stringify([all.messageProperties, all.applicationProperties, all.messageAnnotations]));

  const filtering = await client.declarePublisher({ stream, publisherRef: "filtering" }, (message) => message.applicationProperties.of);
  confirmed = confirms(filtering, 2);
  await filtering.send(Buffer.from("unwanted"), { applicationProperties: { of: "a" } });
  await filtering.flush();
  await filtering.send(Buffer.from("wanted"), { applicationProperties: { of: "b" } });
  await confirmed;
  const filter = { values: ["b"], matchUnfiltered: false, postFilterFunc: (message) => message.applicationProperties?.of === "b" };
  say("filtered", (await read(client, stream, Offset.first(), 1, { filter }))[0].content); // RabbitMQ keeps a stored offset in an offset

  const { committedChunkId, ...statistics } = await client.streamStatsRequest(stream);
  say("statistics", Object.keys(statistics).join(" "));
  const metadata = await client.queryMetadata({ streams: [stream, "nowhere"] });
  say("metadata", metadata.map(({ responseCode, leader }) => `${responseCode} ${leader && leader.port == port}`).join(" "));

  const name = `${stream}-super`;
  say("super", await client.createSuperStream({ streamName: name }, undefined, 2));
  say("partitions", (await client.queryPartitions({ superStream: name })).map((one) => one.slice(name.length)).join(" "));
  say("route", (await client.routeQuery({ superStream: name, routingKey: "1" })).map((one) => one.slice(name.length)).join(" "));
  const spread = await client.declareSuperStreamPublisher({ superStream: name }, (content) => content.toString());
  for (let number = 0; number < 20; number++) await spread.send(Buffer.from(`m${number}`), {});
  const found = [];
  let finish;
  const complete = new Promise((resolve) => { finish = resolve; });
  await client.declareSuperStreamConsumer({ superStream: name, consumerRef: "group" }, (message) => {
    if (found.push(message.content.toString()) === 20) finish();
  });
  await complete;
  say("spread", new Set(found).size);
  await client.close();

  const another = await connect(address); // the first one's publishers and consumers would fail with their streams
  say("super deleted", await another.deleteSuperStream({ streamName: name }));
  say("deleted", await another.deleteStream({ stream }));
  await another.close();
  say("closed");
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
