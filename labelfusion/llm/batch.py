"""Scores texts through a provider's batch API: handed in together, answered within a day.

Plan, cache keys, parsing and repairs are the scorer's; only the way of a request differs. The first
request is sent at once: it finds out what the model accepts. The rest goes into batches. A text
whose reply is of no use is asked about again at once, alone; one that got no reply goes into the
next batch. A batch that was handed in is on record (`batch_records`) until its replies are in the
cache, so whoever asks about its texts next, after a kill or a cancellation, takes it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from labelfusion.costs import Reservation, Usage
from labelfusion.errors import LimitError, ProviderError
from labelfusion.llm.batch_records import BatchRecord, BatchRecords
from labelfusion.llm.context import ScoringContext
from labelfusion.llm.parsing import Scores
from labelfusion.llm.plan import Plan
from labelfusion.llm.providers.base import (
    PASSING,
    Ask,
    Batches,
    BatchState,
    Failure,
    Reply,
)
from labelfusion.llm.scorer import Scorer
from labelfusion.llm.sending import Sender
from labelfusion.llm.work import MAX_ROUNDS, Task, WorkQueue
from labelfusion.types import OnEvent

# One batch: below the limits of OpenAI (50,000 and 200 MB) and Anthropic (100,000 and 256 MB), and
# small enough to be sent in one go.
_MAX_REQUESTS, _MAX_CHARACTERS = 10_000, 20_000_000
_FIRST_POLL_S, _LONGEST_POLL_S, _POLL_GROWTH = 2.0, 60.0, 1.5
# Looks in a row that may fail, each with its own retries, before the batch is left for later.
_MAX_BLIND = 20
# Texts in a batch are this process's to ask about for so long; renewed at half of it.
_CLAIM_S = 3600.0
# So long after it was handed in, a batch that the provider does not list has not arrived.
_ARRIVED_S = 60.0
# A cancelled run waits no longer than this for the provider to hear of it.
_CANCEL_S = 4.0

Request = tuple[Ask, dict[str, Task]]


class BatchScorer(Scorer):
    """One scoring of one source's plan through `batches`; `run` may be called once."""

    def __init__(
        self,
        plan: Plan,
        sender: Sender,
        batches: Batches,
        model: str,
        on_event: OnEvent,
        context: ScoringContext,
    ) -> None:
        super().__init__(plan, sender, model, on_event, context)
        self._batches = batches
        service = [plan.entry.provider, plan.entry.base_url or "", model]
        self._records = BatchRecords(context.batches, service)
        self._open: list[BatchRecord] = []
        self._waiting: dict[str, Task] = {}
        self._probed = False

    async def _score(self, left: list[Task]) -> None:
        self._queue = WorkQueue([], self._size)
        self._waiting = {task.key: task for task in left}
        try:
            await self._take_up()
            while self._waiting and self._halted is None:
                await self._wave()
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            await self._cancel_all()
            raise
        finally:
            self._records.release()
        if self._halted is not None:
            for task in self._waiting.values():
                self._give_up(task, self._halted.problem)
        await self._work_all(len(left))

    async def _take_up(self) -> None:
        """Finish the batches that an earlier process handed in."""
        self._open = list(self._records.take(self._waiting))
        keys = self._open_keys()
        self._cache.claim(keys, seconds=_CLAIM_S)
        try:
            await self._collect_all()
        finally:
            self._cache.unclaim(keys)

    async def _wave(self) -> None:
        """Hand in what is waiting and nobody else asks about, and wait for it."""
        mine = self._cache.claim(self._waiting, seconds=_CLAIM_S)
        try:
            self._take_cached(sorted(mine))
            todo = [self._waiting.pop(key) for key in sorted(mine)]
            todo = [task for task in todo if task.key not in self._scores]
            if todo:
                await self._hand_in_all(todo)
                await self._collect_all()
        finally:
            self._cache.unclaim(mine)
        if not mine:
            await asyncio.sleep(_FIRST_POLL_S)

    # Handing in.

    async def _hand_in_all(self, todo: Sequence[Task]) -> None:
        groups = await self._groups(todo)
        if not self._probed:
            self._probed = True
            await self._request(groups.pop(0))
        requests = [self._plan.ask(group) for group in groups]
        while requests and self._halted is None:
            chunk = requests[: _fitting(requests)]
            handed_in = await self._hand_in(chunk)
            requests = requests[handed_in:]
            if handed_in < len(chunk):
                break
        for _, by_id in requests:
            self._waiting |= {task.key: task for task in by_id.values()}

    async def _groups(self, todo: Sequence[Task]) -> list[list[Task]]:
        queue, groups = WorkQueue(todo, self._size), []
        while (group := await queue.take()) is not None:
            groups.append(group)
            queue.finish()
        return groups

    async def _hand_in(self, requests: Sequence[Request]) -> int:
        """Hand in as many of `requests` as the budget allows for; returns how many."""
        try:
            reservation = await self._reserve(requests)
        except LimitError as error:
            if len(requests) > 1:
                return await self._hand_in(requests[: len(requests) // 2])
            if not self._open:
                self._halt(error, [])
            return 0
        keys = [{name: task.key for name, task in by_id.items()} for _, by_id in requests]
        record = self._records.new(keys, reservation and reservation.id)
        self._open.append(record)
        asks = dict(zip(record.requests, (ask for ask, _ in requests), strict=True))
        await self._submit(record, asks)
        return len(requests)

    async def _reserve(self, requests: Sequence[Request]) -> Reservation | None:
        if self._context.meter is None:
            return None
        n_texts = sum(len(by_id) for _, by_id in requests)
        estimate = self._sender.estimate([ask for ask, _ in requests], n_texts, batch=True)
        return await self._context.meter.reserve(estimate)

    async def _submit(self, record: BatchRecord, asks: Mapping[str, Ask]) -> None:
        features, token = self._sender.features, record.token
        try:
            record.batch_id = await self._sender.call(
                lambda: self._batches.submit(asks, features, token), once=True
            )
        except Failure as failure:
            if not failure.billed:
                self._end(record, [], failure.kind)
                self._halt(self._sender.fatal(failure), self._tasks_of(record))
            # Else nobody knows whether it arrived: `_collect` looks for it.
            return
        self._records.save(record)
        self._progress.note(f"Batch {record.batch_id}: {len(asks)} requests handed in")

    # Waiting.

    async def _collect_all(self) -> None:
        for record in list(self._open):
            await self._collect(record)

    async def _collect(self, record: BatchRecord) -> None:
        """Wait for a batch and read it; what cannot be reached stays on record."""
        tasks = self._tasks_of(record)
        for task in tasks:
            self._waiting.pop(task.key, None)
        try:
            if not await self._located(record):
                self._end(record, [], "lost")
                self._unanswered(tasks, "its batch did not arrive")
                return
            state = await self._ended(record)
            batch_id = record.batch_id or ""
            outcomes = await self._sender.call(lambda: self._batches.results(batch_id))
        except Failure as failure:
            self._halt(self._unreachable(record, failure.message), tasks)
        except ProviderError as error:
            self._halt(error, tasks)
        else:
            self._read_all(record, dict(outcomes), state)

    async def _located(self, record: BatchRecord) -> bool:
        """Whether the batch is at the provider: the process may have died while handing it in."""
        while record.batch_id is None:
            age_s = _age(record)
            record.batch_id = await self._sender.call(
                lambda: self._batches.find(record.token, len(record.requests), record.since)
            )
            if record.batch_id is None and age_s > _ARRIVED_S:
                return False
            if record.batch_id is None:
                await asyncio.sleep(_FIRST_POLL_S)
        self._records.save(record)
        return True

    async def _ended(self, record: BatchRecord) -> BatchState:
        """Wait until the batch has ended.

        Raises ProviderError: it was rejected or is not known; Failure: it cannot be reached.
        """
        pause, renewed = _FIRST_POLL_S, time.monotonic()
        while (state := await self._look(record)).status == "running":
            self._progress.tell(
                message=f"Batch {record.batch_id}: {state.done} of {state.total} requests done"
            )
            if time.monotonic() - renewed > _CLAIM_S / 2:
                self._cache.claim(self._open_keys(), seconds=_CLAIM_S)
                renewed = time.monotonic()
            await asyncio.sleep(pause)
            pause = min(pause * _POLL_GROWTH, _LONGEST_POLL_S)
        self._progress.note(f"Batch {record.batch_id}: {state.status}")
        if state.status == "failed":
            self._end(record, [], "failed")
            raise self._sender.fatal(Failure("fatal", f"the batch was rejected: {state.message}"))
        return state

    async def _look(self, record: BatchRecord) -> BatchState:
        batch_id, blind = record.batch_id or "", 0
        while True:
            try:
                state = await self._sender.call(lambda: self._batches.state(batch_id))
            except Failure as failure:
                blind += 1
                if failure.kind not in PASSING or blind >= _MAX_BLIND:
                    raise
                await asyncio.sleep(_LONGEST_POLL_S)
                continue
            if state is None:
                raise self._unknown(record)
            return state

    async def _cancel_all(self) -> None:
        """Ask the provider to end what is under way; it stays on record, for what is answered."""
        for record in self._open:
            if record.batch_id is not None:
                with contextlib.suppress(Failure, TimeoutError):
                    async with asyncio.timeout(_CANCEL_S / len(self._open)):
                        await self._batches.cancel(record.batch_id)

    # Reading.

    def _read_all(
        self, record: BatchRecord, outcomes: Mapping[str, Reply | Failure], state: BatchState
    ) -> None:
        nothing = Failure("server", f"no reply in its batch, which is {state.status}")
        usages = []
        for name, ids in record.requests.items():
            by_id = {i: self._plan.tasks.get(key) or _foreign(key) for i, key in ids.items()}
            usages.append(self._take(by_id, outcomes.get(name, nothing)))
            self._progress.tell()
        billed = [usage for usage in usages if usage is not None]
        self._end(record, billed, "ok" if state.status == "completed" else state.status)

    def _take(self, by_id: dict[str, Task], outcome: Reply | Failure) -> Usage | None:
        """Read what came of one request; returns what is billed for it."""
        ask = self._plan.ask_by_id(by_id)
        if isinstance(outcome, Reply):
            self._read(ask.prompt, outcome, by_id)
            return self._sender.usage(ask, outcome)
        if outcome.kind in PASSING:
            self._unanswered(by_id.values(), outcome.message)
        else:
            self._again(by_id.values(), outcome.message)
        worst = self._sender.estimate([ask], len(by_id))
        return Usage(worst.input_tokens, worst.max_output_tokens) if outcome.billed else None

    def _unanswered(self, tasks: Iterable[Task], problem: str) -> None:
        """Put into the next batch what nobody answered, or give up what was put often enough."""
        for task in self._wanted(tasks):
            task.rounds += 1
            if task.rounds < MAX_ROUNDS:
                self._waiting[task.key] = task
            else:
                self._give_up(task, problem)

    def _again(self, tasks: Iterable[Task], problem: str) -> None:
        super()._again(self._wanted(tasks), problem)

    def _keep(self, task: Task, scores: Scores) -> None:
        if task.key not in self._scores:
            super()._keep(task, scores)

    def _end(self, record: BatchRecord, usages: Sequence[Usage], status: str) -> None:
        """Everything of the batch is safe: settle its money, and forget it."""
        meter = self._context.meter
        if meter is not None and record.reservation is not None:
            held = meter.adopt(record.reservation, self._sender.estimate([], 0, batch=True))
            if held is not None:
                meter.settle_batch(held, usages, status=status, latency_s=_age(record))
        self._records.forget(record)
        self._open.remove(record)

    # What a record is about.

    def _wanted(self, tasks: Iterable[Task]) -> list[Task]:
        """Those of this scoring that have no score: a batch may have been another one's."""
        return [t for t in tasks if t.key in self._plan.tasks and t.key not in self._scores]

    def _tasks_of(self, record: BatchRecord) -> list[Task]:
        return self._wanted(self._plan.tasks[key] for key in record.keys if key in self._plan.tasks)

    def _open_keys(self) -> set[str]:
        return {key for record in self._open for key in record.keys}

    def _unknown(self, record: BatchRecord) -> ProviderError:
        return ProviderError(
            f"{self._plan.entry.provider} does not know the batch {record.batch_id}",
            where=f"llm {self._plan.entry.name}, {self._records.where(record)}",
            remedy="Use a key of the account that it was handed in with; if it is gone, remove "
            "this file: its texts are then asked about again",
        )

    def _unreachable(self, record: BatchRecord, problem: str) -> ProviderError:
        return ProviderError(
            f"The batch {record.batch_id or record.token} cannot be reached",
            where=f"llm {self._plan.entry.name}",
            found=problem[:500],
            remedy="Run again later: it is on record and will be taken up where it is then",
        )


def _fitting(requests: Sequence[Request]) -> int:
    """How many requests, one at least, go into a batch."""
    characters = 0
    for position, (ask, _) in enumerate(requests[:_MAX_REQUESTS]):
        characters += len(ask.prompt.system) + len(ask.prompt.user)
        if position and characters > _MAX_CHARACTERS:
            return position
    return min(len(requests), _MAX_REQUESTS)


def _foreign(key: str) -> Task:
    """A text of the scoring that handed the batch in: its answer is kept, no more."""
    return Task(key, {"text": ""}, "", 0)


def _age(record: BatchRecord) -> float:
    return (datetime.now(UTC) - record.since).total_seconds()
