"""Raw and parallel texts that models are pretrained on: whose they are and under which terms, by the name of their folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Corpus:
    """Facts of one collection of texts."""

    licence: str
    homepage: str = ""
    citation: str = ""


UNKNOWN = Corpus("not known to xstilts: see where the texts came from")

CORPORA: Mapping[str, Corpus] = {
    "mini": Corpus("Apache-2.0 (written for xstilts)"),
    "ntrex": Corpus(
        "CC BY-SA 4.0",
        "https://github.com/MicrosoftTranslator/NTREX",
        """@inproceedings{federmann-etal-2022-ntrex,
  title = {{NTREX}-128 -- News Test References for {MT} Evaluation of 128 Languages},
  author = {Federmann, Christian and Kocmi, Tom and Xin, Ying},
  booktitle = {Proceedings of the First Workshop on Scaling Up Multilingual Evaluation},
  year = {2022},
  url = {https://aclanthology.org/2022.sumeval-1.4},
}""",
    ),
    "quran_verbatim": Corpus("CC BY-NC-ND 4.0", "https://github.com/hablullah/data-quran"),
    "bible_corpus": Corpus("CC0 1.0", "https://github.com/christos-c/bible-corpus"),
    "eltec": Corpus("texts in the public domain, markup CC BY 4.0 (Greek: none stated)", "https://github.com/COST-ELTeC"),
    "indonlu_sentences": Corpus("Apache 2.0 (the repository's)", "https://github.com/IndoNLP/indonlu"),
    "klue_ner_dp_sentences": Corpus("CC BY-SA 4.0", "https://github.com/KLUE-benchmark/KLUE"),
    "lafand_mt": Corpus(
        "CC BY-NC 4.0",
        "https://github.com/masakhane-io/lafand-mt",
        """@inproceedings{adelani-etal-2022-thousand,
  title = {A Few Thousand Translations Go a Long Way! {L}everaging Pre-trained Models for {A}frican News Translation},
  author = {Adelani, David Ifeoluwa and others},
  booktitle = {Proceedings of NAACL 2022},
  year = {2022},
  url = {https://aclanthology.org/2022.naacl-main.223},
}""",
    ),
    "pb_source": Corpus("CC BY 4.0 or public domain, by story", "https://github.com/global-asp/pb-source"),
    "php_manual": Corpus("none stated in the repositories (PHP manual: CC BY 3.0)", "https://github.com/php"),
    "saudinewsnet": Corpus("CC BY-NC-SA 4.0, research only", "https://github.com/parallelfold/SaudiNewsNet"),
    "squad_train_contexts": Corpus("CC BY-SA 4.0 (SQuAD v1.1's)", "https://rajpurkar.github.io/SQuAD-explorer/"),
    "ted_monolingual": Corpus(
        "none stated (TED talks: CC BY-NC-ND)", "https://github.com/ajinkyakulkarni14/TED-Multilingual-Parallel-Corpus"
    ),
    "thaigov": Corpus("public domain (stated)", "https://github.com/PyThaiNLP/thaigov-v2-corpus"),
    "ud_train_sentences": Corpus("one licence a treebank (CC BY-SA, some CC BY-NC-SA)", "https://universaldependencies.org"),
    "wikineural_val_sentences": Corpus("CC BY-NC-SA 4.0", "https://github.com/Babelscape/wikineural"),
}
