"""What the vault holds of one person, as values: what they said, the last vectors that left, the adapter."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from homespun.client.evidence import (
    Answer,
    adapter_from_bytes,
    adapter_to_bytes,
    answers_from_bytes,
    answers_to_bytes,
    extends,
    pairs_from_bytes,
    pairs_to_bytes,
    records_from_bytes,
    records_to_bytes,
)
from homespun.client.vault import Vault
from homespun.personal import Adapter, Backbone, Pairs, Records

__all__ = ["Belongings"]


@final
class Belongings:
    """A vault's items by their kinds. It is a class because each write says where the device's ledger stood.

    Args:
        vault: Open.
        place: Size and root of the device's ledger, now.
    """

    def __init__(self, vault: Vault, place: Callable[[], tuple[int, str]]) -> None:
        """Speak for a vault."""
        self._vault, self._place = vault, place

    def learn(self, pairs: Pairs, preferences: Sequence[Mapping[str, Any]], records: Records | None) -> None:
        """Seal what a person said; see :meth:`homespun.client.device.Device.learn`."""
        known = self.records
        if records is not None and known is not None and not extends(records, known):
            raise ValueError("Expected every record that was learnt to keep its place; make one blank to take it back.")
        if records is not None:
            self._write("records", records_to_bytes(records))
        if preferences:
            self._write("preferences", json.dumps(list(preferences)).encode("utf-8"))
        self._write("evidence", pairs_to_bytes(pairs))

    @property
    def pairs(self) -> Pairs:
        """What the rounds are about; ``KeyError`` where nothing was learnt."""
        return pairs_from_bytes(self._vault.read("evidence"))

    @property
    def records(self) -> Records | None:
        """The same by arrival; None where nothing was learnt."""
        try:
            return records_from_bytes(self._vault.read("records"))
        except KeyError:
            return None

    @property
    def answers(self) -> dict[str, Answer]:
        """The last vector that left, by project and run."""
        try:
            return answers_from_bytes(self._vault.read("outbox"))
        except KeyError:
            return {}

    def keep(self, run: str, answer: Answer) -> None:
        """Seal a vector before it leaves, in place of the run's last one."""
        self._write("outbox", answers_to_bytes({**self.answers, run: answer}))

    def drop(self, reservation: int) -> None:
        """Forget the vector under a reservation that is about to be burned: it must not leave. A masked one was not kept."""
        answers = self.answers
        kept = {
            run: answer for run, answer in answers.items() if answer.reservation != reservation or answer.vector is None
        }
        if len(kept) < len(answers):
            self._write("outbox", answers_to_bytes(kept))

    def drop_all(self) -> None:
        """Forget every vector that left: their reservations are in a ledger that was left behind."""
        self._write("outbox", answers_to_bytes({}))

    def adapter(self, backbone: Backbone) -> Adapter:
        """The adapter that was made for this backbone."""
        return adapter_from_bytes(self._vault.read("adapter", backbone=backbone.digest))

    def set_adapter(self, adapter: Adapter, backbone: Backbone) -> None:
        """Seal the adapter for a backbone."""
        self._write("adapter", adapter_to_bytes(adapter), backbone=backbone.digest)

    def _write(self, name: str, content: bytes, *, backbone: str = "") -> None:
        self._vault.write(name, content, backbone=backbone, ledger=self._place())
