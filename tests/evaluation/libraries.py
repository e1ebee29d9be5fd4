"""The metrics as scikit-learn and SciPy have them."""

import numpy as np
from scipy import stats
from sklearn import metrics as sklearn


def scores(metrics, labels, predictions):
    """Returns {metric: value}, with 0 for a correlation with a constant, which SciPy leaves undefined."""
    varies = np.ptp(predictions) and np.ptp(labels)
    functions = {
        "accuracy": sklearn.accuracy_score,
        "f1": lambda labels, predictions: sklearn.f1_score(labels, predictions, zero_division=0),
        "f1_macro": lambda labels, predictions: sklearn.f1_score(labels, predictions, average="macro"),
        "matthews": sklearn.matthews_corrcoef,
        "pearson": lambda *both: stats.pearsonr(*both).statistic if varies else 0.0,
        "spearman": lambda *both: stats.spearmanr(*both).statistic if varies else 0.0,
    }
    return {metric: functions[metric](labels, predictions) for metric in metrics}
