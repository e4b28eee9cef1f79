"""The report without a page: the main table for a terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xstilts.analysis.transfer import BASELINE
from xstilts.report.facts import Report
from xstilts.report.view import View, name
from xstilts.report.words import bounds, duration, effect_lines, half, judged, number, signed, size, verdict
from xstilts.rows import chosen, left_out
from xstilts.stats import LEVEL
from xstilts.study import UNTUNED

RANKC = (
    "RankC: for each test item the answers are ranked by the model's scores in both languages; the overlap of the two lists of the first j "
    "answers, over j, is weighted by exp(N - j) and averaged over j = 1 ... N. 100 means equal rankings, whether right or wrong."
)
RANKC_SOURCE = "Qi et al. 2023, Cross-Lingual Consistency of Factual Knowledge in Multilingual Language Models, arXiv 2310.10378, section 3"


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
                    mark = "=" if gain.same_data else "*" if gain.gain.sure and gain.gain.sign else ""
                    cells.append(f"{number(level.score.estimate)} {signed(gain.gain.estimate)} ±{half(gain.gain)}{mark}")
            mean = view.means.get((model, step, False))
            cells.append(f"{signed(mean.gain.estimate)} ±{half(mean.gain)}" if mean else "")
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
    yield from _trend_lines(view)
    yield from _claim_lines(report)
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
        "one draw for all languages of a parallel test), less their interaction; t quantile, Satterthwaite's degrees of freedom.",
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
        lines.append("Trends are least-squares slopes over log2 of the parameters of these few models; nothing is extrapolated.")
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
    return "" if row is None else f"{signed(row.gain.estimate)} [{bounds(row.gain)}], {len(row.targets)} targets"


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


def _trend_lines(view: View) -> Iterable[str]:
    if not view.trends:
        return
    sizes = view.report.facts.parameters
    yield from ("## Trend over model size", "", "Points for each doubling of the parameters [95 % interval]; models: ")
    yield from (", ".join(f"{model} ({size(sizes[model])})" for model in view.models if model in sizes), "")
    yield from _grid(
        ["target", "intermediate", "what", "slope"],
        (
            [row.target, row.intermediate, row.what, f"{signed(row.slope.estimate)} [{bounds(row.slope)}]"]
            for row in view.trends.values()
        ),
    )
