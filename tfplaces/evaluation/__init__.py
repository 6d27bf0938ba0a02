"""How good a model is, and what it costs: search, average precision and recall, latency and memory."""

from tfplaces.evaluation.average_precision import PROTOCOLS
from tfplaces.evaluation.bootstrap import drop_interval, mean_drop_interval, mean_intervals
from tfplaces.evaluation.cost import Latency, Memory, measure_latency, measure_memory
from tfplaces.evaluation.exact_search import nearest
from tfplaces.evaluation.pairings import Pairings, check_dimensions, evaluate_pairings
from tfplaces.evaluation.query_scores import QueryScores, write_query_table
from tfplaces.evaluation.scores import Evaluation, check_positives, evaluate, score
from tfplaces.evaluation.search import rank, similarities

__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "Latency",
    "Memory",
    "Pairings",
    "QueryScores",
    "check_dimensions",
    "check_positives",
    "drop_interval",
    "evaluate",
    "evaluate_pairings",
    "mean_drop_interval",
    "mean_intervals",
    "measure_latency",
    "measure_memory",
    "nearest",
    "rank",
    "score",
    "similarities",
    "write_query_table",
]
