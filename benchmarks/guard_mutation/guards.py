"""The guards of groups C (numerics) and D (processes, files) of docs/reliability.md, and how to break each."""

from dataclasses import dataclass

ATOMIC = "tests/base/test_atomic_files.py"
SEAL = "tests/weights/test_seal.py"
PICKLES = "tests/weights/test_hostile_pickles.py"
PYTORCH = "tests/weights/test_pytorch_files.py"
BOMBS = "tests/weights/test_bombs.py"
MATCHING = "tests/weights/test_load_matching.py"
MODEL = "tests/run/test_model_file.py"
DAMAGED = "tests/run/test_damaged_files.py"
FORMATS = "tests/run/test_released_formats.py"
TEXTS = "tests/run/test_hostile_texts.py"
GOING_ON = "tests/run/test_going_on.py"
FULL = "tests/run/test_disk_full.py"
SKIPPED = "tests/precision/test_skipped_steps.py"
SCALE = "tests/precision/test_loss_scale.py"
PUBLISHED = "tests/models/test_published_weights.py"


@dataclass(frozen=True, slots=True)
class Guard:
    """A line that stands between a fault and its harm."""

    row: str
    """In the table of docs/reliability.md."""
    what: str
    """It does."""
    place: str
    """Below src/halftone."""
    found: str
    """Exactly once in that file."""
    instead: str
    """What takes its place."""
    tests: str
    """A file of tests that must notice."""
    select: str = ""
    """Which of them, as for `pytest -k`; without it, those with the row in their name."""


_FILES, _WEIGHTS, _PYTORCH = "base/files.py", "weights/files.py", "weights/pytorch.py"
_CHECKPOINT, _MODEL, _FITTING = "run/checkpoint.py", "run/model_file.py", "loop/fitting.py"
_RAISE = "raise ModelFileError(f"

WRITING = (
    Guard("D2", "a file is written beside its place", _FILES, 'path.with_name(f".{path.name}.tmp")', "path", ATOMIC),
    Guard("D2", "the file is flushed before it is renamed", _FILES, "_flush(temporary)\n", "pass\n", ATOMIC),
    Guard("D2", "the folder is flushed after it", _FILES, "_flush(path.parent)\n", "pass\n", ATOMIC),
    Guard("D2", "a failure removes what was half written", _FILES,
          "    except BaseException:\n        temporary.unlink(missing_ok=True)", "    except BaseException:", ATOMIC),
    Guard("D6", "a full disk removes what was half written", _FILES,
          "        temporary.unlink(missing_ok=True)\n        raise storage_error", "        raise storage_error",
          ATOMIC),
    Guard("D6", "a limit on files counts as a full disk", _FILES, ", errno.EFBIG}", "}", ATOMIC),
    Guard("D6", "errors of safetensors become the system's", _WEIGHTS, 're.search(r"os error (\\d+)", str(error))',
          "None", SEAL),
    Guard("D2", "leftovers of a killed process are removed", _FILES, 'folder.glob(".*.tmp")', "()", ATOMIC),
    Guard("D6", "a checkpoint that cannot be saved does not end the run", "run/saving.py",
          "        except ResourceError as error:\n            self.rhythm.failed(tried)",
          "        except ZeroDivisionError as error:\n            self.rhythm.failed(tried)", FULL),
    Guard("D6", "best weights that could not be saved are kept for later", "run/saving.py",
          "self._waiting = _Weights(self.folder.best, kept, done)", "self._waiting = None", FULL),
    Guard("D6", "best weights that never reached the disk are an error", "run/under_way.py",
          "        if failure is not None:\n            raise failure", "        del failure", GOING_ON),
    Guard("D3", "a request to stop ends the run", "run/under_way.py",
          "if run.stop.signal is not None and isinstance(", "if False and isinstance(", GOING_ON),
    Guard("D4", "a second request ends the process", "cli/train.py", "signal.signal(number, signal.SIG_DFL)", "return",
          "tests/cli/test_stopping.py"),
    Guard("D7", "a listener that fails is left out", "track/fan.py", "except Exception as error:",
          "except ZeroDivisionError as error:", "tests/track/test_fan_tensorboard.py"),
    Guard("D8", "a folder that cannot be written is refused first", "run/folder.py", "if not os.access(existing",
          "if False and not os.access(existing", "tests/cli/test_commands.py"),
    Guard("D14", "a folder is locked", "run/folder.py", "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
          GOING_ON),
    Guard("D30", "a line cut short is no row", "base/tables.py", 'text[: text.rfind("\\n") + 1]', "text",
          "tests/base/test_seeds_extras_tables.py"),
    Guard("D31", "so many checkpoints stay as were asked for", _CHECKPOINT, "found[here + keep :]", "found[here + 1 :]",
          GOING_ON),
)  # fmt: skip

READING = (
    Guard("D19", "the SHA-256 is compared", _WEIGHTS, "!= found[1].decode():", '== "":', SEAL),
    Guard("D19", "a file of halftone's without a seal is damaged", _WEIGHTS, "    if found is None:", "    if False:",
          SEAL, "lost_its_seal or D19"),
    Guard("D18", "a damaged checkpoint is passed over", _CHECKPOINT, "refused.append(str(error))", "raise", DAMAGED,
          "D18 and before and truncations"),
    Guard("D20", "what is no file is not opened", _WEIGHTS, "if not path.is_file():\n            raise",
          "if not path.exists():\n            raise", SEAL, "D20 and fifo"),
    Guard("D20", "what cannot be removed does not end the run", _CHECKPOINT, "with suppress(OSError):",
          "with suppress(ZeroDivisionError):", DAMAGED),
    Guard("D18", "the newest checkpoint is that of the last step", _CHECKPOINT, "reverse=True)", "reverse=False)",
          DAMAGED, "D18 and before and truncations"),
    Guard("D23", "a newer format is refused", _WEIGHTS, "if version > FORMAT:", "if False:", FORMATS),
    Guard("D23", "a newer format is not passed over", _CHECKPOINT, "except NewerFormat:", "except ZeroDivisionError:",
          FORMATS),
    Guard("D24", "a checkpoint is of that kind", _CHECKPOINT, 'if stored.header.get("kind") != KIND:', "if False:",
          DAMAGED),
    Guard("D24", "a checkpoint has a state", _CHECKPOINT, "if not isinstance(state, dict):", "if False:", DAMAGED),
    Guard("D24", "unknown parts of a state are refused", _FITTING, "        if unknown:", "        if False:", DAMAGED),
    Guard("D24", "counters are of their kind", _FITTING, "if not isinstance(value, type(own",
          "if False and not isinstance(value, type(own", DAMAGED),
    Guard("D24", "weights of other types are refused", _FITTING, "if not isinstance(found, Tensor) or",
          "if False and", DAMAGED),
    Guard("D24", "states that are not finite are refused", _FITTING, "    if broken is not None:", "    if False:",
          DAMAGED),
    Guard("D24", "weights that are not finite are not loaded", "weights/match.py",
          f"    if broken is not None:\n        {_RAISE}\"the weights of",
          f"    if False:\n        {_RAISE}\"the weights of", MATCHING),
    Guard("D24", "weights that are missing are not ignored", "weights/match.py",
          "    if account.missing and not partial:", "    if False:", MATCHING),
    Guard("D24", "models that are not finite are not loaded", _MODEL,
          f'    if broken is not None:\n        {_RAISE}"{{origin}}', f'    if False:\n        {_RAISE}"{{origin}}',
          MODEL),
    Guard("D21", "all tensors of a model must fit", _MODEL, "    if wrong:", "    if False:", MODEL),
    Guard("D22", "weights of another run are refused", "run/inference.py",
          "if card.classes != plan.data.classes or card.input != plan.input:", "if False:", GOING_ON),
)  # fmt: skip

STRANGERS = (
    Guard("D25", "a pickle is looked over before it is read", _PYTORCH, "elif not _SAFE.fullmatch(named):",
          "elif False:", PYTORCH, "D26 or whole_network or within_the_arguments"),
    Guard("D25", "PyTorch reads weights only", _PYTORCH, "weights_only=True)\n", "weights_only=False)\n", PYTORCH,
          "never_built"),
    Guard("D25", "a file alone names no code to run", _MODEL, "if is_own(card.name) and model is None and not trusted:",
          "if False:", TEXTS),
    Guard("D25", "marks of a state are known ones", "run/tree.py",
          'raise ValueError(f"the mark {mark} is not known")', "return tree", TEXTS),
    Guard("D26", "compressed records are refused", _PYTORCH, "        if compressed:", "        if False:", PYTORCH),
    Guard("D26", "an archive has one directory", _PYTORCH, "_refuse_second_directory(path, archive.start_dir)", "pass",
          PYTORCH),
    Guard("D26", "the record of large archives is where its locator says", _PYTORCH, "ends.append(-1)", "pass",
          PYTORCH),
    Guard("D26", "each end of an archive is compared", _PYTORCH,
          '+ [int.from_bytes(tail[48:56], "little")]', "", PYTORCH),
    Guard("D26", "records are found in any case", _PYTORCH, "filename.lower()", "filename", PYTORCH),
    Guard("D26", "tensors that repeat themselves are refused", _PYTORCH, "if not _is_plain(tensor):", "if False:",
          PYTORCH),
    Guard("D26", "records are no larger than their file", _PYTORCH,
          "if sum(entry.file_size for entry in entries) >", "if 0 >", PYTORCH),
    Guard("D26", "tensors are no larger than their file", _PYTORCH, "if sum(memory.values()) >", "if 0 >", PYTORCH),
    Guard("D27", "a header is no longer than its file", _WEIGHTS, "if length > min(size, _LARGEST_HEADER):",
          "if False:", SEAL),
    Guard("D27", "a header is no longer than any that is read", _WEIGHTS, "min(size, _LARGEST_HEADER):", "size:",
          BOMBS),
    Guard("D28", "JSON has so many lists at most", _FILES, "if containers > _MOST_CONTAINERS:", "if False:",
          BOMBS, "D26"),
    Guard("D28", "JSON has so many bytes at most", _FILES, "if size > _LARGEST_JSON:", "if False:", BOMBS, "D26"),
    Guard("D28", "a class has a row in the weights", _MODEL, "if not any(num_classes in",
          "if False and not any(num_classes in", MODEL),
    Guard("D28", "a page escapes names", "report/page.py", "autoescape=True", "autoescape=False",
          "tests/report/test_report.py"),
    Guard("D28", "a page fetches no picture", "report/page.py", 'pattern=r"^data:image', 'pattern=r"^.*$|^data:image',
          "tests/report/test_report.py"),
    Guard("D29", "a download is compared with its hash", "models/published.py",
          "if not hasher.hexdigest().startswith(start_of_hash):", "if False:", PUBLISHED),
    Guard("D29", "a file in the cache is compared with its hash", "models/published.py",
          "elif not sha256(file).startswith(start_of_hash):", "elif False:", PUBLISHED),
)  # fmt: skip

NUMERICS = (
    Guard("C1", "a norm that is not finite skips the step", "precision/apply.py", "if not math.isfinite(length):",
          "if False:", SKIPPED),
    Guard("C1", "buffers are put back", "precision/verbs.py", "self._guard.put_back(unless=applied)", "pass", SKIPPED),
    Guard("C1", "buffers are remembered before the forward pass", "precision/verbs.py",
          "self._guard.remember()", "pass", SKIPPED),
    Guard("C2", "too many skipped steps end the run", "loop/train.py", "if progress.longest_row < max_skipped:",
          "if True:", "tests/run/test_training.py"),
    Guard("C3", "the loss scale has a floor", "precision/scaling.py", "clamp_(config.scale_floor, config.scale_cap)",
          "clamp_(max=config.scale_cap)", SCALE),
    Guard("C6", "the loss scale has a cap", "precision/scaling.py", "clamp_(config.scale_floor, config.scale_cap)",
          "clamp_(min=config.scale_floor)", SCALE),
    Guard("C4", "the loss scale shrinks after a bad step", "precision/scaling.py", "self._found.fill_(not applied)",
          "self._found.fill_(False)", SCALE, "C3"),
    Guard("C5", "an unusable scale is refused", "precision/scaling.py", 'if not 0 < scale < float("inf"):', "if False:",
          SCALE),
    Guard("C5", "a saved scale is brought within the limits", "precision/scaling.py",
          "min(max(scale, config.scale_floor), config.scale_cap))", "scale)", SCALE),
    Guard("C6", "a saved count lets the scale grow", "precision/scaling.py",
          'min(max(int(state["tracker"]), 0), config.scale_interval - 1)', 'int(state["tracker"])', SCALE),
    Guard("C8", "weights that are not finite are not saved", "weights/match.py",
          "    if broken is not None:\n        raise Diverged(", "    if False:\n        raise Diverged(", MODEL),
    Guard("C8", "a checkpoint is not saved from them", _CHECKPOINT, "refuse_not_finite(session.model.state_dict()",
          "(lambda *_, **__: None)(session.model.state_dict()", GOING_ON),
    Guard("C9", "the schedule follows applied steps", "loop/train.py", "step = step + result.applied",
          "step = step + 1", "tests/loop/test_bursts.py"),
    Guard("C10", "gradients are clipped by a finite norm", "precision/apply.py", "if not math.isfinite(length):",
          "if math.isnan(length):", SKIPPED),
    Guard("C13", "an average does not follow a skipped step", "weights/average.py", "        elif applied:",
          "        else:", "tests/weights/test_average.py", "not_applied"),
    Guard("C14", "labels beyond the classes are refused", "data/sources/arrays.py",
          "if len(numbers) and not (numbers.min()", "if False and not (numbers.min()",
          "tests/data/sources/test_arrays.py"),
    Guard("C16", "the loss over no image is undefined", "metrics/report.py",
          "loss = float(tally.loss_sum) / total if total else None", "loss = float(tally.loss_sum) / total",
          "tests/metrics/test_tally.py"),
    Guard("C15", "a metric that is not a number is never best", "loop/stop.py",
          "and math.isfinite(found) and math.isfinite(loss)", "", "tests/loop/test_stop.py"),
)  # fmt: skip

GUARDS = (*WRITING, *READING, *STRANGERS, *NUMERICS)
