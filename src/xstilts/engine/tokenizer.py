"""A unigram vocabulary: learnt by SentencePiece, kept as a plain transformers tokenizer.

SentencePiece with one thread makes the same vocabulary on every run; the pieces and
their scores then go into a `tokenizers` model, which gives offsets and needs neither
SentencePiece nor protobuf at run time. Text is normalised by the tokenizer's own
normaliser before SentencePiece sees it, so both agree by construction.
"""

from __future__ import annotations

import io
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import sentencepiece
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from transformers import PreTrainedTokenizerFast

from xstilts.errors import DataError
from xstilts.mini.grammar import BOUNDARY
from xstilts.pretraining import Family, Tokenizer

SPACELESS = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
Piece = tuple[str, float]  # and its log probability
ASCII = string.digits + string.ascii_letters + string.punctuation  # what a model that writes can spell, whatever its texts hold
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(100))  # what T5 hides spans behind


@dataclass(frozen=True)
class Specials:
    """The special tokens of a family: those before and after the pieces, what they are called, and how rows are laid out."""

    first: tuple[str, ...]
    last: tuple[str, ...]
    names: Mapping[str, str | list[str]]
    single: str
    pair: str

    @property
    def many(self) -> int:
        """How many there are."""
        return len(self.first) + len(self.last)


FAMILIES: Mapping[Family, Specials] = {
    "xlm-roberta": Specials(
        ("<s>", "<pad>", "</s>", "<unk>"),
        ("<mask>",),
        {"bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>",
         "mask_token": "<mask>"},
        "<s> $A </s>",
        "<s> $A </s> </s> $B </s>",
    ),
    "mt5": Specials(
        ("<pad>", "</s>", "<unk>"),
        SENTINELS[::-1],  # the first is the last piece, as in mT5
        {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "extra_special_tokens": list(SENTINELS)},
        "$A </s>",
        "$A </s> $B </s>",
    ),
    # nothing ends a row, as in Llama: what is written goes on from there
    "llama": Specials(
        ("<unk>", "<s>", "</s>", "<pad>"),
        (),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        "<s> $A",
        "<s> $A </s> $B",
    ),
}  # fmt: skip


def normalizer(lowercase: bool, words: bool = False) -> normalizers.Normalizer:
    """NFKC, control characters dropped, white space single (and lower case); as SentencePiece's nmt_nfkc.

    For `words`, also a space before the text, but none before a character of a script that is written without spaces: a word of
    such a script is one piece wherever it stands.
    """
    steps: list[normalizers.Normalizer] = [normalizers.Nmt(), normalizers.NFKC()]
    if lowercase:
        steps.append(normalizers.Lowercase())
    steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if words:
        steps += [normalizers.Replace(Regex(rf"^(?!{SPACELESS})"), " "), normalizers.Replace(Regex(rf" (?={SPACELESS})"), "")]
    return normalizers.Sequence(steps)


def train_pieces(texts: Mapping[str, Sequence[str]], spec: Tokenizer, family: Family = "xlm-roberta") -> bytes:
    """A SentencePiece model (protobuf) over evenly spaced lines, at most `spec.sentences` a language. Raises DataError."""
    norm = normalizer(spec.lowercase)
    chosen: list[str] = []
    for language in sorted(texts):
        lines = texts[language]
        step = max(1.0, len(lines) / spec.sentences)
        picked = (lines[int(i * step)] for i in range(min(len(lines), spec.sentences)))
        chosen.extend(norm.normalize_str(line)[:400] for line in picked)
    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(chosen),
            model_writer=out,
            model_type="unigram",
            vocab_size=spec.vocab - FAMILIES[family].many + 3,  # <s> </s> <unk> are SentencePiece's own and make no pieces of ours
            character_coverage=spec.coverage,
            normalization_rule_name="identity",
            num_threads=1,  # more threads give another model
            seed_sentencepiece_size=max(100_000, 12 * spec.vocab),
            shuffle_input_sentence=False,
            minloglevel=2,
        )
    except RuntimeError as error:
        said = str(error)[-200:].strip().rstrip(".")
        raise DataError(f"tokenizer.vocab = {spec.vocab}: SentencePiece says: {said}; take a smaller vocabulary or more text") from error
    return out.getvalue()


def pieces_of(model: bytes) -> list[Piece]:
    """The pieces of a SentencePiece model."""
    native = sentencepiece.SentencePieceProcessor()
    native.LoadFromSerializedProto(model)
    return [
        (native.IdToPiece(i), native.GetScore(i))
        for i in range(native.GetPieceSize())
        if not (native.IsControl(i) or native.IsUnknown(i))
    ]


def word_pieces(texts: Mapping[str, Sequence[str]], spec: Tokenizer, family: Family = "xlm-roberta") -> list[Piece]:
    """The most frequent words of all lines, by log frequency, and every character, which is taken where no word fits.

    For text of a small lexicon: SentencePiece seeds its pieces with what several different words share, so that words which
    share nothing fall into letters however frequent they are. A model that writes can also spell tasks' formats and labels.
    Raises DataError when not even the characters find room.
    """
    norm = normalizer(spec.lowercase, words=True)
    written = Counter(word for lines in texts.values() for line in lines for word in line.split(" "))
    count: Counter[str] = Counter()
    for word, number in written.items():
        head, *tail = map(norm.normalize_str, word.split(BOUNDARY))
        for piece in (head.replace(" ", "▁"), *(part.strip() for part in tail)):
            count[piece] += number
    letters = sorted({letter for word in count for letter in word} | (set() if family == "xlm-roberta" else set(ASCII)))
    room = spec.vocab - FAMILIES[family].many - len(letters)
    if room < 0:
        raise DataError(f"tokenizer.vocab = {spec.vocab}: the text has {len(letters)} different characters; take a larger vocabulary")
    total = count.total()
    ranked = sorted(((word, number) for word, number in count.items() if len(word) > 1), key=lambda one: (-one[1], one[0]))
    words = [(word, log(number / total)) for word, number in ranked[:room]]
    return words + [(letter, log((count[letter] or 0.1) / total)) for letter in letters]


def convert(
    pieces: Sequence[Piece], spec: Tokenizer, max_length: int = 512, family: Family = "xlm-roberta"
) -> PreTrainedTokenizerFast:
    """A unigram model of these pieces as a fast tokenizer with the special tokens and the layout of pairs of the family."""
    own = FAMILIES[family]
    vocab = [(token, 0.0) for token in own.first] + list(pieces) + [(token, 0.0) for token in own.last]
    backend = Backend(models.Unigram(vocab, unk_id=own.first.index("<unk>"), byte_fallback=False))
    words = spec.model == "words"
    backend.normalizer = normalizer(spec.lowercase, words)
    scheme = "never" if words else "always"  # the normaliser of words has put the space where one belongs
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme, split=True)
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    used = [(token, i) for i, token in enumerate(own.first) if token in own.pair.split()]
    backend.post_processor = processors.TemplateProcessing(single=own.single, pair=own.pair, special_tokens=used)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **own.names,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def train_tokenizer(
    texts: Mapping[str, Sequence[str]], spec: Tokenizer, max_length: int = 512, family: Family = "xlm-roberta"
) -> PreTrainedTokenizerFast:
    """Learns and converts a vocabulary: the same texts and `spec` give the same tokenizer. Raises DataError."""
    pieces = word_pieces(texts, spec, family) if spec.model == "words" else pieces_of(train_pieces(texts, spec, family))
    return convert(pieces, spec, max_length, family)


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes tokenizer.json and tokenizer_config.json, which AutoTokenizer reads."""
    tokenizer.save_pretrained(str(folder))
