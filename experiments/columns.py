"""A user's table: a CSV file read into named columns, told apart as numbers and categories, checked, and made into arrays."""

from __future__ import annotations

import csv
import math
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.config import Csv, UsageError


MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})  # whatever the case
DELIMITERS = ",;\t|"
FEW = 20  # whole numbers with at most so many different values, each twice on average, are taken for classes


class Column(NamedTuple):
    """The texts of one column, None where there is nothing. lines: where in the file each row stands."""

    name: str
    texts: tuple[str | None, ...]
    lines: tuple[int, ...]

    @property
    def present(self) -> list[str]:
        return [text for text in self.texts if text is not None]

    @property
    def not_a_number(self) -> tuple[int, str] | None:
        """(line, text) of the first that is none; None for a column of numbers."""
        pairs = zip(self.lines, self.texts, strict=True)
        return next(((line, text) for line, text in pairs if text is not None and _number(text) is None), None)

    def numbers(self) -> np.ndarray:
        """float64, NaN where there is nothing."""
        return np.array([math.nan if text is None else _number(text) for text in self.texts], np.float64)


def _number(text: str) -> float | None:
    """The finite number that a text is, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


# --- the file


def read(path: pathlib.Path, delimiter: str = "") -> dict[str, Column]:
    """The columns of a CSV file with a header, by name and in order. delimiter "": the one of , ; tab | that the header has.

    Raises: UsageError for a file that is missing, empty, not text, without rows, with a duplicated or empty header or a row
    of another length.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter or max(DELIMITERS, key=first.count), skipinitialspace=True, strict=True)
            rows = [(reader.line_num, [text.strip() for text in row]) for row in reader if any(text.strip() for text in row)]
    except OSError as error:
        raise UsageError(f"--path {path}: cannot read this file: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--path {path}: no CSV file in UTF-8: {error}") from error
    if not rows:
        raise UsageError(f"--path {path}: this file is empty; expected a header with the names of the columns, then rows")
    (_, header), *body = rows
    _check_header(path, header)
    for line, row in body:
        if len(row) != len(header):
            raise UsageError(f"--path {path}, line {line}: {len(row)} values, the header names {len(header)} columns")
    if not body:
        raise UsageError(f"--path {path}: this file has a header but no rows")
    lines = tuple(line for line, _ in body)
    cell = lambda text: None if text.lower() in MISSING else text
    return {name: Column(name, tuple(cell(row[i]) for _, row in body), lines) for i, name in enumerate(header)}


def _check_header(path: pathlib.Path, header: list[str]) -> None:
    if "" in header:
        raise UsageError(f"--path {path}: column {header.index('') + 1} has no name in the header")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise UsageError(f"--path {path}: the header names {_listed(twice)} more than once; each column needs a name of its own")
    if all(_number(name) is not None for name in header):
        raise UsageError(f"--path {path}: the first line holds numbers only; expected a header with the names of the columns")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


# --- what is trained on


class Features(NamedTuple):
    """What the net is made to see, a row an example; numbers are scaled and imputed later, inside each fold.

    numbers: (n, p) float32, 0 where missing; each column has been given a round zero point and unit, in which float32 has its
    digits. missing: (n, p) 1 where nothing was there. absent: the columns of `missing` that are told to the net.
    categories: (n, c) one-hot.
    """

    numbers: np.ndarray
    missing: np.ndarray
    absent: np.ndarray
    categories: np.ndarray
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        return sum(a.shape[1] for a in (self.numbers, self.absent, self.categories))


def split_off(columns: dict[str, Column], options: Csv) -> tuple[Column, list[Column]]:
    """(the target, the columns that are trained on)."""
    for option, names in (("--target", [options.target]), ("--drop", options.drop), ("--categorical", options.categorical)):
        unknown = [name for name in names if name not in columns]
        if unknown:
            raise UsageError(f"{option}: no column {_listed(unknown)}; the columns are {_listed(list(columns))}")
    if options.target in options.drop:
        raise UsageError(f"--drop: {options.target!r} is the target")
    target = columns[options.target]
    kept = [column for name, column in columns.items() if name != options.target and name not in options.drop]
    if not kept:
        raise UsageError(f"--path {options.path}: no column is left to predict {options.target!r} from")
    empty = [line for line, text in zip(target.lines, target.texts, strict=True) if text is None]
    if empty:
        raise UsageError(
            f"--target: {target.name!r} is missing in {len(empty)} of {len(target.texts)} rows, the first in line {empty[0]}; "
            "leave these rows out"
        )
    return target, kept


def features(kept: Sequence[Column], categorical: Sequence[str] = ()) -> Features:
    """Numbers and categories of these columns. A column of texts, or named in `categorical`, is one-hot; what is missing there
    is a category of its own.

    Raises: UsageError for a column with one value only, and for one whose texts are all different.
    """
    constant = [column.name for column in kept if len(set(column.texts)) == 1]
    if constant:
        raise UsageError(
            f"constant columns: {_listed(constant)} have one value in all rows, which tells nothing; "
            f"leave them out by --drop {' '.join(constant)}"
        )
    is_category = lambda column: column.name in categorical or column.not_a_number is not None
    numeric = [column for column in kept if not is_category(column)]
    texts = [column for column in kept if is_category(column)]
    values = np.array([column.numbers() for column in numeric]).reshape(len(numeric), len(kept[0].texts)).T
    missing = np.isnan(values)
    some = np.atleast_1d(missing.any(axis=0))
    onehot, onehot_names = _one_hot(texts, len(kept[0].texts))
    numbers = np.where(missing, 0, np.stack([in_units(v)[0] for v in values.T], axis=1) if numeric else values)
    names = [column.name for column in numeric]
    told = [f"{name} is missing" for name, there in zip(names, some, strict=True) if there]
    as_floats = lambda a: np.ascontiguousarray(a, np.float32)
    return Features(
        as_floats(numbers), as_floats(missing), as_floats(missing[:, some]), onehot, (*names, *told, *onehot_names)
    )  # fmt: skip


def in_units(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(v - zero) / unit with its zero and unit: a power of ten near the spread, and a multiple of it near the middle.

    What comes after scales by the training rows of each fold, so this choice reaches no result; it keeps float32 from
    spending its digits on 1.7e9 seconds since 1970.
    """
    middle, spread = float(np.nanmedian(values)), float(np.nanstd(values))
    unit = 10.0 ** round(math.log10(spread)) if spread > 0 else 1.0
    zero = round(middle / unit) * unit
    return (values - zero) / unit, zero, unit


def _one_hot(columns: Sequence[Column], rows: int) -> tuple[np.ndarray, list[str]]:
    from sklearn.preprocessing import OneHotEncoder

    if not columns:
        return np.zeros((rows, 0), np.float32), []
    for column in columns:
        _require_categories(column)
    table = np.array([["(missing)" if text is None else text for text in column.texts] for column in columns], object).T
    # of two categories the second says all
    encoder = OneHotEncoder(drop="if_binary", sparse_output=False).fit(table)
    return np.asarray(encoder.transform(table), np.float32), encoder.get_feature_names_out(
        [column.name for column in columns]
    ).tolist()


def _require_categories(column: Column) -> None:
    """Raise for a column that looks like numbers with a slip among them, or like names."""
    numbers = [text for text in column.present if _number(text) is not None]
    if column.not_a_number and len(set(numbers)) > FEW and len(numbers) > 0.8 * len(column.present):
        line, text = column.not_a_number
        raise UsageError(
            f"column {column.name!r} holds numbers, but {text!r} in line {line} is none; correct it, or leave it empty if the "
            "number is missing"
        )
    different = len(set(column.texts))
    if different == len(column.texts) or different > max(FEW, len(column.texts) // 2):
        raise UsageError(
            f"column {column.name!r} has {different} different values in {len(column.texts)} rows, as a name or a number of the "
            f"row would; leave it out by --drop {column.name}"
        )


# --- the target


def task_of(target: Column, asked: str | None) -> str:
    """What was asked for, else classification for texts and for few different whole numbers, regression for other numbers."""
    if asked is not None:
        return asked
    if target.not_a_number is not None:
        return "classification"
    values = target.numbers()
    few = len(np.unique(values)) <= min(FEW, len(values) // 2)
    return "classification" if few and np.all(values == np.round(values)) else "regression"


def labels(target: Column) -> tuple[np.ndarray, list[str]]:
    """(labels int32, the names of the classes): in the order of numbers where all are numbers, else of texts."""
    from sklearn.preprocessing import LabelEncoder

    numeric = target.not_a_number is None
    values = target.numbers() if numeric else np.array(target.texts, str)
    encoder = LabelEncoder()
    found = np.asarray(encoder.fit_transform(values), np.int32)
    names = [f"{name:g}" if numeric else str(name) for name in np.unique(values)]  # the order of the encoder
    if len(names) == 1:
        raise UsageError(f"--target: {target.name!r} is {names[0]!r} in every row; two classes or more were expected")
    return found, names


def real(target: Column) -> np.ndarray:
    """(n,) float64."""
    if target.not_a_number is not None:
        line, text = target.not_a_number
        raise UsageError(
            f"--target: {target.name!r} holds {text!r} in line {line}, no number, and regression needs numbers; "
            "for classes use --task classification"
        )
    values = target.numbers()
    if np.ptp(values) == 0:
        raise UsageError(f"--target: {target.name!r} is {values[0]:g} in every row; there is nothing to predict")
    return values
