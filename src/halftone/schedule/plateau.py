"""The factor for plateaus: the one decay with a memory."""

from dataclasses import dataclass


@dataclass(slots=True)
class Plateau:
    """Lowers the rate when a number stops falling, as torch's ReduceLROnPlateau does."""

    gamma: float
    patience: int
    best: float = float("inf")
    waited: int = 0
    factor: float = 1.0

    def observe(self, loss: float) -> bool:
        """Take the validation loss of an epoch; return whether the rate falls now. A NaN is no improvement."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return False
        self.waited += 1
        if self.waited <= self.patience:
            return False
        self.factor *= self.gamma
        self.waited = 0
        return True
