"""The HTTP service: one process, a queue and some threads of arithmetic an encoder, requests of all callers computed together.

An ASGI layer (`Gate`) turns away what must not come in before anything reads it; FastAPI describes and checks what comes in; the
batcher computes. Nobody is cut off on the way out: a stop answers what has been taken in.
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import math
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h11
import numpy as np
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.exceptions import HTTPException as PlainHTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from xstilts.deploy.batcher import Answers, Batcher, Full, Job, Late, size_of
from xstilts.deploy.engines import Engine
from xstilts.deploy.prometheus import Counts
from xstilts.engine.answers import Answered
from xstilts.errors import nearest
from xstilts.examples import Choice, Example, Passage, Text, Words

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
BATCH = 64  # examples a request


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller may ask for, and how long things may take."""

    body: int = 1 << 20  # bytes
    characters: int = 20_000  # that the model reads for one request
    queue: int = 256  # requests that wait for one encoder
    latency: float = 0.1  # seconds that waiting for a running batch and being computed should take together
    timeout: float = 30.0  # seconds that a request may wait for its turn
    arrive: float = 10.0  # seconds that a request's head and body may take to arrive


# ---- what goes in and out ----


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextIn(_Strict):
    """A text, or a pair of texts, to be given one of several labels."""

    text: str = Field(min_length=1)
    pair: str | None = None


class ChoiceIn(_Strict):
    """A context, an optional question, and options of which one is right."""

    context: str = Field(min_length=1)
    question: str = ""
    options: list[str] = Field(min_length=2)


class WordsIn(_Strict):
    """A sentence as words, each to be given a tag."""

    words: list[str] = Field(min_length=1)


class PassageIn(_Strict):
    """A question and the text that holds its answer."""

    question: str = Field(min_length=1)
    context: str = Field(min_length=1)


class Labelled(BaseModel):
    """The likeliest label, and the probability of each."""

    label: str
    scores: dict[str, float]
    shortened: bool = Field(description="The input was longer than the model reads, and what was too much was left out.")


class Chosen(BaseModel):
    """The likeliest option (0 is the first), and the probability of each."""

    option: int
    scores: list[float]
    shortened: bool = Field(description="The input was longer than the model reads, and what was too much was left out.")


class Tagged(BaseModel):
    """One tag a word."""

    tags: list[str]
    shortened: bool = Field(description="A word was longer than the model reads; its end was left out.")


class Located(BaseModel):
    """The answer as it stands in the context ("": none), and how much likelier it is than none, in logits."""

    answer: str
    score: float
    shortened: bool = Field(description="The question was longer than the model reads; its end was left out.")


class Failure(BaseModel):
    """What went wrong, in one line."""

    error: str


_IN: Mapping[str, Any] = {"classify": list[TextIn], "choose": list[ChoiceIn], "tag": list[WordsIn], "span": list[PassageIn]}
_OUT: Mapping[str, Any] = {"classify": list[Labelled], "choose": list[Chosen], "tag": list[Tagged], "span": list[Located]}


_WARM: Mapping[str, Example] = {
    "classify": Text("", "a", "b"), "choose": Choice("", "a", ("b", "c")), "tag": Words("", ("a",)), "span": Passage("", "a", "b"),
}  # fmt: skip


def _example(given: _Strict) -> Example:
    match given:
        case TextIn():
            return Text("", given.text, given.pair)
        case ChoiceIn():
            return Choice("", given.context, tuple(given.options), given.question)
        case WordsIn():
            return Words("", tuple(given.words))
        case PassageIn():
            return Passage("", given.question, given.context)
    raise TypeError(type(given).__name__)


def _said(kind: str, labels: Sequence[str], answered: Answered, shortened: bool) -> dict[str, Any]:
    match kind:
        case "classify":
            shares = _softmax(answered.scores)
            return {"label": answered.pred[0], "scores": dict(zip(labels, shares, strict=True)), "shortened": shortened}
        case "choose":
            return {"option": int(answered.pred[0]), "scores": _softmax(answered.scores), "shortened": shortened}
        case "tag":
            return {"tags": list(answered.pred), "shortened": shortened}
        case _:
            best, none = answered.scores
            return {"answer": answered.pred[0], "score": best - none, "shortened": shortened}


def _softmax(scores: Sequence[float]) -> list[float]:
    raised = np.exp(np.asarray(scores) - max(scores))
    return [round(float(each), 6) for each in raised / raised.sum()]


# ---- the gate ----


class Gate:
    """In front of the application: keys, sizes, content types; counts what leaves; says goodbye when the server stops."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        read = 0

        async def send_(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._state.closing:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        async def receive_() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._state.limits.body:
                raise _TooLarge
            return message

        refusal = self._refusal(scope)
        try:
            if refusal is None:
                await self._app(scope, receive_, send_)
            else:
                await refusal(scope, receive, send_)
        except _TooLarge:
            await _failed(413, self._state.too_large)(scope, receive, send_)
        task = scope["path"].removeprefix("/v1/")
        if scope["path"].startswith("/v1/"):
            self._state.counts.response(task if task in self._state.batchers else "unknown", status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        if scope["path"] in ("/health", "/ready"):
            return None
        headers = dict(scope["headers"])
        key = self._state.key
        if key is not None and not hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + key):
            return _failed(401, "no valid key; send it as: Authorization: Bearer KEY", {"www-authenticate": "Bearer"})
        if scope["method"] == "POST" and scope["path"].startswith("/v1/"):
            size = headers.get(b"content-length", b"0")
            if not size.isdigit() or int(size) > self._state.limits.body:
                return _failed(413, self._state.too_large)
            kind, _, more = headers.get(b"content-type", b"").partition(b";")
            named = more.strip().lower().removeprefix(b"charset=").strip(b'"')
            if kind.strip().lower() != b"application/json" or named not in (b"", b"utf-8"):
                return _failed(415, "the body must be JSON in UTF-8; send it as: Content-Type: application/json")
        return None


class _TooLarge(BaseException):
    """More bytes came than may; no handler of FastAPI's shall see it."""


def _failed(status: int, error: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": error}, status, headers)


# ---- the application ----


@dataclass
class State:
    """What the parts of a server share."""

    batchers: Mapping[str, Batcher]  # by task
    limits: Limits
    counts: Counts
    key: bytes | None = None
    closing: bool = False

    @property
    def too_large(self) -> str:
        """What a body over the limit is told."""
        return f"the body is larger than {self.limits.body} bytes"


def application(engines: Mapping[str, Engine], state: State) -> FastAPI:
    """The application: `/v1/TASK` for each engine, health, readiness, metrics, OpenAPI."""
    app = FastAPI(
        title="xstilts", version="1", description="Zero-shot cross-lingual models behind JSON.", docs_url=None, redoc_url=None,
        dependencies=[Depends(HTTPBearer(auto_error=False, description="The server's key."))] if state.key is not None else [],
    )  # fmt: skip

    @app.exception_handler(PlainHTTPException)
    async def failed(_: Request, error: PlainHTTPException) -> JSONResponse:
        return _failed(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return _failed(400, f"the body is not JSON: {first['ctx']['error']} at character {first['loc'][-1]}")
        where = ".".join(str(step) for step in first["loc"] if step != "body")
        return _failed(422, f"{where or 'body'}: {first['msg']}")

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, error: ClientDisconnect) -> JSONResponse:
        return _failed(400, "the body did not come")  # nobody reads it

    @app.get("/health", responses={200: {"description": "The process runs."}})
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", responses={503: {"model": Failure, "description": "It is stopping."}})
    async def ready() -> Any:
        if state.closing:
            return _failed(503, "stopping", {"retry-after": "1"})
        return {"tasks": list(engines)}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        scale = 1 if sys.platform == "darwin" else 1 << 10
        distinct = {id(each): each for each in state.batchers.values()}
        page = state.counts.page(
            {
                "xstilts_waiting_requests": sum(each.waiting for each in distinct.values()),
                "xstilts_encoders": len(distinct),
                "process_max_resident_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale,
            }
        )
        return PlainTextResponse(page, media_type="text/plain; version=0.0.4")

    for name, engine in engines.items():
        _add_task(app, name, engine, state)

    @app.post("/v1/{task}", include_in_schema=False)
    async def unknown(task: str) -> None:
        raise HTTPException(404, f'no task "{task}" here (there is: {", ".join(engines)}){nearest(task, engines)}')

    return app


def _add_task(app: FastAPI, name: str, engine: Engine, state: State) -> None:
    spec, limits = engine.spec, state.limits
    languages: dict[str, Any] = {"enum": [*spec.languages, None]}
    title = "".join(part.title() for part in name.split("-"))
    asks = create_model(
        f"{title}Request", __base__=_Strict,
        inputs=(_IN[spec.kind], Field(min_length=1, max_length=BATCH)),
        language=(str | None, Field(default=None, json_schema_extra=languages, description="What language it is in, for the metrics.")),
    )  # fmt: skip
    says = create_model(f"{title}Reply", task=(str, ...), stage=(str, ...), answers=(_OUT[spec.kind], ...))
    codes = (400, 413, 415, 422, 429, 503, *((401,) if state.key is not None else ()))
    failures: dict[int | str, dict[str, Any]] = {code: {"model": Failure} for code in codes}

    async def answer(asked: Any) -> JSONResponse:
        language = asked.language
        if language is not None and language not in spec.languages:
            known = " ".join(spec.languages)
            raise HTTPException(422, f'language: {name} has no "{language}"{nearest(language, spec.languages)} (it has: {known})')
        examples = [_example(each) for each in asked.inputs]
        if (size := sum(map(size_of, examples))) > limits.characters:
            raise HTTPException(422, f"inputs: {size} characters to read, at most {limits.characters} a request")
        found = await _wait(name, examples, state)
        state.counts.answered(name, language or "", len(examples))
        said = [_said(spec.kind, spec.labels, one, cut) for one, cut in zip(found.answered, found.shortened, strict=True)]
        return JSONResponse({"task": name, "stage": spec.stage, "answers": said})

    answer.__annotations__["asked"] = asks
    app.post(f"/v1/{name}", response_model=says, responses=failures, summary=engine.task.about, name=name)(answer)


async def _wait(task: str, examples: Sequence[Example], state: State) -> Answers:
    """The answers, when their turn has come. Raises HTTPException: 429 when too many wait, 503 when it takes too long."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answers] = loop.create_future()

    def settle(outcome: Answers | Exception) -> None:
        if future.done():
            return
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def done(outcome: Answers | Exception) -> None:
        loop.call_soon_threadsafe(settle, outcome)

    try:
        state.batchers[task].submit(Job(task, examples, done, time.monotonic() + state.limits.timeout))
        return await future
    except Full as error:
        wait = str(min(60, max(1, math.ceil(error.after))))
        raise HTTPException(429, f"{state.limits.queue} requests wait already; try again in {wait} s", {"retry-after": wait}) from None
    except Late:
        raise HTTPException(503, f"no turn within {state.limits.timeout:g} s", {"retry-after": "1"}) from None


# ---- the server ----


class _Protocol(H11Protocol):
    """uvicorn's, with a limit on the time that a request's head and body may take to arrive."""

    arrive: float  # seconds
    _timer: asyncio.TimerHandle | None = None
    _silent = True  # nothing has come yet

    # uvicorn's own signature, which is narrower than that of asyncio's protocols
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.arrive, self._late)

    def data_received(self, data: bytes) -> None:
        self._silent = False
        if self._timer is None:
            self._timer = self.loop.call_later(self.arrive, self._late)
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._clear()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear()
        super().connection_lost(exc)

    def _clear(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        answered = self.conn.their_state is h11.SEND_BODY and self.cycle.response_started  # turned away before its body had come
        # an answer to nothing would be read as that to the request which a pool of connections sends next
        if not (answered or self._silent):
            body = b'{"error":"the request did not arrive in time"}'
            head = ("HTTP/1.1 408 Request Timeout", "content-type: application/json", f"content-length: {len(body)}", "connection: close")
            self.transport.write("\r\n".join((*head, "", "")).encode() + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's, which on SIGTERM or SIGINT says so to whoever asks, takes nobody in, and answers whoever is in."""

    LEAVE = 0.3  # seconds in which a connection that was taken in can still bring its request

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: Any = None) -> None:
        """Close the door, wait for requests on their way, then stop as uvicorn does."""
        self._state.closing = True
        for server in self.servers:
            server.close()
        await asyncio.sleep(self.LEAVE)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """A stop that was asked for is no failure: the signal is not raised again at the end."""
        before = {which: signal.signal(which, self.handle_exit) for which in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)


def serve(
    groups: Sequence[Mapping[str, Engine]], host: str, port: int, limits: Limits, key: bytes | None, threads: int = 1
) -> None:
    """Serve until a signal says stop. `groups` are the heads by task, a group for each encoder, which has `threads` of arithmetic.

    Prints one line when it listens, and one when it has stopped: responses that were sent.
    """
    counts = Counts()

    def seen(jobs: Sequence[Job], size: int, seconds: float) -> None:
        counts.batch(jobs[0].task, len(jobs), size, seconds)

    engines = {name: engine for group in groups for name, engine in group.items()}
    for engine in engines.values():
        engine.answer([_WARM[engine.spec.kind]])
    batchers: dict[str, Batcher] = {}
    for group in groups:
        batchers |= dict.fromkeys(group, Batcher(group, limits.latency, limits.queue, seen, threads))
    state = State(batchers, limits, counts, key)
    app = Gate(application(engines, state), state)
    protocol = type("Protocol", (_Protocol,), {"arrive": limits.arrive})
    config = uvicorn.Config(
        app, host, port, http=protocol, loop="asyncio", ws="none", lifespan="off", log_level="error", access_log=False,
        server_header=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=math.ceil(limits.timeout) + 5, limit_concurrency=4 * limits.queue, backlog=1024,
    )  # fmt: skip
    config.load()
    server = _Server(config, state)
    # what is loaded stays: a full collection that looks through all of it would hold every request up for a quarter of a second
    gc.collect()
    gc.freeze()
    asyncio.run(_listen(server, list(engines)))
    for batcher in {id(each): each for each in batchers.values()}.values():
        batcher.end()
    sent = int(sum(counts.responses.values.values()))
    print(f"stopped: {sent} responses sent", flush=True)


async def _listen(server: _Server, tasks: Sequence[str]) -> None:
    async def told() -> None:
        while not server.started:
            await asyncio.sleep(0.01)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {', '.join(tasks)} on http://{shown}:{port}", flush=True)

    waiting = asyncio.create_task(told())
    await server.serve()
    waiting.cancel()
