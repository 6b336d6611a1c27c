"""The verdict on a step's speed: pure functions from what was measured to what it means and what to change."""

from collections.abc import Iterator

from halftone.diagnose.speed_record import Circumstances, Kind, Measured, Remedy

WORTH = 0.1
"""The share of a step, or the gain, from which on something is worth a word."""
_FASTER = 1.05
"""Times as fast as now; below it another precision is not proposed."""
_LARGE = 2.0
"""Times the input's size from which on pictures are larger than needed: even random crops are then reduced."""
_ROOM = 4
"""The decoded set may take one part of so many of the free memory, as in the plan."""
_BUSY = 0.75
"""Programs and threads beyond the number of cores from which on the machine is called busy."""


def losses(measured: Measured, around: Circumstances) -> dict[Kind, float]:
    """Return what a step loses to anything but the network, in shares of the step."""
    step, whole = measured.step, sum(measured.step.values())
    computing = step.get("forward", 0.0) + step.get("backward", 0.0) + step.get("optimizer", 0.0)
    alone = around.batch_size / measured.model.median - step.get("halftone", 0.0)
    slowed = computing - alone if around.device_kind == "cpu" and around.feed == "streaming" else 0.0
    found: dict[Kind, float] = {
        "waits for data": step.get("data", 0.0),
        "decoding takes the cores": max(0.0, slowed),
        "augmentation": step.get("augmentation", 0.0),
        "halftone": step.get("halftone", 0.0),
    }
    return {kind: seconds / whole for kind, seconds in found.items()}


def judge(measured: Measured, around: Circumstances) -> Kind:
    """Return what keeps a step from being faster: the largest loss, or the model where no loss is worth a word."""
    found = losses(measured, around)
    most = max(found, key=found.__getitem__)
    return most if found[most] >= WORTH else "model"


def sentence(kind: Kind, measured: Measured, around: Circumstances) -> str:
    """Say a verdict in one sentence."""
    reached = f"the real path reaches {measured.share:.0%} of what the model alone does"
    lost = losses(measured, around).get(kind, 0.0)
    match kind:
        case "waits for data":
            return f"Training waits for data in {lost:.0%} of a step; {reached}."
        case "decoding takes the cores":
            return f"Decoding and the network share the cores, which costs {lost:.0%} of a step; {reached}."
        case "augmentation":
            return f"Changing the images takes {lost:.0%} of a step; {reached}."
        case "halftone":
            return f"Steps are so short that what halftone does around them is {lost:.0%} of each; {reached}."
        case "model":
            return f"The model is the limit: {reached}."


def remedies(kind: Kind, measured: Measured, around: Circumstances) -> tuple[Remedy, ...]:
    """Return what to change, what promises most first."""
    found = [*_settings(around)]
    if kind in ("waits for data", "decoding takes the cores"):
        found += _reading(kind, measured, around)
    if kind == "augmentation":
        found += _changing(measured, around)
    found += _model(kind, measured, around)
    return tuple(found)


def _settings(around: Circumstances) -> Iterator[Remedy]:
    """Settings that cost time whatever the limit is."""
    on_cpu = around.device_kind == "cpu"
    if on_cpu and around.threads > around.cores:
        reason = f"{around.threads} threads on {around.cores} cores wait for each other"
        yield Remedy(reason=reason, advice=f"--threads {around.cores}")
    if on_cpu and not around.keeps_memory:
        yield Remedy(reason="freed memory goes back to the system and is faulted in again", advice="--keep-memory")
    if around.deterministic:
        yield Remedy(reason="deterministic algorithms are slower", advice="leave out --deterministic")
    if not around.channels_last:
        reason = "convolutions are faster with the channels of a pixel side by side"
        yield Remedy(reason=reason, advice="--model.channels-last true")
    waiting = around.load - around.cores
    if waiting > _BUSY:
        reason = f"{around.load:.1f} programs and threads want {around.cores} cores, which makes all of this slower"
        yield Remedy(reason=reason, advice="measure and train on a quiet machine")


def _reading(kind: Kind, measured: Measured, around: Circumstances) -> Iterator[Remedy]:
    """What lets images come sooner, or with less work."""
    if around.feed == "resident":
        return
    wanted = max(1, around.cores if around.device_kind == "cpu" else around.cores - 1)
    if around.workers == 0:
        reason = "images are decoded between the steps, not during them"
        yield Remedy(reason=reason, advice=f"--data.workers {wanted}")
    elif kind == "waits for data" and around.workers < wanted:
        reason = f"{around.workers} of {around.cores} cores decode"
        yield Remedy(reason=reason, advice=f"--data.workers {wanted}")
    if around.cache == "off":
        yield Remedy(reason="each epoch decodes all images anew", advice="--data.cache auto")
    if around.decoded_bytes <= around.free_bytes // _ROOM:
        reason = (
            f"decoded at {around.size} pixels, the set takes {around.decoded_bytes / 2**20:.0f} MB, and there is room; "
            "random crops are then cut from pictures of that size"
        )
        yield Remedy(reason=reason, advice="--data.feed resident")
    if around.picture_side > _LARGE * around.size:
        reason = f"pictures of {around.picture_side} pixels are decoded for an input of {around.size}"
        smaller = round(_LARGE * around.size)
        yield Remedy(reason=reason, advice=f"store them at {smaller} pixels on the shorter side")
    elif kind == "waits for data" and around.workers >= wanted:
        reason = f"all {around.cores} cores decode, {measured.reading:,.0f} images/s at most"
        yield Remedy(reason=reason, advice="store the pictures smaller, or on a faster disk")


def _changing(measured: Measured, around: Circumstances) -> Iterator[Remedy]:
    reached = f"changes alone come to {measured.changing:,.0f} images/s"
    if around.heavy_changes:
        yield Remedy(reason=f"{reached}; colours and rotation are most of it", advice="--augment light")
    else:
        yield Remedy(reason=reached, advice="--augment none, if the images are many")


def _model(kind: Kind, measured: Measured, around: Circumstances) -> Iterator[Remedy]:
    """What makes the network itself faster; no use while data is what is waited for."""
    if kind not in ("model", "halftone"):
        return
    if around.device_kind == "cpu" and around.threads < around.cores:
        reason = f"{around.threads} of {around.cores} cores compute"
        yield Remedy(reason=reason, advice=f"--threads {around.cores}")
    own = measured.precisions.get(around.precision)
    if own and around.precision_asked:
        best = max(measured.precisions, key=measured.precisions.__getitem__)
        gain = measured.precisions[best] / own
        if best != around.precision and gain >= _FASTER:
            reason = f"measured, {best} is {gain:.2f} times as fast; auto would also compare its gradients"
            yield Remedy(reason=reason, advice=f"--precision {best}")
    if measured.half_batch is not None and measured.half_batch <= (1 - WORTH) * measured.model.median:
        reason = (
            f"half of the batch comes to {measured.half_batch / measured.model.median:.0%} of the pace, so twice of it "
            "may be faster; it means fewer steps, and the rate by rule follows"
        )
        yield Remedy(reason=reason, advice=f"--batch-size {2 * around.batch_size}")
