<?php
// PHP's php-amqplib: AMQPLAIN, confirms, a return, deliveries, dead letters, a refusal.
require "PhpAmqpLib/autoload.php";

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

[, $port, $name, $dead] = $argv;
const PATIENCE_S = 60; // as waiting.py has it: RabbitMQ 4.0.5 may answer nobody for 5 s, and the client's own limit is 3 s
$connection = new AMQPStreamConnection(
    "127.0.0.1", (int) $port, "guest", "guest", "/", false, "AMQPLAIN", null, "en_US", PATIENCE_S, PATIENCE_S,
);
$channel = $connection->channel();
$channel->confirm_select();
$channel->set_return_listener(function ($code, $text) { echo "returned $code $text\n"; });
$confirmed = 0;
$channel->set_ack_handler(function () use (&$confirmed) { $confirmed++; });
$channel->queue_declare($dead, false, true, false, false);
$letters = ["x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => $dead];
$channel->queue_declare($name, false, true, false, false, false, new AMQPTable($letters));
$channel->basic_publish(new AMQPMessage("lost"), "", "no such queue", true);
for ($number = 0; $number < 3; $number++) {
    $headers = new AMQPTable(["number" => $number, "deep" => ["list" => [1, "x", true, null]]]);
    $channel->basic_publish(new AMQPMessage("m$number", ["delivery_mode" => 2, "application_headers" => $headers]), "", $name);
}
$channel->wait_for_pending_acks_returns(PATIENCE_S);
echo "confirmed $confirmed\n";

$got = 0;
$channel->basic_qos(0, 1, false);
$tag = $channel->basic_consume($name, "", false, false, true, false, function ($message) use (&$got) {
    $headers = $message->get("application_headers")->getNativeData();
    ksort($headers); // RabbitMQ 4 sorts them, 3.10 leaves them as they came
    echo $message->getBody(), " ", json_encode($headers), "\n";
    ++$got == 2 ? $message->reject(false) : $message->ack();
});
while ($got < 3) {
    $channel->wait(null, false, PATIENCE_S);
}
$channel->basic_cancel($tag);
while (($letter = $channel->basic_get($dead, true)) === null) {
    usleep(5000);
}
$death = $letter->get("application_headers")->getNativeData()["x-death"][0];
echo $letter->getBody(), " {$death['reason']} {$death['count']}\n";
try {
    $channel->exchange_declare("amq.mine", "direct", false);
} catch (Exception $error) {
    echo get_class($error), " ", $error->getCode(), "\n";
}
$connection->close();
