"""A finished model as one file set, written only where it answers as the PyTorch model does, on real rows in every language."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from xstilts import metrics, provenance
from xstilts.card import CARD, TRAINED_ON
from xstilts.deploy import engines
from xstilts.deploy import graph as graphs
from xstilts.deploy.engines import Engine
from xstilts.deploy.find import Found, real_rows
from xstilts.deploy.spec import FORMATS, PRECISIONS, Checked, Spec, write_spec
from xstilts.engine import hf
from xstilts.errors import ModelError, StoreError, nearest
from xstilts.examples import Example, gold_of
from xstilts.store import disk_error
from xstilts.task import Task

ROWS = 100  # real rows a language that an export is checked on
# largest difference of two logits, over the largest logit of the rows: fp32 sums in another order; bf16 has 8 bits of mantissa,
# a relative rounding of 2**-9 at every layer. Of int8 no bound is known beforehand: the score's loss is told instead.
TOLERANCE: Mapping[str, float | None] = {"fp32": 1e-4, "bf16": 0.1, "int8": None}


def export(found: Found, format: str, precision: str, out: Path, data: Path, most: int = ROWS) -> Spec:
    """Write the file set of an entry of the store into the new folder `out`, and give what is known of it.

    Raises ModelError where format and precision do not go together and where outputs differ by more than TOLERANCE;
    StoreError where `out` is there already or cannot be written. Then nothing is left in `out`.
    """
    _refuse(found, format, precision, out)
    task = found.spec.known_task()
    rows = real_rows(found, data, most)
    draft = out.with_name(f".{out.name}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        spec = _written(found, format, precision, task, rows, draft)
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise disk_error(error, out) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return spec


def _refuse(found: Found, format: str, precision: str, out: Path) -> None:
    if format not in FORMATS:
        raise ModelError(f'--format: expected one of {", ".join(FORMATS)}, got "{format}"{nearest(format, FORMATS)}')
    if precision not in PRECISIONS[format]:
        raise ModelError(
            f"--precision {precision}: {format} is exported in {' or '.join(PRECISIONS[format])} (int8 is ONNX Runtime's, bf16 is for "
            "processors that compute in it, through PyTorch or OpenVINO)"
        )
    if found.exported:
        raise ModelError(f"{found.folder}: is an export already; name the model in the store")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StoreError(f"{out}: is there already; name a new folder with --out")


def _written(found: Found, format: str, precision: str, task: Task, rows: Mapping[str, list[Example]], draft: Path) -> Spec:
    """All files, checked."""
    graph = graphs.graph_of(found.folder, found.spec, task)
    tokenizer = hf.load_tokenizer(found.folder / "encoder")
    names = ("input_ids", "attention_mask", *(("token_type_ids",) if hf.type_ids(tokenizer) else ()))
    longest = hf.max_positions(graph.encoder)
    spec = replace(
        found.spec, format=format, precision=precision, languages=tuple(rows), inputs=names, tolerance=TOLERANCE[precision],
        max_length=min(found.spec.max_length, longest),
    )  # fmt: skip
    tokenizer.save_pretrained(draft)
    full = replace(spec, precision="fp32", tolerance=TOLERANCE["fp32"])
    reference = reference_of(found, rows, task)
    match format:
        case "torch":
            spec = replace(spec, layout=graphs.write_torch(graph, spec, draft))
            if spec.layout:
                run = engines.run_module(graphs.PlainClass(draft, spec))
                check(engines.in_graph(run, spec, task, tokenizer, spec.layout), rows, reference)
        case "openvino":
            graphs.write_onnx(graph, names, longest, draft / "full.onnx")
            graphs.write_openvino(draft / "full.onnx", draft / graphs.GRAPHS["openvino"])
            (draft / "full.onnx").unlink()
        case "onnx" if precision == "int8":
            graphs.write_onnx(graph, names, longest, draft / "full.onnx")
            run = engines.run_onnx(draft / "full.onnx", 1)
            check(engines.in_graph(run, full, task, tokenizer, "onnxruntime"), rows, reference)  # the loss is quantisation's alone
            graphs.quantise(draft / "full.onnx", draft / graphs.GRAPHS["onnx"])
            (draft / "full.onnx").unlink()
        case _:
            graphs.write_onnx(graph, names, longest, draft / graphs.GRAPHS["onnx"])
    checked = check(engines.load(Found(spec, draft, {})), rows, reference)
    spec = replace(spec, checked=checked)
    _describe(spec, found.folder / "encoder", draft)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _hash(path)} for path in sorted(draft.iterdir())}
    write_spec(spec, draft, {"output": "logits", "files": files, "made": provenance.made()})
    return spec


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- checking ----

Reference = Mapping[str, tuple[list[Tensor], list[tuple[str, ...]]]]  # by language: logits of all rows, answers of all examples


def reference_of(found: Found, rows: Mapping[str, Sequence[Example]], task: Task) -> Reference:
    """What the PyTorch model says in fp32."""
    spec = replace(found.spec, precision="fp32")
    engine = engines.in_torch(engines.torch_model(replace(found, spec=spec), task), spec, task)
    made = {}
    for code, examples in rows.items():
        columns = engine.encode(examples)
        logits = engine.logits(columns)
        made[code] = (logits, [each.pred for each in engine.answers(examples, columns, logits)])
    return made


def check(engine: Engine, rows: Mapping[str, Sequence[Example]], reference: Reference) -> dict[str, Checked]:
    """By language, how what was exported compares. Raises ModelError where logits differ by more than the spec's tolerance."""
    result = {}
    for code, examples in rows.items():
        expected, said = reference[code]
        columns = engine.encode(examples)
        logits = engine.logits(columns)
        answered = [each.pred for each in engine.answers(examples, columns, logits)]
        result[code] = Checked(
            len(examples), _difference(expected, logits), sum(a == b for a, b in zip(said, answered, strict=True)),
            engine.task.metrics[0], score(engine.task, code, examples, said), score(engine.task, code, examples, answered),
        )  # fmt: skip
        limit = engine.spec.tolerance
        if limit is not None and not result[code].difference <= limit:  # also refuses a logit that is not a number
            raise ModelError(
                f"{engine.spec.name}: {engine.name} in {engine.spec.precision} differs from PyTorch in fp32 on {code} by "
                f"{result[code].difference:.2g} of the largest logit (allowed: {limit:g}); nothing was written"
            )
    return result


def _difference(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    one, two = (torch.cat([row.flatten() for row in rows]) for rows in (expected, got))
    told = one > -1e8  # -1e9 stands where no answer can be
    scale = max(1.0, float(one[told].abs().max()))
    return float((one[told] - two[told]).abs().max()) / scale


def score(task: Task, language: str, examples: Sequence[Example], answered: Sequence[tuple[str, ...]]) -> float:
    """The headline metric on 0-100."""
    return metrics.items(task.metrics[0], task, language, [gold_of(e) for e in examples], answered).value


# ---- the card ----


def _describe(spec: Spec, encoder: Path, draft: Path) -> None:
    """The encoder's card and list of data sets, and what the export adds."""
    own = (encoder / CARD).read_text("utf-8") if (encoder / CARD).is_file() else "# A model made by xstilts\n"
    (draft / CARD).write_text(own + "\n" + "\n".join(card_lines(spec)) + "\n", "utf-8")
    if (encoder / TRAINED_ON).is_file():
        shutil.copyfile(encoder / TRAINED_ON, draft / TRAINED_ON)


def card_lines(spec: Spec) -> list[str]:
    """What the card says of a deployment: the task, how to load it, and how it compares with PyTorch in fp32."""
    labels = f", labels {', '.join(spec.labels)}" if spec.labels else ""
    bound = "quantised, so not equal; what it loses is below"
    if spec.tolerance is not None:
        bound = f"logits within {spec.tolerance:g} of the largest one"
    metric = next(iter(spec.checked.values())).metric
    lines = [
        "## Deployment", "",
        f"Task `{spec.task}` ({spec.kind}{labels}), {spec.format}, {spec.precision}, rows of at most {spec.max_length} tokens.",
        f"Compared with the PyTorch model in fp32 on real rows: {bound}.", "",
        f"| language | rows | largest difference | equal answers | {metric}, PyTorch fp32 | {metric}, this export |",
        "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    lines += [f"| {c} | {k.rows} | {k.difference:.1e} | {k.same} | {k.reference:.1f} | {k.score:.1f} |" for c, k in spec.checked.items()]
    return [*lines, "", *_how(spec)]


def _how(spec: Spec) -> list[str]:
    asked = ", ".join(spec.inputs)
    if spec.format == "onnx":
        return [f"`model.onnx` takes {asked} ([rows, tokens], int64) and gives `logits`; `tokenizer.json` is the tokenizer."]
    if spec.format == "openvino":
        hint = {"fp32": "f32", "bf16": "bf16"}[spec.precision]
        return [f"`model.xml` takes {asked} ([rows, tokens], int64) and gives `logits`; compile it with INFERENCE_PRECISION_HINT {hint}."]
    if spec.layout:
        return ["```python", f"from transformers import AutoTokenizer, {spec.layout}", "", f'model = {spec.layout}.from_pretrained(".")',
                'tokenizer = AutoTokenizer.from_pretrained(".")', "```"]  # fmt: skip
    vector = {
        "mean": "the mean of the last hidden states over the attended tokens", "first": "the first token's last hidden state",
        "last": "the last attended token's last hidden state",
    }[spec.pool]  # fmt: skip
    what = f"of {vector}" if spec.kind in ("classify", "choose") else "of every last hidden state"
    if spec.pool == "last":  # what a causal model says of a word or a row stands where that ends
        what += {"tag": " (a word's tag at its last piece)", "span": ' ("no answer" at the last token)'}.get(spec.kind, "")
    formula = "out(tanh(dense(x)))" if spec.kind in ("classify", "choose") else "out(x)"
    return [
        f"`AutoModel` loads the encoder. No transformers class has this head: it is {formula} {what}, its weights are `{graphs.HEAD}`:", "",
        "```python", "from safetensors.torch import load_file", "from transformers import AutoModel, AutoTokenizer", "",
        'encoder, head = AutoModel.from_pretrained("."), load_file("head.safetensors")', "```",
    ]  # fmt: skip


def told(spec: Spec) -> str:
    """The table that the command prints."""
    first = next(iter(spec.checked.values()))
    lines = [f"{'':>4} {'rows':>5} {'difference':>11} {'same':>5}  {first.metric}: PyTorch fp32, {spec.format} {spec.precision}, loss"]
    for code, each in spec.checked.items():
        scores = f"{each.reference:6.1f} {each.score:6.1f} {each.reference - each.score:+6.1f}"
        lines.append(f"{code:>4} {each.rows:>5} {each.difference:>11.1e} {each.same:>5}  {scores}")
    return "\n".join(lines)

