"""Writes docs/mini.md: what the embedded benchmark is, a sample of every task, and 30 sentences in every language."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from statistics import mean

from xstilts.examples import Choice, Example, Parallel, Passage, Text, Words
from xstilts.mini.grammar import LANGUAGES, language
from xstilts.mini.items import SIZES, Sentence
from xstilts.mini.meaning import PAIRS, SHAPES, facts, single
from xstilts.models import shipped
from xstilts.pretraining import read_config
from xstilts.tasks.mini import TASKS

PAGE = Path(__file__).parent.parent / "docs" / "mini.md"
INTRODUCTION = """# mini: the embedded benchmark

<!-- written by scripts/mini_docs.py: do not edit here -->

Our own text in {count} languages of eight families and six scripts: {languages}. It is the offline default for
the quickstart, for CI and for working on methods. It says little about real language: its sentences are short and made from
{words} word lists by hand-written phrase grammars (`src/xstilts/mini/data/*.toml`; there is no code for any one language).

One seeded generator draws *meanings* (who, what, where, when, how many, which colour, how sure); every language says the same
meanings, so test items are parallel: the same ids, groups and labels in every language. Train and dev are in English only.

| task | kind | train | dev | test, a language |
|---|---|---:|---:|---:|
{sizes}

**Nothing can be read from words alone.** NLI, paraphrase and choice read two sentences that are both called true or both called
false ("False: Anna lives in Delhi. False: Eva is in the garden.") and a sentence that is denied or not ("Anna does not live in
Delhi."). Entailed is what a false sentence denies and what a true one says; contradicted is the opposite; neutral, wrong or
different is what exchanges who does what. Items come in sets of two or three with the same people, facts, hypothesis or
options, in which every label is right once; marks and negations are equally frequent under every label. So words, word
counts, words that both texts share, lengths or hypotheses alone stay at chance (1/3, 1/2, 1/3): what counts is how mark and
negation go together, and who goes with what. A test fits such models in every language. In training a quarter of the
sentences are denied and some NLI lists are of one sentence. A model that puts mark and negation together and never sees who
goes with what reaches 67 % in NLI and choice and 87 % in paraphrase. All people of one text are of one gender, so that no
ending in any language tells who goes with what.

**Nothing of the test is in training.** Every pair of people and every pair of facts belongs to train, dev or test; test texts join
people and facts that never met in a training text, nor in the text made for pretraining, and half of them use a
sentence pattern that no training text has. Single names and single facts are known. For tagging, three tenths of
every word list are kept out of training (the pretraining text has them).

**Text for pretraining** (`xstilts.mini.sentences`, `mixed`, `parallel`) says a thing and says it again in other words or another
order, or asks and answers; every language says different things. `mixed` says every sentence of a passage in another language,
`parallel` says single sentences in several languages.

**Encoders** come in three sizes, made from this text alone (`xstilts pretrain mini-small`; `scripts/ship_mini.py` makes them all). They
read monolingual text (masked words; and `recall`, which hides only words that stood earlier in the passage) **and a parallel signal**:
passages that change languages, and parallel sentences, from which come the first values of the piece vectors, translation language
modelling and translation ranking, in which a sentence stands beside the one that denies it. The pieces are whole words where a word
is frequent, else letters. The test of retrieval is a sentence among 200 held-out ones, by mean-pooled vectors, mean of 11 languages.

| encoder | layers | hidden | parameters | pieces | steps | tokens read | retrieval before | and after |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
{encoders}

Every form is in a Debian spelling dictionary where there is one, or stands in `data/spelling.toml` with a reason
(`scripts/install_dictionaries.sh`, `pytest -m hunspell`). Names are said in each language's own way (Ana, Анна, アンナ); tags
follow Universal Dependencies; organisations and cities are inflected as the sentence needs.

## One item of every task

"""


def shown(row: Example) -> str:
    """An example on one line."""
    match row:
        case Text():
            return f"{row.text} / {row.pair} -> **{row.label}**"
        case Choice():
            options = " ".join(f"({number}) {option}" for number, option in enumerate(row.options))
            return f"{row.context} {row.question} {options} -> **{row.label}**"
        case Words():
            return " ".join(f"{word}/{tag}" for word, tag in zip(row.words, row.tags or (), strict=True))
        case Passage():
            answer = (row.answers or ())[0]
            return f"{row.context} / {row.question} -> **{answer.text}** at {answer.start}"
        case Parallel():
            return f"{row.role}: {row.text}"


def sentences() -> list[Sentence]:
    """30 sentences: all shapes, moods and patterns."""
    rng = Random("mini docs")
    out: list[Sentence] = []
    for turn in range(2):
        for shape in SHAPES:
            said = single(rng, shape, family=0.2, adjunct=0.6)
            out.append(("know" if turn and said.mood in ("plain", "not") else "one", (said,)))
    for number in range(6):
        _, clauses = facts(rng, 2, "train")
        out.append((PAIRS[number % len(PAIRS)], (clauses[0], clauses[1].to(("perhaps", "probably", "plain")[number % 3]))))
    for mood in ("who", "what", "who", "what"):
        _, clauses = facts(rng, 3, "train", one_verb=True)
        while clauses[0].what == "job" or clauses[0].filler("n"):
            _, clauses = facts(rng, 3, "train", one_verb=True)
        out.append(("ask", (clauses[0].to(mood),)))
    return out


def encoder(name: str) -> str:
    """A shipped encoder as a row of the table."""
    folder, config = shipped()[name], read_config(name)
    log = json.loads((folder / "log.json").read_text(encoding="utf-8"))
    before, after = (mean(value for key, value in entry.items() if key != "step") for entry in log["held_out"])
    cells = (name, config.model.layers, config.model.hidden, log["parameters"], config.tokenizer.vocab, log["steps"], log["tokens"])
    return "| " + " | ".join(map(str, cells)) + f" | {before:.1f} | {after:.1f} |"


def page() -> str:
    """The text of docs/mini.md."""
    sizes = "\n".join(
        f"| mini-{name} | {next(task.kind for task in TASKS if task.name == f'mini-{name}')} | "
        + " | ".join(str(size.get(part, "")) for part in ("train", "dev", "test"))
        + " |"
        for name, size in SIZES.items()
    )
    names = ", ".join(f"{language(code).name} ({code})" for code in LANGUAGES)
    words = len(language("en").lists)
    rows = "\n".join(encoder(name) for name in ("mini-small", "mini-base", "mini-large"))
    out = INTRODUCTION.format(count=len(LANGUAGES), languages=names, words=words, sizes=sizes, encoders=rows)
    for task in TASKS:
        out += f"**{task.name}** ({task.kind}). {task.about}\n\n"
        for code in ("en", "sw", "ru") if task.trains else ("sw", "ru"):
            found = list(task.source.read(Path(), "test", code))
            some = found[4:7] if task.name in ("mini-nli", "mini-choice") and code == "en" else found[4:6]
            out += "".join(f"- {code}: {shown(row)}\n" for row in some)
        out += "\n"
    out += "## Thirty sentences\n\nThe same meaning in every language, for readers to check.\n\n"
    for number, sentence in enumerate(sentences(), 1):
        out += f"### {number}\n\n| | |\n|---|---|\n"
        out += "".join(f"| {code} | {language(code).render(*sentence).text} |\n" for code in LANGUAGES) + "\n"
    return out.rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
