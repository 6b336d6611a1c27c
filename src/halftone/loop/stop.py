"""Which epoch is the best one, and when to give up waiting for a better."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from halftone.metrics.report import Metrics

Metric = Literal["accuracy", "loss", "f1"]


@dataclass(slots=True)
class Best:
    """The best epoch so far by one metric of the validation set. A number that is undefined is never best."""

    metric: Metric
    patience: int | None = None
    """Epochs without improvement before stopping; None never stops."""
    value: float = -math.inf
    """The score of the best epoch; higher is better (the loss counts negative)."""
    loss: float = math.inf
    """Its loss, which decides between equal scores."""
    epoch: int = 0
    waited: int = 0

    def observe(self, metrics: Metrics, epoch: int) -> bool:
        """Take an epoch; return whether it is the best so far."""
        found = {"accuracy": metrics.accuracy, "loss": metrics.loss, "f1": metrics.f1}[self.metric]
        loss = metrics.loss
        usable = found is not None and loss is not None and math.isfinite(found) and math.isfinite(loss)
        if usable:
            assert found is not None
            assert loss is not None
            score = -found if self.metric == "loss" else found
            if (score, -loss) > (self.value, -self.loss):
                self.value, self.loss, self.epoch, self.waited = score, loss, epoch, 0
                return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.patience is not None and self.waited >= max(self.patience, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved to go on."""
        if self.epoch == 0:
            return {"epoch": 0, "waited": self.waited}
        return {"epoch": self.epoch, "waited": self.waited, "value": self.value, "loss": self.loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.epoch, self.waited = int(state["epoch"]), int(state["waited"])
        self.value = float(state.get("value", -math.inf))
        self.loss = float(state.get("loss", math.inf))
