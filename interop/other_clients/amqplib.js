// Node's amqplib: confirms, a return, deliveries, a requeue, refusals, direct reply-to, heartbeats, a cancelled consumer.
const amqplib = require("amqplib");

const [url, name] = process.argv.slice(2);

async function refused(connection, what, attempt) {
  const channel = await connection.createChannel();
  channel.on("error", () => {});
  await attempt(channel).then(() => console.log(what, "was not refused"), (error) => console.log(what, error.code));
}

async function main() {
  const connection = await amqplib.connect(url + "?heartbeat=1");
  const channel = await connection.createConfirmChannel();
  channel.on("return", (message) => console.log("returned", message.fields.replyCode, message.content.toString()));
  channel.publish("", "no such queue", Buffer.from("lost"), { mandatory: true }, (error) => console.log("confirmed", error));
  await channel.waitForConfirms();

  await channel.assertQueue(name, { durable: true, arguments: { "x-max-length": 100 } });
  for (let number = 0; number < 3; number++) {
    channel.sendToQueue(name, Buffer.from("m" + number), {
      persistent: true, timestamp: 1700000000, headers: { number, half: 0.5, deep: { list: [1, "x", true, null] } },
    });
  }
  channel.sendToQueue(name, Buffer.alloc(300000, "x"), { persistent: true });
  await channel.waitForConfirms();
  console.log("confirmed all");

  await channel.prefetch(1);
  let requeued = false;
  await new Promise((resolve) => {
    channel.consume(name, (message) => {
      if (message === null) return console.log("cancelled");
      const { length } = message.content;
      console.log(length > 100 ? length : message.content.toString(), message.fields.redelivered,
        JSON.stringify(Object.fromEntries(Object.entries(message.properties.headers).sort()))); // RabbitMQ 4 sorts them
      if (!requeued) {
        requeued = true;
        return channel.nack(message);
      }
      channel.ack(message);
      if (length > 100) resolve();
    });
  });

  await refused(connection, "exclusive", (other) => other.consume(name, () => {}, { exclusive: true }));
  await refused(connection, "inequivalent", (other) => other.assertQueue(name, { durable: false }));
  await refused(connection, "missing", (other) => other.checkQueue("no such queue"));

  const asking = await connection.createChannel();
  const reply = new Promise((resolve) => {
    asking.consume("amq.rabbitmq.reply-to", (message) => resolve(message.content.toString()), { noAck: true });
  });
  const { queue } = await asking.assertQueue("", { exclusive: true });
  await asking.consume(queue, (message) => asking.sendToQueue(message.properties.replyTo, message.content), { noAck: true });
  asking.sendToQueue(queue, Buffer.from("answered"), { replyTo: "amq.rabbitmq.reply-to" });
  console.log(await reply);

  await new Promise((resolve) => setTimeout(resolve, 3000)); // three heartbeats
  await asking.deleteQueue(name);
  await channel.checkExchange("amq.direct"); // by now the cancel has come
  await connection.close();
  console.log("closed");
}

main().catch((error) => {
  console.log("failed", error);
  process.exit(1);
});
