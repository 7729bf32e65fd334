"""The survey's Table 3 as data."""

from imcsim.survey.table import survey, survey_points

__all__ = ["survey", "survey_points"]
