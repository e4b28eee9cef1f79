"""The card of a trained encoder: what it was made of, under which terms, and whom to cite.

It lies beside the weights as README.md, and as trained_on.json in a form that the card of a model trained further is made
from: terms that forbid commercial use (NC) or sharing what was adapted (ND) are passed on, whatever stands in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xstilts.corpora import CORPORA, UNKNOWN
from xstilts.errors import StoreError
from xstilts.evaluation import TEST_INPUTS
from xstilts.plan import Plan
from xstilts.pretraining import KNOWN
from xstilts.rows import describe
from xstilts.stages import Choose, Merge, Predict, Pretrain, Pretrained, Recipe, Rows, Stage, Start, Train, lineage, parents
from xstilts.tasks import names as task_names
from xstilts.tasks import task as find_task

CARD, TRAINED_ON = "README.md", "trained_on.json"
_NC = re.compile(r"\bNC\b|non-?commercial|research only", re.IGNORECASE)
_ND = re.compile(r"\bND\b|no derivatives", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One data set behind a model; `use` is "pretrained on", "trained on", "selected on" or "made from" (other models)."""

    name: str
    use: str
    licence: str
    homepage: str = ""
    citation: str = ""

    @property
    def terms(self) -> tuple[str, ...]:
        """Those of NC and ND that its licence holds, wholly or in part."""
        return terms(self.licence)


def terms(licence: str) -> tuple[str, ...]:
    """NC where the words of a licence forbid commercial use, ND where they forbid sharing what was adapted."""
    return tuple(name for name, pattern in (("NC", _NC), ("ND", _ND)) if pattern.search(licence))


def sources(stage: Stage, data: Path, given: Iterable[Source] = ()) -> tuple[Source, ...]:
    """Every data set behind a model, each use once, in the order of the trainings; `given` are those of the weights it starts from."""
    found: dict[tuple[str, str], Source] = {(each.name, each.use): each for each in given}
    for step in lineage(stage):
        for each in _of(step, data):
            found.setdefault((each.name, each.use), each)
    return tuple(found.values())


def _of(step: Stage, data: Path) -> Iterator[Source]:
    match step:
        case Pretrain():
            yield from _of_pretraining(json.loads(step.config))
        case Train():
            for share in step.mix:
                yield from _of_rows(share.rows, "trained on", data)
            for rows in step.select:
                yield from _of_rows(rows, "selected on", data)


def _of_rows(rows: Rows, use: str, data: Path) -> Iterator[Source]:
    """The task and, of training rows, the data sets that they come from; of raw text, its folders."""
    task = find_task(rows.task)
    if rows.task == "text":
        folders = {p.parent.name for p in task.source.files(data, rows.split, rows.language) if p.parent.parent == data / "text"}
        yield from (_corpus(name, use) for name in sorted(folders - set(TEST_INPUTS)))
        return
    behind = [find_task(name) for name in task.pool if name != task.name and name in task_names()] if rows.part == "train" else []
    for each in (task, *behind):
        yield Source(each.name, use, each.licence, each.homepage, each.citation)


def _of_pretraining(config: Mapping[str, object]) -> Iterator[Source]:
    """Its texts, and the models that it takes over or learns from."""
    for name in ("text", "parallel"):
        for table in _tables(config.get(name)):
            path, source = str(table.get("path", "")), str(table.get("source", ""))
            parts = Path(path).parts
            known = {"quran": "quran_verbatim"}.get(source, source) or (parts[1] if len(parts) > 2 and parts[0] == "text" else parts[0])
            yield _corpus(known, "pretrained on")
    teachers = [str(table.get("teacher") or "") for table in _tables(config.get("objective"))]
    model = config.get("model")
    init = str(model.get("init") or "") if isinstance(model, Mapping) else ""
    for name in dict.fromkeys(name for name in (init, *teachers) if name):
        about = KNOWN.get(name, {})
        yield Source(about.get("name", Path(name).name), "made from", about.get("licence", UNKNOWN.licence))


def _tables(value: object) -> list[Mapping[str, object]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _corpus(name: str, use: str) -> Source:
    about = CORPORA.get(name, UNKNOWN)
    return Source(name, use, about.licence, about.homepage, about.citation)


def card(stage: Stage, found: Sequence[Source]) -> str:
    """The card as Markdown, its terms first."""
    return "\n".join(_lines(stage, found)) + "\n"


_WORDS = {
    "NC": "**Non-commercial data (NC).** It was made from data whose licence forbids commercial use, in whole or in part",
    "ND": "**No derivatives (ND).** It was made from data whose licence forbids sharing what is adapted from it",
}


def _lines(stage: Stage, found: Sequence[Source]) -> Iterator[str]:
    yield from ("---", "license: other", "library_name: transformers", "tags: [xstilts]", "---", "# An encoder made by xstilts", "")
    for term, words in _WORDS.items():
        if those := dict.fromkeys(f"{each.name} ({each.licence})" for each in found if term in each.terms):
            yield from (f"> {words}: {'; '.join(those)}.", "")
    yield from (f"Stage `{stage.key}`, made in this order:", "")
    steps: dict[str, None] = {}
    for text in _way(stage):
        steps[text] = None
    yield from (f"{number}. {text}" for number, text in enumerate(steps, start=1))
    yield from ("", "## Data", "", "| data set | use | licence | where |", "|---|---|---|---|")
    yield from (f"| {each.name} | {each.use} | {each.licence} | {each.homepage} |" for each in found)
    for each in found:
        if each.use == "made from" and (about := _known(each.name)):
            yield from ("", f"{each.name} ({about['kind']}) was itself tuned on {about['tuned_on']}: {about['caution']}.")
    yield from ("", "Whether the terms of training data bind a model is not settled; who passes it on should act as if they did.")
    if citations := dict.fromkeys(each.citation for each in found if each.citation):
        yield from ("", "## To cite", "", "```bibtex", *citations, "```")


def _known(name: str) -> Mapping[str, str] | None:
    return next((about for about in KNOWN.values() if about["name"] == name), None)


def _way(stage: Stage | Pretrained) -> Iterator[str]:
    """A model's making, step by step, parents first."""
    for parent in parents(stage):
        yield from _way(parent)
    match stage:
        case Pretrained():
            yield f"pretrained weights `{stage.weights}`, whose own licence holds too"
        case Pretrain():
            config = json.loads(stage.config)
            yield f"pretraining `{config['name']}`, {config['steps']} updates, seed {config['seed']}: {config['about']}"
        case Train():
            mix = "; ".join(describe(share.rows) for share in stage.mix)
            yield f"training on {mix} (seed {stage.seed}, learning rate {stage.recipe.lr:g}{_tuning(stage.recipe)})"
        case Merge():
            yield f"merging {len(stage.parts)} encoders ({stage.method})"
        case Choose():
            yield f"the best of {len(stage.among)} by the English dev part"
        case Predict():
            return


def _tuning(recipe: Recipe) -> str:
    """What was trained of the encoder, where that is not all of it."""
    match recipe.tuning:
        case "full":
            return ""
        case "head":
            return "; the heads alone"
        case "prompt":
            return f"; soft prompts of length {recipe.prompt_length}, in a folder of their own"
        case way:
            return f"; {way} of rank {recipe.rank}, alpha {recipe.alpha:g}, in a folder of its own"


def write_card(stage: Stage, data: Path, folder: Path, starts: Iterable[Path] = ()) -> None:
    """Writes card and list into an encoder's folder; `starts` are the folders of pretrained weights that it stands on."""
    given = [each for start in starts for each in read_sources(start)]
    found = sources(stage, data, given)
    (folder / TRAINED_ON).write_text(json.dumps([asdict(each) for each in found], ensure_ascii=False, indent=1) + "\n", "utf-8")
    (folder / CARD).write_text(card(stage, found), "utf-8")


def read_sources(folder: Path) -> tuple[Source, ...]:
    """The list of a folder that xstilts wrote; () where there is none. Raises StoreError for one that cannot be read."""
    path = folder / TRAINED_ON
    try:
        return tuple(Source(**each) for each in json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read as a list of data sets ({error}); get the model again, or remove the file") from None


def learnt_from(found: Iterable[Source]) -> dict[str, str]:
    """Data sets whose labels weights have learnt from, by name, and how: by themselves, or through a model that they were made from."""
    seen = {}
    for each in found:
        if each.use == "trained on":
            seen[each.name] = "was trained on it"
        elif each.use == "made from":
            labels = (_known(each.name) or {}).get("labels_of", "").split()
            seen |= dict.fromkeys(labels, f"{each.name}, which it was made from, was trained on it")
    return seen


def seen_before(plan: Plan, data: Path) -> dict[str, dict[str, str]]:
    """By model, the data sets whose labels its weights have learnt from before the study trains them, and how that is known.

    It is read from the pretraining config, from the list in a folder that xstilts wrote, and from the study's `seen`.
    """
    found: dict[str, dict[str, str]] = {}
    for name, start in plan.models.items():
        own: tuple[Source, ...] = ()
        if isinstance(start, Pretrain):
            own = sources(start, data)
        elif isinstance(folder := plan.where.get(start.key), Path):
            own = read_sources(folder)
        encoder = plan.study.encoders.get(name)
        told = sorted({each for task in (encoder.seen if encoder else ()) for each in find_task(task).material})
        found[name] = {**dict.fromkeys(told, "so the study says"), **learnt_from(own)}
    return found


def pretrained(stage: Start | Stage) -> tuple[Pretrained, ...]:
    """The pretrained weights that a stage stands on, each once."""
    if isinstance(stage, Pretrained):
        return (stage,)
    return tuple(dict.fromkeys(each for parent in parents(stage) for each in pretrained(parent)))
