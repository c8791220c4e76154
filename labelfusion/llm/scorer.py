"""Scores texts with one LLM: cache, batches, requests, repairs. The only caller of providers.

Every answer is in the cache the moment it arrives; a failure, a refusal or a doubtful answer never
is. A text that cannot be scored is missing, and nothing stands in its place.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from labelfusion.cache import AnswerCache
from labelfusion.cache.memory import NoCache
from labelfusion.errors import LabelFusionError, LimitError, ProviderError
from labelfusion.llm.context import ScoringContext
from labelfusion.llm.parsing import Parsed, Scores, parse_answer, parse_letter
from labelfusion.llm.plan import Plan
from labelfusion.llm.progress import Progress
from labelfusion.llm.providers.base import Failure, Prompt, Reply
from labelfusion.llm.sending import Sender
from labelfusion.llm.trust import Uniformity
from labelfusion.llm.work import MAX_ROUNDS, BatchSize, Task, WorkQueue
from labelfusion.types import OnEvent, Signal

# How long to wait before looking again for answers that another process is asking for.
_LOOK_AGAIN_S = 0.2


class Scorer:
    """One scoring of one source's plan; `run` may be called once."""

    def __init__(
        self, plan: Plan, sender: Sender, model: str, on_event: OnEvent, context: ScoringContext
    ) -> None:
        self._plan, self._sender, self._model = plan, sender, model
        self._context = context
        self._cache: AnswerCache = context.cache or NoCache()
        self._size = BatchSize(plan.texts_per_request)
        self._uniformity = Uniformity()
        self._scores: dict[str, Scores] = {}
        self._problems: dict[str, str] = {}
        self._answered = 0
        self._halted: LabelFusionError | None = None
        self._rows_of = Counter(plan.keys)
        self._progress = Progress(plan.entry.name, len(plan.keys), on_event, context.meter)

    async def run(self) -> Signal:
        """Score everything.

        Raises:
            ProviderError: the provider cannot be used and gave no answer at all.
            LimitError: the budget is spent and the run is to stop then.
            ConfigError: a budget is set and the model's price is unknown.
        """
        self._progress.tell("start", f"Scoring {len(self._plan.keys)} texts with {self._model}")
        self._take_cached(list(self._plan.tasks))
        self._note_cached()
        left = [task for key, task in self._plan.tasks.items() if key not in self._scores]
        await self._score(left)
        self._conclude()
        return self._signal()

    async def _score(self, left: list[Task]) -> None:
        self._queue = WorkQueue(left, self._size)
        await self._work_all(len(left))

    async def _work_all(self, n_tasks: int) -> None:
        n_workers = min(self._plan.entry.concurrency, n_tasks)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(n_workers):
                    group.create_task(self._work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self) -> None:
        while (batch := await self._queue.take()) is not None:
            try:
                await self._batch(batch)
            finally:
                self._queue.finish()

    # One batch.

    async def _batch(self, batch: list[Task]) -> None:
        entry = self._plan.entry
        mine = self._cache.claim(
            [task.key for task in batch], seconds=(entry.timeout_s + 30) * entry.max_attempts
        )
        try:
            self._take_cached(sorted(mine))
            todo = [t for t in batch if t.key in mine and t.key not in self._scores]
            if todo:
                await self._request(todo)
        finally:
            self._cache.unclaim(mine)
        elsewhere = [task for task in batch if task.key not in mine]
        if elsewhere:
            await asyncio.sleep(_LOOK_AGAIN_S)
            for task in elsewhere:
                self._queue.again(task)

    async def _request(self, tasks: Sequence[Task]) -> None:
        if self._halted is not None:
            for task in tasks:
                self._give_up(task, self._halted.problem)
            return
        ask, by_id = self._plan.ask(tasks)
        try:
            await self._sender.send(
                ask, len(tasks), lambda reply: self._read(ask.prompt, reply, by_id)
            )
        except Failure as failure:
            if failure.kind == "unsupported" and not self._answered:
                self._halt(self._sender.fatal(failure), tasks)
                return
            self._size.trouble()
            self._again(tasks, failure.message)
        except (ProviderError, LimitError) as error:
            self._halt(error, tasks)
        self._progress.tell()

    def _read(self, prompt: Prompt, reply: Reply, by_id: Mapping[str, Task]) -> str:
        """Keep what a reply answers, put the rest back; returns how the request ended."""
        self._answered += 1
        if self._context.on_reply is not None:
            self._context.on_reply(prompt, reply)
        if reply.finish == "refused":
            self._size.trouble()
            self._again(by_id.values(), "refused by the provider")
            return "refused"
        parsed = self._parse(reply, by_id)
        if len(by_id) > 1 and (parsed.doubtful or self._uniformity.doubts(parsed.scores.values())):
            self._doubt(parsed, by_id)
            return "doubted"
        for name, scores in parsed.scores.items():
            self._keep(by_id[name], scores)
        for name, problem in parsed.problems.items():
            self._again([by_id[name]], problem)
        if parsed.broken or reply.finish == "truncated":
            self._size.trouble()
            return "truncated" if reply.finish == "truncated" else "broken"
        self._size.clean()
        return "partial" if parsed.problems else "ok"

    def _parse(self, reply: Reply, by_id: Mapping[str, Task]) -> Parsed:
        plan = self._plan
        if plan.letters is None:
            keys, several = plan.answer_keys, plan.space.multi_label
            return parse_answer(reply.text, by_id, keys, multi_label=several)
        name = next(iter(by_id))
        scores = parse_letter(reply.alternatives, plan.letters)
        if scores is None:
            return Parsed(problems={name: "no log-probabilities of the labels' letters"})
        return Parsed(scores={name: scores})

    def _doubt(self, parsed: Parsed, by_id: Mapping[str, Task]) -> None:
        for name, task in by_id.items():
            task.doubted = parsed.scores.get(name)
        self._again(by_id.values(), "a reply that cannot be trusted")

    def _again(self, tasks: Iterable[Task], problem: str) -> None:
        """Ask about each of them alone, or give up what was asked about often enough."""
        for task in tasks:
            task.rounds += 1
            if task.rounds < MAX_ROUNDS and self._halted is None:
                task.alone = True
                self._queue.again(task)
            else:
                self._give_up(task, problem)

    # Results.

    def _keep(self, task: Task, scores: Scores) -> None:
        if task.doubted is not None:
            self._uniformity.checked(task.doubted, scores)
        answer = {"scores": scores, "prompt": self._plan.version}
        self._cache.put(
            task.key,
            answer,
            provider=self._plan.entry.provider,
            model=self._model,
            run=self._context.run,
        )
        self._scores[task.key] = scores
        self._progress.done += self._rows_of[task.key]

    def _give_up(self, task: Task, problem: str) -> None:
        self._problems[task.key] = problem
        self._progress.failed += self._rows_of[task.key]

    def _take_cached(self, keys: Sequence[str]) -> None:
        for key, answer in self._cache.get_many(keys).items():
            scores = cached_scores(answer, self._plan.space.names)
            if scores is not None:
                self._scores[key] = scores
                self._progress.done += self._rows_of[key]
                self._progress.cached += self._rows_of[key]

    def _note_cached(self) -> None:
        if self._context.meter is not None and self._progress.cached:
            entry = self._plan.entry
            self._context.meter.note_cached(
                entry.name, entry.provider, self._model, len(self._scores)
            )

    def _halt(self, error: LabelFusionError, tasks: Iterable[Task]) -> None:
        """Ask for nothing more; requests under way are still heard."""
        self._halted = self._halted or error
        for task in [*tasks, *self._queue.drain()]:
            self._give_up(task, error.problem)

    def _conclude(self) -> None:
        error = self._halted
        if isinstance(error, LimitError) and self._context.stop_when_spent:
            raise error
        if isinstance(error, ProviderError) and not self._answered:
            raise error
        if self._problems and not self._answered and not self._scores and error is None:
            raise self._silent()
        if error is not None:
            self._progress.note(f"{error} Rows without a score are missing")
        elif self._problems:
            self._progress.note(
                f"{len(self._problems)} texts have no score; most often: {self._common_problem()}"
            )
        done, total = self._progress.done, len(self._plan.keys)
        self._progress.tell(
            "done", f"{done} of {total} texts have scores, {self._progress.cached} from the cache"
        )

    def _common_problem(self) -> str:
        ((problem, _),) = Counter(self._problems.values()).most_common(1)
        return problem

    def _silent(self) -> ProviderError:
        return ProviderError(
            f"{self._plan.entry.provider} answered nothing",
            where=f"llm {self._plan.entry.name}, model {self._model}",
            found=self._common_problem()[:500],
            remedy="Check base_url and the network, or try again later",
        )

    def _signal(self) -> Signal:
        plan = self._plan
        names = plan.space.names
        rows = [self._scores.get(key) for key in plan.keys]
        nothing = dict.fromkeys(names, np.nan)
        scores = np.array([[(row or nothing)[n] for n in names] for row in rows], dtype=float)
        return Signal(
            plan.entry.name,
            scores.reshape(len(rows), len(names)),
            "probabilities",
            np.array([row is not None for row in rows], dtype=bool),
            f"{plan.entry.provider} {self._model}, prompt {plan.version}",
        )


def cached_scores(answer: object, names: Sequence[str]) -> Scores | None:
    """The scores of a cached answer by label, or None if it is not one for these labels."""
    scores = answer.get("scores") if isinstance(answer, dict) else None
    if not isinstance(scores, dict) or set(scores) != set(names):
        return None
    values = list(scores.values())
    if not all(isinstance(v, int | float) and np.isfinite(v) for v in values):
        return None
    return scores
