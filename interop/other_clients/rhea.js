// Node's rhea, a client of AMQP 1.0: rhea.js PORT SCENARIO QUEUE DEAD. Each scenario prints what the client sees.
const rhea = require("rhea");

const [port, scenario, name, dead] = process.argv.slice(2);
const container = rhea.create_container({ id: "rhea" });
const { types, message } = rhea;

function connect(options) {
  return container.connect({
    host: "127.0.0.1", port: Number(port), username: "guest", password: "guest", reconnect: false, ...options,
  });
}

// The first of these events, with its context.
function event(emitter, ...names) {
  return new Promise((resolve) => {
    const listeners = names.map((name) => [name, (context) => {
      for (const [other, listener] of listeners) emitter.removeListener(other, listener);
      resolve([name, context]);
    }]);
    for (const [name, listener] of listeners) emitter.on(name, listener);
  });
}

function shown(value) {
  if (value === undefined || value === null) return null;
  if (Buffer.isBuffer(value)) return "0x" + value.toString("hex");
  if (value instanceof Date) return value.getTime();
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value === "object") {
    return Object.fromEntries(Object.keys(value).filter((key) => value[key] !== undefined).sort().map((key) => [key, shown(value[key])]));
  }
  return value;
}

const say = (...words) => console.log(words.map((word) => (typeof word === "string" ? word : JSON.stringify(shown(word)))).join(" "));

async function sender(connection, address, options) {
  const link = connection.open_sender({ target: { address }, ...options });
  await event(link, "sendable");
  return link;
}

async function outcome(link, sent, tag) {
  const answer = event(link, "accepted", "rejected", "released", "modified");
  link.send(sent, tag);
  const [said, context] = await answer;
  return said + (context.delivery.remote_state && context.delivery.remote_state.error ? " " + context.delivery.remote_state.error.condition : "");
}

// Rhea counts deliveries from 0 whatever the other side said first: what it grants before any came may be more than it says.
function receiver(connection, source, options) {
  const link = connection.open_receiver({ source, credit_window: 0, autoaccept: false, autosettle: true, ...options });
  link.came = [];
  link.on("message", (context) => { link.came.push(context); link.emit("came"); });
  return link;
}

async function next(link) {
  if (!link.came.length) {
    const came = event(link, "came");
    link.add_credit(1);
    await came;
  }
  return link.came.shift();
}

async function ended(emitter) {
  const closed = event(emitter, "connection_close");
  emitter.close();
  await closed;
}

const every = {
  durable: true, priority: 7, ttl: 600000,
  message_annotations: { "x-here": "yes", "x-opt-number": types.wrap_ubyte(5), "x-opt-list": [1, "a"] },
  message_id: "id", user_id: Buffer.from("guest"), to: "/queues/to", subject: "subject", reply_to: "reply",
  correlation_id: 12, content_type: "text/plain", content_encoding: "gzip", absolute_expiry_time: 9000000000000,
  creation_time: 1000123, group_id: "group", group_sequence: 3, reply_to_group_id: "reply group",
  application_properties: {
    text: "x", long: types.wrap_long(-5), ubyte: types.wrap_ubyte(3), ushort: types.wrap_ushort(4), uint: types.wrap_uint(5),
    ulong: types.wrap_ulong(6), byte: types.wrap_byte(-1), short: types.wrap_short(-2), int: types.wrap_int(-3),
    float: types.wrap_float(0.5), double: types.wrap_double(0.1), yes: true, none: null,
    time: types.wrap_timestamp(1000), symbol: types.wrap_symbol("s"), bytes: types.wrap_binary(Buffer.from([1, 255])),
  },
};

const bodies = {
  value: "text", number: types.wrap_uint(77), map: { a: 1, b: [true, null] }, list: [1, "two"],
  data: message.data_section(Buffer.from("data")), datas: message.data_sections([Buffer.from("one"), Buffer.from("two")]),
  sequence: message.sequence_section([1, "a"]), sequences: message.sequence_sections([[1], [2, 3]]),
  empty: message.data_section(Buffer.alloc(0)), large: message.data_section(Buffer.alloc(200000, "x")),
};

const scenarios = {
  // Whatever is said comes as it was said, whichever kind the body has.
  async messages(connection) {
    const out = await sender(connection, "/queues/" + name);
    const back = receiver(connection, { address: "/queues/" + name });
    for (const [kind, body] of Object.entries(bodies)) {
      say(kind, await outcome(out, { ...every, body }));
      const { message: got, delivery } = await next(back);
      if (kind === "large") got.body = { typecode: got.body.typecode, size: got.body.content.length };
      const { body: said, ...rest } = got;
      say("body", said);
      if (kind === "value") say("rest", rest);
      delivery.accept();
    }
  },

  async outcomes(connection) {
    const out = await sender(connection, "/queues/" + name);
    const back = receiver(connection, { address: "/queues/" + name });
    say("sent", await outcome(out, { body: "one" }));
    const ways = [
      ["released", (delivery) => delivery.release()],
      ["modified", (delivery) => delivery.release({ delivery_failed: true })],
      ["annotated", (delivery) => delivery.modified({ delivery_failed: true, message_annotations: { "x-opt-why": "busy", "x-other": 9 } })],
      ["rejected", (delivery) => delivery.reject({ condition: "amqp:internal-error", description: "no" })],
    ];
    for (const [way, settle] of ways) {
      const { message: got, delivery } = await next(back);
      say(way, [got.first_acquirer, got.delivery_count, got.message_annotations]);
      settle(delivery);
    }
    const { message: got, delivery } = await next(receiver(connection, { address: "/queues/" + dead }));
    say("dead", [got.body, got.first_acquirer, Object.keys(got.message_annotations).sort()]);
    delivery.accept();
  },

  async settled(connection) {
    const out = await sender(connection, "/queues/" + name, { snd_settle_mode: 1 });
    out.send({ body: "one" });
    const back = receiver(connection, { address: "/queues/" + name }, { snd_settle_mode: 1 });
    const { message: got, delivery } = await next(back);
    say(got.body, delivery.remote_settled);
  },

  // With drain, all that there is comes as far as the credit goes, and what is left of it is gone.
  async drain(connection) {
    const out = await sender(connection, "/queues/" + name);
    for (let number = 0; number < 5; number++) await outcome(out, { body: number });
    const back = receiver(connection, { address: "/queues/" + name });
    const got = [];
    back.on("message", (context) => { got.push(context.message.body); context.delivery.accept(); });
    await event(back, "receiver_open");
    back.drain = true;
    for (const credit of [20, 10]) {
      back.add_credit(credit);
      await event(back, "receiver_drained");
      say("drained", got, back.credit);
    }
  },

  // What cannot be attached ends the session, with these words.
  async refused(connection) {
    const attempts = [
      ["target", () => connection.create_session(), (session) => session.open_sender({ target: { address: "/queues/nowhere" } })],
      ["source", () => connection.create_session(), (session) => session.open_receiver({ source: { address: "/queues/nowhere" } })],
      ["exchange", () => connection.create_session(), (session) => session.open_sender({ target: { address: "/exchanges/nowhere/k" } })],
      ["address", () => connection.create_session(), (session) => session.open_sender({ target: { address: "/wrong/address" } })],
      ["second", () => connection.create_session(), (session) => session.open_sender({ target: { address: "/queues/" + name }, rcv_settle_mode: 1 })],
    ];
    for (const [what, create, open] of attempts) {
      const session = create();
      session.open();
      const gone = event(session, "session_error");
      session.on("session_close", () => {});
      open(session);
      const error = (await gone)[1].session.error;
      say(what, error.condition, what === "address" ? "" : error.description);
    }
  },

  async nowhere(connection) {
    const out = await sender(connection, null);
    say(await outcome(out, { to: "/queues/" + name, body: "one" }));
    say(await outcome(out, { to: "/exchanges/amq.direct/nobody", body: "one" }));
    say(await outcome(out, { to: "/exchanges/nowhere/nobody", body: "one" }));
    say(await outcome(out, { body: "one" }));
  },

  async version1(connection) {
    for (const [target, source] of [["/queue/" + name, name], ["/exchange/amq.direct/" + name, "/amq/queue/" + name]]) {
      const out = await sender(connection, target);
      say(target.split("/")[1], await outcome(out, { body: "one" }));
      const back = receiver(connection, { address: source });
      const { message: got, delivery } = await next(back);
      say(got.body);
      delivery.accept();
      const gone = event(back, "receiver_close");
      back.close();
      await gone;
    }
  },

  async stream(connection) {
    const described = (name, value) => ({ [name]: types.wrap_described(value, types.wrap_symbol(name)) });
    const out = await sender(connection, "/queues/" + name);
    for (let number = 0; number < 4; number++) {
      await outcome(out, { body: "m" + number, message_annotations: number % 2 ? { "x-stream-filter-value": "odd" } : {} });
    }
    const starts = [
      ["first", described("rabbitmq:stream-offset-spec", "first")],
      ["offset", described("rabbitmq:stream-offset-spec", types.wrap_ulong(2))],
      ["interval", described("rabbitmq:stream-offset-spec", "5m")],
    ];
    for (const [what, filter] of starts) {
      const back = receiver(connection, { address: "/queues/" + name, filter });
      const { message: got, delivery } = await next(back);
      say(what, [got.body, got.message_annotations["x-stream-offset"]]);
      delivery.accept();
      const gone = event(back, "receiver_close");
      back.close();
      await gone;
    }
    const odd = receiver(connection, {
      address: "/queues/" + name,
      filter: { ...described("rabbitmq:stream-offset-spec", "first"), ...described("rabbitmq:stream-filter", ["odd"]) },
    });
    const bodies = [];
    odd.on("message", (context) => { if (context.message.message_annotations["x-stream-filter-value"]) bodies.push(context.message.body); context.delivery.accept(); });
    await event(odd, "receiver_open");
    odd.drain = true;
    odd.add_credit(20);
    await event(odd, "receiver_drained");
    say("odd", bodies);
    const settled = receiver(connection, { address: "/queues/" + name, filter: starts[0][1] }, { snd_settle_mode: 1 });
    say("settled", (await next(settled)).message.body);
  },

  async frames() {
    const connection = connect({ max_frame_size: 512 });
    const out = await sender(connection, "/queues/" + name);
    await outcome(out, { body: message.data_section(Buffer.alloc(5000, "y")) });
    const { message: got, delivery } = await next(receiver(connection, { address: "/queues/" + name }));
    say(got.body.content.length, got.body.content.every((byte) => byte === 121));
    delivery.accept();
    await ended(connection);
  },

  // Who wants to hear something every three seconds hears it, however long nothing is sent.
  async idle() {
    const connection = connect({ idle_time_out: 3000 });
    await event(connection, "connection_open");
    const lost = event(connection, "disconnected", "connection_error", "connection_close");
    const silence = new Promise((resolve) => setTimeout(() => resolve(["still there"]), 7000));
    say((await Promise.race([lost, silence]))[0], connection.remote.open.idle_time_out);
    await ended(connection);
  },

  async goodbyes(connection) {
    const link = receiver(connection, { address: "/queues/" + name });
    await event(link, "receiver_open");
    for (const [close, answer] of [["detach", "receiver_detached"], ["close", "receiver_close"]]) {
      const one = receiver(connection, { address: "/queues/" + name });
      await event(one, "receiver_open");
      const gone = event(one, "receiver_close", "receiver_error");
      one[close === "detach" ? "detach" : "close"]();
      say(close, (await gone)[0]);
    }
    const session = connection.create_session();
    session.open();
    await event(session, "session_open");
    const gone = event(session, "session_close");
    session.close();
    say("end", (await gone)[0]);
  },

  async logins() {
    for (const [what, options] of [
      ["right", {}], ["wrong", { password: "no" }], ["anonymous", { username: "anyone", password: undefined }],
    ]) {
      const connection = connect(options);
      connection.on("error", () => {});
      const [said, context] = await event(connection, "connection_open", "connection_error", "disconnected");
      const error = context.connection.error;
      say(what, said, error ? error.condition + ": " + error.description : "");
      if (said === "connection_open") await ended(connection);
    }
  },
};

async function main() {
  if (["frames", "idle", "logins"].includes(scenario)) {
    await scenarios[scenario]();
  } else {
    const connection = connect({});
    await event(connection, "connection_open");
    await scenarios[scenario](connection);
    await ended(connection);
    say("closed");
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
