"""The survey's Table 3 as data, and its digital designs as chips."""

from imcsim.survey.chips import SurveyChip, survey_chip, survey_chips
from imcsim.survey.table import survey, survey_points

__all__ = ["SurveyChip", "survey", "survey_chip", "survey_chips", "survey_points"]
