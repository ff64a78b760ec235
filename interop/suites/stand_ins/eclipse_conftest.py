"""Takes the place of the command line of Eclipse's client tests: where the broker is, and the topics that they use.

The topics are those that their own command line sets.
"""

import os

import pytest

TOPICS = ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")
FILTERS = ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for module in {item.getparent(pytest.Module) for item in items}:
        assert module is not None
        tests = module.obj
        tests.host, tests.port = os.environ["BROKER_UNDER_TEST_HOST"], int(os.environ["BROKER_UNDER_TEST_PORT"])
        tests.topic_prefix = prefix = "client_test5/" if "5" in module.name else ""
        tests.topics = tuple(prefix + topic for topic in TOPICS)
        tests.wildtopics = tuple(prefix + each for each in FILTERS)
        tests.nosubscribe_topics = ("test/nosubscribe",)
