"""halftone trains image classifiers in reduced precision with full-precision accuracy, and proves it.

The verb, the stream, and one craft borrowed for a loop of your own:

```python
import halftone as ht

run = ht.train(ht.Recipe(data="digits", epochs=5))
for event in ht.training(ht.Recipe(data="digits", epochs=5)): ...
precision = ht.Precision("bf16", model, optimizer)
```
"""

from typing import TYPE_CHECKING, Any

from halftone.version import __version__

if TYPE_CHECKING:
    from halftone.base.errors import (
        DataError,
        Diverged,
        HalftoneError,
        Interrupted,
        ModelFileError,
        RecipeError,
        ResourceError,
        UnreadableImage,
    )
    from halftone.comparison.verbs import ComparisonRun, compare
    from halftone.diagnose.precision import diagnose_precision
    from halftone.precision.config import PrecisionConfig
    from halftone.precision.verbs import Precision
    from halftone.run import events
    from halftone.run.inference import Classifier, evaluate_run
    from halftone.run.plan.make import make_plan
    from halftone.run.recipe import Recipe
    from halftone.run.stopping import StopRequest
    from halftone.run.training import resuming, training
    from halftone.verbs import Run, resume, train
    from halftone.weights.initialise.apply import initialise

_WHERE = {
    "Classifier": "halftone.run.inference",
    "ComparisonRun": "halftone.comparison.verbs",
    "DataError": "halftone.base.errors",
    "Diverged": "halftone.base.errors",
    "HalftoneError": "halftone.base.errors",
    "Interrupted": "halftone.base.errors",
    "ModelFileError": "halftone.base.errors",
    "Precision": "halftone.precision.verbs",
    "PrecisionConfig": "halftone.precision.config",
    "Recipe": "halftone.run.recipe",
    "RecipeError": "halftone.base.errors",
    "ResourceError": "halftone.base.errors",
    "Run": "halftone.verbs",
    "StopRequest": "halftone.run.stopping",
    "UnreadableImage": "halftone.base.errors",
    "compare": "halftone.comparison.verbs",
    "diagnose_precision": "halftone.diagnose.precision",
    "evaluate_run": "halftone.run.inference",
    "events": "halftone.run",
    "initialise": "halftone.weights.initialise.apply",
    "make_plan": "halftone.run.plan.make",
    "resume": "halftone.verbs",
    "resuming": "halftone.run.training",
    "train": "halftone.verbs",
    "training": "halftone.run.training",
}

__all__ = [
    "Classifier",
    "ComparisonRun",
    "DataError",
    "Diverged",
    "HalftoneError",
    "Interrupted",
    "ModelFileError",
    "Precision",
    "PrecisionConfig",
    "Recipe",
    "RecipeError",
    "ResourceError",
    "Run",
    "StopRequest",
    "UnreadableImage",
    "__version__",
    "compare",
    "diagnose_precision",
    "evaluate_run",
    "events",
    "initialise",
    "make_plan",
    "resume",
    "resuming",
    "train",
    "training",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import halftone` stays fast."""
    if name not in _WHERE:
        raise AttributeError(f"module 'halftone' has no attribute '{name}'")
    import importlib

    module = importlib.import_module(_WHERE[name])
    if name == "events":
        return importlib.import_module("halftone.run.events")
    return vars(module)[name]


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
