"""The report without a page: the main table for a terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from xstilts.analysis.compare import Comparison
from xstilts.analysis.cost import OPERATIONS
from xstilts.analysis.forgetting import SOURCE as FORGETTING_SOURCE
from xstilts.analysis.stability import counted
from xstilts.analysis.transfer import BASELINE, Gain
from xstilts.report import serving
from xstilts.report.facts import Report
from xstilts.report.view import View, name
from xstilts.report.words import MINUS, amount, answered, bounds, duration, effect_lines, half, judged, number, signed, size, verdict
from xstilts.rows import chosen, left_out
from xstilts.stats import LEVEL, holm
from xstilts.study import UNTUNED

RANKC = (
    "RankC: for each test item the answers are ranked by the model's scores in both languages; the overlap of the two lists of the first j "
    "answers, over j, is weighted by exp(N - j) and averaged over j = 1 ... N. 100 means equal rankings, whether right or wrong."
)
RANKC_SOURCE = "Qi et al. 2023, Cross-Lingual Consistency of Factual Knowledge in Multilingual Language Models, arXiv 2310.10378, section 3"


DRAWN_OUT = (
    "Extrapolated: what a model one or two doublings beyond the largest would reach if the straight line went on, never further. "
    "Prediction interval from the scatter of these models about their line (Draper and Smith 1998, section 3.1), so that three sizes, "
    "which leave one degree of freedom, say next to nothing. That the line goes on straight is assumed. Scores and their intervals end at "
    "0 and 100."
)
SLOPES = (
    "A slope is what a score or gain changes by for one unit, over the languages that were not trained on, as if they were drawn from all "
    "that are like them: a mixed-effects model with languages and seeds as random effects (Searle et al. 1992). A language's other traits "
    "change with it, so that it is no cause. Spread: standard deviations of the random effects, in points."
)


def table(report: Report) -> str:
    """Target scores and gains as plain text: one line an intermediate choice, one column a target."""
    view = View(report)
    blocks = []
    for model in view.models:
        head = ["", *view.targets, "mean gain"]
        rows = []
        for step in view.steps:
            cells = [step]
            for target in view.targets:
                level, gain = view.levels.get((model, step, target, "")), view.gains.get((model, step, target, ""))
                if level is None:
                    cells.append("missing")
                elif gain is None:
                    cells.append(number(level.score.estimate))
                else:
                    cells.append(f"{number(level.score.estimate)} {_marked(gain)}")
            mean = view.means.get((model, step, False))
            cells.append(_marked(mean) if mean else "")
            rows.append(cells)
        title = f"{report.facts.study}, {model}: score, gain over {BASELINE} ±95 % (mean over languages)"
        blocks.append("\n".join((title, *_aligned([head, *rows]))))
    marks = "* interval excludes 0; = same training data as the target, not in the mean gain"
    if not view.target_sure():
        marks += "; items only: fewer than three seeds"
    if not view.items_known():
        marks += "; imported scores: without the part of the items, ? where there is one alone"
    lines = [*blocks, marks] if blocks else ["nothing has been scored yet"]
    if report.missing:
        lines.append(f"{len(report.missing)} of {report.cells} cells are missing")
    return "\n".join(lines)


def _marked(row: Gain) -> str:
    mark = "=" if row.same_data else "*" if row.gain.sure and row.gain.sign else ""
    return f"{signed(row.gain.estimate)} ±{half(row.gain)}{mark}"


def comparison(found: Comparison, one: str, other: str) -> str:
    """Two studies side by side as plain text: means over languages, then what their designs do not share."""
    lines = []
    for what in ("score", "gain"):
        rows = [row for row in found.differences if row.what == what and not row.language]
        if not rows:
            continue
        tested = [row for row in rows if row.difference.sure]
        adjusted = holm(np.array([row.difference.p for row in tested])).tolist() if tested else []
        stand = {id(row) for row, p in zip(tested, adjusted, strict=True) if p < 0.05}
        lines.append(f"{what}, mean over the languages of both (A: {one}, B: {other})")
        table = [["model", "intermediate", "target", "A", "B", "B - A"]]
        for row in rows:
            marks = f"{'*' if id(row) in stand else ''}{'' if row.difference.sure else ' items only'}{' =' if row.same_data else ''}"
            apart = f"{signed(row.difference.estimate)} ({bounds(row.difference)}){marks}{'' if row.same_rows else ' other rows'}"
            table.append([row.model, row.intermediate, row.target, *map(number, row.values), apart])
        lines += [*_aligned(table), ""]
    lines.append("* stands after Holm's correction; = same training data as the target; other rows: the test rows are not the same")
    lines += ["", "designs:", *(f"  {what}: {left} in A, {right} in B" for what, left, right in found.design)] if found.design else []
    lines += ["", *(f"not compared: {line}" for line in found.left_out)] if found.left_out else []
    return "\n".join(lines)


CLAIMED = (
    "Each claim is tested at 5 % by itself. Supported: every interval lies beyond its bound; contradicted: one lies on the other side, "
    "after Holm's correction over the claim's contrasts. Fewer than three seeds, and scores without items, give no verdict."
)


def claims_table(report: Report) -> str:
    """What a study says of each claim as plain text, a block a claim and model."""
    several = len({finding.model for finding in report.claims if finding.model}) > 1
    lines = []
    for finding in report.claims:
        at = f" [{finding.model}]" if several and finding.model else ""
        lines.append(f"{finding.claim.id}{at}: {judged(finding)}")
        lines.append(f"    {finding.claim.statement}" + (f" ({finding.claim.source})" if finding.claim.source else ""))
        for effect in finding.effects:
            what, more = effect_lines(effect)
            lines += [f"  - {effect.verdict}: {what}", f"    {more}"]
        lines += [f"  - {finding.found}"] if finding.found else []
    return "\n".join([*lines, CLAIMED])


def markdown(report: Report) -> str:
    """The report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "|".join([" :-- ", *(" --: " for _ in head[1:])]) + "|", *map(line, rows), ""]


def _lines(report: Report) -> Iterable[str]:
    view, facts = View(report), report.facts
    yield from (f"# {facts.study}", "")
    if facts.question:
        yield from (facts.question, "")
    yield from ("## Verdict", "", *(f"- **{lead}**: {line}" if lead else f"- {line}" for lead, line in verdict(report)), "")
    for model, note in facts.model_notes.items():
        yield from (f"> **Note on {model}.** {note}", "")
    yield from (f"> {note}\n" for note in facts.notes)
    if report.missing:
        yield from (f"> **Partial:** {len(report.missing)} of {report.cells} cells are missing.", "")
    for model in view.models:
        at = f" ({model})" if len(view.models) > 1 else ""
        yield from (f"## Scores{at}", "", "Mean over languages, half width of the 95 % interval.", "")
        yield from _grid(
            ["intermediate", *view.targets],
            ([step, *(_score(view, model, step, t) for t in view.targets)] for step in view.steps),
        )
        yield from ("Of what it wrote:", "", *(f"- {line}" for line in lines), "") if (lines := facts.written.get(model)) else ()
        if view.intermediates:
            yield from (f"## Gains over the baseline{at}", "", "Points [95 % interval]; = same data, not in the mean.", "")
            yield from _grid(
                ["intermediate", *view.targets, "mean"],
                (
                    [step, *(_gain(view, model, step, t) for t in view.targets), _mean(view, model, step)]
                    for step in view.intermediates
                ),
            )
        yield from _gap_lines(view, model, at)
        for target in view.targets:
            yield from _language_lines(view, model, target, at)
    yield from _family_lines(view)
    yield from _trend_lines(view)
    yield from _cost_lines(report)
    yield from _served_lines(report)
    yield from _claim_lines(report)
    yield from _answer_lines(report)
    yield from ("## Data", "", *(f"- {line}" for line in facts.caps), "")
    if view.rows:
        yield from _grid(
            ["task", "part", "split", "languages", "rows", "left out"],
            (
                [task, r.rows.part, r.rows.split, " ".join(r.languages), chosen(r.rows), left_out(r.rows)]
                for task, reads in view.rows.items()
                for r in reads
            ),
        )
    for heading, lines in facts.data.items():
        yield from (f"{heading}:", "", *(f"- {line}" for line in lines), "") if lines else ()
    yield from ("## Method", "", *(f"- {line}" for line in method(report)), "")
    if report.missing or report.transfer.left_out:
        yield from ("## Not computed", "")
        for cell in report.missing:
            yield f"- missing: {cell.model}, {cell.intermediate} → {cell.target}, {cell.language}, seed {cell.seed}"
        yield from (*(f"- {line}" for line in report.transfer.left_out), "")
    if report.review:
        yield from ("## Review", "", f"<details><summary>{report.review.summary}</summary>", "")
        yield from _grid(
            ["check", "verdict", "why"],
            ([f"{c.group}: {c.name}", c.cost, c.finding.short] for c in report.review.checks),
        )
        yield from ("</details>", "")
    if facts.command:
        yield from ("## Again", "", f"    {facts.command}", "")
    if facts.costs:
        yield from _grid(["stages", "number", "time"], ([c.kind, str(c.stages), duration(c.seconds)] for c in facts.costs))
    if facts.versions:
        yield from (", ".join(f"{package} {version}" for package, version in facts.versions.items()), "")


def answer_table(report: Report) -> list[list[str]]:
    """A head and a line for each difference that the question comes to: means over targets first, then target by target."""
    rows = sorted(report.answers, key=lambda row: (report.facts.asked.index(row.asked), bool(row.target), bool(row.group)))
    return [
        ["difference", "after or in", "target", "of", "points"],
        *(
            [
                *(f"{row.asked.what}, {row.asked.first} {MINUS} {row.asked.second}", row.place),
                *(row.target or f"mean of {len(row.targets)}", row.group or "all languages"),
                f"{signed(row.difference.estimate)} [{bounds(row.difference)}]{' =' if row.same_data else ''}"
                f"{'' if row.difference.sure else ' ' + row.difference.kind}",
            ]
            for row in rows
        ),
    ]


def _answer_lines(report: Report) -> Iterable[str]:
    if report.answers:
        head, *rows = answer_table(report)
        yield from ("## Answer to the question", "", *(f"- {text}" for text in answered(report)), "")
        yield from _grid(head, rows)


def _claim_lines(report: Report) -> Iterable[str]:
    if not report.claims:
        return
    yield from ("## Published claims", "", CLAIMED, "")
    yield from _grid(
        ["claim", "model", "verdict", "effect"],
        (
            [
                *(f"{finding.claim.id}. {finding.claim.statement}", finding.model, judged(finding)),
                finding.found or "<br>".join(f"{effect.verdict}: {'; '.join(effect_lines(effect))}" for effect in finding.effects),
            ]
            for finding in report.claims
        ),
    )


def cost_words(report: Report) -> str:
    """What the table of costs counts, and what not."""
    spent, watts = report.spent, report.facts.watts
    text = (
        f"Together {duration(spent.total.seconds)} of stages and {amount(spent.total.tokens)} tokens, each stage once; making the "
        "pretrained encoder is not in it. Alone: what a choice would cost by itself, intermediate stages included; shared: each stage "
        "divided among those that stand on it. Time is that of a stage on its worker, beside whatever else ran; machine: "
        f"{'; '.join(spent.machines)}. Operations: {OPERATIONS}. "
    )
    known = f"at an assumed {watts:g} W a worker while a stage runs." if watts else "not estimated, no power is known (report --watts)."
    text += f"Energy: {known}"
    return text + (f" Not known: {'; '.join(spent.unknown)}." if spent.unknown else "")


def cost_table(report: Report) -> list[list[str]]:
    """A head and a line for each model, choice and target."""
    watts = report.facts.watts
    on_gpu = any(cell.alone.gpu_megabytes is not None for cell in report.spent.cells)
    head = ["model", "intermediate", "target", "time alone", "shared", "tokens alone", "operations", "memory"]
    return [
        [*head, *(["on the GPU"] if on_gpu else []), *(["kWh"] if watts else [])],
        *(
            [
                *(cell.model, cell.intermediate, cell.target, duration(cell.alone.seconds), duration(cell.shared.seconds)),
                amount(cell.alone.tokens),
                "not known" if cell.alone.operations is None else amount(cell.alone.operations),
                _gigabytes(cell.alone.megabytes),
                *([_gigabytes(cell.alone.gpu_megabytes)] if on_gpu else []),
                *([f"{cell.alone.kilowatt_hours(watts):.3g}"] if watts else []),
            ]
            for cell in report.spent.cells
        ),
    ]


def _gigabytes(megabytes: float | None) -> str:
    return "not known" if megabytes is None else f"{megabytes / 1024:.2f} GB"


def stability_words(report: Report) -> str:
    """How many runs failed, and what that means."""
    count = counted(report.stability)
    return (
        f"{count['failed']} of {count['runs']} runs failed: their accuracy in the training language is not above that of always giving "
        f"the most frequent label (Mosbach et al. 2021, arXiv 2006.04884); {count['unclear']} are not above it by more than chance allows "
        "(exact binomial test at 5 %). Agreement: share of test items with one answer in two runs, or in a language and the training "
        "language, right or wrong."
    )


def forgetting_words(report: Report) -> str:
    """What the table of forgetting counts, how many changes stand, and what is not measured."""
    own = report.kept
    text = (
        "Backward transfer: the score on what was learnt before, at the end, minus the score right after it was learnt; below 0 it is "
        f"forgotten ({FORGETTING_SOURCE}). "
    )
    if not own:
        return text + "What models lose of their intermediate task was not predicted: the study does not ask for it (forgetting = true)."
    text += (
        "Of an intermediate task: its dev rows in its training language, on which its checkpoint may have been selected. After the "
        "target's training the encoder answers with the head that the intermediate task left it, where no later training has trained "
        "that head. "
    )
    tested = [row for row in own if row.change.sure and not row.same_data]
    if not tested:
        return text + "No verdict: fewer than three seeds, or the same data as the target."
    falls = [row.change.estimate < 0 for row in tested]
    stand = [p < 0.05 for p in holm(np.array([row.change.p for row in tested])).tolist()]
    down, up = (sum(s and f == fall for s, f in zip(stand, falls, strict=True)) for fall in (True, False))
    changes = f"{len(tested)} change{'s' if len(tested) != 1 else ''}"
    return text + f"Of {changes} on intermediate tasks {down} below 0 and {up} above stand after Holm's correction."


def forgetting_table(report: Report) -> list[list[str]]:
    """A head and a line for each change of an intermediate task's score, then of retrieval's, which nothing was trained on."""
    rows = [
        *(
            (row.model, f"{row.task}, dev", row.intermediate, row.target, row.before, row.after, row.change, row.same_data)
            for row in report.kept
        ),
        *(
            (row.model, row.target, "pretraining", row.intermediate, row.baseline, row.score, row.gain, row.same_data)
            for row in report.transfer.gains
            if row.target and not row.language and report.tasks[row.target].kind == "retrieve"
        ),
    ]
    return [
        ["model", "score on", "learnt in", "then trained on", "before", "after", "change"],
        *(
            [
                *(model, task, learnt, then, number(before), number(after)),
                f"{signed(change.estimate)} [{bounds(change)}]{' =' if same else ''}{'' if change.sure else ' ' + change.kind}",
            ]
            for model, task, learnt, then, before, after, change, same in rows
        ),
    ]


def stability_table(report: Report) -> list[list[str]]:
    """A head and a line for each model, choice and target."""

    def share(value: float | None) -> str:
        return "–" if value is None else number(value)

    runs = ("runs", "failed", "not above chance", "most frequent label")
    return [
        ["model", "intermediate", "target", *runs, "agreement of seeds", "of languages"],
        *(
            [
                *(row.model, row.intermediate, row.target, str(row.runs), str(len(row.failed)), str(len(row.unclear))),
                *(share(row.majority), share(row.between_seeds), share(row.between_languages)),
            ]
            for row in report.stability
        ),
    ]


def _trained(languages: Sequence[str]) -> str:
    if not languages:
        return "No model was trained."
    if len(languages) == 1:
        return f"Every model was trained on rows in one language only ({languages[0]}) and scored zero-shot in the others."
    return (
        f"Some models were trained on rows in several languages ({' '.join(languages)}; see Data): "
        "their scores in those are not zero-shot."
    )


def _translations(made: Sequence[str]) -> tuple[str, ...]:
    return (f"Training rows that are translations: {'; '.join(made)}. No dev or test row is translated.",) if made else ()


def method(report: Report) -> tuple[str, ...]:
    """How the numbers were come by and what they cannot say: one sentence or two a line."""
    view = View(report)
    metrics = "; ".join(f"{target}: {view.metric(target)}" for target in view.targets)
    lines = [
        f"{_trained(report.facts.trained_in)} Checkpoints were selected on {report.facts.chosen_on}; no test row was read before scoring.",
        *_translations(report.facts.translated),
        f"Headline metrics, on 0-100: {metrics}.",
        "A target's mean is the plain mean over its languages, the training language included.",
        "Gain: score after the intermediate step minus the baseline's, paired by seed. "
        f"Gap: {_first(view)} minus the mean of the others.",
        f"Intervals ({LEVEL:.0%}): variance over seeds plus an item bootstrap ({report.resamples} resamples of whole groups, "
        "one draw for all languages of a parallel test), less their interaction; t quantile, Satterthwaite's degrees of freedom; never "
        "narrower than for the items alone. The variance over seeds is moderated by that of the model's other choices, which counts as a "
        "third of a degree of freedom.",
    ]
    if not view.target_sure():
        lines.append(
            "Fewer than three seeds: the intervals are 'items only'. The luck of training is not in them, so no verdict is given."
        )
    if not view.items_known():
        lines.append(
            "Some scores were imported without their items: their intervals hold the spread over seeds alone, and one score "
            "has none; no verdict is given on them."
        )
    lines += [
        "In the verdict, P values are corrected with Holm's method over all gains of one kind; single intervals are not.",
        "Cells marked 'same data' (=) read more of the target's training material than the baseline does: the same data set as an "
        "intermediate task, the target twice, or in other languages or splits. They are shown, and kept out of means and verdict.",
        "Items of different targets count as independent. An interval is about these test sets and this way of training: "
        "it says nothing about other languages, sizes or hyperparameters.",
        "Where every item and seed scores the same, an interval has no width; that is a limit of the method, not certainty.",
    ]
    if any(level.intermediate == UNTUNED for level in report.transfer.levels):
        lines.append(
            f'"{UNTUNED}" is the pretrained model asked in plain words, without any training: one answer for all seeds, so that its '
            "interval holds the items alone; it is after no task and has no gain."
        )
    if report.facts.written:
        lines.append(
            "Wrong script: the share of the names and answers that a model wrote which do not stand in its input and of whose letters "
            "more than half are of a script that the language is not written in. Languages that share a script are not told apart."
        )
    if report.transfer.trends:
        lines.append(
            "Trends are least-squares slopes over log2 of the parameters of these few models, which were pretrained on the same data, with "
            "the same tokenizer and for as many updates."
        )
        lines.append(DRAWN_OUT if report.transfer.beyond else "Nothing is extrapolated: that takes three sizes of one series.")
    return tuple(lines)


def _first(view: View) -> str:
    return name(view.task(view.targets[0]).train_language) if view.targets else "English"


def _score(view: View, model: str, step: str, target: str) -> str:
    level = view.levels.get((model, step, target, ""))
    return "missing" if level is None else f"{number(level.score.estimate)} ± {half(level.score)}"


def _gain(view: View, model: str, step: str, target: str) -> str:
    row = view.gains.get((model, step, target, ""))
    return "missing" if row is None else f"{signed(row.gain.estimate)} [{bounds(row.gain)}]{' =' if row.same_data else ''}"


def _mean(view: View, model: str, step: str) -> str:
    row = view.means.get((model, step, False))
    if row is None:
        return ""
    return f"{signed(row.gain.estimate)} [{bounds(row.gain)}], {len(row.targets)} target{'s' if len(row.targets) > 1 else ''}"


def _gap_lines(view: View, model: str, at: str) -> Iterable[str]:
    rows = [row for target in view.targets for row in view.gap_rows(model, target)]
    if not rows:
        return
    yield from (f"## {_first(view)} minus the others{at}", "")
    yield from _grid(
        ["target", "intermediate", _first(view), "others", "gap", "change"],
        (
            [
                *(row.target, row.intermediate, number(row.english), number(row.others)),
                f"{number(row.gap.estimate)} [{bounds(row.gap, sign=False)}]",
                f"{signed(row.change.estimate)} [{bounds(row.change)}]" if row.change else "",
            ]
            for row in rows
        ),
    )


def _language_lines(view: View, model: str, target: str, at: str) -> Iterable[str]:
    codes = view.languages(target)
    if not codes:
        return
    yield from (f"### {target} by language{at}", "")

    def cell(step: str, code: str) -> str:
        level, gain = view.levels.get((model, step, target, code)), view.gains.get((model, step, target, code))
        if level is None:
            return "missing"
        if gain is None:
            return f"{number(level.score.estimate)} ± {half(level.score)}"
        return f"{number(level.score.estimate)} ({signed(gain.gain.estimate)} ± {half(gain.gain)})"

    yield from _grid(
        ["language", *view.steps], ([f"{name(code)} ({code})", *(cell(step, code) for step in view.steps)] for code in codes)
    )
    if steps := view.consistent(model, target):
        first = view.task(target).train_language
        others = [code for code in codes if code != first]

        def alike(step: str, code: str) -> str:
            found = view.consistency.get((model, step, target, code))
            return "missing" if found is None else f"{number(found.estimate)} [{bounds(found, sign=False)}]"

        yield from (f"Consistency of {target} with {name(first)}{at}: RankC [95 % interval]. {RANKC} ({RANKC_SOURCE})", "")
        yield from _grid(
            ["language", *steps],
            ([f"{name(code)} ({code})" if code else "mean", *(alike(step, code) for step in steps)] for code in (*others, "")),
        )


def _family_lines(view: View) -> Iterable[str]:
    gains = [g for g in view.report.languages.groups if g.kind == "family" and g.what == "gain"]
    if gains:
        about = "Points [95 % interval]; the training language is left out. Genera and scripts: languages.csv."
        yield from ("## Gains by family", "", about, "")
        yield from _grid(
            ["model", "target", "family", "languages", *view.intermediates],
            (
                [model, target, each, " ".join(codes), *(_group(view, model, step, target, each) for step in view.intermediates)]
                for model in view.models
                for target in view.targets
                for each, codes in view.grouped(model, target, "family").items()
            ),
        )
    for model in view.models:
        if rows := view.slopes(model):
            at = f" ({model})" if len(view.models) > 1 else ""
            yield from (f"## Over what is known of the languages{at}", "", f"{view.slope_words(model)}. {SLOPES}", "")
            yield from (*(f"- {one.name}: {one.about}" for one in view.report.languages.covariates), "")
            yield from _grid(
                ["target", "intermediate", "of", "over", "points a unit", "languages", "spread of languages", "of seeds", "rest"],
                (
                    [
                        *(row.target, row.intermediate, row.what, row.covariate),
                        f"{signed(row.fit.slope.estimate)} [{bounds(row.fit.slope)}]{' =' if row.same_data else ''}",
                        *(str(len(row.languages)), number(row.fit.languages), number(row.fit.seeds), number(row.fit.rest)),
                    ]
                    for row in rows
                ),
            )


def _group(view: View, model: str, step: str, target: str, family: str) -> str:
    row = view.groups.get((model, step, target, "gain", "family", family))
    return "missing" if row is None else f"{signed(row.value.estimate)} [{bounds(row.value)}]{' =' if row.same_data else ''}"


def _cost_lines(report: Report) -> Iterable[str]:
    if report.spent.cells:
        yield from ("## What it costs", "", cost_words(report), "")
        if report.spent.offers:
            yield from _grid(
                ["model", "intermediate", "mean gain", "time more than the baseline", "operations more", "points an hour", "Pareto front"],
                (
                    [
                        *(one.model, one.intermediate),
                        f"{signed(one.gain.estimate)} [{bounds(one.gain)}]" if one.gain else "0",
                        duration(3600 * one.hours),
                        "not known" if one.operations is None else amount(one.operations),
                        "" if one.per_hour is None else "{} [{} to {}]".format(*map(signed, one.per_hour)),
                        "yes" if one.front else "no",
                    ]
                    for one in report.spent.offers
                ),
            )
        head, *rows = cost_table(report)
        yield from _grid(head, rows)
    if report.stability:
        yield from ("## Runs that differ in their seed", "", stability_words(report), "")
        head, *rows = stability_table(report)
        yield from _grid(head, rows)
    head, *rows = forgetting_table(report)
    if rows:
        yield from ("## What is forgotten", "", forgetting_words(report), "")
        yield from _grid(head, rows)


def _served_lines(report: Report) -> Iterable[str]:
    if tables := serving.tables(report.served):
        yield from ("## Deployment", "", *(f"{text}\n" for text in serving.words(report.served)))
        for caption, (head, *rows) in tables:
            yield from (f"### {caption}", "", *_grid(head, rows))


def _trend_lines(view: View) -> Iterable[str]:
    if not view.trends:
        return
    sizes = view.report.facts.parameters
    yield from ("## Trend over model size", "", "Points for each doubling of the parameters [95 % interval]; models: ")
    yield from (", ".join(f"{model} ({size(sizes[model])})" for models in view.ladders for model in models), "")
    yield from _grid(
        ["target", "intermediate", "models", "what", "slope"],
        (
            [row.target, row.intermediate, " ".join(row.models), row.what, f"{signed(row.slope.estimate)} [{bounds(row.slope)}]"]
            for row in view.trends.values()
        ),
    )
    if view.report.transfer.beyond:
        yield from ("### Extrapolated", "", DRAWN_OUT, "")
        yield from _grid(
            ["target", "intermediate", "models", "what", "parameters", "extrapolated"],
            (
                [
                    *(row.target, row.intermediate, " ".join(row.models), row.what, f"{size(row.parameters)} (x{2**row.doublings})"),
                    f"{number(row.value.estimate)} [{bounds(row.value, sign=False)}]{' =' if row.same_data else ''}",
                ]
                for row in view.report.transfer.beyond
            ),
        )
