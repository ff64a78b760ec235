#!/bin/sh
# C's librabbitmq, by its command line tools: amqp_tools.sh URL QUEUE
url=$1 queue=$2
amqp-declare-queue -u "$url" -q "$queue" -d >/dev/null
for number in 1 2 3; do amqp-publish -u "$url" -r "$queue" -p -C text/plain -H "h: v" -b "m$number "; done
amqp-get -u "$url" -q "$queue"
amqp-consume -u "$url" -q "$queue" -c 2 -p 1 cat
amqp-get -u "$url" -q "$queue" || echo "empty $?"
head -c 300000 /dev/zero | amqp-publish -u "$url" -r "$queue"
amqp-get -u "$url" -q "$queue" | wc -c
amqp-publish -u "$url" -e "no such exchange" -r "$queue" -b x 2>&1 || echo "failed $?"
