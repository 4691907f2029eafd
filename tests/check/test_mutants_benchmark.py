"""What the benchmark says of its outcomes."""

import pytest

from jaxbp.check.mutants import benchmark
from jaxbp.check.mutants.benchmark import Record, text
from jaxbp.check.mutants.tools import Outcome


def record(tool, entry, expected, verdict, seed=0, hints=(), detail="", dtype="float32"):
    return Record(tool, dtype, entry, expected, seed, Outcome(verdict, 0.5 + seed, hints, detail))


RECORDS = [
    record("ours", "dense: a", "sign", "fail", hints=("sign", "localised")),
    record("ours", "dense: a", "sign", "fail", seed=1, hints=("factor",)),
    record("ours", "dense: b", "zero", "pass", detail="no error beyond the noise"),
    record("ours", "dense: b", "zero", "fail", seed=1, hints=("localised",)),
    record("ours", "correct: c", None, "inconclusive", detail="only a kink"),
    record("ours", "correct: c", None, "pass", seed=1),
    record("chex", "dense: a", "sign", "inconclusive"),
    record("chex", "dense: b", "structure", "error", detail="TypeError: refused"),
    record("chex", "correct: c", None, "fail", detail="not close"),
    record("chex", "correct: d", None, "error", detail="TypeError: no bfloat16"),
]


def test_text():
    lines = list(text(RECORDS, 2))
    ours, chex = lines[2:4]
    assert ours.split() == ["ours", "float32", "3/4", "75.0%", "0/2", "0.0%", "0.0%", "50.0%", "0", "0.50", "0.50", "1.50"]
    assert chex.split() == ["chex", "float32", "1/2", "50.0%", "1/2", "50.0%", "50.0%", "0.0%", "1", "0.50", "0.50", "-"]
    printed = "\n".join(lines)
    assert "ours, float32: missed bugs\n  dense: b (1/2): pass, no error beyond the noise" in printed
    assert "ours, float32: inconclusive on correct functions\n  correct: c (1/2): inconclusive, only a kink" in printed
    assert "first hint: expected 1/3 33.3%, wrong 1/3 33.3%, none 1/3 33.3%" in printed
    assert "another first hint\n  dense: a (1/2): expected sign, got factor" in printed
    assert "chex, float32: missed bugs\n  dense: a (1/2)" in printed
    assert "chex, float32: false alarms on correct functions\n  correct: c (1/2)" in printed
    assert "chex, float32: could not run on correct functions\n  correct: d (1/2)" in printed


def test_text_fits():
    many = [record("chex", f"dense: {'a long name ' * 4}{i}", "sign", "pass", dtype="float64") for i in range(30)]
    long = [record("ours", "dense: x", "sign", "pass", detail="word " * 60), record("ours", "dense: x", None, "fail")]
    long += [record("ours", "dense: y", "sign", "fail", seed, ("sign",), dtype="float64") for seed in range(3000)]
    assert max(len(line) for block in text(many + long, 1) for line in block.splitlines()) <= benchmark.WIDTH
    assert len(benchmark.ROW.format("check_grads", "float64", "2110/2110 100.0%", "660/660 100.0%", *["100.0%"] * 6)) <= 100


@pytest.mark.parametrize(
    ("expected", "verdict", "detected"),
    [("sign", "fail", True), ("sign", "error", False), ("structure", "error", True), (None, "fail", False)],
)
def test_detected(expected, verdict, detected):
    one = record("ours", "dense: a", expected, verdict)
    assert one.detected == detected
    assert one.to_dict()["detected"] == detected
