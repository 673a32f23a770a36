"""The change from one signing key to the next, which stays whole whenever the gateway is killed."""

from pathlib import Path

from msgspec.structs import replace

from gateway.audit.key_files import drop_next_key, make_next_key, read_next_key, take_next_key
from gateway.audit.leaf import Prepared, prepare
from gateway.audit.store import Store
from gateway.domain.record import Record
from gateway.domain.request import Json


class KeyRotation:
    """Changes the key of one log: a next key lies beside the old one until the record that names both is durable."""

    def __init__(self, keys: Path, store: Store) -> None:
        self._keys, self._store = keys, store

    def settle(self) -> None:
        """Finish a rotation that was recorded, forget one that was not.

        Raises:
            OSError: the key's files cannot be written.

        """
        new = read_next_key(self._keys)
        if new is None:
            return
        if self._store.handed_over_to(new):
            take_next_key(self._keys)
            self._store.adopt(new)
        else:
            drop_next_key(self._keys)

    def begin(self, record: Record) -> Prepared:
        """Make the next key, and of `record`, which is told both keys, what hands over to it once it is written."""
        self.settle()
        old = self._store.key.verifier
        new = make_next_key(self._keys, old.name)
        keys: dict[str, Json] = {"old_key": f"{old}", "new_key": f"{new.verifier}"}
        item = prepare(replace(record, details={**record.details, **keys}), self._store.persons)
        item.next_key = new
        return item

    def finish(self) -> None:
        """Put the next key in place of the old one, now that its record is durable."""
        take_next_key(self._keys)
