"""Rows of an Excel workbook, read with openpyxl."""

import zipfile
from pathlib import Path
from typing import Any

SUFFIXES = (".xlsx", ".xlsm")
# First bytes of a ZIP file, which a workbook of Excel or LibreOffice is, and of an old `.xls`.
_BINARY = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


def spreadsheet_rows(source: Path) -> list[tuple[str, dict[str, Any]]]:
    """The rows of the first sheet of a workbook as `(row in words, cells by column)`; rows without a cell are left out.

    Raises:
        ValueError: It is not a workbook that openpyxl reads.
        ImportError: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError:
        raise ImportError(
            f"{source}: needs openpyxl: pip install 'ser[excel]'; or save the sheet as CSV in UTF-8."
        ) from None
    try:
        book = openpyxl.load_workbook(source, read_only=True, data_only=True)
        table = [list(row) for row in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except (openpyxl.utils.exceptions.InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{source}: is not an Excel workbook ({error}); save it as .xlsx or CSV.") from None
    filled = [(number, row) for number, row in enumerate(table, start=1) if any(cell is not None for cell in row)]
    if not filled:
        return []
    header = [None if name is None else str(name) for name in filled[0][1]]
    return [
        (f"row {number}", {name: cell for name, cell in zip(header, row, strict=False) if name is not None})
        for number, row in filled[1:]
    ]


def check_no_spreadsheet(source: Path, data: bytes) -> None:
    """Refuses a spreadsheet that is taken for text.

    Raises:
        ValueError: The file begins as a workbook does.
    """
    if data.startswith(_BINARY):
        raise ValueError(f"{source}: is a spreadsheet or an archive, not text; save it as .xlsx or as CSV in UTF-8.")
