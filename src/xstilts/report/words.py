"""Numbers and sentences of a report. A sentence never says more than its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xstilts.analysis.answers import Answer
from xstilts.analysis.claims import Effect, Finding
from xstilts.analysis.transfer import BASELINE, Gain, Transfer
from xstilts.plan import Read
from xstilts.report.facts import Report
from xstilts.stats import Interval, detectable, holm

MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int = 1) -> str:
    """A number with a true minus sign; never "-0.0"."""
    text = f"{value:.{digits}f}"
    if float(text) == 0.0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, + included; zero has none."""
    text = number(value, digits)
    return text if text.startswith(MINUS) or float(text) == 0.0 else f"+{text}"


def bounds(interval: Interval, sign: bool = True) -> str:
    """ "+1.2 to +3.4"; "no interval" for a single imported score."""
    if _bare(interval):
        return "no interval"
    show = signed if sign else number
    return f"{show(interval.low)} to {show(interval.high)}"


def half(interval: Interval) -> str:
    """Half the width of an interval: the number after the plus-minus sign; "?" for a single imported score."""
    return "?" if _bare(interval) else number((interval.high - interval.low) / 2)


def _bare(interval: Interval) -> bool:
    """True where a score came alone: no items, no other seeds, nothing to say how far it is to be trusted."""
    return interval.kind == "seeds only" and interval.error == 0.0


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def size(parameters: int) -> str:
    """ "278M", "1.2B", "900k"."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}{name}"
    return str(parameters)


def amount(count: float) -> str:
    """ "950", "12.3 thousand", "1.2e15": a count that may be very large."""
    if count < 0:
        return MINUS + amount(-count)
    if count >= 1e12:
        return f"{count:.2g}"
    for unit, name in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """ "12 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 0:
        return MINUS + duration(-seconds)
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole >= 10 else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def parts_read(reads: Sequence[Read]) -> str:
    """ "train and dev in 1 language, test in 12 languages"."""
    by_languages: dict[int, list[str]] = {}
    for part in dict.fromkeys(read.rows.part for read in reads):
        codes = {code for read in reads if read.rows.part == part for code in read.languages}
        by_languages.setdefault(len(codes), []).append(part)
    return ", ".join(f"{listed(parts)} in {_count(many, 'language')}" for many, parts in by_languages.items())


def sureness(confidence: float) -> str:
    """ "97.3 %"; what would round to all is "over 99.9 %"."""
    return "over 99.9 %" if confidence > 0.999 else f"{100 * confidence:.1f} %"


def effect_lines(effect: Effect) -> tuple[str, str]:
    """One contrast of a claim: (what, how much, how sure), (what was claimed and published, what is lacking)."""
    text = effect.what
    if effect.interval is not None:
        text += f": {signed(effect.interval.estimate)} ({bounds(effect.interval)})"
        if effect.confidence is not None:
            side = "above" if effect.interval.estimate > effect.limit else "below"
            text += f", {sureness(effect.confidence)} sure that it is {side} {effect.limit:g}"
    more = [f"claimed: {effect.bound}"]
    if effect.published is not None:
        more.append(f"published: {signed(effect.published)}{_beside(effect)}{f', {effect.published_as}' if effect.published_as else ''}")
    more += [text for text in (effect.why, *(f"missing: {cell}" for cell in effect.missing), *effect.notes) if text]
    return text, "; ".join(more)


def _beside(effect: Effect) -> str:
    """Where a published figure lies, seen from an interval that holds all the noise there is."""
    if effect.interval is None or effect.published is None or effect.why:
        return ""
    above, below = effect.published > effect.interval.high, effect.published < effect.interval.low
    return f" ({'above' if above else 'below' if below else 'within'} the interval)"


def judged(finding: Finding) -> str:
    """A claim's verdict in a few words."""
    sure = f", {sureness(finding.confidence)}" if finding.confidence is not None else ""
    return f"{finding.verdict}{sure}{' (on mini)' if finding.on_mini else ''}"


def clear(gains: Sequence[Gain]) -> tuple[Gain, ...]:
    """Those whose difference from 0 stands at 5 % after Holm's correction over all the given ones."""
    if not gains:
        return ()
    adjusted = holm(np.array([row.gain.p for row in gains]))
    return tuple(row for row, p in zip(gains, adjusted.tolist(), strict=True) if p < 0.05 and row.gain.sure)


def verdict(report: Report) -> tuple[tuple[str, str], ...]:
    """(what it is about, sentences): two or three sentences a model, on what the intermediate tasks did on average and where."""
    found = report.transfer
    if not found.levels:
        return (("", "No target has been scored yet."),)
    care = _not_learnt(report)
    return (*((("Answer", text)) for text in answered(report)), *_verdict(report), *([("Read with care", care)] if care else []))


def _not_learnt(report: Report) -> str:
    """The targets that most runs may not have learnt at all: differences between such runs say little."""
    parts = []
    for target in dict.fromkeys(row.target for row in report.stability):
        rows = [row for row in report.stability if row.target == target and row.runs]
        runs, unclear = sum(row.runs for row in rows), sum(len(row.unclear) for row in rows)
        if 2 * unclear > runs:
            parts.append(f"on {target} {unclear} of {_count(runs, 'run')}")
    if not parts:
        return ""
    said = listed(parts)
    more = "cannot be told from always giving the most frequent label, in the training language"
    return f"{said[0].upper()}{said[1:]} {more}: gains there say little of a task that is learnt."


def _verdict(report: Report) -> tuple[tuple[str, str], ...]:
    found = report.transfer
    if not found.gains:
        if any(level.intermediate == BASELINE for level in found.levels):
            return (("", "No gain can be computed: the study has no intermediate task, or cells that a gain needs are missing."),)
        return (("", f'No gain can be computed: the cells of the baseline "{BASELINE}" are missing, or the study has none.'),)
    paragraphs: list[tuple[str, str]] = []
    models = [model for model in report.models if any(row.model == model for row in found.gains)]
    for model in models:
        paragraphs.append((model if len(models) > 1 else "", " ".join(_of_model(found, model, report))))
    over_size = _size_sentences(report)
    return (*paragraphs, ("Model size", over_size)) if over_size else tuple(paragraphs)


def answered(report: Report) -> tuple[str, ...]:
    """What the study's question comes to, one paragraph a difference that it asks for, with what it cannot say."""
    paragraphs = []
    for asked in report.facts.asked:
        rows = [row for row in report.answers if row.asked == asked]
        means = [row for row in rows if not row.target and not row.same_data]
        about = f"{_QUANTITY[asked.what]}, {asked.first} minus {asked.second}"
        if not means:
            paragraphs.append(f"{about}: not to be had, cells are missing or all are on the target's own data.")
            continue
        where = "after" if means[0].of_models else "in"
        each = listed([f"{where} {row.place} {signed(row.difference.estimate)} ({bounds(row.difference)})" for row in means])
        many = {len(row.targets) for row in means}
        over = f"mean over {_count(many.pop(), 'target')}" if len(many) == 1 else "mean over targets"
        text = f"{about}, {over}: {each}. {_concluded(means, where)}"
        groups = [row for row in rows if row.group and not row.same_data]
        if groups and all(row.difference.sure for row in groups):
            stand = _standing(groups)
            text += f" By {asked.by}, {len(stand)} of {len(groups)} differences stand after Holm's correction"
            named = sorted({f"{row.group} ({'+' if row.difference.estimate > 0 else MINUS})" for row in stand})
            text += f": {listed(named)}." if named else "."
        paragraphs.append(text + _unsaid(rows[0]))
    return tuple(paragraphs)


_QUANTITY = {"score": "Score", "gain": "Gain over the baseline", "gap": "Gap between the training language and the others"}


def _standing(rows: Sequence[Answer]) -> list[Answer]:
    adjusted = holm(np.array([row.difference.p for row in rows])).tolist()
    return [row for row, p in zip(rows, adjusted, strict=True) if p < 0.05]


def _concluded(means: Sequence[Answer], where: str) -> str:
    """One sentence that says no more than the intervals."""
    asked = means[0].asked
    if any(not row.difference.sure for row in means):
        return "The intervals do not hold all the noise (fewer than three seeds, or imported scores), so that this is no answer yet."
    stand = _standing(means)
    out = []
    for higher in (True, False):
        if named := [f"{where} {row.place}" for row in stand if (row.difference.estimate > 0) == higher]:
            word = ("wider" if higher else "narrower") if asked.what == "gap" else ("higher" if higher else "lower")
            out.append(f"with {asked.first} it is {word} {listed(named)}")
    rest = [row for row in means if row not in stand]
    if rest:
        least = number(max(detectable(row.difference) for row in rest))
        open_ = listed([f"{where} {row.place}" for row in rest])
        out.append(f"no difference stands {open_}, and one below about {least} points could not have been seen")
    said = "; ".join(out)
    return f"{said[0].upper()}{said[1:]}{' (Holm over these)' if len(means) > 1 else ''}."


def _unsaid(row: Answer) -> str:
    """What such a difference cannot say."""
    if not row.of_models:
        return " This holds for these models, recipes and test sets."
    alike = "" if row.alike else " Nothing says that the two were pretrained alike but for their size: it is no effect of size alone."
    return (
        f"{alike} Each of the two is one pretraining: the interval holds seeds of training and test items, not what another pretraining "
        "of the same size would have been, and nothing follows for other sizes."
    )


LISTED = 8  # choices that the verdict names one by one; the table has them all


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number or 'no'} {one if number == 1 else many or one + 's'}"


def _of_model(found: Transfer, model: str, report: Report) -> list[str]:
    means = [row for row in found.gains if not row.target and not row.same_data]
    own = [row for row in means if row.model == model]
    pairs = [row for row in found.gains if row.target and not row.language and not row.same_data]
    own_pairs = [row for row in pairs if row.model == model]
    if any(row.gain.kind == "seeds only" for row in (*own, *own_pairs)):
        return [
            "Some of its scores were imported without their items, so that the intervals lack the part of the test set; "
            "no verdict is given."
        ]
    if any(not row.gain.sure for row in (*own, *own_pairs)):
        seeds = min(row.gain.seeds for row in (*own, *own_pairs))
        return [
            f"With {seeds} seed{'s' if seeds > 1 else ''} the luck of training is not in the intervals (items only), "
            "so no verdict is given; three seeds or more are needed."
        ]
    out = []
    standing = clear(means)
    for better, word in ((True, "raises"), (False, "lowers")):
        rows = sorted(
            (row for row in own if row in standing and (row.gain.estimate > 0) == better), key=lambda r: -abs(r.gain.estimate)
        )
        if rows:
            each = listed([f"{r.intermediate} by {number(abs(r.gain.estimate))} points ({bounds(r.gain)})" for r in rows])
            every = {row.targets for row in rows}
            over = f"over {len(rows[0].targets)} targets" if len(every) == 1 else "over its targets"
            over = f"on {rows[0].targets[0]}" if len(every) == len(rows[0].targets) == 1 else over
            out.append(f"Intermediate training {word} the mean score {over}: {each}.")
    rest = [row for row in own if row not in standing]
    if rest:
        each = listed([f"{r.intermediate} ({bounds(r.gain)})" for r in rest])
        if len(rest) > LISTED:
            gains, ends = [r.gain.estimate for r in rest], [end for r in rest for end in (r.gain.low, r.gain.high)]
            within = f"every interval within {signed(min(ends))} and {signed(max(ends))}"
            spread = f"means from {signed(min(gains))} to {signed(max(gains))}, {within}"
            each = f"{'the other ' if out else ''}{len(rest)} choices ({spread})"
        least = number(max(detectable(r.gain) for r in rest))
        seen = f"effects below about {least} points could not have been seen with these seeds and items."
        corrected = " after Holm's correction" if any(r.gain.sign for r in rest) else ""
        if out:
            out.append(f"For {each} no mean effect stands{corrected}; {seen}")
        else:
            out.append(f"No intermediate task shows a mean effect that stands{corrected}: {each}; {seen}")
    if own_pairs:
        stand = [row for row in clear(pairs) if row.model == model]
        ups = [row for row in stand if row.gain.estimate > 0]
        counts = f"{_count(len(ups), 'gain')} and {_count(len(stand) - len(ups), 'loss', 'losses')} of {len(own_pairs)} contrasts"
        text = f"Target by target, {counts} stand after Holm's correction"
        if stand:
            top = max(stand, key=lambda row: abs(row.gain.estimate))
            text += f"; the largest is {top.intermediate} → {top.target}, {signed(top.gain.estimate)} ({bounds(top.gain)})"
        out.append(text + ".")
    alone = "Every choice has read more of its targets' own training material than the baseline (same data)"
    return out or [f"{alone}: the gains are in the table, and no verdict rests on them."]


def _size_sentences(report: Report) -> str:
    rows = [row for row in report.transfer.trends if row.what == "gain" and not row.same_data]
    if not rows or any(not row.slope.sure for row in rows):
        return ""
    adjusted = holm(np.array([row.slope.p for row in rows]))
    stand = [row for row, p in zip(rows, adjusted.tolist(), strict=True) if p < 0.05]
    if not stand:
        return f"No trend of a gain over model size stands after Holm's correction ({len(rows)} tested)."
    several = len({row.models for row in rows}) > 1
    places = [f"{r.intermediate} on {r.target}" + (f" for {' '.join(r.models)}" if several else "") for r in stand]
    each = listed([f"{place} {signed(r.slope.estimate)} ({bounds(r.slope)})" for place, r in zip(places, stand, strict=True)])
    return f"Points of gain for each doubling of the parameters that stand after Holm's correction ({len(rows)} tested): {each}."
