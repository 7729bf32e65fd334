"""One self-contained HTML file about a network on a chip."""

from __future__ import annotations

from imcsim.report.collect import Chip, Report, collect
from imcsim.report.page import render, save

__all__ = ["Chip", "Report", "collect", "render", "save"]
