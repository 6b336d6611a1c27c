"""What the tests of the command line share."""

import pytest


@pytest.fixture(autouse=True)
def _by_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan measures nothing here, which would take as long as the machine is busy; that has tests of its own."""
    from halftone.run.plan import precision, rates

    monkeypatch.setattr(precision, "candidates", lambda facts: ("fp32",))
    monkeypatch.setattr(rates, "FEWEST_STEPS", 10**9)
