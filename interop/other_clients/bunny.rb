# Ruby's bunny: confirms, a return, deliveries, a requeue, refusals, a transaction, heartbeats, a cancelled consumer.
require "bunny"

connection = Bunny.new(ARGV[0], heartbeat: 1, automatically_recover: false, log_level: :fatal)
connection.start
channel = connection.create_channel
channel.confirm_select
exchange = channel.default_exchange
returned = Queue.new
exchange.on_return { |info, _, body| returned << "returned #{info.reply_code} #{info.reply_text}: #{body}" }
exchange.publish("lost", routing_key: "no such queue", mandatory: true)
channel.wait_for_confirms
puts returned.pop

queue = channel.queue(ARGV[1], durable: true, arguments: { "x-max-length" => 100 })
3.times { |number| queue.publish("m#{number}", persistent: true, headers: { "n" => number, "deep" => { "a" => [1, "x"] } }) }
queue.publish("x" * 300_000, persistent: true)
puts "confirmed #{channel.wait_for_confirms}"

channel.prefetch(1)
done = Queue.new
requeued = false
# The headers sorted, as RabbitMQ 4 sends them; 3.10 sends them as they came.
consumer = queue.subscribe(manual_ack: true) do |info, properties, body|
  puts "#{body.size > 100 ? body.size : body} #{info.redelivered?} #{properties.headers&.sort.to_h}"
  if requeued
    channel.ack(info.delivery_tag)
    done << true if body.size > 100
  else
    requeued = true
    channel.nack(info.delivery_tag, false, true)
  end
end
done.pop
consumer.cancel

queue.subscribe(exclusive: true) { |*| }
[
  ["exclusive", ->(other) { other.queue(ARGV[1], passive: true).subscribe { |*| } }],
  ["inequivalent", ->(other) { other.queue(ARGV[1], durable: false) }],
  ["missing", ->(other) { other.queue("no such queue", passive: true) }],
].each do |name, attempt|
  attempt.call(connection.create_channel)
rescue Bunny::Exception => e
  puts "#{name}: #{e.class}"
end

other = connection.create_channel
other.tx_select
temporary = other.queue("", exclusive: true)
temporary.publish("rolled back")
other.tx_rollback
temporary.publish("committed")
other.tx_commit
puts temporary.pop.last
cancelled = Queue.new
listener = Bunny::Consumer.new(other, temporary)
listener.on_cancellation { |_| cancelled << "cancelled" }
temporary.subscribe_with(listener)
connection.create_channel.queue_delete(temporary.name)
puts cancelled.pop

sleep 3 # three heartbeats
puts "open #{connection.open?}"
queue.delete
connection.close
