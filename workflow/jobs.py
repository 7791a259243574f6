"""Input files and digests of the jobs of a plan, for the rules.

A digest changes exactly when its job would compute something else. It is a parameter of the rule, so adding a run
reruns one chunk and adding a measure reruns no other; finished work inside a chunk is cached.
"""

import ast
import hashlib
import json
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from robustgap.measures._code import code_id
from robustgap.training.settings import DAMAGED, REPRODUCIBLE, Plan
from robustgap.workflow.grid import write_plan
from robustgap.workflow.study import ROOT, measure_rules, rule_file
from robustgap.workflow.unlock import locks_of, record_owner

FUNCTION = "robustgap_python"
CODE = Path(".snakemake/robustgap")
ASSETS = ("j2", "css", "js")  # other files of a package on which its results depend


def shell_prefix(environments: Collection[Any] = (), reproducible: bool = False, before: str = "") -> str:
    """Shell code for `shell.prefix`: `before`, then the function `robustgap_python`, through which all jobs run Python.

    The function runs one thread per process and imports nothing from the working directory, such as a user's torch.py;
    in a checkout it runs the code of the checkout, whatever is installed. It uses the Python that runs Snakemake, since
    PBS and others do not pass PATH on to jobs, and sets the CPU instructions of a reproducible study. If Snakemake
    provides environments (`environments`: its deployment methods), their entries in PATH stay first, and installed code
    is found through CODE. Being a function, it leaves the variables of other Snakefiles' rules unchanged.
    """
    variables = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    if checkout() or environments:
        variables["PYTHONPATH"] = shlex.quote(str(ROOT if checkout() else CODE.absolute()))
    variables |= REPRODUCIBLE if reproducible else {}
    if not environments:
        variables["PATH"] = f'{shlex.quote(str(Path(sys.executable).parent))}:"$PATH"'
    exported = " ".join(f"{name}={value}" for name, value in variables.items())
    function = f'{FUNCTION}() ( export {exported}; exec python "$@" ); '
    if function in before:
        return before
    if FUNCTION in before:
        raise SystemExit("reproducible: found true and false in studies of one Snakefile, wanted the same in all")
    return before + function


def link_code() -> None:
    """Create CODE: a folder through which jobs import the installed robustgap and no other installed package."""
    if checkout():
        return
    CODE.mkdir(parents=True, exist_ok=True)
    link = CODE / f"robustgap.{os.getpid()}"
    link.symlink_to(ROOT, target_is_directory=True)
    os.replace(link, CODE / "robustgap")


def checkout() -> bool:
    """Whether this code lies in a checkout of the project rather than among installed packages."""
    return (ROOT / "Snakefile").is_file()


def json_digest(*parts: object) -> str:
    """First 10 hex digits of the SHA-256 of the parts as JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:10]


@cache
def source_digest(folder: str) -> str:
    """Digest of a package of this repository: its parsed Python, so that comments and layout do not count, and the
    templates, scripts and style sheets next to it."""
    python, assets = [], []
    for file in sorted((ROOT / folder).rglob("*.py")):
        python.append((file.name, ast.dump(ast.parse(file.read_text(encoding="utf-8")))))
    for kind in ASSETS:
        assets += [(file.name, file.read_text(encoding="utf-8")) for file in sorted((ROOT / folder).rglob(f"*.{kind}"))]
    return json_digest(python, assets)


def find_scripts(executor: Any) -> None:
    """Make paths absolute in submit, status and cancel commands that name a file of this repository relative to the
    Snakefile: Snakemake would search only the working directory. `profiles` is a link to workflow/profiles."""
    for name in ("submit_cmd", "status_cmd", "cancel_cmd"):
        script, *options = (getattr(executor, name, None) or "").split(" ", 1)
        candidates = [ROOT / script, ROOT / "workflow" / script] if script else []
        for file in [path for path in candidates if path.is_file()][:1]:
            # cancel runs without a shell
            path = str(file) if name == "cancel_cmd" else shlex.quote(str(file))
            setattr(executor, name, " ".join([path, *options]))


def figure_names() -> list[str]:
    """One figure per file in analysis/figures."""
    return sorted(file.stem for file in (ROOT / "analysis" / "figures").glob("[!_]*.py"))


def statistic_names() -> list[str]:
    """One statistic per file in analysis/statistics."""
    return sorted(file.stem for file in (ROOT / "analysis" / "statistics").glob("[!_]*.py"))


class Jobs:
    """The jobs of a plan. Methods that take Snakemake's wildcards serve as input functions and parameters."""

    def __init__(self, plan: Plan):
        self.plan, self.study = plan, plan["study"]
        self.measures, self.chunks = self.study["measures"], plan["chunks"]
        self.results = f"results/{self.study['study']}"
        self.extra_rules = [str(rule_file(path)) for path in self.study["extra_rules"]]
        self.measure_rules = measure_rules(self.study)
        # {name of a rule: the group of outcomes that its jobs make, '' for what all models need}
        self.outcome_rules = {"outcomes": "", **{f"outcome_{group}": group for group in plan["outcomes"]}}
        self._models: dict[str, list[str]] = defaultdict(list)
        self._batches: dict[str, dict[str, bool]] = defaultdict(dict)
        for model, entry in plan["models"].items():
            self._models[entry["chunk"]].append(model)
        for entry in plan["runs"].values():
            self._batches[entry["chunk"]][entry["batch"]] = True

    def shell_prefix(self, environments: Collection[Any], before: str = "") -> str:
        """`shell_prefix` of the jobs of this study."""
        return shell_prefix(environments, self.study["reproducible"], before)

    def on_start(self, executor: Any, targets: Iterable[str]) -> None:
        """Prepare for the first job: write the plan, record who locks the results, and locate the profile's scripts.
        executor: Snakemake's executor settings. An interim report does not change the plan of jobs that are running."""
        find_scripts(executor)
        if list(targets) != ["interim"] or not self._plan_file.exists():
            self.write_plan()
            link_code()
            record_owner(self.study["study"])

    def start_as_module(self) -> None:
        """The same as a module of another Snakefile, called while rules are read: Snakemake only runs the hooks of the
        main Snakefile. First does what `on_error` would have done. Does nothing while a Snakemake process holds the
        lock on the results."""
        if not locks_of(self.study["study"]):
            self.remove_damaged()
            self.write_plan()
            link_code()

    def on_error(self) -> None:
        """Clean up after the last job if one has failed."""
        self.remove_damaged()
        print(
            f"report of what is finished: python -m robustgap.analysis interim {self.study['study']}", file=sys.stderr
        )

    @property
    def _plan_file(self) -> Path:
        return Path(self.results) / "plan.json"

    def write_plan(self) -> None:
        """Write plan.json, which every job reads. It is not the output of a job: Snakemake checks no parameters
        downstream of a job that is to run, not even across an ancient() input, so a rule that made the plan would hide
        every digest."""
        write_plan(self.plan, self._plan_file)

    def remove_damaged(self) -> None:
        """Remove the splits and outcome tables that a job marked as made from a damaged file. Called when no job runs:
        until then others may read them."""
        results = Path(self.results)
        for name in ("data/splits.json", *self.outcome_tables(results="")):
            if (results / name).exists() and (results / name).stat().st_mtime == DAMAGED:
                (results / name).unlink()

    def plan_digest(self) -> str:
        """Changes with anything in the plan that can affect a result; the ledger passes it on."""
        study = {key: value for key, value in self.study.items() if key != "train_processes"}
        return json_digest({**self.plan, "study": study})

    def figures_ledger(self, targets: Iterable[str]) -> str:
        """The ledger behind the figures: the study's own; the shipped one if `figures` is the only target and the study
        has no results here."""
        name = self.study["study"]
        published = ROOT / "analysis" / "published" / name / "study.json"
        only_figures = list(targets) == ["figures"] and not Path("results", name, "data").exists()
        return str(published) if only_figures and published.exists() else "<results>/ledger/study.json"

    def figures_statistics(self, targets: Iterable[str]) -> list[str]:
        """The statistics behind the figures: the study's own; none for the shipped ledger."""
        from_results = self.figures_ledger(targets).startswith("<results>")
        return ["<results>/analysis/correlations.csv"] if from_results else []

    def models(self, wildcards: Any) -> list[str]:
        """Ids of the models in a chunk."""
        return self._models[wildcards.chunk]

    def manifests(self, wildcards: Any) -> list[str]:
        """Manifests of the training jobs behind a chunk's models (none for models trained elsewhere)."""
        return [f"<results>/runs/{batch}.json" for batch in self._batches[wildcards.chunk]]

    def outcome_manifests(self, group: str) -> Any:
        """`manifests`; for examples transferred from models, those of all chunks."""
        if not any("source" in entry["options"] for entry in self.plan["outcomes"].get(group, [])):
            return self.manifests
        return [f"<results>/runs/{batch}.json" for batches in self._batches.values() for batch in batches]

    def for_chunks(self, pattern: str) -> list[str]:
        """`pattern` expanded for each chunk."""
        return [pattern.format(chunk=chunk) for chunk in self.chunks]

    def outcome_tables(self, chunks: Collection[str] = (), results: str = "<results>/") -> list[str]:
        """The tables of outcomes of some chunks (none: of all): of what all models need, then of every group."""
        folders = [self.outcome_folder(group) for group in self.outcome_rules.values()]
        return [f"{results}{folder}/{chunk}.parquet" for folder in folders for chunk in chunks or self.chunks]

    def outcome_folder(self, group: str) -> str:
        """Folder of the tables of a group, below the study's."""
        return f"outcomes/{group}".rstrip("/")

    def foreign_files(self) -> list[str]:
        """Outcomes and measures of the chunks that hold models trained elsewhere."""
        chunks = {entry["chunk"] for entry in self.plan["models"].values() if entry["source"] != "grid"}
        measures = [f"<results>/measures/{name}/{chunk}.csv" for name in self.measures for chunk in sorted(chunks)]
        return self.outcome_tables(sorted(chunks)) + measures

    def extra_data(self) -> list[str]:
        """The extra images used by the grid."""
        return sorted({run["settings"]["extra_data"] for run in self.plan["runs"].values()} - {"none"})

    def labels_a_pool(self) -> bool:
        """Whether the data job trains a network to label a pool of extra images."""
        return "pool" in self.extra_data()

    def data_digest(self) -> str:
        """Changes with the data set, and with the extra images used by the grid."""
        source = [self.study["data_dir"], self.study["extra_sha256"]]
        return json_digest(self.study["data"], source, self.extra_data(), self.plan["code"]["training"])

    def arithmetic(self) -> list[str]:
        """Added to the digests of computed results: empty except in a reproducible study."""
        return ["reproducible"] if self.study["reproducible"] else []

    def batch_digest(self, wildcards: Any) -> str:
        """Changes with the runs of a training job (a run's id stands for its settings), the training's version, and
        `reproducible`."""
        return json_digest(
            sorted(self.plan["batches"][wildcards.batch]), self.plan["code"]["training"], *self.arithmetic()
        )

    def chunk_digest(self, wildcards: Any) -> str:
        """Changes with a chunk's models, the threat model, the requested images, the version of outcomes, and
        `reproducible`."""
        outcomes = [self.study["outcomes"].get(key) for key in ("train_images", "test_images")]
        threat_model = [self.study["data"], self.study["norm"], self.study["eps"], self.study["model_dir"]]
        images, version = self.study["measure_images"], self.plan["code"]["outcomes"]
        models = sorted(self._models[wildcards.chunk])
        # for other models, the id determines how they are loaded
        files = [self.plan["models"][model] for model in models if self.plan["models"][model]["source"] == "file"]
        return json_digest(models, threat_model, outcomes, images, version, *files, *self.arithmetic())

    def group_digest(self, group: str) -> str:
        """Changes with what the outcomes of a group are, and how many images they take."""
        return json_digest(self.plan["outcomes"].get(group, []))


__all__ = ["Jobs", "code_id", "figure_names", "source_digest", "statistic_names"]
