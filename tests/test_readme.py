"""The README's snippets run as printed, one after the other, and print what it says in words."""

import io
import pathlib
import re
from contextlib import redirect_stdout

import jax


README = pathlib.Path(__file__).parents[1] / "README.md"


def test_snippets_run_as_printed():
    snippets = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    printed, names = io.StringIO(), {"__name__": "__main__"}
    jax.config.update("jax_numpy_rank_promotion", "allow")  # as a reader has it
    try:
        with redirect_stdout(printed):
            for number, snippet in enumerate(snippets):
                exec(compile(snippet, f"README.md, snippet {number}", "exec"), names)
    finally:
        jax.config.update("jax_numpy_rank_promotion", "raise")
    said = printed.getvalue()
    for words in ("30 epochs, accuracy on 297 held-out digits 0.9", "10 stratified folds", "FAIL  normalize", "PASS  normalize"):
        assert words in said
    assert said.rstrip().endswith("True")
