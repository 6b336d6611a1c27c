"""What the tests of the command line share."""

import pytest


@pytest.fixture(autouse=True)
def _by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan measures no precision here, which would take as long as the machine is busy; that has tests of its own."""
    from halftone.run.plan import precision

    monkeypatch.setattr(precision, "candidates", lambda facts: ("fp32",))
