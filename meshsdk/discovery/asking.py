"""The thread that asks a registry for mappings and revisions, so that a slow answer holds up no instance.

Started by a desk with its first question. It carries questions there and answers back, and decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

from meshsdk.discovery.mapping import Ask, MapService
from meshsdk.discovery.registry import Catalog, MalformedEntry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Revision

_JOIN = 5.0  # seconds; a registry's methods block for a bounded time


@dataclass(frozen=True, slots=True)
class Answer:
    """What a registry answered: applications or a revision's content; `problem` in words if it did not.

    `malformed`: it has answered, with what cannot be read.
    """

    ask: Ask
    apps: tuple[str, ...] = ()
    content: Revision | None = None
    problem: str = ""
    malformed: bool = False


class Asking:
    """Asks one question after the other. `ask` and `stop` may be called from any thread; starts at the first `ask`."""

    def __init__(self, name: str, catalog: Catalog, answer: Callable[[Answer], None]) -> None:
        self._catalog = catalog
        self._answer = answer
        self._questions: SimpleQueue[Ask | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"meshsdk-catalog-{name}", daemon=True)
        self._started = False  # owned by the desk's thread

    def ask(self, question: Ask) -> None:
        """Queues a question."""
        self._questions.put(question)
        if not self._started:
            self._started = True
            self._thread.start()

    def stop(self) -> None:
        """Ends the thread; answers to questions that are still open will not come."""
        self._questions.put(None)

    def join(self) -> None:
        """Waits for the thread of a stopped one."""
        if self._started:
            self._thread.join(_JOIN)

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            self._answer(self._asked(question))

    def _asked(self, question: Ask) -> Answer:
        try:
            if isinstance(question, MapService):
                return Answer(question, apps=tuple(self._catalog.map_service(question.service)))
            return Answer(question, content=self._catalog.get_revision(question.app, question.revision))
        except MalformedEntry as error:
            return Answer(question, problem=str(error), malformed=True)
        except RegistryError as error:
            return Answer(question, problem=str(error))
        except Exception as error:  # noqa: BLE001 - an adapter's defect is told as a problem, and asked again later
            return Answer(question, problem=f"{type(error).__name__}: {error}")
