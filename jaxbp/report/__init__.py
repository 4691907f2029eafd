"""What a run becomes on a page: one self-contained HTML file made of plain data."""

from jaxbp.report.net import net_columns
from jaxbp.report.run import run_report


__all__ = ["net_columns", "run_report"]
