"""Parquet, for analysis; needs the extra `parquet`."""

from typing import Any

from gateway.audit.formats.flat import BOOLEANS, COLUMNS, INTEGERS, MOMENTS, cells
from gateway.audit.formats.redaction import Row
from gateway.errors import UnavailableError

GROUP_ROWS = 10_000
GROUP_CHARACTERS = 16 << 20


class ParquetTable:
    """Writes rows as Parquet, a row group at a time, so that memory stays the same whatever the length.

    Raises:
        UnavailableError: pyarrow is not installed.

    """

    def __init__(self) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 (an extra)
            import pyarrow.parquet as pq  # noqa: PLC0415 (same)
        except ImportError as error:
            raise UnavailableError(
                "Parquet needs pyarrow, which is not installed", way_out="pip install 'hearthgate[parquet]'"
            ) from error
        self._arrow = pa
        # WHY: Arrow's own pool keeps what it frees; a group here would cost 15 MiB more.
        pa.set_memory_pool(pa.system_memory_pool())
        moment, text = pa.timestamp("us", "UTC"), pa.string()
        self._types = [
            pa.int64() if name in INTEGERS else pa.bool_() if name in BOOLEANS else moment if name in MOMENTS else text
            for name in COLUMNS
        ]
        self._schema = pa.schema(
            [(name, kind) for name, kind in zip(COLUMNS, self._types, strict=True)],
            metadata={"hearthgate.format": "parquet/1"},
        )
        self._out = _Drain()
        self._writer = pq.ParquetWriter(self._out, self._schema, compression="zstd")
        self._held: list[Any] = []  # batches of rows, in Arrow's own form
        self._rows = self._weight = 0

    def begin(self) -> bytes:
        """Give the magic bytes."""
        return self._out.take()

    def rows(self, rows: list[Row]) -> bytes:
        """Take rows in, and give the row groups that are full."""
        made: list[list[Any]] = []
        for row in rows:
            made.append(cells(row))
            self._weight += sum(len(each) for each in made[-1] if type(each) is str)
            if self._rows + len(made) >= GROUP_ROWS or self._weight >= GROUP_CHARACTERS:
                self._hold(made)
                self._write_group()
                made = []
        if made:
            self._hold(made)
        return self._out.take()

    def end(self) -> bytes:
        """Give what is left, and the footer."""
        if self._held:
            self._write_group()
        self._writer.close()
        return self._out.take()

    def _hold(self, made: list[list[Any]]) -> None:
        """Keep rows for their group in Arrow's own form, where they take a tenth of the room."""
        pa = self._arrow
        columns = [
            pa.array(values, pa.string()).cast(kind) if name in MOMENTS else pa.array(values, kind)
            for name, kind, values in zip(COLUMNS, self._types, zip(*made, strict=True), strict=True)
        ]
        self._held.append(pa.record_batch(columns, schema=self._schema))
        self._rows += len(made)

    def _write_group(self) -> None:
        self._writer.write_table(self._arrow.Table.from_batches(self._held), row_group_size=self._rows)
        self._held = []
        self._rows = self._weight = 0


class _Drain:
    """What a writer of files takes for a file: it keeps nothing that was taken."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def write(self, data: Any) -> int:  # noqa: ANN401 (any buffer)
        """Take bytes in."""
        piece = bytes(data)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        """Give how many bytes there were."""
        return self._position

    def flush(self) -> None:
        """Do nothing: what is written is already here."""

    def close(self) -> None:
        """End it."""
        self.closed = True

    def writable(self) -> bool:
        """Say that it takes bytes."""
        return True

    def take(self) -> bytes:
        """Give what was written since."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
