"""The frozen images that a study's models are evaluated on, and each model's stored outcomes on them.

Frozen images: a stratified order of the training (test) images, keyed by a fixed stream, of which the first
`train_images` (`test_images`) are used; the first `measure_images` of the training ones are given to measures. All are
original, labelled, un-augmented images, never validation or extra images.
"""

import hashlib
import json
from pathlib import Path

from torch import Tensor

from robustgap.training.checkpoint import FileFault, file_digest, load_tensors
from robustgap.training.data.splits import Split, stratified_order
from robustgap.training.jobs.outcome_id import BASE, Outcome
from robustgap.training.jobs.plan import entry_of, model_dir, run_record, splits_of
from robustgap.training.robustbench import zoo
from robustgap.training.settings import OUTCOMES_VERSION, Plan, StudyFile

FROZEN_STREAM = 8  # stream of the order that selects the frozen images; never change it
ATTACKED = "pgd10"  # the attack whose adversarial examples are stored for the measures


class OutcomesFault(FileFault):
    """A model's stored outcomes cannot be used; the model itself may be intact."""


def _frozen(split: Split, count: int | None, field: str) -> Split:
    """The first `count` images (None: all) of the frozen order. Raises ValueError if there are fewer."""
    if count is not None and not 0 < count <= len(split):
        raise ValueError(f"{field}: found {count}, wanted 1 to {len(split)}, the number of images available")
    rows = stratified_order(split.labels, FROZEN_STREAM)[:count]
    return Split(split.images[rows], split.labels[rows], split.index[rows])


def frozen_images(study: StudyFile) -> tuple[Split, Split, int]:
    """(train, test, m): frozen images in order; the first m training images are the measure images."""
    splits, outcomes = splits_of(study), study["outcomes"]
    train = _frozen(splits.train, outcomes.get("train_images"), "outcomes.train_images")
    test = _frozen(splits.test, outcomes.get("test_images"), "outcomes.test_images")
    m = study["measure_images"]
    if not 0 < m <= len(train):
        raise ValueError(f"measure_images: found {m}, wanted 1 to {len(train)}, the frozen training images")
    return train, test, m


def outcome_images(study: StudyFile, outcome: Outcome) -> tuple[Split, Split, int]:
    """`frozen_images` within the limits of an outcome."""
    train, test, m = frozen_images(study)
    return first(train, outcome.train_images), first(test, outcome.test_images), m


def first(split: Split, count: int | None) -> Split:
    """The first `count` images (None: all)."""
    return Split(split.images[:count], split.labels[:count], split.index[:count])


def index_sha(index: Tensor) -> str:
    """First 10 hex digits of the SHA-256 of image ids (n,), as little-endian int64, in the given order."""
    return hashlib.sha256(index.numpy().astype("<i8").tobytes()).hexdigest()[:10]


def cache_file(plan: Plan, results: Path, model_id: str) -> Path:
    """Where a model's outcomes BASE are stored, with its attacked measure images:
    outcomes/models/MODEL.CODE.safetensors.

    CODE is a hash of everything they depend on: their version, threat model, frozen images and the bytes of the
    checkpoint; not the evaluation batch size.
    """
    study = plan["study"]
    train, test, m = frozen_images(study)
    depends_on = {
        "version": OUTCOMES_VERSION,
        "threat": [study["norm"], study["eps"]],
        "attacks": sorted(BASE),
        "images": [study["data"], index_sha(train.index), index_sha(test.index), m],
        "weights": checkpoint_digests(plan, results, model_id),
    }
    return results / "outcomes" / "models" / f"{model_id}.{json_code(depends_on)}.safetensors"


def outcome_file(plan: Plan, results: Path, model_id: str, outcome: Outcome) -> Path:
    """Where another outcome of a model is stored: outcomes/GROUP/models/MODEL.CODE.safetensors, with CODE as in
    `cache_file`."""
    study = plan["study"]
    train, test, m = outcome_images(study, outcome)
    depends_on = {
        "version": OUTCOMES_VERSION,
        "outcome": [outcome.attack, outcome.norm, outcome.eps, outcome.target, *outcome.options],
        "images": [study["data"], index_sha(train.index), index_sha(test.index), m],
        "weights": checkpoint_digests(plan, results, model_id),
    }
    if outcome.sources:
        depends_on["sources"] = [checkpoint_digests(plan, results, source) for source in outcome.sources]
    return results / "outcomes" / outcome.group / "models" / f"{model_id}.{json_code(depends_on)}.safetensors"


def checkpoint_digests(plan: Plan, results: Path, model_id: str) -> list[str]:
    """What stands for a model's weights, and for how they are loaded. Raises FileFault if its file is missing."""
    entry = entry_of(plan, model_id)
    if entry["source"] == "robustbench":
        return [file_digest(path) for path in zoo.checkpoint_files(entry, model_dir(plan))]
    if entry["source"] == "file":
        if not Path(entry["file"]).is_file():
            raise FileFault(f"{entry['file']}: not found; wanted the checkpoint of {model_id}")
        loaded_as = {key: value for key, value in sorted(entry.items()) if key not in ("file", "name", "chunk")}
        return [file_digest(Path(entry["file"])), json.dumps(loaded_as)]
    digest: str = run_record(plan, results, model_id)["files"][f"{entry['checkpoint']}.safetensors"]
    return [digest]


def json_code(content: object) -> str:
    """First 12 hex digits of the SHA-256 of the content as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def measure_batch(plan: Plan, results: Path, model_id: str) -> dict[str, Tensor]:
    """A model's measure images: images float32 (m, c, h, w) in [0, 1], labels and index int64 (m,), and adversarial (m,
    c, h, w), its own PGD-10 examples from the outcomes stage.

    Raises OutcomesFault if the model's outcomes do not exist yet, or their file is truncated; FileFault if a foreign
    model has none because it could not be evaluated.
    """
    train, _, m = frozen_images(plan["study"])
    file = cache_file(plan, results, model_id)
    if not file.exists():
        kind = OutcomesFault if entry_of(plan, model_id)["source"] == "grid" else FileFault
        raise kind(
            f"{file}: not found; wanted the outcomes of {model_id}, made by `python -m robustgap.training outcomes`"
        )
    try:
        outcomes = load_tensors(file)[0]
    except FileFault as error:
        raise OutcomesFault(str(error)) from error
    return {
        "images": splits_of(plan["study"]).floats(train.images[:m]),
        "labels": train.labels[:m],
        "index": train.index[:m],
        "adversarial": outcomes["adversarial"],
    }
