"""The HTTP service: batches, limits, what bad callers get, and what a stop does to requests in flight."""

from __future__ import annotations

import ast
import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import xstilts
from deploy_maker import DATA, make_model_in
from xstilts.deploy import engines
from xstilts.deploy.batcher import Answers, Batcher, Full, Job, Late
from xstilts.deploy.engines import Engine
from xstilts.deploy.find import find_all
from xstilts.deploy.prometheus import Counts
from xstilts.deploy.serve import Gate, Limits, State, application
from xstilts.engine.answers import Answered
from xstilts.errors import ModelError
from xstilts.examples import Passage, Text, Words

TASKS = ("mini-nli", "mini-choice", "mini-pos", "mini-qa")
NLI = {"text": "True: Anna lives in Delhi.", "pair": "Anna lives in Delhi."}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve") / "store"


@pytest.fixture(scope="module")
def key(store: Path) -> str:
    """One training with a head of every kind."""
    return make_model_in(store, TASKS)


@pytest.fixture(scope="module")
def loaded(store: Path, key: str) -> dict[str, Engine]:
    groups = engines.load_all(find_all(key, store, DATA, "cpu"))
    assert len(groups) == 1 and len({id(each.tokenizer) for each in groups[0].values()}) == 1
    return groups[0]


# ---- the batcher, on an engine that notes what it is given ----


class Noting:
    """Answers each text with itself; waits for `gate`; stumbles over "bad"."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.spec = SimpleNamespace(kind="classify")

    def encode(self, examples: Sequence[Text]) -> list[str]:
        self.gate.wait(10)
        texts = [e.text for e in examples]
        self.batches.append(texts)
        if "bad" in texts:
            raise ValueError("bad")
        return texts

    def logits(self, made: list[str]) -> list[str]:
        return made

    def answers(self, examples: object, made: object, logits: list[str]) -> list[Answered]:
        return [Answered((each,), ()) for each in logits]

    def shortened(self, examples: Sequence[Text], made: object) -> list[bool]:
        return [False] * len(examples)


def started(engine: Noting, most: int = 50, bound: float = 0.1) -> tuple[Batcher, Callable[..., None], list[Any]]:
    """A batcher that has a first job in hand, a function that hands it more, and what came back."""
    outcomes: list[Any] = []
    engines: dict[str, Any] = {"t": engine, "u": engine}  # stands in for an engine
    batcher = Batcher(engines, bound, most)

    def ask(*texts: str, task: str = "t", deadline: float = float("inf")) -> None:
        batcher.submit(Job(task, [Text("", text) for text in texts], outcomes.append, deadline))

    ask("first")
    while batcher.waiting:
        time.sleep(0.001)
    return batcher, ask, outcomes


def test_two_threads_compute_two_batches_at_a_time() -> None:
    both = threading.Barrier(2)

    class Meeting(Noting):
        def logits(self, made: object) -> Any:
            both.wait(10)  # breaks where one waits for the other to end
            return super().logits(made)

    engine, outcomes = Meeting(), list[Any]()
    engine.gate.set()
    engines: dict[str, Any] = {"t": engine}
    batcher = Batcher(engines, 0.1, 50, threads=2)
    for text in ("a", "b", "c", "d"):
        while batcher.waiting:  # taken before the next one comes, so that none are computed together
            time.sleep(0.001)
        batcher.submit(Job("t", [Text("", text)], outcomes.append))
    batcher.end()
    assert sorted(each.answered[0].pred[0] for each in outcomes) == ["a", "b", "c", "d"]


def test_what_waits_is_computed_together_like_with_like() -> None:
    engine = Noting()
    batcher, ask, outcomes = started(engine)
    long = "x" * 1900
    for text in ("aa", "bbb", long, long + "y"):
        ask(text)
    ask("other", task="u")
    engine.gate.set()
    batcher.end()
    # the oldest with those of its task that are nearest in size, as far as there is room; the rest in the batches after it
    assert engine.batches == [["first"], ["aa", "bbb", long], [long + "y"], ["other"]]
    assert sorted(a.pred[0] for o in outcomes for a in o.answered) == sorted(["first", "aa", "bbb", long, long + "y", "other"])


def test_a_full_queue_says_when_to_come_again_and_late_jobs_are_told() -> None:
    engine = Noting()
    batcher, ask, outcomes = started(engine, most=2)
    ask("late", deadline=time.monotonic() - 1)
    ask("two")
    with pytest.raises(Full) as error:
        ask("three")
    assert error.value.after > 0
    engine.gate.set()
    batcher.end()
    assert [type(each) for each in outcomes] == [Answers, Late, Answers]
    assert engine.batches == [["first"], ["two"]]


def test_one_bad_request_spoils_no_other() -> None:
    engine = Noting()
    batcher, ask, outcomes = started(engine)
    for text in ("one", "bad", "two"):
        ask(text)
    engine.gate.set()
    batcher.end()
    assert [type(each) for each in outcomes] == [Answers, Answers, ValueError, Answers]


# ---- the application ----


class Client:
    """Requests to the application without a network."""

    def __init__(self, loaded: dict[str, Engine], limits: Limits | None = None, key: bytes | None = None) -> None:
        limits = limits or Limits()
        batcher = Batcher(loaded, limits.latency, limits.queue)
        self.state = State(dict.fromkeys(loaded, batcher), limits, Counts(), key)
        self.app = Gate(application(loaded, self.state), self.state)

    def __call__(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.request(method, path, **given)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def client(loaded: dict[str, Engine]) -> Client:
    return Client(loaded)


def test_answers_are_those_of_the_engine(client: Client, loaded: dict[str, Engine]) -> None:
    found = client("POST", "/v1/mini-nli", json={"inputs": [NLI, {"text": "b"}], "language": "en"}).json()
    expected = loaded["mini-nli"].answer([Text("", NLI["text"], NLI["pair"]), Text("", "b")])
    assert [each["label"] for each in found["answers"]] == [each.pred[0] for each in expected]
    assert sum(found["answers"][0]["scores"].values()) == pytest.approx(1, abs=1e-5)
    assert max(found["answers"][0]["scores"], key=found["answers"][0]["scores"].get) == found["answers"][0]["label"]
    found = client("POST", "/v1/mini-choice", json={"inputs": [{"context": "a b", "options": ["c", "d", "e"]}]}).json()["answers"][0]
    assert found["option"] == max(range(3), key=found["scores"].__getitem__)
    words = ["Anna", "lives", "here"] * 40  # over several rows
    found = client("POST", "/v1/mini-pos", json={"inputs": [{"words": words}]}).json()["answers"][0]
    assert found == {"tags": list(loaded["mini-pos"].answer([Words("", tuple(words))])[0].pred), "shortened": False}
    assert len(found["tags"]) == len(words) and "" not in found["tags"]
    context = "Anna lives in Delhi. " * 30  # over several windows
    found = client("POST", "/v1/mini-qa", json={"inputs": [{"question": "Where?", "context": context}]}).json()["answers"][0]
    assert found["answer"] == loaded["mini-qa"].answer([Passage("", "Where?", context)])[0].pred[0] and found["answer"] in context
    assert found["shortened"] is False


@pytest.mark.parametrize(
    ("task", "short", "long"),
    [
        ("mini-nli", {"text": "a " * 20, "pair": "b"}, {"text": "a " * 60, "pair": "b"}),
        ("mini-choice", {"context": "a", "options": ["b", "c"]}, {"context": "a " * 60, "options": ["b", "c"]}),
        ("mini-pos", {"words": ["a"] * 99}, {"words": ["a", "q0" * 60]}),
        ("mini-qa", {"question": "a", "context": "b " * 99}, {"question": "a " * 60, "context": "b"}),
    ],
)
def test_input_that_is_cut_says_so(client: Client, task: str, short: object, long: object) -> None:
    found = client("POST", f"/v1/{task}", json={"inputs": [short, long]}).json()
    assert [each["shortened"] for each in found["answers"]] == [False, True]


JSON = {"content-type": "application/json"}
BAD = [
    (400, "is not JSON", {"content": b'{"inputs": [', "headers": JSON}),
    (400, "parsing the body", {"content": b'{"inputs": [{"text": "\xff\xfe"}]}', "headers": JSON}),
    (400, "parsing the body", {"content": b"[" * 100_000, "headers": JSON}),
    (415, "Content-Type: application/json", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    (415, "JSON in UTF-8", {"content": b"{}", "headers": {"content-type": "application/json; charset=latin-1"}}),
    (413, "larger than 1048576 bytes", {"content": b" " * (1 << 21), "headers": JSON}),
    (413, "larger than 1048576 bytes", {"content": iter([b" " * (1 << 19)] * 4), "headers": JSON}),  # without a length beforehand
    (422, "inputs.0.text: Field required", {"json": {"inputs": [{"pair": "a"}]}}),
    (422, "inputs.0.txt: Extra inputs", {"json": {"inputs": [{"text": "a", "txt": "b"}]}}),
    (422, "inputs.0.text: Input should be a valid string", {"json": {"inputs": [{"text": 5}]}}),
    (422, "inputs.0.text: String should have at least 1", {"json": {"inputs": [{"text": ""}]}}),
    (422, "inputs: List should have at least 1", {"json": {"inputs": []}}),
    (422, "inputs: List should have at most 64", {"json": {"inputs": [NLI] * 65}}),
    (422, 'language: mini-nli has no "jp"; did you mean "ja"', {"json": {"inputs": [NLI], "language": "jp"}}),
    (422, "25000 characters to read, at most 20000", {"json": {"inputs": [{"text": "a" * 25_000}]}}),
    (422, "inputs.0.text", {"content": b'{"inputs": [{"text": "\\ud800"}]}', "headers": JSON}),  # half a character
]


@pytest.mark.parametrize(("status", "words", "given"), BAD, ids=[f"{status}-{number}" for number, (status, *_) in enumerate(BAD)])
def test_bad_requests_get_a_line_that_says_why(client: Client, status: int, words: str, given: dict[str, Any]) -> None:
    if not isinstance(given.get("content", b""), bytes):
        parts = list(given["content"])

        async def stream() -> Any:
            for part in parts:
                yield part

        given = {**given, "content": stream()}
    found = client("POST", "/v1/mini-nli", **given)
    assert found.status_code == status, found.text
    assert words in found.json()["error"] and "\n" not in found.json()["error"]
    assert client("POST", "/v1/mini-nli", json={"inputs": [NLI]}).status_code == 200  # and it goes on


def test_unknown_tasks_and_methods(client: Client) -> None:
    found = client("POST", "/v1/mini-nil", json={})
    assert found.status_code == 404 and 'no task "mini-nil" here' in found.json()["error"] and "did you mean" in found.json()["error"]
    assert client("GET", "/v1/mini-nli").status_code == 405
    assert client("GET", "/nothing").json() == {"error": "Not Found"}


def test_too_many_requests_are_told_when_to_come_again(loaded: dict[str, Engine]) -> None:
    client = Client(loaded, Limits(queue=1))
    held = threading.Event()
    engine = SimpleNamespace(spec=loaded["mini-nli"].spec, encode=lambda examples: held.wait(10) and 1 / 0)
    client.state.batchers = {"mini-nli": Batcher({"mini-nli": engine}, 0.1, 1)}
    for expected in (0, 1):  # one in hand, one that waits
        while client.state.batchers["mini-nli"].waiting:
            time.sleep(0.001)
        client.state.batchers["mini-nli"].submit(Job("mini-nli", [Text("", "a")], lambda outcome: None))
        assert client.state.batchers["mini-nli"].waiting >= expected
    found = client("POST", "/v1/mini-nli", json={"inputs": [NLI]})
    assert found.status_code == 429 and int(found.headers["retry-after"]) >= 1
    held.set()


def test_the_key(loaded: dict[str, Engine]) -> None:
    client = Client(loaded, key=b"secret")
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
        found = client("POST", "/v1/mini-nli", json={"inputs": [NLI]}, headers=headers)
        assert (found.status_code, found.headers["www-authenticate"]) == (401, "Bearer")
    assert client("POST", "/v1/mini-nli", json={"inputs": [NLI]}, headers={"authorization": "Bearer secret"}).status_code == 200
    assert client("GET", "/metrics").status_code == 401
    assert client("GET", "/health").status_code == client("GET", "/ready").status_code == 200


def test_health_readiness_and_metrics(loaded: dict[str, Engine]) -> None:
    client = Client(loaded)
    assert client("GET", "/ready").json() == {"tasks": sorted(TASKS)}
    client("POST", "/v1/mini-nli", json={"inputs": [NLI, NLI], "language": "de"})
    client("POST", "/v1/mini-nli", json={})
    client("POST", "/v1/nonsense", json={})
    page = client("GET", "/metrics").text
    assert 'xstilts_responses_total{task="mini-nli",status="200"} 1\n' in page
    assert 'xstilts_responses_total{task="mini-nli",status="422"} 1\n' in page
    assert 'xstilts_responses_total{task="unknown",status="404"} 1\n' in page
    assert 'xstilts_examples_total{task="mini-nli",language="de"} 2\n' in page
    assert 'xstilts_request_seconds_bucket{task="mini-nli",le="+Inf"} 2\n' in page
    assert "\nxstilts_waiting_requests 0\n" in page and "\nxstilts_encoders 1\n" in page
    client.state.closing = True
    found = client("GET", "/ready")
    assert found.status_code == 503 and found.headers["connection"] == "close"


def test_models_on_equal_encoders_share_one(store: Path, key: str, tmp_path: Path) -> None:
    alike = make_model_in(store, ("mini-ner",))  # another training, whose encoder stayed as it was
    other = make_model_in(tmp_path / "store", ("mini-paraphrase",), bert=True)
    models = [*find_all(key, store, DATA, "cpu"), *find_all(alike, store, DATA, "cpu"), *find_all(other, tmp_path / "store", DATA, "cpu")]
    groups = engines.load_all(models)
    assert [sorted(group) for group in groups] == [sorted((*TASKS, "mini-ner")), ["mini-paraphrase"]]
    with pytest.raises(ModelError, match="two models answer mini-nli"):
        engines.load_all([models[1], models[1]])


# ---- the process ----


@pytest.fixture
def server(store: Path, key: str) -> Iterator[Callable[..., tuple[int, subprocess.Popen[str]]]]:
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[int, subprocess.Popen[str]]:
        env = {**os.environ, "PYTHONPATH": str(Path(xstilts.__file__).parents[1])}
        line = [sys.executable, "-c", "from xstilts.cli import main; main()", "--store", str(store), "serve", key, "--port", "0", *words]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        running.append(process)
        assert process.stdout is not None and process.stderr is not None
        told = process.stdout.readline()
        assert told.startswith("serving mini-"), process.stderr.read()
        return int(told.rpartition(":")[2]), process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def stopped(process: subprocess.Popen[str]) -> int:
    """The responses that it says it has sent, after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    return int(out.split()[1])


@pytest.mark.slow
def test_sigterm_under_load_loses_no_accepted_request(server: Callable[..., tuple[int, subprocess.Popen[str]]]) -> None:
    port, process = server()
    body = json.dumps({"inputs": [NLI]})
    good, lost = [0] * 8, [0] * 8

    def ask(number: int) -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.connect()
            except OSError:
                return  # nobody is taken in any more
            try:
                for _ in range(1 if number % 2 else 1000):  # half of them with a connection a request
                    connection.request("POST", "/v1/mini-nli", body, JSON)
                    answer = connection.getresponse()
                    assert answer.status == 200 and json.loads(answer.read())["answers"]
                    good[number] += 1
                    if answer.will_close:
                        break
            except (OSError, http.client.HTTPException):
                lost[number] += 1
            finally:
                connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    while sum(good) < 200:
        time.sleep(0.01)
    sent = stopped(process)
    for thread in threads:
        thread.join()
    # what the server took in it has answered, and each answer has arrived; a connection may be refused in the moment of the stop
    assert sum(good) == sent >= 200
    assert sum(lost) <= 8


def clients() -> dict[str, str]:
    """The client that README and docs show, as it stands there, by file; at least the docs have it."""
    root, found = Path(__file__).parents[1], {}
    for name in ("README.md", "docs/deployment.md"):
        lines = (root / name).read_text("utf-8").splitlines()
        begins = [number for number, line in enumerate(lines) if line == "    import json, os, urllib.request"]
        for begin in begins:
            after = (number for number in range(begin, len(lines)) if lines[number] and not lines[number].startswith("    "))
            end = next(after, len(lines))
            found[name] = textwrap.dedent("\n".join(lines[begin:end]))
    assert "docs/deployment.md" in found
    return found


@pytest.mark.slow
def test_the_client_of_the_readme_as_it_stands_there(
    server: Callable[..., tuple[int, subprocess.Popen[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XSTILTS_API_KEY", "secret")
    port, process = server()
    for name, text in clients().items():
        assert len([line for line in text.splitlines() if line]) <= 10, name

        def ask(text: str = text, **given: str) -> subprocess.CompletedProcess[str]:
            env = {**os.environ, "XSTILTS_SERVER": f"http://127.0.0.1:{port}", **given}
            return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=env, check=False, timeout=60)

        done = ask()
        assert done.returncode == 0, done.stderr
        (answer,) = ast.literal_eval(done.stdout)
        assert answer["label"] in answer["scores"] and sum(answer["scores"].values()) == pytest.approx(1.0)
        assert "401" in ask(XSTILTS_API_KEY="wrong").stderr
    stopped(process)


@pytest.mark.slow
def test_slow_and_broken_callers(server: Callable[..., tuple[int, subprocess.Popen[str]]]) -> None:
    port, process = server("--arrive", "1")
    head = b"POST /v1/mini-nli HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"

    def raw(*parts: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            for part in parts:
                connection.sendall(part)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            return received

    assert raw() == b""  # says nothing: closed without a word, which a later request on this connection would take for its answer
    assert b" 408 " in raw(head[:30])  # stops in the middle of the head
    assert b" 408 " in raw(head + b"content-length: 100\r\n\r\n{")  # in the middle of the body
    assert b" 400 " in raw(b"nonsense\r\n\r\n")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        for content in (b"x" * 100_000_000, iter([b"x" * 1_000_000] * 100)):
            assert client.post("/v1/mini-nli", content=content, headers=JSON).status_code == 413
        assert client.post("/v1/mini-nli", json={"inputs": [NLI]}).status_code == 200
        with socket.create_connection(("127.0.0.1", port)) as gone:  # leaves without waiting for the answer
            body = json.dumps({"inputs": [NLI]}).encode()
            gone.sendall(head + f"content-length: {len(body)}\r\n\r\n".encode() + body)
        assert client.get("/ready").status_code == 200
    stopped(process)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of schemathesis' own dependencies
def test_schemathesis(server: Callable[..., tuple[int, subprocess.Popen[str]]], tmp_path: Path) -> None:
    """Requests that fit the description, and ones that do not, as schemathesis makes them."""
    port, process = server()
    line = [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{port}/openapi.json", "--max-examples", "8",
            "--seed", "1", "--no-color", "--phases", "examples,coverage,fuzzing"]  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    stopped(process)
