"""What the tests of exactness share."""

from collections.abc import Iterator

import pytest

from forked import Forks, forks


@pytest.fixture(scope="session")
def children() -> Iterator[Forks]:
    """Where processes are begun, and killed."""
    with forks() as found:
        yield found
