"""CCG supertagging: the lexical category of every word, from CCGbank's derivations of the Wall Street Journal (English)."""

from xstilts.readers import ccgbank_auto, supertags
from xstilts.sources import File, Files
from xstilts.task import Parts, Task

GET = (
    "CCGbank is licensed: order LDC2005T13 from https://catalog.ldc.upenn.edu/LDC2005T13 and unpack it as ccgbank_1_1/, or put "
    "lines of word|category as ccg/train.stagged, ccg/dev.stagged and ccg/test.stagged."
)
OTHER = "other"
# The categories that stand at least twice in the 3,638 automatic parses of ccg_silver, most frequent first (the feature
# [nb] left out), and CCGbank's punctuation. Not the 425 of Clark and Curran (2007), which are taken from CCGbank itself:
# every category outside is one class, so that accuracies are not comparable with published ones.
_FREQUENT = r"""
    N NP/N N/N (S[dcl]\NP)/(S[ng]\NP) PP/NP (S[ng]\NP)/NP (S[dcl]\NP)/NP ((S\NP)\(S\NP))/NP S[ng]\NP conj (NP\NP)/NP N/PP
    (S[ng]\NP)/PP ((S[dcl]\NP)\(S[dcl]\NP))/NP (S\NP)\(S\NP) NP S[adj]\NP (S[dcl]\NP)/PP S[pss]\NP S[dcl]\NP (S[dcl]\NP)/(S[adj]\NP)
    (N\N)/NP (S[dcl]\NP[thr])/NP NP[thr] ((S[ng]\NP)\(S[ng]\NP))/NP (S[ng]\NP)/(S[pss]\NP) (S[dcl]\NP)\(S[dcl]\NP) S[b]\NP
    (S[dcl]\NP)/(S[b]\NP) comma (NP\NP)/(S[dcl]\NP) (S[dcl]\NP)/(S[pt]\NP) (S[to]\NP)/(S[b]\NP) NP/(N/PP) (N\N)/(S[dcl]\NP)
    ((S[pss]\NP)\(S[pss]\NP))/NP ((S[ng]\NP)/PP)/NP (N/N)/(N/N) (S[dcl]\NP)/(S[pss]\NP) (S[b]\NP)/NP (S[pss]\NP)/PP
    ((S[dcl]\NP)/PP)/NP pr (NP/N)\NP (S[dcl]\NP)/(S[to]\NP) (S[dcl]\NP)/S[dcl] ((S\NP)\(S\NP))/S[dcl] (S[pt]\NP)/NP
    ((S[adj]\NP)\(S[adj]\NP))/NP (S[ng]\NP)\(S[ng]\NP) ((S[ng]\NP)/NP)/pr ((S[dcl]\NP)\(S[dcl]\NP))/S[dcl] S[asup]\NP S[em]/S[dcl]
    (S/S)/NP ((S[b]\NP)\(S[b]\NP))/NP N\N (NP/(N/PP))\NP S[dcl]/S[inv] S[inv]/NP (S[pt]\NP)/(S[pss]\NP) ((S[dcl]\NP)/(S[b]\NP))/NP
    (S\NP)/(S\NP) (S[adj]\NP)/PP NP/NP (S[b]\NP)/PP (S[dcl]/S[dcl])/S[dcl] (S[ng]\NP)/(S[adj]\NP) S/S (S[pss]\NP)/NP
    (S[dcl]\NP)/(S[dcl]\NP) N/(S[to]\NP) ((N/N)/(N/N))\(S[adj]\NP) (S[b]\NP)\(S[b]\NP) (S[dcl]/S[dcl])/(S[asup]\NP)
    (S[dcl]\NP)/S[em] (S[pt]\NP)/PP ((N/N)/(N/N))/(S[asup]\NP) ((S[pss]\NP)\(S[pss]\NP))/S[dcl] (S[b]\NP)/(S[adj]\NP) NP/PP
    ((S[pt]\NP)\(S[pt]\NP))/NP (NP\NP)/S[dcl] (S[adj]\NP)/(S[adj]\NP) (S[dcl]/S[dcl])/NP (S[pt]\NP)/(S[ng]\NP) PP NP[expl]
    ((S[dcl]\NP)/(S[ng]\NP))/NP ((S[dcl]\NP)/NP)/NP ((S[dcl]\NP)\(S[dcl]\NP))/((S[dcl]\NP)\(S[dcl]\NP)) (N\N)/S[dcl]
    (S[pss]\NP)\(S[pss]\NP) S[dcl]/S[dcl] rrb ((S[ng]\NP)\(S[ng]\NP))/PP ((S\NP)\(S\NP))/N ((S\NP)\(S\NP))/PP (NP\NP)/PP
    (S[pt]\NP)/(S[adj]\NP) PP/PP S[dcl]/NP ((S[b]\NP)/PP)/NP (N/PP)/S[em] (NP/NP)/(S[asup]\NP) (NP\NP)/(S[dcl]/NP) (N\N)/N (N\N)/PP
    (S[b]\NP)/(S[pss]\NP) (S[ng]\NP)/(S[ng]\NP) (S[ng]\NP)/pr (S[pss]\NP)/(S[to]\NP) ((S[dcl]\NP[expl])/S[em])/(S[adj]\NP) (N/PP)/PP
    (S[b]\NP)/S[qem] N/N[num] N[num] PP/(S[ng]\NP) S[pt]\NP S[qem]/S[dcl] ((N/PP)\(N/PP))/NP ((S[dcl]\NP)\(S[dcl]\NP))/PP
    (N\N)/(S[dcl]/NP) N/S[em] S[dcl]\S[dcl] ((NP/NP)/(NP/NP))\(S[adj]\NP) ((S[b]\NP)/NP)/pr ((S[dcl]\NP)/(S[to]\NP))/NP
    ((S[dcl]\NP)\(S[dcl]\NP))/N ((S[ng]\NP)/(S[adj]\NP))/NP ((S[ng]\NP)/NP)/PP ((S[ng]\NP)/PP)/PP ((S[pss]\NP)/PP)/pr
    ((S[pt]\NP)/PP)/NP ((S\NP)\(S\NP))/((S\NP)\(S\NP)) (NP\NP)/(S[ng]\NP) (S/S)/S[dcl] (S[adj]\NP)/(S[to]\NP) (S[b]\NP)/(S[ng]\NP)
    (S[b]\NP)/S[em] (S[dcl]\NP)/S[qem] (S[pss]\NP)/(PP/NP) (S[pt]\NP)/(S[to]\NP) (S[qem]/(S[dcl]\NP))/N N/(S[ng]\NP) NP\NP S\S
"""
LABELS = (*_FREQUENT.split(), *(",", ".", ":", ";", "LRB", "RRB"), OTHER)


def _bank(*sections: str) -> tuple[File, ...]:
    names = ("ccgbank_1_1/data/AUTO", "ccg/AUTO")
    read = ccgbank_auto(LABELS, OTHER)
    return tuple(File(read, tuple(f"{name}/{section}/*.auto" for name in names), only="en") for section in sections)


def _lines(split: str, *names: str) -> tuple[File, ...]:
    return tuple(File(supertags(f"{split}-{n}", LABELS, OTHER), (name,), only="en") for n, name in enumerate(names, start=1))


TASK = Task(
    name="ccg",
    kind="tag",
    about="the lexical category of every word in combinatory categorial grammar (English)",
    languages=("en",),
    source=Files(
        {
            "train": _bank(*(f"{section:02}" for section in range(2, 22))),
            "dev": _bank("00"),
            "test": _bank("23"),
            **{f"plain_{split}": _lines(split, f"ccg/{split}.stagged") for split in ("train", "dev", "test")},
            # automatic parses of sentences of SICK and FraCaS, by two parsers: the format, no substitute for CCGbank
            "silver": _lines("silver", "ccg_silver/SICK_trial_ccg.stagged", "ccg_silver/fracas_ccg.stagged"),
            "silver_easyccg": _lines("easyccg", "ccg_silver/SICK_trial_eccg.stagged", "ccg_silver/fracas_eccg.stagged"),
        },
        GET,
    ),
    metrics=("accuracy",),
    labels=LABELS,
    parts=Parts("train", "dev", "test"),
    pool=("ccg",),
    citation="""@article{hockenmaier-steedman-2007-ccgbank,
  title = {{CCG}bank: A Corpus of {CCG} Derivations and Dependency Structures Extracted from the {P}enn {T}reebank},
  author = {Hockenmaier, Julia and Steedman, Mark},
  journal = {Computational Linguistics},
  year = {2007},
  url = {https://aclanthology.org/J07-3004},
}""",
    licence="LDC user agreement (LDC2005T13)",
    homepage="https://catalog.ldc.upenn.edu/LDC2005T13",
    sizes={"silver-en": 1_855, "silver_easyccg-en": 1_783},
    get=GET,
)
