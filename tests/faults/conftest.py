"""What the tests of faults share: what their clients leave behind is cleaned up."""

from tests.support.abandoned import abandoned_connections  # noqa: F401  # a fixture
