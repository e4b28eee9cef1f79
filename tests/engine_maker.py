"""Tiny models and tasks made on the spot, for tests of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from xstilts.examples import Answer, Choice, Example, Parallel, Passage, Text, Words
from xstilts.stages import Rows
from xstilts.task import Kind, Part, Parts, Task

WORDS = [f"w{i}" for i in range(60)] + ["red", "blue", "is", "the", "who", "?", "."]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def make_tokenizer(types: bool = False) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate([*SPECIALS, *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", unk_token="<unk>", pad_token="<pad>",
        mask_token="<mask>", model_input_names=names,
    )  # fmt: skip


def make_model(folder: Path, family: str = "xlm-roberta", positions: int = 66) -> Path:
    """A two-layer encoder of 32 wide in the plain transformers layout."""
    torch.manual_seed(0)
    shape = {"vocab_size": len(SPECIALS) + len(WORDS), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 64, "max_position_embeddings": positions, "hidden_dropout_prob": 0.1, "pad_token_id": 1}  # fmt: skip
    if family == "llama":
        shape |= {"num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 2}
        LlamaModel(LlamaConfig(**{k: v for k, v in shape.items() if k != "hidden_dropout_prob"})).save_pretrained(folder)
        make_tokenizer().save_pretrained(folder)
        return folder
    if family == "bert":
        model = BertModel(BertConfig(**shape, type_vocab_size=2), add_pooling_layer=False)
    else:
        model = XLMRobertaModel(XLMRobertaConfig(**shape, type_vocab_size=1), add_pooling_layer=False)
    model.save_pretrained(folder)
    make_tokenizer(types=family == "bert").save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Given:
    """A source that gives the same rows in every split."""

    rows: tuple[Example, ...]
    splits: tuple[str, ...] = ("train", "dev", "test")

    def offers(self, split: str, language: str) -> bool:
        return True

    def files(self, data: Path, split: str, language: str) -> tuple[Path, ...]:
        return ()

    def read(self, data: Path, split: str, language: str) -> Iterator[Example]:
        return iter(self.rows)


def toy_rows(kind: Kind, count: int = 24) -> list[Example]:
    """Rows with a rule that two layers learn in some steps: the colour, or what stands after it, decides."""
    made: list[Example] = []
    for i in range(count):
        colour, filler = ("red", "blue")[i % 2], [f"w{(7 * i + k) % 60}" for k in range(2 + i % 5)]
        match kind:
            case "classify":
                made.append(Text(f"e{i}", " ".join(filler), f"the {colour}", label=colour))
            case "choose":
                options = ("is red", "is blue") if i % 3 else ("is blue", "is red")
                made.append(Choice(f"e{i}", " ".join([*filler, "."]), options, "who ?", label=options.index("is red")))
            case "tag":
                made.append(Words(f"e{i}", (*filler, colour), (*["O"] * len(filler), colour.upper())))
            case "span":
                context = " ".join([*filler, colour, f"w{i}", "."])
                made.append(Passage(f"e{i}", "who is the ?", context, (Answer(colour, context.index(colour)),)))
            case "retrieve":
                made.append(Parallel(f"q{i}", " ".join(filler), "query", f"c{i}"))
                made.append(Parallel(f"c{i}", " ".join(filler), "candidate"))
            case "mask":
                made.append(Text(f"e{i}", " ".join([*filler, "the", colour])))
    return made


def toy_task(kind: Kind, rows: Sequence[Example] | None = None, name: str = "") -> Task:
    labels = {"classify": ("red", "blue"), "tag": ("O", "RED", "BLUE")}.get(kind, ())
    metrics = {"span": ("f1", "exact_match"), "mask": ()}.get(kind, ("accuracy",))
    return Task(name or f"toy-{kind}", kind, "", ("en",), Given(tuple(rows or toy_rows(kind))), metrics, labels, Parts())


def rows_of(task: Task, part: Part = "train") -> Rows:
    return Rows(task.name, 1, part, part, "en", "0")
