"""One call of `POST /v1/messages`, step by step from its headers to its last byte."""

import asyncio
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from nightmill_worker.simulator.answer import Answer, make_answer
from nightmill_worker.simulator.caching import Cache, tokens_read
from nightmill_worker.simulator.call_plan import CallPlan, plan_call
from nightmill_worker.simulator.checks import (
    CODE_WAIT_S,
    check_account,
    check_headers,
    check_prompt,
    read_body,
)
from nightmill_worker.simulator.config import SimulatorConfig
from nightmill_worker.simulator.ledger import Ledger
from nightmill_worker.simulator.limiter import Admission, Limiter, Refusal
from nightmill_worker.simulator.outputs import Outputs
from nightmill_worker.simulator.ratelimit import ratelimit_headers, refusal_message, retry_after
from nightmill_worker.simulator.replies import (
    ERROR_MESSAGES,
    MESSAGE_ENCODER,
    blocked_reply,
    error_kind,
    error_reply,
    json_reply,
    wrong_type_reply,
)
from nightmill_worker.simulator.request import ContractError, Prompt, read_prompt
from nightmill_worker.simulator.stops import Stops
from nightmill_worker.simulator.stream import error_event, events, ticks
from nightmill_worker.simulator.version import check_version

# Seconds between two charges for the output of a call that is not streamed.
CHARGE_EVERY_S = 1.0
OK = 200


@dataclass(slots=True)
class Call:
    """One call in progress."""

    request: web.BaseRequest
    request_id: str
    key: str | None = None
    """The prompt's name in the ledger; None until the request is read and valid."""
    admission: Admission | None = None
    """What the limiter charged; None until the call is admitted."""
    input_tokens: int = 0
    usage: object = None
    """The usage of its answer; None until there is one."""
    whole: bool = True
    """Whether the answer was sent to its end."""
    fast: bool = False
    """Whether it is in fast mode, and held to the limits of that."""


class Endpoint:
    """Answers calls under one config, limiter and ledger; its clocks are arguments."""

    def __init__(
        self,
        config: SimulatorConfig,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        """Start with full buckets.

        `clock` is monotonic and `wall` is Unix time, both in seconds. `changed` is called whenever
        a call starts or ends.
        """
        self.config = config
        self.clock = clock
        self.wall = wall
        self.limiter = Limiter(config, clock())
        self.fast_limiter = Limiter(config.fast, clock())
        self._cache = Cache()
        self.ledger = Ledger()
        self._outputs = Outputs()
        self._stops = Stops()
        self._changed = changed
        self._numbers = itertools.count(1)

    def configure(self, config: SimulatorConfig) -> None:
        """Use another config from the next call on."""
        self.config = config
        self.limiter.configure(config, self.clock())
        self.fast_limiter.configure(config.fast, self.clock())

    def reset(self) -> None:
        """Set all counts to zero; buckets and config stay as they are."""
        self.ledger.reset()
        self.limiter.restart_meters(self.clock())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one call and count how it ended."""
        now = self.clock()
        if self.ledger.first_request_at is None:
            self.limiter.restart_meters(now)
        self.ledger.received(now)
        call = Call(request, f"req_{next(self._numbers):016x}")
        try:
            response = await self._answer(call)
        except (asyncio.CancelledError, ConnectionError):
            self._settle(call)
            self.ledger.abandoned(call.key)
            self._changed()
            raise
        self._settle(call)
        self.ledger.ended(call.key, response.status, self.clock(), whole=call.whole)
        if call.whole and response.status == OK:
            self.ledger.bill(call.usage)
        self._changed()
        return response

    async def _answer(self, call: Call) -> web.StreamResponse:
        """Check, admit and answer the call; a contract error becomes the response."""
        config = self.config
        try:
            check_headers(config, call.request)
            prompt = read_prompt(await read_body(call.request))
            call.key = prompt.key
            call.fast = prompt.request.speed == "fast"
            check_version(call.request.headers["anthropic-version"], prompt)
            nth = self.ledger.recognised(prompt.key)
            check_account(config)
            check_prompt(config, prompt)
        except ContractError as error:
            wait = CODE_WAIT_S.get(error.code)
            return self._error(
                call, error.status, error.kind, error.message, wait=wait, code=error.code
            )
        if config.block is not None and prompt.has(config.block):
            return blocked_reply(self._headers(call))
        limiter, needs = self._limiter(call), (prompt.input_tokens, prompt.request.max_tokens)
        admitted = limiter.admit(self.clock(), *needs)
        if isinstance(admitted, Refusal):
            return self._refuse(call, admitted)
        call.admission = admitted
        self._changed()
        plan = plan_call(config, prompt.key, nth, stream=prompt.request.stream)
        return await self._follow(call, prompt, plan)

    def _refuse(self, call: Call, refusal: Refusal) -> web.Response:
        config = self.config.fast if call.fast else self.config
        message = refusal_message(config, refusal)
        wait = retry_after(refusal)
        return self._error(call, 429, self.config.rate_limit_type, message, wait=wait)

    def _error(  # noqa: PLR0913 - the parts of an error
        self,
        call: Call,
        status: int,
        kind: str,
        message: str,
        *,
        wait: str | None = None,
        code: str = "",
    ) -> web.Response:
        """Answer an error; `wait` is the retry-after in seconds, if the config sends it."""
        headers = self._headers(call)
        if wait is not None and self.config.retry_after:
            headers["retry-after"] = wait
        if self.config.should_retry is not None:
            headers["x-should-retry"] = "true" if self.config.should_retry else "false"
        return error_reply(status, kind, message, headers, code)

    async def _follow(self, call: Call, prompt: Prompt, plan: CallPlan) -> web.StreamResponse:
        """Answer an admitted call as its plan says."""
        if plan.kind == "status":
            return self._fail(call, plan.status)
        if plan.kind == "wrong_type":
            call.whole = False
            return wrong_type_reply(self._headers(call))
        call.input_tokens = prompt.input_tokens
        answer = make_answer(prompt, self.config.seed, self.config.output_tokens)
        answer = self._outputs.applied(answer, prompt, self.config)
        answer = self._stops.applied(answer, prompt, self.config)
        answer = self._cache.applied(answer, prompt, self.clock())
        call.usage = answer.body["usage"]
        call.input_tokens -= tokens_read(answer)
        if prompt.request.stream and plan.kind != "drop":
            return await self._stream(call, answer, plan)
        if plan.kind == "stall":
            await asyncio.sleep(self.config.stall_s)
        await self._generate(call, answer, plan.latency_s)
        if plan.kind == "drop":
            return self._hang_up(call, web.Response())
        if plan.kind == "truncate":
            return await self._cut(call, answer)
        return json_reply(200, answer.body, self._headers(call))

    def _fail(self, call: Call, status: int) -> web.Response:
        """Answer an error status, with the error type that belongs to it."""
        message = ERROR_MESSAGES.get(status, "Upstream error")
        if status == 429:  # noqa: PLR2004 (the status is its own name)
            return self._error(call, status, self.config.rate_limit_type, message, wait="1")
        return self._error(call, status, error_kind(status), message)

    async def _generate(self, call: Call, answer: Answer, latency_s: float) -> None:
        """Wait for the latency and charge the output as it would be generated."""
        slices = max(1, math.ceil(latency_s / CHARGE_EVERY_S)) if self.config.otpm else 1
        for done in range(1, slices + 1):
            if latency_s > 0:
                await asyncio.sleep(latency_s / slices)
            self._charge(call, answer.output_tokens * done // slices)

    async def _stream(self, call: Call, answer: Answer, plan: CallPlan) -> web.StreamResponse:
        """Send the answer's events over the latency, or as many of them as the plan says."""
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            **self._headers(call),
        }
        response = web.StreamResponse(headers=headers)
        await response.prepare(call.request)
        framed = events(answer)
        half = len(framed) // 2
        if plan.kind in {"sse_error", "truncate"}:
            framed = framed[:half]
        writes = ticks(framed, plan.latency_s)
        for done, data in enumerate(writes, 1):
            if plan.latency_s > 0:
                await asyncio.sleep(plan.latency_s / len(writes))
            await response.write(data)
            self._charge(call, answer.output_tokens * done // len(writes))
            if plan.kind == "stall" and done == (len(writes) + 1) // 2:
                await asyncio.sleep(self.config.stall_s)
        if plan.kind == "truncate":
            return self._hang_up(call, response)
        if plan.kind == "sse_error":
            call.whole = False
            await response.write(error_event("overloaded_error", "Overloaded"))
        await response.write_eof()
        return response

    async def _cut(self, call: Call, answer: Answer) -> web.StreamResponse:
        """Send the whole body's length and half of the body, then close the connection."""
        body = MESSAGE_ENCODER.encode(answer.body)
        headers = {"content-type": "application/json", **self._headers(call)}
        response = web.StreamResponse(headers=headers)
        response.content_length = len(body)
        await response.prepare(call.request)
        await response.write(body[: len(body) // 2])
        return self._hang_up(call, response)

    @staticmethod
    def _hang_up(call: Call, response: web.StreamResponse) -> web.StreamResponse:
        """Close the connection, so that aiohttp cannot finish the response."""
        call.whole = False
        if call.request.transport is not None:
            call.request.transport.close()
        return response

    def _charge(self, call: Call, output_tokens: int) -> None:
        if call.admission is not None:
            self._limiter(call).generate(self.clock(), call.admission, output_tokens)

    def _settle(self, call: Call) -> None:
        """Free the call's slot and charge its real usage; an error used nothing."""
        if call.admission is not None:
            generated = call.admission.generated
            self._limiter(call).settle(self.clock(), call.admission, call.input_tokens, generated)

    def _headers(self, call: Call) -> dict[str, str]:
        """Return the headers of every response."""
        headers = {"request-id": call.request_id}
        if self.config.headers:
            config = self.config.fast if call.fast else self.config
            headers |= ratelimit_headers(
                config, self._limiter(call), self.clock(), self.wall(), fast=call.fast
            )
        return headers

    def _limiter(self, call: Call) -> Limiter:
        return self.fast_limiter if call.fast else self.limiter
