// Reads and writes frames of MQTT and STOMP with npm's libraries: a case a line on stdin, its answer a line on stdout.
// A case is {codec, version, read: [bytes...]} or {codec, version, write: [packet...]}; bytes are a text of base64 behind
// a null character, which no text of these protocols has.

import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const require = createRequire(`${process.argv[2]}/`)
const mqtt = require('mqtt-packet')
const { FrameImpl, Parser } = require('@stomp/stompjs')

const ofPublish = ['retain', 'qos', 'dup', 'topic', 'payload']

function readMqtt (data, level) {
  const parser = mqtt.parser({ protocolVersion: level })
  const packets = []
  let error = null
  parser.on('packet', (packet) => packets.push(packet))
  parser.on('error', (found) => { error ??= found })
  const left = parser.parse(data)
  if (error) throw error
  if (packets.length !== 1 || left) throw new Error(`${packets.length} packets, and ${left} bytes are left`)
  const packet = { ...packets[0] }
  for (const name of ['length', ...(packet.cmd === 'publish' ? [] : ofPublish)]) delete packet[name]
  return packet
}

// As the library's client does it: header values are escaped in 1.2 only.
function readStomp (data, version) {
  const frames = []
  const parser = new Parser((frame) => frames.push(FrameImpl.fromRawFrame(frame, version === '1.2')), () => {})
  parser.parseChunk(data)
  return frames.map(({ command, headers, binaryBody }) => ({ command, headers, body: Buffer.from(binaryBody) }))
}

function writeStomp ({ command, headers, body, withoutLength }, version) {
  const frame = { command, headers, escapeHeaderValues: version === '1.2', skipContentLengthHeader: withoutLength }
  return Buffer.from(FrameImpl.marshall(typeof body === 'string' ? { ...frame, body } : { ...frame, binaryBody: body }))
}

const codecs = {
  mqtt: { read: readMqtt, write: (packet, level) => mqtt.generate(packet, { protocolVersion: level }) },
  stomp: { read: readStomp, write: writeStomp }
}

function toJson (name, value) {
  const found = this[name] // before Buffer's own toJSON
  return Buffer.isBuffer(found) ? `\0${found.toString('base64')}` : value
}

function fromJson (name, value) {
  return typeof value === 'string' && value.startsWith('\0') ? Buffer.from(value.slice(1), 'base64') : value
}

function answer ({ codec, version, read, write }) {
  const { read: readOne, write: writeOne } = codecs[codec]
  const one = read ? readOne : writeOne
  return (read ?? write).map((value) => {
    try {
      return { value: one(value, version) }
    } catch (error) {
      return { error: String(error.message ?? error) }
    }
  })
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(answer(JSON.parse(line, fromJson)), toJson)}\n`)
}
